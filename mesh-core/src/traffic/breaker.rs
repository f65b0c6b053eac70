//! Failure accrual: takes an endpoint out that keeps failing, and tries it again with one request
//! at a time. Knows no clock, no chance and no sockets: it is told.
//!
//! States: *closed* takes every request; *open* takes none until its penalty is over; *probation*
//! has one request out, whose outcome decides. Law: an open endpoint gets nothing before its penalty
//! is over, and then one request until that has ended.

use std::time::Duration;

use crate::model::client_policy::{Backoff, FailureAccrual, Trip};
use crate::time::Timestamp;
use crate::traffic::backoff;

/// Parts of the window over which a rate of success is measured.
const BUCKETS: usize = 10;

/// How a request ended, as far as a breaker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// The endpoint failed it.
    Failure,
    /// The endpoint has too much to do: it counts for the rate alone.
    Limited,
}

/// What a request was let through as, to be told of with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its outcome decides on a probation.
    probes: bool,
}

/// One endpoint's breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    trip: Trip,
    state: State,
    rate: Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        /// In a row.
        failures: u32,
    },
    Open {
        until: Timestamp,
        /// Penalties in a row, this one among them.
        penalties: u32,
    },
    Probation {
        penalties: u32,
    },
}

impl Breaker {
    /// A closed breaker; none where the policy never takes endpoints out.
    pub fn new(policy: &FailureAccrual) -> Option<Self> {
        let trip = policy.trip.clone()?;
        Some(Self { trip, state: State::Closed { failures: 0 }, rate: Rate::default() })
    }

    /// Whether it takes a request now.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until, .. } => now >= until,
            State::Probation { .. } => false,
        }
    }

    /// Whether it is taken out, or on probation.
    pub fn is_tripped(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// A request is sent, where it is ready for one.
    pub fn admit(&mut self, now: Timestamp) -> Ticket {
        match self.state {
            State::Open { until, penalties } if now >= until => {
                self.state = State::Probation { penalties };
                Ticket { probes: true }
            }
            _ => Ticket { probes: false },
        }
    }

    /// A request ended. `random` is uniform over all of `u64`.
    pub fn ended(&mut self, now: Timestamp, ticket: Ticket, outcome: Outcome, random: u64) {
        match self.state {
            State::Closed { failures } => {
                let failures = match outcome {
                    Outcome::Success => 0,
                    Outcome::Failure => failures.saturating_add(1),
                    Outcome::Limited => failures,
                };
                self.rate.count(now, self.window(), outcome == Outcome::Success);
                self.state = State::Closed { failures };
                if self.trips(now, failures) {
                    mark!("breaker-opened");
                    self.open(now, 1, random);
                }
            }
            State::Probation { penalties } if ticket.probes => match outcome {
                Outcome::Success => {
                    mark!("breaker-closed");
                    self.rate = Rate::default();
                    self.state = State::Closed { failures: 0 };
                }
                Outcome::Failure | Outcome::Limited => {
                    self.open(now, penalties.saturating_add(1), random);
                }
            },
            // What was sent before it opened.
            State::Open { .. } | State::Probation { .. } => {}
        }
    }

    /// A request ended that says nothing of the endpoint.
    pub fn abandoned(&mut self, now: Timestamp, ticket: Ticket) {
        if let State::Probation { penalties } = self.state
            && ticket.probes
        {
            self.state = State::Open { until: now, penalties };
        }
    }

    fn trips(&self, now: Timestamp, failures: u32) -> bool {
        match &self.trip {
            Trip::Consecutive { max_failures, .. } => failures >= (*max_failures).max(1),
            Trip::Unified {
                success_rate_threshold,
                min_requests,
                max_consecutive_failures,
                ..
            } => {
                let (good, all) = self.rate.sum(now, self.window());
                let is_low = all >= u64::from(*min_requests).max(1)
                    && (good as f64) < success_rate_threshold.as_f64() * all as f64;
                is_low || failures >= (*max_consecutive_failures).max(1)
            }
        }
    }

    fn open(&mut self, now: Timestamp, penalties: u32, random: u64) {
        let penalty = backoff::delay(self.backoff(), penalties - 1, random);
        self.state = State::Open { until: now + penalty, penalties };
    }

    fn backoff(&self) -> &Backoff {
        match &self.trip {
            Trip::Consecutive { backoff, .. } | Trip::Unified { backoff, .. } => backoff,
        }
    }

    fn window(&self) -> Duration {
        match &self.trip {
            Trip::Consecutive { .. } => Duration::from_secs(1),
            Trip::Unified { decay, .. } => (*decay).max(Duration::from_millis(BUCKETS as u64)),
        }
    }
}

/// Successes and requests of late, by parts of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    /// The number of the latest part, since the beginning of time.
    latest: u64,
    /// Successes and requests of each; that of part `n` at `n % BUCKETS`.
    counts: [(u32, u32); BUCKETS],
}

impl Rate {
    fn count(&mut self, now: Timestamp, window: Duration, good: bool) {
        let part = part_of(now, window);
        for passed in (self.latest + 1..=part).take(BUCKETS) {
            self.counts[passed as usize % BUCKETS] = (0, 0);
        }
        self.latest = self.latest.max(part);
        let (successes, all) = &mut self.counts[self.latest as usize % BUCKETS];
        *successes = successes.saturating_add(u32::from(good));
        *all = all.saturating_add(1);
    }

    fn sum(&self, now: Timestamp, window: Duration) -> (u64, u64) {
        let oldest = part_of(now, window).saturating_sub(BUCKETS as u64 - 1);
        let first = oldest.max(self.latest.saturating_sub(BUCKETS as u64 - 1));
        let parts = (first..=self.latest).map(|part| self.counts[part as usize % BUCKETS]);
        parts.fold((0, 0), |(good, all), (g, a)| (good + u64::from(g), all + u64::from(a)))
    }
}

