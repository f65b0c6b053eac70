//! TCP as its users see it: per connection and direction, bytes in order behind a window, half-close,
//! resets, a backlog, and the kernel's patience (SYN timeout, retransmission, user timeout).
//!
//! Not a packet simulator: a segment that finds no way waits and is sent again on TCP's schedule
//! once there is one. Numbers put back in order what jitter or retransmission overtook.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::Waker;

use bytes::Bytes;

use mesh_core::runtime::net::TcpOptions;
use mesh_core::time::Timestamp;

use super::agenda::{Event, Nanos, Planned};
use super::host::HostId;
use super::network::State;
use crate::trace::Delivery;

pub(super) type ConnectionId = u64;

const MILLISECOND: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MILLISECOND;
/// Bytes one direction holds: sent and not acknowledged, or received and not read.
pub(super) const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes of one segment, as with segmentation offload.
pub(super) const SEGMENT_BYTES_MAX: usize = 64 * 1024;
/// First retransmission; each further one after twice the time, up to two minutes.
pub(super) const RETRANSMIT: Nanos = 200 * MILLISECOND;
const RETRANSMIT_MAX: Nanos = 120 * SECOND;
const SYN_RETRANSMIT: Nanos = SECOND;
/// Six retransmitted SYNs: 1 + 2 + 4 + … + 64 s.
const SYN_TIMEOUT: Nanos = 127 * SECOND;
/// Fifteen retransmissions, as `tcp_retries2` has it.
const SEND_TIMEOUT: Nanos = 924_600 * MILLISECOND;
/// Unanswered keepalive probes after which a peer is dead, as `tcp_keepalive_probes` has it.
const KEEPALIVE_PROBES: u32 = 9;

/// What travels.
pub(super) enum Segment {
    Syn,
    SynAck,
    Refuse,
    Data(Bytes),
    Fin,
    Rst,
    /// So many bytes of the other direction arrived. Has no number.
    Ack(usize),
}

impl Segment {
    fn wire_bytes(&self) -> usize {
        match self {
            Self::Data(bytes) => 40 + bytes.len(),
            _ => 40,
        }
    }
}

pub(super) struct Connection {
    /// The end that connected, and the end that accepted.
    pub(super) ends: [End; 2],
    /// Directions, by the end that sends.
    pub(super) pipes: [Pipe; 2],
    pub(super) phase: Phase,
    /// Where the SYN asks for a listener, after every redirect.
    pub(super) target: SocketAddr,
    /// Where it asked before a redirect rule.
    pub(super) original_dst: Option<SocketAddr>,
    pub(super) connecting: Option<Waker>,
    syn_timer: Option<Planned>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Open,
    Failed(ErrorKind),
}

pub(super) struct End {
    pub(super) host: HostId,
    /// The boot of the host that knows this end.
    pub(super) boot: u32,
    pub(super) address: SocketAddr,
    /// A program or a backlog holds the socket.
    pub(super) held: bool,
    pub(super) options: TcpOptions,
    pub(super) failed: Option<ErrorKind>,
}

#[derive(Default)]
pub(super) struct Pipe {
    /// Sent bytes whose acknowledgement has not come.
    pub(super) unacked: usize,
    pub(super) received: VecDeque<Bytes>,
    pub(super) received_bytes: usize,
    pub(super) fin_sent: bool,
    pub(super) fin_received: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    next_number: u64,
    expected: u64,
    /// Arrived before what was sent before them.
    early: BTreeMap<u64, Segment>,
    /// Found no way.
    stalled: BTreeMap<u64, Segment>,
    /// Arrived, but the acknowledgement found no way back.
    ack_stalled: usize,
    stalled_since: Option<Nanos>,
    /// Segments under way.
    travelling: usize,
}

impl Pipe {
    /// Bytes that may be sent now.
    pub(super) fn room(&self) -> usize {
        WINDOW_BYTES.saturating_sub(self.unacked + self.received_bytes)
    }

    fn is_quiet(&self) -> bool {
        self.travelling == 0 && self.stalled.is_empty()
    }

