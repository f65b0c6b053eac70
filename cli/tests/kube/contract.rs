//! The cases of the runtimes' contract that are of the cluster's door.

use std::sync::Arc;
use std::time::Duration;

use mesh_core::resource::{Object, ObjectRef};
use mesh_core::runtime::BoxFuture;
use mesh_core::runtime::cluster::ClusterError;
use mesh_core::runtime::contract::{self, Bed, ClusterEditor, ClusterTrouble, Site};
use runtime_sim::cluster::{ApiFault, ApiServer};

use super::front::Front;
use super::watching::{QUICK, cluster};

struct Editor(ApiServer);

impl ClusterEditor for Editor {
    fn apply(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.0.apply(object);
        Box::pin(async { Ok(()) })
    }

    fn delete(&self, object: ObjectRef) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.0.delete(&object);
        Box::pin(async { Ok(()) })
    }
}

struct Trouble(ApiServer);

impl ClusterTrouble for Trouble {
    fn lose_watches(&self) {
        self.0.set_fault(None, ApiFault::WatchOutage);
    }

    fn relist(&self) {
        self.0.relist(None);
        self.0.clear_fault(None, ApiFault::WatchOutage);
    }

    fn set_stale(&self, by: Option<Duration>) {
        match by {
            Some(by) => self.0.set_fault(None, ApiFault::Stale(by)),
            None => self.0.clear_fault(None, ApiFault::Stale(Duration::ZERO)),
        }
    }
}

#[test]
fn an_api_server_keeps_the_contract_of_the_cluster_door() {
    let cases = contract::cases().into_iter().filter(|case| case.name.starts_with("cluster::"));
    let running: Vec<_> = cases
        .map(|case| {
            std::thread::spawn(move || {
                let tokio = runtime_real::current_thread().expect("a runtime");
                tokio.block_on(async {
                    let front = Front::start().await;
                    let kube = cluster(&front.kubeconfig(), QUICK).await;
                    let runtime = runtime_real::runtime(Arc::new(kube));
                    let site = Site::new(runtime, [127, 0, 0, 1].into());
                    let mut bed = Bed::new(site.clone(), site);
                    bed.cluster = Some(Arc::new(Editor(front.server.clone())));
                    bed.cluster_trouble = Some(Arc::new(Trouble(front.server.clone())));
                    case.run(bed).await;
                });
                case.name
            })
        })
        .collect();
    assert!(running.len() >= 7);
    for case in running {
        case.join().expect("the case holds");
    }
}
