//! Compiles what a client's proxy does with traffic to a destination.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::api::server::Refusal;
use crate::control::destination::endpoints;
use crate::control::index::{Instance, ServiceRef, View};
use crate::control::names;
use crate::control::protocol::{self, PortProtocol};
use crate::model::client_policy::{
    Backend, ClientPolicy, ClientProtocol, ConnectionFilter, ConnectionRule, Dispatcher,
    Distribution, HttpRoute, HttpRoutes, Load, OpaqueRoute, OpaqueRoutes, Queue, RouteBackend,
    Rule,
};
use crate::model::endpoint::{Endpoint, ProtocolHint};
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::route::http::{HttpMatch, PathMatch, Timeouts};
use crate::model::target::Target;
use crate::resource::Service;

/// How long detection waits for first bytes.
pub(in crate::control) const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

const QUEUE: Queue = Queue { capacity: 100, failfast_timeout: Duration::from_secs(3) };

const LOAD: Load =
    Load::PeakEwma { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10) };

/// The policy of `target` for clients in `namespace`.
///
/// # Errors
/// [`Refusal::NotFound`] for names that are no service's. Every address has a policy: those that
/// nobody is known to have are forwarded to as they are.
pub fn compile(view: &View<'_>, namespace: &str, target: &Target) -> Result<ClientPolicy, Refusal> {
    let name = match target {
        Target::Address(address) => return Ok(of_address(view, *address)),
        Target::Name(name) => match name.as_address() {
            Some(address) => return Ok(of_address(view, address)),
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
        .map(|(service, instance)| of_service(view, service, instance.as_deref(), name.port()))
        .ok_or_else(|| Refusal::NotFound(format!("{} is not a service", name.host())))
}

fn of_address(view: &View<'_>, address: SocketAddr) -> ClientPolicy {
    if let Some(service) = view.service_at(address.ip()) {
        return of_service(view, service, None, address.port());
    }
    match view.instance_at(address) {
        Some(instance) => of_instance(view, instance, address),
        None => of_unknown(view, address),
    }
}

/// `instance` is the one of a headless service that was asked for by name.
fn of_service(
    view: &View<'_>,
    service: &Service,
    instance: Option<&str>,
    port: u16,
) -> ClientPolicy {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let parent = Metadata::new_resource(ResourceRef {
        group: "core".to_string(),
        kind: "Service".to_string(),
        name: name.to_string(),
        namespace: namespace.to_string(),
        section: String::new(),
        port,
    });
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let Some(service_port) = ports
        .filter(|found| found.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
        .find(|found| found.port == i32::from(port))
    else {
        return undefined_port(parent);
    };
    let host = view.mesh.service_name(namespace, name);
    let backend = Arc::new(Backend {
        metadata: parent.clone(),
        queue: QUEUE,
        dispatcher: Dispatcher::Balance {
            path: match instance {
                Some(instance) => format!("{instance}.{host}:{port}"),
                None => format!("{host}:{port}"),
            },
            load: LOAD,
        },
    });
    let protocol = protocol::of_service_port(view, service, service_port);
    ClientPolicy { parent, protocol: with_default_routes(protocol, &backend, "http", "opaq") }
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
        protocol: with_default_routes(protocol, &backend, "default", "default"),
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

/// All traffic to one backend, by routes of the given names.
fn with_default_routes(
    protocol: PortProtocol,
    backend: &Arc<Backend>,
    http: &str,
    opaque: &str,
) -> ClientProtocol {
    let http = || HttpRoutes {
        routes: vec![HttpRoute {
            metadata: Metadata::new_default(http),
            hosts: Vec::new(),
            rules: vec![Rule {
                matches: vec![HttpMatch {
                    path: Some(PathMatch::Prefix("/".to_string())),
                    ..HttpMatch::default()
                }],
                filters: Vec::new(),
                backends: only(backend),
                timeouts: Timeouts::default(),
                retry: None,
                allow_l5d_request_headers: false,
            }],
        }],
        breaker: None,
    };
    let opaque = OpaqueRoutes {
        routes: vec![OpaqueRoute {
            metadata: Metadata::new_default(opaque),
            rules: vec![ConnectionRule { backends: only(backend), filters: Vec::new() }],
        }],
    };
    match protocol {
        PortProtocol::Detect => {
            ClientProtocol::Detect { timeout: DETECT_TIMEOUT, http1: http(), http2: http(), opaque }
        }
        PortProtocol::Http1 => ClientProtocol::Http1(http()),
        PortProtocol::Http2 => ClientProtocol::Http2(http()),
        PortProtocol::Opaque => ClientProtocol::Opaque(opaque),
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
fn is_external(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"))
}
