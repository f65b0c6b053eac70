//! What a proxy's metrics look like from outside.

mod laws;

use std::io;

use super::labels::*;
use super::metrics::*;
use super::*;
use crate::model::identity::Identity;
use crate::model::labels::Labels as ModelLabels;
use crate::model::metadata::{Metadata, ResourceRef};

fn telemetry() -> Telemetry {
    Telemetry::new(&TelemetryConfig::default())
}

/// The lines of the families named, without what is always there.
fn text(telemetry: &Telemetry, families: &[&str]) -> String {
    let text = telemetry.scrape(Timestamp::ZERO).into_text();
    let name = |line: &str| {
        let line = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        let line = line.trim_start_matches("# UNIT ");
        let end = line.find(['{', ' ']).unwrap_or(line.len());
        line[..end].to_string()
    };
    let wanted = |line: &&str| {
        let name = name(line);
        let suffixes = ["_total", "_bucket", "_sum", "_count"];
        let bare = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        families.contains(&name.as_str()) || bare.is_some_and(|bare| families.contains(&bare))
    };
    let lines: Vec<_> = text.lines().filter(wanted).collect();
    lines.join("\n")
}

fn identity(name: &str) -> Identity {
    Identity::new(name).unwrap()
}

fn object(group: &str, kind: &str, name: &str, port: u16) -> Metadata {
    Metadata::new_resource(ResourceRef {
        group: group.into(),
        kind: kind.into(),
        name: name.into(),
        namespace: "ns".into(),
        section: String::new(),
        port,
    })
}

fn server() -> ServerLabels {
    ServerLabels { server: object("policy.linkerd.io", "server", "web-http", 0), port: 8080 }
}

fn service() -> Metadata {
    object("core", "Service", "web", 80)
}

fn route() -> Metadata {
    object("gateway.networking.k8s.io", "HTTPRoute", "web", 0)
}

fn mesh_client() -> ServerTlsLabel {
    ServerTlsLabel::True {
        client_id: Some(identity("web.ns.serviceaccount.identity.linkerd.cluster.local")),
    }
}

fn outbound_endpoint() -> OutboundEndpoint {
    OutboundEndpoint {
        authority: Some("web.ns.svc.cluster.local:80".into()),
        target_addr: "10.0.0.1:8080".parse().unwrap(),
        tls: ClientTlsLabel::True {
            server_id: identity("web.ns.serviceaccount.identity.linkerd.cluster.local"),
        },
        labels: ModelLabels::from_iter([("pod", "web-1"), ("namespace", "ns"), ("a b", "no")]),
    }
}

fn inbound_endpoint() -> InboundEndpoint {
    InboundEndpoint {
        authority: None,
        target_addr: "10.0.0.2:8080".parse().unwrap(),
        tls: mesh_client(),
        server: server(),
        route: Metadata::new_default("default"),
        authorization: object("policy.linkerd.io", "authorizationpolicy", "all", 0),
    }
}

fn authorization(route: Option<Metadata>, authorization: Option<Metadata>) -> AuthorizationLabels {
    AuthorizationLabels {
        target_addr: "10.0.0.2:8080".parse().unwrap(),
        server: server(),
        route,
        authorization,
        tls: ServerTlsLabel::NoIdentity(NoServerTls::NoTlsFromRemote),
    }
}

fn success(status: u16, millis: u64) -> Response {
    Response {
        status: http::StatusCode::from_u16(status).ok(),
        classification: Classification::Success,
        grpc_status: None,
        error: None,
        latency: Duration::from_millis(millis),
    }
}

