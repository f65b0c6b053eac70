//! `weft controller --kubernetes` as a process of a test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::api::client::{ControlAddress, ControlClient};
use mesh_core::model::identity::{DnsName, Identity, ServerTls};
use mesh_core::runtime::Runtime;
use mesh_core::runtime::net::TcpOptions;
use mesh_core::wire::tls::credentials::Credentials;
use runtime_real::no_cluster::NoCluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// The places of ports among a control plane's.
pub const DESTINATION: usize = 0;
pub const IDENTITY: usize = 2;
const ADMIN: usize = 3;
pub const WEBHOOK: usize = 4;
/// Until something must have happened.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn runtime() -> Runtime {
    runtime_real::runtime(Arc::new(NoCluster))
}

/// A control plane that ends with its test.
pub struct Controller {
    child: Child,
    pub ports: [u16; 5],
    log: PathBuf,
}

impl Controller {
    /// One that serves these roles, and takes these arguments beside.
    pub fn start(kubeconfig: &Path, directory: &Path, serve: &str, arguments: &[String]) -> Self {
        let ports = free_ports();
        let [destination, policy, identity, admin, webhook] =
            ports.map(|port: u16| port.to_string());
        let log = directory.join(format!("controller-{serve}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_weft"))
            .args(["controller", "--kubernetes", "--serve", serve, "--listen", "127.0.0.1"])
            .args(["--destination-port", &destination, "--policy-port", &policy])
            .args(["--identity-port", &identity, "--admin-port", &admin])
            .args(["--webhook-port", &webhook])
            .args(arguments)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .current_dir(directory)
            .stderr(std::fs::File::create(&log).expect("a file"))
            .stdin(Stdio::null())
            .spawn()
            .expect("to start weft");
        Self { child, ports, log }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A client of the port of that number among its ports.
    pub fn client(&self, runtime: &Runtime, port: usize) -> ControlClient {
        let authority = SocketAddr::from(([127, 0, 0, 1], self.ports[port])).into();
        let name = DnsName::new("nobody.test").expect("a name");
        let local = ServerTls { identity: Identity::Dns(name.clone()), server_name: name };
        let address = ControlAddress { authority, tls: None };
        ControlClient::new(runtime, address, Credentials::new(runtime, local))
    }

    pub async fn admin(&self, runtime: &Runtime, path: &str) -> Option<String> {
        let to = SocketAddr::from(([127, 0, 0, 1], self.ports[ADMIN]));
        let mut io = runtime.net.connect(to, TcpOptions::default()).await.ok()?.io;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        io.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    pub async fn until_ready(&mut self, runtime: &Runtime) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.admin(runtime, "/ready").await.unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
            if let Some(status) = self.child.try_wait().expect("to ask") {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("it has ended: {status}\n{log}");
            }
            assert!(Instant::now() < deadline, "not ready: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ports that nobody listens on.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
