//! The control plane: an index of the cluster, and what it compiles of it for proxies.
//!
//! A change travels one way: a watch event is applied to [`index`], the facts that changed find the
//! questions that depend on them ([`publish`]), [`policy`] and [`destination`] compile those again,
//! and what differs is sent. Beside it, [`identity`] issues certificates.

mod admin;
pub mod ca;
pub mod config;
pub mod csr;
pub mod destination;
mod follow;
pub mod identity;
pub mod index;
pub mod injector;
pub mod keys;
mod lease;
pub mod metrics;
mod names;
mod own;
mod pem;
pub mod policy;
mod protocol;
pub mod publish;
mod select;
mod serve;
mod signature;
pub mod state;
mod status;
mod streams;
#[cfg(test)]
mod testing;
pub mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::resource::Kind;
use crate::runtime::crypto::CryptoError;
use crate::runtime::net::ListenOptions;
use crate::runtime::{Listener, Runtime};
use crate::wire::drain::{self, DrainWatch};
use crate::wire::tls::credentials::CredentialsError;

use admin::Admin;
use ca::CaError;
use identity::IdentityIssuer;
use metrics::ControlMetrics;
use own::OwnCertificate;
use publish::Publisher;
use serve::Server;
use state::StateError;

pub use config::{ControlConfig, IdentityConfig, LeaseConfig, ListenConfig, MeshConfig};

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
    issuer: IdentityIssuer,
    own: OwnCertificate,
    metrics: Arc<ControlMetrics>,
}

struct Listeners {
    destination: Box<dyn Listener>,
    policy: Box<dyn Listener>,
    identity: Box<dyn Listener>,
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
        let ControlConfig { listen, mesh, identity, .. } = &config;
        let changes = runtime.files.watch(&identity.state_directory);
        let issuer = IdentityIssuer::open(&runtime, identity, mesh, metrics.clone())
            .await
            .map_err(ControlError::State)?;
        let own = OwnCertificate::new(&runtime, issuer.clone(), changes)?;
        let listeners = Listeners {
            destination: bind(&runtime, listen.destination).await?,
            policy: bind(&runtime, listen.policy).await?,
            identity: bind(&runtime, listen.identity).await?,
            admin: bind(&runtime, listen.admin).await?,
        };
        Ok(Self { runtime, config, listeners, issuer, own, metrics })
    }

    /// Where it listens, with the ports that port 0 became.
    pub fn addresses(&self) -> ListenConfig {
        ListenConfig {
            destination: self.listeners.destination.local_addr(),
            policy: self.listeners.policy.local_addr(),
            identity: self.listeners.identity.local_addr(),
            admin: self.listeners.admin.local_addr(),
        }
    }

    /// The trust anchors that proxies verify this mesh by, PEM.
    pub fn trust_anchors_pem(&self) -> String {
        self.issuer.authority().anchors_pem().to_string()
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<ControlMetrics> {
        self.metrics.clone()
    }

    /// Serves until `drain` begins, and then until connections have ended or ten seconds have
    /// passed.
    pub async fn serve(self, drain: DrainWatch) {
        let Self { runtime, config, listeners, issuer, own, metrics } = self;
        let publisher = Publisher::new(config.mesh, config.streams_max, metrics.clone());
        let (stop, stopping) = drain::channel();
        let server = Server::new(
            &runtime,
            own.credentials.clone(),
            publisher.clone(),
            issuer.clone(),
            config.streams_max,
            metrics.clone(),
        );
        let admin = Admin { publisher: publisher.clone(), issuer, metrics: metrics.clone() };
        for listener in [listeners.destination, listeners.policy, listeners.identity] {
            let accepting = server.clone().accept_loop(listener, stopping.clone());
            runtime.spawn("control accept", accepting);
        }
        let accepting = admin.accept_loop(runtime.clone(), listeners.admin, stopping.clone());
        runtime.spawn("control admin accept", accepting);

        let (changed, refreshed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut tasks = Vec::new();
        for kind in Kind::ALL {
            let (publisher, changed) = (publisher.clone(), changed.clone());
            let metrics = metrics.clone();
            let following =
                follow::follow_kind(runtime.clone(), *kind, publisher, changed, metrics);
            tasks.push(runtime.spawn_guarded("control watch", following));
        }
        let publishing = follow::publish_changes(
            runtime.clone(),
            publisher.clone(),
            changed,
            refreshed.clone(),
            config.coalesce,
            metrics.clone(),
        );
        tasks.push(runtime.spawn_guarded("control publish", publishing));
        let (told, leadership) = watch::channel(None);
        let standing =
            lease::lead::stand(runtime.clone(), config.lease, told, metrics.clone(), stopping);
        runtime.spawn("control lease", standing);
        let writing = status::write::write_statuses(
            runtime.clone(),
            publisher.clone(),
            leadership,
            refreshed,
            metrics.clone(),
        );
        tasks.push(runtime.spawn_guarded("control status", writing));
        let keeping = own.keep(runtime.clone(), config.identity, metrics);
        tasks.push(runtime.spawn_guarded("control certificate", keeping));

        drain.draining().await;
        // Streams never end by themselves: proxies that hold one go elsewhere, or come back.
        publisher.drain();
        stop.start();
        if runtime.timeout(DRAIN_GRACE, stop.drained()).await.is_err() {
            mark!("control-drain-deadline-hit");
            tracing::warn!("connections were still open when the control plane ended");
        }
    }
}

async fn bind(runtime: &Runtime, address: SocketAddr) -> Result<Box<dyn Listener>, ControlError> {
    let listener = runtime.net.listen(address, ListenOptions::default()).await;
    listener.map_err(|error| ControlError::Listen { address, error })
}

#[cfg(test)]
mod tests;
