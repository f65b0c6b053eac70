//! The mesh that garbage is thrown at: a controller, two proxies and an application that answers
//! with garbage itself, all in this process over one [`MemoryNet`].

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::control::token::{self, ServiceAccountName};
use mesh_core::control::{ControlConfig, Controller, IdentityConfig, ListenConfig, state};
use mesh_core::proxy::config::Config;
use mesh_core::proxy::{self, Process};
use mesh_core::runtime::net::{ListenOptions, Net};
use mesh_core::runtime::{BoxIo, Runtime};
use mesh_core::wire::drain::{self, DrainSignal};
use runtime_real::directory::DirectoryCluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::net::MemoryNet;

/// Where applications send what goes out: the client's proxy.
pub const OUTBOUND: &str = "10.1.0.2:4140";
/// Where everybody's connections to the server come in.
pub const INBOUND: &str = "10.1.0.1:4143";
/// The server's application.
pub const APPLICATION: &str = "10.1.0.1:8080";
/// A service behind the server's proxy, and one without a proxy.
pub const MESHED: &str = "10.96.0.1:80";
/// See [`MESHED`].
pub const PLAIN: &str = "10.96.0.2:80";
/// Who the server is.
pub const SERVER_NAME: &str = "server.test.serviceaccount.identity.linkerd.cluster.local";

/// How long a proxy waits for first bytes.
const DETECT_TIMEOUT: &str = "500ms";

/// How long the application waits for more.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long the start may take.
const START_WITHIN: Duration = Duration::from_secs(10);

const MANIFEST: &str = "\
apiVersion: v1
kind: Service
metadata: {name: meshed, namespace: test}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: test}
spec: {clusterIP: 10.96.0.2, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: server, namespace: test}
spec: {addresses: [10.1.0.1], serviceAccount: server, service: meshed, ports: [{port: 8080}], proxy: {}}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: plain, namespace: test}
spec: {addresses: [10.1.0.9], service: plain, ports: [{port: 8080}]}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: client, namespace: test}
spec: {addresses: [10.1.0.2], serviceAccount: client, proxy: {}}
";

/// A running mesh. Its tasks end with the tokio runtime.
pub struct Mesh {
    /// Everybody's network.
    pub net: MemoryNet,
    _drains: Vec<DrainSignal>,
}

impl Mesh {
    /// Starts it in an empty directory, and waits until the proxies serve.
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn start(directory: &Path) -> Result<Self, String> {
        let manifests = directory.join("manifests");
        let write = || {
            std::fs::create_dir(&manifests)?;
            std::fs::write(manifests.join("mesh.yaml"), MANIFEST)
        };
        write().map_err(|error| error.to_string())?;
        let cluster = DirectoryCluster::open(manifests.clone()).await;
        let cluster = cluster.map_err(|error| error.to_string())?;
        let net = MemoryNet::default();
        let runtime =
            Runtime { net: Arc::new(net.clone()), ..runtime_real::runtime(Arc::new(cluster)) };

        let mut drains = vec![start_controller(&runtime, directory).await?];
        for (name, address) in [("server", "10.1.0.1"), ("client", "10.1.0.2")] {
            let environment = environment(&runtime, directory, name, address).await?;
            let config = Config::from_env(&|variable| environment.get(variable).cloned());
            let config = config.map_err(|errors| errors.to_string())?;
            let (begin, watch) = drain::channel();
            let runs = proxy::run(runtime.clone(), config, Process::default(), watch);
            tokio::spawn(async move {
                if let Err(error) = runs.await {
                    eprintln!("a proxy ended: {error}");
                }
            });
            drains.push(begin);
        }
        for address in [APPLICATION, "10.1.0.9:8080"] {
            serve_application(&net, address).await.map_err(|error| error.to_string())?;
        }
        let mesh = Self { net, _drains: drains };
        mesh.wait_ready().await?;
        Ok(mesh)
    }

