//! What the inbound side counts.

use std::net::SocketAddr;
use std::sync::Arc;

use super::labels::{
    AuthorizationLabels, InboundEndpoint, InboundRoute, InboundTransport, LocalTransport, Named,
    ServerLabels, TargetError, TransportHeaderLabels,
};
use super::metrics::{
    Counter, DetectMetrics, Family, Group, HttpMetrics, INBOUND_DETECT, INBOUND_GRPC, INBOUND_HTTP,
    InboundRouteMetrics, Kind, Report, RouteProtocol, TransportMetrics,
};

/// Handles for the inbound side. Resolve once, keep, count.
pub struct Inbound {
    endpoints: Arc<Group<HttpMetrics>>,
    transports: Arc<Group<TransportMetrics>>,
    http_authz_allow: Arc<Group<Counter>>,
    http_authz_deny: Arc<Group<Counter>>,
    http_route_not_found: Arc<Group<Counter>>,
    tcp_authz_allow: Arc<Group<Counter>>,
    tcp_authz_deny: Arc<Group<Counter>>,
    tcp_authz_terminate: Arc<Group<Counter>>,
    http_errors: Arc<Group<Counter>>,
    tcp_errors: Arc<Group<Counter>>,
    http_routes: Arc<Group<InboundRouteMetrics>>,
    grpc_routes: Arc<Group<InboundRouteMetrics>>,
    detect: Arc<Group<DetectMetrics>>,
    transport_headers: Arc<Group<Counter>>,
}

/// Why the inbound side could not handle a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InboundError {
    /// Too many requests.
    LoadShed,
    /// The workload was not available in time.
    FailFast,
    /// No TLS ClientHello and nothing else in time.
    TlsDetectionTimeout,
    /// The gateway was asked for itself.
    GatewayLoop,
    /// The gateway was asked for a name it does not serve.
    GatewayDomainInvalid,
    /// A connection broke.
    Io,
    /// Anything else.
    Unexpected,
}

impl InboundError {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoadShed => "loadshed",
            Self::FailFast => "failfast",
            Self::TlsDetectionTimeout => "tls detection timeout",
            Self::GatewayLoop => "gateway loop",
            Self::GatewayDomainInvalid => "gateway domain invalid",
            Self::Io => "i/o",
            Self::Unexpected => "unexpected",
        }
    }
}

