//! What samples mean: quantiles and rates from two readings of a counter or histogram. Pure.
//! Quantiles are interpolated within buckets exactly as Prometheus' `histogram_quantile` does.

use std::time::Duration;

use super::samples::Sample;

/// A histogram as it was read, or the difference of two readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramSnapshot {
    /// Upper bounds with the count up to each, ascending; the last is infinite.
    buckets: Vec<(f64, f64)>,
    sum: f64,
}

impl HistogramSnapshot {
    /// The histogram `family` summed over all label sets of which `keep` keeps the samples.
    pub fn from_samples(samples: &[Sample], family: &str, keep: impl Fn(&Sample) -> bool) -> Self {
        let mut histogram = Self::default();
        for sample in samples {
            match sample.name.strip_prefix(family) {
                Some("_bucket") if keep(sample) => {
                    let bound = sample.label("le").and_then(|le| le.parse().ok());
                    if let Some(bound) = bound {
                        histogram.add(bound, sample.value);
                    }
                }
                Some("_sum") if keep(sample) => histogram.sum += sample.value,
                _ => {}
            }
        }
        histogram
    }

    fn add(&mut self, bound: f64, count: f64) {
        let found = self.buckets.binary_search_by(|(b, _)| b.total_cmp(&bound));
        match found {
            Ok(index) => self.buckets[index].1 += count,
            Err(index) => self.buckets.insert(index, (bound, count)),
        }
    }

    /// Observations.
    pub fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// Sum of what was observed.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The mean of what was observed; `None` where nothing was.
    pub fn mean(&self) -> Option<f64> {
        (self.count() > 0.0).then(|| self.sum / self.count())
    }

    /// What was observed since `earlier`; all of it where the counters began anew since.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| {
            let found = earlier.buckets.iter().find(|(b, _)| *b == bound);
            found.map_or(0.0, |(_, count)| *count)
        };
        if self.buckets.iter().any(|(b, count)| *count < before(*b)) {
            return self.clone();
        }
        let difference = |&(bound, count): &(f64, f64)| (bound, count - before(bound));
        Self { buckets: self.buckets.iter().map(difference).collect(), sum: self.sum - earlier.sum }
    }

    /// The value that a share `q` (0 to 1) of observations does not exceed, in the histogram's
    /// unit; `None` where nothing was observed. An observation above the last finite bound counts
    /// as that bound.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.count();
        if total <= 0.0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * total;
        let index = self.buckets.iter().position(|(_, count)| *count >= rank)?;
        let (lower, below) = match index.checked_sub(1) {
            Some(before) => self.buckets[before],
            None => (0.0, 0.0),
        };
        let (upper, up_to) = self.buckets[index];
        if upper.is_infinite() {
            return Some(lower);
        }
        if up_to <= below || upper <= 0.0 {
            return Some(upper);
        }
        Some(lower + (upper - lower) * (rank - below) / (up_to - below))
    }

    /// p50, p95 and p99; `None` where nothing was observed.
    pub fn quantiles(&self) -> Option<Quantiles> {
        Some(Quantiles {
            p50: self.quantile(0.50)?,
            p95: self.quantile(0.95)?,
            p99: self.quantile(0.99)?,
        })
    }
}

/// The usual quantiles, in the histogram's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantiles {
    /// Half are not above it.
    pub p50: f64,
    /// 95 % are not above it.
    pub p95: f64,
    /// 99 % are not above it.
    pub p99: f64,
}

/// How much a counter grew from `earlier` to `later`; all of `later` where it began anew.
pub fn increase(earlier: f64, later: f64) -> f64 {
    if later < earlier { later } else { later - earlier }
}

/// The same per second; 0 where no time passed.
pub fn rate(earlier: f64, later: f64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        return 0.0;
    }
    increase(earlier, later) / elapsed.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples;
    use super::*;

    fn histogram(counts: [u32; 4]) -> HistogramSnapshot {
        let mut total = 0;
        let mut text = String::new();
        for (bound, count) in ["1", "10", "100", "+Inf"].into_iter().zip(counts) {
            total += count;
            text += &format!("h_bucket{{x=\"y\",le=\"{bound}\"}} {total}\n");
        }
        let text = format!("{text}h_sum{{x=\"y\"}} 7\nh_count{{x=\"y\"}} {total}\nhh_bucket 3\n");
        let samples = samples::parse(&text).unwrap();
        HistogramSnapshot::from_samples(&samples, "h", |s| s.has(&[("x", "y")]))
    }

    #[test]
    fn quantiles_are_interpolated_as_prometheus_does() {
        let h = histogram([10, 80, 10, 0]);
        assert_eq!(h.count(), 100.0);
        assert_eq!(h.mean(), Some(0.07));
        assert_eq!(h.quantile(0.05), Some(0.5));
        assert_eq!(h.quantile(0.10), Some(1.0));
        assert_eq!(h.quantile(0.50), Some(1.0 + 9.0 * 40.0 / 80.0));
        assert_eq!(h.quantile(0.95), Some(10.0 + 90.0 * 5.0 / 10.0));
        assert_eq!(h.quantile(1.0), Some(100.0));
        assert_eq!(histogram([0, 0, 0, 5]).quantile(0.5), Some(100.0));
        assert_eq!(histogram([0; 4]).quantile(0.5), None);
        assert_eq!(histogram([0; 4]).quantiles(), None);
    }

    #[test]
    fn differences_survive_a_restart() {
        let (earlier, later) = (histogram([1, 2, 3, 0]), histogram([2, 4, 6, 1]));
        assert_eq!(later.since(&earlier).count(), 7.0);
        assert_eq!(earlier.since(&later), earlier);
        assert_eq!(rate(10.0, 30.0, Duration::from_secs(2)), 10.0);
        assert_eq!(rate(30.0, 10.0, Duration::from_secs(2)), 5.0);
        assert_eq!(rate(1.0, 2.0, Duration::ZERO), 0.0);
    }

    #[test]
    fn label_sets_add_up() {
        let text = "h_bucket{a=\"1\",le=\"1\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 2\n\
                    h_bucket{a=\"2\",le=\"1\"} 3\nh_bucket{a=\"2\",le=\"+Inf\"} 5\n";
        let samples = samples::parse(text).unwrap();
        let all = HistogramSnapshot::from_samples(&samples, "h", |_| true);
        assert_eq!(all.count(), 7.0);
    }

    proptest! {
        #[test]
        fn quantiles_grow_with_q(counts in any::<[u8; 4]>(), a in 0.0..1.0, b in 0.0..1.0) {
            let h = histogram(counts.map(u32::from));
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(h.quantile(low) <= h.quantile(high));
        }
    }
}
