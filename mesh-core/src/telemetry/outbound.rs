//! What the outbound side counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::labels::{
    BalancerLabels, ConnectionRouteLabels, EndpointTransport, Named, OutboundEndpoint,
    OutboundTransport, ParentLabels, ProtocolLabels, RouteBackendLabels, RouteLabels,
};
use super::metrics::{
    BalancerMetrics, ConnectionRouteMetrics, Counter, DetectMetrics, Family, Group, HTTP_BALANCER,
    HttpMetrics, Kind, Lines, MetricSet, OUTBOUND_DETECT, OUTBOUND_GRPC_BACKEND,
    OUTBOUND_GRPC_ROUTE, OUTBOUND_HTTP_BACKEND, OUTBOUND_HTTP_ROUTE, OUTBOUND_TCP_ROUTE,
    OUTBOUND_TLS_ROUTE, Report, RouteBackendMetrics, RouteMetrics, RouteProtocol, TCP_BALANCER,
    TLS_BALANCER, TransportMetrics,
};

/// Handles for the outbound side. Resolve once, keep, count.
pub struct Outbound {
    endpoints: Arc<Group<HttpMetrics>>,
    transports: Arc<Group<TransportMetrics>>,
    http_errors: Arc<Group<Counter>>,
    tcp_errors: Arc<Group<Counter>>,
    http_routes: Arc<Group<RouteMetrics>>,
    grpc_routes: Arc<Group<RouteMetrics>>,
    http_backends: Arc<Group<RouteBackendMetrics>>,
    grpc_backends: Arc<Group<RouteBackendMetrics>>,
    http_balancers: Arc<Group<BalancerMetrics>>,
    tcp_balancers: Arc<Group<BalancerMetrics>>,
    tls_balancers: Arc<Group<BalancerMetrics>>,
    protocols: Arc<Group<Counter>>,
    tcp_routes: Arc<Group<ConnectionRouteMetrics>>,
    tls_routes: Arc<Group<ConnectionRouteMetrics>>,
    detect: Arc<Group<DetectMetrics>>,
    transfer_cost: Arc<Group<TransferCost>>,
}

/// What a balancer or a connection's route carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BalancerProtocol {
    /// Requests, gRPC too.
    Http,
    /// Connections of bytes.
    Tcp,
    /// Connections of TLS that the application brings.
    Tls,
}

/// What the route of a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionProtocol {
    /// Bytes.
    Tcp,
    /// TLS that the application brings.
    Tls,
}

/// Why the outbound side could not handle a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutboundError {
    /// Too many requests.
    LoadShed,
    /// No backend was available in time.
    FailFast,
    /// `l5d-require-id` asked for another identity.
    IdentityRequired,
    /// A connection broke.
    Io,
    /// A time limit.
    ResponseTimeout,
    /// Anything else.
    Unexpected,
}

impl OutboundError {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoadShed => "loadshed",
            Self::FailFast => "failfast",
            Self::IdentityRequired => "identity required",
            Self::Io => "i/o",
            Self::ResponseTimeout => "response timeout",
            Self::Unexpected => "unexpected",
        }
    }
}

