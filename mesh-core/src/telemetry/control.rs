//! What the proxy counts about its control plane: requests to it, connections, the certificate.

use std::sync::Arc;

use super::labels::{ControlLabels, Named};
use super::metrics::{
    Counter, Family, Group, HttpMetrics, Kind, Lines, MetricSet, Report, write_seconds,
};
use crate::time::WallTime;

/// Handles for the proxy's talk with its control plane.
pub struct Control {
    endpoints: Arc<Group<HttpMetrics>>,
    expiration: Arc<Group<WallTimeGauge>>,
    refreshed_at: Arc<Group<WallTimeGauge>>,
    refreshes: Arc<Group<Counter>>,
    resolutions: Arc<Group<Counter>>,
}

impl Control {
    pub(super) fn new(endpoints: Arc<Group<HttpMetrics>>) -> Self {
        let times = |families: &'static [Family; 1]| {
            let new = WallTimeGauge::default;
            Arc::new(Group::permanent(families[0].name, families, new))
        };
        let name = "control_identity_cert_refreshes";
        Self {
            endpoints,
            expiration: times(&CERT_EXPIRATION),
            refreshed_at: times(&CERT_REFRESHED_AT),
            refreshes: Arc::new(Group::permanent(name, &CERT_REFRESHES, Counter::default)),
            resolutions: Arc::new(Group::permanent(
                DNS_RESOLUTIONS[0].name,
                &DNS_RESOLUTIONS,
                Counter::default,
            )),
        }
    }

    /// Requests to an address of the control plane.
    pub fn endpoint(&self, labels: &ControlLabels) -> Arc<HttpMetrics> {
        self.endpoints.resolve(labels)
    }

    /// A name of the control plane was looked up for a client (`identity`, `destination`,
    /// `policy`). Takes a lock: for new connections.
    pub fn resolved(&self, client: &str, found: bool) {
        let result = if found { "ok" } else { "error" };
        let labels = Named([("client", client), ("record_type", "A/AAAA"), ("result", result)]);
        self.resolutions.resolve(&labels).increment();
    }

    /// A certificate came.
    pub fn certificate_refreshed(&self, now: WallTime, expires: WallTime) {
        self.expiration.resolve(&Named([])).set(expires);
        self.refreshed_at.resolve(&Named([])).set(now);
        self.refreshes.resolve(&Named([("result", "ok")])).increment();
    }

    /// A certificate was asked for and did not come.
    pub fn certificate_failed(&self) {
        self.refreshes.resolve(&Named([("result", "error")])).increment();
    }

    pub(super) fn reports(&self) -> Vec<Arc<dyn Report>> {
        vec![
            self.expiration.clone(),
            self.refreshed_at.clone(),
            self.refreshes.clone(),
            self.resolutions.clone(),
        ]
    }
}

/// A point in time, in nanoseconds since 1970.
#[derive(Debug, Default)]
struct WallTimeGauge(std::sync::atomic::AtomicU64);

impl WallTimeGauge {
    fn set(&self, at: WallTime) {
        let nanos = u64::try_from(at.as_duration().as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos, std::sync::atomic::Ordering::Relaxed);
    }
}

impl MetricSet for WallTimeGauge {
    fn write(&self, _: usize, lines: &mut Lines<'_>) {
        let mut seconds = String::new();
        let nanos = self.0.load(std::sync::atomic::Ordering::Relaxed);
        write_seconds(&mut seconds, nanos);
        lines.gauge("", seconds);
    }
}

static CERT_EXPIRATION: [Family; 1] = [Family::open(
    Kind::Gauge,
    "control_identity_cert_expiration_timestamp_seconds",
    "Time when this proxy's current mTLS identity certificate will expire (in seconds since \
     the UNIX epoch)",
)
.with_unit("seconds")];
static CERT_REFRESHED_AT: [Family; 1] = [Family::open(
    Kind::Gauge,
    "control_identity_cert_refresh_timestamp_seconds",
    "Time when this proxy's current mTLS identity certificate was obtained (in seconds since the \
     UNIX epoch)",
)
.with_unit("seconds")];
static CERT_REFRESHES: [Family; 1] = [Family::open(
    Kind::Counter,
    "control_identity_cert_refreshes",
    "The total number of times this proxy's mTLS identity certificate was asked for",
)];
static DNS_RESOLUTIONS: [Family; 1] = [Family::open(
    Kind::Counter,
    "control_dns_resolutions",
    "The number of look-ups of the control plane's names",
)];
