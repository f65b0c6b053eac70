//! What tests of the control plane share: manifests as an index, files and a cluster in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::resource::{Kind, Object, ObjectRef, yaml};
use crate::runtime::cluster::{
    ClusterError, Event, Lease, Secret, TokenReview, WatchEvent, WebhookKind,
};
use crate::runtime::files::Privacy;
use crate::runtime::testing::net::MemoryNet;
use crate::runtime::{BoxFuture, BoxStream, Cluster, Files, Runtime};
use crate::wire::tls;

use super::index::{Fact, Index};

/// Objects of a manifest, as a cluster's source hands them on: cut down to what is read. Whatever
/// is compiled in these tests is compiled of that.
pub(super) fn objects(manifest: &str) -> Vec<Object> {
    let mut objects = whole_objects(manifest);
    objects.iter_mut().for_each(Object::project);
    objects
}

/// Objects of a manifest as they stand there.
pub(super) fn whole_objects(manifest: &str) -> Vec<Object> {
    yaml::read("test.yaml", manifest).unwrap_or_else(|problems| panic!("{}", problems[0])).objects
}

/// A synced index of a manifest.
pub(super) fn index(manifest: &str) -> Index {
    let mut index = Index::default();
    let mut changed = BTreeSet::new();
    for kind in Kind::ALL {
        index.apply(*kind, WatchEvent::Init, &mut changed);
        for object in objects(manifest).into_iter().filter(|o| o.kind() == *kind) {
            index.apply(*kind, WatchEvent::InitApply(object), &mut changed);
        }
        index.apply(*kind, WatchEvent::InitDone, &mut changed);
    }
    index
}

/// Puts one object into an index.
pub(super) fn put(index: &mut Index, object: Object) -> BTreeSet<Fact> {
    let mut changed = BTreeSet::new();
    index.apply(object.kind(), WatchEvent::Apply(object), &mut changed);
    changed
}

/// A runtime with real cryptography and everything else in memory.
pub(super) fn runtime() -> (Runtime, MemoryFiles, MemoryCluster, MemoryNet) {
    let (files, cluster) = (MemoryFiles::default(), MemoryCluster::default());
    let net = MemoryNet::default();
    net.connect_from([10, 0, 0, 99].into());
    let runtime = Runtime {
        files: Arc::new(files.clone()),
        cluster: Arc::new(cluster.clone()),
        net: Arc::new(net.clone()),
        ..tls::testing::runtime()
    };
    (runtime, files, cluster, net)
}

#[derive(Clone, Default)]
pub(super) struct MemoryFiles(Arc<Mutex<FilesState>>);

#[derive(Default)]
struct FilesState {
    files: BTreeMap<PathBuf, Vec<u8>>,
    watches: Vec<mpsc::UnboundedSender<()>>,
}

impl MemoryFiles {
    pub(super) fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().files.get(Path::new(path)).cloned()
    }

    pub(super) fn put(&self, path: &str, content: &[u8]) {
        let mut state = self.0.lock().unwrap();
        state.files.insert(PathBuf::from(path), content.to_vec());
        state.watches.retain(|watch| watch.send(()).is_ok());
    }

    pub(super) fn remove(&self, path: &str) {
        self.0.lock().unwrap().files.remove(Path::new(path));
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path, bytes_max: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let content = self.0.lock().unwrap().files.get(path).cloned();
        Box::pin(async move {
            let content = content.ok_or(io::ErrorKind::NotFound)?;
            assert!(content.len() <= bytes_max);
            Ok(content)
        })
    }

    fn list(&self, _: &Path) -> BoxFuture<'static, io::Result<Vec<PathBuf>>> {
        let all = self.0.lock().unwrap().files.keys().cloned().collect();
        Box::pin(async move { Ok(all) })
    }

    fn write(&self, path: &Path, content: &[u8], _: Privacy) -> BoxFuture<'static, io::Result<()>> {
        self.put(&path.to_string_lossy(), content);
        Box::pin(async { Ok(()) })
    }

    fn watch(&self, _: &Path) -> BoxStream<()> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.lock().unwrap().watches.push(sender);
        Box::pin(Told(receiver))
    }
}

type Item = Result<WatchEvent, ClusterError>;

