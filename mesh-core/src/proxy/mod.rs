//! The data plane: one straight line per direction, from an accepted connection to a response.
//!
//! `run` starts everything and waits for the drain. The lines are `outbound::serve_connection` and
//! `inbound::serve_connection`; all else serves them.

pub mod admin;
pub mod config;
pub mod connect;

mod backend;
mod control_talk;
mod detect;
mod discover;
mod identity;
mod idle;
mod inbound;
mod listen;
mod metered;
mod observe;
mod orig_proto;
mod outbound;
mod own_listeners;
mod refusal;
mod routes;
mod spans;
mod tap;
mod unenforced;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::runtime::net::ListenOptions;
use crate::runtime::{Listener, Runtime, TaskGuard};
use crate::telemetry::access_log::{AccessLog, AccessLogSink};
use crate::telemetry::{BuildInfo, ProcessStats, Telemetry, TelemetryConfig};
use crate::wire::http::{DrainSignal, DrainWatch};
use crate::wire::opaque::Bulk;
use crate::wire::tls::Credentials;
use admin::{Admin, LogLevels};
use backend::endpoint::Common;
use config::{Config, TrustAnchors};
use connect::Connector;
use discover::Clients;
use identity::IdentityError;
use own_listeners::OwnListeners;
use tap::Taps;

/// What the process gives beside the runtime.
#[derive(Clone, Default)]
pub struct Process {
    /// Figures for `/metrics`.
    pub stats: Option<Arc<dyn ProcessStats>>,
    /// What `/proxy-log-level` turns.
    pub log: Option<Arc<dyn LogLevels>>,
    /// Where lines of the access log go.
    pub access_log: Option<AccessLogSink>,
    /// What `/env.json` shows.
    pub environment: BTreeMap<String, String>,
    /// What was built.
    pub build: BuildInfo,
    /// Told when `/shutdown` asks for the end.
    pub shutdown: Arc<Notify>,
    /// Where what the proxy counts is found once it runs, by who runs it in a process of their own.
    pub telemetry: TelemetrySlot,
    /// Where the endpoints that the proxy knows are found once it serves.
    pub endpoints: EndpointsSlot,
}

/// A place that is filled once.
pub type TelemetrySlot = Arc<OnceLock<Arc<Telemetry>>>;

/// A place that is filled once.
pub type EndpointsSlot = Arc<OnceLock<KnownEndpoints>>;

/// The endpoints that a proxy knows. It does not keep the proxy.
#[derive(Clone)]
pub struct KnownEndpoints(Weak<outbound::Outbound>);

impl KnownEndpoints {
    /// The services that it balances over now (`host:port`), once for each way in which they are used,
    /// and the endpoints of each: whether they are up. None once the proxy has ended.
    pub fn all(&self) -> Option<Vec<(String, BTreeMap<SocketAddr, bool>)>> {
        Some(self.0.upgrade()?.backends.known())
    }
}

impl fmt::Debug for KnownEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownEndpoints")
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Process")
    }
}

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A listener cannot be opened.
    #[error("cannot listen on {address} ({what}): {error}; is another process there?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The identity's files are wrong.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Runs the proxy until `drain` begins and what was in flight is done, or the grace period is over.
