//! Selects the route and rule that a request or connection follows.
//!
//! Precedence is Gateway API's, where it leaves a choice Linkerd's. Of all rules of all routes
//! that match, in this order:
//! 1. host: exact, then the longest suffix, then routes for all hosts;
//! 2. HTTP: the most characters of the path, of which an exact match or a regular expression
//!    covers all and a prefix its own; where equally many, an exact match; then a match on the
//!    method; then the most headers; then the most query parameters.
//!    gRPC: the longest service, then the longest method, then the most headers;
//! 3. the first in the order given: the control plane sorts by age and name.
//!
//! Law: no allocation, except where a query parameter must be percent-decoded for a regular
//! expression. Nothing is changed and nothing is precomputed: a policy has few rules.

mod host;
mod request;

use http::request::Parts;
use http::{HeaderMap, Method, Uri, header};

use self::host::HostRank;
use self::request::{GrpcRank, HttpRank};
use crate::model::client_policy::{
    ConnectionRule, GrpcFilter, GrpcRetryConditions, GrpcRoute, HttpFilter, HttpRetryConditions,
    HttpRoute, Rule, TlsRoute,
};
use crate::model::identity::DnsName;
use crate::model::route::HostMatch;
use crate::model::route::grpc::GrpcMatch;
use crate::model::route::http::{HttpMatch, PathMatch};
use crate::model::server_policy::{ServerGrpcRoute, ServerHttpRoute, ServerRule};

/// What selection looks at of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// Method.
    pub method: &'r Method,
    /// Path and query; its authority is not looked at.
    pub uri: &'r Uri,
    /// Host, with or without a port.
    pub host: Option<&'r str>,
    /// Headers.
    pub headers: &'r HeaderMap,
}

impl<'r> Request<'r> {
    /// A request as it is; its host is the URI's, else the `Host` header's.
    pub fn new(method: &'r Method, uri: &'r Uri, headers: &'r HeaderMap) -> Self {
        let from_header = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Self {
            method,
            uri,
            host: uri.authority().map(|a| a.as_str()).or_else(from_header),
            headers,
        }
    }
}

impl<'r> From<&'r Parts> for Request<'r> {
    fn from(parts: &'r Parts) -> Self {
        Self::new(&parts.method, &parts.uri, &parts.headers)
    }
}

impl<'r, B> From<&'r http::Request<B>> for Request<'r> {
    fn from(request: &'r http::Request<B>) -> Self {
        Self::new(request.method(), request.uri(), request.headers())
    }
}

/// What was selected: a route (with its metadata), one of its rules, and the match that won.
#[derive(Debug, PartialEq, Eq)]
pub struct Selected<'p, T, U, M> {
    /// The route.
    pub route: &'p T,
    /// The rule.
    pub rule: &'p U,
    /// The match; `None` where the rule has none, which matches all.
    pub matched: Option<&'p M>,
}

impl<T, U, M> Clone for Selected<'_, T, U, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, U, M> Copy for Selected<'_, T, U, M> {}

impl<'p, T, U> Selected<'p, T, U, HttpMatch> {
    /// The prefix of the path that matched, for rewriting it.
    pub fn prefix(&self) -> Option<&'p str> {
        match &self.matched?.path {
            Some(PathMatch::Prefix(prefix)) => Some(prefix),
            _ => None,
        }
    }
}

/// A rule of a client's HTTP route.
pub type ClientHttpRule = Rule<HttpMatch, HttpFilter, HttpRetryConditions>;
/// A rule of a client's gRPC route.
pub type ClientGrpcRule = Rule<GrpcMatch, GrpcFilter, GrpcRetryConditions>;
/// What [`client_http`] selects.
pub type ClientHttp<'p> = Selected<'p, HttpRoute, ClientHttpRule, HttpMatch>;
/// What [`client_grpc`] selects.
pub type ClientGrpc<'p> = Selected<'p, GrpcRoute, ClientGrpcRule, GrpcMatch>;
/// What [`server_http`] selects.
pub type ServerHttp<'p> = Selected<
    'p,
    ServerHttpRoute,
    ServerRule<HttpMatch, crate::model::server_policy::ServerHttpFilter>,
    HttpMatch,
>;
/// What [`server_grpc`] selects.
pub type ServerGrpc<'p> = Selected<
    'p,
    ServerGrpcRoute,
    ServerRule<GrpcMatch, crate::model::server_policy::ServerGrpcFilter>,
    GrpcMatch,
>;

/// Selects among a client's HTTP routes.
pub fn client_http<'p>(routes: &'p [HttpRoute], request: Request<'_>) -> Option<ClientHttp<'p>> {
    let rank = |m: &HttpMatch| HttpRank::of(m, request);
    best(routes, request.host, &HttpRank::ALL, rank)
}

