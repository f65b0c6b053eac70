//! Requests in flight on an endpoint's one HTTP/2 connection, and when a burst of them is over.
//!
//! An HTTP/2 connection keeps room for as many streams as it ever had at once, about a kilobyte for
//! each and at each end. The room goes back with the connection: one that carried a burst is replaced
//! after it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// So many at once are a burst.
const BURST: usize = 256;
/// It is over where for so long there were at most a quarter of that.
pub(super) const QUIET: Duration = Duration::from_secs(2);

/// Requests in flight, and the most there were lately.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    in_flight: AtomicUsize,
    /// Of a burst that somebody watches.
    peak: AtomicUsize,
    is_watched: AtomicBool,
}

/// A request in flight, until dropped.
pub(super) struct Sent<'a>(&'a Bursts);

impl Bursts {
    /// A request is sent. Whether with it a burst begins that nobody watches yet: the caller does.
    pub(super) fn sent(&self) -> (Sent<'_>, bool) {
        let count = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        if count <= BURST / 4 {
            return (Sent(self), false);
        }
        self.peak.fetch_max(count, Ordering::Relaxed);
        let begins = count >= BURST && !self.is_watched.swap(true, Ordering::Relaxed);
        (Sent(self), begins)
    }

    /// Begins to look for the quiet of the next [`QUIET`].
    pub(super) fn look(&self) {
        self.peak.store(0, Ordering::Relaxed);
    }

    /// Whether it has been quiet since the look.
    pub(super) fn is_quiet(&self) -> bool {
        let is_low = self.in_flight.load(Ordering::Relaxed) <= BURST / 4;
        is_low && self.peak.load(Ordering::Relaxed) == 0
    }

    /// Nobody watches any more.
    pub(super) fn over(&self) {
        self.is_watched.store(false, Ordering::Relaxed);
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bursts: &Bursts, count: usize) -> (Vec<Sent<'_>>, usize) {
        let (sent, begun): (Vec<_>, Vec<_>) = (0..count).map(|_| bursts.sent()).unzip();
        (sent, begun.into_iter().filter(|begins| *begins).count())
    }

    #[test]
    fn a_burst_is_watched_by_one() {
        let bursts = Bursts::default();
        assert_eq!(sent(&bursts, BURST - 1).1, 0);
        let (burst, begun) = sent(&bursts, BURST + 50);
        assert_eq!(begun, 1);
        drop(burst);
        assert_eq!(sent(&bursts, BURST).1, 0, "watched still");
        bursts.over();
        assert_eq!(sent(&bursts, BURST).1, 1);
    }

    #[test]
    fn a_burst_is_over_when_a_whole_look_was_quiet() {
        let bursts = Bursts::default();
        let (burst, _) = sent(&bursts, BURST);
        bursts.look();
        assert!(!bursts.is_quiet(), "in flight");
        drop(burst);
        drop(sent(&bursts, BURST / 2));
        assert!(!bursts.is_quiet(), "not all of the time");
        bursts.look();
        let some = sent(&bursts, BURST / 4);
        assert!(bursts.is_quiet());
        drop(some);
    }
}
