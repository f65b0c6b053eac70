//! `weft controller --kubernetes` as a process: what proxies are told follows the cluster.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mesh_core::api::client::{ApiStream, ControlAddress, ControlClient};
use mesh_core::model::endpoint::EndpointUpdate;
use mesh_core::model::identity::{DnsName, Identity, ServerTls};
use mesh_core::runtime::Runtime;
use mesh_core::runtime::net::TcpOptions;
use mesh_core::wire::tls::credentials::Credentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::front::Front;
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

/// A control plane that ends with its test.
struct Controller {
    child: Child,
    ports: [u16; 4],
}

impl Controller {
    fn start(kubeconfig: &Path, directory: &Path, serve: &str) -> Self {
        let ports = free_ports();
        let [destination, policy, identity, admin] = ports.map(|port| port.to_string());
        let log = std::fs::File::create(directory.join("controller.log")).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_weft"))
            .args(["controller", "--kubernetes", "--serve", serve, "--listen", "127.0.0.1"])
            .args(["--destination-port", &destination, "--policy-port", &policy])
            .args(["--identity-port", &identity, "--admin-port", &admin])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--state-dir")
            .arg(directory.join("state"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("to start weft");
        Self { child, ports }
    }

    fn client(&self, runtime: &Runtime) -> ControlClient {
        let authority = std::net::SocketAddr::from(([127, 0, 0, 1], self.ports[0])).into();
        let name = DnsName::new("nobody.test").expect("a name");
        let local = ServerTls { identity: Identity::Dns(name.clone()), server_name: name };
        let address = ControlAddress { authority, tls: None };
        ControlClient::new(runtime, address, Credentials::new(runtime, local))
    }

    async fn admin(&self, runtime: &Runtime, path: &str) -> Option<String> {
        let to = std::net::SocketAddr::from(([127, 0, 0, 1], self.ports[3]));
        let mut io = runtime.net.connect(to, TcpOptions::default()).await.ok()?.io;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        io.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    async fn until_ready(&mut self, runtime: &Runtime) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.admin(runtime, "/ready").await.unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
            assert!(self.child.try_wait().expect("to ask").is_none(), "it has ended");
            assert!(tokio::time::Instant::now() < deadline, "not ready: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports() -> [u16; 4] {
    let listeners = [(); 4].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

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
    let mut controller = Controller::start(&front.kubeconfig(), directory.path(), "destination");
    let runtime = runtime_real::runtime(std::sync::Arc::new(runtime_real::no_cluster::NoCluster));
    controller.until_ready(&runtime).await;
    let client = controller.client(&runtime);
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
