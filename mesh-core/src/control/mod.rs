//! The control plane: an index of the cluster, and what it compiles of it for proxies.
//!
//! A change travels one way: a watch event is applied to [`index`], the facts that changed find the
//! questions that depend on them ([`publish`]), [`policy`] and [`destination`] compile those again,
//! and what differs is sent. Beside it, [`identity`] issues certificates.

mod admin;
pub mod ca;
pub mod config;
pub mod console;
pub mod csr;
pub mod destination;
mod dial;
pub mod explain;
#[cfg(test)]
mod exported;
mod fetch;
mod follow;
pub mod identity;
pub mod index;
pub mod injector;
pub mod keys;
mod lease;
pub mod metrics;
mod mounted;
mod names;
mod own;
mod pem;
pub mod policy;
pub mod prometheus;
mod protocol;
pub mod public_api;
pub mod publish;
pub mod query;
mod recorder;
mod review;
pub mod scrape;
mod select;
pub mod series;
mod serve;
mod signature;
pub mod state;
mod status;
mod streams;
pub mod tap;
#[cfg(test)]
mod testing;
pub mod token;
pub mod viz;
pub mod webhook;
pub mod workload;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::resource::Kind;
use crate::runtime::crypto::CryptoError;
use crate::runtime::net::ListenOptions;
use crate::runtime::{Listener, Runtime, TaskGuard};
use crate::wire::drain::{self, DrainWatch};
use crate::wire::tls::credentials::CredentialsError;

use admin::Admin;
use ca::CaError;
use identity::IdentityIssuer;
use metrics::ControlMetrics;
use own::OwnCertificate;
use prometheus::Prometheus;
use public_api::statistics::{Source, Statistics};
use publish::Publisher;
use scrape::Scrapes;
use serve::Server;
use state::StateError;
use viz::Viz;
use webhook::Webhook;

pub use config::{
    ControlConfig, IdentityConfig, LeaseConfig, ListenConfig, MeshConfig, MountedIdentity, Roles,
};
pub use viz::VizConfig;
pub use webhook::WebhookConfig;

/// How long connections may take to end once a drain has begun.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// Why a control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A port cannot be listened on.
    #[error("cannot listen on {address}: {error}; is another control plane running?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The state directory is not good.
    #[error(transparent)]
    State(StateError),
    /// Names of the mesh are not good.
    #[error("{0}; use DNS labels")]
    Mesh(String),
    /// No key can be made.
    #[error("cannot make a key: {0}")]
    Key(CryptoError),
    /// The control plane cannot certify itself.
    #[error("cannot issue the control plane's own certificate: {0}")]
    Certificate(CaError),
    /// The control plane's own certificate cannot be used.
    #[error("cannot use the control plane's own certificate: {0}")]
    Credentials(CredentialsError),
}

/// Runs a control plane until `drain` begins, and then until its connections have ended or
/// ten seconds have passed.
///
/// # Errors
/// [`ControlError`] where it cannot start.
pub async fn run(
    runtime: Runtime,
    config: ControlConfig,
    drain: DrainWatch,
) -> Result<(), ControlError> {
    let controller = Controller::bind(runtime, config).await?;
    controller.serve(drain).await;
    Ok(())
}

/// A control plane that has its ports and certificates, and does not serve yet.
pub struct Controller {
    runtime: Runtime,
    config: ControlConfig,
    listeners: Listeners,
    /// Where it issues certificates: the authority, and its own certificate.
    identity: Option<(IdentityIssuer, OwnCertificate)>,
    metrics: Arc<ControlMetrics>,
}

/// Those of the roles that it has.
struct Listeners {
    destination: Option<Box<dyn Listener>>,
    policy: Option<Box<dyn Listener>>,
    identity: Option<Box<dyn Listener>>,
    webhook: Option<Box<dyn Listener>>,
    viz: Option<Box<dyn Listener>>,
    admin: Box<dyn Listener>,
}

impl Controller {
    /// Reads or makes the certificate authority and listens. Connections wait until
    /// [`Controller::serve`].
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn bind(runtime: Runtime, config: ControlConfig) -> Result<Self, ControlError> {
        let metrics = Arc::new(ControlMetrics::default());
        let ControlConfig { listen, serve, mesh, identity, .. } = &config;
        let issuing = match serve.identity {
            true => {
                let changes = own::changes(&runtime, identity);
                let issuer = IdentityIssuer::open(&runtime, identity, mesh, metrics.clone())
                    .await
                    .map_err(ControlError::State)?;
                let own = OwnCertificate::new(&runtime, issuer.clone(), changes)?;
                Some((issuer, own))
            }
            false => None,
        };
        let listeners = Listeners {
            destination: bind_if(serve.destination, &runtime, listen.destination).await?,
            policy: bind_if(serve.destination, &runtime, listen.policy).await?,
            identity: bind_if(serve.identity, &runtime, listen.identity).await?,
            webhook: match &config.webhook {
                Some(webhook) => Some(bind(&runtime, webhook.listen).await?),
                None => None,
            },
            viz: match &config.viz {
                Some(viz) => Some(bind(&runtime, viz.listen).await?),
                None => None,
            },
            admin: bind(&runtime, listen.admin).await?,
        };
        // Wrong names are told before anything is served.
        if let Some(webhook) = &config.webhook {
            webhook.names(mesh)?;
        }
        Ok(Self { runtime, config, listeners, identity: issuing, metrics })
    }

