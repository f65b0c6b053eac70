//! What a control plane counts of itself, and the text in which `/metrics` shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::resource::Kind;
use crate::telemetry::format::{Format, Kind as MetricKind};
use crate::time::WallTime;

use super::ca::Authority;
use super::webhook::AdmissionCounters;

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
    /// Writes of statuses.
    pub statuses: StatusCounters,
    /// Times that this control plane took the lease.
    pub leases_taken: Counter,
    /// Requests of people and programs to the console and the public API.
    pub viz_requests: Counter,
    /// Those that were refused: by an unknown name, from another site, without the token.
    pub viz_refused: Counter,
    /// Reviews of webhooks.
    pub admission: AdmissionCounters,
    synced: AtomicBool,
    leader: AtomicBool,
}

/// Writes of statuses, as Linkerd's policy controller counts them.
#[derive(Debug, Default)]
pub struct StatusCounters {
    /// Taken up.
    pub dequeued: Counter,
    /// Written.
    pub written: Counter,
    /// Refused, by conflicts for the most part.
    pub refused: Counter,
    /// Not answered in time.
    pub timed_out: Counter,
}

/// What the index of a control plane shows.
#[derive(Debug, Default)]
pub struct IndexFigures {
    /// How many there are of each kind.
    pub objects: Vec<(Kind, usize)>,
    /// Conditions by kind, type and status.
    pub conditions: BTreeMap<(Kind, String, String), u64>,
    /// Whether every kind was listed.
    pub is_synced: bool,
}

/// Writes a family: its name, type, help, and samples by their labels.
type Family<'a> = dyn FnMut(&str, MetricKind, &str, &[(String, u64)]) + 'a;

impl IndexFigures {
    fn render(&self, is_leader: bool, family: &mut Family<'_>) {
        let by_kind = self.objects.iter();
        let by_kind: Vec<_> =
            by_kind.map(|(kind, count)| (format!("{{kind=\"{kind}\"}}"), *count as u64)).collect();
        family("weft_control_objects", MetricKind::Gauge, "Objects in the index.", &by_kind);
        let synced = [(String::new(), u64::from(self.is_synced))];
        family("weft_control_synced", MetricKind::Gauge, "Whether every kind was listed.", &synced);
        let leader = [("{name=\"policy-controller-write\"}".to_string(), u64::from(is_leader))];
        let help = "Whether this control plane holds the lease.";
        family("leader_election_master_status", MetricKind::Gauge, help, &leader);
        let conditions = self.conditions.iter();
        let conditions: Vec<_> = conditions
            .map(|((kind, type_, status), count)| {
                (format!("{{kind=\"{kind}\",type=\"{type_}\",status=\"{status}\"}}"), *count)
            })
            .collect();
        let help = "Conditions of objects, where this control plane writes them.";
        family("weft_control_conditions", MetricKind::Gauge, help, &conditions);
    }
}

fn render_authority(authority: &Authority, now: WallTime, family: &mut Family<'_>) {
    let expires = authority.expires();
    let one = |value: u64| [(String::new(), value)];
    let help = "When the issuer's certificate ends.";
    let name = "weft_control_issuer_expiration_timestamp_seconds";
    family(name, MetricKind::Gauge, help, &one(expires.as_unix_secs()));
    let help = "How long the issuer's certificate is still valid.";
    family("issuer_cert_ttl_seconds", MetricKind::Gauge, help, &one(expires.since(now).as_secs()));
    let anchors = authority.anchors().iter();
    let labelled =
        anchors.map(|anchor| (format!("{{sha256=\"{}\"}}", anchor.fingerprint), anchor.expires));
    let anchors: BTreeMap<_, _> = labelled.collect();
    let ends: Vec<_> =
        anchors.iter().map(|(labels, ends)| (labels.clone(), ends.as_unix_secs())).collect();
    let help = "When each trust anchor ends.";
    family("weft_control_anchor_expiration_timestamp_seconds", MetricKind::Gauge, help, &ends);
    let left: Vec<_> =
        anchors.iter().map(|(labels, ends)| (labels.clone(), ends.since(now).as_secs())).collect();
    family(
        "trust_anchor_cert_ttl_seconds",
        MetricKind::Gauge,
        "How long each is still valid.",
        &left,
    );
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

    /// Whether this control plane holds the lease, and so writes.
    pub fn is_leader(&self) -> bool {
        self.leader.load(Ordering::Relaxed)
    }

    pub(super) fn set_leader(&self, leader: bool) {
        self.leader.store(leader, Ordering::Relaxed);
    }

    /// As text, whole.
    pub fn render(
        &self,
        format: Format,
        index: Option<&IndexFigures>,
        authority: Option<&Authority>,
        now: WallTime,
    ) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: MetricKind, help: &str, samples: &[(String, u64)]| {
            let unit = name.ends_with("_seconds").then_some("seconds");
            format.write_head(&mut text, name, kind, help, unit);
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let one = |value: u64| [(String::new(), value)];
        if let Some(index) = index {
            index.render(self.is_leader(), &mut family);
        }
        if let Some(authority) = authority {
            render_authority(authority, now, &mut family);
        }
        let gauges = [
            ("streams_open", "Streams to proxies.", &self.streams),
            ("connections_open", "Connections.", &self.connections),
        ];
        for (name, help, gauge) in gauges {
            family(&format!("weft_control_{name}"), MetricKind::Gauge, help, &one(gauge.value()));
        }
        let counters = [
            ("updates", "Answers that changed.", &self.updates),
            ("cluster_events", "Events of the cluster's watches.", &self.events),
            ("cluster_errors", "Troubles of the cluster's watches.", &self.watch_errors),
            ("viz_requests", "Requests to the console and the public API.", &self.viz_requests),
            ("viz_refused", "Requests to them that were refused.", &self.viz_refused),
            ("certificates_issued", "Certificates issued.", &self.certificates_issued),
            ("certificates_refused", "Certificate requests refused.", &self.certificates_refused),
            ("handshake_errors", "TLS handshakes that failed.", &self.handshake_errors),
            ("reload_errors", "Failed reads of the authority's files.", &self.reload_errors),
            ("leases_taken", "Times that the lease was taken.", &self.leases_taken),
        ];
        for (name, help, counter) in counters {
            let name = format!("weft_control_{name}_total");
            family(&name, MetricKind::Counter, help, &one(counter.value()));
        }
        let statuses = [
            ("patches", "Statuses written.", &self.statuses.written),
            ("patch_api_errors", "Writes of statuses refused.", &self.statuses.refused),
            ("patch_timeouts", "Writes of statuses not answered.", &self.statuses.timed_out),
            ("patch_dequeues", "Statuses taken up to be written.", &self.statuses.dequeued),
        ];
        for (name, help, counter) in statuses {
            let name = format!("resource_status_{name}_total");
            family(&name, MetricKind::Counter, help, &one(counter.value()));
        }
        text + &self.admission.render(format) + format.end()
    }
}
