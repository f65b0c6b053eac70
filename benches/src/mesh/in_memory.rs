//! The same path without a kernel: one thread, and connections that are buffers in memory. What is
//! left of a request's time is the programs' own: both proxies, TLS, HTTP/1 and HTTP/2, and the
//! executor.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_core::control::VizConfig;
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

/// Where the control plane answers people, where it does.
const VIZ: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8084);

/// How long what a tap tells of one request is waited for, before the next is sent.
const TOLD_WITHIN: Duration = Duration::from_millis(20);

/// Connections that wait to be accepted.
const BACKLOG: usize = 64;

/// Whether the proxies can be tapped, and are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taps {
    /// Nobody may.
    Absent,
    /// The control plane may, and does not: as everywhere, nearly always.
    Possible,
    /// Both proxies are tapped, and what they tell was read once and is not any more.
    Unread,
}

/// A mesh of two proxies, a control plane, a server, and a client's connection.
pub struct InMemory {
    tokio: tokio::runtime::Runtime,
    client: BoxIo,
    /// The tap's, where there is one: open, and not read.
    _tap: Option<BoxIo>,
    _directory: tempfile::TempDir,
}

impl InMemory {
    /// Starts everything; the connection has carried a request when this returns.
    ///
    /// # Errors
    /// As the system's, of a temporary directory.
    pub fn start(taps: Taps) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let tokio = runtime_real::current_thread()?;
        let (runtime, mut client) = tokio.block_on(set_up(directory.path(), taps))?;
        let tap = tokio.block_on(async {
            exchange(&mut client, "/").await?;
            match taps {
                Taps::Unread => open_tap(&runtime, &mut client).await.map(Some),
                Taps::Absent | Taps::Possible => Ok(None),
            }
        })?;
        Ok(Self { tokio, client, _tap: tap, _directory: directory })
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

async fn set_up(directory: &Path, taps: Taps) -> io::Result<(Runtime, BoxIo)> {
    let hosts = Hosts::new(0);
    std::fs::create_dir_all(directory.join("manifests"))?;
    std::fs::write(directory.join("manifests/all.yaml"), manifests(hosts))?;
    let cluster = DirectoryCluster::open(directory.join("manifests")).await?;
    let runtime =
        Runtime { net: Arc::new(MemoryNet::default()), ..runtime_real::runtime(Arc::new(cluster)) };
    let viz = (taps == Taps::Unread).then(|| VizConfig::new(VIZ));
    let controller = bind_control(&runtime, hosts, directory, viz).await;
    // Kept by the tasks: nothing here ever drains.
    let (signal, never) = drain::channel();
    std::mem::forget(signal);
    runtime.spawn("controller", controller.serve(never.clone()));
    let listener = runtime.net.listen(hosts.server(), ListenOptions::default()).await?;
    runtime.spawn("server", serve(runtime.clone(), listener));
    for role in [Role::Inbound, Role::Outbound] {
        let mut variables = environment(role, hosts, directory);
        if taps == Taps::Absent {
            variables.remove("LINKERD2_PROXY_TAP_SVC_NAME");
        }
        let config = Config::from_env(&|name: &str| variables.get(name).cloned());
        let config = config.expect("the environment of a mesh is right");
        let proxy = proxy::run(runtime.clone(), config, Process::default(), never.clone());
        runtime.spawn("proxy", async move { proxy.await.expect("no address is taken") });
    }
    // A proxy listens for requests once it is configured.
    loop {
        tokio::task::yield_now().await;
        if let Ok(client) = runtime.net.connect(hosts.call(), TcpOptions::default()).await {
            return Ok((runtime, client.io));
        }
    }
}

/// A tap of both proxies, over the public API, once both have told of a request.
async fn open_tap(runtime: &Runtime, client: &mut BoxIo) -> io::Result<BoxIo> {
    let mut io = runtime.net.connect(VIZ, TcpOptions::default()).await?.io;
    let ask =
        "GET /api/v1/tap?resource=ns/bench&max_rps=1000000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    io.write_all(ask.as_bytes()).await?;
    let (mut told, mut read) = (String::new(), vec![0; BUFFER_BYTES]);
    while !["INBOUND", "OUTBOUND"].iter().all(|side| told.contains(side)) {
        exchange(client, "/").await?;
        let reading = tokio::time::timeout(TOLD_WITHIN, io.read(&mut read)).await;
        match reading {
            Ok(Ok(bytes @ 1..)) => told.push_str(&String::from_utf8_lossy(&read[..bytes])),
            Ok(Ok(0)) => return Err(io::Error::other(format!("the tap is over: {told}"))),
            Ok(Err(error)) => return Err(error),
            // Its proxies are on their way to know of it.
            Err(_) => {}
        }
    }
    Ok(io)
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
