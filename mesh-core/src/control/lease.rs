//! Who of several control planes may write: a candidate's side of the election, as a machine. It
//! reads and writes no lease itself, and knows no clock.
//!
//! Laws: at most one candidate holds the lease, however their clocks are set and whenever they stand
//! still, as long as none runs half as fast again as another. A holder counts from when it began its
//! last renewal, and only two thirds of the lease's time. Whoever waits counts the whole time, from
//! when it saw the lease change itself: what the times in it say is not looked at.

pub(super) mod lead;

use std::time::Duration;

use crate::runtime::cluster::Lease;
use crate::time::{Timestamp, WallTime};

/// Between two looks of a candidate at somebody else's lease, as a part of its time.
const LOOKS: u32 = 6;
/// Renewals in a lease's time.
const RENEWALS: u32 = 3;

/// A candidate for a lease.
#[derive(Clone, Debug)]
pub(super) struct Election {
    me: String,
    /// How long the lease is for, after each renewal.
    duration: Duration,
    /// The lease as it was last seen to change, and when that was.
    seen: Option<(Lease, Timestamp)>,
    /// This candidate holds it, and renewed it then.
    renewed: Option<Timestamp>,
}

impl Election {
    /// A candidate of that name, which has seen nothing yet.
    pub(super) fn new(me: &str, duration: Duration) -> Self {
        Self { me: me.to_string(), duration, seen: None, renewed: None }
    }

    /// Takes in the lease as it was read. One that is gone is still its holder's for its time, from
    /// when that was seen: the holder may not know yet.
    pub(super) fn saw(&mut self, now: Timestamp, lease: Option<Lease>) {
        let Some(lease) = lease else {
            if self.holds_until().is_none_or(|until| now >= until) {
                self.renewed = None;
            }
            if let Some((seen, at)) = &mut self.seen
                && seen.version.take().is_some()
            {
                *at = now;
            }
            return;
        };
        if lease.holder != self.me {
            self.renewed = None;
        }
        if self.seen.as_ref().is_none_or(|(seen, _)| seen.version != lease.version) {
            self.seen = Some((lease, now));
        }
    }

    /// The lease that this candidate may write now, to take or to renew it.
    pub(super) fn bid(&self, now: Timestamp, wall: WallTime) -> Option<Lease> {
        let Self { me, duration, .. } = self;
        let new = Lease {
            version: None,
            holder: me.clone(),
            duration: *duration,
            acquired: wall,
            renewed: wall,
            transitions: 0,
        };
        let Some((seen, at)) = &self.seen else {
            return Some(new);
        };
        let transitions = seen.transitions;
        // Of one that is gone, only who holds it still knows that nobody else did meanwhile.
        if seen.holder == *me && (seen.version.is_some() || self.renewed.is_some()) {
            let acquired = if seen.version.is_some() { seen.acquired } else { wall };
            return Some(Lease { version: seen.version.clone(), acquired, transitions, ..new });
        }
        let is_free = seen.holder.is_empty()
            || now >= *at + seen.duration
            || planted!("lease-not-waited-for");
        let version = seen.version.clone();
        is_free.then(|| Lease { version, transitions: transitions.saturating_add(1), ..new })
    }

    /// A bid that began at `began` was written.
    pub(super) fn won(&mut self, began: Timestamp, written: Lease) {
        self.seen = Some((written, began));
        self.renewed = Some(began);
    }

    /// The lease as its holder gives it back: free at once.
    pub(super) fn give_back(&mut self, wall: WallTime) -> Option<Lease> {
        self.renewed.take()?;
        let (seen, _) = self.seen.as_ref()?;
        let duration = Duration::from_secs(1);
        Some(Lease { holder: String::new(), duration, renewed: wall, ..seen.clone() })
    }

    /// Until when this candidate may write, where it holds the lease.
    pub(super) fn holds_until(&self) -> Option<Timestamp> {
        self.renewed.map(|renewed| renewed + self.duration * 2 / 3)
    }

    /// When to read the lease again, and to bid.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        match (self.renewed, &self.seen) {
            (Some(renewed), _) => renewed + self.duration / RENEWALS,
            (None, Some((seen, at))) => {
                let look = now + self.duration / LOOKS;
                let free = *at + seen.duration;
                if free > now { look.min(free) } else { look }
            }
            (None, _) => now + self.duration / LOOKS,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERM: Duration = Duration::from_secs(30);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    fn wall(secs: u64) -> WallTime {
        WallTime::from_unix_secs(secs)
    }

    /// A store of one lease.
    #[derive(Default)]
    struct Store(Option<Lease>, u64);

    impl Store {
        fn write(&mut self, mut lease: Lease) -> Option<Lease> {
            if self.0.as_ref().and_then(|known| known.version.clone()) != lease.version {
                return None;
            }
            self.1 += 1;
            lease.version = Some(self.1.to_string());
            self.0 = Some(lease.clone());
            Some(lease)
        }