/// Counts in every family that there is.
pub(crate) fn with_everything() -> Telemetry {
    let telemetry = Telemetry::new(&TelemetryConfig {
        process: Some(Arc::new(FixedProcess)),
        ..TelemetryConfig::default()
    });
    let Telemetry { inbound, outbound, .. } = &telemetry;
    for endpoint in [
        inbound.endpoint(&inbound_endpoint()),
        outbound.endpoint(&outbound_endpoint()),
        telemetry.control.endpoint(&ControlLabels {
            addr: "policy.linkerd.svc.cluster.local:8090".into(),
            tls: ClientTlsLabel::NoIdentity(NoClientTls::Loopback),
        }),
    ] {
        endpoint.request();
        endpoint.response(&success(200, 3));
    }
    drop(inbound.local_transport().opened());
    drop(outbound.endpoint_transport(&outbound_endpoint()).opened());
    let (route_ref, authz) = (Some(route()), Some(service()));
    let allowed = authorization(route_ref.clone(), authz.clone());
    inbound.http_authz_allow(&allowed).increment();
    let denied = authorization(route_ref, None);
    inbound.http_authz_deny(&denied).increment();
    let unrouted = authorization(None, None);
    inbound.http_route_not_found(&unrouted).increment();
    inbound.tcp_authz_allow(&authorization(None, authz)).increment();
    inbound.tcp_authz_deny(&unrouted).increment();
    inbound.tcp_authz_terminate(&unrouted).increment();
    inbound.http_error(InboundError::GatewayLoop);
    inbound.tcp_error(unrouted.target_addr, InboundError::TlsDetectionTimeout);
    inbound.detect(&server()).detected(Detection::Http1, Duration::from_micros(500));
    let header = TransportHeaderLabels {
        session_protocol: "http/2",
        target_port: 8080,
        target_name: "".into(),
        client_id: identity("web.ns"),
    };
    inbound.transport_header(&header).increment();
    outbound.http_error(OutboundError::IdentityRequired);
    outbound.tcp_error(OutboundError::Io);
    count_routes(&telemetry);
    telemetry
        .control
        .certificate_refreshed(WallTime::from_unix_secs(1), WallTime::from_unix_secs(9));
    telemetry.control.certificate_failed();
    telemetry.control.resolved("policy", true);
    outbound.transfer_cost(Some("local"));
    telemetry.record_unenforced("http retry");
    spans::SpanQueue::new(&telemetry.spans);
    telemetry.spans.requested();
    telemetry
}

fn count_routes(telemetry: &Telemetry) {
    let Telemetry { inbound, outbound, .. } = telemetry;
    let end = StreamEnd { status: Some(0), error: None };
    let second = Duration::from_secs(1);
    let (parent, backend) = (service(), service());
    for protocol in [RouteProtocol::Http, RouteProtocol::Grpc] {
        let labels = InboundRoute { server: server(), route: route() };
        let metrics = inbound.route(protocol, &labels);
        metrics.request();
        metrics.request_frame(1);
        metrics.response_frame(1);
        metrics.ended(end, second, second);
        let metrics = outbound.route(protocol, &route_labels());
        metrics.retried();
        metrics.ended(end, second);
        let labels =
            RouteBackendLabels { parent: parent.clone(), route: route(), backend: backend.clone() };
        let metrics = outbound.route_backend(protocol, &labels);
        metrics.request();
        metrics.response_frame(1);
        metrics.ended(end, second);
    }
    let labels = BalancerLabels { parent: parent.clone(), backend };
    for protocol in [BalancerProtocol::Http, BalancerProtocol::Tcp, BalancerProtocol::Tls] {
        let balancer = outbound.balancer(protocol, &labels);
        balancer.updated(BalancerUpdate::Add, 3);
        balancer.endpoint_states(2, 1);
        balancer.queued().dispatched(Duration::from_millis(1));
        balancer.gate_timeout(Duration::from_secs(3));
    }
    let labels = ConnectionRouteLabels {
        parent: parent.clone(),
        route: route(),
        target_addr: "10.0.0.1:80".parse().unwrap(),
    };
    for protocol in [ConnectionProtocol::Tcp, ConnectionProtocol::Tls] {
        let metrics = outbound.connection_route(protocol, &labels);
        metrics.opened();
        metrics.closed(Some(RouteRefusal::Forbidden));
    }
    let protocol = OutboundProtocol::Http1;
    let labels = ProtocolLabels { protocol, parent: parent.clone() };
    outbound.protocol_connections(&labels).increment();
    outbound.detect(&ParentLabels(parent)).detected(Detection::ReadTimeout, second);
}

