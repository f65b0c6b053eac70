//! Balancers and the queues before them.

use std::sync::Arc;
use std::time::Duration;

use super::Kind;
use super::cell::{Buckets, Counter, Gauge, Histogram, SecondsGauge, Unit};
use super::registry::{Family, Lines, MetricSet};
use crate::time::WallTime;

/// A change of a balancer's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BalancerUpdate {
    /// The whole set was given anew.
    Reset,
    /// Endpoints came.
    Add,
    /// Endpoints went.
    Remove,
    /// The service does not exist.
    DoesNotExist,
}

const UPDATES: [(BalancerUpdate, &str); 4] = [
    (BalancerUpdate::Reset, "op=\"Reset\""),
    (BalancerUpdate::Add, "op=\"Add\""),
    (BalancerUpdate::Remove, "op=\"Remove\""),
    (BalancerUpdate::DoesNotExist, "op=\"DoesNotExist\""),
];

/// A balancer and its queue. Requests are connections where it balances those.
#[derive(Debug)]
pub struct BalancerMetrics {
    ready: Gauge,
    pending: Gauge,
    endpoints: Gauge,
    updates: [Counter; UPDATES.len()],
    queued: Gauge,
    requests: Counter,
    queue_latency: Histogram,
    gate_open: Counter,
    gate_shut: Counter,
    gate_open_at: SecondsGauge,
    gate_shut_at: SecondsGauge,
    gate_timeout: SecondsGauge,
}

impl BalancerMetrics {
    pub(crate) fn new() -> Self {
        Self {
            ready: Gauge::default(),
            pending: Gauge::default(),
            endpoints: Gauge::default(),
            updates: Default::default(),
            queued: Gauge::default(),
            requests: Counter::default(),
            queue_latency: Histogram::new(&QUEUE_SECONDS),
            gate_open: Counter::default(),
            gate_shut: Counter::default(),
            gate_open_at: SecondsGauge::default(),
            gate_shut_at: SecondsGauge::default(),
            gate_timeout: SecondsGauge::default(),
        }
    }

    /// Discovery sent an update, after which there are this many endpoints.
    pub fn updated(&self, update: BalancerUpdate, endpoints: usize) {
        self.updates[update as usize].increment();
        self.endpoints.set(endpoints as u64);
    }

    /// Endpoints that can take a request now, and those that cannot.
    pub fn endpoint_states(&self, ready: usize, pending: usize) {
        self.ready.set(ready as u64);
        self.pending.set(pending as u64);
    }

    /// A request came into the queue; it counts as waiting until the guard goes.
    pub fn queued(self: &Arc<Self>) -> QueuedRequest {
        self.requests.increment();
        self.queued.increment();
        QueuedRequest { metrics: self.clone() }
    }

    /// A request that did not have to wait: the same as [`queued`](Self::queued) and
    /// [`QueuedRequest::dispatched`] at once.
    pub fn passed(&self) {
        self.requests.increment();
        self.queue_latency.observe(0);
    }

    /// How long the balancer may be unavailable before the queue's gate shuts.
    pub fn gate_timeout(&self, timeout: Duration) {
        self.gate_timeout.set(timeout);
    }

    /// The queue lets requests in again.
    pub fn gate_opened(&self, at: WallTime) {
        self.gate_open.increment();
        self.gate_open_at.set(at.as_duration());
    }

    /// The queue refuses requests (fail-fast).
    pub fn gate_shut(&self, at: WallTime) {
        self.gate_shut.increment();
        self.gate_shut_at.set(at.as_duration());
    }
}

/// A request that waits.
#[derive(Debug)]
#[must_use = "dropping it counts the request as gone from the queue"]
pub struct QueuedRequest {
    metrics: Arc<BalancerMetrics>,
}

impl QueuedRequest {
    /// It left the queue for an endpoint after `waited`. One that gave up is just dropped.
    pub fn dispatched(self, waited: Duration) {
        self.metrics.queue_latency.observe_duration(waited);
    }
}

impl Drop for QueuedRequest {
    fn drop(&mut self) {
        self.metrics.queued.decrement();
    }
}

impl MetricSet for BalancerMetrics {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        match family {
            0 => {
                lines.gauge("endpoint_state=\"ready\"", self.ready.value());
                lines.gauge("endpoint_state=\"pending\"", self.pending.value());
            }
            1 => lines.gauge("", self.endpoints.value()),
            2 => {
                for (update, op) in UPDATES {
                    lines.counter_led_by(op, self.updates[update as usize].value());
                }
            }
            3 => lines.gauge("", self.queued.value()),
            4 => lines.counter("", self.requests.value()),
            5 => lines.histogram("", &self.queue_latency),
            6 => lines.counter("", self.gate_open.value()),
            7 => lines.counter("", self.gate_shut.value()),
            8 => lines.seconds(self.gate_open_at.nanos()),
            9 => lines.seconds(self.gate_shut_at.nanos()),
            _ => lines.seconds(self.gate_timeout.nanos()),
        }
    }
}

static QUEUE_SECONDS: Buckets = Buckets {
    bounds: &[500_000, 5_000_000, 50_000_000, 500_000_000, 1_000_000_000, 3_000_000_000],
    texts: &["0.0005", "0.005", "0.05", "0.5", "1.0", "3.0"],
    unit: Unit::Seconds,
};

macro_rules! balancer_families {
    ($prefix:literal) => {
        [
            Family::open(
                Kind::Gauge,
                concat!($prefix, "_endpoints"),
                "The number of endpoints in each state",
            ),
            Family::open(
                Kind::Gauge,
                concat!($prefix, "_p2c_endpoints"),
                "The number of endpoints currently in the balancer",
            ),
            Family::open(
                Kind::Counter,
                concat!($prefix, "_p2c_updates"),
                "The total number of service discovery updates received by a balancer",
            ),
            Family::open(
                Kind::Gauge,
                concat!($prefix, "_queue_length"),
                "The number of requests waiting in the queue",
            ),
            Family::open(
                Kind::Counter,
                concat!($prefix, "_queue_requests"),
                "The total number of requests queued",
            ),
            Family::open(
                Kind::Histogram,
                concat!($prefix, "_queue_latency_seconds"),
                "The time a request waited in the queue",
            )
            .with_unit("seconds"),
            Family::open(
                Kind::Counter,
                concat!($prefix, "_queue_gate_open"),
                "The number of times the queue's gate opened",
            ),
            Family::open(
                Kind::Counter,
                concat!($prefix, "_queue_gate_shut"),
                "The number of times the queue's gate shut",
            ),
            Family::open(
                Kind::Gauge,
                concat!($prefix, "_queue_gate_open_time_seconds"),
                "When the queue's gate last opened, since the UNIX epoch",
            )
            .with_unit("seconds"),
            Family::open(
                Kind::Gauge,
                concat!($prefix, "_queue_gate_shut_time_seconds"),
                "When the queue's gate last shut, since the UNIX epoch",
            )
            .with_unit("seconds"),
            Family::open(
                Kind::Gauge,
                concat!($prefix, "_queue_gate_timeout_seconds"),
                "How long a queue may be unavailable before its gate shuts",
            )
            .with_unit("seconds"),
        ]
    };
}

pub(crate) static HTTP_BALANCER: [Family; 11] = balancer_families!("outbound_http_balancer");
pub(crate) static TCP_BALANCER: [Family; 11] = balancer_families!("outbound_tcp_balancer");
pub(crate) static TLS_BALANCER: [Family; 11] = balancer_families!("outbound_tls_balancer");
