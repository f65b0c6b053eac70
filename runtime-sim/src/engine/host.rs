//! A host: an address, listeners, redirect rules, clocks, and what survives its processes.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::tcp::ConnectionId;

/// A host, by the order of their making.
pub type HostId = usize;

/// A process of a host. Never used twice.
pub type ProcessId = u64;

/// First and last port given out where none is asked for (Linux's default range).
const EPHEMERAL_PORTS: (u16, u16) = (32_768, 60_999);

/// What a host is like.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// Name, unique; names its random streams.
    pub name: String,
    /// Address, unique.
    pub ip: IpAddr,
    /// Rules that bring connections to a proxy of the host.
    pub redirect: Option<Redirect>,
    /// How far the host's wall clock is from the truth.
    pub clock_skew: ClockSkew,
}

impl HostSpec {
    /// A host with a right clock and no rules.
    pub fn new(name: impl Into<String>, ip: IpAddr) -> Self {
        Self {
            name: name.into(),
            ip,
            redirect: None,
            clock_skew: ClockSkew::default(),
        }
    }
}

/// The wall clock's error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSkew {
    /// How far it is ahead.
    pub ahead: Duration,
    /// How far it is behind.
    pub behind: Duration,
}

/// Redirect rules, as an init container installs them. Connections to the host's own addresses
/// are never redirected, nor are those of processes that are the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The port on 127.0.0.1 that takes what the host's programs connect to.
    pub outbound_port: u16,
    /// The port that takes what other hosts connect to.
    pub inbound_port: u16,
    /// Ports that programs reach directly.
    pub skip_outbound_ports: Vec<u16>,
    /// Ports that other hosts reach directly.
    pub skip_inbound_ports: Vec<u16>,
}

impl Default for Redirect {
    /// 4140 and 4143; the proxy's tap and admin ports are reached directly.
    fn default() -> Self {
        Self {
            outbound_port: 4140,
            inbound_port: 4143,
            skip_outbound_ports: Vec::new(),
            skip_inbound_ports: vec![4190, 4191],
        }
    }
}

pub(super) struct Host {
    pub(super) name: Arc<str>,
    pub(super) ip: IpAddr,
    pub(super) redirect: Option<Redirect>,
    pub(super) clock_skew: ClockSkew,
    /// Has power.
    pub(super) on: bool,
    /// Its processes do not run; its kernel does.
    pub(super) paused: bool,
    /// Counts losses of power: connections of an earlier boot are unknown.
    pub(super) boot: u32,
    pub(super) processes: BTreeMap<ProcessId, String>,
    pub(super) listeners: BTreeMap<SocketAddr, Listening>,
    next_port: u16,
}

/// A bound socket.
pub(super) struct Listening {
    /// Tells it from a later one at the same address.
    pub(super) id: u64,
    pub(super) backlog: usize,
    pub(super) pending: VecDeque<ConnectionId>,
    pub(super) accepting: Option<Waker>,
    pub(super) options: mesh_core::runtime::net::TcpOptions,
}

impl Host {
    pub(super) fn new(spec: HostSpec) -> Self {
        Self {
            name: spec.name.into(),
            ip: spec.ip,
            redirect: spec.redirect,
            clock_skew: spec.clock_skew,
            on: true,
            paused: false,
            boot: 0,
            processes: BTreeMap::new(),
            listeners: BTreeMap::new(),
            next_port: EPHEMERAL_PORTS.0,
        }
    }

    pub(super) fn has(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || ip == self.ip
    }

    /// The listener that takes connections to `at`.
    pub(super) fn listener_for(&mut self, at: SocketAddr) -> Option<&mut Listening> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port());
        let any_v6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), at.port());
        let key = [at, any, any_v6]
            .into_iter()
            .find(|key| self.listeners.contains_key(key))?;
        self.listeners.get_mut(&key)
    }

    /// Whether a new listener at this address would take connections from an existing one.
    pub(super) fn is_bound(&self, at: SocketAddr) -> bool {
        self.listeners.keys().any(|bound| {
            bound.port() == at.port()
                && (bound.ip() == at.ip()
                    || bound.ip().is_unspecified()
                    || at.ip().is_unspecified())
        })
    }

    /// The next free port, round and round. The range is far larger than what a scenario opens
    /// within one round.
    pub(super) fn free_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = match port {
                port if port == EPHEMERAL_PORTS.1 => EPHEMERAL_PORTS.0,
                port => port + 1,
            };
            if !self.listeners.keys().any(|bound| bound.port() == port) {
                return port;
            }
        }
    }
}
