//! A backend as it lives in the proxy: its endpoints as discovery reports them, and the sending of
//! each request to one of them.
//!
//! Law: a request is sent to one endpoint that discovery names at that moment. It is sent to
//! another only where nothing of it reached the first. Requests in flight outlive the removal of
//! their endpoint.

mod burst;
pub mod endpoint;
pub mod flight;
mod pick;
pub mod pool;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::model::client_policy::{self, Dispatcher, FailureAccrual, Load, Queue};
use crate::model::endpoint::{self as model, EndpointUpdate};
use crate::model::labels::Labels;
use crate::model::metadata::Metadata;
use crate::model::tap::Direction;
use crate::proxy::config;
use crate::proxy::connect::{ConnectError, Connector, NoTls};
use crate::proxy::discover::{Clients, Standing};
use crate::proxy::idle::{Full, IdleTable};
use crate::proxy::refusal::{L5D_PROXY_CONNECTION, Refusal};
use crate::proxy::tap::{self, Tapped, Tapping};
use crate::runtime::{BoxIo, Runtime, TaskGuard};
use crate::telemetry::labels::{BalancerLabels, ClientTlsLabel, NoClientTls, OutboundEndpoint};
use crate::telemetry::metrics::{BalancerMetrics, BalancerUpdate, HttpMetrics, StreamError};
use crate::telemetry::{BalancerProtocol, Telemetry};
use crate::time::Timestamp;
use crate::traffic::balance::EndpointSet;
use crate::wire::http::{Error, Request, Response, SendError};
use endpoint::{Common, Endpoint, EndpointMetrics, Health};
use flight::Flight;
use pick::{Picked, Tried};

/// Backends at once; each costs about 2 KiB besides its endpoints.
pub const BACKENDS_MAX: usize = 20_000;

/// All live backends. Those that nobody uses are dropped after a while.
pub struct Backends {
    runtime: Runtime,
    clients: Clients,
    connector: Connector,
    config: config::Outbound,
    telemetry: Arc<Telemetry>,
    table: Arc<IdleTable<Key, Backend>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    parent: Metadata,
    backend: Arc<client_policy::Backend>,
    protocol: BalancerProtocol,
    /// When endpoints that fail are taken out.
    accrual: Option<FailureAccrual>,
}

impl Backends {
    /// None yet.
    pub fn new(
        runtime: &Runtime,
        clients: Clients,
        connector: Connector,
        config: &config::Outbound,
        telemetry: &Arc<Telemetry>,
    ) -> Self {
        let idle_timeout = config.discovery_idle_timeout;
        Self {
            runtime: runtime.clone(),
            clients,
            connector,
            config: config.clone(),
            telemetry: telemetry.clone(),
            table: IdleTable::new(
                runtime,
                "sweep-backends",
                idle_timeout,
                BACKENDS_MAX,
                |backend: &Backend| backend.standing.is_irreplaceable(),
            ),
        }
    }

    /// The live backend of a model backend as one parent uses it. `accrual`: when its endpoints are
    /// taken out; none where connections are balanced, as it counts requests.
    pub fn find(
        &self,
        parent: &Metadata,
        backend: &Arc<client_policy::Backend>,
        protocol: BalancerProtocol,
        accrual: Option<&FailureAccrual>,
    ) -> Arc<Backend> {
        let (parent, backend) = (parent.clone(), backend.clone());
        let key = Key { parent, backend, protocol, accrual: accrual.cloned() };
        // Destinations are bounded, and few name many backends; where they do, those beyond are
        // not shared.
        self.table.find(key.clone(), |key| self.start(key)).unwrap_or_else(|Full| self.start(&key))
    }

    /// The services that are balanced over (`host:port`), once for each way in which they are used,
    /// and the endpoints of each: whether they are up.
    pub fn known(&self) -> Vec<(String, BTreeMap<SocketAddr, bool>)> {
        let backends = self.table.values().into_iter();
        let balanced = backends.filter_map(|backend| {
            let authority = backend.authority.as_ref()?.to_string();
            let state = backend.state();
            let members = state.endpoints.iter();
            let all = members.map(|m| (m.endpoint.address, !m.state.is_down())).collect();
            Some((authority, all))
        });
        balanced.collect()
    }

