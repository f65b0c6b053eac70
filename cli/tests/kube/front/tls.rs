//! The server's certificate, of an authority of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::control::ca::{self, Authority, Validity};
use mesh_core::model::identity::DnsName;
use mesh_core::runtime::{Clock as _, Crypto as _};
use runtime_real::clock::SystemClock;
use runtime_real::crypto::AwsLc;
use runtime_real::entropy::SystemEntropy;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

pub struct ServerTls {
    pub acceptor: TlsAcceptor,
}

impl ServerTls {
    /// Makes an authority, whose certificate becomes `ca.crt`, and a certificate for `localhost`.
    pub fn make(directory: &Path) -> Self {
        let (crypto, entropy, clock) = (AwsLc::new(), SystemEntropy::new(), SystemClock::new());
        let hour = Duration::from_secs(3600);
        let validity = Validity::new(clock.wall(), hour, hour);
        let root_key = crypto.generate_key().unwrap();
        let root = ca::make_anchor(&entropy, &root_key, "front", validity).unwrap();
        let issuer_key = crypto.generate_key().unwrap();
        let of_root = (root.as_bytes(), &root_key);
        let issuer = ca::make_issuer(&entropy, of_root, &*issuer_key, "issuer", validity).unwrap();
        let pem = pem(issuer_key.pkcs8_der());
        let authority =
            Authority::from_pem(&crypto, root.as_bytes(), issuer.as_bytes(), &pem, clock.wall());
        let key = crypto.generate_key().unwrap();
        let name = DnsName::new("localhost").unwrap();
        let leaf = authority.unwrap().issue(&entropy, key.public_key(), &[name], validity).unwrap();
        std::fs::write(directory.join("ca.crt"), &root).unwrap();
        let chain = std::iter::once(leaf.leaf_der).chain(leaf.intermediates_der);
        let key = PrivatePkcs8KeyDer::from(key.pkcs8_der().to_vec());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Into::into).collect(), PrivateKeyDer::Pkcs8(key))
            .unwrap();
        Self { acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

fn pem(pkcs8_der: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(pkcs8_der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n").into_bytes()
}
