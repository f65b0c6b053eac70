//! The keys of an installation: a trust anchor and an issuer below it, made for it or given to it.
//!
//! Law: what does not belong together, or is over, never becomes an installation's.

use std::time::Duration;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::runtime::crypto::CryptoError;
use crate::runtime::{Crypto, Runtime};

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

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its subject: `CN=identity.linkerd.cluster.local`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Its number, in hexadecimal digits.
    pub serial: String,
    /// When it is valid.
    pub validity: Validity,
    /// Its DNS names.
    pub dns_names: Vec<String>,
    /// Its key is an ECDSA key of curve P-256, which proxies take.
    pub is_p256: bool,
    /// It may sign certificates.
    pub is_ca: bool,
}

/// The certificates of a PEM text, in order; none where one of them is broken.
pub fn read_certificates(pem: &str) -> Option<Vec<CertificateFacts>> {
    pem::certificates(pem.as_bytes())?.iter().map(|der| read_certificate(der)).collect()
}

/// A certificate in DER.
pub fn read_certificate(der: &[u8]) -> Option<CertificateFacts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let dns_names = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_string()),
        _ => None,
    });
    Some(CertificateFacts {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial: certificate.raw_serial_as_string(),
        validity: Validity {
            from: ca::wall_time(validity.not_before.timestamp()),
            until: ca::wall_time(validity.not_after.timestamp()),
        },
        dns_names: dns_names.collect(),
        // An uncompressed point of this curve, and of no other, has 65 bytes.
        is_p256: certificate.public_key().subject_public_key.data.len() == 65,
        is_ca: certificate.is_ca(),
    })
}

/// Whether the first certificate of a text is signed by one of the anchors, or by another of the
/// text's certificates that is.
pub fn is_anchored(crypto: &dyn Crypto, chain_pem: &str, anchors_pem: &str) -> bool {
    let chain = pem::certificates(chain_pem.as_bytes()).unwrap_or_default();
    let anchors = pem::certificates(anchors_pem.as_bytes()).unwrap_or_default();
    for (index, der) in chain.iter().enumerate() {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return false;
        };
        if anchors.iter().any(|anchor| ca::signs(crypto, anchor, &certificate)) {
            return true;
        }
        let next = chain.get(index + 1);
        if !next.is_some_and(|next| ca::signs(crypto, next, &certificate)) {
            return false;
        }
    }
    false
}
