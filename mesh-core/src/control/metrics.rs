//! What a control plane counts of itself, and the text in which `/metrics` shows it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::resource::Kind;
use crate::time::WallTime;

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct ControlMetrics {
    /// Streams to proxies that are open.
    pub streams: Arc<Gauge>,
    /// Connections that are open.
    pub connections: Arc<Gauge>,
    /// Answers that changed and were handed to streams.
    pub updates: Counter,
    /// Events of the cluster's watches.
    pub events: Counter,
    /// Troubles that the cluster's watches told of.
    pub watch_errors: Counter,
    /// Certificates issued.
    pub certificates_issued: Counter,
    /// Certificate requests refused.
    pub certificates_refused: Counter,
    /// TLS handshakes that failed.
    pub handshake_errors: Counter,
    /// Reads of the authority's files that failed.
    pub reload_errors: Counter,
    synced: AtomicBool,
}

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Counts things that are there.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// Something that is there until dropped.
#[derive(Debug)]
pub struct GaugeGuard(Arc<Gauge>);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// One more, while the guard lives.
    pub fn guard(self: &Arc<Self>) -> GaugeGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(self.clone())
    }

    /// How many there are.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ControlMetrics {
    /// Whether every kind of object has been listed: it is ready.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    pub(super) fn set_synced(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }

    /// Prometheus' text format.
    pub fn render(
        &self,
        objects: &[(Kind, usize)],
        is_synced: bool,
        issuer_ends: WallTime,
    ) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let one = |value: u64| [(String::new(), value)];
        let by_kind: Vec<_> = objects
            .iter()
            .map(|(kind, count)| (format!("{{kind=\"{kind}\"}}"), *count as u64))
            .collect();
        family("weft_control_objects", "gauge", "Objects in the index.", &by_kind);
        let synced = one(u64::from(is_synced));
        family("weft_control_synced", "gauge", "Whether every kind was listed.", &synced);
        let ends = one(issuer_ends.as_unix_secs());
        let help = "When the issuer's certificate ends.";
        family("weft_control_issuer_expiration_timestamp_seconds", "gauge", help, &ends);
        let gauges = [
            ("streams_open", "Streams to proxies.", &self.streams),
            ("connections_open", "Connections.", &self.connections),
        ];
        for (name, help, gauge) in gauges {
            family(&format!("weft_control_{name}"), "gauge", help, &one(gauge.value()));
        }
        let counters = [
            ("updates", "Answers that changed.", &self.updates),
            ("cluster_events", "Events of the cluster's watches.", &self.events),
            ("cluster_errors", "Troubles of the cluster's watches.", &self.watch_errors),
            ("certificates_issued", "Certificates issued.", &self.certificates_issued),
            ("certificates_refused", "Certificate requests refused.", &self.certificates_refused),
            ("handshake_errors", "TLS handshakes that failed.", &self.handshake_errors),
            ("reload_errors", "Failed reads of the authority's files.", &self.reload_errors),
        ];
        for (name, help, counter) in counters {
            let name = format!("weft_control_{name}_total");
            family(&name, "counter", help, &one(counter.value()));
        }
        text
    }
}
