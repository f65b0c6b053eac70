//! The door to cryptography: AWS-LC, for rustls and for the ECDSA P-256 keys of certificates.
//!
//! Law: TLS 1.3 only; key exchange prefers the post-quantum hybrid X25519MLKEM768.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use mesh_core::runtime::crypto::{Crypto, CryptoError, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};

/// AWS-LC.
#[derive(Debug)]
pub struct AwsLc {
    tls: Arc<CryptoProvider>,
}

impl AwsLc {
    /// The provider, with the mesh's algorithms in the mesh's order.
    #[allow(clippy::new_without_default)] // Not a plain value: it holds the process's provider.
    pub fn new() -> Self {
        let tls = CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
            ],
            ..default_provider()
        };
        Self { tls: Arc::new(tls) }
    }
}

impl Crypto for AwsLc {
    fn tls_provider(&self) -> Arc<CryptoProvider> {
        self.tls.clone()
    }

    fn generate_key(&self) -> Result<Arc<dyn KeyPair>, CryptoError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| CryptoError("the system made no ECDSA P-256 key".into()))?;
        Ok(Arc::new(P256Key::new(pair)?))
    }

    fn load_key(&self, pkcs8_der: &[u8]) -> Result<Arc<dyn KeyPair>, CryptoError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8_der)
            .map_err(|e| CryptoError(format!("not an ECDSA P-256 key in PKCS#8 DER: {e}")))?;
        Ok(Arc::new(P256Key::new(pair)?))
    }
}

/// A key pair, with both halves in the forms that certificates and files want.
struct P256Key {
    pair: EcdsaKeyPair,
    pkcs8_der: Vec<u8>,
}

impl P256Key {
    fn new(pair: EcdsaKeyPair) -> Result<Self, CryptoError> {
        let document = pair
            .to_pkcs8v1()
            .map_err(|_| CryptoError("the key cannot be written as PKCS#8".into()))?;
        Ok(Self { pair, pkcs8_der: document.as_ref().to_vec() })
    }
}

impl KeyPair for P256Key {
    fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8_der
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let signature = self
            .pair
            .sign(&SystemRandom::new(), message)
            .map_err(|_| CryptoError("signing failed for want of randomness".into()))?;
        Ok(signature.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    use rustls::NamedGroup;

    use super::*;

    #[test]
    fn key_exchange_prefers_post_quantum_then_linkerds_order() {
        let groups: Vec<_> =
            AwsLc::new().tls_provider().kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(
            groups,
            [
                NamedGroup::X25519MLKEM768,
                NamedGroup::X25519,
                NamedGroup::secp256r1,
                NamedGroup::secp384r1
            ]
        );
    }

    #[test]
    fn a_key_signs_alike_after_it_was_stored_and_loaded() {
        let crypto = AwsLc::new();
        let made = crypto.generate_key().unwrap();
        let loaded = crypto.load_key(made.pkcs8_der()).unwrap();
        assert_eq!(made.public_key(), loaded.public_key());
        assert_eq!((made.public_key().len(), made.public_key()[0]), (65, 4));

        let signature = loaded.sign(b"message").unwrap();
        let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, made.public_key());
        verifier.verify(b"message", &signature).unwrap();
        assert!(verifier.verify(b"another", &signature).is_err());
    }

    #[test]
    fn what_is_not_a_p256_key_is_refused() {
        assert!(AwsLc::new().load_key(b"not a key").is_err());
    }
}
