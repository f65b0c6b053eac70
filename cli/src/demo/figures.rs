//! The demo's figures: what the proxies' `/metrics` and the client applications count, added up by
//! edge, with what killed processes counted before they died.
//!
//! Whether an HTTP edge's requests succeed and how long they take, and whether connections are
//! secured, the proxies tell. Exchanges inside of a WebSocket or an opaque TCP connection are not
//! theirs to see: for those edges the client application counts.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Sub};

use mesh_core::telemetry::samples;
use serde::{Deserialize, Serialize};

/// Upper bounds of latency buckets in milliseconds, as Linkerd's proxies have them. One more
/// bucket holds what is slower.
pub(crate) const BOUNDS_MS: [u64; 25] = [
    1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000, 5_000,
    10_000, 20_000, 30_000, 40_000, 50_000,
];

/// Latencies by bucket; each in one bucket only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Histogram([u64; BOUNDS_MS.len() + 1]);

impl Histogram {
    /// Counts a latency.
    pub(crate) fn record(&mut self, latency_ms: f64) {
        let bucket = BOUNDS_MS.iter().position(|bound| latency_ms <= *bound as f64);
        self.0[bucket.unwrap_or(BOUNDS_MS.len())] += 1;
    }

    /// Adds a bucket of an exposition, where each bucket holds those below it too: the caller
    /// makes them disjoint with [`Histogram::disjoint`] at the end.
    fn add_cumulative(&mut self, bound_ms: &str, count: u64) {
        let bucket = match bound_ms {
            "+Inf" => Some(BOUNDS_MS.len()),
            bound => {
                let bound = bound.parse::<f64>().unwrap_or(f64::NAN);
                BOUNDS_MS.iter().position(|b| *b as f64 == bound)
            }
        };
        if let Some(bucket) = bucket {
            self.0[bucket] += count;
        }
    }

    /// Takes from each bucket what is in the one below it. A bucket that is not told of holds as
    /// much as that one.
    fn disjoint(mut self) -> Self {
        for bucket in 1..self.0.len() {
            self.0[bucket] = self.0[bucket].max(self.0[bucket - 1]);
        }
        for bucket in (1..self.0.len()).rev() {
            self.0[bucket] = self.0[bucket].saturating_sub(self.0[bucket - 1]);
        }
        self
    }

    /// The latency in milliseconds that a share of all stayed below, by linear interpolation
    /// within its bucket. `None` where nothing was recorded.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let total: u64 = self.0.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = share * total as f64;
        let mut below = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            if *count > 0 && (below + count) as f64 >= rank {
                let low = bucket.checked_sub(1).map_or(0, |b| BOUNDS_MS[b]) as f64;
                let high = BOUNDS_MS.get(bucket).map_or(low, |b| *b as f64);
                let within = ((rank - below as f64) / *count as f64).clamp(0.0, 1.0);
                return Some(low + (high - low) * within);
            }
            below += count;
        }
        None
    }
}

/// What was counted on an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Requests answered, or exchanges done, or failed.
    pub(crate) requests: u64,
    /// Those that did not fail.
    pub(crate) successes: u64,
    /// How long they took.
    pub(crate) latency: Histogram,
    /// Connections opened with mutual TLS.
    pub(crate) secured: u64,
    /// Connections opened without.
    pub(crate) plain: u64,
    /// Connections open now. A level, not a count: processes that are gone have none.
    pub(crate) connections: u64,
}

impl Counts {
    /// The share of requests that did not fail; `None` where there were none.
    pub(crate) fn success_rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.successes as f64 / self.requests as f64)
    }

    /// Whether all connections had mutual TLS; `None` where there were none.
    pub(crate) fn all_secured(&self) -> Option<bool> {
        (self.secured + self.plain > 0).then_some(self.plain == 0)
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.requests += other.requests;
        self.successes += other.successes;
        for (sum, count) in self.latency.0.iter_mut().zip(other.latency.0) {
            *sum += count;
        }
        self.secured += other.secured;
        self.plain += other.plain;
        self.connections += other.connections;
    }
}

