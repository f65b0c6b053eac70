//! Issues workload certificates (`Identity.Certify`).
//!
//! Law: the token is authenticated before anything else of the request is parsed, and a certificate
//! carries exactly the name of the service account that the token is for.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};

use crate::api::identity::Certificate;
use crate::api::server::{Certifier, Refusal};
use crate::model::identity::{DnsName, Identity};
use crate::runtime::cluster::{ClusterError, Event};
use crate::runtime::crypto::KeyPair;
use crate::runtime::{BoxFuture, Runtime};

use super::ca::{Authority, CaError, IssuedLeaf, Validity};
use super::config::{IdentityConfig, MeshConfig};
use super::csr;
use super::metrics::ControlMetrics;
use super::mounted;
use super::recorder::Recorder;
use super::state::{self, StateError};
use super::token::{self, AUDIENCE, ServiceAccountName, TOKEN_BYTES_MAX, TokenError};

/// Who tells events, and the Deployment that its own are of.
const COMPONENT: &str = "linkerd-identity";

/// Checks tokens and requests, and signs.
#[derive(Clone)]
pub struct IdentityIssuer(Arc<Inner>);

struct Inner {
    runtime: Runtime,
    config: IdentityConfig,
    mesh: MeshConfig,
    authority: ArcSwap<Authority>,
    /// Where this control plane makes tokens of its own.
    token_key: Option<Arc<dyn KeyPair>>,
    /// Where the authority is mounted: in a cluster, which keeps events.
    recorder: Recorder,
    metrics: Arc<ControlMetrics>,
}

impl IdentityIssuer {
    /// Reads the files that are mounted; or else the state directory, which it fills on first start.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn open(
        runtime: &Runtime,
        config: &IdentityConfig,
        mesh: &MeshConfig,
        metrics: Arc<ControlMetrics>,
    ) -> Result<Self, StateError> {
        let authority = authority(runtime, config).await?;
        let token_key = match &config.mounted {
            None => Some(state::token_key(runtime, &config.state_directory).await?),
            Some(_) => None,
        };
        Ok(Self(Arc::new(Inner {
            runtime: runtime.clone(),
            config: config.clone(),
            mesh: mesh.clone(),
            authority: ArcSwap::from_pointee(authority),
            token_key,
            recorder: Recorder::new(runtime),
            metrics,
        })))
    }

    /// The mesh that identities are of.
    pub fn mesh(&self) -> &MeshConfig {
        &self.0.mesh
    }

    /// Reads the authority's files again. Where they are wrong, what was read before stays in force.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn reload(&self) -> Result<(), StateError> {
        let Inner { runtime, config, .. } = &*self.0;
        let read = authority(runtime, config).await;
        match &read {
            Ok(new) if new.issuer_der() != self.authority().issuer_der() => {
                mark!("issuer-replaced");
                let until = new.expires();
                tracing::info!(%until, "the issuer is another one");
                self.0.record_own(false, "IssuerUpdated", "Updated identity issuer".to_string());
            }
            Ok(_) => {}
            Err(error) => {
                let reason = "IssuerUpdateSkipped";
                self.0.record_own(true, reason, format!("Skipping issuer update: {error}"));
            }
        }
        self.0.authority.store(Arc::new(read?));
        Ok(())
    }

    /// The authority in force.
    pub fn authority(&self) -> Arc<Authority> {
        self.0.authority.load_full()
    }

    /// A certificate for the control plane itself.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn issue_own(&self, public_key: &[u8], names: &[DnsName]) -> Result<IssuedLeaf, CaError> {
        self.0.issue(public_key, names)
    }
}

async fn authority(runtime: &Runtime, config: &IdentityConfig) -> Result<Authority, StateError> {
    match &config.mounted {
        Some(mounted) => mounted::authority(runtime, mounted).await,
        None => state::authority(runtime, &config.state_directory).await,
    }
}

impl Certifier for IdentityIssuer {
    fn certify(
        &self,
        identity: String,
        token: Vec<u8>,
        csr_der: Vec<u8>,
    ) -> BoxFuture<'static, Result<Certificate, Refusal>> {
        let inner = self.0.clone();
        Box::pin(async move {
            let result = inner.certify(&identity, &token, &csr_der).await;
            match &result {
                Ok(certificate) => {
                    inner.metrics.certificates_issued.increment();
                    let until = certificate.valid_until;
                    tracing::info!(%identity, %until, "certificate issued");
                    inner.record_issued(&identity, certificate);
                }
                Err(refusal) => {
                    mark!("certificate-refused");
                    inner.metrics.certificates_refused.increment();
                    // The identity is the caller's claim: quoted, and cut to what a name may have.
                    let claimed: String = identity.chars().take(253).collect();
                    tracing::warn!(?claimed, %refusal, "certificate refused");
                }
            }
            result
        })
    }
}

