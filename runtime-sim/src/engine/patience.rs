//! When the kernel sends again, and when it gives up: retransmission, SYN and user timeouts,
//! keepalive. Figures are Linux's defaults.

use std::io::ErrorKind;

use super::agenda::{Event, Nanos};
use super::network::State;
use super::tcp::{ConnectionId, Phase};

const MILLISECOND: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MILLISECOND;
/// First retransmission; each further one after twice the time, up to two minutes.
pub(super) const RETRANSMIT: Nanos = 200 * MILLISECOND;
pub(super) const RETRANSMIT_MAX: Nanos = 120 * SECOND;
pub(super) const SYN_RETRANSMIT: Nanos = SECOND;
/// Six retransmitted SYNs: 1 + 2 + 4 + … + 64 s.
pub(super) const SYN_TIMEOUT: Nanos = 127 * SECOND;
/// Fifteen retransmissions, as `tcp_retries2` has it.
pub(super) const SEND_TIMEOUT: Nanos = 924_600 * MILLISECOND;
/// Unanswered keepalive probes after which a peer is dead, as `tcp_keepalive_probes` has it.
const KEEPALIVE_PROBES: u32 = 9;
/// A paused kernel does not count; it is asked again after this.
const PAUSED: Nanos = SECOND;

/// The first time from `now` on at which something first sent at `since` is sent again.
pub(super) fn next_retry(since: Nanos, first: Nanos, now: Nanos) -> Nanos {
    let (mut at, mut step) = (since + first, first);
    while at < now {
        step = (step * 2).min(RETRANSMIT_MAX);
        at += step;
    }
    at
}

impl State {
    /// Starts the time after which the sender gives up, where it does not run.
    pub(super) fn lose_patience(&mut self, id: ConnectionId, from: usize) {
        let now = self.agenda.now();
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let pipe = &mut connection.pipes[from];
        if pipe.stalled_since.is_some() {
            return;
        }
        pipe.stalled_since = Some(now);
        let patience = connection.ends[from].patience();
        let event = Event::GiveUp { connection: id, from, since: now };
        self.agenda.plan(now + patience, event);
    }

    /// The kernel's patience with what waits since a moment is over.
    pub(super) fn give_up(&mut self, id: ConnectionId, from: usize, since: Nanos) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if self.hosts[connection.ends[from].host].paused {
            let event = Event::GiveUp { connection: id, from, since };
            self.agenda.plan(self.agenda.now() + PAUSED, event);
            return;
        }
        let connecting = connection.phase == Phase::Connecting && from == 0;
        if connecting || connection.pipes[from].stalled_since == Some(since) {
            self.pipe(id, from).forget();
            self.note(id, from, "timed out");
            self.fail(id, from, ErrorKind::TimedOut);
            self.forget_if_over(id);
        }
    }

    /// A program wants to send and the reader's window is closed. With a user timeout the kernel does
    /// not wait for ever, though its probes are answered.
    pub(super) fn lose_patience_with_reader(&mut self, id: ConnectionId, from: usize) {
        let now = self.agenda.now();
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let timeout = connection.ends[from].options.user_timeout;
        let pipe = &mut connection.pipes[from];
        let (Some(timeout), None) = (timeout, pipe.closed_since) else {
            return;
        };
        pipe.closed_since = Some(now);
        let patience = u64::try_from(timeout.as_nanos()).unwrap_or(SEND_TIMEOUT);
        let event = Event::GiveUpWindow { connection: id, from, since: now };
        self.agenda.plan(now + patience, event);
    }

    /// The kernel's patience with a reader is over, unless it has read since.
    pub(super) fn give_up_window(&mut self, id: ConnectionId, from: usize, since: Nanos) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let (end, pipe) = (&connection.ends[from], &connection.pipes[from]);
        if pipe.closed_since != Some(since) || end.failed.is_some() || !end.held {
            return;
        }
        if self.hosts[end.host].paused {
            let event = Event::GiveUpWindow { connection: id, from, since };
            self.agenda.plan(self.agenda.now() + PAUSED, event);
            return;
        }
        self.pipe(id, from).forget();
        self.note(id, from, "timed out");
        self.fail(id, from, ErrorKind::TimedOut);
        self.forget_if_over(id);
    }

    /// A keepalive probe of an end whose peer has been silent since a moment.
    pub(super) fn probe(&mut self, id: ConnectionId, end: usize, silent_since: Nanos) {
        let now = self.agenda.now();
        let Some(connection) = self.connections.get(id) else {
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
        let (here, there, known) = (this.host, peer.host, peer.boot);
        let reached = !self.is_blocked(here, there);
        if self.hosts[here].paused {
            self.plan_probe(id, end, now);
        } else if reached && known != self.hosts[there].boot {
            self.note(id, end, "reset");
            self.fail(id, end, ErrorKind::ConnectionReset);
        } else if reached && !self.is_blocked(there, here) {
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
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let Some(interval) = connection.ends[end].options.keepalive else {
            return;
        };
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(SEND_TIMEOUT);
        let event = Event::Probe { connection: id, end, silent_since };
        self.agenda.plan(self.agenda.now() + interval.max(MILLISECOND), event);
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
