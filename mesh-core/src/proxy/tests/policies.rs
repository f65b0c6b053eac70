//! Policies and endpoints as tests need them.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::model::client_policy::{
    Backend, ClientPolicy, ClientProtocol, ConnectionRule, Dispatcher, Distribution, HttpFilter,
    HttpRetryConditions, HttpRoute, HttpRoutes, Load, OpaqueRoute, OpaqueRoutes, Queue,
    RouteBackend, Rule, WeightedBackend,
};
use crate::model::endpoint::{Endpoint, ProtocolHint};
use crate::model::labels::Labels;
use crate::model::metadata::Metadata;
use crate::model::route::http::{HttpMatch, Timeouts};
use crate::model::server_policy::{
    Authentication, Authorization, IdentitySuffix, Network, ServerPolicy, ServerProtocol,
};
use crate::wire::tls::testing::server_tls;

pub(super) type HttpRule = Rule<HttpMatch, HttpFilter, HttpRetryConditions>;

/// A meshed endpoint whose proxy takes transport headers.
pub(super) fn meshed(address: &str, identity: &str) -> Endpoint {
    Endpoint { inbound_port: NonZeroU16::new(4143), ..transparent(address, identity) }
}

/// A meshed endpoint whose proxy takes redirected traffic alone.
pub(super) fn transparent(address: &str, identity: &str) -> Endpoint {
    Endpoint {
        tls: Some(server_tls(identity)),
        protocol_hint: ProtocolHint::Http2,
        ..unmeshed(address)
    }
}

/// An endpoint without a proxy.
pub(super) fn unmeshed(address: &str) -> Endpoint {
    Endpoint::new(address.parse::<SocketAddr>().unwrap())
}

/// The endpoints of a name.
pub(super) fn balance(path: &str) -> Backend {
    Backend {
        metadata: Metadata::new_default(path),
        queue: Queue { capacity: 100, failfast_timeout: Duration::from_secs(3) },
        dispatcher: Dispatcher::Balance {
            path: path.to_string(),
            load: Load::PeakEwma {
                default_rtt: Duration::from_millis(30),
                decay: Duration::from_secs(10),
            },
        },
    }
}

/// One endpoint.
pub(super) fn forward(endpoint: Endpoint) -> Backend {
    Backend { dispatcher: Dispatcher::Forward(endpoint), ..balance("forward") }
}

fn route_backend<F>(backend: &Arc<Backend>) -> RouteBackend<F> {
    RouteBackend { backend: backend.clone(), filters: vec![], request_timeout: None }
}

/// A rule for all requests.
pub(super) fn rule(backend: Backend) -> HttpRule {
    weighted_rule(vec![(1, backend)])
}

/// A rule that splits requests by weight.
pub(super) fn weighted_rule(backends: Vec<(u32, Backend)>) -> HttpRule {
    let weighted =
        |(weight, backend)| WeightedBackend { backend: route_backend(&Arc::new(backend)), weight };
    Rule {
        matches: vec![HttpMatch::default()],
        filters: vec![],
        backends: Distribution::RandomAvailable(backends.into_iter().map(weighted).collect()),
        timeouts: Timeouts::default(),
        retry: None,
        allow_l5d_request_headers: false,
    }
}

/// Routes with one rule.
pub(super) fn http_routes(rule: HttpRule) -> HttpRoutes {
    HttpRoutes {
        routes: vec![HttpRoute {
            metadata: Metadata::new_default("http"),
            hosts: vec![],
            rules: vec![rule],
        }],
        breaker: None,
    }
}

/// A route of bytes to a backend.
pub(super) fn opaque_routes(backend: Backend) -> OpaqueRoutes {
    OpaqueRoutes {
        routes: vec![OpaqueRoute {
            metadata: Metadata::new_default("opaque"),
            rules: vec![ConnectionRule {
                backends: Distribution::FirstAvailable(vec![route_backend(&Arc::new(backend))]),
                filters: vec![],
            }],
        }],
    }
}

/// A policy that detects what is spoken; HTTP goes by `http`, all else to `opaque`.
pub(super) fn detect(http: HttpRoutes, opaque: Backend) -> ClientPolicy {
    ClientPolicy {
        parent: Metadata::new_default("parent"),
        protocol: ClientProtocol::Detect {
            timeout: Duration::from_secs(10),
            http1: http.clone(),
            http2: http,
            opaque: opaque_routes(opaque),
        },
    }
}

/// A policy that detects what is spoken and sends it all to one backend.
pub(super) fn all_to(backend: Backend) -> ClientPolicy {
    detect(http_routes(rule(backend.clone())), backend)
}

/// A policy of bytes.
pub(super) fn opaque_to(backend: Backend) -> ClientPolicy {
    ClientPolicy {
        parent: Metadata::new_default("parent"),
        protocol: ClientProtocol::Opaque(opaque_routes(backend)),
    }
}

/// A port's policy.
pub(super) fn port(protocol: ServerProtocol, authorizations: Vec<Authorization>) -> ServerPolicy {
    ServerPolicy {
        server: Metadata::new_default("server"),
        protocol,
        authorizations,
        labels: Labels::default(),
    }
}

/// A port where what is spoken is detected.
pub(super) fn detecting() -> ServerProtocol {
    ServerProtocol::Detect { timeout: Duration::from_secs(10), routes: vec![], rate_limit: None }
}

/// Allows everybody.
pub(super) fn anybody() -> Authorization {
    authorization("anybody", Authentication::Unauthenticated)
}

/// Allows whoever is meshed.
pub(super) fn meshed_clients() -> Authorization {
    let any = IdentitySuffix { parts: vec![] };
    authorization(
        "meshed",
        Authentication::TlsAuthenticated { identities: vec![], suffixes: vec![any] },
    )
}

fn authorization(name: &str, authentication: Authentication) -> Authorization {
    let everywhere = |net: &str| Network { net: net.parse().unwrap(), except: vec![] };
    Authorization {
        metadata: Metadata::new_default(name),
        networks: vec![everywhere("0.0.0.0/0"), everywhere("::/0")],
        authentication,
        labels: Labels::default(),
    }
}
