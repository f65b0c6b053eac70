//! The keys of an installation: a trust anchor and an issuer below it, made for it or given to it.
//!
//! Law: what does not belong together, or is over, never becomes an installation's.

use std::time::Duration;

use crate::runtime::Runtime;
use crate::runtime::crypto::CryptoError;

use super::ca::{self, Authority, CaError, Validity};
use super::pem;

/// How long keys are valid that are made: as Linkerd's are.
pub const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const CLOCK_SKEW: Duration = Duration::from_secs(20);

/// A trust anchor's certificate, an issuer's and its key: PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct InstallationKeys {
    /// The trust anchors.
    pub anchors_pem: String,
    /// The issuer's certificate.
    pub issuer_pem: String,
    /// Its key. Never log it.
    pub key_pem: String,
}

/// Why there are no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// No key can be made.
    #[error("no key can be made: {0}")]
    Key(#[from] CryptoError),
    /// The certificates cannot be made, or do not belong together.
    #[error(transparent)]
    Authority(#[from] CaError),
}

impl InstallationKeys {
    /// New keys for a trust domain. The anchor's own key is forgotten: nothing else can be signed
    /// with it.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn make(runtime: &Runtime, trust_domain: &str) -> Result<Self, KeysError> {
        let entropy = &*runtime.entropy;
        let validity = Validity::new(runtime.clock.wall(), LIFETIME, CLOCK_SKEW);
        let anchor_key = runtime.crypto.generate_key()?;
        let anchors_pem = ca::make_anchor(
            entropy,
            &anchor_key,
            &format!("root.linkerd.{trust_domain}"),
            validity,
        )?;
        let key = runtime.crypto.generate_key()?;
        let issuer_pem = ca::make_issuer(
            entropy,
            (anchors_pem.as_bytes(), &anchor_key),
            &*key,
            &format!("identity.linkerd.{trust_domain}"),
            validity,
        )?;
        let key_pem = pem::encode("PRIVATE KEY", key.pkcs8_der());
        let keys = Self { anchors_pem, issuer_pem, key_pem };
        keys.check(runtime)?;
        Ok(keys)
    }

    /// Whether the three belong together and are still good.
    ///
    /// # Errors
    /// [`KeysError::Authority`].
    pub fn check(&self, runtime: &Runtime) -> Result<Authority, KeysError> {
        let (anchors, issuer) = (self.anchors_pem.as_bytes(), self.issuer_pem.as_bytes());
        let now = runtime.clock.wall();
        let key = self.key_pem.as_bytes();
        Ok(Authority::from_pem(&*runtime.crypto, anchors, issuer, key, now)?)
    }
}

/// Whether a text holds certificates in PEM, and nothing broken.
pub fn are_certificates(pem: &str) -> bool {
    pem::certificates(pem.as_bytes()).is_some()
}