    fn start(&self, key: &Key) -> Arc<Backend> {
        let (load, authority) = match &key.backend.dispatcher {
            Dispatcher::Balance { path, load } => (*load, Some(path.as_str().into())),
            _ => (DEFAULT_LOAD, None),
        };
        let labels =
            BalancerLabels { parent: key.parent.clone(), backend: key.backend.metadata.clone() };
        let metrics = self.telemetry.outbound.balancer(key.protocol, &labels);
        let queue = self.queue(key);
        let failfast_timeout = queue.failfast_timeout;
        metrics.gate_timeout(failfast_timeout);
        let (changed, _) = watch::channel(0);
        let common = Arc::new(Common {
            runtime: self.runtime.clone(),
            connector: self.connector.clone(),
            backoff: self.config.connect.backoff,
            http1_idle_timeout: self.config.http1_idle_timeout,
            http1_idle_max: self.config.http1_idle_max,
            changed,
            health: Health::new(Some(metrics.clone())),
            accrual: key.accrual.clone(),
        });
        let standing = Standing::default();
        Arc::new_cyclic(|weak| Backend {
            common,
            telemetry: self.telemetry.clone(),
            authority,
            metrics,
            failfast_timeout,
            queue_capacity: queue.capacity as usize,
            waiting: AtomicUsize::new(0),
            state: Mutex::new(State::of(&key.backend.dispatcher, load, self.runtime.now())),
            _discovery: match &key.backend.dispatcher {
                Dispatcher::Balance { path, .. } => Some(self.discover(weak, path, &standing)),
                _ => None,
            },
            standing,
        })
        .with_forward(&key.backend.dispatcher)
    }

    /// The queue of a backend. Requests wait in one of this proxy's own configuration, as in
    /// Linkerd, whose control plane sends one that is far smaller than what it means.
    fn queue(&self, key: &Key) -> Queue {
        match key.protocol {
            BalancerProtocol::Http => Queue {
                capacity: u32::try_from(self.config.queue_capacity).unwrap_or(u32::MAX),
                failfast_timeout: self.config.failfast_timeout,
            },
            BalancerProtocol::Tcp | BalancerProtocol::Tls => key.backend.queue,
        }
    }

    fn discover(&self, backend: &Weak<Backend>, path: &str, standing: &Standing) -> TaskGuard {
        let (clients, path, backend) = (self.clients.clone(), path.to_string(), backend.clone());
        let standing = standing.clone();
        self.runtime.spawn_guarded("discover-endpoints", async move {
            clients
                .follow_endpoints(&path, &standing, |update, fresh| {
                    if let Some(backend) = backend.upgrade() {
                        backend.apply(update, fresh);
                    }
                })
                .await;
        })
    }
}

const DEFAULT_LOAD: Load =
    Load::PeakEwma { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10) };

/// On what terms a request is sent.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// When sending it begins.
    pub began: Timestamp,
    /// Whom the client wants its server to be.
    pub required: Option<&'a str>,
    /// When the response's head must be there.
    pub deadline: Option<Timestamp>,
    /// There where somebody looks.
    pub tapping: Option<&'a Tapping>,
}

/// A backend and its endpoints.
pub struct Backend {
    common: Arc<Common>,
    telemetry: Arc<Telemetry>,
    authority: Option<Arc<str>>,
    metrics: Arc<BalancerMetrics>,
    failfast_timeout: Duration,
    queue_capacity: usize,
    waiting: AtomicUsize,
    state: Mutex<State>,
    _discovery: Option<TaskGuard>,
    /// Of the endpoints' stream.
    standing: Standing,
}

struct State {
    endpoints: EndpointSet<Arc<Endpoint>>,
    /// The backend can only fail.
    fails: bool,
    /// The backend is one fixed endpoint.
    forward: bool,
    /// Since when there is no endpoint. None while there is one.
    unready_since: Option<Timestamp>,
    gate_shut: bool,
}

impl State {
    fn of(dispatcher: &Dispatcher, load: Load, now: Timestamp) -> Self {
        Self {
            endpoints: EndpointSet::new(load),
            fails: matches!(dispatcher, Dispatcher::Fail),
            forward: matches!(dispatcher, Dispatcher::Forward(_)),
            unready_since: Some(now),
            gate_shut: false,
        }
    }
}

