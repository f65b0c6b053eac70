//! The door to the cluster's objects, with a directory of YAML files behind it.
//!
//! Law: a change of files becomes one snapshot of the whole directory, and watches tell how it
//! differs from the one before. A file that cannot be read leaves in force what it held when it
//! last could; it is reported with file, line and field, once, on the watch of the first kind
//! (a wrong file need not say which kinds it was meant to hold).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_core::Stream;
use mesh_core::resource::{Kind, Object, ObjectRef, remark, yaml};
use mesh_core::runtime::cluster::{ClusterError, Lease, TokenReview, WatchEvent};
use mesh_core::runtime::{BoxFuture, BoxStream, Cluster, Files};
use tokio::sync::watch;

use crate::files::{self, SystemFiles};

/// The largest file that is read.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The objects of a directory of YAML files. Dropping it, and its watches, stops following them.
#[derive(Debug)]
pub struct DirectoryCluster {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    leases: Mutex<BTreeMap<String, Lease>>,
}

impl DirectoryCluster {
    /// Reads the directory, then follows it. Wrong files are no error: they are reported.
    ///
    /// # Errors
    /// As the system's, where the directory cannot be listed.
    pub async fn open(directory: PathBuf) -> io::Result<Self> {
        // Watched before it is read: a change in between is read again.
        let changes = SystemFiles.watch(&directory);
        std::fs::read_dir(&directory)?;
        let (reader, snapshot) = Reader::new(directory).read_off_thread().await?;
        let (publish, snapshots) = watch::channel(Arc::new(snapshot));
        tokio::spawn(follow(reader, changes, publish));
        Ok(Self { snapshots, leases: Mutex::default() })
    }
}

impl Cluster for DirectoryCluster {
    fn watch(&self, kind: Kind) -> BoxStream<Result<WatchEvent, ClusterError>> {
        let mut snapshots = self.snapshots.clone();
        snapshots.mark_changed();
        Box::pin(Watch {
            kind,
            known: None,
            problems: Vec::new(),
            events: VecDeque::new(),
            next: Box::pin(next_snapshot(snapshots)),
        })
    }

    fn write_status(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        let error = read_only(&format!("the status of {}", object.object_ref()));
        Box::pin(async move { Err(error) })
    }

    fn lease(&self, name: &str) -> BoxFuture<'static, Result<Option<Lease>, ClusterError>> {
        let lease = self.leases.lock().expect("no panic while leasing").get(name).cloned();
        Box::pin(async move { Ok(lease) })
    }

    /// A directory's only writer is this process: what it leases, it leases from itself.
    fn write_lease(
        &self,
        name: &str,
        mut lease: Lease,
    ) -> BoxFuture<'static, Result<Lease, ClusterError>> {
        let mut leases = self.leases.lock().expect("no panic while leasing");
        let version = leases.get(name).and_then(|lease| lease.version.clone());
        let result = if version == lease.version {
            let next = version.and_then(|version| version.parse::<u64>().ok()).unwrap_or(0) + 1;
            lease.version = Some(next.to_string());
            leases.insert(name.to_string(), lease.clone());
            Ok(lease)
        } else {
            Err(ClusterError::Conflict(format!("lease {name}")))
        };
        Box::pin(async move { result })
    }

    fn review_token(
        &self,
        _token: &str,
        _audience: &str,
    ) -> BoxFuture<'static, Result<TokenReview, ClusterError>> {
        Box::pin(async { Err(not_found("token review")) })
    }
}

fn read_only(what: &str) -> ClusterError {
    ClusterError::ReadOnly(format!("{what}: a directory of manifests is only read"))
}

fn not_found(what: &str) -> ClusterError {
    ClusterError::NotFound(format!("{what}: a directory of manifests has none"))
}

/// Reads the directory again after each change, until nobody is interested any more.
async fn follow(
    mut reader: Reader,
    mut changes: BoxStream<()>,
    publish: watch::Sender<Arc<Snapshot>>,
) {
    loop {
        let change = poll_fn(|context| changes.as_mut().poll_next(context));
        tokio::select! {
            biased;
            () = publish.closed() => return,
            change = change => if change.is_none() { return },
        }
        let Ok((read, snapshot)) = reader.read_off_thread().await else {
            return; // The process is ending: it gives no threads any more.
        };
        reader = read;
        publish.send_if_modified(|current| {
            let changed = **current != snapshot;
            if changed {
                *current = Arc::new(snapshot);
            }
            changed
        });
    }
}

