//! What is counted, logged and reported.
//!
//! The proxy resolves labels to a handle once ([`Telemetry::inbound`], [`Telemetry::outbound`],
//! [`Telemetry::control`]), keeps the handle for as long as the thing it counts lives, and counts
//! facts on it. Names, labels and their order are Linkerd's.
//!
//! What linkerd2-proxy prints and this does not, and why, is in `docs/metrics.md`.
//!
//! Law: a request costs atomic additions, no lock, no allocation. Label sets that nobody holds are
//! forgotten after [`TelemetryConfig::retain_idle`]; each family keeps at most
//! [`TelemetryConfig::label_sets_max`] and one (for each shape of labels) that stands for all others.

pub mod access_log;
pub mod control;
pub mod exposition;
pub mod format;
pub mod inbound;
pub mod labels;
pub mod metrics;
pub mod outbound;
pub mod process;
pub mod rates;
pub mod samples;
pub mod spans;
pub mod trace_context;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use control::Control;
pub use inbound::{Inbound, InboundError};
pub use outbound::{BalancerProtocol, ConnectionProtocol, Outbound, OutboundError, TransferCost};
pub use process::{BuildInfo, Process, ProcessSample, ProcessStats, TlsInfo};

use crate::time::{Timestamp, WallTime};
use exposition::Exposition;
use format::Format;
use labels::Named;
use metrics::{
    CONTROL_HTTP, Counter, ENDPOINT_HTTP, Family, Group, HttpMetrics, Kind, Lines, MetricSet,
    Report, TRANSPORT, TransportMetrics,
};
use process::Reading;
use spans::SpanMetrics;

/// Label sets that a group of families keeps, where nothing else is asked for.
pub const LABEL_SETS_MAX: usize = 2_000;

/// What telemetry is told at the start.
#[derive(Clone)]
pub struct TelemetryConfig {
    /// How long a label set is kept after nobody holds it any more
    /// (`LINKERD2_PROXY_METRICS_RETAIN_IDLE`).
    pub retain_idle: Duration,
    /// Label sets that each group of families keeps; the next are counted together under `other`.
    /// An endpoint costs about 1 KiB, so 2,000 are 2 MiB (`WEFT_METRICS_LABEL_SETS_MAX`).
    pub label_sets_max: usize,
    /// When the process started.
    pub started: WallTime,
    /// What was built.
    pub build: BuildInfo,
    /// What TLS is made of.
    pub tls: TlsInfo,
    /// What the operating system says about the process.
    pub process: Option<Arc<dyn ProcessStats>>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            retain_idle: Duration::from_secs(600),
            label_sets_max: LABEL_SETS_MAX,
            started: WallTime::default(),
            build: BuildInfo::default(),
            tls: TlsInfo::default(),
            process: None,
        }
    }
}

impl fmt::Debug for TelemetryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryConfig")
            .field("retain_idle", &self.retain_idle)
            .field("label_sets_max", &self.label_sets_max)
            .finish_non_exhaustive()
    }
}

/// Everything that a proxy counts.
pub struct Telemetry {
    /// The inbound side.
    pub inbound: Inbound,
    /// The outbound side.
    pub outbound: Outbound,
    /// The talk with the control plane.
    pub control: Control,
    /// The process.
    pub process: Process,
    /// Spans of requests, on their way to a collector.
    pub spans: Arc<SpanMetrics>,
    retain_idle: Duration,
    unenforced: Arc<Group<Counter>>,
    /// All groups but what is read on each scrape, in the order of printing.
    reports: Vec<Arc<dyn Report>>,
}

impl Telemetry {
    /// With nothing counted.
    pub fn new(config: &TelemetryConfig) -> Self {
        let sets_max = config.label_sets_max;
        let http =
            |name, families| Arc::new(Group::new(name, families, sets_max, HttpMetrics::default));
        let endpoints = http("request", &ENDPOINT_HTTP);
        let control_endpoints = http("control_request", &CONTROL_HTTP);
        let transports =
            Arc::new(Group::new("tcp", &TRANSPORT, sets_max, TransportMetrics::default));
        let inbound = Inbound::new(endpoints.clone(), transports.clone(), sets_max);
        let outbound = Outbound::new(endpoints.clone(), transports.clone(), sets_max);
        let control = Control::new(control_endpoints.clone());
        let name = "weft_policy_unenforced";
        let unenforced = Arc::new(Group::permanent(name, &UNENFORCED, Counter::default));

        let shared: [Arc<dyn Report>; 3] = [endpoints, control_endpoints, transports];
        let mut reports = Vec::from(shared);
        reports.extend(inbound.legacy_reports());
        reports.extend(outbound.legacy_reports());
        reports.extend(inbound.open_reports());
        reports.extend(outbound.open_reports());
        reports.extend(control.reports());
        reports.push(unenforced.clone());
        let spans = Arc::new(SpanMetrics::new());
        reports.extend(spans.reports());
        Self {
            inbound,
            outbound,
            control,
            process: Process::new(
                config.started,
                config.process.clone(),
                &config.build,
                &config.tls,
            ),
            spans,
            retain_idle: config.retain_idle,
            unenforced,
            reports,
        }
    }

    /// A part of a policy was decoded that this proxy does not enforce yet: counted each time,
    /// logged once. Takes a lock: for changes of policy, not for requests.
    pub fn record_unenforced(&self, feature: &'static str) {
        let counter = self.unenforced.resolve(&Named([("feature", feature)]));
        if counter.increment() == 0 {
            tracing::warn!(feature, "policy asks for something that is not enforced yet");
        }
    }

    /// Forgets label sets that nobody has held for long. Each scrape does; a proxy that nobody
    /// scrapes calls it once a minute.
    pub fn sweep(&self, now: Timestamp) {
        for report in &self.reports {
            report.sweep(now, self.retain_idle);
        }
    }

    /// All metrics as Prometheus' text, in pieces.
    pub fn scrape(&self, now: Timestamp) -> Exposition {
        self.scrape_as(now, Format::Text)
    }

    /// All metrics in a format, in pieces.
    pub fn scrape_as(&self, now: Timestamp, format: Format) -> Exposition {
        self.sweep(now);
        let mut reports = self.process.reports(now);
        reports.push(Arc::new(self.usage()));
        Exposition::new(self.reports.iter().cloned().chain(reports).collect(), format)
    }

    fn usage(&self) -> Reading {
        let usage = |report: &Arc<dyn Report>| {
            let (sets, folded) = report.usage();
            let labels: Arc<str> = format!("group=\"{}\"", report.name()).into();
            let set: Arc<dyn MetricSet> = Arc::new(Usage { sets, folded });
            (labels, set)
        };
        let used = self.reports.iter().filter(|report| report.usage().0 > 0);
        Reading { name: "weft_metrics", families: &USAGE, sets: used.map(usage).collect() }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

struct Usage {
    sets: usize,
    folded: u64,
}

impl MetricSet for Usage {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        match family {
            0 => lines.gauge("", self.sets),
            _ => lines.counter("", self.folded),
        }
    }
}

static UNENFORCED: [Family; 1] = [Family::open(
    Kind::Counter,
    "weft_policy_unenforced",
    "Parts of policies that were understood but are not enforced by this proxy",
)];
static USAGE: [Family; 2] = [
    Family::open(
        Kind::Gauge,
        "weft_metrics_label_sets",
        "The number of label sets that a group of metric families keeps",
    ),
    Family::open(
        Kind::Counter,
        "weft_metrics_label_sets_folded",
        "How often labels were counted under `other` because their group was full",
    ),
];

#[cfg(test)]
pub(crate) mod tests;
