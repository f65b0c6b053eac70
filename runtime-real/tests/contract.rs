//! This runtime passes the tests that every runtime passes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_core::resource::{Object, ObjectRef};
use mesh_core::runtime::BoxFuture;
use mesh_core::runtime::cluster::ClusterError;
use mesh_core::runtime::contract::{self, Bed, Case, ClusterEditor, Harness, Site};
use runtime_real::directory::DirectoryCluster;

struct Tokio;

impl Harness for Tokio {
    fn run(&self, case: &'static Case) {
        let files = tempfile::tempdir().expect("a directory");
        let manifests = tempfile::tempdir().expect("a directory");
        let tokio = runtime_real::current_thread().expect("a runtime");
        tokio.block_on(async {
            let cluster = DirectoryCluster::open(manifests.path().to_owned()).await;
            let runtime = runtime_real::runtime(Arc::new(cluster.expect("a directory")));
            let ip = "127.0.0.1".parse().expect("an address");
            let site = Site::new(runtime, ip);
            let mut bed = Bed::new(site.clone(), site);
            bed.name = Some(("localhost".to_string(), ip));
            bed.directory = files.path().join("made/by/writing");
            bed.file_mode = Some(mode);
            bed.cluster = Some(Arc::new(Editor(manifests.path().to_owned())));
            case.run(bed).await;
        });
    }

    fn exempt(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "cluster::a_delete_that_nobody_heard_of_shows_in_the_next_list",
                "a directory of files has no watch that can be lost: each look is a list",
            ),
            (
                "cluster::a_watch_does_not_go_back_to_a_list_that_is_older",
                "a directory of files has no replicas",
            ),
        ]
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("the file").permissions().mode() & 0o777
}

/// A person with an editor.
struct Editor(PathBuf);

impl Editor {
    fn path(&self, object: &ObjectRef) -> PathBuf {
        self.0.join(format!("{}-{}.yaml", object.kind, object.name))
    }
}

impl ClusterEditor for Editor {
    fn apply(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        // JSON is YAML.
        let text = match &object {
            Object::Namespace(namespace) => serde_json::to_string(&**namespace),
            Object::ServiceAccount(account) => serde_json::to_string(&**account),
            other => panic!("the contract has no {}", other.kind()),
        };
        let path = self.path(&object.object_ref());
        std::fs::write(path, text.expect("plain data")).expect("to write");
        Box::pin(async { Ok(()) })
    }

    fn delete(&self, object: ObjectRef) -> BoxFuture<'static, Result<(), ClusterError>> {
        std::fs::remove_file(self.path(&object)).expect("to remove");
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn tokio_and_linux_keep_the_contract() {
    contract::check(&Tokio);
}
