//! A control plane that says what a test tells it, changes its word when told so, and can go away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::{mpsc, watch};

use crate::api::identity::Certificate;
use crate::api::server::{Certifier, Discovery, Refusal};
use crate::api::workload::{ContextToken, Workload};
use crate::model::client_policy::ClientPolicy;
use crate::model::endpoint::{Endpoint, EndpointUpdate};
use crate::model::identity::Identity;
use crate::model::labels::Labels;
use crate::model::profile::Profile;
use crate::model::server_policy::ServerPolicy;
use crate::model::target::{NameAddr, Target};
use crate::runtime::{BoxFuture, BoxStream, Runtime};
use crate::wire::tls::testing::Authority;

/// Values by key, each followed by whoever asked.
struct Table<T>(Mutex<BTreeMap<String, watch::Sender<T>>>);

impl<T: Clone + Send + Sync + 'static> Table<T> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn set(&self, key: String, value: T) {
        let mut table = self.0.lock().unwrap();
        match table.get(&key) {
            Some(told) => {
                told.send_replace(value);
            }
            None => {
                table.insert(key, watch::channel(value).0);
            }
        }
    }

    fn watch(&self, key: &str) -> Result<watch::Receiver<T>, Refusal> {
        let table = self.0.lock().unwrap();
        let told = table.get(key).map(watch::Sender::subscribe);
        told.ok_or_else(|| Refusal::NotFound(key.to_string()))
    }
}

/// The control plane.
pub(super) struct Control {
    runtime: Runtime,
    pub(super) authority: Mutex<Arc<Authority>>,
    pub(super) certificate_lifetime: Mutex<Duration>,
    pub(super) certified: AtomicUsize,
    client_policies: Table<ClientPolicy>,
    server_policies: Table<ServerPolicy>,
    profiles: Table<Profile>,
    endpoints: Table<Vec<Endpoint>>,
    /// Questions that are not answered now, by what is asked.
    cut: watch::Sender<BTreeSet<String>>,
    /// Questions being answered, by what was asked.
    open: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Control {
    pub(super) fn new(runtime: &Runtime) -> Arc<Self> {
        Arc::new(Self {
            runtime: runtime.clone(),
            authority: Mutex::new(Arc::new(Authority::new("root"))),
            certificate_lifetime: Mutex::new(Duration::from_secs(86_400)),
            certified: AtomicUsize::new(0),
            client_policies: Table::new(),
            server_policies: Table::new(),
            profiles: Table::new(),
            endpoints: Table::new(),
            cut: watch::channel(BTreeSet::new()).0,
            open: Arc::default(),
        })
    }

    pub(super) fn set_client_policy(&self, target: &str, policy: ClientPolicy) {
        self.client_policies.set(target.to_string(), policy);
    }

    /// The policy of a port, whose workload ever.
    pub(super) fn set_server_policy(&self, port: u16, policy: ServerPolicy) {
        self.server_policies.set(port.to_string(), policy);
    }

    pub(super) fn set_profile(&self, target: &str, profile: Profile) {
        self.profiles.set(target.to_string(), profile);
    }

    pub(super) fn set_endpoints(&self, path: &str, endpoints: Vec<Endpoint>) {
        self.endpoints.set(path.to_string(), endpoints);
    }

    /// Answers `question` no more, or again.
    pub(super) fn cut(&self, question: &str, cut: bool) {
        self.cut.send_modify(|questions| {
            match cut {
                true => questions.insert(question.to_string()),
                false => questions.remove(question),
            };
        });
    }

    /// How many streams are open that answer `question`, such as `endpoints web.test:80`.
    pub(super) fn open(&self, question: &str) -> usize {
        *self.open.lock().unwrap().get(question).unwrap_or(&0)
    }

    fn stream<T: Clone + Send + Sync + 'static, U: Send + 'static>(
        &self,
        question: String,
        mut told: watch::Receiver<T>,
        mut say: impl FnMut(T) -> Vec<U> + Send + 'static,
    ) -> Result<BoxStream<U>, Refusal> {
        let mut cut = self.cut.subscribe();
        if cut.borrow().contains(&question) {
            return Err(Refusal::Unavailable(question));
        }
        let (sender, received) = mpsc::channel(16);
        let open = Open::new(&self.open, question.clone());
        self.runtime.spawn("test answer", async move {
            let _open = open;
            loop {
                let value = told.borrow_and_update().clone();
                for item in say(value) {
                    if sender.send(item).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    biased;
                    changed = told.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                    _ = cut.wait_for(|cut| cut.contains(&question)) => return,
                }
            }
        });
        Ok(Box::pin(Received(received)))
    }
}

struct Open {
    open: Arc<Mutex<BTreeMap<String, usize>>>,
    question: String,
}

impl Open {
    fn new(open: &Arc<Mutex<BTreeMap<String, usize>>>, question: String) -> Self {
        *open.lock().unwrap().entry(question.clone()).or_default() += 1;
        let open = open.clone();
        Self { open, question }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        *self.open.lock().unwrap().entry(self.question.clone()).or_default() -= 1;
    }
}

struct Received<T>(mpsc::Receiver<T>);

impl<T> Stream for Received<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

impl Discovery for Control {
    fn client_policy(
        &self,
        _: &Workload,
        target: &Target,
    ) -> Result<BoxStream<ClientPolicy>, Refusal> {
        let told = self.client_policies.watch(&target.to_string())?;
        self.stream(format!("policy {target}"), told, |policy| vec![policy])
    }