/// A cluster whose objects tests change.
#[derive(Clone, Default)]
pub(super) struct MemoryCluster(Arc<Mutex<ClusterState>>);

#[derive(Default)]
struct ClusterState {
    objects: BTreeMap<ObjectRef, Object>,
    watches: Vec<(Kind, mpsc::UnboundedSender<Item>)>,
    /// Kinds that it does not know.
    missing: Vec<Kind>,
    /// Users by their tokens.
    tokens: BTreeMap<String, String>,
    leases: BTreeMap<String, Lease>,
    /// What the next writes of statuses meet.
    refusals: VecDeque<ClusterError>,
    /// Of which objects a status was written.
    writes: Vec<ObjectRef>,
    /// By namespace and name.
    secrets: BTreeMap<(String, String), Secret>,
    bundles: BTreeMap<(WebhookKind, String), String>,
    events: Vec<Event>,
}

impl MemoryCluster {
    pub(super) fn apply(&self, manifest: &str) {
        let mut state = self.0.lock().unwrap();
        for object in objects(manifest) {
            state.objects.insert(object.object_ref(), object.clone());
            state.tell(object.kind(), Ok(WatchEvent::Apply(object)));
        }
    }

    pub(super) fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        let name = ObjectRef { kind, namespace: namespace.to_string(), name: name.to_string() };
        let mut state = self.0.lock().unwrap();
        state.objects.remove(&name);
        state.tell(kind, Ok(WatchEvent::Delete(name)));
    }

    pub(super) fn forget_kind(&self, kind: Kind) {
        self.0.lock().unwrap().missing.push(kind);
    }

    pub(super) fn find(&self, name: &ObjectRef) -> Option<Object> {
        self.0.lock().unwrap().objects.get(name).cloned()
    }

    pub(super) fn refuse_writes(&self, errors: impl IntoIterator<Item = ClusterError>) {
        self.0.lock().unwrap().refusals.extend(errors);
    }

    pub(super) fn writes(&self) -> usize {
        self.0.lock().unwrap().writes.len()
    }

    pub(super) fn holder(&self, lease: &str) -> Option<String> {
        self.0.lock().unwrap().leases.get(lease).map(|lease| lease.holder.clone())
    }

    pub(super) fn secret_of(&self, name: &str) -> Option<Secret> {
        let state = self.0.lock().unwrap();
        state.secrets.get(&("linkerd".to_string(), name.to_string())).cloned()
    }

    pub(super) fn put_secret(&self, name: &str, secret: Secret) {
        let mut state = self.0.lock().unwrap();
        state.secrets.insert(("linkerd".to_string(), name.to_string()), secret);
    }

    pub(super) fn bundle(&self, webhook: WebhookKind, name: &str) -> Option<String> {
        self.0.lock().unwrap().bundles.get(&(webhook, name.to_string())).cloned()
    }

    /// Of whom which event was recorded, with its text.
    pub(super) fn event_texts(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        let text = |event: &Event| {
            let uid = event.uid.as_deref().unwrap_or("no uid");
            let of = format!("{} {} {} ({uid})", event.api_version, event.kind, event.name);
            format!("{of}: {}: {}", event.reason, event.message)
        };
        state.events.iter().map(text).collect()
    }

    pub(super) fn give_lease(&self, name: &str, lease: Option<Lease>) {
        let leases = &mut self.0.lock().unwrap().leases;
        match lease {
            Some(lease) => drop(leases.insert(name.to_string(), lease)),
            None => drop(leases.remove(name)),
        }
    }

    /// The reasons of the events that were recorded, and whose they are.
    pub(super) fn events(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        let events = state.events.iter();
        events.map(|e| format!("{} {}/{}", e.reason, e.namespace, e.name)).collect()
    }

    pub(super) fn add_token(&self, token: &str, username: &str) {
        let mut state = self.0.lock().unwrap();
        state.tokens.insert(token.to_string(), username.to_string());
    }
}

impl ClusterState {
    fn tell(&mut self, kind: Kind, item: Item) {
        self.watches
            .retain(|(watched, watch)| *watched != kind || watch.send(item.clone()).is_ok());
    }
}

