//! Compiles what a server's proxy does with traffic to one of its ports.

use crate::api::server::Refusal;
use crate::control::index::{Instance, View};
use crate::control::protocol;
use crate::control::select::server_of;
use crate::model::labels::Labels;
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::route::http::{HttpMatch, PathMatch};
use crate::model::server_policy::{
    Authentication, Authorization, ServerGrpcRoute, ServerHttpRoute, ServerHttpRoutes,
    ServerPolicy, ServerProtocol, ServerRule,
};
use crate::resource::Server;
use crate::resource::check::{DEFAULT_INBOUND_POLICY, REQUIRE_IDENTITY_PORTS};
use crate::resource::policy::{DefaultPolicy, ProxyProtocol};

use super::authorization;
use super::client::DETECT_TIMEOUT;
use super::rate_limit;
use super::server_route::{self, Routes};

/// The policy of `port` of an instance.
///
/// # Errors
/// [`Refusal::NotFound`] where there is no such instance.
pub fn compile(
    view: &View<'_>,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<ServerPolicy, Refusal> {
    let instance = view.instance(namespace, name).ok_or_else(|| {
        Refusal::NotFound(format!("there is no pod or workload {namespace}/{name}"))
    })?;
    Ok(match server_of(view, instance, port) {
        Some(server) => of_server(view, instance, server, port),
        None => of_default(view, instance, port),
    })
}

fn of_server(view: &View<'_>, instance: Instance<'_>, server: &Server, port: u16) -> ServerPolicy {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let mut authorizations = vec![authorization::localhost()];
    authorizations.extend(authorization::of_server(view, instance.namespace(), name));
    let older = authorization::of_server_authorizations(view, instance.namespace(), server);
    authorizations.extend(older);
    // What no AuthorizationPolicy allows is for the access policy to allow, `audit` above all.
    let access = server.spec.access_policy.as_deref();
    let access = access.and_then(|policy| policy.parse().ok());
    authorizations
        .extend(authorization::of_default(view.mesh, access.unwrap_or(DefaultPolicy::Deny)));
    let Routes { http, grpc } = server_route::of_server(view, server);
    // Where a Server has routes, they are all there is: what they do not match is not found, and
    // probes need a route and an authorization of their own, as in Linkerd.
    let routes = || if http.is_empty() { http_routes(view, instance, port) } else { http };
    let grpc = || if grpc.is_empty() { vec![all_grpc()] } else { grpc };
    let rate_limit = rate_limit::of_server(view, server);
    let protocol = match server.spec.proxy_protocol.unwrap_or_default() {
        ProxyProtocol::Unknown => {
            ServerProtocol::Detect { timeout: DETECT_TIMEOUT, routes: routes(), rate_limit }
        }
        ProxyProtocol::Http1 => {
            ServerProtocol::Http1(ServerHttpRoutes { routes: routes(), rate_limit })
        }
        ProxyProtocol::Http2 => {
            ServerProtocol::Http2(ServerHttpRoutes { routes: routes(), rate_limit })
        }
        ProxyProtocol::Grpc => ServerProtocol::Grpc(grpc()),
        ProxyProtocol::Opaque => ServerProtocol::Opaque,
        ProxyProtocol::Tls => ServerProtocol::Tls,
    };
    ServerPolicy {
        server: Metadata::new_resource(ResourceRef {
            group: "policy.linkerd.io".to_string(),
            // Lower case, as Linkerd's metrics have it.
            kind: "server".to_string(),
            name: name.to_string(),
            ..ResourceRef::default()
        }),
        protocol,
        authorizations,
        labels: Labels::default(),
    }
}

fn of_default(view: &View<'_>, instance: Instance<'_>, port: u16) -> ServerPolicy {
    let policy = default_policy(view, instance, port);
    let mut authorizations = vec![authorization::localhost()];
    authorizations.extend(authorization::of_default(view.mesh, policy));
    let protocol = if protocol::is_opaque_by_annotation(view, instance, port) {
        ServerProtocol::Opaque
    } else {
        ServerProtocol::Detect {
            timeout: DETECT_TIMEOUT,
            routes: http_routes(view, instance, port),
            rate_limit: None,
        }
    };
    ServerPolicy {
        server: Metadata::new_default(policy.as_str()),
        protocol,
        authorizations,
        labels: Labels::default(),
    }
}

