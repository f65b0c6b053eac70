//! What a client's proxy does with traffic to one destination (`outbound.OutboundPolicy`).

use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::metadata::Metadata;
use super::ratio::Ratio;
use super::route::HostMatch;
use super::route::grpc::{GrpcFailure, GrpcMatch};
use super::route::http::{HeaderModifier, HttpFailure, HttpMatch, Redirect, Timeouts};

/// The policy for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPolicy {
    /// The destination as an object: a Service, or a default.
    pub parent: Metadata,
    /// What it speaks and how that is routed.
    pub protocol: ClientProtocol,
}

/// What a destination speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientProtocol {
    /// Unknown: find out from the first bytes.
    Detect {
        /// How long to wait for them; then opaque.
        timeout: Duration,
        /// For HTTP/1.
        http1: HttpRoutes,
        /// For HTTP/2 and gRPC.
        http2: HttpRoutes,
        /// For everything else.
        opaque: OpaqueRoutes,
    },
    /// Bytes.
    Opaque(OpaqueRoutes),
    /// HTTP/1 without detection.
    Http1(HttpRoutes),
    /// HTTP/2 without detection.
    Http2(HttpRoutes),
    /// gRPC without detection.
    Grpc(GrpcRoutes),
    /// TLS that the application brings, routed by SNI.
    Tls(TlsRoutes),
}

/// HTTP routes of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRoutes {
    /// Routes, in no order of precedence.
    pub routes: Vec<HttpRoute>,
    /// Circuit breaking of endpoints.
    pub breaker: Option<FailureAccrual>,
}

/// gRPC routes of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcRoutes {
    /// Routes, in no order of precedence.
    pub routes: Vec<GrpcRoute>,
    /// Circuit breaking of endpoints.
    pub breaker: Option<FailureAccrual>,
}

/// Opaque routes of a destination; the first is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpaqueRoutes {
    /// Routes.
    pub routes: Vec<OpaqueRoute>,
}

/// TLS routes of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsRoutes {
    /// Routes, in no order of precedence.
    pub routes: Vec<TlsRoute>,
}

/// An HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// As an object.
    pub metadata: Metadata,
    /// Hosts; empty for all.
    pub hosts: Vec<HostMatch>,
    /// Rules, in order.
    pub rules: Vec<Rule<HttpMatch, HttpFilter, HttpRetryConditions>>,
}

/// A GRPCRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcRoute {
    /// As an object.
    pub metadata: Metadata,
    /// Hosts; empty for all.
    pub hosts: Vec<HostMatch>,
    /// Rules, in order.
    pub rules: Vec<Rule<GrpcMatch, GrpcFilter, GrpcRetryConditions>>,
}

/// A TCPRoute, or the default of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpaqueRoute {
    /// As an object.
    pub metadata: Metadata,
    /// Rules; the first is used.
    pub rules: Vec<ConnectionRule>,
}

/// A TLSRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRoute {
    /// As an object.
    pub metadata: Metadata,
    /// SNIs; empty for all.
    pub snis: Vec<HostMatch>,
    /// Rules; the first is used.
    pub rules: Vec<ConnectionRule>,
}

/// A rule for requests: `M` matches, `F` filters, `C` retry conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<M, F, C> {
    /// Matches, one of which must hold; empty for all requests.
    pub matches: Vec<M>,
    /// Filters, in order.
    pub filters: Vec<F>,
    /// Where to.
    pub backends: Distribution<F>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// When to try again.
    pub retry: Option<Retry<C>>,
    /// Clients may set timeouts and retries by `l5d-*` request headers.
    pub allow_l5d_request_headers: bool,
}

/// A rule for connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRule {
    /// Where to.
    pub backends: Distribution<ConnectionFilter>,
    /// Filters, in order.
    pub filters: Vec<ConnectionFilter>,
}

/// How traffic is spread over backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distribution<F> {
    /// There is none: requests fail.
    Empty,
    /// The first that is available.
    FirstAvailable(Vec<RouteBackend<F>>),
    /// One that is available, by weight.
    RandomAvailable(Vec<WeightedBackend<F>>),
}

/// A backend of a route with its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedBackend<F> {
    /// The backend.
    pub backend: RouteBackend<F>,
    /// Relative weight; 0 gets nothing.
    pub weight: u32,
}

/// A backend of a route with its own filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteBackend<F> {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Filters for this backend alone.
    pub filters: Vec<F>,
    /// Time limit for this backend alone (deprecated in the API, still honoured).
    pub request_timeout: Option<Duration>,
}

