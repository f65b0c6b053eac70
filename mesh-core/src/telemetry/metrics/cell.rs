//! Counters, gauges and histograms as atomic integers. They carry no names and no labels.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::registry::{Lines, MetricSet};

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one; returns what was counted before.
    pub fn increment(&self) -> u64 {
        self.0.fetch_add(1, Relaxed)
    }

    /// Counts `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// What was counted.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl MetricSet for Counter {
    fn write(&self, _: usize, lines: &mut Lines<'_>) {
        lines.counter("", self.value());
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// This many.
    pub fn set(&self, value: u64) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Relaxed);
    }

    /// How many.
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl MetricSet for Gauge {
    fn write(&self, _: usize, lines: &mut Lines<'_>) {
        lines.gauge("", self.value());
    }
}

/// A gauge of seconds, kept in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct SecondsGauge(AtomicU64);

impl SecondsGauge {
    pub(crate) fn set(&self, value: Duration) {
        self.0.store(nanos(value), Relaxed);
    }

    pub(crate) fn nanos(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of a histogram's buckets, and how observations are scaled.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// Upper bounds, inclusive, ascending, in the unit that is stored.
    pub(crate) bounds: &'static [u64],
    /// The same as they are printed.
    pub(crate) texts: &'static [&'static str],
    /// The unit that is stored, and how it is printed.
    pub(crate) unit: Unit,
}

/// What a histogram stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Whole milliseconds, cut off as Linkerd does; printed as they are.
    Milliseconds,
    /// Nanoseconds; printed as seconds.
    Seconds,
    /// Bytes; printed as they are.
    Bytes,
}

/// Counts observations by size. Buckets are kept apart and summed up when printed.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: &'static Buckets,
    /// One for each bound and one for what is larger than all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(buckets: &'static Buckets) -> Self {
        let counts = buckets.bounds.len() + 1;
        Self {
            buckets,
            counts: (0..counts).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe_duration(&self, duration: Duration) {
        self.observe(match self.buckets.unit {
            Unit::Milliseconds => u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            Unit::Seconds | Unit::Bytes => nanos(duration),
        });
    }

    /// `value` in the unit that is stored.
    pub(crate) fn observe(&self, value: u64) {
        // A few dozen bounds at most, and most observations are small: a scan is quickest.
        let bounds = self.buckets.bounds.iter();
        let bucket = bounds.take_while(|bound| **bound < value).count();
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Printed bounds with cumulative counts, `+Inf` last.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let texts = self.buckets.texts.iter().copied().chain(["+Inf"]);
        texts.zip(self.counts.iter()).scan(0, |total, (text, count)| {
            *total += count.load(Relaxed);
            Some((text, *total))
        })
    }

    pub(crate) fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    pub(crate) fn unit(&self) -> Unit {
        self.buckets.unit
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Prints nanoseconds as seconds, exactly, with at least one decimal: `0.05`, `10.0`.
pub(crate) fn write_seconds(out: &mut String, nanos: u64) {
    use std::fmt::Write;
    let _ = write!(out, "{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    while out.ends_with('0') && !out.ends_with(".0") {
        out.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_printed_exactly_with_at_least_one_decimal() {
        let print = |nanos| {
            let mut out = String::new();
            write_seconds(&mut out, nanos);
            out
        };
        assert_eq!(print(0), "0.0");
        assert_eq!(print(50_000_000), "0.05");
        assert_eq!(print(10_000_000_000), "10.0");
        assert_eq!(print(1), "0.000000001");
        assert_eq!(print(100_000_000_100), "100.0000001");
    }

    #[test]
    fn an_observation_at_a_bound_falls_into_its_bucket() {
        static BUCKETS: Buckets =
            Buckets { bounds: &[1, 2], texts: &["1", "2"], unit: Unit::Milliseconds };
        let histogram = Histogram::new(&BUCKETS);
        for micros in [0, 1_000, 1_999, 2_000, 3_000] {
            histogram.observe_duration(Duration::from_micros(micros));
        }
        let cumulative: Vec<_> = histogram.cumulative().collect();
        assert_eq!(cumulative, [("1", 3), ("2", 4), ("+Inf", 5)]);
        assert_eq!(histogram.sum(), 1 + 1 + 2 + 3);
    }

    #[test]
    fn sizes_stay_small() {
        // An endpoint has a histogram for each status: 26 bounds of the latency table are 224 bytes.
        assert!(size_of::<Histogram>() <= 32);
    }
}
