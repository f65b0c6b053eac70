//! Requests by route: durations, statuses, sizes of frames. Outbound by route and by backend of a
//! route, inbound by route.

use std::borrow::Cow;
use std::time::Duration;

use super::Kind;
use super::cell::{Buckets, Counter, Histogram, Unit};
use super::chain::Chain;
use super::registry::{Family, Lines, MetricSet};

/// What a route's statuses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteProtocol {
    /// HTTP statuses.
    Http,
    /// gRPC statuses.
    Grpc,
}

/// How a request's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// The HTTP status, or `grpc-status` where the route is a gRPC route; `None` where the stream
    /// ended without.
    pub status: Option<u16>,
    /// What broke it, where something did.
    pub error: Option<StreamError>,
}

/// What broke a request's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamError {
    /// No backend became available in time.
    FailFast,
    /// Too many requests were waiting.
    LoadShed,
    /// The route's limit for the whole request.
    RequestTimeout,
    /// The limit for response headers.
    ResponseHeadersTimeout,
    /// The limit for the response.
    ResponseStreamTimeout,
    /// The limit for silence.
    IdleTimeout,
    /// Reset with CANCEL.
    Cancel,
    /// Reset with REFUSED_STREAM.
    Refused,
    /// Reset with ENHANCE_YOUR_CALM.
    EnhanceYourCalm,
    /// Reset with something else.
    Reset,
    /// The connection said GOAWAY.
    GoAway,
    /// The connection broke.
    Io,
    /// Something else.
    Unknown,
}

impl StreamError {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailFast => "FAIL_FAST",
            Self::LoadShed => "LOAD_SHED",
            Self::RequestTimeout => "REQUEST_TIMEOUT",
            Self::ResponseHeadersTimeout => "RESPONSE_HEADERS_TIMEOUT",
            Self::ResponseStreamTimeout => "RESPONSE_STREAM_TIMEOUT",
            Self::IdleTimeout => "IDLE_TIMEOUT",
            Self::Cancel => "CANCEL",
            Self::Refused => "REFUSED",
            Self::EnhanceYourCalm => "ENHANCE_YOUR_CALM",
            Self::Reset => "RESET",
            Self::GoAway => "GO_AWAY",
            Self::Io => "IO",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Streams by status and error.
#[derive(Debug)]
struct Statuses {
    protocol: RouteProtocol,
    ends: Chain<Option<StreamEnd>, Counter>,
}

impl Statuses {
    fn new(protocol: RouteProtocol) -> Self {
        Self { protocol, ends: Chain::default() }
    }

    fn record(&self, mut end: StreamEnd) {
        if self.protocol == RouteProtocol::Grpc {
            // What prints the same is counted together.
            let known = |status: &u16| usize::from(*status) < GRPC_STATUSES.len();
            end.status = end.status.filter(known).or(Some(GRPC_UNKNOWN));
        }
        let counter = self.ends.entry(&Some(end), &None, Counter::default);
        counter.increment();
    }

    fn write(&self, lines: &mut Lines<'_>) {
        for (end, counter) in self.ends.iter() {
            let error = end.and_then(|end| end.error).map_or("", StreamError::as_str);
            let status = end.map(|end| end.status);
            let name = match self.protocol {
                RouteProtocol::Http => "http_status",
                RouteProtocol::Grpc => "grpc_status",
            };
            let status = match (self.protocol, status) {
                (_, None) => "other".into(),
                (_, Some(None)) => "".into(),
                (RouteProtocol::Http, Some(Some(status))) => Cow::from(status.to_string()),
                (RouteProtocol::Grpc, Some(Some(status))) => {
                    GRPC_STATUSES[usize::from(status)].into()
                }
            };
            let labels = format!("{name}=\"{status}\",error=\"{error}\"");
            lines.counter(&labels, counter.value());
        }
    }
}

const GRPC_UNKNOWN: u16 = 2;

/// Statuses of gRPC by their numbers, as labels have them.
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The outbound side's requests on a route, retries not counted apart.
#[derive(Debug)]
pub struct RouteMetrics {
    duration: Histogram,
    statuses: Statuses,
    frames: Histogram,
    retries: Counter,
    retry_successes: Counter,
    retry_limits: Counter,
}

impl RouteMetrics {
    pub(crate) fn http() -> Self {
        Self::new(RouteProtocol::Http)
    }

    pub(crate) fn grpc() -> Self {
        Self::new(RouteProtocol::Grpc)
    }

    fn new(protocol: RouteProtocol) -> Self {
        Self {
            duration: Histogram::new(&SECONDS_COARSE),
            statuses: Statuses::new(protocol),
            frames: Histogram::new(&FRAME_BYTES),
            retries: Counter::default(),
            retry_successes: Counter::default(),
            retry_limits: Counter::default(),
        }
    }

