//! Growing waits between attempts. Holds no clock and no chance: it is given a random number and
//! returns a duration.
//!
//! Law: a wait is never shorter than `min`, nor longer than `max`.

use std::time::Duration;

use crate::model::client_policy;

/// Attempts in a row and the wait after each: `min`, doubled each time, plus a random share of up
/// to `jitter` of it, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    policy: client_policy::Backoff,
    failures: u32,
}

impl Backoff {
    /// Before the first failure.
    pub const fn new(policy: client_policy::Backoff) -> Self {
        Self { policy, failures: 0 }
    }

    /// How long to wait after one more failure. `random` is uniform over all of `u64`.
    pub fn failed(&mut self, random: u64) -> Duration {
        let wait = delay(&self.policy, self.failures, random);
        self.failures = self.failures.saturating_add(1);
        if planted!("backoff-absent") {
            return Duration::from_millis(1);
        }
        if wait >= self.policy.max {
            mark!("backoff-at-maximum");
        }
        wait
    }

    /// A success: the next wait is the first one again.
    pub fn succeeded(&mut self) {
        if !planted!("backoff-not-reset") {
            self.failures = 0;
        }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// How long to wait after a failure that `failures` others preceded.
pub fn delay(policy: &client_policy::Backoff, failures: u32, random: u64) -> Duration {
    let max = policy.max.max(policy.min);
    let doubled =
        2u32.checked_pow(failures).and_then(|factor| policy.min.checked_mul(factor)).unwrap_or(max);
    let base = doubled.min(max);
    // 53 bits are as many as a float holds exactly.
    let share = match planted!("jitter-absent") {
        true => 0.0,
        false => (random >> 11) as f64 / (1u64 << 53) as f64,
    };
    let jitter = base.as_secs_f64() * policy.jitter.as_f64() * share;
    let jitter = Duration::try_from_secs_f64(jitter).unwrap_or(max);
    base.saturating_add(jitter).min(max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::ratio::Ratio;

    fn policy(min_ms: u64, max_ms: u64, jitter: f64) -> client_policy::Backoff {
        client_policy::Backoff {
            min: Duration::from_millis(min_ms),
            max: Duration::from_millis(max_ms),
            jitter: Ratio::from_f64(jitter).unwrap(),
            respect_retry_after: false,
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(policy(100, 1_000, 0.0));
        let mut millis = || backoff.failed(u64::MAX).as_millis();
        assert_eq!([millis(), millis(), millis(), millis(), millis()], [100, 200, 400, 800, 1_000]);
        backoff.succeeded();
        assert_eq!(backoff.failed(0).as_millis(), 100);
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn jitter_adds_a_share() {
        let policy = policy(100, 1_000, 0.5);
        assert_eq!(delay(&policy, 0, 0).as_millis(), 100);
        assert_eq!(delay(&policy, 0, u64::MAX / 2).as_millis(), 125);
        assert_eq!(delay(&policy, 0, u64::MAX).as_millis(), 150);
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_the_shortest_and_the_longest(
            min in 0u64..100_000, max in 0u64..100_000, jitter in 0.0..10.0f64,
            failures in any::<u32>(), random in any::<u64>(),
        ) {
            let policy = policy(min, max, jitter);
            let wait = delay(&policy, failures, random);
            prop_assert!(wait >= policy.min && wait <= policy.max.max(policy.min));
        }

        /// Without jitter waits never shrink; with it one exceeds its base by the share at most, and
        /// grows with what is drawn.
        #[test]
        fn waits_grow_and_jitter_keeps_its_range(
            min in 1u64..10_000, max in 1u64..100_000, jitter in 0.0..2.0f64,
            failures in 0u32..40, (low, high) in (any::<u64>(), any::<u64>()),
        ) {
            let exact = policy(min, max, 0.0);
            let base = delay(&exact, failures, high);
            prop_assert_eq!(base, delay(&exact, failures, low), "chance without jitter");
            prop_assert!(delay(&exact, failures + 1, low) >= base);

            let jittered = policy(min, max, jitter);
            let (low, high) = (low.min(high), low.max(high));
            let (least, most) = (delay(&jittered, failures, low), delay(&jittered, failures, high));
            prop_assert!(base <= least && least <= most);
            let bound = base.as_secs_f64() * (1.0 + jittered.jitter.as_f64());
            prop_assert!(most.as_secs_f64() <= bound + 1e-6, "{most:?} above {bound} s");
        }

        #[test]
        fn a_success_starts_over(
            failures in 0u32..100, random in any::<u64>(), jitter in 0.0..2.0f64,
        ) {
            let policy = policy(100, 6_000, jitter);
            let mut backoff = Backoff::new(policy);
            for failed in 0..failures {
                prop_assert_eq!(backoff.failures(), failed);
                prop_assert_eq!(backoff.failed(random), delay(&policy, failed, random));
            }
            backoff.succeeded();
            prop_assert_eq!(backoff, Backoff::new(policy));
        }
    }
}
