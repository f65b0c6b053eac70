//! The whole control plane with real clients over a network in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::testing::{self, MemoryCluster, MemoryFiles};
use super::token::{self, ServiceAccountName};
use super::{ControlConfig, Controller, IdentityConfig, ListenConfig, pem};
use crate::api::client::{ApiError, ControlAddress, ControlClient};
use crate::model::endpoint::EndpointUpdate;
use crate::model::identity::{Identity, ServerTls};
use crate::model::target::Target;
use crate::resource::Kind;
use crate::runtime::Runtime;
use crate::runtime::net::TcpOptions;
use crate::wire::drain::{self, DrainSignal};
use crate::wire::tls::credentials::Credentials;
use crate::wire::tls::csr::csr_der;
use crate::wire::tls::testing::server_tls;

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: shop}
spec: {addresses: [10.3.0.1], service: web, ports: [{port: 8080}], serviceAccount: web, proxy: {}}
";
const WORKLOAD: &str = r#"{"ns":"shop","pod":"web-1"}"#;
const WEB: &str = "web.shop.serviceaccount.identity.linkerd.cluster.local";
const SERVICE: &str = "web.shop.svc.cluster.local:80";

struct Bench {
    runtime: Runtime,
    files: MemoryFiles,
    cluster: MemoryCluster,
    listen: ListenConfig,
    stop: DrainSignal,
}

/// A running control plane at `ip`.
async fn start(ip: &str) -> Bench {
    let bench = stopped(ip);
    bench.run().await;
    bench
}

fn stopped(ip: &str) -> Bench {
    let (runtime, files, cluster, _) = testing::runtime();
    cluster.apply(MESH);
    let at = |port| format!("{ip}:{port}").parse().unwrap();
    let listen = ListenConfig {
        destination: at(8086),
        policy: at(8090),
        identity: at(8080),
        admin: at(9996),
    };
    let (stop, _) = drain::channel();
    Bench { runtime, files, cluster, listen, stop }
}

impl Bench {
    async fn run(&self) {
        let config = ControlConfig {
            listen: self.listen.clone(),
            identity: IdentityConfig {
                state_directory: PathBuf::from("state"),
                ..IdentityConfig::default()
            },
            ..ControlConfig::default()
        };
        let controller = Controller::bind(self.runtime.clone(), config).await.unwrap();
        assert_eq!(controller.addresses(), self.listen);
        self.runtime.spawn("controller", controller.serve(self.stop.watch()));
    }

    fn client(&self, at: std::net::SocketAddr, credentials: &Credentials) -> ControlClient {
        let is_loopback = at.ip().is_loopback();
        let name = "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local";
        let address =
            ControlAddress { authority: at.into(), tls: (!is_loopback).then(|| server_tls(name)) };
        ControlClient::new(&self.runtime, address, credentials.clone())
    }

    fn credentials(&self) -> Credentials {
        let credentials = Credentials::new(&self.runtime, server_tls(WEB));
        let anchors = self.files.content("state/ca.crt").unwrap();
        credentials.set_roots(&anchors).unwrap();
        credentials
    }

    fn token(&self) -> Vec<u8> {
        let text = self.files.content("state/token.key").unwrap();
        let key = self.runtime.crypto.load_key(&pem::private_key(&text).unwrap()).unwrap();
        let account = ServiceAccountName { namespace: "shop".to_string(), name: "web".to_string() };
        let (now, hour) = (self.runtime.clock.wall(), Duration::from_secs(3600));
        token::create(&*key, &account, now, hour).unwrap().into_bytes()
    }

    /// Gets a certificate, as a proxy does first.
    async fn certified(&self) -> Credentials {
        let credentials = self.credentials();
        let key = self.runtime.crypto.generate_key().unwrap();
        let csr = csr_der(&key, &Identity::new(WEB).unwrap()).unwrap();
        let issued = self
            .client(self.listen.identity, &credentials)
            .certify(WEB, self.token(), csr)
            .await
            .unwrap();
        credentials.set_certificate(issued.leaf_der, issued.intermediates_der, key).unwrap();
        credentials
    }

