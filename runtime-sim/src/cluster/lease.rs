//! Leases: who holds each, until when by the holder's own clock.
//!
//! Law: a lease is its holder's until it is taken away, or has run out by the clock of whoever asks
//! for it. Where clocks differ, two may so believe that they hold it.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_core::runtime::cluster::Lease;
use mesh_core::time::WallTime;

#[derive(Debug, Default)]
pub(super) struct Leases {
    held: BTreeMap<String, Lease>,
    /// Times a lease went from one holder to another.
    transitions: BTreeMap<String, u32>,
}

impl Leases {
    /// Takes or renews a lease at `now` by the asker's clock. Tells who holds it.
    pub(super) fn hold(
        &mut self,
        name: &str,
        holder: &str,
        duration: Duration,
        now: WallTime,
    ) -> Lease {
        match self.held.get(name) {
            Some(lease) if lease.holder != holder && lease.expires > now => lease.clone(),
            _ => {
                let lease = Lease { holder: holder.to_owned(), expires: now + duration };
                self.give(name, lease.clone());
                lease
            }
        }
    }

    /// Gives a lease to somebody, whoever held it.
    pub(super) fn give(&mut self, name: &str, lease: Lease) {
        let holder = lease.holder.clone();
        let before = self.held.insert(name.to_owned(), lease);
        if before.is_some_and(|before| before.holder != holder) {
            *self.transitions.entry(name.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn take_away(&mut self, name: &str) -> Option<Lease> {
        self.held.remove(name)
    }

    pub(super) fn take_all(&mut self) -> usize {
        std::mem::take(&mut self.held).len()
    }

    pub(super) fn find(&self, name: &str) -> Option<Lease> {
        self.held.get(name).cloned()
    }

    pub(super) fn transitions(&self, name: &str) -> u32 {
        self.transitions.get(name).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> WallTime {
        WallTime::from_unix_secs(1_000 + seconds)
    }

    #[test]
    fn a_lease_is_its_holders_until_it_runs_out() {
        let mut leases = Leases::default();
        assert_eq!(leases.hold("write", "a", TERM, at(0)).holder, "a");
        assert_eq!(leases.hold("write", "b", TERM, at(10)).holder, "a");
        assert_eq!(leases.hold("write", "a", TERM, at(20)).expires, at(50));
        assert_eq!(leases.hold("write", "b", TERM, at(49)).holder, "a");
        assert_eq!(leases.hold("write", "b", TERM, at(50)).holder, "b");
        assert_eq!(leases.transitions("write"), 1);
    }

    #[test]
    fn a_clock_that_is_ahead_takes_a_lease_too_early() {
        let mut leases = Leases::default();
        leases.hold("write", "a", TERM, at(0));
        assert_eq!(leases.hold("write", "fast", TERM, at(31)).holder, "fast");
        assert_eq!(leases.hold("write", "a", TERM, at(1)).holder, "fast");
    }

    #[test]
    fn leases_of_other_names_are_apart() {
        let mut leases = Leases::default();
        leases.hold("one", "a", TERM, at(0));
        assert_eq!(leases.hold("two", "b", TERM, at(0)).holder, "b");
        leases.take_away("one");
        assert_eq!(leases.find("one"), None);
    }
}
