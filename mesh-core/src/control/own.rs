//! The control plane's own certificate: issued by its own authority, renewed before it ends, and
//! replaced when the authority's files change.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::model::identity::{DnsName, Identity, ServerTls};
use crate::runtime::crypto::KeyPair;
use crate::runtime::{BoxStream, Runtime};
use crate::wire::tls::credentials::{Credentials, CredentialsError};

use super::ControlError;
use super::config::{IdentityConfig, MeshConfig, MountedIdentity};
use super::identity::IdentityIssuer;
use super::metrics::ControlMetrics;

/// The service accounts that Linkerd's control plane runs as. Proxies are told one of them for each
/// service; this control plane answers to each on every port.
const ACCOUNTS: [&str; 3] = ["linkerd-destination", "linkerd-policy", "linkerd-identity"];

/// At least this often the authority's files are read again and the certificate is renewed.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The credentials that the control plane serves with, kept good by [`OwnCertificate::keep`].
pub(super) struct OwnCertificate {
    pub(super) credentials: Credentials,
    names: Vec<DnsName>,
    key: Arc<dyn KeyPair>,
    issuer: IdentityIssuer,
    /// Of the authority's files, since before they were read.
    changes: Vec<BoxStream<()>>,
}

/// Changes of the files that an authority is read from.
pub(super) fn changes(runtime: &Runtime, config: &IdentityConfig) -> Vec<BoxStream<()>> {
    let IdentityConfig { state_directory, mounted, .. } = config;
    match mounted {
        None => vec![runtime.files.watch(state_directory)],
        Some(MountedIdentity { issuer_directory, trust_roots }) => {
            [issuer_directory, trust_roots].map(|path| runtime.files.watch(path)).into()
        }
    }
}

impl OwnCertificate {
    /// `changes` must have been opened before `issuer` was.
    pub(super) fn new(
        runtime: &Runtime,
        issuer: IdentityIssuer,
        changes: Vec<BoxStream<()>>,
    ) -> Result<Self, ControlError> {
        let names = names(issuer.mesh())?;
        let server_name = names.first().cloned().expect("ACCOUNTS is not empty");
        let local = ServerTls { identity: Identity::Dns(server_name.clone()), server_name };
        let own = Self {
            credentials: Credentials::new(runtime, local),
            names,
            key: runtime.crypto.generate_key().map_err(ControlError::Key)?,
            issuer,
            changes,
        };
        own.renew()?;
        Ok(own)
    }

    fn renew(&self) -> Result<(), ControlError> {
        let authority = self.issuer.authority();
        let leaf = self.issuer.issue_own(self.key.public_key(), &self.names);
        let leaf = leaf.map_err(ControlError::Certificate)?;
        let set = || -> Result<(), CredentialsError> {
            self.credentials.set_roots(authority.anchors_pem().as_bytes())?;
            let key = self.key.clone();
            self.credentials.set_certificate(leaf.leaf_der, leaf.intermediates_der, key)
        };
        set().map_err(ControlError::Credentials)
    }

    /// Follows the authority's files and renews the certificate. Does not end.
    pub(super) async fn keep(
        mut self,
        runtime: Runtime,
        config: IdentityConfig,
        metrics: Arc<ControlMetrics>,
    ) {
        let interval = (config.certificate_lifetime / 2).min(CHECK_INTERVAL_MAX);
        let mut wait = interval;
        loop {
            tokio::select! {
                biased;
                () = poll_fn(|context| poll_changes(&mut self.changes, context)) => {}
                () = runtime.sleep(wait) => {}
            }
            let reloaded = self.issuer.reload().await.map_err(ControlError::State);
            wait = match reloaded.and_then(|()| self.renew()) {
                Ok(()) => interval,
                Err(error) => {
                    mark!("own-certificate-kept");
                    metrics.reload_errors.increment();
                    tracing::error!(%error, "the certificates in force stay in force");
                    RETRY_INTERVAL
                }
            };
        }
    }
}

/// Ready where any of them has changed. One that ends tells no more.
fn poll_changes(changes: &mut Vec<BoxStream<()>>, context: &mut Context<'_>) -> Poll<()> {
    let mut has_changed = false;
    changes.retain_mut(|change| {
        loop {
            match change.as_mut().poll_next(context) {
                Poll::Ready(Some(())) => has_changed = true,
                Poll::Ready(None) => break false,
                Poll::Pending => break true,
            }
        }
    });
    if has_changed { Poll::Ready(()) } else { Poll::Pending }
}

fn names(mesh: &MeshConfig) -> Result<Vec<DnsName>, ControlError> {
    let name = |account: &&str| {
        let namespace = &mesh.control_namespace;
        match mesh.identity(namespace, account) {
            Ok(Identity::Dns(name)) => Ok(name),
            _ => Err(ControlError::Mesh(format!(
                "control namespace {namespace:?} and trust domain {:?} do not make DNS names",
                mesh.trust_domain
            ))),
        }
    };
    ACCOUNTS.iter().map(name).collect()
}
