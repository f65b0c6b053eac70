//! Questions, answered from the samples that are kept, as a Prometheus would answer them.

use std::collections::BTreeMap;

use super::arithmetic::{increase, quantile};
use super::target::{Set, Target, Track};
use super::{LOOKBACK, Series, millis};
use crate::control::query::{Operation, Query, RangeRow, Row};
use crate::model::labels::Labels;

/// Points of a range that are answered at most, for each group.
pub const POINTS_MAX: usize = 1_000;

impl Series {
    /// The answer at a moment, in milliseconds since 1970, in order of labels.
    pub fn evaluate(&self, query: &Query, at_ms: i64) -> Vec<Row> {
        match query.operation {
            Operation::Quantile(share) => self.quantiles(query, share, at_ms),
            Operation::Increase | Operation::Rate | Operation::Last => self.sums(query, at_ms),
        }
    }

    /// The answers at moments `step_ms` apart, from `start_ms` to `end_ms`; `POINTS_MAX` of them
    /// at most.
    pub fn evaluate_range(
        &self,
        query: &Query,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Vec<RangeRow> {
        let mut rows: BTreeMap<Vec<String>, Vec<(i64, f64)>> = BTreeMap::new();
        let moments = (0..POINTS_MAX as i64).map(|n| start_ms.saturating_add(n * step_ms.max(1)));
        for at_ms in moments.take_while(|at| *at <= end_ms) {
            for Row { labels, value } in self.evaluate(query, at_ms) {
                rows.entry(labels).or_default().push((at_ms, value));
            }
        }
        rows.into_iter().map(|(labels, points)| RangeRow { labels, points }).collect()
    }

    fn sums(&self, query: &Query, at_ms: i64) -> Vec<Row> {
        let mut sums: BTreeMap<Vec<String>, f64> = BTreeMap::new();
        self.for_each(query, at_ms, |labels, le, value| {
            let labels = query.by.iter().map(|name| match *name {
                "le" => le.to_string(),
                name => labels.value(name).to_string(),
            });
            *sums.entry(labels.collect()).or_default() += value;
        });
        sums.into_iter().map(|(labels, value)| Row { labels, value }).collect()
    }

    fn quantiles(&self, query: &Query, share: f64, at_ms: i64) -> Vec<Row> {
        let mut groups: BTreeMap<Vec<String>, BTreeMap<String, f64>> = BTreeMap::new();
        self.for_each(query, at_ms, |labels, le, value| {
            let group = query.by.iter().map(|name| labels.value(name).to_string()).collect();
            *groups.entry(group).or_default().entry(le.to_string()).or_default() += value;
        });
        let rows = groups.into_iter().filter_map(|(labels, buckets)| {
            let buckets = buckets.into_iter();
            let buckets = buckets.filter_map(|(le, count)| Some((le.parse().ok()?, count)));
            Some(Row { labels, value: quantile(share, buckets.collect())? })
        });
        rows.collect()
    }

    fn for_each(&self, query: &Query, at_ms: i64, mut take: impl FnMut(AllLabels<'_>, &str, f64)) {
        for (own, target) in &self.targets {
            for set in target.sets_of(query.family) {
                let labels = AllLabels { target: own, set };
                let mut matchers = query.matchers.iter();
                if !matchers.all(|matcher| matcher.takes(labels.value(matcher.label))) {
                    continue;
                }
                for (le, track) in set.tracks() {
                    if let Some(value) = value(query, target, track, at_ms) {
                        take(labels, le, value);
                    }
                }
            }
        }
    }
}

/// What a series contributes.
fn value(query: &Query, target: &Target, track: &Track, at_ms: i64) -> Option<f64> {
    let window_ms = millis(query.window);
    let grown = || {
        let points = target.points(track, at_ms.saturating_sub(window_ms), at_ms);
        increase(points, at_ms, window_ms)
    };
    match query.operation {
        Operation::Last => target.last(track, at_ms, millis(LOOKBACK)),
        Operation::Increase => grown(),
        Operation::Rate | Operation::Quantile(_) => Some(grown()? / query.window.as_secs_f64()),
    }
}

/// A series' labels and its target's. The target's win, as Prometheus has it.
#[derive(Clone, Copy)]
struct AllLabels<'a> {
    target: &'a Labels,
    set: &'a Set,
}

impl<'a> AllLabels<'a> {
    /// A label; empty where there is none.
    fn value(self, name: &str) -> &'a str {
        self.target.value(name).unwrap_or_else(|| self.set.label(name))
    }
}
