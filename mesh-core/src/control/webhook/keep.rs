//! Keeps a webhook's certificate good: carries out what `certificate` decides, through the cluster.
//!
//! Law: API servers are told to trust a certificate before it is served, and its replicas serve the
//! one that the Secret holds.

use std::sync::Arc;
use std::time::Duration;

use crate::model::identity::DnsName;
use crate::runtime::Runtime;
use crate::runtime::cluster::{ClusterError, WebhookKind};
use crate::wire::tls::credentials::{Credentials, CredentialsError};

use super::certificate::{self, Decision, Kept, MakeError};
use crate::control::metrics::ControlMetrics;

/// Between two looks at the Secret and the configurations, which others may write.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// After something failed, such as a write that somebody else won.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long API servers may take to hear of a new authority.
const SETTLE: Duration = Duration::from_secs(5);

/// Keeps one process's certificate.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) runtime: Runtime,
    pub(super) credentials: Credentials,
    /// The Secret's.
    pub(super) namespace: String,
    pub(super) secret: String,
    pub(super) configurations: Vec<(WebhookKind, String)>,
    pub(super) names: Vec<DnsName>,
    pub(super) metrics: Arc<ControlMetrics>,
}

#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("secret {0}")]
    Secret(ClusterError),
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl Keeper {
    /// Does not end.
    pub(super) async fn keep(self) {
        let mut served = None;
        loop {
            let wait = match self.check(&mut served).await {
                Ok(()) => CHECK_INTERVAL,
                // Another replica was faster: what it wrote is read next.
                Err(KeepError::Secret(ClusterError::Conflict(_))) => RETRY_INTERVAL,
                Err(error) => {
                    self.metrics.reload_errors.increment();
                    let secret = &self.secret;
                    tracing::error!(%error, secret, "the webhook's certificate stays as it is");
                    CHECK_INTERVAL
                }
            };
            self.runtime.sleep(wait).await;
        }
    }

    async fn check(&self, served: &mut Option<Vec<u8>>) -> Result<(), KeepError> {
        let Runtime { cluster, crypto, clock, entropy, .. } = &self.runtime;
        let secret = cluster.secret(&self.namespace, &self.secret).await;
        let mut secret = secret.map_err(KeepError::Secret)?;
        let decide = |secret: Option<&_>| {
            let served = served.as_deref();
            certificate::decide(&**crypto, secret, served, &self.names, clock.wall())
        };
        let mut decision = decide(secret.as_ref());
        if let Decision::Renew { why, former } = &decision {
            let (names, instead) = (&self.names, secret.as_ref());
            let (crypto, entropy, now) = (&**crypto, &**entropy, clock.wall());
            let made = certificate::make(crypto, entropy, names, former, instead, now)?;
            let written = cluster.write_secret(&self.namespace, &self.secret, made).await;
            secret = Some(written.map_err(KeepError::Secret)?);
            tracing::info!(why, secret = self.secret, "new certificate for the webhook");
            decision = decide(secret.as_ref());
        }
        let kept = match decision {
            Decision::Keep(kept) | Decision::Adopt(kept) => kept,
            // What was just made is good, unless somebody changed it on its way.
            Decision::Renew { why, .. } => {
                return Err(KeepError::Secret(ClusterError::Invalid(why.to_string())));
            }
        };
        self.tell(&kept).await;
        if served.as_deref() == Some(&kept.leaf_der) {
            return Ok(());
        }
        if served.is_some() {
            self.runtime.sleep(SETTLE).await;
        }
        self.credentials.set_roots(kept.bundle_pem.as_bytes())?;
        self.credentials.set_certificate(kept.leaf_der.clone(), Vec::new(), kept.key)?;
        *served = Some(kept.leaf_der);
        Ok(())
    }

    /// Has API servers trust what is served. A configuration may be made, or made again, at any time.
    async fn tell(&self, kept: &Kept) {
        for (kind, name) in &self.configurations {
            let written = self.runtime.cluster.write_ca_bundle(*kind, name, &kept.bundle_pem).await;
            match written {
                Ok(()) => {}
                Err(ClusterError::NotFound(reason)) => {
                    tracing::debug!(name, reason, "no such webhook configuration yet");
                }
                Err(error) => tracing::warn!(name, %error, "its caBundle stays as it is"),
            }
        }
    }
}
