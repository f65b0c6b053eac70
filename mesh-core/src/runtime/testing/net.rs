//! A network in memory for this crate's own tests: what is sent arrives, at once and in order.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::mpsc;

use crate::runtime::net::{ListenOptions, TcpOptions};
use crate::runtime::{BoxFuture, Connection, Listener, Net};

/// Bytes under way in each direction of a connection; further writes wait.
const BUFFER_BYTES: usize = 64 * 1024;

/// A network with all addresses on it. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct MemoryNet(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    listeners: BTreeMap<SocketAddr, mpsc::Sender<Connection>>,
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Of the connection opened last; counts upward.
    client_port: u16,
    dialed: Vec<SocketAddr>,
    /// Where connections come from; where each goes to, where nothing is said.
    own: Option<IpAddr>,
}

impl MemoryNet {
    /// Makes `name` resolve to `addresses`.
    pub(crate) fn set_name(&self, name: &str, addresses: &[IpAddr]) {
        let addresses = addresses.to_vec();
        self.wires().names.insert(name.to_string(), addresses);
    }

    /// From now on connections come from this address, save those to loopback; else each comes from
    /// the address that it goes to.
    pub(crate) fn connect_from(&self, own: IpAddr) {
        self.wires().own = Some(own);
    }

    /// Where connections were opened or tried, in order.
    pub(crate) fn dialed(&self) -> Vec<SocketAddr> {
        self.wires().dialed.clone()
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().expect("no holder panics")
    }

    /// Opens a connection from a host to `to`, as a redirect rule would that was asked for
    /// `original_dst`.
    pub(crate) fn dial(
        &self,
        from: IpAddr,
        to: SocketAddr,
        original_dst: Option<SocketAddr>,
    ) -> io::Result<Connection> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let mut wires = self.wires();
        wires.dialed.push(to);
        wires.client_port = wires.client_port.wrapping_add(1).max(1);
        let from = SocketAddr::new(from, wires.client_port);
        let (near, far) = tokio::io::duplex(BUFFER_BYTES);
        let listener = wires.listeners.get(&to).ok_or_else(refused)?;
        let accepted = Connection { io: Box::new(far), peer: from, local: to, original_dst };
        listener.try_send(accepted).map_err(|_| refused())?;
        Ok(Connection { io: Box::new(near), peer: to, local: from, original_dst: None })
    }
}

impl Net for MemoryNet {
    fn connect(
        &self,
        to: SocketAddr,
        _options: TcpOptions,
    ) -> BoxFuture<'static, io::Result<Connection>> {
        let own = self.wires().own.filter(|_| !to.ip().is_loopback());
        let opened = self.dial(own.unwrap_or(to.ip()), to, None);
        Box::pin(async move { opened })
    }

    fn listen(
        &self,
        mut at: SocketAddr,
        options: ListenOptions,
    ) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let mut wires = self.wires();
        let taken = |wires: &Wires, at| {
            let listener = wires.listeners.get(&at);
            listener.is_some_and(|listener| !listener.is_closed())
        };
        if at.port() == 0 {
            let free = (49_152..=u16::MAX).find(|&port| {
                at.set_port(port);
                !taken(&wires, at)
            });
            at.set_port(free.unwrap_or(1));
        }
        let bound = if taken(&wires, at) {
            Err(io::Error::from(io::ErrorKind::AddrInUse))
        } else {
            let backlog = options.backlog.unwrap_or(1024) as usize;
            let (sender, accepted) = mpsc::channel(backlog);
            wires.listeners.insert(at, sender);
            let accepted = tokio::sync::Mutex::new(accepted);
            Ok(Box::new(MemoryListener { at, accepted }) as Box<dyn Listener>)
        };
        Box::pin(async move { bound })
    }

    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let addresses = self.wires().names.get(name).cloned();
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        Box::pin(async move { addresses.ok_or_else(not_found) })
    }
}

struct MemoryListener {
    at: SocketAddr,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
}

impl Listener for MemoryListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async {
            let accepted = self.accepted.lock().await.recv().await;
            accepted.ok_or_else(|| io::Error::other("listened to anew"))
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.at
    }
}

#[tokio::test]
async fn what_is_sent_arrives_and_what_is_closed_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let net = MemoryNet::default();
    let at: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = net.listen(at, ListenOptions::default()).await.unwrap();
    let at = listener.local_addr();
    assert!(net.listen(at, ListenOptions::default()).await.is_err());
    let mut client = net.connect(at, TcpOptions::default()).await.unwrap();
    let mut server = listener.accept().await.unwrap();
    assert_eq!((server.peer, server.local), (client.local, client.peer));
    client.io.write_all(b"hello").await.unwrap();
    drop(client);
    let mut read = Vec::new();
    server.io.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"hello");
    drop(listener);
    assert!(net.connect(at, TcpOptions::default()).await.is_err());
    assert_eq!(net.dialed(), [at, at]);
}
