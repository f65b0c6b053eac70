//! Arbitrary policies of servers.

use ipnet::IpNet;
use std::net::IpAddr;

use proptest::option::of;
use proptest::prelude::*;

use super::{
    duration, few, grpc_failure, grpc_match, header_modifier, host_match, http_failure, http_match,
    identity, labels, metadata, redirect,
};
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::server_policy::*;

fn authorization() -> impl Strategy<Value = Authorization> {
    let networks =
        few((network(), few(network())).prop_map(|(net, except)| Network { net, except }));
    let suffix = few("[a-z]{1,5}").prop_map(|parts| IdentitySuffix { parts });
    let authentication = prop_oneof![
        Just(Authentication::Unauthenticated),
        Just(Authentication::TlsUnauthenticated),
        (few(identity()), few(suffix)).prop_map(|(identities, suffixes)| {
            Authentication::TlsAuthenticated { identities, suffixes }
        }),
    ];
    (metadata(), networks, authentication, labels()).prop_map(
        |(metadata, networks, authentication, labels)| Authorization {
            metadata,
            networks,
            authentication,
            labels,
        },
    )
}

fn server_routes<M, F>(
    matches: BoxedStrategy<M>,
    filter: BoxedStrategy<F>,
) -> BoxedStrategy<Vec<ServerRoute<M, F>>>
where
    M: Clone + std::fmt::Debug + 'static,
    F: Clone + std::fmt::Debug + 'static,
{
    let rule =
        (few(matches), few(filter)).prop_map(|(matches, filters)| ServerRule { matches, filters });
    let route = (metadata(), few(host_match()), few(authorization()), few(rule)).prop_map(
        |(metadata, hosts, authorizations, rules)| ServerRoute {
            metadata,
            hosts,
            authorizations,
            rules,
        },
    );
    few(route).boxed()
}

fn rate_limit() -> impl Strategy<Value = RateLimit> {
    let other = (any::<u32>(), few(identity()))
        .prop_map(|(rate, clients)| RateLimitOverride { requests_per_second: rate, clients });
    (metadata(), any::<(Option<u32>, Option<u32>)>(), few(other)).prop_map(
        |(metadata, (total, identity), overrides)| RateLimit {
            metadata,
            total,
            identity,
            overrides,
        },
    )
}

/// What `InboundServerPolicies.WatchPort` yields.
pub(in crate::api) fn server_policy() -> impl Strategy<Value = ServerPolicy> {
    let http_filter = prop_oneof![
        http_failure().prop_map(ServerHttpFilter::Failure),
        header_modifier().prop_map(ServerHttpFilter::RequestHeaders),
        redirect().prop_map(ServerHttpFilter::Redirect),
        Just(ServerHttpFilter::Unknown),
    ];
    let grpc_filter = prop_oneof![
        grpc_failure().prop_map(ServerGrpcFilter::Failure),
        header_modifier().prop_map(ServerGrpcFilter::RequestHeaders),
        Just(ServerGrpcFilter::Unknown),
    ];
    let http_routes = server_routes(http_match().boxed(), http_filter.boxed());
    let grpc_routes = server_routes(grpc_match().boxed(), grpc_filter.boxed());
    let http = (http_routes.clone(), of(rate_limit()))
        .prop_map(|(routes, rate_limit)| ServerHttpRoutes { routes, rate_limit })
        .boxed();
    let detect =
        (duration(), http_routes, of(rate_limit())).prop_map(|(timeout, routes, rate_limit)| {
            ServerProtocol::Detect { timeout, routes, rate_limit }
        });
    let protocol = prop_oneof![
        detect,
        http.clone().prop_map(ServerProtocol::Http1),
        http.prop_map(ServerProtocol::Http2),
        grpc_routes.prop_map(ServerProtocol::Grpc),
        Just(ServerProtocol::Opaque),
        Just(ServerProtocol::Tls),
    ];
    let authorizations = few(authorization());
    (labelled_metadata(), protocol, authorizations, labels()).prop_map(
        |(server, protocol, authorizations, labels)| ServerPolicy {
            server,
            protocol,
            authorizations,
            labels,
        },
    )
}

/// What three labels can carry.
fn labelled_metadata() -> impl Strategy<Value = Metadata> {
    prop_oneof![
        ".{0,9}".prop_map(|name| Metadata::new_default(&name)),
        ("[a-z.]{0,9}", "[A-Z][a-z]{0,9}", "[a-z:-]{0,9}").prop_map(|(group, kind, name)| {
            Metadata::new_resource(ResourceRef { group, kind, name, ..ResourceRef::default() })
        }),
    ]
}

fn network() -> impl Strategy<Value = IpNet> {
    (any::<IpAddr>(), any::<u8>()).prop_map(|(address, bits)| {
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, bits % (bits_max + 1)).expect("within bounds")
    })
}
