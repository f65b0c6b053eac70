//! Spans on their way to a collector: a queue of bounded length, and what became of them. Sends
//! nothing; `proxy::spans` does.
//!
//! Law: whoever adds a span never waits; what finds no room is counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::labels::Named;
use super::metrics::{Counter, Family, Group, Kind, Report};
use crate::model::span::Span;

/// Spans that wait at once; a span is some 1 KiB, so 2 MiB.
pub const WAITING_MAX: usize = 2_000;

/// Spans that are sent at once, as in Linkerd.
pub const BATCH_MAX: usize = 1_000;

/// Why spans were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanLoss {
    /// Too many waited.
    Full,
    /// The collector could not be reached, or did not answer.
    Unreachable,
    /// The collector did not want them.
    Rejected,
}

impl SpanLoss {
    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Unreachable => "unreachable",
            Self::Rejected => "rejected",
        }
    }
}

/// What becomes of spans, counted.
pub struct SpanMetrics {
    requests: Arc<Group<Counter>>,
    exports: Arc<Group<Counter>>,
    dropped: Arc<Group<Counter>>,
}

impl SpanMetrics {
    pub(super) fn new() -> Self {
        let group = |families: &'static [Family; 1]| {
            Arc::new(Group::permanent(families[0].name, families, Counter::default))
        };
        Self { requests: group(&REQUESTS), exports: group(&EXPORTS), dropped: group(&DROPPED) }
    }

    /// A batch is sent.
    pub fn requested(&self) {
        self.requests.resolve(&Named([])).increment();
    }

    /// Spans were taken by the collector.
    pub fn exported(&self, spans: usize) {
        self.exports.resolve(&Named([])).add(spans as u64);
    }

    /// Spans were lost. Takes a lock: for losses alone.
    pub fn lost(&self, why: SpanLoss, spans: usize) {
        self.dropped.resolve(&Named([("reason", why.as_str())])).add(spans as u64);
    }

    pub(super) fn reports(&self) -> Vec<Arc<dyn Report>> {
        vec![self.requests.clone(), self.exports.clone(), self.dropped.clone()]
    }
}

/// Spans that wait to be sent.
pub struct SpanQueue {
    metrics: Arc<SpanMetrics>,
    waiting: Mutex<VecDeque<Span>>,
    is_batch: Notify,
}

impl SpanQueue {
    /// With nothing waiting. From now on `/metrics` tells of spans.
    pub fn new(metrics: &Arc<SpanMetrics>) -> Self {
        metrics.requests.resolve(&Named([]));
        metrics.exported(0);
        metrics.lost(SpanLoss::Full, 0);
        Self { metrics: metrics.clone(), waiting: Mutex::default(), is_batch: Notify::new() }
    }

    /// Adds a span, or counts it as lost.
    pub fn push(&self, span: Span) {
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MAX {
            drop(waiting);
            return self.metrics.lost(SpanLoss::Full, 1);
        }
        waiting.push_back(span);
        if waiting.len() >= BATCH_MAX {
            self.is_batch.notify_one();
        }
    }

    /// The spans that have waited longest, as many as are sent at once.
    pub fn take(&self) -> Vec<Span> {
        let mut waiting = self.lock();
        let count = waiting.len().min(BATCH_MAX);
        let batch = waiting.drain(..count).collect();
        // A burst's memory goes back.
        if waiting.is_empty() {
            waiting.shrink_to(0);
        }
        batch
    }

    /// Once as many wait as are sent at once. May come too early, once.
    pub async fn is_batch(&self) {
        self.is_batch.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Span>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static REQUESTS: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "opentelemetry_span_export_requests_total",
    "Total count of span export request messages",
)];
static EXPORTS: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "opentelemetry_span_exports_total",
    "Total count of spans exported",
)];
static DROPPED: [Family; 1] =
    [Family::open(Kind::Counter, "weft_spans_dropped", "Spans that did not reach the collector")];

#[cfg(test)]
mod tests {
    use super::super::{Telemetry, TelemetryConfig};
    use super::*;
    use crate::model::span::{SpanId, SpanKind, TraceId};
    use crate::time::{Timestamp, WallTime};

    fn span(id: u64) -> Span {
        Span {
            trace: TraceId::of_random([1; 16]),
            id: SpanId::of_random(id.to_be_bytes()),
            parent: None,
            state: String::new(),
            name: "GET".into(),
            kind: SpanKind::Client,
            began: WallTime::default(),
            ended: WallTime::default(),
            attributes: Vec::new(),
            is_failure: false,
        }
    }

    #[test]
    fn spans_leave_in_order_and_those_beyond_the_bound_are_counted() {
        let telemetry = Telemetry::new(&TelemetryConfig::default());
        assert!(!telemetry.scrape(Timestamp::ZERO).into_text().contains("span"));
        let queue = SpanQueue::new(&telemetry.spans);
        for id in 0..WAITING_MAX as u64 + 7 {
            queue.push(span(id + 1));
        }
        let (first, second) = (queue.take(), queue.take());
        assert_eq!((first.len(), second.len(), queue.take().len()), (BATCH_MAX, BATCH_MAX, 0));
        assert_eq!((first[0].clone(), second[999].clone()), (span(1), span(2_000)));
        let text = telemetry.scrape(Timestamp::ZERO).into_text();
        assert!(text.contains("weft_spans_dropped_total{reason=\"full\"} 7"), "{text}");
    }
}