/// A place that serves traffic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// As an object.
    pub metadata: Metadata,
    /// Its queue.
    pub queue: Queue,
    /// How its endpoints are found.
    pub dispatcher: Dispatcher,
}

/// How a backend's endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dispatcher {
    /// One endpoint, as it is.
    Forward(Endpoint),
    /// Discovered by `Destination.Get` under this path, balanced by `load`.
    Balance {
        /// The path: an authority.
        path: String,
        /// How load is measured.
        load: Load,
    },
    /// None was given: requests fail, connections are refused.
    Fail,
}

/// How load is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// Peak exponentially weighted moving average of latency.
    PeakEwma {
        /// Before the first measurement.
        default_rtt: Duration,
        /// Time constant.
        decay: Duration,
    },
    /// The same, and failures count as latency.
    PenaltyPeakEwma {
        /// Before the first measurement.
        default_rtt: Duration,
        /// Time constant.
        decay: Duration,
        /// Latency a failure counts as.
        penalty: Duration,
        /// Longest `Retry-After` heeded.
        max_retry_after: Duration,
        /// Time constant of penalties.
        penalty_decay: Duration,
    },
}

/// A backend's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queue {
    /// Requests that may wait.
    pub capacity: u32,
    /// How long a backend may be unavailable before those that wait fail.
    pub failfast_timeout: Duration,
}

/// A filter on HTTP requests and responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpFilter {
    /// Fails a share of requests.
    Failure(HttpFailure),
    /// Changes request headers.
    RequestHeaders(HeaderModifier),
    /// Redirects.
    Redirect(Redirect),
    /// Changes response headers.
    ResponseHeaders(HeaderModifier),
    /// A filter this proxy does not know: requests fail with 500.
    Unknown,
}

/// A filter on gRPC requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcFilter {
    /// Fails a share of requests.
    Failure(GrpcFailure),
    /// Changes request headers.
    RequestHeaders(HeaderModifier),
    /// A filter this proxy does not know: requests fail with INTERNAL.
    Unknown,
}

/// A filter on connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionFilter {
    /// The route is wrong: refused, with this reason.
    Invalid(String),
    /// Not allowed: refused.
    Forbidden,
    /// A filter this proxy does not know: refused.
    Unknown,
}

/// When to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry<C> {
    /// Attempts beyond the first.
    pub max_retries: u16,
    /// Largest request body kept for another attempt.
    pub max_request_bytes: u32,
    /// After which responses.
    pub conditions: C,
    /// Time for each attempt.
    pub timeout: Option<Duration>,
    /// Time between attempts.
    pub backoff: Option<Backoff>,
}

/// Statuses after which an HTTP request is tried again: inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRetryConditions {
    /// Lowest and highest.
    pub statuses: Vec<(u16, u16)>,
}

/// Statuses after which a gRPC request is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrpcRetryConditions {
    /// CANCELLED (1).
    pub cancelled: bool,
    /// DEADLINE_EXCEEDED (4).
    pub deadline_exceeded: bool,
    /// RESOURCE_EXHAUSTED (8).
    pub resource_exhausted: bool,
    /// INTERNAL (13).
    pub internal: bool,
    /// UNAVAILABLE (14).
    pub unavailable: bool,
}

/// Circuit breaking of endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailureAccrual {
    /// When an endpoint is taken out; `None` never.
    pub trip: Option<Trip>,
    /// Endpoints that stay in however they fail.
    pub min_ready_endpoints: Option<u32>,
}

/// When an endpoint is taken out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trip {
    /// After failures in a row.
    Consecutive {
        /// How many.
        max_failures: u32,
        /// How long it stays out.
        backoff: Backoff,
    },
    /// After failures in a row, or at a low rate of success.
    Unified {
        /// Lowest rate of success.
        success_rate_threshold: Ratio,
        /// Window of the rate.
        decay: Duration,
        /// Requests below which the rate does not count.
        min_requests: u32,
        /// Failures in a row.
        max_consecutive_failures: u32,
        /// How long it stays out.
        backoff: Backoff,
    },
}

/// Growing waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backoff {
    /// First.
    pub min: Duration,
    /// Longest.
    pub max: Duration,
    /// Random share added to each.
    pub jitter: Ratio,
    /// Heed `Retry-After`.
    pub respect_retry_after: bool,
}