/// The instance's annotation, or its namespace's, or the mesh's default. What is written wrongly
/// denies: whoever wrote it meant a restriction.
fn default_policy(view: &View<'_>, instance: Instance<'_>, port: u16) -> DefaultPolicy {
    default_policy_because(view, instance, port).0
}

/// What says which default policy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum DefaultBecause {
    /// The instance's annotation.
    Instance,
    /// Its namespace's.
    Namespace,
    /// The mesh's default.
    Mesh,
}

/// The default policy of a port that no Server selects, and what says so.
pub(in crate::control) fn default_policy_because(
    view: &View<'_>,
    instance: Instance<'_>,
    port: u16,
) -> (DefaultPolicy, DefaultBecause) {
    let of_namespace = |name| protocol::of_namespace(view, instance.namespace(), name);
    let annotated = |name| instance.annotation(name).or_else(|| of_namespace(name));
    let read = |text: &str| text.parse().unwrap_or(DefaultPolicy::Deny);
    let own = instance.annotation(DEFAULT_INBOUND_POLICY);
    let (policy, because) = match own {
        Some(text) => (read(text), DefaultBecause::Instance),
        None => match of_namespace(DEFAULT_INBOUND_POLICY) {
            Some(text) => (read(text), DefaultBecause::Namespace),
            None => (view.mesh.default_inbound_policy, DefaultBecause::Mesh),
        },
    };
    let named = |name: &str| instance.port_named(name);
    let requires_identity = annotated(REQUIRE_IDENTITY_PORTS)
        .is_some_and(|ports| protocol::read_ports(ports, named).contains(port));
    let policy = match policy {
        DefaultPolicy::AllUnauthenticated if requires_identity => DefaultPolicy::AllAuthenticated,
        DefaultPolicy::ClusterUnauthenticated if requires_identity => {
            DefaultPolicy::ClusterAuthenticated
        }
        policy => policy,
    };
    (policy, because)
}

/// The route of everything, and before it that of the kubelet's probes, who are not meshed.
fn http_routes(view: &View<'_>, instance: Instance<'_>, port: u16) -> Vec<ServerHttpRoute> {
    let all = ServerHttpRoute {
        metadata: Metadata::new_default("default"),
        hosts: Vec::new(),
        authorizations: Vec::new(),
        rules: vec![ServerRule {
            matches: vec![HttpMatch {
                path: Some(PathMatch::Prefix("/".to_string())),
                ..HttpMatch::default()
            }],
            filters: Vec::new(),
        }],
    };
    let probe_paths = instance.probe_paths(port);
    if probe_paths.is_empty() || view.mesh.probe_networks.is_empty() {
        return vec![all];
    }
    let matches = probe_paths.into_iter().map(|path| HttpMatch {
        path: Some(PathMatch::Exact(path)),
        method: Some(http::Method::GET),
        ..HttpMatch::default()
    });
    let probes = ServerHttpRoute {
        metadata: Metadata::new_default("probe"),
        hosts: Vec::new(),
        authorizations: vec![Authorization {
            metadata: Metadata::new_default("probe"),
            networks: authorization::networks(&view.mesh.probe_networks),
            authentication: Authentication::Unauthenticated,
            labels: Labels::default(),
        }],
        rules: vec![ServerRule { matches: matches.collect(), filters: Vec::new() }],
    };
    vec![probes, all]
}

fn all_grpc() -> ServerGrpcRoute {
    ServerGrpcRoute {
        metadata: Metadata::new_default("default"),
        hosts: Vec::new(),
        authorizations: Vec::new(),
        rules: vec![ServerRule { matches: vec![Default::default()], filters: Vec::new() }],
    }
}
