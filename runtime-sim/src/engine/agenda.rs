//! What will happen, and when: events by (time, sequence). Time jumps from one to the next.

use std::collections::BTreeMap;
use std::task::Waker;

use super::tcp::{ConnectionId, Segment};

/// Nanoseconds of virtual time.
pub(super) type Nanos = u64;

/// Names a planned event, for changing one's mind.
pub(super) type Planned = (Nanos, u64);

/// Something that will happen.
pub(super) enum Event {
    /// A sleep ends.
    Wake(Waker),
    /// A segment reaches the other end, or is lost on the way.
    Arrive { connection: ConnectionId, from: usize, number: u64, segment: Segment },
    /// A SYN found the backlog full, and is sent again for the so-manieth time.
    SynAgain { connection: ConnectionId, attempt: u32 },
    /// The kernel gives up on a segment that has waited since a moment.
    GiveUp { connection: ConnectionId, from: usize, since: Nanos },
    /// The kernel gives up on a window that has been closed since a moment.
    GiveUpWindow { connection: ConnectionId, from: usize, since: Nanos },
    /// A keepalive probe of one end.
    Probe { connection: ConnectionId, end: usize, silent_since: Nanos },
    /// An address that nobody has did not answer.
    Unreachable { connection: ConnectionId },
}

impl Event {
    /// What it is, for the trace, and which connection's.
    pub(super) fn kind(&self) -> (&'static str, u64) {
        match self {
            Self::Wake(_) => ("wake", 0),
            Self::Arrive { connection, .. } => ("arrive", *connection),
            Self::SynAgain { connection, .. } => ("syn again", *connection),
            Self::GiveUp { connection, .. } => ("give up", *connection),
            Self::GiveUpWindow { connection, .. } => ("give up window", *connection),
            Self::Probe { connection, .. } => ("probe", *connection),
            Self::Unreachable { connection } => ("unreachable", *connection),
        }
    }
}

/// The plan.
#[derive(Default)]
pub(super) struct Agenda {
    now: Nanos,
    sequence: u64,
    events: BTreeMap<Planned, Event>,
    fired: u64,
}

impl Agenda {
    pub(super) fn now(&self) -> Nanos {
        self.now
    }

    /// Events that have happened.
    pub(super) fn fired(&self) -> u64 {
        self.fired
    }

    /// Plans an event, at once where its time has passed.
    pub(super) fn plan(&mut self, at: Nanos, event: Event) -> Planned {
        self.sequence += 1;
        let key = (at.max(self.now), self.sequence);
        self.events.insert(key, event);
        key
    }

    pub(super) fn planned(&mut self, key: Planned) -> Option<&mut Event> {
        self.events.get_mut(&key)
    }

    pub(super) fn cancel(&mut self, key: Planned) -> Option<Event> {
        self.events.remove(&key)
    }

    /// The next event not after `until`, having moved time to it.
    pub(super) fn next(&mut self, until: Nanos) -> Option<Event> {
        let entry = self.events.first_entry()?;
        if entry.key().0 > until {
            return None;
        }
        let ((at, _), event) = entry.remove_entry();
        self.now = at;
        self.fired += 1;
        Some(event)
    }

    /// Moves time on where nothing is planned before.
    pub(super) fn idle_until(&mut self, until: Nanos) {
        self.now = self.now.max(until);
    }
}