impl Inner {
    async fn certify(
        &self,
        identity: &str,
        token: &[u8],
        csr_der: &[u8],
    ) -> Result<Certificate, Refusal> {
        let account = self.authenticate(token).await?;
        let name = self.name_of(&account)?;
        if !name.as_str().eq_ignore_ascii_case(identity) {
            return Err(Refusal::Denied(format!(
                "the token is for {name}, the request for another identity"
            )));
        }
        let public_key = csr::check(&*self.runtime.crypto, csr_der, &name)
            .map_err(|error| Refusal::InvalidArgument(format!("signing request: {error}")))?;
        let leaf = self
            .issue(&public_key, std::slice::from_ref(&name))
            .map_err(|error| Refusal::Unavailable(error.to_string()))?;
        Ok(Certificate {
            leaf_der: leaf.leaf_der,
            intermediates_der: leaf.intermediates_der,
            valid_until: leaf.valid_until,
        })
    }

    /// Whose token this is: one of this control plane's own, or else one that the cluster knows.
    async fn authenticate(&self, token: &[u8]) -> Result<ServiceAccountName, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Denied(TokenError::Malformed.to_string()));
        }
        let now = self.runtime.clock.wall();
        let denied = |reason: &dyn std::fmt::Display| Refusal::Denied(reason.to_string());
        let verified = match &self.token_key {
            Some(key) => token::verify(&*self.runtime.crypto, key.public_key(), token, now),
            None => Err(TokenError::Signature),
        };
        let foreign = match verified {
            Ok(account) => return Ok(account),
            Err(error @ (TokenError::Malformed | TokenError::Signature)) => error,
            // Ours, but not good: nobody else can vouch for it.
            Err(error) => return Err(denied(&error)),
        };
        let text = std::str::from_utf8(token).map_err(|_| denied(&foreign))?;
        let mut reviewed = self.runtime.cluster.review_token(text.trim(), AUDIENCE).await;
        if planted!("token-audience-unchecked") && reviewed.is_err() {
            let any = "https://kubernetes.default.svc.cluster.local";
            reviewed = self.runtime.cluster.review_token(text.trim(), any).await;
        }
        match reviewed {
            Ok(review) => ServiceAccountName::from_username(&review.username)
                .ok_or_else(|| denied(&TokenError::Subject)),
            Err(ClusterError::Unavailable(reason)) => Err(Refusal::Unavailable(reason)),
            Err(ClusterError::Denied(reason)) => Err(Refusal::Denied(reason)),
            // The source reviews no tokens.
            Err(_) => Err(denied(&foreign)),
        }
    }

    /// Has an event recorded on the control plane's own Deployment.
    fn record_own(&self, is_warning: bool, reason: &str, message: String) {
        self.recorder.record(Event {
            api_version: "apps/v1".to_string(),
            kind: "Deployment".to_string(),
            namespace: self.mesh.control_namespace.clone(),
            name: COMPONENT.to_string(),
            uid: None,
            is_warning,
            reason: reason.to_string(),
            message,
            component: COMPONENT.to_string(),
        });
    }

    /// Has an event recorded on the service account, as Linkerd's identity service does.
    fn record_issued(&self, identity: &str, certificate: &Certificate) {
        let mut parts = identity.split('.');
        let (Some(name), Some(namespace)) = (parts.next(), parts.next()) else { return };
        let hash = Sha256::digest(&certificate.leaf_der);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let until = certificate.valid_until;
        self.recorder.record(Event {
            api_version: "v1".to_string(),
            kind: "ServiceAccount".to_string(),
            namespace: namespace.to_string(),
            name: name.to_string(),
            uid: None,
            is_warning: false,
            reason: "IssuedLeafCertificate".to_string(),
            message: format!("issued certificate for {identity} until {until}: {hash}"),
            component: COMPONENT.to_string(),
        });
    }

    fn name_of(&self, account: &ServiceAccountName) -> Result<DnsName, Refusal> {
        match self.mesh.identity(&account.namespace, &account.name) {
            Ok(Identity::Dns(name)) => Ok(name),
            _ => Err(Refusal::Denied(format!("{account} has no identity"))),
        }
    }

    fn issue(&self, public_key: &[u8], names: &[DnsName]) -> Result<IssuedLeaf, CaError> {
        let IdentityConfig { certificate_lifetime, clock_skew, .. } = self.config;
        let validity = Validity::new(self.runtime.clock.wall(), certificate_lifetime, clock_skew);
        let authority = self.authority.load();
        authority.issue(&*self.runtime.entropy, public_key, names, validity)
    }
}

#[cfg(test)]
mod tests;
