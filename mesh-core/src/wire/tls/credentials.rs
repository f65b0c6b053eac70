//! Our certificate and key, and the trust anchors: one handle for all servers and clients.
//!
//! Law: what is set holds for handshakes that begin later; connections that live are untouched. A
//! certificate that our own peers would refuse is not taken.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureAlgorithm, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, WrongIdentity, identities_of, validity_of};
use crate::model::identity::{Identity, ServerTls};
use crate::runtime::crypto::KeyPair;
use crate::runtime::{Clock, Runtime};
use crate::time::WallTime;

/// Most bytes of a trust bundle.
const ROOTS_BYTES_MAX: usize = 1024 * 1024;

/// Our own identity with its certificate, and whom we trust. Clones share it: what one sets, all
/// use for their next handshake.
#[derive(Clone)]
pub struct Credentials(Arc<Shared>, ClientAuth);

/// Whether our clients show our certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientAuth {
    Shown,
    Withheld,
}

struct Shared {
    local: ServerTls,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    /// Held while something is set; readers use `current`.
    setting: Mutex<Parts>,
    current: ArcSwap<Configs>,
    /// Whether handshakes can be served, and a new version whenever something was set.
    ready: watch::Sender<bool>,
}

/// What the configurations are made of.
#[derive(Clone, Default)]
struct Parts {
    roots: Option<Arc<RootCertStore>>,
    certificate: Option<(Arc<CertifiedKey>, WallTime)>,
}

/// What handshakes use.
#[derive(Default)]
struct Configs {
    /// Its verifier expects ourselves: clients put their own in its place.
    client: Option<Arc<ClientConfig>>,
    roots: Option<Arc<RootCertStore>>,
    server: Option<Arc<ServerConfig>>,
    expires: Option<WallTime>,
}

/// Why credentials were not taken.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The trust bundle holds no certificate, or something that is none.
    #[error("trust anchors: {0}; give a bundle of PEM certificates")]
    InvalidRoots(String),
    /// The certificate cannot be read.
    #[error("certificate: {0}")]
    InvalidCertificate(String),
    /// The certificate is for another key.
    #[error("certificate is not for our key")]
    WrongKey,
    /// Our peers would refuse the certificate.
    #[error("certificate would be refused by peers: {0}")]
    Refused(#[source] TlsError),
    /// The crypto provider cannot do TLS 1.3.
    #[error("crypto provider: {0}")]
    Provider(String),
}

impl Credentials {
    /// Credentials of `local`, with no certificate and no trust anchors yet.
    pub fn new(runtime: &Runtime, local: ServerTls) -> Self {
        let shared = Arc::new(Shared {
            local,
            provider: runtime.crypto.tls_provider(),
            clock: runtime.clock.clone(),
            setting: Mutex::default(),
            current: ArcSwap::default(),
            ready: watch::Sender::new(false),
        });
        Self(shared, ClientAuth::Shown)
    }

    /// The same, with whose clients our certificate is not shown. For talk with a server that knows
    /// us by other means, and that a certificate which has run out must not keep us from.
    #[must_use]
    pub fn withheld(&self) -> Self {
        Self(self.0.clone(), ClientAuth::Withheld)
    }

    /// Who we are, and the name that clients call us by in SNI.
    pub fn local(&self) -> &ServerTls {
        &self.0.local
    }

    /// Replaces the trust anchors by the certificates of a PEM bundle, all of them.
    ///
    /// # Errors
    /// [`CredentialsError::InvalidRoots`]: the former ones stay.
    pub fn set_roots(&self, pem: &[u8]) -> Result<(), CredentialsError> {
        let roots = Arc::new(read_roots(pem)?);
        self.set(|parts| parts.roots = Some(roots))
    }

    /// Replaces our certificate and key.
    ///
    /// # Errors
    /// [`CredentialsError`] where peers that trust our anchors would refuse it, or it is for
    /// another key: the former one stays.
    pub fn set_certificate(
        &self,
        leaf_der: Vec<u8>,
        intermediates_der: Vec<Vec<u8>>,
        key: Arc<dyn KeyPair>,
    ) -> Result<(), CredentialsError> {
        check_key(&leaf_der, &*key)?;
        let (_, expires) = validity_of(&leaf_der)
            .ok_or_else(|| CredentialsError::InvalidCertificate("no validity".to_string()))?;
        let leaf = CertificateDer::from(leaf_der);
        let intermediates: Vec<_> =
            intermediates_der.into_iter().map(CertificateDer::from).collect();
        if let Some(roots) = self.0.current.load().roots.clone() {
            self.verifier(roots, self.0.local.identity.clone())
                .verify(&leaf, &intermediates, now(&*self.0.clock))
                .map_err(|error| CredentialsError::Refused(TlsError::from_rustls(&error)))?;
        }
        let chain = std::iter::once(leaf).chain(intermediates).collect();
        let certified = Arc::new(CertifiedKey::new(chain, Arc::new(TlsKey(key))));
        self.set(|parts| parts.certificate = Some((certified, expires)))
    }

    /// Whether both trust anchors and a certificate are there, so that handshakes can be served.
    pub fn is_ready(&self) -> bool {
        self.0.current.load().server.is_some()
    }

