//! Cryptography that is a function of the seed: real algorithms, whose every random input is drawn
//! from a host's own stream.
//!
//! Ciphers, hashes and verification are aws-lc's. Replaced are the three places where it would draw
//! from the system: randomness (seeded), key exchange (x25519-dalek with seeded secrets) and
//! signatures (p256 with the nonces of RFC 6979). Not fit for anything but simulation.

use std::fmt;
use std::sync::{Arc, Mutex};

use p256::ecdsa::Signature;
use p256::ecdsa::signature::Signer as _;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, SharedSecret,
    SupportedKxGroup,
};
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, NamedGroup, PeerMisbehaved, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::PrivateKeyDer;

use mesh_core::runtime::Crypto;
use mesh_core::runtime::crypto::{CryptoError, KeyPair};

use crate::lock;
use crate::random::Random;

/// The crypto door of one host.
pub struct SeededCrypto {
    provider: Arc<CryptoProvider>,
    /// What keys are made from.
    keys: Mutex<Random>,
}

impl SeededCrypto {
    /// The door of a host under a seed. rustls wants key exchange groups that live for ever, so
    /// some hundred bytes are leaked per call.
    pub fn new(seed: u64, host: &str) -> Self {
        let random: &'static Seeded =
            Box::leak(Box::new(Seeded(Mutex::new(Random::new(seed, host, "tls")))));
        let group: &'static X25519 = Box::leak(Box::new(X25519(random)));
        let provider = CryptoProvider {
            kx_groups: vec![group],
            secure_random: random,
            key_provider: &P256Keys,
            ..rustls::crypto::aws_lc_rs::default_provider()
        };
        Self { provider: Arc::new(provider), keys: Mutex::new(Random::new(seed, host, "keys")) }
    }
}

impl Crypto for SeededCrypto {
    fn tls_provider(&self) -> Arc<CryptoProvider> {
        self.provider.clone()
    }

    fn generate_key(&self) -> Result<Arc<dyn KeyPair>, CryptoError> {
        let mut random = lock(&self.keys);
        loop {
            let mut scalar = [0; 32];
            random.fill(&mut scalar);
            // All but one in 2^32 are scalars of the curve.
            if let Ok(secret) = p256::SecretKey::from_slice(&scalar) {
                return Ok(Arc::new(P256Key::new(&secret)?));
            }
        }
    }

    fn load_key(&self, pkcs8_der: &[u8]) -> Result<Arc<dyn KeyPair>, CryptoError> {
        let secret = p256::SecretKey::from_pkcs8_der(pkcs8_der)
            .map_err(|error| CryptoError(format!("not a P-256 key in PKCS#8: {error}")))?;
        Ok(Arc::new(P256Key::new(&secret)?))
    }
}

/// A key of the crypto door.
struct P256Key {
    signing: p256::ecdsa::SigningKey,
    public: Vec<u8>,
    pkcs8: Vec<u8>,
}

impl P256Key {
    fn new(secret: &p256::SecretKey) -> Result<Self, CryptoError> {
        let pkcs8 = secret
            .to_pkcs8_der()
            .map_err(|error| CryptoError(format!("cannot write the key as PKCS#8: {error}")))?;
        Ok(Self {
            signing: secret.into(),
            public: secret.public_key().to_encoded_point(false).as_bytes().to_vec(),
            pkcs8: pkcs8.as_bytes().to_vec(),
        })
    }
}

impl KeyPair for P256Key {
    fn public_key(&self) -> &[u8] {
        &self.public
    }

    fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let signature: Signature = self.signing.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// rustls' randomness.
struct Seeded(Mutex<Random>);

impl fmt::Debug for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seeded")
    }
}

impl SecureRandom for Seeded {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        lock(&self.0).fill(buffer);
        Ok(())
    }
}

#[derive(Debug)]
struct X25519(&'static Seeded);

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        lock(&self.0.0).fill(&mut secret);
        let secret = x25519_dalek::StaticSecret::from(secret);
        let public = x25519_dalek::PublicKey::from(&secret);
        Ok(Box::new(X25519Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct X25519Exchange {
    secret: x25519_dalek::StaticSecret,
    public: x25519_dalek::PublicKey,
}

impl ActiveKeyExchange for X25519Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer: [u8; 32] =
            peer.try_into().map_err(|_| Error::from(PeerMisbehaved::InvalidKeyShare))?;
        let shared = self.secret.diffie_hellman(&peer.into());
        if !shared.was_contributory() {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        Ok(SharedSecret::from(&shared.as_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[derive(Debug)]
struct P256Keys;

impl KeyProvider for P256Keys {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        let PrivateKeyDer::Pkcs8(der) = key else {
            return Err(Error::General("a simulated key is PKCS#8".to_owned()));
        };
        let key = p256::ecdsa::SigningKey::from_pkcs8_der(der.secret_pkcs8_der())
            .map_err(|error| Error::General(format!("not a P-256 key: {error}")))?;
        Ok(Arc::new(P256Signer(key)))
    }
}

#[derive(Clone, Debug)]
struct P256Signer(p256::ecdsa::SigningKey);

impl SigningKey for P256Signer {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<rustls_pki_types::SubjectPublicKeyInfoDer<'_>> {
        let point = self.0.verifying_key().to_encoded_point(false);
        Some(rustls::sign::public_key_to_spki(
            &rustls_pki_types::alg_id::ECDSA_P256,
            point.as_bytes(),
        ))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for P256Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: Signature = self.0.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_signatures_and_key_shares_are_functions_of_seed_and_host() {
        let of = |seed, host| {
            let crypto = SeededCrypto::new(seed, host);
            let key = crypto.generate_key().expect("a key");
            let share = crypto.tls_provider().kx_groups[0].start().expect("a share");
            let signature = key.sign(b"message").expect("a signature");
            (key.public_key().to_vec(), signature, share.pub_key().to_vec())
        };
        assert_eq!(of(1, "a"), of(1, "a"));
        assert_ne!(of(1, "a").0, of(2, "a").0);
        assert_ne!(of(1, "a").2, of(1, "b").2);
    }
}
