//! Golden metrics of groups of series: how much, how well, how fast. The one place that knows which
//! families they are made of.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ApiError;
use super::statistics::Asking;
use crate::control::query::{Matcher, Query, Row};

/// What requests did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpFigures {
    /// Requests that ended in the window. Between scrapes it is estimated: not whole.
    pub requests: f64,
    /// Requests a second.
    pub rps: f64,
    /// The share of them that did well, 0 to 1; null where there were none.
    pub success_rate: Option<f64>,
    /// The share of them that came over mutual TLS, 0 to 1; null where there were none.
    pub secured: Option<f64>,
    /// From the request's head to the response's end, in milliseconds.
    pub latency_ms: Quantiles,
}

/// Quantiles; null where nothing was observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50: Option<f64>,
    /// 95 of 100 are no slower.
    pub p95: Option<f64>,
    /// 99 of 100 are no slower.
    pub p99: Option<f64>,
}

/// What connections did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TcpFigures {
    /// That are open.
    pub connections: f64,
    /// Read from the peer, a second.
    pub read_bytes_per_second: f64,
    /// Written to the peer, a second.
    pub write_bytes_per_second: f64,
}

impl HttpFigures {
    /// Of counts and a window.
    fn add(&mut self, requests: f64, is_success: bool, is_secured: bool) {
        // Shares are made of sums at the end.
        self.requests += requests;
        let count = |share: &mut Option<f64>, counts: bool| {
            *share.get_or_insert(0.0) += if counts { requests } else { 0.0 };
        };
        count(&mut self.success_rate, is_success);
        count(&mut self.secured, is_secured);
    }

    fn finish(&mut self, window: Duration) {
        self.rps = self.requests / window.as_secs_f64();
        let requests = self.requests;
        let share =
            |count: Option<f64>| Some(count?.max(0.0) / requests).filter(|_| requests > 0.0);
        self.success_rate = share(self.success_rate);
        self.secured = share(self.secured);
    }
}

/// A group's labels.
pub(in crate::control) type Key = Vec<String>;

/// What ended in the window, by group.
///
/// # Errors
/// [`ApiError`] where the source does not answer.
pub(super) async fn http(
    asking: &mut Asking<'_>,
    matchers: &[Matcher],
    by: &[&'static str],
) -> Result<BTreeMap<Key, HttpFigures>, ApiError> {
    let window = asking.window;
    let with_class: Vec<_> = by.iter().copied().chain(["classification", "tls"]).collect();
    let query = Query::increase("response_total", matchers.to_vec(), &with_class, window);
    let mut figures: BTreeMap<Key, HttpFigures> = BTreeMap::new();
    for Row { mut labels, value } in asking.ask(&query).await? {
        let (tls, class) = (labels.pop(), labels.pop());
        let is = |label: Option<String>, wanted: &str| label.is_some_and(|label| label == wanted);
        figures.entry(labels).or_default().add(value, is(class, "success"), is(tls, "true"));
    }
    figures.retain(|_, figures| {
        figures.finish(window);
        figures.requests > 0.0
    });
    for (share, slot) in quantile_slots() {
        let family = "response_latency_ms_bucket";
        let query = Query::quantile(share, family, matchers.to_vec(), by, window);
        for Row { labels, value } in asking.ask(&query).await? {
            if let Some(figures) = figures.get_mut(&labels) {
                *slot(&mut figures.latency_ms) = Some(value);
            }
        }
    }
    Ok(figures)
}

type Slot = fn(&mut Quantiles) -> &mut Option<f64>;

/// The quantiles that are shown, and where.
pub(super) fn quantile_slots() -> [(f64, Slot); 3] {
    [
        (0.5, |quantiles| &mut quantiles.p50),
        (0.95, |quantiles| &mut quantiles.p95),
        (0.99, |quantiles| &mut quantiles.p99),
    ]
}

/// What connections did, by group.
///
/// # Errors
/// [`ApiError`] where the source does not answer.
pub(super) async fn tcp(
    asking: &mut Asking<'_>,
    matchers: &[Matcher],
    by: &[&'static str],
) -> Result<BTreeMap<Key, TcpFigures>, ApiError> {
    let mut figures: BTreeMap<Key, TcpFigures> = BTreeMap::new();
    let (window, matchers) = (asking.window, || matchers.to_vec());
    let open = Query::last("tcp_open_connections", matchers(), by);
    for Row { labels, value } in asking.ask(&open).await? {
        figures.entry(labels).or_default().connections = value;
    }
    let read = Query::rate("tcp_read_bytes_total", matchers(), by, window);
    for Row { labels, value } in asking.ask(&read).await? {
        figures.entry(labels).or_default().read_bytes_per_second = value;
    }
    let written = Query::rate("tcp_write_bytes_total", matchers(), by, window);
    for Row { labels, value } in asking.ask(&written).await? {
        figures.entry(labels).or_default().write_bytes_per_second = value;
    }
    Ok(figures)
}