    fn forget(&mut self) {
        self.stalled.clear();
        self.ack_stalled = 0;
        self.stalled_since = None;
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// The first time from `now` on at which something first sent at `since` is sent again.
fn next_retry(since: Nanos, first: Nanos, now: Nanos) -> Nanos {
    let (mut at, mut step) = (since + first, first);
    while at < now {
        step = (step * 2).min(RETRANSMIT_MAX);
        at += step;
    }
    at
}

impl State {
    /// A new connection, whose SYN is on its way.
    pub(super) fn dial(
        &mut self,
        ends: [End; 2],
        target: SocketAddr,
        original_dst: Option<SocketAddr>,
    ) -> ConnectionId {
        self.next_connection += 1;
        let id = self.next_connection;
        let now = self.agenda.now();
        let give_up = Event::GiveUp { connection: id, from: 0, since: now };
        let syn_timer = Some(self.agenda.plan(now + SYN_TIMEOUT, give_up));
        let connection = Connection {
            ends,
            pipes: Default::default(),
            phase: Phase::Connecting,
            target,
            original_dst,
            connecting: None,
            syn_timer,
        };
        self.connections.insert(id, connection);
        id
    }

    /// Sends a segment from an end, or holds it back while there is no way.
    pub(super) fn send(&mut self, id: ConnectionId, from: usize, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (a, b) = (connection.ends[from].host, connection.ends[1 - from].host);
        let pipe = &mut connection.pipes[from];
        let number = pipe.next_number;
        pipe.next_number += 1;
        if self.is_blocked(a, b) {
            self.stall(id, from, number, segment);
        } else {
            let at = self.agenda.now() + self.delay(a, b, segment.wire_bytes());
            self.plan_arrival(id, from, number, segment, at);
        }
    }

    fn plan_arrival(
        &mut self,
        id: ConnectionId,
        from: usize,
        number: u64,
        segment: Segment,
        at: Nanos,
    ) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.pipes[from].travelling += 1;
        }
        let event = Event::Arrive { connection: id, from, number, segment };
        self.agenda.plan(at, event);
    }

