//! Connections by what they turned out to be: protocol detection, routes of connections.

use std::time::Duration;

use super::Kind;
use super::cell::{Buckets, Counter, Histogram, Unit};
use super::registry::{Family, Lines, MetricSet};

/// What HTTP detection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Detection {
    /// Something else.
    NotHttp,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Nothing in time.
    ReadTimeout,
    /// The connection ended or broke first.
    Error,
}

const DETECTIONS: [(Detection, &str); 5] = [
    (Detection::NotHttp, "result=\"NotHttp\""),
    (Detection::Http1, "result=\"Http1\""),
    (Detection::Http2, "result=\"H2\""),
    (Detection::ReadTimeout, "result=\"ReadTimeout\""),
    (Detection::Error, "result=\"Error\""),
];

/// HTTP detection on one port or for one destination.
#[derive(Debug)]
pub struct DetectMetrics {
    duration: Histogram,
    results: [Counter; DETECTIONS.len()],
}

impl DetectMetrics {
    pub(crate) fn new() -> Self {
        Self { duration: Histogram::new(&DETECT_SECONDS), results: Default::default() }
    }

    /// Detection ended, `duration` after it began.
    pub fn detected(&self, detection: Detection, duration: Duration) {
        self.results[detection as usize].increment();
        self.duration.observe_duration(duration);
    }
}

impl MetricSet for DetectMetrics {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        if family == 0 {
            return lines.histogram("", &self.duration);
        }
        for (detection, label) in DETECTIONS {
            lines.counter_led_by(label, self.results[detection as usize].value());
        }
    }
}

static DETECT_SECONDS: Buckets =
    Buckets { bounds: &[1_000_000, 100_000_000], texts: &["0.001", "0.1"], unit: Unit::Seconds };

macro_rules! detect_families {
    ($prefix:literal) => {
        [
            Family::open(
                Kind::Histogram,
                concat!($prefix, "_tcp_detect_http_duration_seconds"),
                "Time taken for protocol detection",
            )
            .with_unit("seconds"),
            Family::open(
                Kind::Counter,
                concat!($prefix, "_tcp_detect_http_results"),
                "Protocol detection results",
            ),
        ]
    };
}

pub(crate) static INBOUND_DETECT: [Family; 2] = detect_families!("inbound");
pub(crate) static OUTBOUND_DETECT: [Family; 2] = detect_families!("outbound");

/// Why a connection was not carried by its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteRefusal {
    /// A filter forbids it.
    Forbidden,
    /// The backend cannot be used.
    InvalidBackend,
    /// The policy cannot be used.
    InvalidPolicy,
    /// Anything else, such as a failed connection to the backend.
    Unexpected,
}

const CLOSES: [(Option<RouteRefusal>, &str); 5] = [
    (None, "error=\"\""),
    (Some(RouteRefusal::Forbidden), "error=\"forbidden\""),
    (Some(RouteRefusal::InvalidBackend), "error=\"invalid_backend\""),
    (Some(RouteRefusal::InvalidPolicy), "error=\"invalid_policy\""),
    (Some(RouteRefusal::Unexpected), "error=\"unexpected\""),
];

/// Connections on a route.
#[derive(Debug, Default)]
pub struct ConnectionRouteMetrics {
    opened: Counter,
    closed: [Counter; CLOSES.len()],
}

impl ConnectionRouteMetrics {
    /// A connection took the route.
    pub fn opened(&self) {
        self.opened.increment();
    }

    /// It is over; with a reason where it went wrong.
    pub fn closed(&self, refusal: Option<RouteRefusal>) {
        let index = refusal.map_or(0, |refusal| refusal as usize + 1);
        self.closed[index].increment();
    }
}

impl MetricSet for ConnectionRouteMetrics {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        if family == 0 {
            return lines.counter("", self.opened.value());
        }
        for ((_, label), counter) in CLOSES.iter().zip(&self.closed) {
            lines.counter(label, counter.value());
        }
    }
}

macro_rules! connection_route_families {
    ($prefix:literal) => {
        [
            Family::open(
                Kind::Counter,
                concat!($prefix, "_open"),
                "The number of connections opened",
            ),
            Family::open(
                Kind::Counter,
                concat!($prefix, "_close"),
                "The number of connections closed",
            ),
        ]
    };
}

pub(crate) static OUTBOUND_TCP_ROUTE: [Family; 2] =
    connection_route_families!("outbound_tcp_route");
pub(crate) static OUTBOUND_TLS_ROUTE: [Family; 2] =
    connection_route_families!("outbound_tls_route");
