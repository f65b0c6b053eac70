//! Certificate signing requests, and the crypto door's keys as rcgen wants them.

use std::fmt;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, SanType};

use crate::model::identity::Identity;
use crate::runtime::crypto::KeyPair;

/// A key of the crypto door as rcgen's: for requests here, for the CA in the control plane.
#[derive(Clone)]
pub struct RcgenKey(pub Arc<dyn KeyPair>);

impl rcgen::PublicKeyData for RcgenKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for RcgenKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

impl fmt::Debug for RcgenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request for a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("no certificate signing request: {0}")]
pub struct CsrError(String);

/// A PKCS#10 request in DER with exactly one subject alternative name, the identity, and an empty
/// subject, as Linkerd's identity service demands.
///
/// # Errors
/// [`CsrError`] where the key does not sign.
pub fn csr_der(key: &Arc<dyn KeyPair>, identity: &Identity) -> Result<Vec<u8>, CsrError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![san(identity)?];
    let request = params
        .serialize_request(&RcgenKey(key.clone()))
        .map_err(|error| CsrError(error.to_string()))?;
    Ok(request.der().to_vec())
}

/// An identity as rcgen's subject alternative name.
///
/// # Errors
/// [`CsrError`] where it is not ASCII, which no [`Identity`] is.
pub fn san(identity: &Identity) -> Result<SanType, CsrError> {
    let text =
        identity.as_str().try_into().map_err(|error: rcgen::Error| CsrError(error.to_string()))?;
    Ok(match identity {
        Identity::Dns(_) => SanType::DnsName(text),
        Identity::Uri(_) => SanType::URI(text),
    })
}
