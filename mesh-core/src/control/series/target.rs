//! The samples of one target.
//!
//! Law: `usage` is what its sets hold, whenever no call is under way.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem::size_of;
use std::sync::Arc;

use crate::telemetry::samples::Line;

use super::arithmetic::Point;
use super::{Limits, Usage, millis};

/// Bytes of a series' labels that are taken; more is left out as if there were no room.
const LABELS_BYTES_MAX: usize = 16 * 1024;

/// The number of a scrape, from the target's first.
type Nth = u64;

/// The samples of one target.
#[derive(Debug, Default)]
pub(super) struct Target {
    /// The number of the first scrape of `times`.
    first: Nth,
    /// When each scrape that is kept was, in milliseconds since 1970, in order.
    times: VecDeque<i64>,
    /// By name and labels as they stand in the text, without `le`.
    sets: BTreeMap<Box<str>, Set>,
    pub(super) usage: Usage,
}

/// Series that differ in nothing but `le`.
#[derive(Debug)]
pub(super) struct Set {
    labels: Box<[(Arc<str>, Arc<str>)]>,
    /// By `le`; empty where there is none.
    tracks: Vec<(Box<str>, Track)>,
}

/// A series: values, each from the scrape at which it began. NaN is no value.
#[derive(Debug, Default)]
pub(super) struct Track {
    changes: VecDeque<(Nth, f64)>,
    seen: Nth,
}

/// What may still be taken.
pub(super) struct Room {
    pub(super) series: usize,
    pub(super) bytes: usize,
}

impl Target {
    /// Whether the series of a line is known.
    pub(super) fn has(&self, line: &Line<'_>) -> bool {
        let (key, le) = key(line);
        let set = self.sets.get(key.as_str());
        set.is_some_and(|set| set.tracks.iter().any(|(known, _)| **known == *le))
    }

    /// Begins a scrape. Time never goes back: one that seems earlier is just after the last.
    pub(super) fn begin(&mut self, at_ms: i64, limits: &Limits) {
        let after = self.times.back().map_or(i64::MIN, |last| last + 1);
        let at_ms = at_ms.max(after);
        self.times.push_back(at_ms);
        self.trim(at_ms - millis(limits.window), limits.scrapes_max);
    }

    /// Takes in the lines of the scrape that has begun, and ends the series that have none.
    pub(super) fn fill(&mut self, lines: &[Line<'_>], room: Room, texts: &mut BTreeSet<Arc<str>>) {
        let nth = self.last_nth();
        let (mut series, mut bytes, mut refused) = (room.series, room.bytes, 0);
        // A NaN of the target's own would pass for an end.
        for line in lines.iter().filter(|line| !line.value.is_nan()) {
            let (key, le) = key(line);
            let known = self.sets.get_mut(key.as_str());
            if let Some(track) = known.and_then(|set| set.track_mut(&le)) {
                track.push(nth, line.value);
                continue;
            }
            let needed = key.len() + size_of::<Set>() + size_of::<(Box<str>, Track)>();
            let Ok(labels) = line.read_labels() else { continue };
            if series == 0 || bytes < needed || line.labels.len() > LABELS_BYTES_MAX {
                refused += 1;
                continue;
            }
            (series, bytes) = (series - 1, bytes - needed);
            let set = self.sets.entry(key.into()).or_insert_with(|| Set::new(labels, texts));
            let mut track = Track::default();
            track.push(nth, line.value);
            set.tracks.push((le.into(), track));
        }
        self.usage.refused = refused;
        self.end_missing();
    }

    /// Ends the series that the last scrape had no value of.
    pub(super) fn end_missing(&mut self) {
        let nth = self.last_nth();
        let tracks = self.sets.values_mut().flat_map(|set| &mut set.tracks);
        for (_, track) in tracks.filter(|(_, track)| track.seen != nth) {
            track.push(nth, f64::NAN);
        }
        self.count();
    }

    /// Forgets scrapes before `oldest_ms`, and so many that no more than `scrapes_max` are left.
    pub(super) fn trim(&mut self, oldest_ms: i64, scrapes_max: usize) {
        let before = self.first;
        while self.times.front().is_some_and(|at| *at < oldest_ms) || self.times.len() > scrapes_max
        {
            self.times.pop_front();
            self.first += 1;
        }
        if self.first == before {
            return;
        }
        let first = self.first;
        let is_over = self.times.is_empty();
        self.sets.retain(|_, set| {
            set.tracks.retain_mut(|(_, track)| !is_over && track.trim(first));
            !set.tracks.is_empty()
        });
        self.count();
    }

    /// Whether nothing is left of it.
    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Whether its series have no value any more.
    pub(super) fn has_ended(&self) -> bool {
        let mut tracks = self.sets.values().flat_map(|set| &set.tracks);
        tracks.all(|(_, track)| track.changes.back().is_none_or(|(_, value)| value.is_nan()))
    }

    /// The sets of a family.
    pub(super) fn sets_of(&self, family: &str) -> impl Iterator<Item = &Set> {
        // `{` is the greatest character of ASCII but for `|`, `}` and `~`.
        let (from, to) = (format!("{family}{{"), format!("{family}|"));
        let bounds = (
            std::ops::Bound::Included(from.into_boxed_str()),
            std::ops::Bound::Excluded(to.into_boxed_str()),
        );
        self.sets.range::<Box<str>, _>(bounds).map(|(_, set)| set)
    }

    /// The samples of a series in a span of time, without its start and with its end.
    pub(super) fn points<'a>(
        &'a self,
        track: &'a Track,
        after_ms: i64,
        until_ms: i64,
    ) -> impl Iterator<Item = Point> + 'a {
        let skipped = self.times.partition_point(|at| *at <= after_ms);
        let mut changes = track.changes.iter().peekable();
        let mut value = f64::NAN;
        let times = self.times.range(skipped..).take_while(move |at| **at <= until_ms);
        let valued = times.zip(self.first + skipped as Nth..).map(move |(at, nth)| {
            while let Some((_, next)) = changes.next_if(|(began, _)| *began <= nth) {
                value = *next;
            }
            (*at, value)
        });
        valued.filter(|(_, value)| !value.is_nan())
    }

    /// What the last scrape at or before `at_ms` said of a series, where it is not too old.
    pub(super) fn last(&self, track: &Track, at_ms: i64, lookback_ms: i64) -> Option<f64> {
        let scrapes = self.times.partition_point(|at| *at <= at_ms);
        let at = *self.times.get(scrapes.checked_sub(1)?)?;
        if at <= at_ms - lookback_ms {
            return None;
        }
        let nth = self.first + scrapes as Nth - 1;
        let mut changes = track.changes.iter().rev();
        let (_, value) = changes.find(|(began, _)| *began <= nth)?;
        (!value.is_nan()).then_some(*value)
    }

    fn last_nth(&self) -> Nth {
        (self.first + self.times.len() as Nth).saturating_sub(1)
    }

    fn count(&mut self) {
        let (mut series, mut bytes) = (0, 0);
        for (key, set) in &self.sets {
            series += set.tracks.len();
            bytes += key.len() + size_of::<Set>() + size_of_val(&*set.labels);
            let track = |(_, track): &(_, Track)| {
                size_of::<(Box<str>, Track)>() + track.changes.len() * size_of::<(Nth, f64)>()
            };
            bytes += set.tracks.iter().map(track).sum::<usize>();
        }
        self.usage.series = series;
        self.usage.bytes = bytes;
    }
}

