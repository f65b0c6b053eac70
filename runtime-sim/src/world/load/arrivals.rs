//! When requests come: pure, by time and chance as arguments.

use std::time::Duration;

use mesh_core::time::Timestamp;

use crate::random::Random;
use crate::world::scenario::Arrivals;

/// The moments at which requests come, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    start: Timestamp,
    stop: Timestamp,
    /// The last, or the start.
    at: Timestamp,
    /// Requests so far.
    count: u64,
}

impl Schedule {
    /// Requests from `start` on, before `stop`.
    pub(super) fn new(arrivals: Arrivals, start: Timestamp, stop: Timestamp) -> Self {
        Self { arrivals, start, stop, at: start, count: 0 }
    }

    /// Passes over what would have come before a moment.
    pub(super) fn skip_to(&mut self, moment: Timestamp, random: &mut Random) {
        loop {
            let before = *self;
            let drawn = random.clone();
            if self.next(random).is_none_or(|at| at >= moment) {
                (*self, *random) = (before, drawn);
                return;
            }
        }
    }

    /// The next; none where there is none before the end.
    pub(super) fn next(&mut self, random: &mut Random) -> Option<Timestamp> {
        let first = self.count == 0;
        let at = match self.arrivals {
            Arrivals::Constant { rate } if !first => self.at + seconds(1.0 / rate),
            Arrivals::Poisson { rate } => self.at + seconds(-(1.0 - random.unit()).ln() / rate),
            Arrivals::Burst { size, every }
                if !first && self.count.is_multiple_of(u64::from(size)) =>
            {
                self.at + every.0
            }
            Arrivals::Ramp { from, to } => self.start + self.ramp(from, to)?,
            _ => self.at,
        };
        self.at = at;
        self.count += 1;
        (at < self.stop).then_some(at)
    }

    /// When a rate that goes steadily from one to another has brought so many: the solution of
    /// `from t + (to - from) t² / 2T = count`.
    fn ramp(&self, from: f64, to: f64) -> Option<Duration> {
        let whole = self.stop.since(self.start).as_secs_f64();
        let (count, slope) = (self.count as f64, (to - from) / whole.max(1e-9));
        let at = match slope.abs() < 1e-12 {
            true => count / from,
            false => ((from * from + 2.0 * slope * count).sqrt() - from) / slope,
        };
        // A rate that falls to nothing never brings the next.
        at.is_finite().then(|| seconds(at))
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::scenario::Span;

    fn moments(arrivals: Arrivals) -> Vec<f64> {
        let (start, stop) = (Timestamp::from_millis(1_000), Timestamp::from_millis(11_000));
        let (mut schedule, mut random) =
            (Schedule::new(arrivals, start, stop), Random::new(1, "", ""));
        let moments = std::iter::from_fn(|| schedule.next(&mut random));
        moments.map(|at| at.since(start).as_secs_f64()).collect()
    }

    fn within(moments: &[f64], from: f64, to: f64) -> usize {
        moments.iter().filter(|at| (from..to).contains(*at)).count()
    }

    #[test]
    fn a_constant_rate_has_equal_gaps() {
        let all = moments(Arrivals::Constant { rate: 4.0 });
        assert_eq!(all.len(), 40);
        assert_eq!(all[..3], [0.0, 0.25, 0.5]);
    }

    #[test]
    fn poisson_arrivals_have_their_rate_and_irregular_gaps() {
        let all = moments(Arrivals::Poisson { rate: 100.0 });
        assert!((900..1_100).contains(&all.len()), "{}", all.len());
        let gaps = all.windows(2).map(|pair| pair[1] - pair[0]);
        let long = gaps.filter(|gap| *gap > 0.01).count() as f64 / all.len() as f64;
        assert!((0.32..0.42).contains(&long), "a part of 1/e is above the mean, not {long}");
    }

    #[test]
    fn a_schedule_that_goes_on_is_where_it_would_have_been() {
        let every = Span(Duration::from_secs(4));
        for arrivals in [
            Arrivals::Constant { rate: 3.0 },
            Arrivals::Ramp { from: 2.0, to: 9.0 },
            Arrivals::Burst { size: 2, every },
        ] {
            let (start, stop) = (Timestamp::from_millis(1_000), Timestamp::from_millis(11_000));
            let middle = Timestamp::from_millis(4_700);
            let mut random = Random::new(1, "", "");
            let mut whole = Schedule::new(arrivals, start, stop);
            let mut late = whole;
            late.skip_to(middle, &mut random);
            let whole: Vec<_> = std::iter::from_fn(|| whole.next(&mut random)).collect();
            let late: Vec<_> = std::iter::from_fn(|| late.next(&mut random)).collect();
            let rest: Vec<_> = whole.into_iter().filter(|at| *at >= middle).collect();
            assert_eq!(late, rest);
        }
    }

    #[test]
    fn bursts_come_at_once() {
        let every = Span(Duration::from_secs(4));
        let all = moments(Arrivals::Burst { size: 2, every });
        assert_eq!(all, [0.0, 0.0, 4.0, 4.0, 8.0, 8.0]);
    }

    #[test]
    fn a_ramp_has_the_mean_of_its_rates_and_grows() {
        let all = moments(Arrivals::Ramp { from: 0.0, to: 100.0 });
        assert!((499..=501).contains(&all.len()), "{}", all.len());
        assert!((124..=126).contains(&within(&all, 0.0, 5.0)));
        let down = moments(Arrivals::Ramp { from: 100.0, to: 0.0 });
        assert!((374..=376).contains(&within(&down, 0.0, 5.0)));
        assert!((499..=501).contains(&down.len()), "{}", down.len());
    }
}
