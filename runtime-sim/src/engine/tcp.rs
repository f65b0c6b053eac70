//! TCP as its users see it: per connection and direction, bytes in order behind a window, half-close
//! and resets. This is what a connection is and how its segments are sent; `delivery` is what
//! becomes of them at the other end, `patience` when the kernel gives up.
//!
//! Not a packet simulator: a segment that finds no way waits and is sent again on TCP's schedule
//! once there is one. Numbers put back in order what jitter or retransmission overtook.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::Waker;

use bytes::Bytes;

use mesh_core::runtime::net::TcpOptions;

use super::agenda::{Event, Nanos, Planned};
use super::host::{HostId, ProcessId};
use super::network::{Risk, State};
use super::patience::{RETRANSMIT, SEND_TIMEOUT, SYN_RETRANSMIT, SYN_TIMEOUT, next_retry};
use super::ways::Course;
use crate::trace::{Flags, Packet};

pub(super) type ConnectionId = u64;

/// Bytes one direction holds: sent and not acknowledged, or not yet read.
pub(super) const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes of one segment, as with segmentation offload.
pub(super) const SEGMENT_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a packet without payload.
const HEADER_BYTES: usize = 40;
/// The number of what has none: acknowledgements are not kept in order.
const UNNUMBERED: u64 = u64::MAX;

/// What travels.
pub(super) enum Segment {
    Syn,
    SynAck,
    Refuse,
    /// With the sequence number of the first byte.
    Data(u32, Bytes),
    Fin(u32),
    Rst,
    /// So many bytes of the other direction arrived. Has no number.
    Ack(usize),
}

impl Segment {
    fn wire_bytes(&self) -> usize {
        match self {
            Self::Data(_, bytes) => HEADER_BYTES + bytes.len(),
            _ => HEADER_BYTES,
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
    pub(super) syn_timer: Option<Planned>,
}

impl Connection {
    pub(super) fn hosts(&self) -> (HostId, HostId) {
        (self.ends[0].host, self.ends[1].host)
    }

    /// Where the accepting end is, as packets on the wire say it.
    fn wire_target(&self) -> SocketAddr {
        match self.original_dst {
            Some(dialled) if self.ends[0].host != self.ends[1].host => dialled,
            _ => self.target,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Open,
    Failed(ErrorKind),
}

pub(super) struct End {
    pub(super) host: HostId,
    /// Whose socket it is; none before the backlog has it.
    pub(super) process: Option<ProcessId>,
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
    /// Sent bytes that the other program has not read.
    pub(super) unread: usize,
    pub(super) received: VecDeque<Bytes>,
    pub(super) received_bytes: usize,
    pub(super) fin_sent: bool,
    pub(super) fin_received: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// The sequence number of the next byte, and of the byte that the other end expects.
    pub(super) sequence: u32,
    pub(super) delivered: u32,
    pub(super) next_number: u64,
    pub(super) expected: u64,
    /// Arrived before what was sent before them.
    pub(super) early: BTreeMap<u64, Segment>,
    /// Found no way.
    pub(super) stalled: BTreeMap<u64, Segment>,
    /// Arrived, but the acknowledgement found no way back.
    pub(super) ack_stalled: usize,
    pub(super) stalled_since: Option<Nanos>,
    /// More is to be sent than the reader has room for.
    pub(super) closed_since: Option<Nanos>,
    /// Segments under way.
    pub(super) travelling: usize,
}

impl Pipe {
    /// Bytes that may be sent now.
    pub(super) fn room(&self) -> usize {
        WINDOW_BYTES.saturating_sub(self.unacked.max(self.unread))
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.travelling == 0 && self.stalled.is_empty()
    }

    /// What waits to be sent again never is.
    pub(super) fn forget(&mut self) {
        self.stalled.clear();
        self.ack_stalled = 0;
        self.stalled_since = None;
    }
}

pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl State {
    /// A new connection, whose SYN is on its way.
    pub(super) fn dial(
        &mut self,
        ends: [End; 2],
        target: SocketAddr,
        original_dst: Option<SocketAddr>,
    ) -> ConnectionId {
        let now = self.agenda.now();
        let connection = Connection {
            ends,
            pipes: Default::default(),
            phase: Phase::Connecting,
            target,
            original_dst,
            connecting: None,
            syn_timer: None,
        };
        let id = self.connections.push(connection);
        let give_up = Event::GiveUp { connection: id, from: 0, since: now };
        let syn_timer = self.agenda.plan(now + SYN_TIMEOUT, give_up);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.syn_timer = Some(syn_timer);
        }
        id
    }

    /// Sends bytes from an end.
    pub(super) fn send_data(&mut self, id: ConnectionId, from: usize, bytes: Bytes) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let pipe = &mut connection.pipes[from];
        pipe.unacked += bytes.len();
        pipe.unread += bytes.len();
        let sequence = pipe.sequence;
        pipe.sequence = sequence.wrapping_add(bytes.len() as u32);
        self.send(id, from, Segment::Data(sequence, bytes));
    }

    /// Ends an end's stream.
    pub(super) fn send_fin(&mut self, id: ConnectionId, from: usize) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let pipe = &mut connection.pipes[from];
        if !pipe.fin_sent {
            pipe.fin_sent = true;
            let sequence = pipe.sequence;
            pipe.sequence = sequence.wrapping_add(1);
            self.send(id, from, Segment::Fin(sequence));
        }
    }

    /// Sends a segment from an end, or holds it back while there is no way.
    pub(super) fn send(&mut self, id: ConnectionId, from: usize, segment: Segment) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let pipe = &mut connection.pipes[from];
        let number = pipe.next_number;
        pipe.next_number += 1;
        if matches!(segment, Segment::Syn | Segment::SynAck) {
            pipe.sequence = 1;
        }
        self.transmit(id, from, number, segment, 0);
    }

