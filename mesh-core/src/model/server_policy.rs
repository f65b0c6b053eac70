//! What a server's proxy does with traffic to one of its ports (`inbound.Server`).

use std::time::Duration;

use ipnet::IpNet;

use super::identity::Identity;
use super::labels::Labels;
use super::metadata::Metadata;
use super::route::HostMatch;
use super::route::grpc::{GrpcFailure, GrpcMatch};
use super::route::http::{HeaderModifier, HttpFailure, HttpMatch, Redirect};

/// The policy of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPolicy {
    /// The Server as an object, or a default.
    pub server: Metadata,
    /// What the port speaks.
    pub protocol: ServerProtocol,
    /// Who may use it. Nobody where empty.
    pub authorizations: Vec<Authorization>,
    /// Labels other than group, kind and name, as the control plane sent them.
    pub labels: Labels,
}

/// What a port speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerProtocol {
    /// Unknown: find out from the first bytes.
    Detect {
        /// How long to wait for them; then opaque.
        timeout: Duration,
        /// For HTTP; empty for the one that lets all pass.
        routes: Vec<ServerHttpRoute>,
        /// For HTTP.
        rate_limit: Option<RateLimit>,
    },
    /// HTTP/1; from meshed clients HTTP/2 may carry it.
    Http1(ServerHttpRoutes),
    /// HTTP/2.
    Http2(ServerHttpRoutes),
    /// gRPC.
    Grpc(Vec<ServerGrpcRoute>),
    /// Bytes, TLS not even looked for.
    Opaque,
    /// TLS that the application terminates.
    Tls,
}

/// Routes of an HTTP port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHttpRoutes {
    /// Routes, in no order of precedence.
    pub routes: Vec<ServerHttpRoute>,
    /// Limits requests.
    pub rate_limit: Option<RateLimit>,
}

/// A route of a port: authorizations beside the port's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRoute<M, F> {
    /// As an object.
    pub metadata: Metadata,
    /// Hosts; empty for all.
    pub hosts: Vec<HostMatch>,
    /// Who may use it, beside those whom the port allows.
    pub authorizations: Vec<Authorization>,
    /// Rules, in order.
    pub rules: Vec<ServerRule<M, F>>,
}

/// A rule of a route of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRule<M, F> {
    /// Matches, one of which must hold; empty for all requests.
    pub matches: Vec<M>,
    /// Filters, in order.
    pub filters: Vec<F>,
}

/// An HTTPRoute of a port.
pub type ServerHttpRoute = ServerRoute<HttpMatch, ServerHttpFilter>;

/// A GRPCRoute of a port.
pub type ServerGrpcRoute = ServerRoute<GrpcMatch, ServerGrpcFilter>;

/// A filter on HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerHttpFilter {
    /// Fails a share of requests.
    Failure(HttpFailure),
    /// Changes request headers.
    RequestHeaders(HeaderModifier),
    /// Redirects.
    Redirect(Redirect),
    /// A filter this proxy does not know: requests fail with 500.
    Unknown,
}

/// A filter on gRPC requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerGrpcFilter {
    /// Fails a share of requests.
    Failure(GrpcFailure),
    /// Changes request headers.
    RequestHeaders(HeaderModifier),
    /// A filter this proxy does not know: requests fail with INTERNAL.
    Unknown,
}

/// Allows clients that are in one of the networks and satisfy the authentication. There is no
/// denying: what nothing allows is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// As an object, or a default.
    pub metadata: Metadata,
    /// Where clients may be.
    pub networks: Vec<Network>,
    /// Who clients must be.
    pub authentication: Authentication,
    /// Labels other than group, kind and name, as the control plane sent them.
    pub labels: Labels,
}

/// Addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// These.
    pub net: IpNet,
    /// But not these.
    pub except: Vec<IpNet>,
}

/// Who a client must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Anybody.
    Unauthenticated,
    /// Anybody over mesh TLS, with or without a certificate.
    TlsUnauthenticated,
    /// A client with one of these identities, or below one of these suffixes.
    TlsAuthenticated {
        /// Whole identities.
        identities: Vec<Identity>,
        /// Suffixes.
        suffixes: Vec<IdentitySuffix>,
    },
}

/// A suffix of DNS identities: labels in order, without the leading `*`. Empty matches every one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentitySuffix {
    /// Labels.
    pub parts: Vec<String>,
}

/// Limits requests of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// As an object.
    pub metadata: Metadata,
    /// Of all clients together, in requests a second.
    pub total: Option<u32>,
    /// Of each identity, in requests a second; clients without one share one.
    pub identity: Option<u32>,
    /// For named clients instead of `identity`.
    pub overrides: Vec<RateLimitOverride>,
}

/// Another limit for named clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitOverride {
    /// Requests a second.
    pub requests_per_second: u32,
    /// Which clients.
    pub clients: Vec<Identity>,
}
