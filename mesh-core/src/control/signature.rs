//! ECDSA P-256 signatures: checked by the TLS provider's verifiers, and their two encodings (ASN.1
//! DER in certificates, 64 raw bytes in JWTs).

use rustls_pki_types::{SignatureVerificationAlgorithm, alg_id};

use crate::runtime::Crypto;

/// Whether `signature` (ASN.1 DER) is that of `message` under SHA-256 by the P-256 key
/// `public_key` (an uncompressed point).
pub(crate) fn verify_p256(
    crypto: &dyn Crypto,
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let provider = crypto.tls_provider();
    let known = provider.signature_verification_algorithms.all;
    known
        .iter()
        .filter(|known| {
            known.public_key_alg_id() == alg_id::ECDSA_P256
                && known.signature_alg_id() == alg_id::ECDSA_SHA256
        })
        .any(|known| is_good(*known, public_key, message, signature))
}

/// Whether `signature` is that of `message` by any algorithm that TLS knows; `public_key` is the
/// content of a certificate's key bit string.
pub(crate) fn verify_any(
    crypto: &dyn Crypto,
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let provider = crypto.tls_provider();
    let known = provider.signature_verification_algorithms.all;
    known.iter().any(|known| is_good(*known, public_key, message, signature))
}

fn is_good(
    algorithm: &dyn SignatureVerificationAlgorithm,
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    algorithm.verify_signature(public_key, message, signature).is_ok()
}

/// An ASN.1 DER signature as the 64 bytes of `r` and `s`. `None` where it is not one.
pub(crate) fn to_raw(der: &[u8]) -> Option<[u8; 64]> {
    let (body, rest) = element(der, 0x30)?;
    let (r, body) = element(body, 0x02)?;
    let (s, body) = element(body, 0x02)?;
    if !rest.is_empty() || !body.is_empty() {
        return None;
    }
    let mut raw = [0; 64];
    for (integer, half) in [r, s].into_iter().zip(raw.chunks_mut(32)) {
        let digits = match integer {
            [0, digits @ ..] => digits,
            digits => digits,
        };
        let start = half.len().checked_sub(digits.len())?;
        half[start..].copy_from_slice(digits);
    }
    Some(raw)
}

/// The 64 bytes of `r` and `s` as an ASN.1 DER signature.
pub(crate) fn to_der(raw: &[u8; 64]) -> Vec<u8> {
    let mut body = Vec::with_capacity(72);
    for half in raw.chunks(32) {
        let zeros = half.iter().take_while(|byte| **byte == 0).count().min(31);
        let digits = &half[zeros..];
        let pad = digits[0] >= 0x80;
        body.extend([0x02, digits.len() as u8 + u8::from(pad)]);
        body.extend(pad.then_some(0));
        body.extend(digits);
    }
    let mut der = vec![0x30, body.len() as u8];
    der.extend(body);
    der
}

/// The content of the element that `bytes` begins with, of fewer than 128 bytes, and what follows.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    match bytes {
        [found, length @ 0..0x80, rest @ ..] if *found == tag => {
            rest.split_at_checked(usize::from(*length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn der_and_raw_are_the_same_signature(r: [u8; 32], s: [u8; 32], zeros in 0..32_usize) {
            let mut raw = [0; 64];
            raw[..32].copy_from_slice(&r);
            raw[32..].copy_from_slice(&s);
            raw[..zeros].fill(0);
            prop_assert_eq!(to_raw(&to_der(&raw)), Some(raw));
        }

        #[test]
        fn garbage_is_no_signature(bytes: Vec<u8>) {
            let _ = to_raw(&bytes);
        }
    }
}