    /// Acknowledges what the end has received.
    pub(super) fn acknowledge(&mut self, id: ConnectionId, end: usize, bytes: usize, wait: Nanos) {
        self.transmit(id, end, UNNUMBERED, Segment::Ack(bytes), wait);
    }

    /// Puts a segment on its way after `wait`.
    fn transmit(
        &mut self,
        id: ConnectionId,
        from: usize,
        number: u64,
        segment: Segment,
        wait: Nanos,
    ) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let (a, b) = (connection.ends[from].host, connection.ends[1 - from].host);
        let risk = match segment {
            Segment::Ack(_) => Risk::None,
            Segment::Syn | Segment::SynAck => {
                Risk::Again { first: SYN_RETRANSMIT, patience: SYN_TIMEOUT }
            }
            _ => Risk::Again { first: RETRANSMIT, patience: connection.ends[from].patience() },
        };
        let takes = match self.is_blocked(a, b) {
            true => None,
            false => self.transit(a, b, segment.wire_bytes(), risk),
        };
        if self.capture.is_some() {
            self.show(id, from, &segment, wait, takes.is_none());
        }
        match takes {
            Some(takes) => {
                let at = self.agenda.now() + wait + takes;
                self.plan_arrival(id, from, number, segment, at);
            }
            None => self.stall(id, from, number, segment),
        }
    }

    pub(super) fn plan_arrival(
        &mut self,
        id: ConnectionId,
        from: usize,
        number: u64,
        segment: Segment,
        at: Nanos,
    ) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.pipes[from].travelling += 1;
        }
        let event = Event::Arrive { connection: id, from, number, segment };
        self.agenda.plan(at, event);
    }

    /// A segment waits for a way.
    pub(super) fn stall(&mut self, id: ConnectionId, from: usize, number: u64, segment: Segment) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match segment {
            Segment::Ack(bytes) => {
                // It is the other end that misses it, and sends again.
                connection.pipes[1 - from].ack_stalled += bytes;
                self.lose_patience(id, 1 - from);
            }
            segment => {
                connection.pipes[from].stalled.insert(number, segment);
                self.lose_patience(id, from);
            }
        }
    }

    /// The way from `from` may be open again, either way: what waited is sent again.
    pub(super) fn retry(&mut self, id: ConnectionId, from: usize) {
        let Some(connection) = self.connections.get(id) else {
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
        let now = self.agenda.now();
        let wait = next_retry(since, first, now) - now;
        if !self.is_blocked(a, b) {
            for (number, segment) in std::mem::take(&mut self.pipe(id, from).stalled) {
                self.transmit(id, from, number, segment, wait);
            }
        }
        if !self.is_blocked(b, a) {
            let bytes = std::mem::take(&mut self.pipe(id, from).ack_stalled);
            if bytes > 0 {
                self.acknowledge(id, 1 - from, bytes, wait);
            }
        }
        let pipe = self.pipe(id, from);
        if pipe.stalled.is_empty() && pipe.ack_stalled == 0 {
            pipe.stalled_since = None;
        }
    }

    /// The connection exists: the callers have just looked it up.
    pub(super) fn pipe(&mut self, id: ConnectionId, from: usize) -> &mut Pipe {
        let connection = self.connections.get_mut(id);
        &mut connection.expect("looked up by the caller").pipes[from]
    }

    /// A program lets go of an end, or its process died.
    pub(super) fn release(&mut self, id: ConnectionId, end: usize) {
        let Some(connection) = self.connections.get_mut(id) else {
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
            } else {
                self.send_fin(id, end);
            }
        }
        self.forget_if_over(id);
    }

    /// A listener's backlog is thrown away.
    pub(super) fn reset_pending(&mut self, pending: VecDeque<ConnectionId>) {
        for id in pending {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.ends[1].held = false;
                self.send(id, 1, Segment::Rst);
            }
        }
    }

    /// Something between two places resets their live connections. Tells how many.
    pub(super) fn reset(&mut self, (a, b): Course) -> usize {
        let ways = &self.ways;
        let between = |x, y| ways.is_in(a, x) && ways.is_in(b, y);
        let live = self.connections.iter().filter(|(_, connection)| {
            let (x, y) = connection.hosts();
            let failed = connection.ends.iter().all(|end| end.failed.is_some());
            x != y && connection.phase == Phase::Open && !failed && (between(x, y) || between(y, x))
        });
        let live: Vec<_> = live.map(|(id, _)| id).collect();
        for id in &live {
            for end in 0..2 {
                self.note(*id, end, "reset on the way");
                if self.capture.is_some() {
                    self.show(*id, 1 - end, &Segment::Rst, 0, false);
                }
                self.pipe(*id, end).forget();
                self.fail(*id, end, ErrorKind::ConnectionReset);
            }
            self.forget_if_over(*id);
        }
        live.len()
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
        let over = self.connections.get(id).is_some_and(|connection| {
            connection.phase != Phase::Connecting
                && connection.ends.iter().all(|end| !end.held)
                && connection.pipes.iter().all(Pipe::is_quiet)
        });
        if over {
            self.connections.remove(id);
        }
    }

    pub(super) fn note(&mut self, id: ConnectionId, end: usize, what: &str) {
        if let Some(connection) = self.connections.get(id) {
            let host = &self.hosts[connection.ends[end].host].name;
            self.trace.event(self.now(), host, format_args!("c{id} {what}"));
        }
    }

    /// Shows a segment to the capture.
    pub(super) fn show(
        &self,
        id: ConnectionId,
        from: usize,
        segment: &Segment,
        wait: Nanos,
        lost: bool,
    ) {
        let (Some(capture), Some(connection)) = (&self.capture, self.connections.get(id)) else {
            return;
        };
        let (near, far) = (connection.ends[0].address, connection.wire_target());
        let (from_address, to) = if from == 0 { (near, far) } else { (far, near) };
        let pipe = &connection.pipes[from];
        let flags = Flags { ack: !matches!(segment, Segment::Syn), ..Flags::default() };
        let (flags, sequence, payload) = match segment {
            Segment::Syn | Segment::SynAck => (Flags { syn: true, ..flags }, 0, Bytes::new()),
            Segment::Refuse => (Flags { rst: true, ..flags }, 0, Bytes::new()),
            Segment::Data(at, bytes) => (Flags { psh: true, ..flags }, *at, bytes.clone()),
            Segment::Fin(at) => (Flags { fin: true, ..flags }, *at, Bytes::new()),
            Segment::Rst => (Flags { rst: true, ..flags }, pipe.sequence, Bytes::new()),
            Segment::Ack(_) => (flags, pipe.sequence, Bytes::new()),
        };
        capture(&Packet {
            at: self.now() + std::time::Duration::from_nanos(wait),
            from: from_address,
            to,
            flags,
            sequence,
            acknowledges: connection.pipes[1 - from].delivered,
            payload,
            lost,
        });
    }
}

impl End {
    /// How long what it sends may stay unacknowledged.
    pub(super) fn patience(&self) -> Nanos {
        match self.options.user_timeout {
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(SEND_TIMEOUT),
            None => SEND_TIMEOUT,
        }
    }
}