    /// A request is sent again.
    pub fn retried(&self) {
        self.retries.increment();
    }

    /// A request that was sent again was answered well.
    pub fn retry_succeeded(&self) {
        self.retry_successes.increment();
    }

    /// A request would be sent again, had it not been as often as it may.
    pub fn retry_limit_exceeded(&self) {
        self.retry_limits.increment();
    }

    /// A request is over, `duration` after it began.
    pub fn ended(&self, end: StreamEnd, duration: Duration) {
        self.statuses.record(end);
        self.duration.observe_duration(duration);
    }

    /// The client sent a frame of its request's body.
    pub fn request_frame(&self, bytes: usize) {
        self.frames.observe(bytes as u64);
    }
}

impl MetricSet for RouteMetrics {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        match family {
            0 => lines.histogram("", &self.duration),
            1 => self.statuses.write(lines),
            2 => lines.histogram("", &self.frames),
            // Of routes that retry alone.
            _ if self.retries.value() + self.retry_limits.value() == 0 => {}
            3 => lines.counter("", self.retries.value()),
            4 => lines.counter("", self.retry_successes.value()),
            _ => lines.counter("", self.retry_limits.value()),
        }
    }
}

/// The outbound side's requests to one backend of a route, each attempt counted.
#[derive(Debug)]
pub struct RouteBackendMetrics {
    requests: Counter,
    duration: Histogram,
    statuses: Statuses,
    frames: Histogram,
}

impl RouteBackendMetrics {
    pub(crate) fn http() -> Self {
        Self::new(RouteProtocol::Http)
    }

    pub(crate) fn grpc() -> Self {
        Self::new(RouteProtocol::Grpc)
    }

    fn new(protocol: RouteProtocol) -> Self {
        Self {
            requests: Counter::default(),
            duration: Histogram::new(&SECONDS_FINE),
            statuses: Statuses::new(protocol),
            frames: Histogram::new(&FRAME_BYTES),
        }
    }

    /// A request was sent to the backend.
    pub fn request(&self) {
        self.requests.increment();
    }

    /// Its response is over, `duration` after the request was sent in full.
    pub fn ended(&self, end: StreamEnd, duration: Duration) {
        self.statuses.record(end);
        self.duration.observe_duration(duration);
    }

    /// The backend sent a frame of its response's body.
    pub fn response_frame(&self, bytes: usize) {
        self.frames.observe(bytes as u64);
    }
}

impl MetricSet for RouteBackendMetrics {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        match family {
            0 => lines.counter("", self.requests.value()),
            1 => lines.histogram("", &self.duration),
            2 => self.statuses.write(lines),
            _ => lines.histogram("", &self.frames),
        }
    }
}

/// The inbound side's requests on a route.
#[derive(Debug)]
pub struct InboundRouteMetrics {
    requests: Counter,
    request_duration: Histogram,
    response_duration: Histogram,
    statuses: Statuses,
    request_frames: Histogram,
    response_frames: Histogram,
}

impl InboundRouteMetrics {
    pub(crate) fn http() -> Self {
        Self::new(RouteProtocol::Http)
    }

    pub(crate) fn grpc() -> Self {
        Self::new(RouteProtocol::Grpc)
    }

    fn new(protocol: RouteProtocol) -> Self {
        Self {
            requests: Counter::default(),
            request_duration: Histogram::new(&SECONDS_FINE),
            response_duration: Histogram::new(&SECONDS_COARSE),
            statuses: Statuses::new(protocol),
            request_frames: Histogram::new(&FRAME_BYTES),
            response_frames: Histogram::new(&FRAME_BYTES),
        }
    }

    /// A request came.
    pub fn request(&self) {
        self.requests.increment();
    }

    /// It is over: `request` after it began, `response` after it was received in full.
    pub fn ended(&self, end: StreamEnd, request: Duration, response: Duration) {
        self.statuses.record(end);
        self.request_duration.observe_duration(request);
        self.response_duration.observe_duration(response);
    }

    /// The client sent a frame of its request's body.
    pub fn request_frame(&self, bytes: usize) {
        self.request_frames.observe(bytes as u64);
    }

    /// The workload sent a frame of its response's body.
    pub fn response_frame(&self, bytes: usize) {
        self.response_frames.observe(bytes as u64);
    }
}

impl MetricSet for InboundRouteMetrics {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        match family {
            0 => lines.counter("", self.requests.value()),
            1 => lines.histogram("", &self.request_duration),
            2 => lines.histogram("", &self.response_duration),
            3 => self.statuses.write(lines),
            4 => lines.histogram("", &self.request_frames),
            _ => lines.histogram("", &self.response_frames),
        }
    }
}

static SECONDS_COARSE: Buckets = Buckets {
    bounds: &[50_000_000, 500_000_000, 1_000_000_000, 10_000_000_000],
    texts: &["0.05", "0.5", "1.0", "10.0"],
    unit: Unit::Seconds,
};

