//! The network between hosts: links and what they cost, and everything that moves on them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::random::Random;
use crate::topology::Topology;
use crate::trace::{Tap, Trace};

use super::agenda::{Agenda, Event, Nanos};
use super::host::{Host, HostId, ProcessId};
use super::tcp::{Connection, ConnectionId, RETRANSMIT};

/// One way of a host to itself.
const LOOPBACK: Nanos = 20_000;
/// Retransmissions after which a lossy link's segment gets through anyway.
const LOSSES_MAX: u32 = 6;
/// Payload of a packet, for what a segment of several packets risks.
const PACKET_BYTES: usize = 1_448;

/// What one direction between two hosts is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// The median time a packet takes.
    pub latency_median: Duration,
    /// The 99th percentile of it.
    pub latency_p99: Duration,
    /// The part of packets that are lost and sent again.
    pub loss: f64,
    /// Bits per second; none for no limit.
    pub bandwidth_bps: Option<u64>,
    /// Whether anything gets through.
    pub up: bool,
}

impl Default for Link {
    /// Two machines in one data centre.
    fn default() -> Self {
        Self {
            latency_median: Duration::from_micros(300),
            latency_p99: Duration::from_millis(1),
            loss: 0.0,
            bandwidth_bps: None,
            up: true,
        }
    }
}

/// Everything that moves.
pub(super) struct State {
    pub(super) agenda: Agenda,
    pub(super) hosts: Vec<Host>,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) next_connection: ConnectionId,
    pub(super) next_process: ProcessId,
    pub(super) next_listener: u64,
    pub(super) default_link: Link,
    links: BTreeMap<(HostId, HostId), Link>,
    /// Until when a link with a bandwidth is busy.
    busy_until: BTreeMap<(HostId, HostId), Nanos>,
    pub(super) topology: Topology,
    pub(super) hosts_by_ip: BTreeMap<IpAddr, HostId>,
    pub(super) tap: Option<Tap>,
    pub(super) random: Random,
    pub(super) trace: Trace,
}

impl State {
    pub(super) fn new(random: Random, trace: Trace) -> Self {
        Self {
            agenda: Agenda::default(),
            hosts: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            next_process: 0,
            next_listener: 0,
            default_link: Link::default(),
            links: BTreeMap::new(),
            busy_until: BTreeMap::new(),
            topology: Topology::default(),
            hosts_by_ip: BTreeMap::new(),
            tap: None,
            random,
            trace,
        }
    }

    pub(super) fn fire(&mut self, event: Event) {
        match event {
            Event::Wake(waker) => waker.wake(),
            Event::Arrive { connection, from, number, segment } => {
                self.arrive(connection, from, number, segment)
            }
            Event::GiveUp { connection, from, since } => self.give_up(connection, from, since),
            Event::Probe { connection, end, silent_since } => {
                self.probe(connection, end, silent_since)
            }
            Event::Unreachable { connection } => {
                self.fail(connection, 0, std::io::ErrorKind::HostUnreachable);
                // Who connected may have given up before.
                self.forget_if_over(connection);
            }
        }
    }

    pub(super) fn link(&self, a: HostId, b: HostId) -> Link {
        self.links.get(&(a, b)).copied().unwrap_or(self.default_link)
    }

    /// Whether what `a` sends to `b` now is lost.
    pub(super) fn is_blocked(&self, a: HostId, b: HostId) -> bool {
        a != b && (!self.link(a, b).up || !self.hosts[b].on)
    }

    /// How long a segment takes, retransmissions after loss included.
    pub(super) fn delay(&mut self, a: HostId, b: HostId, bytes: usize) -> Nanos {
        if a == b {
            return LOOPBACK;
        }
        let link = self.link(a, b);
        let mut delay = self.latency(&link);
        if let Some(bps) = link.bandwidth_bps {
            let now = self.agenda.now();
            let busy = self.busy_until.entry((a, b)).or_default();
            let takes = bytes as u64 * 8 * 1_000_000_000 / bps.max(1);
            *busy = (*busy).max(now) + takes;
            delay += *busy - now;
        }
        if link.loss > 0.0 {
            let packets = (bytes / PACKET_BYTES + 1) as i32;
            let lost = 1.0 - (1.0 - link.loss).powi(packets);
            let mut losses = 0;
            while losses < LOSSES_MAX && self.random.unit() < lost {
                delay += RETRANSMIT << losses;
                losses += 1;
            }
        }
        delay
    }

    /// Log-normal: most packets near the median, a tail that reaches the 99th percentile.
    fn latency(&mut self, link: &Link) -> Nanos {
        let median = link.latency_median.as_nanos() as f64;
        let p99 = link.latency_p99.max(link.latency_median).as_nanos() as f64;
        if median == 0.0 {
            return 0;
        }
        let sigma = (p99 / median).ln() / 2.326;
        (median * (sigma * self.random.normal()).exp()) as Nanos
    }

    /// Changes one direction. What waited for it is sent again where it came up.
    pub(super) fn set_link(&mut self, a: HostId, b: HostId, link: Link) {
        let was_up = self.link(a, b).up;
        self.links.insert((a, b), link);
        if was_up != link.up {
            self.way_changed(|x, y| (x, y) == (a, b) || (y, x) == (a, b), link.up);
        }
    }

    /// The ways that `between` tells opened or closed.
    pub(super) fn way_changed(&mut self, between: impl Fn(HostId, HostId) -> bool, opened: bool) {
        let now = self.agenda.now();
        let concerned: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| between(c.ends[0].host, c.ends[1].host))
            .map(|(id, _)| *id)
            .collect();
        for id in concerned {
            for end in 0..2 {
                match opened {
                    true => self.retry(id, end),
                    false => self.plan_probe(id, end, now),
                }
            }
        }
    }
}