///
/// # Errors
/// [`ProxyError`] where it cannot start.
pub async fn run(
    runtime: Runtime,
    config: Config,
    process: Process,
    drain: DrainWatch,
) -> Result<(), ProxyError> {
    for variable in &config.inert {
        tracing::warn!(variable, "set, but nothing reads it");
    }
    let listeners = Listeners::open(&runtime, &config).await?;
    let telemetry = Arc::new(Telemetry::new(&TelemetryConfig {
        retain_idle: config.metrics_retain_idle,
        label_sets_max: config.metrics_label_sets_max,
        started: runtime.clock.wall(),
        build: process.build.clone(),
        process: process.stats.clone(),
        ..TelemetryConfig::default()
    }));
    // A process's parts given to a second proxy keep the first one's telemetry.
    let _ = process.telemetry.set(telemetry.clone());
    let credentials = Credentials::new(&runtime, config.identity.local.clone());
    let admin = Arc::new(Admin {
        runtime: runtime.clone(),
        config: config.admin,
        telemetry: telemetry.clone(),
        credentials: credentials.clone(),
        log: process.log.clone(),
        environment: process.environment.clone(),
        shutdown: process.shutdown.clone(),
    });
    // The admin server outlives the drain: probes and scrapes are answered to the very end.
    let (_admin_signal, admin_drain) = crate::wire::drain::channel();
    let serve = move |connection, drain| admin::serve_connection(admin.clone(), connection, drain);
    let accept = listen::accept_loop(
        runtime.clone(),
        listeners.admin,
        admin_drain,
        "admin-connection",
        serve,
    );
    let _admin = runtime.spawn_guarded("admin-listener", accept);
    let taps = Taps::new(&runtime, config.tap.as_ref());
    let (_tap_signal, _tap) = serve_taps(&runtime, &config, listeners.tap, &credentials, &taps);
    let _sweep = runtime.spawn_guarded("sweep-metrics", sweep(runtime.clone(), telemetry.clone()));

    let _identity = start_identity(&runtime, &config, &credentials, &telemetry).await?;
    // Linkerd's proxy listens at once and serves once it is certified.
    tokio::select! {
        biased;
        () = drain.draining() => return Ok(()),
        () = credentials.ready() => {}
    }
    let (tracer, exporter) = match &config.tracing {
        Some(config) => Some(spans::open(&runtime, config, &credentials, &telemetry).await).unzip(),
        None => (None, None),
    };
    let export = exporter.clone().map(spans::Exporter::run);
    let _export = export.map(|export| runtime.spawn_guarded("export-spans", export));
    let (signal, inner_drain) = crate::wire::drain::channel();
    let bulk = Bulk::default();
    let parts = Parts {
        runtime: &runtime,
        config: &config,
        credentials,
        telemetry,
        bulk,
        taps,
        tracer,
        process,
    };
    parts.start(listeners.outbound, listeners.inbound, inner_drain);
    tracing::info!("ready");
    drain.draining().await;
    finish(&runtime, &signal, config.shutdown_grace_period).await;
    if let Some(exporter) = exporter {
        // The last spans are those that tell of the end.
        let _ = runtime.timeout(LAST_EXPORT_TIMEOUT, exporter.send_waiting(true)).await;
    }
    Ok(())
}

/// Serves taps, as long as what is given is kept. As of the admin server, a drain does not wait for
/// them: they show it.
fn serve_taps(
    runtime: &Runtime,
    config: &Config,
    listener: Option<Box<dyn Listener>>,
    credentials: &Credentials,
    taps: &Arc<Taps>,
) -> (DrainSignal, Option<TaskGuard>) {
    let (signal, drain) = crate::wire::drain::channel();
    let guard = listener.zip(config.tap.as_ref()).map(|(listener, tap)| {
        let server = Arc::new(tap::Server {
            runtime: runtime.clone(),
            credentials: credentials.clone(),
            client: tap.client.clone(),
            taps: taps.clone(),
        });
        let serve =
            move |connection, drain| tap::serve_connection(server.clone(), connection, drain);
        let accept = listen::accept_loop(runtime.clone(), listener, drain, "tap-connection", serve);
        runtime.spawn_guarded("tap-listener", accept)
    });
    (signal, guard)
}

/// For the last spans to reach their collector.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Lets what is in flight finish, for as long as the grace period lasts.
async fn finish(runtime: &Runtime, signal: &DrainSignal, grace: Duration) {
    let grace = if planted!("drain-not-awaited") { Duration::ZERO } else { grace };
    tracing::info!(?grace, "draining");
    signal.start();
    match runtime.timeout(grace, signal.drained()).await {
        Ok(()) => tracing::info!("drained"),
        Err(_) => {
            mark!("drain-deadline-hit");
            tracing::warn!(?grace, "grace period over; what was in flight is cut off");
        }
    }
}

