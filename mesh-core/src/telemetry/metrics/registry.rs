//! Groups of metric families that share their labels, and how families are printed.
//!
//! Law: equal labels give the same handle as long as somebody holds it or it has not been idle for
//! long; a group never keeps more label sets than its limit and one for each shape of labels (such
//! as inbound and outbound, with and without TLS).

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cell::{Histogram, Unit, write_seconds};
use crate::telemetry::format::{Format, Kind};
use crate::telemetry::labels::{LabelWriter, Labels};
use crate::time::Timestamp;

/// A metric family: a name with what Prometheus is told about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// With the unit. A counter's `_total` is left out or not: it is printed where it belongs.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: Option<&'static str>,
    pub(crate) style: Style,
}

/// linkerd2-proxy prints its families by two libraries, and dashboards have seen both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// linkerd-metrics: `le` is the last label.
    Legacy,
    /// prometheus-client: `le` is the first label, help ends with a full stop.
    OpenMetrics,
}

impl Family {
    pub(crate) const fn legacy(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind, unit: None, style: Style::Legacy }
    }

    pub(crate) const fn open(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind, unit: None, style: Style::OpenMetrics }
    }

    /// `name` ends with `_` and the unit.
    pub(crate) const fn with_unit(mut self, unit: &'static str) -> Self {
        self.unit = Some(unit);
        self
    }

    /// HELP, TYPE and, in OpenMetrics, UNIT lines.
    pub(crate) fn write_head(&self, format: Format, out: &mut String) {
        let stop = match self.style {
            Style::Legacy => "",
            Style::OpenMetrics => ".",
        };
        format.write_head(
            out,
            self.name,
            self.kind,
            format_args!("{}{stop}", self.help),
            self.unit,
        );
    }
}

/// The samples of one label set in one family, on their way out.
pub(crate) struct Lines<'a> {
    pub(crate) out: &'a mut String,
    pub(crate) format: Format,
    pub(crate) family: &'static Family,
    /// The set's own labels, printed.
    pub(crate) labels: &'a str,
}

impl Lines<'_> {
    /// A counter; `extra` labels are printed after the set's own (Legacy and most families), as
    /// `a="b",c="d"`.
    pub(crate) fn counter(&mut self, extra: &str, value: u64) {
        self.sample(&[self.labels, extra], value);
    }

    /// A counter whose `extra` labels come before the set's own.
    pub(crate) fn counter_led_by(&mut self, extra: &str, value: u64) {
        self.sample(&[extra, self.labels], value);
    }

    /// A gauge whose `extra` labels come before the set's own.
    pub(crate) fn gauge(&mut self, extra: &str, value: impl Display) {
        self.sample(&[extra, self.labels], value);
    }

    /// A gauge, or a counter, of seconds.
    pub(crate) fn seconds(&mut self, nanos: u64) {
        let mut value = String::new();
        write_seconds(&mut value, nanos);
        self.sample(&[self.labels], value);
    }

    /// A histogram; `extra` labels come after the set's own.
    pub(crate) fn histogram(&mut self, extra: &str, histogram: &Histogram) {
        let mut count = 0;
        let mut sum = String::new();
        match histogram.unit() {
            Unit::Seconds => write_seconds(&mut sum, histogram.sum()),
            Unit::Milliseconds | Unit::Bytes => {
                let _ = write!(sum, "{}", histogram.sum());
            }
        }
        let labels = self.labels;
        let mut buckets = String::new();
        let name = self.family.name;
        for (bound, cumulative) in histogram.cumulative() {
            // OpenMetrics takes floats in one spelling alone; so does Prometheus, from its third version.
            let fraction = match self.format {
                Format::OpenMetrics if bound.bytes().all(|b| b.is_ascii_digit()) => ".0",
                _ => "",
            };
            let le = format!("le=\"{bound}{fraction}\"");
            let parts = match self.family.style {
                Style::Legacy => [labels, extra, &le],
                Style::OpenMetrics => [&le, labels, extra],
            };
            write_sample(&mut buckets, name, "_bucket", &parts, cumulative);
            count = cumulative;
        }
        let own = [labels, extra];
        match self.family.style {
            Style::Legacy => {
                self.out.push_str(&buckets);
                write_sample(self.out, name, "_count", &own, count);
                write_sample(self.out, name, "_sum", &own, sum);
            }
            Style::OpenMetrics => {
                write_sample(self.out, name, "_sum", &own, sum);
                write_sample(self.out, name, "_count", &own, count);
                self.out.push_str(&buckets);
            }
        }
    }

    /// A counter or a gauge.
    fn sample(&mut self, labels: &[&str], value: impl Display) {
        let (name, suffix) = self.family.kind.sample_name(self.family.name);
        write_sample(self.out, name, suffix, labels, value);
    }
}