fn route_labels() -> RouteLabels {
    RouteLabels { parent: service(), route: route(), hostname: None }
}

struct FixedProcess;

impl ProcessStats for FixedProcess {
    fn sample(&self) -> Option<ProcessSample> {
        Some(ProcessSample {
            cpu: Duration::from_millis(1_250),
            resident_bytes: 5_000_000,
            virtual_bytes: 9_000_000,
            open_fds: 12,
            max_fds: 1024,
            threads: 1,
        })
    }
}

#[test]
fn requests_and_responses_have_linkerds_labels_in_its_order() {
    let telemetry = telemetry();
    let inbound = telemetry.inbound.endpoint(&inbound_endpoint());
    inbound.request();
    let outbound = telemetry.outbound.endpoint(&outbound_endpoint());
    outbound.request();
    outbound.response(&success(200, 7));
    outbound.response(&Response { grpc_status: Some(0), ..success(200, 60_000) });
    outbound.response(&Response {
        status: None,
        classification: Classification::Failure,
        grpc_status: None,
        error: Some(StreamError::Cancel),
        latency: Duration::ZERO,
    });
    insta::assert_snapshot!(text(&telemetry, &["request", "response"]), @r#"
    # HELP request_total Total count of HTTP requests.
    # TYPE request_total counter
    request_total{direction="inbound",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",tls="true",client_id="web.ns.serviceaccount.identity.linkerd.cluster.local",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080",route_group="",route_kind="default",route_name="default",authz_group="policy.linkerd.io",authz_kind="authorizationpolicy",authz_name="all"} 1
    request_total{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1"} 1
    # HELP response_total Total count of HTTP responses.
    # TYPE response_total counter
    response_total{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1",status_code="200",classification="success",grpc_status="",error=""} 1
    response_total{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1",status_code="200",classification="success",grpc_status="0",error=""} 1
    response_total{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1",classification="failure",grpc_status="",error="CANCEL"} 1
    "#);
    let latency = text(&telemetry, &["response_latency_ms"]);
    let lines = latency.lines().filter(|l| !l.contains("_bucket") || l.contains("=\"10\""));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
    # HELP response_latency_ms Elapsed times between a request's headers being received and its response stream completing
    # TYPE response_latency_ms histogram
    response_latency_ms_bucket{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1",status_code="200",le="10"} 1
    response_latency_ms_count{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1",status_code="200"} 2
    response_latency_ms_sum{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1",status_code="200"} 60007
    response_latency_ms_bucket{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1",le="10"} 1
    response_latency_ms_count{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1"} 1
    response_latency_ms_sum{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1"} 0
    "#);
}

#[test]
fn connections_are_counted_open_and_closed_with_their_error() {
    let telemetry = telemetry();
    let transport = telemetry.inbound.transport(&InboundTransport {
        target_addr: "[fd00::2]:8080".parse().unwrap(),
        tls: ServerTlsLabel::Opaque { sni: "example.com".into() },
        server: server(),
    });
    let open = transport.opened();
    let mut broken = transport.opened();
    broken.failed(&io::Error::from_raw_os_error(104));
    broken.failed(&io::Error::from(io::ErrorKind::BrokenPipe));
    drop(broken);
    drop(transport.opened());
    transport.read_bytes().fetch_add(10, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(transport.open_connections(), 1);
    let families = ["tcp_open", "tcp_open_connections", "tcp_read_bytes", "tcp_close"];
    insta::assert_snapshot!(text(&telemetry, &families), @r#"
    # HELP tcp_open_total Total count of opened connections
    # TYPE tcp_open_total counter
    tcp_open_total{direction="inbound",peer="src",target_addr="[fd00::2]:8080",target_ip="fd00::2",target_port="8080",tls="opaque",sni="example.com",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080"} 3
    # HELP tcp_open_connections Number of currently-open connections
    # TYPE tcp_open_connections gauge
    tcp_open_connections{direction="inbound",peer="src",target_addr="[fd00::2]:8080",target_ip="fd00::2",target_port="8080",tls="opaque",sni="example.com",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080"} 1
    # HELP tcp_read_bytes_total Total count of bytes read from peers
    # TYPE tcp_read_bytes_total counter
    tcp_read_bytes_total{direction="inbound",peer="src",target_addr="[fd00::2]:8080",target_ip="fd00::2",target_port="8080",tls="opaque",sni="example.com",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080"} 10
    # HELP tcp_close_total Total count of closed connections
    # TYPE tcp_close_total counter
    tcp_close_total{direction="inbound",peer="src",target_addr="[fd00::2]:8080",target_ip="fd00::2",target_port="8080",tls="opaque",sni="example.com",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080",errno="ECONNRESET"} 1
    tcp_close_total{direction="inbound",peer="src",target_addr="[fd00::2]:8080",target_ip="fd00::2",target_port="8080",tls="opaque",sni="example.com",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080",errno=""} 1
    "#);
    drop(open);
    assert_eq!(transport.open_connections(), 0);
}

#[test]
fn decisions_name_server_route_and_authorization() {
    let families = [
        "inbound_http_authz_allow",
        "inbound_http_authz_deny",
        "inbound_http_route_not_found",
        "inbound_tcp_authz_allow",
        "inbound_tcp_authz_terminate",
        "inbound_tcp_errors",
        "inbound_http_errors",
        "outbound_http_errors",
    ];
    insta::assert_snapshot!(text(&with_everything(), &families), @r#"
    # HELP inbound_http_authz_allow_total The total number of inbound HTTP requests that were authorized
    # TYPE inbound_http_authz_allow_total counter
    inbound_http_authz_allow_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_name="web",authz_group="core",authz_kind="Service",authz_name="web",tls="no_identity",no_tls_reason="no_tls_from_remote"} 1
    # HELP inbound_http_authz_deny_total The total number of inbound HTTP requests that were denied
    # TYPE inbound_http_authz_deny_total counter
    inbound_http_authz_deny_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_name="web",tls="no_identity",no_tls_reason="no_tls_from_remote"} 1
    # HELP inbound_http_route_not_found_total The total number of inbound HTTP requests that could not be associated with a route
    # TYPE inbound_http_route_not_found_total counter
    inbound_http_route_not_found_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080",tls="no_identity",no_tls_reason="no_tls_from_remote"} 1
    # HELP inbound_tcp_authz_allow_total The total number of inbound TCP connections that were authorized
    # TYPE inbound_tcp_authz_allow_total counter
    inbound_tcp_authz_allow_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080",authz_group="core",authz_kind="Service",authz_name="web",tls="no_identity",no_tls_reason="no_tls_from_remote"} 1
    # HELP inbound_tcp_authz_terminate_total The total number of inbound TCP connections that were terminated due to an authorization change
    # TYPE inbound_tcp_authz_terminate_total counter
    inbound_tcp_authz_terminate_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="policy.linkerd.io",srv_kind="server",srv_name="web-http",srv_port="8080",tls="no_identity",no_tls_reason="no_tls_from_remote"} 1
    # HELP inbound_http_errors_total The total number of inbound HTTP requests that could not be processed due to a proxy error
    # TYPE inbound_http_errors_total counter
    inbound_http_errors_total{error="gateway loop"} 1
    # HELP inbound_tcp_errors_total The total number of inbound TCP connections that could not be processed due to a proxy error
    # TYPE inbound_tcp_errors_total counter
    inbound_tcp_errors_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",error="tls detection timeout"} 1
    # HELP outbound_http_errors_total The total number of outbound HTTP requests that could not be processed due to a proxy error
    # TYPE outbound_http_errors_total counter
    outbound_http_errors_total{error="identity required"} 1
    "#);
}

#[test]
fn routes_and_backends_are_printed_as_prometheus_client_does() {
    let telemetry = telemetry();
    let route = telemetry.outbound.route(RouteProtocol::Http, &route_labels());
    route.ended(StreamEnd { status: Some(200), error: None }, Duration::from_millis(50));
    route.ended(
        StreamEnd { status: None, error: Some(StreamError::FailFast) },
        Duration::from_secs(3),
    );
    let families =
        ["outbound_http_route_request_duration_seconds", "outbound_http_route_request_statuses"];
    insta::assert_snapshot!(text(&telemetry, &families), @r#"
    # HELP outbound_http_route_request_duration_seconds The time between request initialization and response completion.
    # TYPE outbound_http_route_request_duration_seconds histogram
    outbound_http_route_request_duration_seconds_sum{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",hostname=""} 3.05
    outbound_http_route_request_duration_seconds_count{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",hostname=""} 2
    outbound_http_route_request_duration_seconds_bucket{le="0.05",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",hostname=""} 1
    outbound_http_route_request_duration_seconds_bucket{le="0.5",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",hostname=""} 1
    outbound_http_route_request_duration_seconds_bucket{le="1.0",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",hostname=""} 1
    outbound_http_route_request_duration_seconds_bucket{le="10.0",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",hostname=""} 2
    outbound_http_route_request_duration_seconds_bucket{le="+Inf",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",hostname=""} 2
    # HELP outbound_http_route_request_statuses_total Completed request-response streams.
    # TYPE outbound_http_route_request_statuses_total counter
    outbound_http_route_request_statuses_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",hostname="",http_status="200",error=""} 1
    outbound_http_route_request_statuses_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",hostname="",http_status="",error="FAIL_FAST"} 1
    "#);
    let families = [
        "outbound_grpc_route_backend_requests",
        "outbound_grpc_route_backend_response_statuses",
        "outbound_tcp_route_close",
        "outbound_tcp_protocol_connections",
        "outbound_http_balancer_endpoints",
        "outbound_http_balancer_p2c_updates",
        "outbound_http_balancer_queue_gate_timeout_seconds",
        "inbound_tcp_transport_header_connections",
        "outbound_tcp_detect_http_results",
    ];
    insta::assert_snapshot!(text(&with_everything(), &families), @r#"
    # HELP inbound_tcp_transport_header_connections_total TCP connections with transport headers.
    # TYPE inbound_tcp_transport_header_connections_total counter
    inbound_tcp_transport_header_connections_total{session_protocol="http/2",target_port="8080",target_name="",client_id="web.ns"} 1
    # HELP outbound_grpc_route_backend_requests_total The total number of requests dispatched.
    # TYPE outbound_grpc_route_backend_requests_total counter
    outbound_grpc_route_backend_requests_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name=""} 1
    # HELP outbound_grpc_route_backend_response_statuses_total Completed responses.
    # TYPE outbound_grpc_route_backend_response_statuses_total counter
    outbound_grpc_route_backend_response_statuses_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name="",grpc_status="OK",error=""} 1
    # HELP outbound_http_balancer_endpoints The number of endpoints in each state.
    # TYPE outbound_http_balancer_endpoints gauge
    outbound_http_balancer_endpoints{endpoint_state="ready",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name=""} 2
    outbound_http_balancer_endpoints{endpoint_state="pending",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name=""} 1
    # HELP outbound_http_balancer_p2c_updates_total The total number of service discovery updates received by a balancer.
    # TYPE outbound_http_balancer_p2c_updates_total counter
    outbound_http_balancer_p2c_updates_total{op="Reset",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name=""} 0
    outbound_http_balancer_p2c_updates_total{op="Add",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name=""} 1
    outbound_http_balancer_p2c_updates_total{op="Remove",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name=""} 0
    outbound_http_balancer_p2c_updates_total{op="DoesNotExist",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name=""} 0
    # HELP outbound_http_balancer_queue_gate_timeout_seconds How long a queue may be unavailable before its gate shuts.
    # TYPE outbound_http_balancer_queue_gate_timeout_seconds gauge
    outbound_http_balancer_queue_gate_timeout_seconds{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name=""} 3.0
    # HELP outbound_tcp_protocol_connections_total Outbound TCP connections by protocol.
    # TYPE outbound_tcp_protocol_connections_total counter
    outbound_tcp_protocol_connections_total{protocol="http/1",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name=""} 1
    # HELP outbound_tcp_route_close_total The number of connections closed.
    # TYPE outbound_tcp_route_close_total counter
    outbound_tcp_route_close_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",target_ip="10.0.0.1",target_port="80",error=""} 0
    outbound_tcp_route_close_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",target_ip="10.0.0.1",target_port="80",error="forbidden"} 1
    outbound_tcp_route_close_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",target_ip="10.0.0.1",target_port="80",error="invalid_backend"} 0
    outbound_tcp_route_close_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",target_ip="10.0.0.1",target_port="80",error="invalid_policy"} 0
    outbound_tcp_route_close_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="HTTPRoute",route_namespace="ns",route_name="web",target_ip="10.0.0.1",target_port="80",error="unexpected"} 0
    # HELP outbound_tcp_detect_http_results_total Protocol detection results.
    # TYPE outbound_tcp_detect_http_results_total counter
    outbound_tcp_detect_http_results_total{result="NotHttp",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name=""} 0
    outbound_tcp_detect_http_results_total{result="Http1",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name=""} 0
    outbound_tcp_detect_http_results_total{result="H2",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name=""} 0
    outbound_tcp_detect_http_results_total{result="ReadTimeout",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name=""} 1
    outbound_tcp_detect_http_results_total{result="Error",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name=""} 0
    "#);
}

#[test]
fn the_process_and_the_certificate_are_described() {
    let families = [
        "control_request",
        "control_identity_cert_expiration_timestamp_seconds",
        "control_identity_cert_refreshes",
        "process_cpu_seconds",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "rustls_info",
        "weft_policy_unenforced",
    ];
    insta::assert_snapshot!(text(&with_everything(), &families), @r#"
    # HELP control_request_total Total count of HTTP requests.
    # TYPE control_request_total counter
    control_request_total{addr="policy.linkerd.svc.cluster.local:8090",tls="no_identity",no_tls_reason="loopback"} 1
    # HELP control_identity_cert_expiration_timestamp_seconds Time when this proxy's current mTLS identity certificate will expire (in seconds since the UNIX epoch).
    # TYPE control_identity_cert_expiration_timestamp_seconds gauge
    control_identity_cert_expiration_timestamp_seconds 9.0
    # HELP control_identity_cert_refreshes_total The total number of times this proxy's mTLS identity certificate was asked for.
    # TYPE control_identity_cert_refreshes_total counter
    control_identity_cert_refreshes_total{result="error"} 1
    control_identity_cert_refreshes_total{result="ok"} 1
    # HELP weft_policy_unenforced_total Parts of policies that were understood but are not enforced by this proxy.
    # TYPE weft_policy_unenforced_total counter
    weft_policy_unenforced_total{feature="http retry"} 1
    # HELP process_start_time_seconds Time that the process started (in seconds since the UNIX epoch)
    # TYPE process_start_time_seconds gauge
    process_start_time_seconds 0
    # HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
    # TYPE process_cpu_seconds_total counter
    process_cpu_seconds_total 1.25
    # HELP process_resident_memory_bytes Resident memory size in bytes.
    # TYPE process_resident_memory_bytes gauge
    process_resident_memory_bytes 5000000
    # HELP rustls_info Proxy TLS info.
    # TYPE rustls_info gauge
    rustls_info{tls_suites="",tls_kx_groups="",tls_rand="",tls_key_provider="",tls_fips="false"} 1
    "#);
}