/// Forgets label sets that nobody holds, whether or not anybody scrapes.
async fn sweep(runtime: Runtime, telemetry: Arc<Telemetry>) {
    loop {
        runtime.sleep(Duration::from_secs(60)).await;
        telemetry.sweep(runtime.now());
    }
}

async fn start_identity(
    runtime: &Runtime,
    config: &Config,
    credentials: &Credentials,
    telemetry: &Arc<Telemetry>,
) -> Result<Vec<TaskGuard>, ProxyError> {
    let identity = &config.identity;
    identity::load_trust_anchors(runtime, &identity.trust_anchors, credentials).await?;
    let request = identity::request(runtime, identity).await?;
    let address = identity.service.clone();
    // Identity knows us by our token. Were our certificate shown, one that has run out would be
    // refused, and no other could be had.
    let withheld = credentials.withheld();
    let client = control_talk::client(runtime, "identity", address, &withheld, telemetry);
    let renew = identity::renew(
        runtime.clone(),
        identity.clone(),
        request,
        client,
        credentials.clone(),
        telemetry.clone(),
    );
    let mut tasks = vec![runtime.spawn_guarded("renew-certificate", renew)];
    if let TrustAnchors::File(file) = &identity.trust_anchors {
        let follow =
            identity::follow_trust_anchors(runtime.clone(), file.clone(), credentials.clone());
        tasks.push(runtime.spawn_guarded("follow-trust-anchors", follow));
    }
    Ok(tasks)
}

/// What both directions are made of.
struct Parts<'a> {
    runtime: &'a Runtime,
    config: &'a Config,
    credentials: Credentials,
    telemetry: Arc<Telemetry>,
    bulk: Bulk,
    taps: Arc<Taps>,
    tracer: Option<Arc<spans::Tracer>>,
    process: Process,
}

type OutboundListeners = Vec<(Box<dyn Listener>, config::OutboundDestination)>;
type InboundListeners = Vec<(Box<dyn Listener>, Option<SocketAddr>)>;

