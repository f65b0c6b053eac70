//! The server's certificate, of an authority of its own.

use std::path::Path;
use std::sync::Arc;

use mesh_core::control::ca::Authority;
use mesh_core::model::identity::DnsName;
use mesh_core::runtime::{Clock as _, Crypto as _};
use runtime_real::clock::SystemClock;
use runtime_real::crypto::AwsLc;
use runtime_real::entropy::SystemEntropy;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::keys::{Root, validity};

pub struct ServerTls {
    pub acceptor: TlsAcceptor,
}

impl ServerTls {
    /// Makes an authority, whose certificate becomes `ca.crt`, and a certificate for `localhost`.
    pub fn make(directory: &Path) -> Self {
        let (crypto, entropy) = (AwsLc::new(), SystemEntropy::new());
        let root = Root::make("front");
        let issuer = root.issuer();
        let files = [root.pem.as_bytes(), issuer.pem.as_bytes(), issuer.key.as_bytes()];
        let now = SystemClock::new().wall();
        let authority = Authority::from_pem(&crypto, files[0], files[1], files[2], now);
        let key = crypto.generate_key().unwrap();
        let name = DnsName::new("localhost").unwrap();
        let leaf = authority.unwrap().issue(&entropy, key.public_key(), &[name], validity());
        let leaf = leaf.unwrap();
        std::fs::write(directory.join("ca.crt"), &root.pem).unwrap();
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
