//! The numbers and their registry: cells, sets of them, groups of sets by label. Knows nothing of
//! who counts what; `inbound`, `outbound`, `control` and `process` beside it do.
//!
//! Law: counting is one atomic addition (a histogram: two), takes no lock and no clock. Locks are
//! taken where labels are resolved to a handle, and where metrics are printed.

mod balancer;
mod cell;
mod chain;
mod connection;
mod http;
mod registry;
mod route;
mod transport;

pub use balancer::{BalancerMetrics, BalancerUpdate, QueuedRequest};
pub use cell::{Counter, Gauge};
pub use connection::{ConnectionRouteMetrics, DetectMetrics, Detection, RouteRefusal};
pub use http::{Classification, HttpMetrics, Response};
pub use route::{
    GRPC_STATUSES, InboundRouteMetrics, RouteBackendMetrics, RouteMetrics, RouteProtocol,
    StreamEnd, StreamError,
};
pub use transport::{OpenConnection, TransportMetrics, errno};

pub(super) use super::format::Kind;
pub(super) use balancer::{HTTP_BALANCER, TCP_BALANCER, TLS_BALANCER};
pub(super) use cell::write_seconds;
pub(super) use connection::{
    INBOUND_DETECT, OUTBOUND_DETECT, OUTBOUND_TCP_ROUTE, OUTBOUND_TLS_ROUTE,
};
pub(super) use http::{CONTROL_HTTP, ENDPOINT_HTTP};
pub(super) use registry::{Family, Group, Lines, MetricSet, Report};
pub(super) use route::{
    INBOUND_GRPC, INBOUND_HTTP, OUTBOUND_GRPC_BACKEND, OUTBOUND_GRPC_ROUTE, OUTBOUND_HTTP_BACKEND,
    OUTBOUND_HTTP_ROUTE,
};
pub(super) use transport::TRANSPORT;