impl Inbound {
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
        Self {
            endpoints,
            transports,
            http_authz_allow: counters(&HTTP_AUTHZ_ALLOW),
            http_authz_deny: counters(&HTTP_AUTHZ_DENY),
            http_route_not_found: counters(&HTTP_ROUTE_NOT_FOUND),
            tcp_authz_allow: counters(&TCP_AUTHZ_ALLOW),
            tcp_authz_deny: counters(&TCP_AUTHZ_DENY),
            tcp_authz_terminate: counters(&TCP_AUTHZ_TERMINATE),
            http_errors: few(&HTTP_ERRORS),
            tcp_errors: counters(&TCP_ERRORS),
            http_routes: routes("inbound_http", &INBOUND_HTTP, InboundRouteMetrics::http),
            grpc_routes: routes("inbound_grpc", &INBOUND_GRPC, InboundRouteMetrics::grpc),
            detect: Arc::new(Group::new(
                "inbound_tcp_detect_http",
                &INBOUND_DETECT,
                sets_max,
                DetectMetrics::new,
            )),
            transport_headers: counters(&TRANSPORT_HEADERS),
        }
    }

    /// Requests that an authorization let through to the workload.
    pub fn endpoint(&self, labels: &InboundEndpoint) -> Arc<HttpMetrics> {
        self.endpoints.resolve(labels)
    }

    /// Connections from clients.
    pub fn transport(&self, labels: &InboundTransport) -> Arc<TransportMetrics> {
        self.transports.resolve(labels)
    }

    /// Connections to the workload.
    pub fn local_transport(&self) -> Arc<TransportMetrics> {
        self.transports.resolve(&LocalTransport)
    }

    /// Requests on a route.
    pub fn route(
        &self,
        protocol: RouteProtocol,
        labels: &InboundRoute,
    ) -> Arc<InboundRouteMetrics> {
        match protocol {
            RouteProtocol::Http => self.http_routes.resolve(labels),
            RouteProtocol::Grpc => self.grpc_routes.resolve(labels),
        }
    }

    /// Requests that were allowed: route and authorization are set.
    pub fn http_authz_allow(&self, labels: &AuthorizationLabels) -> Arc<Counter> {
        self.http_authz_allow.resolve(labels)
    }

    /// Requests that were denied: the route is set.
    pub fn http_authz_deny(&self, labels: &AuthorizationLabels) -> Arc<Counter> {
        self.http_authz_deny.resolve(labels)
    }

    /// Requests that no route matched.
    pub fn http_route_not_found(&self, labels: &AuthorizationLabels) -> Arc<Counter> {
        self.http_route_not_found.resolve(labels)
    }

    /// Connections that were allowed: the authorization is set.
    pub fn tcp_authz_allow(&self, labels: &AuthorizationLabels) -> Arc<Counter> {
        self.tcp_authz_allow.resolve(labels)
    }

    /// Connections that were denied.
    pub fn tcp_authz_deny(&self, labels: &AuthorizationLabels) -> Arc<Counter> {
        self.tcp_authz_deny.resolve(labels)
    }

    /// Connections that were ended because the policy no longer allows them.
    pub fn tcp_authz_terminate(&self, labels: &AuthorizationLabels) -> Arc<Counter> {
        self.tcp_authz_terminate.resolve(labels)
    }

    /// HTTP detection on a port.
    pub fn detect(&self, server: &ServerLabels) -> Arc<DetectMetrics> {
        self.detect.resolve(server)
    }

    /// Connections that came with a transport header.
    pub fn transport_header(&self, labels: &TransportHeaderLabels) -> Arc<Counter> {
        self.transport_headers.resolve(labels)
    }

    /// A request failed here. Takes a lock: for errors only.
    pub fn http_error(&self, error: InboundError) {
        let labels = Named([("error", error.as_str())]);
        self.http_errors.resolve(&labels).increment();
    }

    /// A connection failed here. Takes a lock: for errors only.
    pub fn tcp_error(&self, target_addr: SocketAddr, error: InboundError) {
        let labels = TargetError(target_addr, error.as_str());
        self.tcp_errors.resolve(&labels).increment();
    }

    /// Families of this side alone in Linkerd's old style, in the order of printing.
    pub(super) fn legacy_reports(&self) -> Vec<Arc<dyn Report>> {
        vec![
            self.http_authz_allow.clone(),
            self.http_authz_deny.clone(),
            self.http_route_not_found.clone(),
            self.tcp_authz_allow.clone(),
            self.tcp_authz_deny.clone(),
            self.tcp_authz_terminate.clone(),
            self.http_errors.clone(),
            self.tcp_errors.clone(),
        ]
    }

    /// Families in Linkerd's new style, in the order of printing.
    pub(super) fn open_reports(&self) -> Vec<Arc<dyn Report>> {
        vec![
            self.http_routes.clone(),
            self.grpc_routes.clone(),
            self.detect.clone(),
            self.transport_headers.clone(),
        ]
    }
}

static HTTP_AUTHZ_ALLOW: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "inbound_http_authz_allow_total",
    "The total number of inbound HTTP requests that were authorized",
)];
static HTTP_AUTHZ_DENY: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "inbound_http_authz_deny_total",
    "The total number of inbound HTTP requests that were denied",
)];
static HTTP_ROUTE_NOT_FOUND: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "inbound_http_route_not_found_total",
    "The total number of inbound HTTP requests that could not be associated with a route",
)];
static TCP_AUTHZ_ALLOW: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "inbound_tcp_authz_allow_total",
    "The total number of inbound TCP connections that were authorized",
)];
static TCP_AUTHZ_DENY: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "inbound_tcp_authz_deny_total",
    "The total number of inbound TCP connections that were denied",
)];
static TCP_AUTHZ_TERMINATE: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "inbound_tcp_authz_terminate_total",
    "The total number of inbound TCP connections that were terminated due to an authorization \
     change",
)];
static HTTP_ERRORS: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "inbound_http_errors_total",
    "The total number of inbound HTTP requests that could not be processed due to a proxy error",
)];
static TCP_ERRORS: [Family; 1] = [Family::legacy(
    Kind::Counter,
    "inbound_tcp_errors_total",
    "The total number of inbound TCP connections that could not be processed due to a proxy error",
)];
static TRANSPORT_HEADERS: [Family; 1] = [Family::open(
    Kind::Counter,
    "inbound_tcp_transport_header_connections",
    "TCP connections with transport headers",
)];