fn part_of(now: Timestamp, window: Duration) -> u64 {
    let part = (window.as_nanos() / BUCKETS as u128).max(1);
    (u128::from(now.as_nanos()) / part) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::ratio::Ratio;

    const BACKOFF: Backoff = Backoff {
        min: Duration::from_secs(1),
        max: Duration::from_secs(4),
        jitter: Ratio::from_millionths(0),
        respect_retry_after: false,
    };

    fn consecutive(max_failures: u32) -> Breaker {
        let trip = Trip::Consecutive { max_failures, backoff: BACKOFF };
        let policy = FailureAccrual { trip: Some(trip), min_ready_endpoints: None };
        Breaker::new(&policy).unwrap()
    }

    fn unified() -> Breaker {
        let trip = Trip::Unified {
            success_rate_threshold: Ratio::from_millionths(800_000),
            decay: Duration::from_secs(10),
            min_requests: 5,
            max_consecutive_failures: 7,
            backoff: BACKOFF,
        };
        Breaker::new(&FailureAccrual { trip: Some(trip), min_ready_endpoints: None }).unwrap()
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    impl Breaker {
        /// A request that ends at once.
        fn take(&mut self, now: Timestamp, outcome: Outcome) {
            assert!(self.is_ready(now));
            let ticket = self.admit(now);
            self.ended(now, ticket, outcome, 0);
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_among_them_does_not() {
        let mut breaker = consecutive(3);
        for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Success, Outcome::Failure] {
            breaker.take(at(0), outcome);
        }
        breaker.take(at(0), Outcome::Limited);
        assert!(!breaker.is_tripped());
        breaker.take(at(0), Outcome::Failure);
        breaker.take(at(0), Outcome::Failure);
        assert!(breaker.is_tripped() && !breaker.is_ready(at(999)));
    }

    #[test]
    fn an_open_breaker_admits_one_probe_after_its_penalty_which_doubles() {
        let mut breaker = consecutive(1);
        breaker.take(at(0), Outcome::Failure);
        assert!(!breaker.is_ready(at(999)) && breaker.is_ready(at(1_000)));
        let probe = breaker.admit(at(1_000));
        assert!(!breaker.is_ready(at(9_000)), "one is out");
        breaker.ended(at(1_500), probe, Outcome::Limited, 0);
        assert!(!breaker.is_ready(at(3_499)) && breaker.is_ready(at(3_500)));
        let probe = breaker.admit(at(3_500));
        breaker.ended(at(3_500), probe, Outcome::Success, 0);
        assert!(!breaker.is_tripped());
        breaker.take(at(4_000), Outcome::Failure);
        assert!(breaker.is_ready(at(5_000)), "the first penalty again");
    }

    #[test]
    fn what_was_sent_before_it_opened_decides_nothing() {
        let mut breaker = consecutive(1);
        let before = breaker.admit(at(0));
        breaker.take(at(0), Outcome::Failure);
        let probe = breaker.admit(at(1_000));
        breaker.ended(at(1_000), before, Outcome::Success, 0);
        assert!(breaker.is_tripped());
        breaker.abandoned(at(1_100), probe);
        assert!(breaker.is_tripped() && breaker.is_ready(at(1_100)), "another may probe");
    }

    #[test]
    fn a_low_rate_of_success_opens_it_over_its_window_alone() {
        let mut breaker = unified();
        for _ in 0..8 {
            breaker.take(at(0), Outcome::Success);
        }
        for _ in 0..2 {
            breaker.take(at(0), Outcome::Limited);
        }
        assert!(!breaker.is_tripped(), "8 of 10");
        // All of that is out of the window by now.
        for _ in 0..4 {
            breaker.take(at(11_000), Outcome::Limited);
        }
        assert!(!breaker.is_tripped(), "too few to tell");
        breaker.take(at(11_000), Outcome::Limited);
        assert!(breaker.is_tripped());
        let mut breaker = unified();
        for nth in 0..11 {
            assert!(!breaker.is_tripped());
            let outcome = if nth < 8 { Outcome::Success } else { Outcome::Limited };
            breaker.take(at(nth * 500), outcome);
        }
        assert!(breaker.is_tripped(), "8 of 11");
    }

    proptest! {
        /// Open, it admits nothing before its penalty is over, and then one at a time.
        #[test]
        fn an_open_breaker_admits_one_at_a_time(
            steps in prop::collection::vec((0u64..2_000, 0u8..4), 1..100),
            is_unified: bool,
        ) {
            let mut breaker = if is_unified { unified() } else { consecutive(2) };
            let (mut now, mut out) = (0, Vec::new());
            for (gap, what) in steps {
                now += gap;
                let tripped = breaker.is_tripped();
                if breaker.is_ready(at(now)) {
                    let ticket = breaker.admit(at(now));
                    prop_assert_eq!(ticket.probes, tripped);
                    prop_assert!(!ticket.probes || !breaker.is_ready(at(now + 100_000)));
                    out.push(ticket);
                }
                if out.is_empty() {
                    continue;
                }
                let ticket = out.remove(now as usize % out.len());
                match what {
                    0 => breaker.ended(at(now), ticket, Outcome::Success, now),
                    1 => breaker.ended(at(now), ticket, Outcome::Failure, now),
                    2 => breaker.ended(at(now), ticket, Outcome::Limited, now),
                    _ => breaker.abandoned(at(now), ticket),
                }
                prop_assert!(out.iter().filter(|ticket| ticket.probes).count() <= 1);
            }
        }
    }
}
