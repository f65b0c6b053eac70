//! A host: an address, listeners, clocks, and what survives its processes.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;

use super::tcp::ConnectionId;
use crate::topology::{ClockSkew, HostSpec};

/// A host, by the order of their making.
pub type HostId = usize;

/// A process of a host. Never used twice.
pub type ProcessId = u64;

/// First and last port given out where none is asked for (Linux's default range).
const EPHEMERAL_PORTS: (u16, u16) = (32_768, 60_999);

pub(super) struct Host {
    pub(super) name: Arc<str>,
    pub(super) ip: IpAddr,
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
        let key = [at, any, any_v6].into_iter().find(|key| self.listeners.contains_key(key))?;
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