/// Selects among a client's gRPC routes.
pub fn client_grpc<'p>(routes: &'p [GrpcRoute], request: Request<'_>) -> Option<ClientGrpc<'p>> {
    let rank = |m: &GrpcMatch| GrpcRank::of(m, request);
    best(routes, request.host, &GrpcRank::ALL, rank)
}

/// Selects among a server's HTTP routes.
pub fn server_http<'p>(
    routes: &'p [ServerHttpRoute],
    request: Request<'_>,
) -> Option<ServerHttp<'p>> {
    let rank = |m: &HttpMatch| HttpRank::of(m, request);
    best(routes, request.host, &HttpRank::ALL, rank)
}

/// Selects among a server's gRPC routes.
pub fn server_grpc<'p>(
    routes: &'p [ServerGrpcRoute],
    request: Request<'_>,
) -> Option<ServerGrpc<'p>> {
    let rank = |m: &GrpcMatch| GrpcRank::of(m, request);
    best(routes, request.host, &GrpcRank::ALL, rank)
}

/// Selects among a client's TLS routes; the first rule of the route is used.
pub fn sni<'p>(
    routes: &'p [TlsRoute],
    name: &DnsName,
) -> Option<(&'p TlsRoute, &'p ConnectionRule)> {
    let mut best: Option<(HostRank, _)> = None;
    for route in routes {
        let (Some(rank), Some(rule)) =
            (HostRank::of_any(&route.snis, Some(name.as_str())), route.rules.first())
        else {
            continue;
        };
        if best.as_ref().is_none_or(|(held, _)| rank > *held) {
            best = Some((rank, (route, rule)));
        }
    }
    best.map(|(_, selected)| selected)
}

/// A route as selection sees it, of either plane and either protocol.
trait Route {
    type Rule: Matches;
    fn hosts(&self) -> &[HostMatch];
    fn rules(&self) -> &[Self::Rule];
}

trait Matches {
    type Match;
    fn matches(&self) -> &[Self::Match];
}

type MatchOf<T> = <<T as Route>::Rule as Matches>::Match;

fn best<'p, T: Route, K: Ord + Copy>(
    routes: &'p [T],
    host: Option<&str>,
    matches_all: &K,
    rank_match: impl Fn(&MatchOf<T>) -> Option<K>,
) -> Option<Selected<'p, T, T::Rule, MatchOf<T>>> {
    let mut best: Option<((HostRank, K), _)> = None;
    for route in routes {
        let Some(host_rank) = HostRank::of_any(route.hosts(), host) else {
            continue;
        };
        for rule in route.rules() {
            let found = if rule.matches().is_empty() {
                Some((*matches_all, None))
            } else {
                first_max(rule.matches(), &rank_match)
            };
            let Some((match_rank, matched)) = found else {
                continue;
            };
            let rank = (host_rank, match_rank);
            if best.as_ref().is_none_or(|(held, _)| rank > *held) {
                let selected = Selected { route, rule, matched };
                best = Some((rank, selected));
            }
        }
    }
    best.map(|(_, selected)| selected)
}

/// The highest rank and the first that has it.
fn first_max<M, K: Ord>(matches: &[M], rank: impl Fn(&M) -> Option<K>) -> Option<(K, Option<&M>)> {
    let mut max: Option<(K, Option<&M>)> = None;
    for candidate in matches {
        if let Some(rank) = rank(candidate)
            && max.as_ref().is_none_or(|(held, _)| rank > *held)
        {
            max = Some((rank, Some(candidate)));
        }
    }
    max
}

macro_rules! route {
    ($($route:ty => $rule:ty),* $(,)?) => {$(
        impl Route for $route {
            type Rule = $rule;
            fn hosts(&self) -> &[HostMatch] {
                &self.hosts
            }
            fn rules(&self) -> &[Self::Rule] {
                &self.rules
            }
        }
    )*};
}

route! {
    HttpRoute => ClientHttpRule,
    GrpcRoute => ClientGrpcRule,
}

impl<M, F> Route for crate::model::server_policy::ServerRoute<M, F> {
    type Rule = ServerRule<M, F>;
    fn hosts(&self) -> &[HostMatch] {
        &self.hosts
    }
    fn rules(&self) -> &[Self::Rule] {
        &self.rules
    }
}

impl<M, F, C> Matches for Rule<M, F, C> {
    type Match = M;
    fn matches(&self) -> &[M] {
        &self.matches
    }
}

impl<M, F> Matches for ServerRule<M, F> {
    type Match = M;
    fn matches(&self) -> &[M] {
        &self.matches
    }
}

#[cfg(test)]
mod tests;
