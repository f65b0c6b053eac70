//! The network between hosts: what a segment costs on its way, and everything that moves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_core::time::Timestamp;

use crate::topology::{Resolver, Topology};
use crate::trace::{Capture, Tap, Trace};

use super::agenda::{Agenda, Event, Nanos};
use super::host::{Host, HostId, ProcessId};
use super::patience::RETRANSMIT_MAX;
use super::table::Table;
use super::tcp::Connection;
use super::ways::{Course, Ways};

/// One way of a host to itself.
const LOOPBACK: Nanos = 20_000;
/// Payload of a packet, for what a segment of several packets risks.
const PACKET_BYTES: usize = 1_448;

/// What a segment risks on a lossy link.
#[derive(Clone, Copy)]
pub(super) enum Risk {
    /// Nothing: the next acknowledgement says the same and more.
    None,
    /// It is sent again after this, and each further time after twice as long, for so long.
    Again { first: Nanos, patience: Nanos },
}

/// Everything that moves.
pub(super) struct State {
    pub(super) agenda: Agenda,
    pub(super) hosts: Vec<Host>,
    pub(super) connections: Table<Connection>,
    pub(super) next_process: ProcessId,
    pub(super) next_listener: u64,
    pub(super) ways: Ways,
    /// Until when a link with a bandwidth is busy.
    busy_until: BTreeMap<(HostId, HostId), Nanos>,
    pub(super) topology: Topology,
    pub(super) resolver: Resolver,
    pub(super) resolvers: BTreeMap<HostId, Resolver>,
    pub(super) hosts_by_ip: BTreeMap<IpAddr, HostId>,
    pub(super) tap: Option<Tap>,
    pub(super) capture: Option<Capture>,
    pub(super) trace: Trace,
}

impl State {
    pub(super) fn new(trace: Trace) -> Self {
        Self {
            agenda: Agenda::default(),
            hosts: Vec::new(),
            connections: Table::numbered_from(1),
            next_process: 0,
            next_listener: 0,
            ways: Ways::new(),
            busy_until: BTreeMap::new(),
            topology: Topology::default(),
            resolver: Resolver::default(),
            resolvers: BTreeMap::new(),
            hosts_by_ip: BTreeMap::new(),
            tap: None,
            capture: None,
            trace,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.agenda.now())
    }

    pub(super) fn fire(&mut self, event: Event) {
        let (kind, number) = event.kind();
        self.trace.step(self.now(), kind, number);
        match event {
            Event::Wake(waker) => waker.wake(),
            Event::Arrive { connection, from, number, segment } => {
                self.arrive(connection, from, number, segment)
            }
            Event::SynAgain { connection, attempt } => self.syn_again(connection, attempt),
            Event::GiveUp { connection, from, since } => self.give_up(connection, from, since),
            Event::GiveUpWindow { connection, from, since } => {
                self.give_up_window(connection, from, since)
            }
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

    /// Whether what reaches the way from `a` to `b` now is lost on it.
    pub(super) fn is_cut(&mut self, a: HostId, b: HostId) -> bool {
        let peer = &self.hosts[b];
        a != b && (!peer.on || peer.paused || !self.ways.between(a, b).is_up())
    }

    /// Whether what `a` sends to `b` now does not arrive, or is not sent.
    pub(super) fn is_blocked(&mut self, a: HostId, b: HostId) -> bool {
        a != b && (self.hosts[a].paused || self.is_cut(a, b))
    }

    /// How long a segment takes, retransmissions after loss included; none where it is lost until
    /// its sender's patience is over.
    pub(super) fn transit(
        &mut self,
        a: HostId,
        b: HostId,
        bytes: usize,
        risk: Risk,
    ) -> Option<Nanos> {
        if a == b {
            return Some(LOOPBACK);
        }
        let way = self.ways.between(a, b);
        let random = &mut self.hosts[a].network;
        let mut takes = way.latency(random);
        if let Some(bps) = way.spec.bandwidth_bps {
            let now = self.agenda.now();
            let busy = self.busy_until.entry((a, b)).or_default();
            let on_the_wire = bytes as u64 * 8 * 1_000_000_000 / bps.max(1);
            *busy = (*busy).max(now) + on_the_wire;
            takes += *busy - now;
        }
        if let Risk::Again { first, patience } = risk
            && way.spec.loss > 0.0
        {
            let mut packets = bytes / PACKET_BYTES + 1;
            let (mut waited, mut step) = (0, first);
            loop {
                // What arrived is not sent again.
                packets = (0..packets).filter(|_| random.unit() < way.spec.loss).count();
                if packets == 0 {
                    break;
                }
                waited += step;
                step = (step * 2).min(RETRANSMIT_MAX);
                if waited > patience {
                    return None;
                }
            }
            takes += waited;
        }
        Some(takes)
    }

    /// Does something that may open or close ways, and tells the connections on those that it did.
    pub(super) fn change_ways<T>(
        &mut self,
        affected: Affected,
        change: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let pairs = self.connections.values().map(Connection::hosts);
        let pairs = pairs.filter(|(a, b)| affected.is(&self.ways, *a, *b));
        let pairs: BTreeSet<_> = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        let before: Vec<_> =
            pairs.into_iter().map(|(a, b)| (a, b, self.is_blocked(a, b))).collect();
        let done = change(self);
        let (mut opened, mut closed) = (BTreeSet::new(), BTreeSet::new());
        for (a, b, was_blocked) in before {
            let is_blocked = self.is_blocked(a, b);
            if is_blocked != was_blocked {
                let changed = if is_blocked { &mut closed } else { &mut opened };
                changed.extend([(a, b), (b, a)]);
            }
        }
        if opened.is_empty() && closed.is_empty() {
            return done;
        }
        let now = self.agenda.now();
        for id in self.connections.numbers() {
            let Some(pair) = self.connections.get(id).map(Connection::hosts) else {
                continue;
            };
            for end in 0..2 {
                if opened.contains(&pair) {
                    self.retry(id, end);
                }
                if closed.contains(&pair) {
                    self.plan_probe(id, end, now);
                }
            }
        }
        done
    }
}

/// Which ways a change may open or close.
#[derive(Clone, Copy)]
pub(super) enum Affected {
    All,
    Of(HostId),
    On(Course),
    None,
}

impl Affected {
    /// Whether those between two hosts, either way, are among them.
    fn is(self, ways: &Ways, a: HostId, b: HostId) -> bool {
        let leads = |(from, to), a, b| ways.is_in(from, a) && ways.is_in(to, b);
        match self {
            Self::All => true,
            Self::Of(host) => a == host || b == host,
            Self::On(course) => leads(course, a, b) || leads(course, b, a),
            Self::None => false,
        }
    }
}