impl Backend {
    fn with_forward(self: Arc<Self>, dispatcher: &Dispatcher) -> Arc<Self> {
        if let Dispatcher::Forward(facts) = dispatcher {
            let endpoints = vec![facts.clone()];
            self.apply(Some(EndpointUpdate::Add { endpoints, labels: Labels::default() }), true);
        }
        self
    }

    /// Applies what discovery says. `None`: the path is unknown. `fresh`: the first item of a
    /// stream, which replaces what earlier streams said.
    fn apply(&self, update: Option<EndpointUpdate>, fresh: bool) {
        let now = self.common.runtime.now();
        let update = update.unwrap_or(EndpointUpdate::NoEndpoints { exists: false });
        let op = match &update {
            EndpointUpdate::Add { .. } if fresh => BalancerUpdate::Reset,
            EndpointUpdate::Add { .. } => BalancerUpdate::Add,
            EndpointUpdate::Remove(_) => BalancerUpdate::Remove,
            EndpointUpdate::NoEndpoints { .. } => BalancerUpdate::DoesNotExist,
        };
        let mut state = self.state();
        if fresh {
            if !state.endpoints.is_empty() {
                mark!("endpoints-listed-again");
            }
            state.endpoints.resync();
        }
        let changes = state.endpoints.apply(update, now, |facts, labels, _| {
            Endpoint::new(facts.clone(), self.endpoint_metrics(facts, labels), &self.common)
        });
        if changes.refused > 0 {
            mark!("endpoints-at-bound");
            tracing::warn!(left_out = changes.refused, "too many endpoints for one backend");
        }
        self.metrics.updated(op, state.endpoints.len());
        state.unready_since = match state.endpoints.is_empty() {
            true => state.unready_since.or(Some(now)),
            false => None,
        };
        drop(state);
        self.common.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn endpoint_metrics(&self, facts: &model::Endpoint, labels: &Labels) -> EndpointMetrics {
        let tls = match self.common.connector.tls(facts) {
            Ok(server) => ClientTlsLabel::True { server_id: server.identity.clone() },
            Err(NoTls::Loopback) => ClientTlsLabel::NoIdentity(NoClientTls::Loopback),
            Err(NoTls::NotProvidedByServiceDiscovery) => {
                ClientTlsLabel::NoIdentity(NoClientTls::NotProvidedByServiceDiscovery)
            }
        };
        let labels = OutboundEndpoint {
            authority: self.authority.clone(),
            target_addr: facts.address,
            tls,
            labels: labels.clone(),
        };
        EndpointMetrics {
            transport: self.telemetry.outbound.endpoint_transport(&labels),
            cost: Some(self.telemetry.outbound.transfer_cost(labels.labels.value("zone_locality"))),
            http: Some(self.telemetry.outbound.endpoint(&labels)),
        }
    }

    /// Whether a request could be sent now: it has an endpoint that is neither down nor taken out.
    /// What is down is tried again without requests, so that nothing is given up for ever. A backend
    /// that can only fail takes its share and fails it, as Gateway API has it.
    pub fn is_available(&self) -> bool {
        let now = self.common.runtime.now();
        let state = self.state();
        let takes = |endpoint: &Endpoint| !endpoint.is_down() && endpoint.is_admitting(now);
        state.fails || state.endpoints.iter().any(|member| takes(&member.state))
    }

    /// Sends a request to one endpoint, and where nothing of it reached that, to another. What is left
    /// of the request is of no use.
    ///
    /// # Errors
    /// A [`Refusal`] where no endpoint answered.
    pub async fn send(
        &self,
        request: &mut Request,
        terms: Terms<'_>,
    ) -> Result<(Response, Flight), Refusal> {
        let Terms { began, required, deadline, tapping } = terms;
        let mut tried = Tried::new(began);
        loop {
            let picked = {
                let ready = pin!(self.ready(&mut tried));
                self.by(deadline, ready).await
            };
            let picked = picked.ok_or(Refusal::RequestTimeout)??;
            self.satisfies(&picked, required)?;
            let mut flight = self.begin(&picked, tried.at, picked.state.metrics.http.clone());
            let tapped = tapping.and_then(|tapping| self.tap(tapping, &picked, request));
            let sent = {
                let mut connected = || flight.connected();
                // Pinned in its place: moved on, it would be in this future twice.
                let sent = pin!(picked.state.send(request, &mut connected));
                self.by(deadline, sent).await
            };
            match sent {
                Some(Ok(mut response)) => {
                    flight.sent();
                    self.trust(&picked, &mut response);
                    if let Some(tapped) = tapped {
                        response = tapped.answered(response);
                    }
                    return Ok((response, flight));
                }
                Some(Err(SendError::Unsent(error))) => {
                    tap::failed(tapped, &error);
                    flight.unsent();
                    let unreachable = matches!(error, Error::Unreachable);
                    let refused = Refusal::of_unsent(&error);
                    self.missed(&mut tried, &picked, unreachable, refused)?;
                }
                Some(Err(SendError::Failed(error))) => {
                    tap::failed(tapped, &error);
                    let refusal = Refusal::of(&error);
                    flight.broken(refusal.stream_error());
                    return Err(refusal);
                }
                None => {
                    flight.broken(StreamError::RequestTimeout);
                    return Err(Refusal::RequestTimeout);
                }
            }
        }
    }

    /// Tells those who look of a request that is about to be sent.
    #[cold]
    fn tap(
        &self,
        tapping: &Tapping,
        picked: &Picked,
        request: &mut Request,
    ) -> Option<Box<Tapped>> {
        let tls: Labels = match self.common.connector.tls(&picked.endpoint) {
            Ok(server) => {
                [("tls", "true"), ("server_id", server.identity.as_str())].into_iter().collect()
            }
            Err(NoTls::Loopback) => [("tls", "loopback")].into_iter().collect(),
            Err(NoTls::NotProvidedByServiceDiscovery) => {
                [("tls", "not_provided_by_service_discovery")].into_iter().collect()
            }
        };
        let meta = tap::Meta {
            source: tapping.source,
            source_labels: [("tls", "loopback")].into_iter().collect(),
            destination: picked.endpoint.address,
            destination_labels: picked.labels.extended(&tls),
            route_labels: tapping.route_labels.clone(),
            direction: Direction::Outbound,
        };
        tapping.taps.begin(meta, request)
    }

    /// What `future` gives, where it does before the deadline.
    async fn by<F: Future>(&self, deadline: Option<Timestamp>, future: F) -> Option<F::Output> {
        match deadline {
            Some(deadline) => self.common.runtime.deadline(deadline, future).await.ok(),
            None => Some(future.await),
        }
    }

    /// Only another proxy may say what is to become of the client's connection.
    fn trust(&self, picked: &Picked, response: &mut Response) {
        if response.headers().contains_key(L5D_PROXY_CONNECTION)
            && self.common.connector.tls(&picked.endpoint).is_err()
        {
            response.headers_mut().remove(L5D_PROXY_CONNECTION);
        }
    }

    /// Opens a connection for bytes to one endpoint, or another where that cannot be reached.
    ///
    /// # Errors
    /// A [`Refusal`] where none could be reached.
    pub async fn open(&self) -> Result<(BoxIo, Flight), Refusal> {
        let mut tried = Tried::new(self.common.runtime.now());
        loop {
            let picked = self.ready(&mut tried).await?;
            let flight = self.begin(&picked, tried.at, None);
            match picked.state.open_opaque().await {
                Ok(io) => return Ok((io, flight)),
                Err(error) => {
                    flight.unsent();
                    let refused = match error {
                        ConnectError::TimedOut => Refusal::ConnectTimeout,
                        error => Refusal::Connect(error.to_string()),
                    };
                    self.missed(&mut tried, &picked, false, refused)?;
                }
            }
        }
    }

    fn begin(&self, picked: &Picked, now: Timestamp, http: Option<Arc<HttpMetrics>>) -> Flight {
        Flight::new(&self.common.runtime.clock, now, picked.load.start(now), http)
            .told_to(&picked.state)
    }

    /// Whether an endpoint is who the client requires (`l5d-require-id`).
    fn satisfies(&self, picked: &Picked, required: Option<&str>) -> Result<(), Refusal> {
        let Some(required) = required else {
            return Ok(());
        };
        match self.common.connector.tls(&picked.endpoint) {
            Ok(server) if server.identity.as_str() == required => Ok(()),
            _ => {
                mark!("required-identity-refused");
                Err(Refusal::IdentityRequired(required.to_string()))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
