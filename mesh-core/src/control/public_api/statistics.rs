//! Where statistics come from: the index for what there is, and a source of metrics for what it
//! does. Whoever asks cannot tell which source it is.

use std::collections::BTreeSet;
use std::time::Duration;

use ::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::ApiError;
use super::query::Query as UrlQuery;
use crate::control::prometheus::{Prometheus, PrometheusError};
use crate::control::publish::Publisher;
use crate::control::query::{Query, RangeRow, Row};
use crate::control::scrape::{Scrapes, wall_ms};
use crate::runtime::Runtime;

/// The shortest window that can be asked about: less holds no two scrapes.
pub const WINDOW_MIN: Duration = Duration::from_secs(1);
/// The longest one.
pub const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The one that is asked about where nothing is said.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Proxies that are named as not answering; of more their number is told.
const FAULTS_TOLD_MAX: usize = 8;

/// Who counts.
#[derive(Clone)]
pub enum Source {
    /// The controller itself, for a while.
    Embedded(Scrapes),
    /// A Prometheus that others run.
    Prometheus(Prometheus),
}

/// Answers questions about the mesh. Cloning shares it.
#[derive(Clone)]
pub struct Statistics {
    pub(super) runtime: Runtime,
    pub(super) publisher: Publisher,
    pub(super) source: Source,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer<R> {
    /// In order of kind, namespace and name.
    pub rows: Vec<R>,
    /// Over which time figures were taken, up to now.
    pub window_seconds: f64,
    /// Who knew: `embedded`, `prometheus`, or `index` for what no figures are part of.
    pub source: String,
    /// Whether something is missing.
    pub partial: bool,
    /// What, and why.
    pub reasons: Vec<String>,
}

impl Statistics {
    /// Statistics of an index and a source.
    pub fn new(runtime: &Runtime, publisher: Publisher, source: Source) -> Self {
        Self { runtime: runtime.clone(), publisher, source }
    }

    /// Who counts.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What the source answers to a question that is none of a resource's.
    ///
    /// # Errors
    /// [`ApiError`] where it does not.
    pub async fn ask(&self, query: &Query) -> Result<Answer<Row>, ApiError> {
        let mut asking = self.asking(query.window);
        let rows = asking.ask(query).await?;
        Ok(asking.answer(rows))
    }

    /// The same over a time that ends now.
    ///
    /// # Errors
    /// [`ApiError`] where the source does not answer.
    pub async fn ask_range(
        &self,
        query: &Query,
        over: Duration,
        step: Duration,
    ) -> Result<Answer<RangeRow>, ApiError> {
        let mut asking = self.asking(query.window);
        let rows = asking.ask_range(query, over, step).await?;
        Ok(asking.answer(rows))
    }

    /// Begins an answer as of now.
    pub(super) fn asking(&self, window: Duration) -> Asking<'_> {
        let mut reasons = BTreeSet::new();
        let at_ms = wall_ms(&self.runtime);
        if !self.publisher.is_synced() && matches!(self.source, Source::Embedded(_)) {
            reasons.insert("the cluster's objects have not all been listed yet".to_string());
        }
        if let Source::Embedded(scrapes) = &self.source {
            reasons.extend(gaps(scrapes, at_ms, window));
        }
        Asking { source: &self.source, at_ms, window, reasons }
    }
}

/// What the controller's own figures lack for a window.
fn gaps(scrapes: &Scrapes, at_ms: i64, window: Duration) -> Vec<String> {
    let mut gaps = Vec::new();
    let health = scrapes.health();
    let failing: Vec<_> = health
        .iter()
        .filter_map(|((namespace, name), health)| {
            Some(format!("{namespace}/{name}: {}", health.fault.as_ref()?))
        })
        .collect();
    gaps.extend(failing.iter().take(FAULTS_TOLD_MAX).cloned());
    if failing.len() > FAULTS_TOLD_MAX {
        gaps.push(format!("{} more proxies do not answer", failing.len() - FAULTS_TOLD_MAX));
    }
    let kept = scrapes.config().limits.window;
    if window > kept {
        gaps.push(format!(
            "the controller keeps {} s of figures; a Prometheus (--prometheus-url) keeps more",
            kept.as_secs()
        ));
    }
    let watched_ms = scrapes.since_ms().map_or(0, |since| (at_ms - since).max(0));
    // The first rate needs two scrapes.
    let interval_ms = scrapes.config().interval.as_millis() as i64;
    if watched_ms < (window.as_millis() as i64).min(kept.as_millis() as i64) - interval_ms {
        gaps.push(format!(
            "the controller has watched for {} s only, of {} s",
            watched_ms / 1000,
            window.as_secs()
        ));
    }
    let refused = scrapes.usage().refused;
    if refused > 0 {
        gaps.push(format!(
            "{refused} series are left out, for want of room; use a Prometheus (--prometheus-url)"
        ));
    }
    gaps
}