/// What a directory held at one time.
#[derive(Debug, Default, PartialEq)]
struct Snapshot {
    objects: BTreeMap<ObjectRef, Object>,
    /// What is wrong with its files.
    problems: Vec<String>,
}

/// Reads a directory, and remembers what of it could be read last.
#[derive(Debug)]
struct Reader {
    directory: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// What was remarked on the objects as they were read last. Each is told when it is new.
    remarks: BTreeSet<String>,
}

/// A file as it was read last.
#[derive(Debug, Default)]
struct File {
    content: Vec<u8>,
    /// What it held when it last was right.
    objects: Vec<Object>,
    problems: Vec<String>,
}

impl Reader {
    fn new(directory: PathBuf) -> Self {
        Self { directory, files: BTreeMap::new(), remarks: BTreeSet::new() }
    }

    async fn read_off_thread(mut self) -> io::Result<(Self, Snapshot)> {
        let read = tokio::task::spawn_blocking(move || {
            let snapshot = self.read();
            (self, snapshot)
        });
        read.await.map_err(io::Error::other)
    }

    /// What the directory holds now.
    fn read(&mut self) -> Snapshot {
        let mut problems = Vec::new();
        match files::list(&self.directory) {
            Ok(mut paths) => {
                paths.retain(|path| is_manifest(path));
                self.files.retain(|path, _| paths.contains(path));
                for path in paths {
                    self.files.entry(path.clone()).or_default().read(&path);
                }
            }
            Err(error) => problems.push(format!("{}: {error}", self.directory.display())),
        }
        let mut objects = BTreeMap::<ObjectRef, (Object, &Path)>::new();
        for (path, file) in &self.files {
            problems.extend(file.problems.iter().cloned());
            for object in &file.objects {
                let name = object.object_ref();
                match objects.get(&name) {
                    None => drop(objects.insert(name, (object.clone(), path))),
                    Some((_, first)) => problems.push(format!(
                        "{}: {name} is in {} too, which is in force; remove one of them",
                        path.display(),
                        first.display()
                    )),
                }
            }
        }
        let remarks = self.remarks(&objects);
        for remark in remarks.difference(&self.remarks) {
            tracing::warn!("{remark}");
        }
        let objects = objects.into_iter().map(|(name, (object, _))| (name, object));
        let objects: BTreeMap<_, _> = objects.collect();
        self.remarks = remarks;
        Snapshot { objects, problems }
    }

    /// What is odd about routes among the other objects, each with its place.
    fn remarks(&self, objects: &BTreeMap<ObjectRef, (Object, &Path)>) -> BTreeSet<String> {
        let find = |name: &ObjectRef| objects.get(name).map(|(object, _)| object);
        let mut texts = BTreeSet::new();
        for (name, (object, path)) in objects {
            let Some(route) = object.route() else {
                continue;
            };
            let content = self.files.get(*path).map(|file| file.content.as_slice());
            let text = std::str::from_utf8(content.unwrap_or_default()).unwrap_or_default();
            for remark in remark::of_route(&route, find) {
                let file = path.display().to_string();
                texts.insert(yaml::place(&file, text, name, &remark.fault).to_string());
            }
        }
        texts
    }
}

