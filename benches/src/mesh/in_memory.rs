//! The same path without a kernel: one thread, and connections that are buffers in memory. What is
//! left of a request's time is the programs' own: both proxies, TLS, HTTP/1 and HTTP/2, and the
//! executor.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use mesh_core::proxy::config::Config;
use mesh_core::proxy::{self, Process};
use mesh_core::runtime::net::{ListenOptions, TcpOptions};
use mesh_core::runtime::{BoxFuture, BoxIo, Connection, Listener, Net, Runtime};
use mesh_core::wire::drain;
use runtime_real::directory::DirectoryCluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::{BODY, Hosts, answer, bind_control, environment, manifests};
use crate::allocations::Role;

/// What a connection holds in each direction, as a socket's buffer would.
const BUFFER_BYTES: usize = 64 * 1024;

/// Connections that wait to be accepted.
const BACKLOG: usize = 64;

/// A mesh of two proxies, a control plane, a server, and a client's connection.
pub struct InMemory {
    tokio: tokio::runtime::Runtime,
    client: BoxIo,
    _directory: tempfile::TempDir,
}

impl InMemory {
    /// Starts everything; the connection has carried a request when this returns.
    ///
    /// # Errors
    /// As the system's, of a temporary directory.
    pub fn start() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let tokio = runtime_real::current_thread()?;
        let client = tokio.block_on(set_up(directory.path()))?;
        let mut path = Self { tokio, client, _directory: directory };
        path.exchange("/")?;
        Ok(path)
    }

    /// One request and its response.
    ///
    /// # Errors
    /// Where it is not answered as the server does.
    pub fn exchange(&mut self, path: &str) -> io::Result<()> {
        let Self { tokio, client, .. } = self;
        tokio.block_on(exchange(client, path))
    }
}

async fn set_up(directory: &Path) -> io::Result<BoxIo> {
    let hosts = Hosts::new(0);
    std::fs::create_dir_all(directory.join("manifests"))?;
    std::fs::write(directory.join("manifests/all.yaml"), manifests(hosts))?;
    let cluster = DirectoryCluster::open(directory.join("manifests")).await?;
    let runtime =
        Runtime { net: Arc::new(MemoryNet::default()), ..runtime_real::runtime(Arc::new(cluster)) };
    let controller = bind_control(&runtime, hosts, directory).await;
    // Kept by the tasks: nothing here ever drains.
    let (signal, never) = drain::channel();
    std::mem::forget(signal);
    runtime.spawn("controller", controller.serve(never.clone()));
    let listener = runtime.net.listen(hosts.server(), ListenOptions::default()).await?;
    runtime.spawn("server", serve(runtime.clone(), listener));
    for role in [Role::Inbound, Role::Outbound] {
        let variables = environment(role, hosts, directory);
        let config = Config::from_env(&|name: &str| variables.get(name).cloned());
        let config = config.expect("the environment of a mesh is right");
        let proxy = proxy::run(runtime.clone(), config, Process::default(), never.clone());
        runtime.spawn("proxy", async move { proxy.await.expect("no address is taken") });
    }
    // A proxy listens for requests once it is configured.
    loop {
        tokio::task::yield_now().await;
        if let Ok(client) = runtime.net.connect(hosts.call(), TcpOptions::default()).await {
            return Ok(client.io);
        }
    }
}

async fn exchange(client: &mut BoxIo, path: &str) -> io::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: server.bench.svc.cluster.local\r\n\r\n");
    client.write_all(request.as_bytes()).await?;
    let (mut read, mut bytes) = ([0; 4096], 0);
    while !read[..bytes].ends_with(BODY) {
        match client.read(&mut read[bytes..]).await? {
            0 => break,
            more => bytes += more,
        }
    }
    match read[..bytes].starts_with(b"HTTP/1.1 200 ") && read[..bytes].ends_with(BODY) {
        true => Ok(()),
        false => {
            let got = String::from_utf8_lossy(&read[..bytes]);
            Err(io::Error::other(format!("not the server's answer: {got}")))
        }
    }
}

async fn serve(runtime: Runtime, listener: Box<dyn Listener>) {
    while let Ok(Connection { mut io, .. }) = listener.accept().await {
        runtime.spawn("connection", async move {
            let (answer, mut read) = (answer(), [0; 4096]);
            while let Ok(1..) = io.read(&mut read).await {
                if io.write_all(&answer).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// Connections in memory. An address is listened on or refuses; there are no names.
#[derive(Clone, Default)]
struct MemoryNet(Arc<Listeners>);

#[derive(Default)]
struct Listeners {
    by_address: Mutex<BTreeMap<SocketAddr, mpsc::Sender<Connection>>>,
    ports_given: AtomicU16,
}

impl Net for MemoryNet {
    fn connect(&self, to: SocketAddr, _: TcpOptions) -> BoxFuture<'static, io::Result<Connection>> {
        let listening = self.0.by_address.lock().ok().and_then(|all| all.get(&to).cloned());
        let port = 20_000 + self.0.ports_given.fetch_add(1, Ordering::Relaxed) % 40_000;
        Box::pin(async move {
            let listener = listening.ok_or(io::ErrorKind::ConnectionRefused)?;
            let local = SocketAddr::new(to.ip(), port);
            let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
            let accepted = end(theirs, to, local);
            listener.send(accepted).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(end(ours, local, to))
        })
    }

    fn listen(
        &self,
        at: SocketAddr,
        _: ListenOptions,
    ) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (sender, accepted) = mpsc::channel(BACKLOG);
        if let Ok(mut all) = self.0.by_address.lock() {
            all.insert(at, sender);
        }
        let listener = Accepting { at, accepted: AsyncMutex::new(accepted) };
        Box::pin(async move { Ok(Box::new(listener) as Box<dyn Listener>) })
    }

    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let address = name.parse().map_err(|_| io::ErrorKind::NotFound.into());
        Box::pin(async move { address.map(|address| vec![address]) })
    }
}

fn end(io: tokio::io::DuplexStream, local: SocketAddr, peer: SocketAddr) -> Connection {
    Connection { io: Box::new(io), peer, local, original_dst: None }
}

struct Accepting {
    at: SocketAddr,
    accepted: AsyncMutex<mpsc::Receiver<Connection>>,
}

impl Listener for Accepting {
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async {
            let next = self.accepted.lock().await.recv().await;
            next.ok_or_else(|| io::ErrorKind::NotConnected.into())
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.at
    }
}