impl Parts<'_> {
    fn start(self, outbound: OutboundListeners, inbound: InboundListeners, drain: DrainWatch) {
        let client = |service, address| {
            control_talk::client(self.runtime, service, address, &self.credentials, &self.telemetry)
        };
        let discovery = &self.config.discovery;
        let clients = Clients::new(
            self.runtime,
            client("destination", discovery.destination.clone()),
            client("policy", discovery.policy.clone()),
            discovery.clone(),
        );
        // Each direction may lead to the other, but not to itself; nor out to where connections
        // are redirected to on their way in.
        let own_ips = self.config.inbound.as_ref().map_or(&[][..], |inbound| &inbound.own_ips);
        let redirected = inbound.iter().filter(|(_, forward)| forward.is_none());
        let out = outbound.iter().map(|(listener, _)| listener.local_addr());
        let out = out.chain(redirected.map(|(listener, _)| listener.local_addr()));
        let out = Arc::new(OwnListeners::new(out, own_ips));
        let within = inbound.iter().map(|(listener, _)| listener.local_addr());
        let within = Arc::new(OwnListeners::new(within, own_ips));
        if let Some(config) = &self.config.outbound {
            let shared = self.outbound(config, clients.clone(), &out);
            // As of the telemetry.
            let _ = self.process.endpoints.set(KnownEndpoints(Arc::downgrade(&shared)));
            for (listener, how) in outbound {
                let shared = shared.clone();
                let serve = move |connection, drain| {
                    outbound::serve_connection(shared.clone(), connection, how.clone(), drain)
                };
                self.accept("outbound-listener", "outbound-connection", listener, &drain, serve);
            }
        }
        if let Some(config) = &self.config.inbound {
            let shared = self.inbound(config, clients, &within);
            for (listener, forward) in inbound {
                let shared = shared.clone();
                let serve = move |connection, drain| {
                    inbound::serve_connection(shared.clone(), connection, forward, drain)
                };
                self.accept("inbound-listener", "inbound-connection", listener, &drain, serve);
            }
        }
    }

    fn accept<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        connection: &'static str,
        listener: Box<dyn Listener>,
        drain: &DrainWatch,
        serve: impl Fn(crate::runtime::Connection, DrainWatch) -> F + Send + Sync + 'static,
    ) {
        let runtime = self.runtime.clone();
        let accept = listen::accept_loop(runtime, listener, drain.clone(), connection, serve);
        self.runtime.spawn(name, accept);
    }

    fn outbound(
        &self,
        config: &config::Outbound,
        clients: Clients,
        own: &Arc<OwnListeners>,
    ) -> Arc<outbound::Outbound> {
        let own_ips = self.config.inbound.as_ref().map_or(&[][..], |inbound| &inbound.own_ips);
        let connector =
            Connector::new(self.runtime, &self.credentials, config.connect, own_ips, own);
        Arc::new(outbound::Outbound {
            runtime: self.runtime.clone(),
            destinations: discover::outbound::Destinations::new(
                self.runtime,
                clients.clone(),
                config,
                &self.telemetry,
            ),
            backends: backend::Backends::new(
                self.runtime,
                clients,
                connector,
                config,
                &self.telemetry,
            ),
            telemetry: self.telemetry.clone(),
            tracer: self.tracer.clone(),
            bulk: self.bulk.clone(),
            taps: self.taps.clone(),
            config: config.clone(),
            in_flight: Default::default(),
        })
    }

    fn inbound(
        &self,
        config: &config::Inbound,
        clients: Clients,
        own: &Arc<OwnListeners>,
    ) -> Arc<inbound::Inbound> {
        let common = Common {
            runtime: self.runtime.clone(),
            connector: Connector::new(self.runtime, &self.credentials, config.connect, &[], own),
            backoff: config.connect.backoff,
            http1_idle_timeout: config.http1_idle_timeout,
            http1_idle_max: config.http1_idle_max,
            changed: Default::default(),
            health: Default::default(),
            accrual: None,
        };
        let access_log = self
            .config
            .access_log
            .zip(self.process.access_log.clone())
            .map(|(format, sink)| AccessLog::new(format, sink));
        Arc::new(inbound::Inbound {
            runtime: self.runtime.clone(),
            ports: discover::inbound::Ports::new(self.runtime, clients, config, &self.telemetry),
            credentials: self.credentials.clone(),
            applications: inbound::Applications::new(
                common,
                &self.telemetry,
                config.discovery_idle_timeout,
            ),
            own_listeners: own.clone(),
            telemetry: self.telemetry.clone(),
            tracer: self.tracer.clone(),
            bulk: self.bulk.clone(),
            taps: self.taps.clone(),
            limits: Default::default(),
            access_log,
            config: config.clone(),
            in_flight: Default::default(),
        })
    }
}

/// Every listener, opened before anything else so that a taken port is told at once.
struct Listeners {
    outbound: OutboundListeners,
    inbound: InboundListeners,
    admin: Box<dyn Listener>,
    tap: Option<Box<dyn Listener>>,
}

impl Listeners {
    async fn open(runtime: &Runtime, config: &Config) -> Result<Self, ProxyError> {
        let open = async |what, address, options| {
            let listening = runtime.net.listen(address, options).await;
            listening.map_err(|error| ProxyError::Listen { address, what, error })
        };
        let mut outbound = Vec::new();
        for config in config.outbound.iter() {
            for listener in &config.listeners {
                let transparent = listener.destination == config::OutboundDestination::Original;
                let options = ListenOptions { transparent, ..config.accept };
                let opened = open("outbound", listener.at, options).await?;
                outbound.push((opened, listener.destination.clone()));
            }
        }
        let mut inbound = Vec::new();
        for config in config.inbound.iter() {
            for listener in &config.listeners {
                let transparent = listener.forward.is_none();
                let options = ListenOptions { transparent, ..config.accept };
                let opened = open("inbound", listener.at, options).await?;
                inbound.push((opened, listener.forward));
            }
        }
        let admin = open("admin", config.admin.listen, ListenOptions::default()).await?;
        let tap = match &config.tap {
            Some(tap) => Some(open("tap", tap.listen, ListenOptions::default()).await?),
            None => None,
        };
        Ok(Self { outbound, inbound, admin, tap })
    }
}