impl File {
    fn read(&mut self, path: &Path) {
        let name = path.display().to_string();
        let content = match files::read(path, FILE_BYTES_MAX) {
            Ok(content) => content,
            Err(error) => {
                self.problems =
                    vec![format!("{name}: {error}; what it held before stays in force")];
                self.content.clear();
                return;
            }
        };
        if content == self.content && !content.is_empty() {
            return;
        }
        let read = match std::str::from_utf8(&content) {
            Ok(text) => yaml::read(&name, text)
                .map_err(|problems| problems.iter().map(ToString::to_string).collect()),
            Err(_) => Err(vec![format!("{name}: is not UTF-8 text")]),
        };
        match read {
            Ok(manifest) => {
                for notice in &manifest.notices {
                    tracing::info!("{notice}");
                }
                self.objects = manifest.objects;
                self.problems.clear();
            }
            Err(problems) => self.problems = problems,
        }
        self.content = content;
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

type NextSnapshot = (watch::Receiver<Arc<Snapshot>>, Arc<Snapshot>);

async fn next_snapshot(mut snapshots: watch::Receiver<Arc<Snapshot>>) -> NextSnapshot {
    if snapshots.changed().await.is_err() {
        // Nobody reads the directory any more: nothing changes any more.
        std::future::pending::<()>().await;
    }
    let snapshot = snapshots.borrow_and_update().clone();
    (snapshots, snapshot)
}

/// The objects of one kind as a stream: differences between snapshots.
struct Watch {
    kind: Kind,
    /// What this stream has told of; nothing before the first list.
    known: Option<BTreeMap<ObjectRef, Object>>,
    /// The problems it has told of.
    problems: Vec<String>,
    /// Told next. Bounded by what two snapshots hold.
    events: VecDeque<Result<WatchEvent, ClusterError>>,
    next: BoxFuture<'static, NextSnapshot>,
}

impl Watch {
    /// Queues what is different.
    fn take(&mut self, snapshot: &Snapshot) {
        let tells_problems = Kind::ALL.first() == Some(&self.kind);
        for problem in snapshot.problems.iter().filter(|_| tells_problems) {
            if !self.problems.contains(problem) {
                self.events.push_back(Err(ClusterError::Invalid(problem.clone())));
            }
        }
        self.problems.clone_from(&snapshot.problems);

        let of_kind = snapshot.objects.iter().filter(|(name, _)| name.kind == self.kind);
        let objects: BTreeMap<_, _> = of_kind.map(|(k, v)| (k.clone(), v.clone())).collect();
        let events = &mut self.events;
        match &self.known {
            None => {
                events.push_back(Ok(WatchEvent::Init));
                events.extend(objects.values().cloned().map(WatchEvent::InitApply).map(Ok));
                events.push_back(Ok(WatchEvent::InitDone));
            }
            Some(known) => {
                let changed =
                    objects.iter().filter(|(name, object)| known.get(name) != Some(object));
                events.extend(changed.map(|(_, object)| Ok(WatchEvent::Apply(object.clone()))));
                let gone = known.keys().filter(|name| !objects.contains_key(name));
                events.extend(gone.map(|name| Ok(WatchEvent::Delete(name.clone()))));
            }
        }
        self.known = Some(objects);
    }
}

impl Stream for Watch {
    type Item = Result<WatchEvent, ClusterError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            let (snapshots, snapshot) = std::task::ready!(self.next.as_mut().poll(context));
            self.next = Box::pin(next_snapshot(snapshots));
            self.take(&snapshot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ";

    /// A directory, and a watch of its namespaces: the kind that problems are told with.
    struct Bed {
        directory: tempfile::TempDir,
        reader: Reader,
        watch: Watch,
    }

    impl Bed {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let reader = Reader::new(directory.path().to_owned());
            let watch = Watch {
                kind: Kind::Namespace,
                known: None,
                problems: Vec::new(),
                events: VecDeque::new(),
                next: Box::pin(std::future::pending()),
            };
            Self { directory, reader, watch }
        }

        fn write(&self, name: &str, yaml: &str) {
            std::fs::write(self.directory.path().join(name), yaml).unwrap();
        }

        /// Reads again; what the watch tells.
        fn events(&mut self) -> Vec<String> {
            self.watch.take(&self.reader.read());
            let directory = self.directory.path().display().to_string();
            let tell = |event: Result<WatchEvent, ClusterError>| match event {
                Ok(WatchEvent::Init) => "init".to_string(),
                Ok(WatchEvent::InitApply(object)) => format!("has {}", object.object_ref().name),
                Ok(WatchEvent::InitDone) => "done".to_string(),
                Ok(WatchEvent::Apply(object)) => format!("apply {}", object.object_ref().name),
                Ok(WatchEvent::Delete(name)) => format!("delete {}", name.name),
                Err(error) => error.to_string().replace(&directory, ""),
            };
            self.watch.events.drain(..).map(tell).collect()
        }
    }

    #[test]
    fn a_change_of_files_is_told_as_the_difference() {
        let mut bed = Bed::new();
        bed.write("one.yaml", &format!("{SPACE}a\n---\n{SPACE}b\n"));
        bed.write("notes.txt", "not: a manifest");
        assert_eq!(bed.events(), ["init", "has a", "has b", "done"]);
        assert_eq!(bed.events(), [""; 0]);

        bed.write("one.yaml", &format!("{SPACE}a\n"));
        bed.write("two.yml", &format!("{SPACE}c\n"));
        assert_eq!(bed.events(), ["apply c", "delete b"]);

        std::fs::remove_file(bed.directory.path().join("one.yaml")).unwrap();
        assert_eq!(bed.events(), ["delete a"]);
    }

    #[test]
    fn a_wrong_file_is_reported_once_and_leaves_its_last_good_objects() {
        let mut bed = Bed::new();
        bed.write("one.yaml", &format!("{SPACE}a\n"));
        assert_eq!(bed.events(), ["init", "has a", "done"]);
        bed.write("one.yaml", &format!("{SPACE}a\n  nam: b\n---\n{SPACE}[\n"));
        let told = bed.events();
        assert!(
            !told.is_empty() && told.iter().all(|told| told.starts_with("/one.yaml:")),
            "{told:?}"
        );
        assert_eq!(bed.events(), [""; 0]);
        bed.write("one.yaml", &format!("{SPACE}b\n"));
        assert_eq!(bed.events(), ["apply b", "delete a"]);
    }

    #[test]
    fn of_two_files_with_one_object_the_first_holds() {
        let mut bed = Bed::new();
        bed.write("one.yaml", &format!("{SPACE}a\n"));
        bed.write("two.yaml", &format!("{SPACE}a\n  labels: {{x: y}}\n"));
        let told = bed.events();
        assert_eq!(told[1..], ["init", "has a", "done"]);
        assert_eq!(
            told[0],
            "/two.yaml: Namespace/a is in /one.yaml too, which is in force; remove one of them"
        );
    }

    #[test]
    fn a_route_that_leads_nowhere_is_remarked_upon_with_its_place() {
        let mut bed = Bed::new();
        bed.write(
            "route.yaml",
            "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: split
spec:
  parentRefs:
  - {group: '', kind: Service, name: web}
  - group: ''
    kind: Service
    name: lost
  rules:
  - backendRefs:
    - name: web
      port: 80
    - name: web
      port: 81
    - name: other
      port: 80
    filters:
    - type: URLRewrite
      urlRewrite: {hostname: x}
",
        );
        assert_eq!(bed.events(), ["init", "done"]);
        let directory = bed.directory.path().display().to_string();
        let remarks: Vec<_> =
            bed.reader.remarks.iter().map(|remark| remark.replace(&directory, "")).collect();
        let name = "HTTPRoute/default/split: ";
        let fails = "requests that would go there are answered with 500";
        assert_eq!(
            remarks,
            [
                format!(
                    "/route.yaml:15:5: document 2: spec.parentRefs[1].name: {name}there is no \
                         Service/default/lost; nothing follows this route there until it exists"
                ),
                format!(
                    "/route.yaml:21:7: document 2: spec.rules[0].backendRefs[1].port: {name}\
                         Service/default/web has no port 81; {fails}"
                ),
                format!(
                    "/route.yaml:22:7: document 2: spec.rules[0].backendRefs[2].name: {name}\
                         there is no Service/default/other; {fails}"
                ),
                format!(
                    "/route.yaml:25:7: document 2: spec.rules[0].filters[0].type: {name}\
                         \"URLRewrite\" is not supported here; requests that it is for are \
                         answered with 500"
                ),
            ]
        );
    }

    #[test]
    fn a_lease_is_replaced_by_whoever_knows_its_version() {
        crate::current_thread().unwrap().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let cluster = DirectoryCluster::open(directory.path().to_owned()).await.unwrap();
            assert_eq!(cluster.lease("writer").await, Ok(None));
            let lease = Lease { holder: "one".to_owned(), ..Lease::default() };
            let first = cluster.write_lease("writer", lease.clone()).await.unwrap();
            assert_eq!(cluster.lease("writer").await, Ok(Some(first.clone())));
            let conflict = Err(ClusterError::Conflict("lease writer".to_owned()));
            assert_eq!(cluster.write_lease("writer", lease).await, conflict);
            let second = cluster.write_lease("writer", first.clone()).await.unwrap();
            assert_ne!(second.version, first.version);
            assert_eq!(cluster.write_lease("writer", first).await, conflict);
        });
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        crate::current_thread().unwrap().block_on(async {
            let missing = DirectoryCluster::open(PathBuf::from("/no/such/directory")).await;
            assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        });
    }
}
