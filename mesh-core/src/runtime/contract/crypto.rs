//! Facts about cryptography.

use super::{Bed, declare_cases};
use crate::runtime::Crypto;

declare_cases! { "crypto";
    keys_are_p256_and_differ,
    a_signature_verifies_under_its_key_alone,
    a_key_survives_its_pkcs8_form,
    what_is_no_key_is_refused,
    tls_13_is_offered,
    key_exchange_agrees_between_hosts,
}

fn verifies(crypto: &dyn Crypto, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let provider = crypto.tls_provider();
    let algorithms = provider.signature_verification_algorithms.all;
    algorithms
        .iter()
        .any(|algorithm| algorithm.verify_signature(public_key, message, signature).is_ok())
}

async fn keys_are_p256_and_differ(bed: Bed) {
    let crypto = &bed.near.runtime.crypto;
    let (one, other) = (crypto.generate_key(), crypto.generate_key());
    let (one, other) = (one.expect("a key"), other.expect("a key"));
    assert_eq!((one.public_key().len(), one.public_key()[0]), (65, 4));
    assert_ne!(one.public_key(), other.public_key());
    let printed = format!("{:?}", &*one);
    assert!(printed.len() < 40, "prints too much: {printed}");
}

async fn a_signature_verifies_under_its_key_alone(bed: Bed) {
    let crypto = &*bed.near.runtime.crypto;
    let (key, other) = (crypto.generate_key(), crypto.generate_key());
    let (key, other) = (key.expect("a key"), other.expect("a key"));
    let signature = key.sign(b"message").expect("a signature");
    assert!(verifies(crypto, key.public_key(), b"message", &signature));
    assert!(!verifies(crypto, key.public_key(), b"massage", &signature));
    assert!(!verifies(crypto, other.public_key(), b"message", &signature));
}

async fn a_key_survives_its_pkcs8_form(bed: Bed) {
    let crypto = &*bed.near.runtime.crypto;
    let key = crypto.generate_key().expect("a key");
    let loaded = crypto.load_key(key.pkcs8_der()).expect("the same key");
    assert_eq!(loaded.public_key(), key.public_key());
    let signature = loaded.sign(b"message").expect("a signature");
    assert!(verifies(crypto, key.public_key(), b"message", &signature));
}

async fn what_is_no_key_is_refused(bed: Bed) {
    let crypto = &bed.near.runtime.crypto;
    let key = crypto.generate_key().expect("a key");
    let whole = key.pkcs8_der();
    for wrong in [&b""[..], b"not DER", &whole[..whole.len() - 1]] {
        assert!(crypto.load_key(wrong).is_err());
    }
}

async fn tls_13_is_offered(bed: Bed) {
    let provider = bed.near.runtime.crypto.tls_provider();
    assert!(provider.cipher_suites.iter().any(|s| s.tls13().is_some()));
    let mut random = [0; 32];
    provider.secure_random.fill(&mut random).expect("randomness");
    assert_ne!(random, [0; 32]);
    let key = bed.near.runtime.crypto.generate_key().expect("a key");
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from(key.pkcs8_der().to_vec());
    let loaded = provider.key_provider.load_private_key(der.into());
    assert!(loaded.is_ok(), "the provider cannot use the door's keys");
}

async fn key_exchange_agrees_between_hosts(bed: Bed) {
    let client = bed.near.runtime.crypto.tls_provider();
    let crypto = bed.far.runtime.crypto.clone();
    let server = bed.far.run(async move { crypto.tls_provider() }).await;
    assert!(!client.kx_groups.is_empty());
    for group in &client.kx_groups {
        let peer = server.kx_groups.iter().find(|g| g.name() == group.name());
        let peer = peer.expect("both hosts have the same groups");
        let offer = group.start().expect("a key share");
        let answer = peer.start_and_complete(offer.pub_key()).expect("a key share");
        let secret = offer.complete(&answer.pub_key).expect("a secret");
        assert_eq!(secret.secret_bytes(), answer.secret.secret_bytes());
    }
}
