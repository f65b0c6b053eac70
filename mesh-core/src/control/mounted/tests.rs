//! Control planes whose authority others mount and replace, and those that have none.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::ca::{self, Validity};
use super::super::config::{
    ControlConfig, IdentityConfig, ListenConfig, MeshConfig, MountedIdentity, Roles,
};
use super::super::identity::IdentityIssuer;
use super::super::metrics::ControlMetrics;
use super::super::testing::{self, MemoryCluster, MemoryFiles};
use super::super::{Controller, pem};
use crate::api::client::{ControlAddress, ControlClient};
use crate::api::server::Certifier;
use crate::model::identity::Identity;
use crate::runtime::Runtime;
use crate::runtime::crypto::KeyPair;
use crate::runtime::net::TcpOptions;
use crate::wire::drain;
use crate::wire::tls::credentials::Credentials;
use crate::wire::tls::csr::csr_der;
use crate::wire::tls::testing::server_tls;

const WEB: &str = "web.shop.serviceaccount.identity.linkerd.cluster.local";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = DAY.saturating_mul(365);

/// Files as a Secret and a ConfigMap are mounted, and a cluster that reviews tokens.
struct Bench {
    runtime: Runtime,
    files: MemoryFiles,
    cluster: MemoryCluster,
}

/// An anchor and its key.
struct Root {
    pem: String,
    key: Arc<dyn KeyPair>,
}

impl Bench {
    fn new() -> Self {
        let (runtime, files, cluster, _) = testing::runtime();
        cluster.add_token("a pod's token", "system:serviceaccount:shop:web");
        Self { runtime, files, cluster }
    }

    fn key(&self) -> Arc<dyn KeyPair> {
        self.runtime.crypto.generate_key().unwrap()
    }

    fn validity(&self, lifetime: Duration) -> Validity {
        Validity::new(self.runtime.clock.wall(), lifetime, Duration::ZERO)
    }

    fn root(&self, name: &str, lifetime: Duration) -> Root {
        let (key, validity) = (self.key(), self.validity(lifetime));
        let pem = ca::make_anchor(&*self.runtime.entropy, &key, name, validity).unwrap();
        Root { pem, key }
    }

    /// An issuer below a root: its certificate and its key.
    fn issuer(&self, root: &Root, lifetime: Duration) -> (String, String) {
        let (key, validity) = (self.key(), self.validity(lifetime));
        let root = (root.pem.as_bytes(), &root.key);
        let issuer = ca::make_issuer(&*self.runtime.entropy, root, &*key, "issuer", validity);
        (issuer.unwrap(), pem::encode("PRIVATE KEY", key.pkcs8_der()))
    }

    fn mount(&self, issuer: &(String, String), roots: &str) {
        self.files.put("roots/ca-bundle.crt", roots.as_bytes());
        self.files.put("issuer/key.pem", issuer.1.as_bytes());
        self.files.put("issuer/crt.pem", issuer.0.as_bytes());
    }

    fn config() -> IdentityConfig {
        let mounted = MountedIdentity {
            issuer_directory: PathBuf::from("issuer"),
            trust_roots: PathBuf::from("roots/ca-bundle.crt"),
        };
        IdentityConfig { mounted: Some(mounted), ..IdentityConfig::default() }
    }

    async fn open(&self) -> Result<IdentityIssuer, String> {
        let metrics = Arc::new(ControlMetrics::default());
        let mesh = MeshConfig::default();
        let issuer = IdentityIssuer::open(&self.runtime, &Self::config(), &mesh, metrics).await;
        issuer.map_err(|error| error.to_string())
    }