    /// Where it listens, with the ports that port 0 became; what was configured, where it does not.
    pub fn addresses(&self) -> ListenConfig {
        let ListenConfig { destination, policy, identity, .. } = self.config.listen;
        let of = |listener: &Option<Box<dyn Listener>>, configured| {
            listener.as_ref().map_or(configured, |listener| listener.local_addr())
        };
        ListenConfig {
            destination: of(&self.listeners.destination, destination),
            policy: of(&self.listeners.policy, policy),
            identity: of(&self.listeners.identity, identity),
            admin: self.listeners.admin.local_addr(),
        }
    }

    /// The trust anchors that proxies verify this mesh by, PEM; none where it issues no
    /// certificates.
    pub fn trust_anchors_pem(&self) -> Option<String> {
        let (issuer, _) = self.identity.as_ref()?;
        Some(issuer.authority().anchors_pem().to_string())
    }

    /// Where it answers people, with the port that port 0 became; none where it does not.
    pub fn viz_address(&self) -> Option<SocketAddr> {
        self.listeners.viz.as_ref().map(|listener| listener.local_addr())
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<ControlMetrics> {
        self.metrics.clone()
    }

    /// Serves until `drain` begins, and then until connections have ended or ten seconds have
    /// passed.
    pub async fn serve(self, drain: DrainWatch) {
        let Self { runtime, config, listeners, identity, metrics } = self;
        let (issuer, own) = identity.unzip();
        let (stop, stopping) = drain::channel();
        let mut tasks = Vec::new();
        let publisher = config
            .serve
            .destination
            .then(|| Publisher::new(config.mesh.clone(), config.streams_max, metrics.clone()));
        let reader = publisher.clone().or_else(|| {
            let kinds = match (&config.viz, &config.webhook) {
                (Some(_), _) => Kind::ALL,
                (None, Some(_)) => &webhook::INJECTOR_KINDS,
                (None, None) => return None,
            };
            let publisher = Publisher::new(config.mesh.clone(), 0, metrics.clone());
            tasks.extend(read_cluster(&runtime, kinds, &publisher, config.coalesce, &metrics));
            Some(publisher)
        });
        let webhook = config.webhook.as_ref().zip(reader.clone());
        let webhook = webhook.and_then(|(webhook, publisher)| {
            // Its names were good when it was bound.
            Webhook::new(&runtime, webhook, &config.mesh, publisher, metrics.clone()).ok()
        });
        let viz = config.viz.as_ref().zip(reader.clone()).map(|(viz, publisher)| {
            let source = match &viz.prometheus {
                Some(url) => Source::Prometheus(Prometheus::new(&runtime, url.clone())),
                None => {
                    let scrapes = Scrapes::new(viz.scrape);
                    let scraping = scrapes.clone().run(runtime.clone(), publisher.clone());
                    tasks.push(runtime.spawn_guarded("scrape", scraping));
                    Source::Embedded(scrapes)
                }
            };
            let parts = viz::Parts {
                runtime: runtime.clone(),
                mesh: config.mesh.clone(),
                statistics: Statistics::new(&runtime, publisher.clone(), source),
                publisher,
                credentials: own.as_ref().map(|own| own.credentials.clone()),
                issuer: issuer.clone(),
                metrics: metrics.clone(),
                taps: tap::Taps::default(),
                drain: stopping.clone(),
            };
            Viz::new(viz, parts)
        });
        let server = Server::new(
            &runtime,
            own.as_ref().map(|own| own.credentials.clone()),
            publisher.clone(),
            issuer.clone(),
            config.streams_max,
            metrics.clone(),
        );
        let admin = Admin {
            publisher: publisher.clone(),
            issuer,
            webhook: webhook.clone(),
            clock: runtime.clock.clone(),
            metrics: metrics.clone(),
        };
        let Listeners {
            destination,
            policy,
            identity,
            webhook: hooked,
            viz: viewed,
            admin: admin_at,
        } = listeners;
        if let Some(server) = server {
            for listener in [destination, policy, identity].into_iter().flatten() {
                let accepting = server.clone().accept_loop(listener, stopping.clone());
                runtime.spawn("control accept", accepting);
            }
        }
        let accepting = admin.accept_loop(runtime.clone(), admin_at, stopping.clone());
        runtime.spawn("control admin accept", accepting);
        if let (Some(webhook), Some(listener)) = (webhook, hooked) {
            runtime.spawn("webhook accept", webhook.serve(listener, stopping.clone()));
        }
        if let (Some(viz), Some(listener)) = (viz, viewed) {
            runtime.spawn("viz accept", viz.serve(listener));
        }
        match &publisher {
            Some(publisher) => {
                let ControlConfig { lease, coalesce, .. } = config;
                let following =
                    follow_cluster(&runtime, publisher, lease, coalesce, &metrics, stopping);
                tasks.extend(following);
            }
            // A watch that is kept is waited for.
            None => drop(stopping),
        }
        if let Some(own) = own {
            let keeping = own.keep(runtime.clone(), config.identity, metrics);
            tasks.push(runtime.spawn_guarded("control certificate", keeping));
        }

        drain.draining().await;
        // Streams never end by themselves: proxies that hold one go elsewhere, or come back.
        if let Some(publisher) = publisher {
            publisher.drain();
        }
        stop.start();
        if runtime.timeout(DRAIN_GRACE, stop.drained()).await.is_err() {
            mark!("control-drain-deadline-hit");
            tracing::warn!("connections were still open when the control plane ended");
        }
    }
}

/// Follows the cluster, publishes what changes, and writes statuses while it holds the lease.
fn follow_cluster(
    runtime: &Runtime,
    publisher: &Publisher,
    lease: LeaseConfig,
    coalesce: Duration,
    metrics: &Arc<ControlMetrics>,
    stopping: DrainWatch,
) -> Vec<TaskGuard> {
    let (changed, refreshed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut tasks = Vec::new();
    for kind in Kind::ALL {
        let following = follow_kind(runtime, *kind, publisher, &changed, metrics);
        tasks.push(following);
    }
    let publishing = follow::publish_changes(
        runtime.clone(),
        publisher.clone(),
        changed,
        refreshed.clone(),
        coalesce,
        metrics.clone(),
    );
    tasks.push(runtime.spawn_guarded("control publish", publishing));
    let (told, leadership) = watch::channel(None);
    let standing = lease::lead::stand(runtime.clone(), lease, told, metrics.clone(), stopping);
    runtime.spawn("control lease", standing);
    let writing = status::write::write_statuses(
        runtime.clone(),
        publisher.clone(),
        leadership,
        refreshed,
        metrics.clone(),
    );
    tasks.push(runtime.spawn_guarded("control status", writing));
    tasks
}

fn follow_kind(
    runtime: &Runtime,
    kind: Kind,
    publisher: &Publisher,
    changed: &Arc<Notify>,
    metrics: &Arc<ControlMetrics>,
) -> TaskGuard {
    let (publisher, changed) = (publisher.clone(), changed.clone());
    let following = follow::follow_kind(runtime.clone(), kind, publisher, changed, metrics.clone());
    runtime.spawn_guarded("control watch", following)
}

/// Follows some kinds for an index that is only read.
fn read_cluster(
    runtime: &Runtime,
    kinds: &[Kind],
    publisher: &Publisher,
    coalesce: Duration,
    metrics: &Arc<ControlMetrics>,
) -> Vec<TaskGuard> {
    let (changed, refreshed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let follow = |kind: &Kind| follow_kind(runtime, *kind, publisher, &changed, metrics);
    let mut tasks: Vec<_> = kinds.iter().map(follow).collect();
    // Nobody asks for what changed; it must be forgotten all the same.
    let publishing = follow::publish_changes(
        runtime.clone(),
        publisher.clone(),
        changed.clone(),
        refreshed,
        coalesce,
        metrics.clone(),
    );
    tasks.push(runtime.spawn_guarded("control publish", publishing));
    tasks
}

async fn bind_if(
    wanted: bool,
    runtime: &Runtime,
    address: SocketAddr,
) -> Result<Option<Box<dyn Listener>>, ControlError> {
    match wanted {
        true => bind(runtime, address).await.map(Some),
        false => Ok(None),
    }
}

async fn bind(runtime: &Runtime, address: SocketAddr) -> Result<Box<dyn Listener>, ControlError> {
    let listener = runtime.net.listen(address, ListenOptions::default()).await;
    listener.map_err(|error| ControlError::Listen { address, error })
}

#[cfg(test)]
mod tests;
