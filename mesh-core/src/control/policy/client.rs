//! Compiles what a client's proxy does with traffic to a destination.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::server::Refusal;
use crate::control::destination::endpoints;
use crate::control::index::{Instance, ServiceRef, View};
use crate::control::names;
use crate::control::protocol::{self, PortProtocol};
use crate::model::client_policy::{
    Backend, ClientPolicy, ClientProtocol, ConnectionFilter, ConnectionRule, Dispatcher,
    Distribution, FailureAccrual, GrpcFilter, GrpcRetryConditions, GrpcRoute, GrpcRoutes,
    HttpFilter, HttpRetryConditions, HttpRoute, HttpRoutes, OpaqueRoute, OpaqueRoutes, Queue,
    Retry, RouteBackend, Rule,
};
use crate::model::endpoint::{Endpoint, ProtocolHint};
use crate::model::metadata::Metadata;
use crate::model::route::grpc::{GrpcFailure, GrpcMatch};
use crate::model::route::http::{HttpFailure, HttpMatch, PathMatch, Timeouts};
use crate::model::target::Target;
use crate::resource::policy::TrafficPolicy;
use crate::resource::route::ParentRef;
use crate::resource::{EgressNetwork, Kind, ObjectRef, Service};

use super::client_route::{self, Routes};
use super::{annotation, egress, route};

/// How long detection waits for first bytes.
pub(in crate::control) const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const QUEUE: Queue = Queue { capacity: 100, failfast_timeout: Duration::from_secs(3) };

/// The policy of `target` for clients in `namespace`.
///
/// # Errors
/// [`Refusal::NotFound`] for names that are no service's. Every address has a policy: those that
/// nobody is known to have are forwarded to as they are.
pub fn compile(view: &View<'_>, namespace: &str, target: &Target) -> Result<ClientPolicy, Refusal> {
    let name = match target {
        Target::Address(address) => return Ok(of_address(view, namespace, *address)),
        Target::Name(name) => match name.as_address() {
            Some(address) => return Ok(of_address(view, namespace, address)),
            None => name,
        },
    };
    names::candidates(view.mesh, namespace, name.host())
        .into_iter()
        .find_map(|candidate| {
            let ServiceRef { namespace, name } = &candidate.service;
            let service = view.service(namespace, name).filter(|it| !is_external(it))?;
            Some((service, candidate.instance))
        })
        .map(|(service, instance)| {
            of_service(view, namespace, service, instance.as_deref(), name.port())
        })
        .ok_or_else(|| Refusal::NotFound(format!("{} is not a service", name.host())))
}

fn of_address(view: &View<'_>, client_namespace: &str, address: SocketAddr) -> ClientPolicy {
    if let Some(service) = view.service_at(address.ip()) {
        return of_service(view, client_namespace, service, None, address.port());
    }
    match view.instance_at(address) {
        Some((instance, port)) => of_instance(view, instance, address, port),
        None => of_unknown(view, client_namespace, address),
    }
}

/// `instance` is the one of a headless service that was asked for by name; routes are not for it.
fn of_service(
    view: &View<'_>,
    client_namespace: &str,
    service: &Service,
    instance: Option<&str>,
    port: u16,
) -> ClientPolicy {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let mut backend = client_route::balanced(view, namespace, name, port);
    let parent = backend.metadata.clone();
    let Some(service_port) = tcp_port(service, port) else {
        return undefined_port(parent);
    };
    let protocol = protocol::of_service_port(view, service, service_port);
    let mut routes = Routes::default();
    if let Some(instance) = instance {
        let host = view.mesh.service_name(namespace, name);
        let path = format!("{instance}.{host}:{port}");
        let dispatcher = Dispatcher::Balance { path, load: annotation::load(&service.metadata) };
        backend = Arc::new(Backend { dispatcher, ..Backend::clone(&backend) });
    } else {
        let own = service_ref(namespace, name);
        let is_port = |reference: &ParentRef| route::is_service_port(reference, service_port);
        let of = (&own, &service.metadata);
        routes = client_route::of_parent(view, client_namespace, of, is_port, &backend);
    }
    let defaults = Defaults::of(("http", "opaq"), &service.metadata);
    ClientPolicy { parent, protocol: with_routes(protocol, routes, &backend, defaults) }
}