impl Outbound {
    pub(super) fn new(
        endpoints: Arc<Group<HttpMetrics>>,
        transports: Arc<Group<TransportMetrics>>,
        sets_max: usize,
    ) -> Self {
        let counters = |families: &'static [Family; 1]| {
            let group = Group::new(families[0].name, families, sets_max, Counter::default);
            Arc::new(group)
        };
        let few = |families: &'static [Family; 1]| {
            let group = Group::permanent(families[0].name, families, Counter::default);
            Arc::new(group)
        };
        let routes = |name, families, new| Arc::new(Group::new(name, families, sets_max, new));
        let backends = |name, families, new| Arc::new(Group::new(name, families, sets_max, new));
        let balancers =
            |name, families| Arc::new(Group::new(name, families, sets_max, BalancerMetrics::new));
        let connections = |name, families| {
            let new = ConnectionRouteMetrics::default;
            Arc::new(Group::new(name, families, sets_max, new))
        };
        Self {
            endpoints,
            transports,
            http_errors: few(&HTTP_ERRORS),
            tcp_errors: few(&TCP_ERRORS),
            http_routes: routes("outbound_http_route", &OUTBOUND_HTTP_ROUTE, RouteMetrics::http),
            grpc_routes: routes("outbound_grpc_route", &OUTBOUND_GRPC_ROUTE, RouteMetrics::grpc),
            http_backends: backends(
                "outbound_http_route_backend",
                &OUTBOUND_HTTP_BACKEND,
                RouteBackendMetrics::http,
            ),
            grpc_backends: backends(
                "outbound_grpc_route_backend",
                &OUTBOUND_GRPC_BACKEND,
                RouteBackendMetrics::grpc,
            ),
            http_balancers: balancers("outbound_http_balancer", &HTTP_BALANCER),
            tcp_balancers: balancers("outbound_tcp_balancer", &TCP_BALANCER),
            tls_balancers: balancers("outbound_tls_balancer", &TLS_BALANCER),
            protocols: counters(&PROTOCOLS),
            tcp_routes: connections("outbound_tcp_route", &OUTBOUND_TCP_ROUTE),
            tls_routes: connections("outbound_tls_route", &OUTBOUND_TLS_ROUTE),
            detect: Arc::new(Group::new(
                "outbound_tcp_detect_http",
                &OUTBOUND_DETECT,
                sets_max,
                DetectMetrics::new,
            )),
            transfer_cost: Arc::new(Group::permanent(
                TRANSFER_COST[0].name,
                &TRANSFER_COST,
                TransferCost::default,
            )),
        }
    }

    /// Requests to an endpoint.
    pub fn endpoint(&self, labels: &OutboundEndpoint) -> Arc<HttpMetrics> {
        self.endpoints.resolve(labels)
    }

    /// Connections to an endpoint.
    pub fn endpoint_transport(&self, labels: &OutboundEndpoint) -> Arc<TransportMetrics> {
        self.transports.resolve(&EndpointTransport(labels))
    }

    /// Connections from the workload.
    pub fn transport(&self, labels: &OutboundTransport) -> Arc<TransportMetrics> {
        self.transports.resolve(labels)
    }

    /// Requests on a route.
    pub fn route(&self, protocol: RouteProtocol, labels: &RouteLabels) -> Arc<RouteMetrics> {
        match protocol {
            RouteProtocol::Http => self.http_routes.resolve(labels),
            RouteProtocol::Grpc => self.grpc_routes.resolve(labels),
        }
    }

    /// Requests to a backend of a route.
    pub fn route_backend(
        &self,
        protocol: RouteProtocol,
        labels: &RouteBackendLabels,
    ) -> Arc<RouteBackendMetrics> {
        match protocol {
            RouteProtocol::Http => self.http_backends.resolve(labels),
            RouteProtocol::Grpc => self.grpc_backends.resolve(labels),
        }
    }

    /// A balancer with its queue.
    pub fn balancer(
        &self,
        protocol: BalancerProtocol,
        labels: &BalancerLabels,
    ) -> Arc<BalancerMetrics> {
        match protocol {
            BalancerProtocol::Http => self.http_balancers.resolve(labels),
            BalancerProtocol::Tcp => self.tcp_balancers.resolve(labels),
            BalancerProtocol::Tls => self.tls_balancers.resolve(labels),
        }
    }

    /// Connections by what they speak.
    pub fn protocol_connections(&self, labels: &ProtocolLabels) -> Arc<Counter> {
        self.protocols.resolve(labels)
    }

    /// Connections on a route.
    pub fn connection_route(
        &self,
        protocol: ConnectionProtocol,
        labels: &ConnectionRouteLabels,
    ) -> Arc<ConnectionRouteMetrics> {
        match protocol {
            ConnectionProtocol::Tcp => self.tcp_routes.resolve(labels),
            ConnectionProtocol::Tls => self.tls_routes.resolve(labels),
        }
    }

    /// HTTP detection for a destination.
    pub fn detect(&self, parent: &ParentLabels) -> Arc<DetectMetrics> {
        self.detect.resolve(parent)
    }

    /// Bytes to and from endpoints, by where they are. `zone_locality` is the endpoint's label of
    /// that name.
    pub fn transfer_cost(&self, zone_locality: Option<&str>) -> Arc<TransferCost> {
        let locality = match zone_locality {
            Some("local") => "local",
            Some("remote") => "remote",
            _ => "unknown",
        };
        self.transfer_cost.resolve(&Named([("tcp_zone_locality", locality)]))
    }

    /// A request failed here. Takes a lock: for errors only.
    pub fn http_error(&self, error: OutboundError) {
        let labels = Named([("error", error.as_str())]);
        self.http_errors.resolve(&labels).increment();
    }

    /// A connection failed here. Takes a lock: for errors only.
    pub fn tcp_error(&self, error: OutboundError) {
        let labels = Named([("error", error.as_str())]);
        self.tcp_errors.resolve(&labels).increment();
    }

    /// Families of this side alone in Linkerd's old style, in the order of printing.
    pub(super) fn legacy_reports(&self) -> Vec<Arc<dyn Report>> {
        vec![self.http_errors.clone(), self.tcp_errors.clone()]
    }

    /// Families in Linkerd's new style, in the order of printing.
    pub(super) fn open_reports(&self) -> Vec<Arc<dyn Report>> {
        vec![
            self.http_routes.clone(),
            self.grpc_routes.clone(),
            self.http_backends.clone(),
            self.grpc_backends.clone(),
            self.http_balancers.clone(),
            self.tcp_balancers.clone(),
            self.tls_balancers.clone(),
            self.protocols.clone(),
            self.tcp_routes.clone(),
            self.tls_routes.clone(),
            self.detect.clone(),
            self.transfer_cost.clone(),
        ]
    }
}

/// Bytes to and from endpoints that are equally far away.
#[derive(Debug, Default)]
pub struct TransferCost {
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl TransferCost {
    /// Where bytes received are counted: for `wire::counted`.
    pub fn received_bytes(&self) -> Arc<AtomicU64> {
        self.received.clone()
    }

    /// Where bytes sent are counted: for `wire::counted`.
    pub fn sent_bytes(&self) -> Arc<AtomicU64> {
        self.sent.clone()
    }
}

impl MetricSet for TransferCost {
    fn write(&self, _: usize, lines: &mut Lines<'_>) {
        lines.counter_led_by("direction=\"send\"", self.sent.load(Ordering::Relaxed));
        lines.counter_led_by("direction=\"recv\"", self.received.load(Ordering::Relaxed));
    }
}

static TRANSFER_COST: [Family; 1] = [Family::open(
    Kind::Counter,
    "outbound_tcp_transfer_cost_bytes",
    "Bytes sent to and received from endpoints, by the zone they are in",
)
.with_unit("bytes")];
static HTTP_ERRORS: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "outbound_http_errors_total",
    "The total number of outbound HTTP requests that could not be processed due to a proxy error",
)];
static TCP_ERRORS: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "outbound_tcp_errors_total",
    "The total number of outbound TCP connections that could not be processed due to a proxy error",
)];
static PROTOCOLS: [Family; 1] = [Family::open(
    Kind::Counter,
    "outbound_tcp_protocol_connections",
    "Outbound TCP connections by protocol",
)];