    /// Starts a control plane of these roles at an address.
    async fn start(&self, ip: &str, serve: Roles) -> (ListenConfig, drain::DrainSignal) {
        let at = |port| format!("{ip}:{port}").parse().unwrap();
        let listen = ListenConfig {
            destination: at(8086),
            policy: at(8090),
            identity: at(8080),
            admin: at(9996),
        };
        let config = ControlConfig {
            listen: listen.clone(),
            serve,
            identity: Self::config(),
            ..ControlConfig::default()
        };
        let controller = Controller::bind(self.runtime.clone(), config).await.unwrap();
        let (stop, draining) = drain::channel();
        self.runtime.spawn("controller", controller.serve(draining));
        (listen, stop)
    }

    async fn admin(&self, listen: &ListenConfig, path: &str) -> String {
        let connection = self.runtime.net.connect(listen.admin, TcpOptions::default()).await;
        let mut io = connection.unwrap().io;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A certificate by the pod's token, and the number of certificates that come with it.
    async fn certify(&self, issuer: &IdentityIssuer) -> Result<usize, String> {
        let csr = csr_der(&self.key(), &Identity::new(WEB).unwrap()).unwrap();
        let certificate = issuer.certify(WEB.to_string(), b"a pod's token".to_vec(), csr).await;
        certificate.map(|c| c.intermediates_der.len()).map_err(|error| error.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn both_layouts_of_the_secret_are_read() {
    let bench = Bench::new();
    let root = bench.root("root", YEAR);
    let issuer = bench.issuer(&root, YEAR);
    bench.mount(&issuer, &root.pem);
    assert_eq!(bench.certify(&bench.open().await.unwrap()).await, Ok(1));

    bench.files.remove("issuer/crt.pem");
    bench.files.remove("issuer/key.pem");
    bench.files.put("issuer/tls.key", issuer.1.as_bytes());
    bench.files.put("issuer/tls.crt", issuer.0.as_bytes());
    assert_eq!(bench.certify(&bench.open().await.unwrap()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_mounted_files_is_said() {
    let bench = Bench::new();
    let error = bench.open().await.err().unwrap();
    assert!(error.starts_with("roots/ca-bundle.crt is not there; mount"), "{error}");

    let (root, other) = (bench.root("root", YEAR), bench.root("other", YEAR));
    let issuer = bench.issuer(&root, YEAR);
    bench.files.put("roots/ca-bundle.crt", other.pem.as_bytes());
    bench.files.put("issuer/tls.crt", issuer.0.as_bytes());
    let error = bench.open().await.err().unwrap();
    assert!(error.starts_with("issuer/tls.key is not there; mount"), "{error}");

    bench.mount(&issuer, &other.pem);
    let error = bench.open().await.err().unwrap();
    assert!(error.contains("signed by none of the anchors"), "{error}");

    bench.mount(&(issuer.0.clone(), bench.issuer(&root, YEAR).1), &root.pem);
    let error = bench.open().await.err().unwrap();
    assert!(error.contains("is not the key of"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_expired_issuer_and_an_expired_anchor_are_told_apart() {
    let bench = Bench::new();
    let (root, short) = (bench.root("root", YEAR), bench.root("short", DAY));
    let (spent, below_spent) = (bench.issuer(&root, DAY), bench.issuer(&short, YEAR));
    tokio::time::advance(DAY * 2).await;
    bench.mount(&spent, &root.pem);
    let error = bench.open().await.err().unwrap();
    assert!(error.contains("issuer certificate expired at"), "{error}");
    bench.mount(&below_spent, &short.pem);
    let error = bench.open().await.err().unwrap();
    assert!(error.contains("trust anchor that signed the issuer expired at"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_may_come_with_the_certificates_up_to_its_anchor() {
    let bench = Bench::new();
    let root = bench.root("root", YEAR);
    // An intermediate that may sign authorities, as an anchor may, signed by the root.
    let (key, of_root) = (bench.key(), (root.pem.as_bytes(), &root.key));
    let entropy = &*bench.runtime.entropy;
    let pem = ca::make_intermediate(entropy, of_root, &*key, bench.validity(YEAR));
    let middle = Root { pem, key };
    let (certificate, key) = bench.issuer(&middle, YEAR);
    bench.mount(&(certificate.clone(), key.clone()), &root.pem);
    assert!(bench.open().await.is_err(), "nothing leads to the anchor");
    bench.mount(&(format!("{certificate}{}", middle.pem), key), &root.pem);
    assert_eq!(bench.certify(&bench.open().await.unwrap()).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_is_taken_up_and_told_and_what_is_wrong_leaves_the_last_good() {
    let bench = Bench::new();
    let root = bench.root("root", YEAR);
    bench.mount(&bench.issuer(&root, YEAR), &root.pem);
    let serve = Roles { destination: false, identity: true, injector: false };
    let (listen, stop) = bench.start("127.0.0.1", serve).await;
    let settle = || tokio::time::sleep(Duration::from_secs(1));
    settle().await;
    let ttl = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("issuer_cert_ttl_seconds "));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).unwrap()
    };
    let before = ttl(&bench.admin(&listen, "/metrics").await);
    assert!(before <= YEAR.as_secs() && before > (YEAR - DAY).as_secs(), "{before}");

    // Another root is trusted as well, and the issuer is below it.
    let next = bench.root("next", YEAR);
    bench.mount(&bench.issuer(&next, DAY * 30), &format!("{}{}", root.pem, next.pem));
    settle().await;
    let metrics = bench.admin(&listen, "/metrics").await;
    assert!(ttl(&metrics) <= DAY.as_secs() * 30);
    assert_eq!(metrics.matches("\ntrust_anchor_cert_ttl_seconds{").count(), 2, "{metrics}");
    let events = bench.cluster.events();
    assert_eq!(events.last().map(String::as_str), Some("IssuerUpdated linkerd/linkerd-identity"));

    bench.files.put("issuer/key.pem", b"-----BEGIN NOTHING-----");
    settle().await;
    let events = bench.cluster.events();
    let last = events.last().map(String::as_str);
    assert_eq!(last, Some("IssuerUpdateSkipped linkerd/linkerd-identity"));
    let metrics = bench.admin(&listen, "/metrics").await;
    assert!(!metrics.contains("weft_control_reload_errors_total 0"), "{metrics}");
    let client = ControlClient::new(
        &bench.runtime,
        ControlAddress { authority: listen.identity.into(), tls: None },
        Credentials::new(&bench.runtime, server_tls(WEB)),
    );
    let csr = csr_der(&bench.key(), &Identity::new(WEB).unwrap()).unwrap();
    client.certify(WEB, b"a pod's token".to_vec(), csr).await.unwrap();
    settle().await;
    assert_eq!(bench.cluster.events().last().unwrap(), "IssuedLeafCertificate shop/web");
    stop.start();
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_without_identity_speaks_to_its_own_host_alone() {
    let bench = Bench::new();
    let serve = Roles { destination: true, identity: false, injector: false };
    let (near, _near) = bench.start("127.0.0.1", serve).await;
    // As a proxy beside it asks, which comes from the pod's own address.
    let (own, _own) = bench.start("10.0.0.99", serve).await;
    let (far, _far) = bench.start("10.0.0.10", serve).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(bench.admin(&near, "/ready").await.starts_with("HTTP/1.1 200"));
    let answers = async |to: std::net::SocketAddr| {
        let mut io = bench.runtime.net.connect(to, TcpOptions::default()).await.unwrap().io;
        let _ = io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        io.read_exact(&mut [0; 9]).await.is_ok()
    };
    assert!(answers(near.destination).await);
    assert!(answers(own.destination).await);
    assert!(!answers(far.destination).await, "it has no certificate to show");
    let metrics = bench.admin(&near, "/metrics").await;
    assert!(!metrics.contains("issuer_cert_ttl_seconds"), "{metrics}");
    let bound = bench.runtime.net.connect(near.identity, TcpOptions::default()).await;
    assert!(bound.is_err(), "it does not listen for requests of certificates");
}
