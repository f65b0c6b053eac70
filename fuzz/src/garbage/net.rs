//! TCP in memory: connections without a kernel, so that a million of them take minutes and leave
//! no ports behind. Has no latency, no loss and no reset; the simulators have.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_core::runtime::BoxFuture;
use mesh_core::runtime::net::{Connection, ListenOptions, Listener, Net, TcpOptions};
use tokio::io::DuplexStream;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

/// Bytes under way in one direction of a connection.
const WINDOW_BYTES: usize = 16 * 1024;

/// Connections that wait to be accepted.
const BACKLOG: usize = 1024;

/// Everybody's network. Cloning shares it.
#[derive(Clone, Default)]
pub struct MemoryNet {
    listeners: Arc<Mutex<BTreeMap<SocketAddr, mpsc::Sender<Connection>>>>,
    clients: Arc<AtomicU32>,
}

impl MemoryNet {
    /// Connects to a listener, by way of a redirect rule where `original_dst` is given.
    ///
    /// # Errors
    /// Refused where nobody listens.
    pub async fn dial(
        &self,
        to: SocketAddr,
        original_dst: Option<SocketAddr>,
    ) -> io::Result<(DuplexStream, SocketAddr)> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let backlog = {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), to.port());
            listeners.get(&to).or_else(|| listeners.get(&any)).cloned()
        };
        let (ours, theirs) = tokio::io::duplex(WINDOW_BYTES);
        let peer = self.client_address(to);
        let connection = Connection { io: Box::new(theirs), peer, local: to, original_dst };
        let backlog = backlog.ok_or_else(refused)?;
        backlog.send(connection).await.map_err(|_| refused())?;
        Ok((ours, peer))
    }

    /// Another port, and now and then another address, each time: of the host itself where that is
    /// what is dialed.
    fn client_address(&self, to: SocketAddr) -> SocketAddr {
        let nth = self.clients.fetch_add(1, Ordering::Relaxed);
        let [_, _, high, low] = (nth / 50_000).to_be_bytes();
        let ip = match to.ip().is_loopback() {
            true => Ipv4Addr::LOCALHOST,
            false => Ipv4Addr::new(10, 200, high, low),
        };
        let port = 10_000 + u16::try_from(nth % 50_000).expect("below 50,000");
        SocketAddr::new(ip.into(), port)
    }
}

impl Net for MemoryNet {
    fn connect(
        &self,
        to: SocketAddr,
        _options: TcpOptions,
    ) -> BoxFuture<'static, io::Result<Connection>> {
        let net = self.clone();
        Box::pin(async move {
            let (io, local) = net.dial(to, None).await?;
            Ok(Connection { io: Box::new(io), peer: to, local, original_dst: None })
        })
    }

    fn listen(
        &self,
        at: SocketAddr,
        _options: ListenOptions,
    ) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (sender, accepted) = mpsc::channel(BACKLOG);
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.insert(at, sender);
        let listener: Box<dyn Listener> = Box::new(Accepting { at, accepted: accepted.into() });
        Box::pin(async move { Ok(listener) })
    }

    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let resolved = name.parse().map(|address| vec![address]);
        Box::pin(async move { resolved.map_err(|_| io::ErrorKind::NotFound.into()) })
    }
}

struct Accepting {
    at: SocketAddr,
    accepted: AsyncMutex<mpsc::Receiver<Connection>>,
}

impl Listener for Accepting {
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let mut accepted = self.accepted.lock().await;
            accepted.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.at
    }
}
