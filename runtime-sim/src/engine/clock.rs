//! A host's two clocks: what they show at a moment of the simulation's own time, when they run too
//! fast or too slow.

use mesh_core::time::WallTime;

use super::agenda::Nanos;
use crate::topology::ClockSpec;

const MILLION: i128 = 1_000_000;

/// The clocks of a host.
pub(super) struct HostClock {
    spec: ClockSpec,
    /// Since when they run at these rates.
    since: Nanos,
    /// What the monotonic clock showed then.
    monotonic_base: Nanos,
    /// How far drift had brought the wall clock ahead by then, in nanoseconds.
    wall_gained: i128,
}

impl HostClock {
    pub(super) fn new(now: Nanos, spec: ClockSpec) -> Self {
        Self { spec, since: now, monotonic_base: now, wall_gained: 0 }
    }

    /// Changes skew and rates; what drift has done so far stays.
    pub(super) fn set(&mut self, now: Nanos, spec: ClockSpec) {
        self.monotonic_base = self.monotonic(now);
        self.wall_gained = self.gained(now);
        self.since = now;
        self.spec = spec;
    }

    /// What the monotonic clock shows.
    pub(super) fn monotonic(&self, now: Nanos) -> Nanos {
        let passed = now.saturating_sub(self.since);
        let drift = drift(passed, self.spec.monotonic_drift_ppm);
        let shown = i128::from(self.monotonic_base) + i128::from(passed) + drift;
        Nanos::try_from(shown).unwrap_or(Nanos::MAX)
    }

    /// The first moment at which the monotonic clock shows `local`.
    pub(super) fn moment(&self, local: Nanos) -> Nanos {
        if self.spec.monotonic_drift_ppm == 0 {
            let ahead = local.saturating_sub(self.monotonic_base);
            return self.since.saturating_add(ahead);
        }
        let ahead = i128::from(local.saturating_sub(self.monotonic_base));
        let rate = MILLION + i128::from(self.spec.monotonic_drift_ppm);
        // Rounded up, and one more for `drift`'s own rounding.
        let moment = i128::from(self.since) + ahead * MILLION / rate.max(1) + 2;
        Nanos::try_from(moment).unwrap_or(Nanos::MAX)
    }

    /// What the wall clock shows; `start` is the truth at the simulation's start.
    pub(super) fn wall(&self, start: WallTime, now: Nanos) -> WallTime {
        let gained = self.gained(now);
        let magnitude = std::time::Duration::from_nanos(
            u64::try_from(gained.unsigned_abs()).unwrap_or(u64::MAX),
        );
        let truth = start + std::time::Duration::from_nanos(now);
        let drifted = if gained < 0 { truth - magnitude } else { truth + magnitude };
        drifted + self.spec.ahead - self.spec.behind
    }

    fn gained(&self, now: Nanos) -> i128 {
        let passed = now.saturating_sub(self.since);
        self.wall_gained + drift(passed, self.spec.wall_drift_ppm)
    }
}

fn drift(passed: Nanos, ppm: i32) -> i128 {
    i128::from(passed) * i128::from(ppm) / MILLION
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn drifting(ppm: i32) -> ClockSpec {
        ClockSpec { wall_drift_ppm: ppm, monotonic_drift_ppm: ppm, ..ClockSpec::default() }
    }

    #[test]
    fn a_clock_that_runs_fast_gains_and_keeps_what_it_gained() {
        let start = WallTime::from_unix_secs(1_000);
        let mut clock = HostClock::new(0, drifting(1_000));
        assert_eq!(clock.monotonic(1_000 * SECOND), 1_001 * SECOND);
        clock.set(1_000 * SECOND, drifting(-1_000));
        assert_eq!(clock.monotonic(1_000 * SECOND), 1_001 * SECOND);
        assert_eq!(clock.monotonic(3_000 * SECOND), 2_999 * SECOND);
        let wall = clock.wall(start, 3_000 * SECOND);
        assert_eq!(wall, start + Duration::from_secs(2_999));
    }

    #[test]
    fn a_sleep_ends_when_the_clock_shows_its_deadline_and_not_before() {
        for ppm in [-500_000, -7, 0, 13, 900_000] {
            let clock = HostClock::new(5, drifting(ppm));
            for local in [6, 1_000, SECOND + 1, 86_400 * SECOND] {
                let moment = clock.moment(local);
                assert!(clock.monotonic(moment) >= local, "{ppm} {local}");
                assert!(clock.monotonic(moment.saturating_sub(4)) <= local, "{ppm} {local}");
            }
        }
    }
}
