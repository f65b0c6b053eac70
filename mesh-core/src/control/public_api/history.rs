//! `history`: golden metrics of resources over time, for graphs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ApiError;
use super::figures::{Key, Quantiles, quantile_slots};
use super::query::Query as UrlQuery;
use super::resource::{Resource, ResourceKind};
use super::stat::StatQuestion;
use super::statistics::{Answer, Statistics, read_window};
use crate::control::query::{Query, RangeRow};

/// Points of a resource that are answered at most.
pub const POINTS_MAX: u128 = 500;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryQuestion {
    /// About what. Its window is what each point looks back on; labels and proxies do not count.
    pub stat: StatQuestion,
    /// How far back, up to now.
    pub over: Duration,
    /// From point to point.
    pub step: Duration,
}

/// What a resource did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// Which.
    #[serde(flatten)]
    pub resource: Resource,
    /// In order of time.
    pub points: Vec<HistoryPoint>,
}

/// What it did about a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// The moment, in milliseconds since 1970.
    pub at_ms: i64,
    /// Requests a second.
    pub rps: f64,
    /// The share of them that did well, 0 to 1; null where there were none.
    pub success_rate: Option<f64>,
    /// In milliseconds.
    pub latency_ms: Quantiles,
}

impl HistoryQuestion {
    /// All of a kind, everywhere: ten minutes, every 10 s.
    pub fn all(kind: ResourceKind) -> Self {
        Self {
            stat: StatQuestion { window: POINT_WINDOW, ..StatQuestion::all(kind) },
            over: OVER,
            step: STEP,
        }
    }

    /// The question of an address: that of `stat`, and `over`, `step`.
    pub(super) fn read(query: &UrlQuery) -> Result<Self, ApiError> {
        let mut stat = StatQuestion::read(&query.without(&["over", "step"]))?;
        if query.value("window").is_none() {
            stat.window = POINT_WINDOW;
        }
        let over = query.value("over").map_or(Ok(OVER), read_window)?;
        let step = query.value("step").map_or(Ok(STEP), read_window)?;
        if over.as_millis() / step.as_millis() > POINTS_MAX {
            let why = format!("{} s in steps of {} s is too much", over.as_secs(), step.as_secs());
            return Err(ApiError::bad(why, format!("ask for {POINTS_MAX} points at most")));
        }
        Ok(Self { stat, over, step })
    }
}

const OVER: Duration = Duration::from_secs(600);
const STEP: Duration = Duration::from_secs(10);
/// Four scrapes' worth: one that fails leaves no gap.
const POINT_WINDOW: Duration = Duration::from_secs(40);

impl Statistics {
    /// What resources did.
    ///
    /// # Errors
    /// [`ApiError`] where a question cannot be, or the source of metrics does not answer.
    pub async fn history(
        &self,
        question: &HistoryQuestion,
    ) -> Result<Answer<HistoryRow>, ApiError> {
        let HistoryQuestion { stat, over, step } = question;
        let mut asking = self.asking(stat.window);
        let mut found: BTreeMap<(ResourceKind, Key), BTreeMap<i64, HistoryPoint>> = BTreeMap::new();
        for resource in &stat.resources {
            let (kind, scope) = (resource.kind, stat.scope(resource)?);
            let matchers = || scope.matchers.clone();
            let mut by = scope.by.clone();
            by.push("classification");
            let query = Query::rate("response_total", matchers(), &by, stat.window);
            for RangeRow { mut labels, points } in asking.ask_range(&query, *over, *step).await? {
                let is_success = labels.pop().is_some_and(|class| class == "success");
                let moments = found.entry((kind, labels)).or_default();
                for (at_ms, value) in points {
                    let point = moments.entry(at_ms).or_default();
                    point.rps += value;
                    // A sum for now.
                    *point.success_rate.get_or_insert(0.0) += if is_success { value } else { 0.0 };
                }
            }
            for (share, slot) in quantile_slots() {
                let family = "response_latency_ms_bucket";
                let query = Query::quantile(share, family, matchers(), &scope.by, stat.window);
                for RangeRow { labels, points } in asking.ask_range(&query, *over, *step).await? {
                    let moments = found.entry((kind, labels)).or_default();
                    for (at_ms, value) in points {
                        *slot(&mut moments.entry(at_ms).or_default().latency_ms) = Some(value);
                    }
                }
            }
        }
        let rows = found.into_iter().map(|((kind, key), moments)| {
            let points = moments.into_iter().map(|(at_ms, point)| {
                let share = point.success_rate.map(|successes| successes / point.rps);
                let success_rate = share.filter(|_| point.rps > 0.0);
                HistoryPoint { at_ms, success_rate, ..point }
            });
            let (namespace, name) = super::stat::named(&key);
            HistoryRow { resource: Resource { kind, namespace, name }, points: points.collect() }
        });
        Ok(asking.answer(rows.collect()))
    }
}