    fn stall(&mut self, id: ConnectionId, from: usize, number: u64, segment: Segment) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.pipes[from].stalled.insert(number, segment);
        }
        self.lose_patience(id, from);
    }

    /// Starts the time after which the sender gives up, where it does not run.
    fn lose_patience(&mut self, id: ConnectionId, from: usize) {
        let now = self.agenda.now();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let pipe = &mut connection.pipes[from];
        if pipe.stalled_since.is_some() {
            return;
        }
        pipe.stalled_since = Some(now);
        let patience = match connection.ends[from].options.user_timeout {
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(SEND_TIMEOUT),
            None => SEND_TIMEOUT,
        };
        let event = Event::GiveUp { connection: id, from, since: now };
        self.agenda.plan(now + patience, event);
    }

    /// The way from `from` may be open again, either way: what waited is sent again.
    pub(super) fn retry(&mut self, id: ConnectionId, from: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (a, b) = (connection.ends[from].host, connection.ends[1 - from].host);
        let first = match connection.phase {
            Phase::Connecting => SYN_RETRANSMIT,
            _ => RETRANSMIT,
        };
        let Some(since) = connection.pipes[from].stalled_since else {
            return;
        };
        let at = next_retry(since, first, self.agenda.now());
        if !self.is_blocked(a, b) {
            for (number, segment) in std::mem::take(self.stalled(id, from)) {
                let at = at + self.delay(a, b, segment.wire_bytes());
                self.plan_arrival(id, from, number, segment, at);
            }
        }
        if !self.is_blocked(b, a) {
            let bytes = std::mem::take(&mut self.pipe(id, from).ack_stalled);
            if bytes > 0 {
                let at = at + self.delay(b, a, 40);
                self.plan_arrival(id, 1 - from, u64::MAX, Segment::Ack(bytes), at);
            }
        }
        let pipe = self.pipe(id, from);
        if pipe.stalled.is_empty() && pipe.ack_stalled == 0 {
            pipe.stalled_since = None;
        }
    }

    /// The connection exists: the callers have just looked it up.
    fn pipe(&mut self, id: ConnectionId, from: usize) -> &mut Pipe {
        let connection = self.connections.get_mut(&id);
        &mut connection.expect("looked up by the caller").pipes[from]
    }

    fn stalled(&mut self, id: ConnectionId, from: usize) -> &mut BTreeMap<u64, Segment> {
        &mut self.pipe(id, from).stalled
    }

    /// A segment reaches the other end, unless the way was cut while it travelled.
    pub(super) fn arrive(&mut self, id: ConnectionId, from: usize, number: u64, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (a, b) = (connection.ends[from].host, connection.ends[1 - from].host);
        connection.pipes[from].travelling -= 1;
        if let Segment::Ack(bytes) = segment {
            let pipe = &mut connection.pipes[1 - from];
            pipe.unacked = pipe.unacked.saturating_sub(bytes);
            wake(&mut pipe.writer);
        } else if self.is_blocked(a, b) {
            self.stall(id, from, number, segment);
        } else {
            self.pipe(id, from).early.insert(number, segment);
            while let Some(segment) = self.in_order(id, from) {
                self.deliver(id, from, segment);
            }
        }
        self.forget_if_over(id);
    }

    fn in_order(&mut self, id: ConnectionId, from: usize) -> Option<Segment> {
        let pipe = &mut self.connections.get_mut(&id)?.pipes[from];
        // Sent by an earlier boot of the host, and overtaken by its death.
        pipe.early = pipe.early.split_off(&pipe.expected);
        let segment = pipe.early.remove(&pipe.expected)?;
        pipe.expected += 1;
        Some(segment)
    }

    fn deliver(&mut self, id: ConnectionId, from: usize, segment: Segment) {
        match segment {
            Segment::Syn => self.deliver_syn(id),
            Segment::SynAck => self.deliver_syn_ack(id),
            Segment::Refuse => self.fail(id, 0, ErrorKind::ConnectionRefused),
            Segment::Data(bytes) => self.deliver_data(id, from, bytes),
            Segment::Fin => {
                self.note(id, 1 - from, "end of stream");
                let pipe = self.pipe(id, from);
                pipe.fin_received = true;
                wake(&mut pipe.reader);
            }
            Segment::Rst => {
                self.note(id, 1 - from, "reset");
                self.pipe(id, 1 - from).forget();
                self.fail(id, 1 - from, ErrorKind::ConnectionReset);
            }
            Segment::Ack(_) => {}
        }
    }

    fn deliver_syn(&mut self, id: ConnectionId) {
        let now = self.agenda.now();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (host, target) = (connection.ends[1].host, connection.target);
        let boot = self.hosts[host].boot;
        connection.ends[1].boot = boot;
        match self.hosts[host].listener_for(target) {
            Some(listener) if listener.pending.len() < listener.backlog => {
                listener.pending.push_back(id);
                wake(&mut listener.accepting);
                connection.ends[1].held = true;
                connection.ends[1].options = listener.options;
                self.note(id, 1, "connected");
                self.send(id, 1, Segment::SynAck);
            }
            // Dropped; the peer sends it again.
            Some(_) => {
                let pipe = self.pipe(id, 0);
                pipe.expected -= 1;
                let number = pipe.expected;
                self.plan_arrival(id, 0, number, Segment::Syn, now + SYN_RETRANSMIT);
            }
            None => {
                self.note(id, 1, "refused");
                self.send(id, 1, Segment::Refuse);
            }
        }
    }

    fn deliver_syn_ack(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !connection.ends[0].held {
            connection.phase = Phase::Open;
            self.send(id, 0, Segment::Rst);
            return;
        }
        if connection.phase == Phase::Connecting {
            connection.phase = Phase::Open;
            wake(&mut connection.connecting);
        }
        if let Some(timer) = connection.syn_timer.take() {
            self.agenda.cancel(timer);
        }
    }

    fn deliver_data(&mut self, id: ConnectionId, from: usize, bytes: Bytes) {
        let now = self.agenda.now();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (sender, to) = (connection.ends[from].host, &connection.ends[1 - from]);
        let host = &self.hosts[to.host];
        let at = Timestamp::from_nanos(now);
        self.trace.bytes(at, &host.name, id, from, &bytes);
        if let Some(tap) = &self.tap {
            let stream = (id, from);
            let from = self.hosts[sender].ip;
            tap(&Delivery { at, from, to: host.ip, stream, bytes: &bytes });
        }
        if to.boot != host.boot || !to.held {
            // Nobody there knows the connection, or wants its bytes.
            if to.failed.is_none() {
                self.send(id, 1 - from, Segment::Rst);
            }
            return;
        }
        let (receiver, length) = (to.host, bytes.len());
        let pipe = &mut connection.pipes[from];
        pipe.received_bytes += length;
        pipe.received.push_back(bytes);
        wake(&mut pipe.reader);
        if self.is_blocked(receiver, sender) {
            self.pipe(id, from).ack_stalled += length;
            self.lose_patience(id, from);
        } else {
            let at = now + self.delay(receiver, sender, 40);
            self.plan_arrival(id, 1 - from, u64::MAX, Segment::Ack(length), at);
        }
    }

    /// An end learns that its connection is over.
    pub(super) fn fail(&mut self, id: ConnectionId, end: usize, kind: ErrorKind) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if let Some(timer) = connection.syn_timer.take() {
            self.agenda.cancel(timer);
        }
        if end == 0 && connection.phase == Phase::Connecting {
            connection.phase = Phase::Failed(kind);
        }
        connection.ends[end].failed.get_or_insert(kind);
        wake(&mut connection.connecting);
        wake(&mut connection.pipes[end].writer);
        wake(&mut connection.pipes[1 - end].reader);
    }

    /// The kernel's patience with what waits since a moment is over.
    pub(super) fn give_up(&mut self, id: ConnectionId, from: usize, since: Nanos) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let connecting = connection.phase == Phase::Connecting && from == 0;
        if connecting || connection.pipes[from].stalled_since == Some(since) {
            self.pipe(id, from).forget();
            self.note(id, from, "timed out");
            self.fail(id, from, ErrorKind::TimedOut);
            self.forget_if_over(id);
        }
    }

    /// A keepalive probe of an end whose peer has been silent since a moment.
    pub(super) fn probe(&mut self, id: ConnectionId, end: usize, silent_since: Nanos) {
        let now = self.agenda.now();
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let (this, peer) = (&connection.ends[end], &connection.ends[1 - end]);
        let Some(interval) = this.options.keepalive.filter(|_| this.held) else {
            return;
        };
        if this.failed.is_some() {
            return;
        }
        let patience = match this.options.user_timeout {
            Some(timeout) => timeout,
            None => interval * (KEEPALIVE_PROBES + 1),
        };
        let reached = !self.is_blocked(this.host, peer.host);
        if reached && peer.boot != self.hosts[peer.host].boot {
            self.note(id, end, "reset");
            self.fail(id, end, ErrorKind::ConnectionReset);
        } else if reached && !self.is_blocked(peer.host, this.host) {
            // Answered.
        } else if u128::from(now - silent_since) >= patience.as_nanos() {
            self.note(id, end, "timed out");
            self.fail(id, end, ErrorKind::TimedOut);
        } else {
            self.plan_probe(id, end, silent_since);
        }
    }

    /// Plans the next probe of an end that sends them.
    pub(super) fn plan_probe(&mut self, id: ConnectionId, end: usize, silent_since: Nanos) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let Some(interval) = connection.ends[end].options.keepalive else {
            return;
        };
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(SEND_TIMEOUT);
        let event = Event::Probe { connection: id, end, silent_since };
        self.agenda.plan(self.agenda.now() + interval.max(MILLISECOND), event);
    }

    /// A program lets go of an end, or its process died.
    pub(super) fn release(&mut self, id: ConnectionId, end: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let this = &mut connection.ends[end];
        this.held = false;
        let host = &self.hosts[this.host];
        let silent = this.boot != host.boot || this.failed.is_some();
        let unread = connection.pipes[1 - end].received_bytes > 0;
        // The accepting end may close before its SYN-ACK has arrived.
        let open = end == 1 || connection.phase == Phase::Open;
        if !silent && open {
            if unread {
                self.pipe(id, 1 - end).received.clear();
                self.send(id, end, Segment::Rst);
            } else if !connection.pipes[end].fin_sent {
                self.pipe(id, end).fin_sent = true;
                self.send(id, end, Segment::Fin);
            }
        }
        self.forget_if_over(id);
    }

    /// A listener's backlog is thrown away.
    pub(super) fn reset_pending(&mut self, pending: VecDeque<ConnectionId>) {
        for id in pending {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.ends[1].held = false;
                self.send(id, 1, Segment::Rst);
            }
        }
    }

    /// What the dead host had sent and nobody received is lost.
    pub(super) fn forget_sent_by(&mut self, host: HostId) {
        for connection in self.connections.values_mut() {
            for end in 0..2 {
                if connection.ends[end].host == host {
                    let pipe = &mut connection.pipes[end];
                    pipe.forget();
                    pipe.expected = pipe.next_number;
                }
            }
        }
    }

    pub(super) fn forget_if_over(&mut self, id: ConnectionId) {
        let over = self.connections.get(&id).is_some_and(|connection| {
            connection.phase != Phase::Connecting
                && connection.ends.iter().all(|end| !end.held)
                && connection.pipes.iter().all(Pipe::is_quiet)
        });
        if over {
            self.connections.remove(&id);
        }
    }

    fn note(&mut self, id: ConnectionId, end: usize, what: &str) {
        if let Some(connection) = self.connections.get(&id) {
            let host = &self.hosts[connection.ends[end].host].name;
            let now = Timestamp::from_nanos(self.agenda.now());
            self.trace.event(now, host, format_args!("c{id} {what}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retransmissions_double_until_their_cap() {
        let at = |now| next_retry(0, RETRANSMIT, now) / MILLISECOND;
        assert_eq!(at(0), 200);
        assert_eq!(at(201 * MILLISECOND), 600);
        assert_eq!(at(5 * SECOND), 6_200);
        let late = next_retry(0, RETRANSMIT, 1_000 * SECOND);
        assert!(late - 1_000 * SECOND <= RETRANSMIT_MAX);
    }
}