        /// Reads, and bids where that is allowed.
        fn turn(&mut self, election: &mut Election, now: Timestamp, clock: WallTime) {
            election.saw(now, self.0.clone());
            if let Some(bid) = election.bid(now, clock)
                && let Some(written) = self.write(bid)
            {
                election.won(now, written);
            }
        }
    }

    fn holds(election: &Election, now: Timestamp) -> bool {
        election.holds_until().is_some_and(|until| now < until)
    }

    #[test]
    fn a_lease_is_its_holders_until_it_has_not_changed_for_its_whole_time() {
        let mut store = Store::default();
        let (mut one, mut two) = (Election::new("one", TERM), Election::new("two", TERM));
        store.turn(&mut one, at(0), wall(0));
        store.turn(&mut two, at(5), wall(1_000_000));
        assert!(holds(&one, at(5)) && !holds(&two, at(5)), "whatever the times in it say");
        store.turn(&mut one, at(10), wall(10));
        store.turn(&mut two, at(12), wall(0));
        assert!(holds(&one, at(29)) && !holds(&one, at(30)), "two thirds from its renewal");
        store.turn(&mut two, at(41), wall(0));
        assert!(!holds(&two, at(41)));
        store.turn(&mut two, at(42), wall(0));
        assert!(holds(&two, at(42)));
        assert_eq!(store.0.as_ref().map(|lease| lease.transitions), Some(1));
        one.saw(at(43), store.0.clone());
        assert!(!holds(&one, at(43)) && one.bid(at(43), wall(0)).is_none());
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let mut store = Store::default();
        let (mut one, mut two) = (Election::new("one", TERM), Election::new("two", TERM));
        store.turn(&mut one, at(0), wall(0));
        store.turn(&mut two, at(1), wall(1));
        let given = one.give_back(wall(2)).expect("it was held");
        assert!(!holds(&one, at(2)));
        store.write(given).expect("nobody else wrote");
        store.turn(&mut two, at(3), wall(3));
        assert!(holds(&two, at(3)));
        assert_eq!(one.give_back(wall(4)), None);
    }

    #[test]
    fn a_holder_of_the_same_name_goes_on_after_a_restart() {
        let mut store = Store::default();
        store.turn(&mut Election::new("one", TERM), at(0), wall(0));
        let mut again = Election::new("one", TERM);
        store.turn(&mut again, at(1), wall(1));
        assert!(holds(&again, at(1)));
        assert_eq!(store.0.map(|lease| (lease.transitions, lease.acquired)), Some((0, wall(0))));
    }

    #[test]
    fn a_lease_that_was_deleted_is_its_holders_for_its_time() {
        let mut store = Store::default();
        let (mut one, mut two) = (Election::new("one", TERM), Election::new("two", TERM));
        store.turn(&mut one, at(0), wall(0));
        store.turn(&mut two, at(1), wall(1));
        store.0 = None;
        store.turn(&mut two, at(5), wall(5));
        assert!(!holds(&two, at(5)) && holds(&one, at(19)));
        store.turn(&mut two, at(34), wall(34));
        assert!(!holds(&two, at(34)), "counted from when it was missed");
        store.turn(&mut two, at(35), wall(35));
        assert!(holds(&two, at(35)));
    }

    proptest! {
        /// Candidates that stand still, whose clocks run differently fast and show anything, and a
        /// lease that is deleted once.
        #[test]
        fn at_most_one_candidate_holds_the_lease(
            rates in prop::collection::vec(80u64..=119, 3),
            skews in prop::collection::vec(0u64..1_000_000, 3),
            turns in prop::collection::vec((0usize..3, 0u64..20_000), 1..80),
            deleted_at in 0usize..120,
        ) {
            let mut store = Store::default();
            let mut all: Vec<_> =
                ["a", "b", "c"].into_iter().map(|name| Election::new(name, TERM)).collect();
            let mut true_millis = 0;
            // Who has never seen a lease takes one that is not there.
            store.turn(&mut all[0], Timestamp::from_millis(skews[0]), wall(0));
            store.turn(&mut all[1], Timestamp::from_millis(skews[1]), wall(0));
            store.turn(&mut all[2], Timestamp::from_millis(skews[2]), wall(0));
            let local = |who: usize, millis: u64| {
                Timestamp::from_millis(millis * rates[who] / 100 + skews[who])
            };
            for (turn, (who, after)) in turns.into_iter().enumerate() {
                true_millis += after;
                if turn == deleted_at {
                    store.0 = None;
                }
                store.turn(&mut all[who], local(who, true_millis), wall(skews[who]));
                let holding = (0..3).filter(|who| holds(&all[*who], local(*who, true_millis)));
                let holding: Vec<_> = holding.collect();
                prop_assert!(holding.len() <= 1, "{holding:?} hold it");
            }
        }
    }
}