    async fn admin(&self, path: &str) -> String {
        let to = self.listen.admin;
        let connection = self.runtime.net.connect(to, TcpOptions::default()).await;
        let mut io = connection.unwrap().io;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn addresses(update: EndpointUpdate) -> Vec<String> {
    match update {
        EndpointUpdate::Add { endpoints, .. } => {
            endpoints.iter().map(|e| e.address.to_string()).collect()
        }
        other => vec![format!("{other:?}")],
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_gets_its_certificate_and_then_everything_it_asks_over_mutual_tls() {
    let bench = start("10.0.0.10").await;
    let credentials = bench.certified().await;
    let client = bench.client(bench.listen.destination, &credentials);
    let target = Target::Address("10.96.0.1:80".parse().unwrap());
    let mut policies = client.watch_client_policy(WORKLOAD, &target).await.unwrap();
    assert_eq!(policies.next().await.unwrap().unwrap().parent.name(), "web");
    let mut servers = client.watch_server_policy(WORKLOAD, 8080).await.unwrap();
    let server = servers.next().await.unwrap().unwrap();
    assert_eq!(server.server.name(), "all-unauthenticated");
    let mut profiles = client.watch_profile("10.96.0.1:80", "").await.unwrap();
    let profile = profiles.next().await.unwrap().unwrap();
    assert_eq!(profile.fully_qualified_name.as_deref(), Some("web.shop.svc.cluster.local"));
    let mut endpoints = client.watch_endpoints(SERVICE, "").await.unwrap();
    let first = endpoints.next().await.unwrap().unwrap();
    assert_eq!(addresses(first), ["10.3.0.1:8080"]);

    bench.cluster.apply(&MESH.replace("10.3.0.1", "10.3.0.2"));
    let moved = endpoints.next().await.unwrap().unwrap();
    assert_eq!(addresses(moved), ["10.3.0.2:8080"]);
    let gone = endpoints.next().await.unwrap().unwrap();
    assert_eq!(gone, EndpointUpdate::Remove(vec!["10.3.0.1:8080".parse().unwrap()]));
    bench.cluster.delete(Kind::Workload, "shop", "web-1");
    let none = endpoints.next().await.unwrap().unwrap();
    assert_eq!(none, EndpointUpdate::NoEndpoints { exists: true });
    assert!(servers.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn without_a_certificate_a_client_over_tls_can_only_ask_for_one() {
    let bench = start("10.0.0.10").await;
    let client = bench.client(bench.listen.destination, &bench.credentials());
    let refused = client.watch_endpoints(SERVICE, "").await.err();
    assert!(
        matches!(refused, Some(ApiError::Unimplemented(_) | ApiError::Denied(_))),
        "{refused:?}"
    );
    bench.certified().await;
}

#[tokio::test(start_paused = true)]
async fn this_host_asks_in_plaintext() {
    let bench = start("127.0.0.1").await;
    let nothing = Credentials::new(&bench.runtime, server_tls(WEB));
    for at in [bench.listen.destination, bench.listen.policy, bench.listen.identity] {
        let client = bench.client(at, &nothing);
        let mut endpoints = client.watch_endpoints(SERVICE, "").await.unwrap();
        assert_eq!(addresses(endpoints.next().await.unwrap().unwrap()), ["10.3.0.1:8080"]);
    }
}

#[tokio::test(start_paused = true)]
async fn plaintext_from_elsewhere_is_not_answered() {
    let bench = start("10.0.0.10").await;
    let to = bench.listen.destination;
    let connection = bench.runtime.net.connect(to, TcpOptions::default()).await;
    let mut io = connection.unwrap().io;
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = io.read_to_end(&mut answer).await;
    assert!(!answer.windows(3).any(|bytes| bytes == [0, 0, 0]), "{answer:?}");
    let metrics = bench.admin("/metrics").await;
    assert!(metrics.contains("weft_control_handshake_errors_total 1"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_streams_and_a_new_start_gives_the_full_state() {
    let mut bench = start("10.0.0.10").await;
    let credentials = bench.certified().await;
    let client = bench.client(bench.listen.destination, &credentials);
    let mut endpoints = client.watch_endpoints(SERVICE, "").await.unwrap();
    endpoints.next().await.unwrap().unwrap();
    bench.stop.start();
    while let Some(Ok(_)) = endpoints.next().await {}
    bench.stop.drained().await;

    (bench.stop, _) = drain::channel();
    bench.run().await;
    let mut again = client.watch_endpoints(SERVICE, "").await;
    // The client's first try may still find its old connection ending.
    while again.is_err() {
        bench.runtime.sleep(Duration::from_secs(1)).await;
        again = client.watch_endpoints(SERVICE, "").await;
    }
    let first = again.unwrap().next().await.unwrap().unwrap();
    assert_eq!(addresses(first), ["10.3.0.1:8080"]);
}

#[tokio::test(start_paused = true)]
async fn the_admin_port_tells_of_readiness_and_counts() {
    let bench = start("127.0.0.1").await;
    bench.runtime.sleep(Duration::from_secs(1)).await;
    assert!(bench.admin("/ready").await.starts_with("HTTP/1.1 200"));
    assert!(bench.admin("/live").await.starts_with("HTTP/1.1 200"));
    assert!(bench.admin("/nothing").await.starts_with("HTTP/1.1 404"));
    let metrics = bench.admin("/metrics").await;
    for line in [
        "weft_control_objects{kind=\"Workload\"} 1",
        "weft_control_synced 1",
        "# TYPE weft_control_updates_total counter",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_the_cluster_does_not_have_is_empty_and_holds_nothing_up() {
    let bench = stopped("127.0.0.1");
    bench.cluster.forget_kind(Kind::Server);
    bench.run().await;
    bench.runtime.sleep(Duration::from_secs(1)).await;
    assert!(bench.admin("/ready").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn a_replaced_authority_is_taken_up_and_served_with() {
    let bench = start("10.0.0.10").await;
    let (runtime, other, _, _) = testing::runtime();
    let directory = PathBuf::from("state");
    super::state::authority(&runtime, &directory).await.unwrap();
    for file in ["ca.key", "ca.crt", "issuer.key", "issuer.crt"] {
        let path = format!("state/{file}");
        bench.files.put(&path, &other.content(&path).unwrap());
    }
    bench.runtime.sleep(Duration::from_secs(1)).await;
    // The new anchors alone are trusted here, so the handshake proves who serves.
    let credentials = bench.certified().await;
    let server: ServerTls = server_tls(WEB);
    assert_eq!(credentials.local(), &server);
    let client = Arc::new(bench.client(bench.listen.policy, &credentials));
    let target = Target::Name(SERVICE.parse().unwrap());
    assert!(client.watch_client_policy(WORKLOAD, &target).await.is_ok());
}