    /// Whether a good request is answered by the application through both proxies.
    ///
    /// # Errors
    /// What came instead.
    pub async fn check(&self) -> Result<(), String> {
        let said = async {
            let (mut io, _) = self.net.dial(at(OUTBOUND), Some(at(MESHED))).await?;
            io.write_all(b"GET /good HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n").await?;
            let mut answer = Vec::new();
            io.read_to_end(&mut answer).await?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        match tokio::time::timeout(Duration::from_secs(5), said).await {
            Ok(Ok(said)) if said.starts_with("HTTP/1.1 200") => Ok(()),
            Ok(Ok(said)) => Err(format!("a good request was answered {said:?}")),
            Ok(Err(error)) => Err(format!("a good request failed: {error}")),
            Err(_) => Err("a good request was not answered in 5 s".to_string()),
        }
    }

    async fn wait_ready(&self) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + START_WITHIN;
        loop {
            let last = self.check().await;
            if last.is_ok() || tokio::time::Instant::now() > deadline {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// An address written here.
pub fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address written here")
}

async fn start_controller(runtime: &Runtime, directory: &Path) -> Result<DrainSignal, String> {
    let config = ControlConfig {
        listen: ListenConfig {
            destination: at("127.0.0.1:8086"),
            policy: at("127.0.0.1:8090"),
            identity: at("127.0.0.1:8080"),
            admin: at("127.0.0.1:9996"),
        },
        identity: IdentityConfig {
            state_directory: directory.join("state"),
            ..IdentityConfig::default()
        },
        ..ControlConfig::default()
    };
    let controller = Controller::bind(runtime.clone(), config).await;
    let controller = controller.map_err(|error| error.to_string())?;
    let (begin, watch) = drain::channel();
    tokio::spawn(controller.serve(watch));
    Ok(begin)
}

async fn environment(
    runtime: &Runtime,
    directory: &Path,
    name: &str,
    address: &str,
) -> Result<BTreeMap<String, String>, String> {
    let account = ServiceAccountName::from_username(&format!("system:serviceaccount:test:{name}"))
        .ok_or("an account's name")?;
    let state = directory.join("state");
    let key = state::token_key(runtime, &state).await.map_err(|error| error.to_string())?;
    let life = Duration::from_secs(3600);
    let token = token::create(&*key, &account, runtime.clock.wall(), life);
    let token = token.map_err(|error| error.to_string())?;
    let token_file = directory.join(format!("{name}.token"));
    std::fs::write(&token_file, token).map_err(|error| error.to_string())?;

    let workload = format!(r#"{{"ns":"test","pod":"{name}"}}"#);
    let variables = [
        ("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS", format!("{address}:4140")),
        ("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", format!("{address}:4143")),
        ("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", format!("{address}:4191")),
        ("LINKERD2_PROXY_INBOUND_IPS", address.to_string()),
        ("LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT", DETECT_TIMEOUT.to_string()),
        ("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT", DETECT_TIMEOUT.to_string()),
        ("LINKERD2_PROXY_DESTINATION_SVC_ADDR", "127.0.0.1:8086".to_string()),
        ("LINKERD2_PROXY_POLICY_SVC_ADDR", "127.0.0.1:8090".to_string()),
        ("LINKERD2_PROXY_IDENTITY_SVC_ADDR", "127.0.0.1:8080".to_string()),
        ("LINKERD2_PROXY_DESTINATION_CONTEXT", workload.clone()),
        ("LINKERD2_PROXY_POLICY_WORKLOAD", workload),
        (
            "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
            format!("{name}.test.serviceaccount.identity.linkerd.cluster.local"),
        ),
        ("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", token_file.display().to_string()),
        ("WEFT_IDENTITY_TRUST_ANCHORS_FILE", state.join("ca.crt").display().to_string()),
    ];
    Ok(variables.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
}

/// Serves connections in three ways in turn: as a web server, by repeating what it is sent, and by
/// hanging up.
async fn serve_application(net: &MemoryNet, address: &str) -> io::Result<()> {
    let listener = net.listen(at(address), ListenOptions::default()).await?;
    tokio::spawn(async move {
        for nth in 0_u64.. {
            let Ok(connection) = listener.accept().await else {
                return;
            };
            tokio::spawn(answer(connection.io, nth));
        }
    });
    Ok(())
}

async fn answer(mut io: BoxIo, nth: u64) {
    let mut buffer = vec![0; 4096];
    let mut seen: Vec<u8> = Vec::new();
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(PATIENCE, io.read(&mut buffer)).await {
        seen.extend_from_slice(&buffer[..read]);
        // What the good request asks is answered whatever the turn.
        let good = seen.windows(5).any(|window| window == b"/good");
        let web = good || nth.is_multiple_of(3);
        let said: &[u8] = match () {
            () if web && seen.ends_with(b"\r\n\r\n") => {
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            }
            () if web => b"",
            () if nth % 3 == 1 => &buffer[..read],
            () => return,
        };
        if io.write_all(said).await.is_err() || seen.len() > 64 * 1024 {
            return;
        }
    }
    // A half-closed client is still told the end.
    let _ = io.shutdown().await;
}
