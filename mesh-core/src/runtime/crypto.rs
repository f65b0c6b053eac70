//! The door to cryptography: what TLS and certificates need, and nothing else.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// TLS algorithms, and ECDSA P-256 keys for certificates and tokens.
pub trait Crypto: Send + Sync {
    /// What rustls computes with. Its key exchange groups are in order of preference.
    fn tls_provider(&self) -> Arc<CryptoProvider>;

    /// A new ECDSA P-256 key.
    ///
    /// # Errors
    /// [`CryptoError`] where the system gives no randomness.
    fn generate_key(&self) -> Result<Arc<dyn KeyPair>, CryptoError>;

    /// An ECDSA P-256 key from PKCS#8 (version 1 or 2) DER.
    ///
    /// # Errors
    /// [`CryptoError`] where it is not one.
    fn load_key(&self, pkcs8_der: &[u8]) -> Result<Arc<dyn KeyPair>, CryptoError>;
}

/// An ECDSA P-256 key pair. Prints nothing of the private half.
pub trait KeyPair: Send + Sync {
    /// The public key: an uncompressed SEC 1 point, 65 bytes.
    fn public_key(&self) -> &[u8];

    /// The private key as PKCS#8 DER. Never log it.
    fn pkcs8_der(&self) -> &[u8];

    /// The ECDSA signature of `message` under SHA-256, as ASN.1 DER.
    ///
    /// # Errors
    /// [`CryptoError`] where the system gives no randomness.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError>;
}

impl fmt::Debug for dyn KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(P-256)")
    }
}

/// Why a key could not be made, read or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CryptoError(pub String);