    fn server_policy(
        &self,
        _: &Workload,
        port: NonZeroU16,
    ) -> Result<BoxStream<ServerPolicy>, Refusal> {
        let told = self.server_policies.watch(&port.to_string())?;
        self.stream(format!("port {port}"), told, |policy| vec![policy])
    }

    fn profile(&self, path: &NameAddr, _: &ContextToken) -> Result<BoxStream<Profile>, Refusal> {
        let told = self.profiles.watch(&path.to_string())?;
        self.stream(format!("profile {path}"), told, |profile| vec![profile])
    }

    fn endpoints(
        &self,
        path: &NameAddr,
        _: &ContextToken,
    ) -> Result<BoxStream<EndpointUpdate>, Refusal> {
        let told = self.endpoints.watch(&path.to_string())?;
        let mut known = None;
        self.stream(format!("endpoints {path}"), told, move |now| {
            updates(known.replace(now.clone()), now)
        })
    }
}

/// What turns one set of endpoints into another, as a control plane says it.
fn updates(before: Option<Vec<Endpoint>>, now: Vec<Endpoint>) -> Vec<EndpointUpdate> {
    let labels = Labels::default();
    if now.is_empty() {
        return vec![EndpointUpdate::NoEndpoints { exists: true }];
    }
    let Some(before) = before else {
        let endpoints = now;
        return vec![EndpointUpdate::Add { endpoints, labels }];
    };
    let stays = |address: SocketAddr| now.iter().any(|endpoint| endpoint.address == address);
    let gone: Vec<_> = before.iter().map(|endpoint| endpoint.address).collect();
    let gone: Vec<_> = gone.into_iter().filter(|address| !stays(*address)).collect();
    let new = now.iter().filter(|endpoint| !before.contains(endpoint));
    let endpoints: Vec<_> = new.cloned().collect();
    let mut updates = Vec::new();
    if !gone.is_empty() {
        updates.push(EndpointUpdate::Remove(gone));
    }
    if !endpoints.is_empty() {
        updates.push(EndpointUpdate::Add { endpoints, labels });
    }
    updates
}

impl Certifier for Control {
    fn certify(
        &self,
        identity: String,
        token: Vec<u8>,
        csr_der: Vec<u8>,
    ) -> BoxFuture<'static, Result<Certificate, Refusal>> {
        if token != b"token" {
            let denied = Refusal::Denied(identity);
            return Box::pin(async move { Err(denied) });
        }
        self.certified.fetch_add(1, Ordering::Relaxed);
        let lifetime = *self.certificate_lifetime.lock().unwrap();
        let now = self.runtime.clock.wall();
        let identity = Identity::new(&identity).unwrap();
        let authority = self.authority.lock().unwrap().clone();
        let certificate = Certificate {
            leaf_der: authority.certify(&csr_der, &identity, now, lifetime),
            intermediates_der: vec![],
            valid_until: now + lifetime,
        };
        Box::pin(async move { Ok(certificate) })
    }
}