/// A TCP port of a service.
pub(in crate::control) fn tcp_port(service: &Service, port: u16) -> Option<&ServicePort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter(|found| found.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
        .find(|found| found.port == i32::from(port))
}

fn service_ref(namespace: &str, name: &str) -> ObjectRef {
    let (namespace, name) = (namespace.to_string(), name.to_string());
    ObjectRef { kind: Kind::Service, namespace, name }
}

/// A connection to one instance goes to it, with its identity.
fn of_instance(
    view: &View<'_>,
    instance: Instance<'_>,
    address: SocketAddr,
    port: u16,
) -> ClientPolicy {
    let endpoint = endpoints::of_instance(view, instance, address, port);
    let protocol = match endpoint.protocol_hint {
        ProtocolHint::Opaque => PortProtocol::Opaque,
        _ => PortProtocol::Detect,
    };
    forward(endpoint, protocol)
}

fn of_unknown(view: &View<'_>, client_namespace: &str, address: SocketAddr) -> ClientPolicy {
    let protocol = if view.mesh.opaque_ports.contains(address.port()) {
        PortProtocol::Opaque
    } else {
        PortProtocol::Detect
    };
    match egress::network_of(view, client_namespace, address.ip()) {
        Some(network) => of_network(view, client_namespace, network, address, protocol),
        None => forward(Endpoint::new(address), protocol),
    }
}

/// What goes out of the cluster goes by the routes of its network, and what none of them is for by
/// the network's own policy.
fn of_network(
    view: &View<'_>,
    client_namespace: &str,
    network: &EgressNetwork,
    address: SocketAddr,
    protocol: PortProtocol,
) -> ClientPolicy {
    let parent = egress::metadata(network, address.port());
    let backend = Arc::new(Backend {
        metadata: parent.clone(),
        queue: QUEUE,
        dispatcher: Dispatcher::Forward(Endpoint::new(address)),
    });
    let own = ObjectRef {
        kind: Kind::EgressNetwork,
        namespace: network.metadata.namespace.clone().unwrap_or_default(),
        name: network.metadata.name.clone().unwrap_or_default(),
    };
    let is_port = |reference: &ParentRef| reference.port.is_none_or(|port| port == address.port());
    let of = (&own, &network.metadata);
    let mut routes = client_route::of_parent(view, client_namespace, of, is_port, &backend);
    let allows = network.spec.traffic_policy == TrafficPolicy::Allow;
    let names = match allows {
        true => ("http-egress-allow", "tcp-egress-allow"),
        false => ("http-egress-deny", "tcp-egress-deny"),
    };
    let defaults =
        Defaults { refuses: !allows, breaker: None, ..Defaults::of(names, &network.metadata) };
    if !routes.grpc.is_empty() {
        routes.grpc.push(default_grpc_route(&backend, &defaults));
    }
    if !routes.http.is_empty() {
        routes.http.push(default_route(&backend, &defaults));
    }
    ClientPolicy { parent, protocol: with_routes(protocol, routes, &backend, defaults) }
}

/// What holds where no route is.
struct Defaults {
    /// Names of the routes of HTTP and of bytes.
    names: (&'static str, &'static str),
    timeouts: Timeouts,
    http_retry: Option<Retry<HttpRetryConditions>>,
    grpc_retry: Option<Retry<GrpcRetryConditions>>,
    breaker: Option<FailureAccrual>,
    refuses: bool,
}

impl Defaults {
    fn of(names: (&'static str, &'static str), parent: &ObjectMeta) -> Self {
        Self {
            names,
            timeouts: annotation::timeouts(None, parent),
            http_retry: annotation::http_retry(None, parent),
            grpc_retry: annotation::grpc_retry(None, parent),
            breaker: annotation::breaker(parent),
            refuses: false,
        }
    }
}

fn forward(endpoint: Endpoint, protocol: PortProtocol) -> ClientPolicy {
    let metadata = Metadata::new_default("default");
    let backend = Arc::new(Backend {
        metadata: metadata.clone(),
        queue: QUEUE,
        dispatcher: Dispatcher::Forward(endpoint),
    });
    ClientPolicy {
        parent: metadata,
        protocol: with_routes(
            protocol,
            Routes::default(),
            &backend,
            Defaults::of(("default", "default"), &ObjectMeta::default()),
        ),
    }
}

