//! Scrapes of a proxy, kept and reckoned with: nothing that it says makes the controller keep more than
//! its limits, or an answer that is no number.

use std::time::Duration;

use mesh_core::control::query::Query;
use mesh_core::control::series::{Limits, Series};
use mesh_core::model::labels::Labels;

const LIMITS: Limits = Limits {
    window: Duration::from_secs(60),
    scrapes_max: 8,
    series_max: 50,
    bytes_max: 64 * 1024,
};

/// Any texts, with form feeds between.
pub fn record(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (mut series, target) = (Series::new(LIMITS), Labels::from_iter([("pod", "web-1")]));
    let mut at_ms = 0;
    for scrape in text.split('\u{c}').take(32) {
        at_ms += 10_000;
        if series.record(&target, at_ms, scrape).is_err() {
            series.record_failure(&target, at_ms);
        }
        let usage = series.usage();
        assert!(usage.series <= LIMITS.series_max, "{usage:?}");
        let before = usage;
        series.sweep(at_ms);
        assert_eq!(series.usage(), before, "what is counted is what is there");
    }
    let window = Duration::from_secs(60);
    for query in [
        Query::increase("response_total", vec![], &["direction"], window),
        Query::rate("response_total", vec![], &[], window),
        Query::last("tcp_open_connections", vec![], &["pod"]),
        Query::quantile(0.5, "response_latency_ms_bucket", vec![], &["direction"], window),
    ] {
        for row in series.evaluate(&query, at_ms) {
            assert_eq!(row.labels.len(), query.by.len());
        }
        series.evaluate_range(&query, 0, at_ms, 10_000);
    }
}