static SECONDS_FINE: Buckets = Buckets {
    bounds: &[
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        10_000_000_000,
    ],
    texts: &["0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "10.0"],
    unit: Unit::Seconds,
};

static FRAME_BYTES: Buckets = Buckets {
    bounds: &[128, 1_024, 10_240],
    texts: &["128.0", "1024.0", "10240.0"],
    unit: Unit::Bytes,
};

const RETRY_HELP: &str = "Retry requests emitted";
const RETRY_SUCCESS_HELP: &str = "Successful responses to retry requests";
const RETRY_LIMIT_HELP: &str = "Retryable requests not sent due to retry limits";
const REQUESTS_HELP: &str = "The total number of requests dispatched";
const REQUEST_DURATION_HELP: &str =
    "The time between request initialization and response completion";
const RESPONSE_DURATION_HELP: &str = "The time between request completion and response completion";
const REQUEST_STATUSES_HELP: &str = "Completed request-response streams";
const RESPONSE_STATUSES_HELP: &str = "Completed responses";
const REQUEST_FRAMES_HELP: &str = "Request data frame sizes";
const RESPONSE_FRAMES_HELP: &str = "Response data frame sizes";

macro_rules! route_families {
    ($prefix:literal) => {
        [
            Family::open(
                Kind::Histogram,
                concat!($prefix, "_request_duration_seconds"),
                REQUEST_DURATION_HELP,
            )
            .with_unit("seconds"),
            Family::open(
                Kind::Counter,
                concat!($prefix, "_request_statuses"),
                REQUEST_STATUSES_HELP,
            ),
            Family::open(
                Kind::Histogram,
                concat!($prefix, "_request_frame_size_bytes"),
                REQUEST_FRAMES_HELP,
            )
            .with_unit("bytes"),
            Family::open(Kind::Counter, concat!($prefix, "_retry_requests"), RETRY_HELP),
            Family::open(Kind::Counter, concat!($prefix, "_retry_successes"), RETRY_SUCCESS_HELP),
            Family::open(
                Kind::Counter,
                concat!($prefix, "_retry_limit_exceeded"),
                RETRY_LIMIT_HELP,
            ),
        ]
    };
}

macro_rules! backend_families {
    ($prefix:literal) => {
        [
            Family::open(Kind::Counter, concat!($prefix, "_requests"), REQUESTS_HELP),
            Family::open(
                Kind::Histogram,
                concat!($prefix, "_response_duration_seconds"),
                RESPONSE_DURATION_HELP,
            )
            .with_unit("seconds"),
            Family::open(
                Kind::Counter,
                concat!($prefix, "_response_statuses"),
                RESPONSE_STATUSES_HELP,
            ),
            Family::open(
                Kind::Histogram,
                concat!($prefix, "_response_frame_size_bytes"),
                RESPONSE_FRAMES_HELP,
            )
            .with_unit("bytes"),
        ]
    };
}

macro_rules! inbound_families {
    ($prefix:literal) => {
        [
            Family::open(Kind::Counter, concat!($prefix, "_requests"), REQUESTS_HELP),
            Family::open(
                Kind::Histogram,
                concat!($prefix, "_request_duration_seconds"),
                REQUEST_DURATION_HELP,
            )
            .with_unit("seconds"),
            Family::open(
                Kind::Histogram,
                concat!($prefix, "_response_duration_seconds"),
                RESPONSE_DURATION_HELP,
            )
            .with_unit("seconds"),
            Family::open(Kind::Counter, concat!($prefix, "_statuses"), RESPONSE_STATUSES_HELP),
            Family::open(
                Kind::Histogram,
                concat!($prefix, "_request_frame_size_bytes"),
                REQUEST_FRAMES_HELP,
            )
            .with_unit("bytes"),
            Family::open(
                Kind::Histogram,
                concat!($prefix, "_response_frame_size_bytes"),
                RESPONSE_FRAMES_HELP,
            )
            .with_unit("bytes"),
        ]
    };
}

pub(crate) static OUTBOUND_HTTP_ROUTE: [Family; 6] = route_families!("outbound_http_route");
pub(crate) static OUTBOUND_GRPC_ROUTE: [Family; 6] = route_families!("outbound_grpc_route");
pub(crate) static OUTBOUND_HTTP_BACKEND: [Family; 4] =
    backend_families!("outbound_http_route_backend");
pub(crate) static OUTBOUND_GRPC_BACKEND: [Family; 4] =
    backend_families!("outbound_grpc_route_backend");
pub(crate) static INBOUND_HTTP: [Family; 6] = inbound_families!("inbound_http");
pub(crate) static INBOUND_GRPC: [Family; 6] = inbound_families!("inbound_grpc");