fn write_sample(out: &mut String, name: &str, suffix: &str, labels: &[&str], value: impl Display) {
    let _ = write!(out, "{name}{suffix}");
    let mut before = '{';
    for part in labels.iter().filter(|part| !part.is_empty()) {
        let _ = write!(out, "{before}{part}");
        before = ',';
    }
    if before == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

/// The metrics of one label set: one or more families' worth.
pub(crate) trait MetricSet: Send + Sync + 'static {
    /// Prints the samples of the group's `family`-th family. Printing none is fine.
    fn write(&self, family: usize, lines: &mut Lines<'_>);
}

/// A group as the printer sees it.
pub(crate) trait Report: Send + Sync {
    /// What the group is called in reports about label sets.
    fn name(&self) -> &'static str;
    /// Its families.
    fn families(&self) -> &'static [Family];
    /// Forgets label sets that nobody has held for `retain`.
    fn sweep(&self, now: Timestamp, retain: Duration);
    /// Label sets with their metrics, in order.
    fn snapshot(&self) -> Vec<(Arc<str>, Arc<dyn MetricSet>)>;
    /// How many label sets there are, and how many resolutions were folded into one.
    fn usage(&self) -> (usize, u64);
}

/// Label sets of a group whose labels have few values: more than any enum has.
const PERMANENT_SETS_MAX: usize = 64;

/// Label sets that share their families.
pub(crate) struct Group<M> {
    name: &'static str,
    families: &'static [Family],
    new: fn() -> M,
    sets_max: usize,
    /// Whether label sets are forgotten. Those with few values stay.
    expires: bool,
    sets: Mutex<BTreeMap<Arc<str>, Set<M>>>,
    folded: AtomicU64,
}

struct Set<M> {
    metrics: Arc<M>,
    /// When a sweep first found that nobody holds it.
    idle_since: Option<Timestamp>,
}

impl<M: MetricSet> Group<M> {
    pub(crate) fn new(
        name: &'static str,
        families: &'static [Family],
        sets_max: usize,
        new: fn() -> M,
    ) -> Self {
        Self {
            name,
            families,
            new,
            sets_max,
            expires: true,
            sets: Mutex::default(),
            folded: AtomicU64::new(0),
        }
    }

    /// The same for labels whose values are few: nothing expires, so that nobody has to hold them.
    pub(crate) fn permanent(
        name: &'static str,
        families: &'static [Family],
        new: fn() -> M,
    ) -> Self {
        Self { expires: false, ..Self::new(name, families, PERMANENT_SETS_MAX, new) }
    }

    /// The handle of these labels. Where the group is full, that of the set `other`.
    pub(crate) fn resolve(&self, labels: &impl Labels) -> Arc<M> {
        let text = LabelWriter::print(labels);
        let mut sets = self.lock();
        if let Some(set) = sets.get_mut(text.as_str()) {
            set.idle_since = None;
            return set.metrics.clone();
        }
        let text = if sets.len() < self.sets_max {
            text
        } else {
            mark!("label-sets-at-bound");
            self.folded.fetch_add(1, Relaxed);
            LabelWriter::print_folded(labels)
        };
        let set = sets
            .entry(text.into())
            .or_insert_with(|| Set { metrics: Arc::new((self.new)()), idle_since: None });
        set.idle_since = None;
        set.metrics.clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Set<M>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: MetricSet> Report for Group<M> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn families(&self) -> &'static [Family] {
        self.families
    }

    fn sweep(&self, now: Timestamp, retain: Duration) {
        if !self.expires {
            return;
        }
        self.lock().retain(|_, set| {
            if Arc::strong_count(&set.metrics) > 1 {
                set.idle_since = None;
                return true;
            }
            now.since(*set.idle_since.get_or_insert(now)) < retain
        });
    }

    fn snapshot(&self) -> Vec<(Arc<str>, Arc<dyn MetricSet>)> {
        let sets = self.lock();
        let shared = |(labels, set): (&Arc<str>, &Set<M>)| {
            let metrics: Arc<dyn MetricSet> = set.metrics.clone();
            (labels.clone(), metrics)
        };
        sets.iter().map(shared).collect()
    }

    fn usage(&self) -> (usize, u64) {
        (self.lock().len(), self.folded.load(Relaxed))
    }
}