    /// Completes once [`Self::is_ready`].
    pub async fn ready(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Completes when the anchors or the certificate are replaced from now on.
    pub async fn replaced(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.ready.subscribe().changed().await;
    }

    /// Until when our certificate is valid.
    pub fn expires(&self) -> Option<WallTime> {
        self.0.current.load().expires
    }

    fn set(&self, change: impl FnOnce(&mut Parts)) -> Result<(), CredentialsError> {
        let mut setting = self.0.setting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parts = setting.clone();
        change(&mut parts);
        let configs = self.configs(&parts)?;
        *setting = parts;
        let ready = configs.server.is_some();
        self.0.current.store(Arc::new(configs));
        self.0.ready.send_replace(ready);
        Ok(())
    }

    fn configs(&self, parts: &Parts) -> Result<Configs, CredentialsError> {
        let Some(roots) = &parts.roots else {
            return Ok(Configs {
                expires: parts.certificate.as_ref().map(|(_, expires)| *expires),
                ..Configs::default()
            });
        };
        let certificate = parts.certificate.as_ref().map(|(certificate, _)| certificate);
        Ok(Configs {
            client: Some(Arc::new(self.client_config(roots, certificate)?)),
            roots: Some(roots.clone()),
            server: certificate
                .map(|certificate| self.server_config(roots, certificate).map(Arc::new))
                .transpose()?,
            expires: parts.certificate.as_ref().map(|(_, expires)| *expires),
        })
    }

    fn client_config(
        &self,
        roots: &Arc<RootCertStore>,
        certificate: Option<&Arc<CertifiedKey>>,
    ) -> Result<ClientConfig, CredentialsError> {
        let verifier = self.verifier(roots.clone(), self.0.local.identity.clone());
        let builder = ClientConfig::builder_with_details(self.0.provider.clone(), self.time())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| CredentialsError::Provider(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match certificate {
            Some(certificate) => builder.with_client_cert_resolver(single(certificate)),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn server_config(
        &self,
        roots: &Arc<RootCertStore>,
        certificate: &Arc<CertifiedKey>,
    ) -> Result<ServerConfig, CredentialsError> {
        let provider = &self.0.provider;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .allow_unauthenticated()
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| CredentialsError::InvalidRoots(error.to_string()))?;
        let mut config = ServerConfig::builder_with_details(provider.clone(), self.time())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| CredentialsError::Provider(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(single(certificate));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// The configuration for one client connection.
    pub(super) fn client_config_for(
        &self,
        expected: &Identity,
        alpn: Option<&[u8]>,
    ) -> Result<ClientConfig, TlsError> {
        let current = self.0.current.load();
        let (Some(config), Some(roots)) = (&current.client, &current.roots) else {
            return Err(TlsError::NoCertificate);
        };
        let mut config = ClientConfig::clone(config);
        let verifier = self.verifier(roots.clone(), expected.clone());
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        if self.1 == ClientAuth::Withheld {
            config.client_auth_cert_resolver = Arc::new(NoCertificate);
        }
        config.alpn_protocols.extend(alpn.map(<[u8]>::to_vec));
        Ok(config)
    }

    /// The configuration for server connections.
    pub(super) fn server_config_for(
        &self,
        alpn: &[&'static [u8]],
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let current = self.0.current.load();
        let config = current.server.as_ref().ok_or(TlsError::NoCertificate)?;
        if alpn.is_empty() {
            return Ok(config.clone());
        }
        let mut config = ServerConfig::clone(config);
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn verifier(&self, roots: Arc<RootCertStore>, expected: Identity) -> PeerVerifier {
        PeerVerifier {
            roots,
            algorithms: self.0.provider.signature_verification_algorithms,
            expected,
        }
    }

    fn time(&self) -> Arc<WallClock> {
        Arc::new(WallClock(self.0.clock.clone()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("local", &self.0.local.identity)
            .field("ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}

fn single(certificate: &Arc<CertifiedKey>) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(CertifiedKey::clone(certificate)))
}

/// Clients that show no certificate.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

fn read_roots(pem: &[u8]) -> Result<RootCertStore, CredentialsError> {
    let invalid = |text: String| CredentialsError::InvalidRoots(text);
    if pem.len() > ROOTS_BYTES_MAX {
        return Err(invalid(format!("longer than {ROOTS_BYTES_MAX} bytes")));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(invalid("no certificate found".to_string()));
    }
    Ok(roots)
}

fn check_key(leaf_der: &[u8], key: &dyn KeyPair) -> Result<(), CredentialsError> {
    let (_, leaf) = X509Certificate::from_der(leaf_der)
        .map_err(|error| CredentialsError::InvalidCertificate(error.to_string()))?;
    if *leaf.public_key().subject_public_key.data == *key.public_key() {
        Ok(())
    } else {
        Err(CredentialsError::WrongKey)
    }
}

/// rustls' clock over the runtime's.
struct WallClock(Arc<dyn Clock>);

impl rustls::time_provider::TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(now(&*self.0))
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

fn now(clock: &dyn Clock) -> UnixTime {
    UnixTime::since_unix_epoch(clock.wall().as_duration())
}

/// Verifies a server: its chain first, then that one of its names is the one we want.
#[derive(Debug)]
struct PeerVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    expected: Identity,
}

impl PeerVerifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let certificate = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let found = identities_of(leaf);
        if found.contains(&self.expected) || planted!("server-identity-unchecked") {
            return Ok(());
        }
        let wrong =
            WrongIdentity { expected: self.expected.clone(), found: found.into_iter().next() };
        Err(CertificateError::Other(OtherError(Arc::new(wrong))).into())
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A key of the crypto door as rustls'. Prints nothing of it.
struct TlsKey(Arc<dyn KeyPair>);

impl rustls::sign::SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(Self(self.0.clone())) as Box<dyn rustls::sign::Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl rustls::sign::Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(message).map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
