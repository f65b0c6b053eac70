//! Hosts on a network in memory, with the redirect rules that a mesh puts on them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::runtime::net::{ListenOptions, TcpOptions};
use crate::runtime::testing::net::MemoryNet;
use crate::runtime::{BoxFuture, Connection, Listener, Net};

/// Not redirected, as `weft-init` has it: the proxy's own.
const CONTROL_PORT: u16 = 4190;

/// The wires between all hosts. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Wires {
    pub(super) net: MemoryNet,
    rules: Arc<Mutex<Rules>>,
}

#[derive(Default)]
struct Rules {
    /// What comes to a host from others goes to this listener.
    redirects: BTreeMap<IpAddr, SocketAddr>,
    delays: BTreeMap<SocketAddr, Duration>,
    dialed: Vec<(IpAddr, SocketAddr)>,
}

impl Wires {
    /// Sends all that comes to a host from others to `listener`.
    pub(super) fn redirect(&self, to: IpAddr, listener: SocketAddr) {
        self.rules().redirects.insert(to, listener);
    }

    /// From now on a connection to `at` takes so long; [`Duration::MAX`]: for ever.
    pub(super) fn delay(&self, at: SocketAddr, delay: Duration) {
        self.rules().delays.insert(at, delay);
    }

    /// Where `from` opened connections, or tried to.
    pub(super) fn dialed(&self, from: IpAddr) -> Vec<SocketAddr> {
        let by_host = |(host, to): &(IpAddr, SocketAddr)| (*host == from).then_some(*to);
        self.rules().dialed.iter().filter_map(by_host).collect()
    }

    /// One host's door to the network.
    pub(super) fn host(&self, ip: IpAddr) -> Arc<dyn Net> {
        Arc::new(Host { ip, wires: self.clone() })
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().expect("no holder panics")
    }
}

struct Host {
    ip: IpAddr,
    wires: Wires,
}

impl Net for Host {
    fn connect(
        &self,
        to: SocketAddr,
        _options: TcpOptions,
    ) -> BoxFuture<'static, io::Result<Connection>> {
        let mut rules = self.wires.rules();
        rules.dialed.push((self.ip, to));
        let delay = rules.delays.get(&to).copied();
        let inside = to.ip() == self.ip || to.ip().is_loopback();
        let opened = match rules.redirects.get(&to.ip()) {
            Some(listener) if !inside && to.port() != CONTROL_PORT => {
                self.wires.net.dial(self.ip, *listener, Some(to))
            }
            _ => self.wires.net.dial(self.ip, to, None),
        };
        Box::pin(async move {
            match delay {
                Some(Duration::MAX) => std::future::pending().await,
                Some(delay) => tokio::time::sleep(delay).await,
                None => {}
            }
            opened
        })
    }

    fn listen(
        &self,
        at: SocketAddr,
        options: ListenOptions,
    ) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        self.wires.net.listen(at, options)
    }

    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.wires.net.resolve(name)
    }
}
