//! Compiles what a client's proxy does with traffic to a destination.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ServicePort;

use crate::api::server::Refusal;
use crate::control::destination::endpoints;
use crate::control::index::{Instance, ServiceRef, View};
use crate::control::names;
use crate::control::protocol::{self, PortProtocol};
use crate::model::client_policy::{
    Backend, ClientPolicy, ClientProtocol, ConnectionFilter, ConnectionRule, Dispatcher,
    Distribution, GrpcRoutes, HttpRoute, HttpRoutes, Load, OpaqueRoute, OpaqueRoutes, Queue,
    RouteBackend, Rule,
};
use crate::model::endpoint::{Endpoint, ProtocolHint};
use crate::model::metadata::Metadata;
use crate::model::route::http::{HttpMatch, PathMatch, Timeouts};
use crate::model::target::Target;
use crate::resource::{Kind, ObjectRef, Service};

use super::client_route::{self, Routes};

/// How long detection waits for first bytes.
pub(in crate::control) const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const QUEUE: Queue = Queue { capacity: 100, failfast_timeout: Duration::from_secs(3) };

pub(super) const LOAD: Load =
    Load::PeakEwma { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10) };

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
        Some(instance) => of_instance(view, instance, address),
        None => of_unknown(view, address),
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
        let dispatcher = Dispatcher::Balance { path, load: LOAD };
        backend = Arc::new(Backend { dispatcher, ..Backend::clone(&backend) });
    } else {
        let own = service_ref(namespace, name);
        routes =
            client_route::of_service(view, client_namespace, &own, service, service_port, &backend);
    }
    let timeouts = client_route::annotated_timeouts(&service.metadata);
    let names = ("http", "opaq");
    ClientPolicy { parent, protocol: with_routes(protocol, routes, &backend, names, timeouts) }
}

/// A TCP port of a service.
pub(super) fn tcp_port(service: &Service, port: u16) -> Option<&ServicePort> {
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
fn of_instance(view: &View<'_>, instance: Instance<'_>, address: SocketAddr) -> ClientPolicy {
    let endpoint = endpoints::of_instance(view, instance, address);
    let protocol = match endpoint.protocol_hint {
        ProtocolHint::Opaque => PortProtocol::Opaque,
        _ => PortProtocol::Detect,
    };
    forward(endpoint, protocol)
}

fn of_unknown(view: &View<'_>, address: SocketAddr) -> ClientPolicy {
    let protocol = if view.mesh.opaque_ports.contains(address.port()) {
        PortProtocol::Opaque
    } else {
        PortProtocol::Detect
    };
    forward(Endpoint::new(address), protocol)
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
            ("default", "default"),
            Timeouts::default(),
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

/// By `routes`, and where there are none all traffic to one backend, by routes named
/// `(http, opaque)`. GRPCRoutes go before HTTPRoutes, as in Linkerd.
fn with_routes(
    protocol: PortProtocol,
    routes: Routes,
    backend: &Arc<Backend>,
    (http, opaque): (&str, &str),
    timeouts: Timeouts,
) -> ClientProtocol {
    let Routes { http: own, grpc } = routes;
    let http = || HttpRoutes {
        routes: match own.is_empty() {
            true => vec![default_route(http, backend, timeouts)],
            false => own.clone(),
        },
        breaker: None,
    };
    let opaque = OpaqueRoutes {
        routes: vec![OpaqueRoute {
            metadata: Metadata::new_default(opaque),
            rules: vec![ConnectionRule { backends: only(backend), filters: Vec::new() }],
        }],
    };
    match protocol {
        PortProtocol::Detect | PortProtocol::Http2 if !grpc.is_empty() => {
            ClientProtocol::Grpc(GrpcRoutes { routes: grpc, breaker: None })
        }
        PortProtocol::Detect => {
            ClientProtocol::Detect { timeout: DETECT_TIMEOUT, http1: http(), http2: http(), opaque }
        }
        PortProtocol::Http1 => ClientProtocol::Http1(http()),
        PortProtocol::Http2 => ClientProtocol::Http2(http()),
        PortProtocol::Opaque => ClientProtocol::Opaque(opaque),
    }
}

fn default_route(name: &str, backend: &Arc<Backend>, timeouts: Timeouts) -> HttpRoute {
    HttpRoute {
        metadata: Metadata::new_default(name),
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![HttpMatch {
                path: Some(PathMatch::Prefix("/".to_string())),
                ..HttpMatch::default()
            }],
            filters: Vec::new(),
            backends: only(backend),
            timeouts,
            retry: None,
            allow_l5d_request_headers: false,
        }],
    }
}

fn only<F>(backend: &Arc<Backend>) -> Distribution<F> {
    Distribution::FirstAvailable(vec![RouteBackend {
        backend: backend.clone(),
        filters: Vec::new(),
        request_timeout: None,
    }])
}

/// An ExternalName service is a name of somewhere else: it has no endpoints here.
pub(super) fn is_external(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"))
}