impl Sub for &Counts {
    type Output = Counts;

    /// What was counted since `earlier`. Connections stay as they are now.
    fn sub(self, earlier: Self) -> Counts {
        let mut latency = self.latency.clone();
        for (now, then) in latency.0.iter_mut().zip(earlier.latency.0) {
            *now = now.saturating_sub(then);
        }
        Counts {
            requests: self.requests.saturating_sub(earlier.requests),
            successes: self.successes.saturating_sub(earlier.successes),
            latency,
            secured: self.secured.saturating_sub(earlier.secured),
            plain: self.plain.saturating_sub(earlier.plain),
            connections: self.connections,
        }
    }
}

/// Who calls whom, by service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) src: String,
    pub(crate) dst: String,
}

/// One process's counts by edge, as it last told them.
pub(crate) type Told = BTreeMap<Edge, Counts>;

/// Adds up what processes tell. A process that is started again begins at zero; what its
/// predecessor told last is kept.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    ended: Told,
    running: BTreeMap<String, Told>,
}

impl Tally {
    /// Replaces what a running process told before.
    pub(crate) fn tell(&mut self, process: &str, told: Told) {
        self.running.insert(process.to_string(), told);
    }

    /// A process has ended: its counts stay, its connections are gone.
    pub(crate) fn end(&mut self, process: &str) {
        for (edge, mut counts) in self.running.remove(process).unwrap_or_default() {
            counts.connections = 0;
            *self.ended.entry(edge).or_default() += &counts;
        }
    }

    /// Everything counted so far.
    pub(crate) fn totals(&self) -> Told {
        let mut totals = self.ended.clone();
        for (edge, counts) in self.running.values().flatten() {
            *totals.entry(edge.clone()).or_default() += counts;
        }
        totals
    }
}

/// What a proxy's `/metrics` tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scraped {
    /// Outbound, by edge.
    pub(crate) edges: Told,
    /// HTTP requests both ways.
    pub(crate) requests: u64,
    /// Connections that came in.
    pub(crate) accepted: u64,
}

