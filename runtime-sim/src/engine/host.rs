//! A host: an address, listeners, clocks, and what survives its processes.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;

use super::agenda::Nanos;
use super::clock::HostClock;
use super::tcp::ConnectionId;
use crate::heap::Account;
use crate::random::Random;
use crate::topology::HostSpec;

/// A host, by the order of their making.
pub type HostId = usize;

/// A process of a host. Never used twice.
pub type ProcessId = u64;

/// First and last port given out where none is asked for (Linux's default range).
const EPHEMERAL_PORTS: (u16, u16) = (32_768, 60_999);

pub(super) struct Host {
    pub(super) name: Arc<str>,
    pub(super) ip: IpAddr,
    pub(super) clock: HostClock,
    /// Has power.
    pub(super) on: bool,
    /// Neither its processes run nor its kernel.
    pub(super) paused: bool,
    /// Counts losses of power: connections of an earlier boot are unknown.
    pub(super) boot: u32,
    pub(super) processes: BTreeMap<ProcessId, Process>,
    /// How often each name was started.
    generations: BTreeMap<String, u32>,
    pub(super) listeners: BTreeMap<SocketAddr, Listening>,
    next_port: u16,
    /// Latencies and losses of what it sends.
    pub(super) network: Random,
    /// Which endpoint of a virtual address it gets.
    pub(super) routes: Random,
    /// Its questions to the resolver.
    pub(super) dns: Random,
}

/// A process that lives.
pub(super) struct Process {
    pub(super) name: String,
    /// How often its name was started before, and this time.
    pub(super) generation: u32,
    /// It lives, and does nothing.
    pub(super) hung: bool,
    /// Sleeps that have not ended.
    pub(super) timers: usize,
    /// Whose heap its tasks' is.
    pub(super) account: Arc<Account>,
}

/// A bound socket.
pub(super) struct Listening {
    /// Tells it from a later one at the same address.
    pub(super) id: u64,
    pub(super) process: ProcessId,
    pub(super) backlog: usize,
    pub(super) pending: VecDeque<ConnectionId>,
    pub(super) accepting: Option<Waker>,
    pub(super) options: mesh_core::runtime::net::TcpOptions,
}

impl Host {
    pub(super) fn new(seed: u64, now: Nanos, spec: HostSpec) -> Self {
        let random = |purpose| Random::new(seed, &spec.name, purpose);
        Self {
            network: random("network"),
            routes: random("routes"),
            dns: random("dns"),
            name: spec.name.as_str().into(),
            ip: spec.ip,
            clock: HostClock::new(now, spec.clock),
            on: true,
            paused: false,
            boot: 0,
            processes: BTreeMap::new(),
            generations: BTreeMap::new(),
            listeners: BTreeMap::new(),
            next_port: EPHEMERAL_PORTS.0,
        }
    }

    /// Adds a process, and tells its generation.
    pub(super) fn start(&mut self, id: ProcessId, name: &str) -> &Process {
        let generation = self.generations.entry(name.to_owned()).or_default();
        *generation += 1;
        let process = Process {
            name: name.to_owned(),
            generation: *generation,
            hung: false,
            timers: 0,
            account: Account::open(),
        };
        self.processes.entry(id).or_insert(process)
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
