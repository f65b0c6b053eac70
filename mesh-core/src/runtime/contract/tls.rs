//! Facts about handshakes: the crypto door's keys, randomness and provider, the clock's wall time and
//! the network's streams together, as the mesh uses them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use rustls::client::Resumption;
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Bed, declare_cases};
use crate::runtime::clock::Clock;
use crate::runtime::crypto::KeyPair;
use crate::runtime::net::{ListenOptions, TcpOptions};
use crate::runtime::{Runtime, TaskGuard};

declare_cases! { "tls";
    two_hosts_certify_each_other_and_talk,
    a_server_with_another_key_is_refused,
    a_client_without_a_certificate_is_refused,
    a_certificate_that_has_ended_is_refused,
}

const SERVER: &str = "server.contract";
const MESSAGE: usize = 100_000;

/// A key of a host's door and a certificate that it signed itself.
struct Party {
    certificate: CertificateDer<'static>,
    key: Arc<dyn KeyPair>,
}

impl Party {
    fn new(runtime: &Runtime, name: &str) -> Self {
        let now = runtime.clock.wall().as_duration();
        Self::valid(runtime, name, now - Duration::from_secs(60), now + Duration::from_secs(3600))
    }

    /// Valid between these times since 1970.
    fn valid(runtime: &Runtime, name: &str, from: Duration, until: Duration) -> Self {
        let key = runtime.crypto.generate_key().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.serial_number = Some(vec![7].into());
        (params.not_before, params.not_after) = (epoch + from, epoch + until);
        let signed = params.self_signed(&Signing(key.clone())).expect("to sign");
        Self { certificate: signed.der().clone(), key }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.pkcs8_der().to_vec()).into()
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }
}

struct Signing(Arc<dyn KeyPair>);

impl PublicKeyData for Signing {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Signing {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

struct Wall(Arc<dyn Clock>);

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wall")
    }
}

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.wall().as_duration()))
    }
}

fn trusting(certificate: &CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    roots
}

/// Who a client is, if anybody, and whom it trusts.
fn client(
    runtime: &Runtime,
    is: Option<&Party>,
    trusts: &CertificateDer<'static>,
) -> Arc<ClientConfig> {
    let (provider, time) = (runtime.crypto.tls_provider(), Wall(runtime.clock.clone()));
    let builder = ClientConfig::builder_with_details(provider, Arc::new(time))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(trusting(trusts));
    let mut config = match is {
        Some(party) => builder.with_client_auth_cert(party.chain(), party.key()).expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn server(runtime: &Runtime, is: &Party, trusts: &CertificateDer<'static>) -> TlsAcceptor {
    let (provider, time) = (runtime.crypto.tls_provider(), Wall(runtime.clock.clone()));
    let roots = Arc::new(trusting(trusts));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
    let config = ServerConfig::builder_with_details(provider, Arc::new(time))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(verifier.expect("a verifier"))
        .with_single_cert(is.chain(), is.key());
    Arc::new(config.expect("a pair")).into()
}

/// What the near host, `is`, gets back of a message that the far host echoes, where the far host trusts
/// `admits` and the near one `trusts`, or the far host's own certificate.
async fn exchange(
    bed: &Bed,
    is: Option<&Party>,
    admits: &CertificateDer<'static>,
    trusts: Option<&CertificateDer<'static>>,
) -> std::io::Result<Vec<u8>> {
    let (address, certificate, _guard) = serve(bed, admits.clone()).await;
    let runtime = &bed.near.runtime;
    let config = client(runtime, is, trusts.unwrap_or(&certificate));
    let connecting = runtime.net.connect(address, TcpOptions::default());
    let connection = connecting.await.expect("to connect");
    let name = ServerName::try_from(SERVER).expect("a name");
    let mut stream = TlsConnector::from(config).connect(name, connection.io).await?;
    let message: Vec<_> = (0..MESSAGE).map(|at| (at % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let mut echoed = vec![0; MESSAGE];
    let send = async {
        write.write_all(&message).await?;
        write.flush().await
    };
    let (sent, received) = tokio::join!(send, read.read_exact(&mut echoed));
    sent.and(received)?;
    assert!(echoed == message, "the echo differs");
    Ok(echoed)
}

/// Echoes, on the far host, to clients that `admits` certifies. Tells its address and certificate.
async fn serve(
    bed: &Bed,
    admits: CertificateDer<'static>,
) -> (std::net::SocketAddr, CertificateDer<'static>, TaskGuard) {
    let (runtime, at) = (bed.far.runtime.clone(), bed.far.any_port());
    let (tell, told) = oneshot::channel();
    let work = async move {
        let party = Party::new(&runtime, SERVER);
        let acceptor = server(&runtime, &party, &admits);
        let listener = runtime.net.listen(at, ListenOptions::default()).await.expect("to listen");
        let _ = tell.send((listener.local_addr(), party.certificate));
        runtime.spawn_guarded("contract", async move {
            let Ok(connection) = listener.accept().await else { return };
            let Ok(mut stream) = acceptor.accept(connection.io).await else { return };
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let echoed = stream.write_all(&buffer[..count]).await;
                if echoed.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        })
    };
    let guard = bed.far.run(work).await;
    let (address, certificate) = told.await.expect("it listens");
    (address, certificate, guard)
}

async fn two_hosts_certify_each_other_and_talk(bed: Bed) {
    let party = Party::new(&bed.near.runtime, "client.contract");
    let echoed = exchange(&bed, Some(&party), &party.certificate, None).await;
    assert_eq!(echoed.expect("a conversation").len(), MESSAGE);
}

async fn a_server_with_another_key_is_refused(bed: Bed) {
    let party = Party::new(&bed.near.runtime, "client.contract");
    let another = Party::new(&bed.near.runtime, SERVER);
    let trusts = Some(&another.certificate);
    assert!(exchange(&bed, Some(&party), &party.certificate, trusts).await.is_err());
}

async fn a_client_without_a_certificate_is_refused(bed: Bed) {
    let party = Party::new(&bed.near.runtime, "client.contract");
    assert!(exchange(&bed, None, &party.certificate, None).await.is_err());
}

async fn a_certificate_that_has_ended_is_refused(bed: Bed) {
    let runtime = &bed.near.runtime;
    let now = runtime.clock.wall().as_duration();
    let (from, until) = (now - Duration::from_secs(7200), now - Duration::from_secs(3600));
    let party = Party::valid(runtime, "client.contract", from, until);
    assert!(exchange(&bed, Some(&party), &party.certificate, None).await.is_err());
}
