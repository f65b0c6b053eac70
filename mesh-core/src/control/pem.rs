//! PEM files of certificates and P-256 keys: read and written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates of a PEM file, DER, in order. `None` where one is broken or there is none.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<Vec<u8>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .map(|certificate| Some(certificate.ok()?.to_vec()))
        .collect::<Option<_>>()?;
    (!all.is_empty()).then_some(all)
}

/// The first private key of a PEM file, as PKCS#8 DER; `EC PRIVATE KEY`s are wrapped.
pub(crate) fn private_key(pem: &[u8]) -> Option<Vec<u8>> {
    match PrivateKeyDer::from_pem_slice(pem).ok()? {
        PrivateKeyDer::Pkcs8(key) => Some(key.secret_pkcs8_der().to_vec()),
        PrivateKeyDer::Sec1(key) => Some(pkcs8_of_sec1(key.secret_sec1_der())),
        _ => None,
    }
}

/// A PEM section.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let encoded = STANDARD.encode(der);
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// Wraps a SEC 1 key of curve P-256, as openssl and step write it, into PKCS#8.
fn pkcs8_of_sec1(sec1: &[u8]) -> Vec<u8> {
    /// `ecPublicKey`, `prime256v1`.
    const ALGORITHM: [u8; 21] = [
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    let mut body = vec![0x02, 0x01, 0x00];
    body.extend(ALGORITHM);
    body.extend(element(0x04, sec1));
    element(0x30, &body)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match u16::try_from(content.len()) {
        Ok(length @ ..0x80) => der.push(length as u8),
        Ok(length @ ..0x100) => der.extend([0x81, length as u8]),
        Ok(length) => der.extend([0x82, (length >> 8) as u8, length as u8]),
        // Longer than any key: left for the key's reader to refuse.
        Err(_) => der.extend([0x82, 0xff, 0xff]),
    }
    der.extend(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tls::testing;

    #[test]
    fn keys_are_read_as_pkcs8_and_as_sec1() {
        let crypto = testing::runtime().crypto;
        let key = crypto.generate_key().unwrap();
        let pkcs8 = key.pkcs8_der();
        let inner = pkcs8.windows(2).position(|bytes| bytes == [0x04, 0x6d]).unwrap() + 2;
        let parameters = encode("EC PARAMETERS", &[0x06, 0x01, 0x00]);
        let sec1 = parameters + &encode("EC PRIVATE KEY", &pkcs8[inner..]);
        for text in [encode("PRIVATE KEY", pkcs8), sec1] {
            let der = private_key(text.as_bytes()).unwrap();
            let read = crypto.load_key(&der).unwrap();
            assert_eq!(read.public_key(), key.public_key());
        }
        assert!(private_key(b"garbage").is_none());
        assert!(private_key(encode("CERTIFICATE", pkcs8).as_bytes()).is_none());
    }

    #[test]
    fn a_bundle_with_a_broken_certificate_is_none() {
        let good = encode("CERTIFICATE", &[1, 2, 3]);
        assert_eq!(certificates((good.clone() + &good).as_bytes()).unwrap().len(), 2);
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(certificates((good + broken).as_bytes()).is_none());
        assert!(certificates(b"").is_none());
    }
}
