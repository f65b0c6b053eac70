//! What becomes of a segment at the other end.

use std::io::ErrorKind;

use bytes::Bytes;

use super::agenda::Event;
use super::network::State;
use super::patience::SYN_RETRANSMIT;
use super::tcp::{ConnectionId, Phase, Segment, wake};
use crate::trace::Delivery;

impl State {
    /// A segment reaches the other end, unless the way was cut while it travelled.
    pub(super) fn arrive(&mut self, id: ConnectionId, from: usize, number: u64, segment: Segment) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let (a, b) = (connection.ends[from].host, connection.ends[1 - from].host);
        connection.pipes[from].travelling -= 1;
        if let Segment::Ack(bytes) = segment {
            let pipe = &mut connection.pipes[1 - from];
            pipe.unacked = pipe.unacked.saturating_sub(bytes);
            wake(&mut pipe.writer);
        } else if self.is_cut(a, b) {
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
        let pipe = &mut self.connections.get_mut(id)?.pipes[from];
        // Sent by an earlier boot of the host, and overtaken by its death.
        while pipe.early.first_key_value().is_some_and(|(number, _)| *number < pipe.expected) {
            pipe.early.pop_first();
        }
        let segment = pipe.early.remove(&pipe.expected)?;
        pipe.expected += 1;
        pipe.delivered = match &segment {
            Segment::Data(at, bytes) => at.wrapping_add(bytes.len() as u32),
            Segment::Fin(at) => at.wrapping_add(1),
            Segment::Syn | Segment::SynAck => 1,
            _ => pipe.delivered,
        };
        Some(segment)
    }

    fn deliver(&mut self, id: ConnectionId, from: usize, segment: Segment) {
        match segment {
            Segment::Syn => self.deliver_syn(id, 0),
            Segment::SynAck => self.deliver_syn_ack(id),
            Segment::Refuse => self.fail(id, 0, ErrorKind::ConnectionRefused),
            Segment::Data(_, bytes) => self.deliver_data(id, from, bytes),
            Segment::Fin(_) => self.deliver_fin(id, from),
            Segment::Rst => {
                self.note(id, 1 - from, "reset");
                self.pipe(id, 1 - from).forget();
                self.fail(id, 1 - from, ErrorKind::ConnectionReset);
            }
            Segment::Ack(_) => {}
        }
    }

    /// A SYN that a full backlog dropped is sent again.
    pub(super) fn syn_again(&mut self, id: ConnectionId, attempt: u32) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let (a, b) = connection.hosts();
        // Given up, or its host lost its power.
        if connection.phase != Phase::Connecting || connection.ends[0].failed.is_some() {
            self.forget_if_over(id);
        } else if self.is_blocked(a, b) {
            let pipe = self.pipe(id, 0);
            pipe.expected -= 1;
            let number = pipe.expected;
            self.stall(id, 0, number, Segment::Syn);
        } else {
            self.show(id, 0, &Segment::Syn, 0, false);
            self.deliver_syn(id, attempt);
        }
    }

    fn deliver_syn(&mut self, id: ConnectionId, attempt: u32) {
        let now = self.agenda.now();
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let (host, target) = (connection.ends[1].host, connection.target);
        let boot = self.hosts[host].boot;
        connection.ends[1].boot = boot;
        match self.hosts[host].listener_for(target) {
            // One more than was asked for, as in Linux.
            Some(listener) if listener.pending.len() <= listener.backlog => {
                listener.pending.push_back(id);
                wake(&mut listener.accepting);
                connection.ends[1].held = true;
                connection.ends[1].process = Some(listener.process);
                connection.ends[1].options = listener.options;
                self.note(id, 1, "connected");
                self.send(id, 1, Segment::SynAck);
            }
            // Dropped; the peer sends it again, each time after twice as long.
            Some(_) => {
                let attempt = attempt + 1;
                self.note(id, 1, "dropped by a full backlog");
                let at = now + (SYN_RETRANSMIT << (attempt - 1).min(6));
                self.agenda.plan(at, Event::SynAgain { connection: id, attempt });
            }
            None => {
                self.note(id, 1, "refused");
                self.send(id, 1, Segment::Refuse);
            }
        }
    }

    fn deliver_syn_ack(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if let Some(timer) = connection.syn_timer.take() {
            self.agenda.cancel(timer);
        }
        if !connection.ends[0].held || connection.phase != Phase::Connecting {
            // Nobody waits for it any more.
            if connection.phase == Phase::Connecting {
                connection.phase = Phase::Open;
            }
            self.send(id, 0, Segment::Rst);
            return;
        }
        connection.phase = Phase::Open;
        wake(&mut connection.connecting);
    }

    /// Whether the end that receives from `from` knows the connection. Where it does not, it says
    /// so once with a reset.
    fn is_known(&mut self, id: ConnectionId, from: usize) -> bool {
        let Some(connection) = self.connections.get(id) else {
            return false;
        };
        let to = &connection.ends[1 - from];
        let rebooted = to.boot != self.hosts[to.host].boot;
        let gave_up = to.failed == Some(ErrorKind::TimedOut);
        if rebooted || gave_up || (!to.held && to.failed.is_none()) {
            self.send(id, 1 - from, Segment::Rst);
            return false;
        }
        to.failed.is_none()
    }

    fn deliver_fin(&mut self, id: ConnectionId, from: usize) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let to = &connection.ends[1 - from];
        // A socket that its program has closed takes the other's end of stream and is done.
        let closed = !to.held && to.failed.is_none() && to.boot == self.hosts[to.host].boot;
        if closed || self.is_known(id, from) {
            self.note(id, 1 - from, "end of stream");
            let pipe = self.pipe(id, from);
            pipe.fin_received = true;
            wake(&mut pipe.reader);
        }
    }

    fn deliver_data(&mut self, id: ConnectionId, from: usize, bytes: Bytes) {
        let now = self.now();
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let (sender, receiver) = (connection.ends[from].host, connection.ends[1 - from].host);
        let host = &self.hosts[receiver];
        self.trace.bytes(now, &host.name, id, from, &bytes);
        if let Some(tap) = &self.tap {
            let (stream, from) = ((id, from), self.hosts[sender].ip);
            tap(&Delivery { at: now, from, to: host.ip, stream, bytes: &bytes });
        }
        if !self.is_known(id, from) {
            return;
        }
        let length = bytes.len();
        let pipe = self.pipe(id, from);
        pipe.received_bytes += length;
        pipe.received.push_back(bytes);
        wake(&mut pipe.reader);
        self.acknowledge(id, 1 - from, length, 0);
    }

    /// An end learns that its connection is over.
    pub(super) fn fail(&mut self, id: ConnectionId, end: usize, kind: ErrorKind) {
        let Some(connection) = self.connections.get_mut(id) else {
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
}