impl Cluster for MemoryCluster {
    fn watch(&self, kind: Kind) -> BoxStream<Item> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.0.lock().unwrap();
        if state.missing.contains(&kind) {
            let error = ClusterError::NotFound("no such definition".to_string());
            sender.send(Err(error)).unwrap();
            state.watches.push((kind, sender));
            return Box::pin(Told(receiver));
        }
        let objects = state.objects.values().filter(|object| object.kind() == kind);
        let list = objects.map(|object| WatchEvent::InitApply(object.clone()));
        let events = std::iter::once(WatchEvent::Init).chain(list);
        for event in events.chain([WatchEvent::InitDone]) {
            sender.send(Ok(event)).unwrap();
        }
        state.watches.push((kind, sender));
        Box::pin(Told(receiver))
    }

    fn write_status(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        let state = &mut *self.0.lock().unwrap();
        let name = object.object_ref();
        let result = if let Some(error) = state.refusals.pop_front() {
            Err(error)
        } else if let Some(known) = state.objects.get_mut(&name) {
            assert!(known.take_status(&object));
            let known = known.clone();
            state.writes.push(name);
            state.tell(known.kind(), Ok(WatchEvent::Apply(known)));
            Ok(())
        } else {
            Err(ClusterError::NotFound(name.to_string()))
        };
        Box::pin(async { result })
    }

    fn lease(&self, name: &str) -> BoxFuture<'static, Result<Option<Lease>, ClusterError>> {
        let lease = self.0.lock().unwrap().leases.get(name).cloned();
        Box::pin(async { Ok(lease) })
    }

    fn write_lease(
        &self,
        name: &str,
        mut lease: Lease,
    ) -> BoxFuture<'static, Result<Lease, ClusterError>> {
        let leases = &mut self.0.lock().unwrap().leases;
        let version = leases.get(name).and_then(|known| known.version.clone());
        let result = if version == lease.version {
            let last = version.map_or(0, |version| version.parse::<u64>().unwrap());
            lease.version = Some((last + 1).to_string());
            leases.insert(name.to_string(), lease.clone());
            Ok(lease)
        } else {
            Err(ClusterError::Conflict(name.to_string()))
        };
        Box::pin(async { result })
    }

    fn record_event(&self, event: Event) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.0.lock().unwrap().events.push(event);
        Box::pin(async { Ok(()) })
    }

    fn review_token(
        &self,
        token: &str,
        audience: &str,
    ) -> BoxFuture<'static, Result<TokenReview, ClusterError>> {
        assert_eq!(audience, super::token::AUDIENCE);
        let username = self.0.lock().unwrap().tokens.get(token).cloned();
        Box::pin(async move {
            Ok(TokenReview {
                username: username
                    .ok_or_else(|| ClusterError::NotFound("token review".to_string()))?,
                extra: BTreeMap::new(),
            })
        })
    }

    fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> BoxFuture<'static, Result<Option<Secret>, ClusterError>> {
        let key = (namespace.to_string(), name.to_string());
        let secret = self.0.lock().unwrap().secrets.get(&key).cloned();
        Box::pin(async { Ok(secret) })
    }

    fn write_secret(
        &self,
        namespace: &str,
        name: &str,
        mut secret: Secret,
    ) -> BoxFuture<'static, Result<Secret, ClusterError>> {
        let key = (namespace.to_string(), name.to_string());
        let secrets = &mut self.0.lock().unwrap().secrets;
        let version = secrets.get(&key).and_then(|known| known.version.clone());
        let result = if version == secret.version {
            let last = version.map_or(0, |version| version.parse::<u64>().unwrap());
            secret.version = Some((last + 1).to_string());
            secrets.insert(key, secret.clone());
            Ok(secret)
        } else {
            Err(ClusterError::Conflict(name.to_string()))
        };
        Box::pin(async { result })
    }

    fn write_ca_bundle(
        &self,
        webhook: WebhookKind,
        name: &str,
        pem: &str,
    ) -> BoxFuture<'static, Result<(), ClusterError>> {
        let bundles = &mut self.0.lock().unwrap().bundles;
        bundles.insert((webhook, name.to_string()), pem.to_string());
        Box::pin(async { Ok(()) })
    }
}

struct Told<T>(mpsc::UnboundedReceiver<T>);

impl<T> Stream for Told<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}
