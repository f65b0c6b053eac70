//! `weft controller --kubernetes` as a process: what proxies are told follows the cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mesh_core::api::client::{ApiStream, ControlClient};
use mesh_core::model::endpoint::EndpointUpdate;
use mesh_core::model::identity::Identity;
use mesh_core::runtime::Crypto as _;
use mesh_core::wire::tls::csr::csr_der;
use runtime_real::crypto::AwsLc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::controller::{Controller, DESTINATION, IDENTITY, PATIENCE, free_ports, runtime};
use super::front::Front;
use super::keys::{Issuer, Root, Volume};
use super::watching::{object, objects};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop}
spec: {containers: [{name: app, image: x, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.244.0.1, podIPs: [{ip: 10.244.0.1}]}
";

fn slice(addresses: &[&str]) -> String {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| format!("{{addresses: [{address}], conditions: {{ready: true}}}}"))
        .collect();
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: web-a, namespace: \
         shop, labels: {{kubernetes.io/service-name: web}}}}, addressType: IPv4, endpoints: [{}], \
         ports: [{{name: http, port: 8080}}]}}",
        endpoints.join(", ")
    )
}

const WEB: &str = "web.shop.serviceaccount.identity.linkerd.cluster.local";

fn addresses(update: &EndpointUpdate) -> String {
    match update {
        EndpointUpdate::Add { endpoints, .. } => {
            let all: Vec<_> = endpoints.iter().map(|e| e.address.to_string()).collect();
            format!("add {}", all.join(" "))
        }
        EndpointUpdate::Remove(addresses) => {
            let all: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            format!("remove {}", all.join(" "))
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn endpoints_follow_the_slices_of_the_cluster_even_over_an_outage() {
    let mut front = Front::start().await;
    for object in objects(MESH) {
        front.server.apply(object);
    }
    front.server.apply(object(&slice(&["10.244.0.1"])));
    let directory = tempfile::tempdir().expect("a directory");
    let mut controller =
        Controller::start(&front.kubeconfig(), directory.path(), "destination", &[]);
    let runtime = runtime();
    controller.until_ready(&runtime).await;
    let client = controller.client(&runtime, DESTINATION);
    let path = "web.shop.svc.cluster.local:80";
    let mut updates = client.watch_endpoints(path, "{}").await.expect("a stream");
    let next = async |updates: &mut ApiStream<EndpointUpdate>| {
        let next = tokio::time::timeout(Duration::from_secs(20), updates.next()).await;
        addresses(&next.expect("in time").expect("no end").expect("no error"))
    };
    assert_eq!(next(&mut updates).await, "add 10.244.0.1:8080");
    front.server.apply(object(&slice(&["10.244.0.1", "10.244.0.2"])));
    assert_eq!(next(&mut updates).await, "add 10.244.0.2:8080");

    front.down().await;
    front.server.apply(object(&slice(&["10.244.0.2"])));
    front.up().await;
    assert_eq!(next(&mut updates).await, "remove 10.244.0.1:8080");

    let metrics = controller.admin(&runtime, "/metrics").await.expect("metrics");
    assert!(metrics.contains("weft_control_objects{kind=\"EndpointSlice\"} 1"), "{metrics}");
    let lease = "/apis/coordination.k8s.io/v1/namespaces/linkerd/leases/policy-controller-write";
    front.until("the lease", |front| front.kept(lease).is_some()).await;
}

/// What Kubernetes mounts for identity, and replaces.
struct Mounted {
    issuer: Volume,
    roots: Volume,
}

impl Mounted {
    fn make(directory: &Path, root: &Root, issuer: &Issuer) -> Self {
        let (of_issuer, roots) = (directory.join("issuer"), directory.join("trust-roots"));
        let mounted = Self { issuer: Volume::make(of_issuer), roots: Volume::make(roots) };
        mounted.roots.put("1", &[("ca-bundle.crt", &root.pem)]);
        mounted.issuer.put("1", &[("crt.pem", &issuer.pem), ("key.pem", &issuer.key)]);
        mounted
    }

    /// What tells a control plane of it.
    fn arguments(&self) -> [String; 4] {
        let roots = self.roots.path().join("ca-bundle.crt");
        let [issuer, roots] = [self.issuer.path(), &roots].map(|path| path.display().to_string());
        ["--issuer-dir".to_owned(), issuer, "--trust-roots".to_owned(), roots]
    }
}

/// The certificate that signed the one that a workload gets now.
async fn signer(client: &ControlClient, token: &str) -> Vec<u8> {
    let key = AwsLc::new().generate_key().expect("a key");
    let csr = csr_der(&key, &Identity::new(WEB).expect("a name")).expect("a request");
    let certificate = client.certify(WEB, token.as_bytes().to_vec(), csr).await;
    certificate.expect("issued").intermediates_der.remove(0)
}

#[tokio::test]
async fn a_rotation_of_the_mounted_issuer_is_taken_up_without_a_restart() {
    let front = Front::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (old, new) = (Root::make("old"), Root::make("new"));
    let mounted = Mounted::make(directory.path(), &old, &old.issuer());
    let (kubeconfig, arguments) = (front.kubeconfig(), mounted.arguments());
    let mut controller = Controller::start(&kubeconfig, directory.path(), "identity", &arguments);
    let runtime = runtime();
    controller.until_ready(&runtime).await;
    let client = controller.client(&runtime, IDENTITY);
    let token = front.server.issue_token("shop", "web", "identity.l5d.io");
    let before = signer(&client, &token).await;
    front
        .until("an event", |front| {
            let events = front.kept_below("/api/v1/namespaces/shop/events/");
            events.iter().any(|event| event["reason"] == "IssuedLeafCertificate")
        })
        .await;

    // Both roots are trusted before the first certificate of the new one.
    let both = format!("{}{}", old.pem, new.pem);
    mounted.roots.put("2", &[("ca-bundle.crt", &both)]);
    let issuer = new.issuer();
    mounted.issuer.put("2", &[("crt.pem", &issuer.pem), ("key.pem", &issuer.key)]);
    let deadline = Instant::now() + PATIENCE;
    while signer(&client, &token).await == before {
        assert!(Instant::now() < deadline, "it is not taken up");
    }
    front
        .until("an event", |front| {
            let events = front.kept_below("/api/v1/namespaces/linkerd/events/");
            events.iter().any(|event| event["reason"] == "IssuerUpdated")
        })
        .await;

    // A certificate that is not the key's: what was good stays in force.
    let taken = signer(&client, &token).await;
    mounted.issuer.put("3", &[("crt.pem", &new.issuer().pem), ("key.pem", &issuer.key)]);
    front
        .until("a warning", |front| {
            let events = front.kept_below("/api/v1/namespaces/linkerd/events/");
            let skipped = events.iter().find(|event| event["reason"] == "IssuerUpdateSkipped");
            skipped.is_some_and(|event| event["message"].to_string().contains("is not the key of"))
        })
        .await;
    assert_eq!(signer(&client, &token).await, taken);
}

/// An application that answers every request with its name.
async fn application(address: SocketAddr, name: &'static str) -> u16 {
    let listener = TcpListener::bind(address).await.expect("an address of loopback");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while io.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let length = name.len();
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
                    if io.write_all(head.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// What answers to a request at an address; none where nothing does.
async fn ask(port: u16) -> Option<String> {
    let mut io = TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let request = "GET / HTTP/1.1\r\nhost: web.shop.svc.cluster.local\r\nconnection: close\r\n\r\n";
    io.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// `weft-proxy`, of the same sources and profile as these tests.
fn proxy_program() -> PathBuf {
    let weft = Path::new(env!("CARGO_BIN_EXE_weft"));
    let built = Command::new(env!("CARGO"))
        .args(["build", "-q", "--workspace", "--bin", "weft-proxy"])
        .args(if cfg!(debug_assertions) { &[][..] } else { &["--release"][..] })
        .status();
    assert!(built.expect("cargo").success());
    weft.with_file_name("weft-proxy")
}

#[tokio::test]
async fn a_proxy_follows_the_slices_of_the_cluster() {
    let program = tokio::task::spawn_blocking(proxy_program).await.expect("built");
    let front = Front::start().await;
    let port = application("127.0.0.1:0".parse().expect("an address"), "one").await;
    application(SocketAddr::from(([127, 0, 0, 2], port)), "two").await;
    for object in objects(MESH) {
        front.server.apply(object);
    }
    let leads_to = |address: &str| {
        let slice = slice(&[address]).replace("port: 8080", &format!("port: {port}"));
        front.server.apply(object(&slice));
    };
    leads_to("127.0.0.1");
    let directory = tempfile::tempdir().expect("a directory");
    let root = Root::make("root");
    let mounted = Mounted::make(directory.path(), &root, &root.issuer());
    let (kubeconfig, serve) = (front.kubeconfig(), "destination,identity");
    let arguments = mounted.arguments();
    let mut controller = Controller::start(&kubeconfig, directory.path(), serve, &arguments);
    controller.until_ready(&runtime()).await;

    let token = directory.path().join("token");
    let issued = front.server.issue_token("shop", "web", "identity.l5d.io");
    std::fs::write(&token, issued).expect("to write");
    let [inbound, outbound, admin] = free_ports();
    let at = |port: u16| format!("127.0.0.1:{port}");
    let workload = r#"{"ns":"shop","pod":"web-1"}"#;
    let proxy = Command::new(program)
        .env("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", at(inbound))
        .env("LINKERD2_PROXY_INBOUND_IPS", "127.0.0.1")
        .env("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "none")
        .env("WEFT_OUTBOUND_LISTENERS", format!("{}=web.shop.svc.cluster.local:80", at(outbound)))
        .env("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", at(admin))
        .env("LINKERD2_PROXY_DESTINATION_SVC_ADDR", at(controller.ports[0]))
        .env("LINKERD2_PROXY_POLICY_SVC_ADDR", at(controller.ports[1]))
        .env("LINKERD2_PROXY_IDENTITY_SVC_ADDR", at(controller.ports[2]))
        .env("LINKERD2_PROXY_DESTINATION_CONTEXT", workload)
        .env("LINKERD2_PROXY_POLICY_WORKLOAD", workload)
        .env("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", WEB)
        .env("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", &token)
        .env("WEFT_IDENTITY_TRUST_ANCHORS_FILE", mounted.roots.path().join("ca-bundle.crt"))
        .stdout(std::fs::File::create(directory.path().join("proxy.log")).expect("a file"))
        .stdin(Stdio::null())
        .spawn()
        .expect("to start weft-proxy");
    let _proxy = Ends(proxy);
    let answers = async |name: &str| {
        let deadline = Instant::now() + PATIENCE;
        while ask(outbound).await.as_deref() != Some(name) {
            assert!(Instant::now() < deadline, "{name} does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    answers("one").await;
    leads_to("127.0.0.2");
    answers("two").await;
    let events = front.kept_below("/api/v1/namespaces/shop/events/");
    let issued = events.iter().find(|event| event["reason"] == "IssuedLeafCertificate");
    assert!(issued.is_some(), "it has an identity by TokenReview: {events:?}");
}

/// A process that ends with its test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
