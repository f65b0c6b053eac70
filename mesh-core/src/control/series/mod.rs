//! What proxies counted, scrape by scrape, for a while: an embedded stand-in for a Prometheus, just
//! large enough for statistics. Scrapes nothing; knows no proxy and no clock.
//!
//! A value that does not change costs nothing: a series keeps at which scrape which value began.
//!
//! Laws: what is evaluated is what a Prometheus with the same samples says. Never more series than
//! [`Limits`] allow; those that were left out are counted.

pub mod arithmetic;
mod evaluate;
mod families;
mod target;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::labels::Labels;
use crate::telemetry::samples::{self, ParseError};

pub use families::{FAMILIES, is_kept};
use target::Target;

/// How long a value counts as the last one where nothing newer came, as in Prometheus.
pub const LOOKBACK: Duration = Duration::from_secs(300);

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long samples are kept.
    pub window: Duration,
    /// Scrapes of a target that are kept: 16 bytes each for every series that changes.
    pub scrapes_max: usize,
    /// Series of all targets. More are not taken.
    pub series_max: usize,
    /// Bytes of names, labels and values, as far as can be told. At this, no new series is taken.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            scrapes_max: 128,
            series_max: 200_000,
            bytes_max: 128 << 20,
        }
    }
}

/// What is kept now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Targets with samples.
    pub targets: usize,
    /// Series.
    pub series: usize,
    /// Bytes, as far as can be told.
    pub bytes: usize,
    /// Series that were left out of the last scrapes, for want of room.
    pub refused: usize,
}

/// The samples of every target.
#[derive(Debug)]
pub struct Series {
    limits: Limits,
    targets: BTreeMap<Labels, Target>,
    /// Names and values of labels, shared by all series.
    texts: BTreeSet<Arc<str>>,
    usage: Usage,
}

impl Series {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, targets: BTreeMap::new(), texts: BTreeSet::new(), usage: Usage::default() }
    }

    /// Takes in a target's metrics as they were at `at_ms` (since 1970). Of a text with a fault
    /// nothing is taken.
    ///
    /// # Errors
    /// [`ParseError`] where the text is no metrics text.
    pub fn record(&mut self, target: &Labels, at_ms: i64, text: &str) -> Result<(), ParseError> {
        let mut lines = Vec::new();
        for line in samples::lines(text) {
            let line = line?;
            if is_kept(line.name) {
                lines.push(line);
            }
        }
        // All of them are good before one is taken.
        let known = self.targets.get(target);
        for line in lines.iter().filter(|line| known.is_none_or(|known| !known.has(line))) {
            line.read_labels()?;
        }
        let found = self.targets.entry(target.clone()).or_default();
        let before = found.usage;
        found.begin(at_ms, &self.limits);
        let room = target::Room {
            series: self.limits.series_max.saturating_sub(self.usage.series),
            bytes: self.limits.bytes_max.saturating_sub(self.usage.bytes),
        };
        found.fill(&lines, room, &mut self.texts);
        let after = found.usage;
        self.account(before, after);
        Ok(())
    }

    /// A target could not be scraped at `at_ms`: its series have no value from there on.
    pub fn record_failure(&mut self, target: &Labels, at_ms: i64) {
        if let Some(found) = self.targets.get_mut(target) {
            let before = found.usage;
            found.begin(at_ms, &self.limits);
            found.end_missing();
            let after = found.usage;
            self.account(before, after);
        }
    }

    /// Forgets what is older than the window. To be called now and then: a target that is scraped
    /// forgets by itself, one that is gone does not.
    pub fn sweep(&mut self, now_ms: i64) {
        let oldest_ms = now_ms - millis(self.limits.window);
        self.targets.retain(|_, target| {
            target.trim(oldest_ms, self.limits.scrapes_max);
            !target.is_empty()
        });
        let mut usage = Usage { targets: self.targets.len(), ..Usage::default() };
        for Usage { series, bytes, refused, .. } in self.targets.values().map(|one| one.usage) {
            usage.series += series;
            usage.bytes += bytes;
            usage.refused += refused;
        }
        self.usage = usage;
        self.texts.retain(|text| Arc::strong_count(text) > 1);
    }

    /// Ends the series of targets that are not scraped any more.
    pub fn end_others(&mut self, still: &BTreeSet<Labels>, at_ms: i64) {
        let gone = self.targets.iter_mut().filter(|(labels, _)| !still.contains(*labels));
        for (_, target) in gone.filter(|(_, target)| !target.has_ended()) {
            target.begin(at_ms, &self.limits);
            target.end_missing();
        }
    }

    /// What is kept.
    pub fn usage(&self) -> Usage {
        Usage { targets: self.targets.len(), ..self.usage }
    }

    fn account(&mut self, before: Usage, after: Usage) {
        let usage = &mut self.usage;
        usage.series = usage.series + after.series - before.series;
        usage.bytes = (usage.bytes + after.bytes).saturating_sub(before.bytes);
        usage.refused = usage.refused + after.refused - before.refused;
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