/// An answer in the making.
pub(super) struct Asking<'a> {
    source: &'a Source,
    pub(super) at_ms: i64,
    pub(super) window: Duration,
    reasons: BTreeSet<String>,
}

impl Asking<'_> {
    /// What the source answers.
    ///
    /// # Errors
    /// [`ApiError`] where it does not.
    pub(super) async fn ask(&mut self, query: &Query) -> Result<Vec<Row>, ApiError> {
        match self.source {
            Source::Embedded(scrapes) => Ok(scrapes.evaluate(query, self.at_ms)),
            Source::Prometheus(prometheus) => {
                let answer = prometheus.evaluate(query, self.at_ms).await?;
                self.reasons.extend(answer.warnings);
                Ok(answer.rows)
            }
        }
    }

    /// The same over a time that ends now.
    ///
    /// # Errors
    /// [`ApiError`] where the source does not answer.
    pub(super) async fn ask_range(
        &mut self,
        query: &Query,
        over: Duration,
        step: Duration,
    ) -> Result<Vec<RangeRow>, ApiError> {
        let step_ms = (step.as_millis() as i64).max(1);
        // The same moments whoever asks, and whenever: graphs do not flicker.
        let end_ms = self.at_ms.div_euclid(step_ms) * step_ms;
        let start_ms = end_ms - over.as_millis() as i64 / step_ms * step_ms;
        match self.source {
            Source::Embedded(scrapes) => {
                Ok(scrapes.evaluate_range(query, start_ms, end_ms, step_ms))
            }
            Source::Prometheus(prometheus) => {
                let answer = prometheus.evaluate_range(query, start_ms, end_ms, step_ms).await?;
                self.reasons.extend(answer.warnings);
                Ok(answer.rows)
            }
        }
    }

    /// The answer, with what it lacks.
    pub(super) fn answer<R>(self, rows: Vec<R>) -> Answer<R> {
        Answer {
            rows,
            window_seconds: self.window.as_secs_f64(),
            source: match self.source {
                Source::Embedded(_) => "embedded".to_string(),
                Source::Prometheus(_) => "prometheus".to_string(),
            },
            partial: !self.reasons.is_empty(),
            reasons: self.reasons.into_iter().collect(),
        }
    }
}

impl From<PrometheusError> for ApiError {
    fn from(error: PrometheusError) -> Self {
        let remedy = match error {
            PrometheusError::Unreachable { .. } => {
                "see that it runs, and that --prometheus-url of the controller is right"
            }
            PrometheusError::Refused { .. } => "see its log",
            PrometheusError::Garbage { .. } => {
                "see that --prometheus-url of the controller is the address of a Prometheus"
            }
        };
        Self::new(StatusCode::BAD_GATEWAY, error.to_string(), remedy)
    }
}

/// A length of time as people write it: `30s`, `5m`, `1h`, `500ms`.
///
/// # Errors
/// [`ApiError`] for what is none, and for less than [`WINDOW_MIN`] or more than [`WINDOW_MAX`].
pub fn read_window(text: &str) -> Result<Duration, ApiError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    let read = number.zip(unit_ms).and_then(|(number, unit)| number.checked_mul(unit));
    let read = read.map(Duration::from_millis);
    read.filter(|read| (WINDOW_MIN..=WINDOW_MAX).contains(read)).ok_or_else(|| {
        let why = format!("{text:?} is no length of time that can be looked at");
        ApiError::bad(why, "give one from 1s to 24h, such as 30s, 1m or 10m")
    })
}

/// The window of a question.
pub(super) fn window_of(query: &UrlQuery) -> Result<Duration, ApiError> {
    query.value("window").map_or(Ok(WINDOW), read_window)
}

/// The namespace of a question: one, or all.
pub(super) fn namespace_of(query: &UrlQuery) -> Option<String> {
    match query.is_set("all_namespaces") {
        true => None,
        false => Some(query.value("namespace").unwrap_or("default").to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_with_their_unit() {
        assert_eq!(read_window("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(read_window("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(read_window("1500ms"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "5", "m", "-1s", "0s", "25h", "99999999999999999999h", "1 m"] {
            assert!(read_window(wrong).is_err(), "{wrong}");
        }
    }
}