/// A port that the service does not have is refused, as Linkerd does.
fn undefined_port(parent: Metadata) -> ClientPolicy {
    let route = OpaqueRoute {
        metadata: Metadata::new_default("undefined-port"),
        rules: vec![ConnectionRule {
            backends: Distribution::Empty,
            filters: vec![ConnectionFilter::Forbidden],
        }],
    };
    ClientPolicy { parent, protocol: ClientProtocol::Opaque(OpaqueRoutes { routes: vec![route] }) }
}

/// By `routes`, and where there are none all traffic to one backend. GRPCRoutes go before
/// HTTPRoutes, as in Linkerd.
fn with_routes(
    protocol: PortProtocol,
    routes: Routes,
    backend: &Arc<Backend>,
    defaults: Defaults,
) -> ClientProtocol {
    let Routes { http: own, grpc } = routes;
    let http = || HttpRoutes {
        routes: match own.is_empty() {
            true => vec![default_route(backend, &defaults)],
            false => own.clone(),
        },
        breaker: defaults.breaker.clone(),
    };
    let rule = match defaults.refuses {
        true => ConnectionRule {
            backends: Distribution::Empty,
            filters: vec![ConnectionFilter::Forbidden],
        },
        false => ConnectionRule { backends: only(backend), filters: Vec::new() },
    };
    let opaque = OpaqueRoutes {
        routes: vec![OpaqueRoute {
            metadata: Metadata::new_default(defaults.names.1),
            rules: vec![rule],
        }],
    };
    match protocol {
        PortProtocol::Detect | PortProtocol::Http2 if !grpc.is_empty() => {
            ClientProtocol::Grpc(GrpcRoutes { routes: grpc, breaker: defaults.breaker })
        }
        PortProtocol::Detect => {
            ClientProtocol::Detect { timeout: DETECT_TIMEOUT, http1: http(), http2: http(), opaque }
        }
        PortProtocol::Http1 => ClientProtocol::Http1(http()),
        PortProtocol::Http2 => ClientProtocol::Http2(http()),
        PortProtocol::Opaque => ClientProtocol::Opaque(opaque),
    }
}

fn default_route(backend: &Arc<Backend>, defaults: &Defaults) -> HttpRoute {
    let refusal = HttpFailure {
        status: StatusCode::FORBIDDEN,
        message: NOT_ALLOWED.to_string(),
        share: route::ALL,
    };
    HttpRoute {
        metadata: Metadata::new_default(defaults.names.0),
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![HttpMatch {
                path: Some(PathMatch::Prefix("/".to_string())),
                ..HttpMatch::default()
            }],
            filters: defaults.refuses.then_some(HttpFilter::Failure(refusal)).into_iter().collect(),
            backends: only(backend),
            timeouts: defaults.timeouts,
            retry: defaults.http_retry.clone(),
            allow_l5d_request_headers: false,
        }],
    }
}

fn default_grpc_route(backend: &Arc<Backend>, defaults: &Defaults) -> GrpcRoute {
    let refusal = GrpcFailure {
        code: GRPC_PERMISSION_DENIED,
        message: NOT_ALLOWED.to_string(),
        share: route::ALL,
    };
    GrpcRoute {
        metadata: Metadata::new_default(defaults.names.0),
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![GrpcMatch::default()],
            filters: defaults.refuses.then_some(GrpcFilter::Failure(refusal)).into_iter().collect(),
            backends: only(backend),
            timeouts: defaults.timeouts,
            retry: defaults.grpc_retry.clone(),
            allow_l5d_request_headers: false,
        }],
    }
}

/// What callers are told whom an EgressNetwork does not let out.
const NOT_ALLOWED: &str = "traffic not allowed";
/// gRPC's PERMISSION_DENIED.
const GRPC_PERMISSION_DENIED: u16 = 7;

fn only<F>(backend: &Arc<Backend>) -> Distribution<F> {
    Distribution::FirstAvailable(vec![RouteBackend {
        backend: backend.clone(),
        filters: Vec::new(),
        request_timeout: None,
    }])
}

/// An ExternalName service is a name of somewhere else: it has no endpoints here.
pub(in crate::control) fn is_external(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"))
}