impl Set {
    fn new(labels: Vec<(String, String)>, texts: &mut BTreeSet<Arc<str>>) -> Self {
        let mut shared = |text: String| match texts.get(text.as_str()) {
            Some(known) => known.clone(),
            None => {
                let text: Arc<str> = text.into();
                texts.insert(text.clone());
                text
            }
        };
        let labels = labels.into_iter().filter(|(name, _)| name != "le");
        let labels = labels.map(|(name, value)| (shared(name), shared(value))).collect();
        Self { labels, tracks: Vec::new() }
    }

    /// A label; empty where there is none.
    pub(super) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| **label == *name);
        found.map_or("", |(_, value)| value)
    }

    /// By `le`.
    pub(super) fn tracks(&self) -> impl Iterator<Item = (&str, &Track)> {
        self.tracks.iter().map(|(le, track)| (&**le, track))
    }

    fn track_mut(&mut self, le: &str) -> Option<&mut Track> {
        let found = self.tracks.iter_mut().find(|(known, _)| **known == *le);
        found.map(|(_, track)| track)
    }
}

impl Track {
    fn push(&mut self, nth: Nth, value: f64) {
        self.seen = nth;
        match self.changes.back_mut() {
            // The same line twice in one text: the last counts.
            Some((began, last)) if *began == nth => *last = value,
            Some((_, last)) if last.to_bits() == value.to_bits() => {}
            _ => self.changes.push_back((nth, value)),
        }
    }

    /// Forgets what was before a scrape; whether anything is left.
    fn trim(&mut self, first: Nth) -> bool {
        while self.changes.get(1).is_some_and(|(began, _)| *began <= first) {
            self.changes.pop_front();
        }
        let has_value = |(_, value): &(Nth, f64)| !value.is_nan();
        self.changes.iter().any(has_value)
    }
}

/// A line's name and labels without `le`, and `le`.
fn key(line: &Line<'_>) -> (String, String) {
    let (rest, le) = match line.name.ends_with("_bucket") {
        true => without_le(line),
        false => (Cow::Borrowed(line.labels), String::new()),
    };
    (format!("{}{{{rest}", line.name), le)
}

/// Proxies write `le` first or last. Wherever else it is, the labels are read.
fn without_le<'a>(line: &Line<'a>) -> (Cow<'a, str>, String) {
    let is_bound = |text: &str| !text.is_empty() && !text.contains(['"', '\\']);
    if let Some(rest) = line.labels.strip_prefix("le=\"")
        && let Some((le, rest)) = rest.split_once('"')
        && is_bound(le)
    {
        return (Cow::Borrowed(rest.strip_prefix(',').unwrap_or(rest)), le.to_string());
    }
    if let Some((rest, le)) = line.labels.rsplit_once(",le=\"")
        && let Some(le) = le.strip_suffix('"')
        && is_bound(le)
    {
        return (Cow::Borrowed(rest), le.to_string());
    }
    let labels = line.read_labels().unwrap_or_default();
    let (le, others): (Vec<_>, Vec<_>) = labels.into_iter().partition(|(name, _)| name == "le");
    let others: Vec<_> = others.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let le = le.into_iter().next().map(|(_, le)| le).unwrap_or_default();
    (Cow::Owned(others.join(",")), le)
}
