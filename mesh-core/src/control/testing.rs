//! What tests of the control plane share: manifests as an index, files and a cluster in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::resource::{Kind, Object, ObjectRef, yaml};
use crate::runtime::cluster::{ClusterError, Lease, TokenReview, WatchEvent};
use crate::runtime::files::Privacy;
use crate::runtime::testing::net::MemoryNet;
use crate::runtime::{BoxFuture, BoxStream, Cluster, Files, Runtime};
use crate::wire::tls;

use super::index::{Fact, Index};

/// Objects of a manifest.
pub(super) fn objects(manifest: &str) -> Vec<Object> {
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

    fn write_status(&self, _: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        Box::pin(async { Err(ClusterError::NotFound("status".to_string())) })
    }

    fn hold_lease(
        &self,
        _: &str,
        _: &str,
        _: Duration,
    ) -> BoxFuture<'static, Result<Lease, ClusterError>> {
        Box::pin(async { Err(ClusterError::NotFound("lease".to_string())) })
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
}

struct Told<T>(mpsc::UnboundedReceiver<T>);

impl<T> Stream for Told<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}