/// Reads a proxy's `/metrics`. `service_of` tells which service an address or name belongs to.
pub(crate) fn read_metrics(
    exposition: &str,
    src: &str,
    service_of: &dyn Fn(&str) -> Option<String>,
) -> Scraped {
    let mut scraped = Scraped::default();
    // A proxy that is being killed may end in the middle of a line: then nothing of it is told.
    for sample in samples::parse(exposition).unwrap_or_default() {
        let count = sample.value as u64;
        if sample.name == "request_total" {
            scraped.requests += count;
        }
        if sample.name == "tcp_open_total"
            && sample.label("direction") == Some("inbound")
            && sample.label("peer") == Some("src")
        {
            scraped.accepted += count;
        }
        // A request that died without a response belongs to no endpoint: its route tells of it.
        let is_unanswered = sample.name == "outbound_http_route_request_statuses_total"
            && sample.label("http_status") == Some("");
        let destination = match sample.label("direction") {
            Some("outbound") => sample.label("target_ip"),
            _ if is_unanswered => sample.label("parent_name"),
            _ => None,
        };
        let Some(dst) = destination.and_then(service_of) else {
            continue;
        };
        let edge = Edge { src: src.to_string(), dst };
        let is_secured = sample.label("tls") == Some("true");
        let to_server = sample.label("peer") == Some("dst");
        let counts = scraped.edges.entry(edge).or_default();
        match sample.name.as_str() {
            "response_total" => {
                counts.requests += count;
                if sample.label("classification") == Some("success") {
                    counts.successes += count;
                }
            }
            _ if is_unanswered => counts.requests += count,
            "response_latency_ms_bucket" => {
                let bound = sample.label("le").unwrap_or_default();
                counts.latency.add_cumulative(bound, count);
            }
            "tcp_open_total" if to_server && is_secured => counts.secured += count,
            "tcp_open_total" if to_server => counts.plain += count,
            "tcp_open_connections" if to_server => counts.connections += count,
            _ => {}
        }
    }
    for counts in scraped.edges.values_mut() {
        counts.latency = std::mem::take(&mut counts.latency).disjoint();
    }
    scraped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(src: &str, dst: &str) -> Edge {
        Edge { src: src.to_string(), dst: dst.to_string() }
    }

    fn requests(requests: u64, connections: u64) -> Counts {
        Counts { requests, connections, ..Counts::default() }
    }

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for _ in 0..50 {
            histogram.record(0.4);
            histogram.record(7.0);
        }
        assert_eq!(histogram.quantile(0.25), Some(0.5));
        assert_eq!(histogram.quantile(0.5), Some(1.0));
        assert_eq!(histogram.quantile(0.75), Some(7.5));
        histogram.record(1.0e9);
        assert_eq!(histogram.quantile(1.0), Some(50_000.0));
    }

    #[test]
    fn a_restarted_process_adds_to_what_its_predecessor_counted() {
        let web = edge("load", "web");
        let mut tally = Tally::default();
        tally.tell("load-1", Told::from([(web.clone(), requests(5, 2))]));
        tally.tell("load-1", Told::from([(web.clone(), requests(9, 3))]));
        assert_eq!(tally.totals()[&web], requests(9, 3));
        tally.end("load-1");
        assert_eq!(tally.totals()[&web], requests(9, 0));
        tally.tell("load-1", Told::from([(web.clone(), requests(1, 1))]));
        assert_eq!(tally.totals()[&web], requests(10, 1));
    }

    #[test]
    fn a_proxys_metrics_become_edges() {
        let exposition = r#"
# HELP response_total Total count of HTTP responses.
request_total{direction="inbound",target_ip="127.9.1.1"} 3
request_total{direction="outbound",target_ip="127.9.2.1"} 4
response_total{direction="outbound",target_ip="127.9.2.1",tls="true",status_code="200",classification="success"} 3
response_total{direction="outbound",target_ip="127.9.2.2",tls="true",status_code="503",classification="failure"} 1
response_latency_ms_bucket{direction="outbound",target_ip="127.9.2.1",le="1"} 2
response_latency_ms_bucket{direction="outbound",target_ip="127.9.2.1",le="2"} 3
response_latency_ms_bucket{direction="outbound",target_ip="127.9.2.1",le="+Inf"} 3
tcp_open_total{direction="outbound",target_ip="127.9.2.1",tls="true",peer="dst"} 2
tcp_open_total{direction="outbound",peer="src",target_ip="127.9.2.1",tls="no_identity"} 7
tcp_open_connections{direction="outbound",target_ip="127.9.2.1",tls="true",peer="dst"} 1
tcp_open_total{direction="inbound",peer="src",target_ip="127.9.1.1",tls="true"} 6
tcp_open_total{direction="inbound",peer="dst",target_ip="127.9.1.1",tls="true"} 5
response_total{direction="outbound",target_ip="10.0.0.1",classification="success"} 9
outbound_http_route_request_statuses_total{parent_name="api",http_status="200",error=""} 3
outbound_http_route_request_statuses_total{parent_name="api",http_status="",error="IO"} 4
"#;
        let is_api = |name: &str| name == "api" || name.starts_with("127.9.2.");
        let of = |name: &str| is_api(name).then(|| "api".to_string());
        let scraped = read_metrics(exposition, "web", &of);
        assert_eq!((scraped.requests, scraped.accepted), (7, 6));
        let counts = &scraped.edges[&edge("web", "api")];
        assert_eq!((counts.requests, counts.successes), (8, 3));
        assert_eq!(counts.success_rate(), Some(0.375));
        assert_eq!((counts.secured, counts.plain, counts.connections), (2, 0, 1));
        assert_eq!(counts.all_secured(), Some(true));
        assert_eq!(counts.latency.quantile(1.0), Some(2.0));
        assert_eq!(counts.latency.0.iter().sum::<u64>(), 3);
        assert_eq!(scraped.edges.len(), 1);
    }
}
