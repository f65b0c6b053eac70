//! Policies and profiles as JSON, in the shape and with the names of linkerd2-proxy-api's messages.
//! Durations are in seconds, as protobuf's JSON has them; what is not said is left out.

use std::time::Duration;

use ipnet::IpNet;
use mesh_core::model::client_policy::{
    Backend, Backoff, ClientPolicy, ClientProtocol, ConnectionFilter, ConnectionRule, Dispatcher,
    Distribution, FailureAccrual, GrpcFilter, GrpcRetryConditions, GrpcRoute, HttpFilter,
    HttpRetryConditions, HttpRoute, Load, OpaqueRoute, Retry, RouteBackend, Rule, TlsRoute, Trip,
};
use mesh_core::model::endpoint::Endpoint;
use mesh_core::model::metadata::Metadata;
use mesh_core::model::profile::{Profile, ProfileRoute};
use mesh_core::model::route::HostMatch;
use mesh_core::model::route::grpc::{GrpcFailure, GrpcMatch};
use mesh_core::model::route::http::{
    HeaderMatch, HeaderModifier, HttpFailure, HttpMatch, PathMatch, QueryParamMatch, Redirect,
    Timeouts,
};
use mesh_core::model::server_policy::{
    Authentication, Authorization, RateLimit, ServerGrpcFilter, ServerHttpFilter, ServerHttpRoute,
    ServerPolicy, ServerProtocol, ServerRoute,
};
use serde_json::{Map, Value, json};

/// `outbound.OutboundPolicy`.
pub(super) fn client_policy(policy: &ClientPolicy) -> Value {
    let opaque = |routes: &[OpaqueRoute]| json!({"routes": list(routes, opaque_route)});
    let http = |routes: &[HttpRoute], breaker: &Option<FailureAccrual>| {
        compact(json!({
            "routes": list(routes, http_route), "failureAccrual": breaker.as_ref().map(accrual),
        }))
    };
    let protocol = match &policy.protocol {
        ClientProtocol::Detect { timeout, http1, http2, opaque: bytes } => json!({"detect": {
            "timeout": time(*timeout),
            "http1": http(&http1.routes, &http1.breaker),
            "http2": http(&http2.routes, &http2.breaker),
            "opaque": opaque(&bytes.routes),
        }}),
        ClientProtocol::Opaque(bytes) => json!({"opaque": opaque(&bytes.routes)}),
        ClientProtocol::Http1(routes) => json!({"http1": http(&routes.routes, &routes.breaker)}),
        ClientProtocol::Http2(routes) => json!({"http2": http(&routes.routes, &routes.breaker)}),
        ClientProtocol::Grpc(routes) => json!({"grpc": compact(json!({
            "routes": list(&routes.routes, grpc_route),
            "failureAccrual": routes.breaker.as_ref().map(accrual),
        }))}),
        ClientProtocol::Tls(routes) => json!({"tls": {"routes": list(&routes.routes, tls_route)}}),
    };
    json!({"metadata": metadata(&policy.parent), "protocol": protocol})
}

/// `inbound.Server`.
pub(super) fn server_policy(policy: &ServerPolicy) -> Value {
    let http = |routes: &[ServerHttpRoute], limit: &Option<RateLimit>| {
        compact(json!({
            "routes": list(routes, server_http_route),
            "localRateLimit": limit.as_ref().map(rate_limit),
        }))
    };
    let protocol = match &policy.protocol {
        ServerProtocol::Detect { timeout, routes, rate_limit: limit } => {
            json!({"detect": compact(json!({
                "timeout": time(*timeout),
                "httpRoutes": list(routes, server_http_route),
                "httpLocalRateLimit": limit.as_ref().map(rate_limit),
            }))})
        }
        ServerProtocol::Http1(routes) => json!({"http1": http(&routes.routes, &routes.rate_limit)}),
        ServerProtocol::Http2(routes) => json!({"http2": http(&routes.routes, &routes.rate_limit)}),
        ServerProtocol::Grpc(routes) => json!({"grpc": {"routes": list(routes, |route| {
            server_route(route, grpc_match, server_grpc_filter)
        })}}),
        ServerProtocol::Opaque => json!({"opaque": {}}),
        ServerProtocol::Tls => json!({"tls": {}}),
    };
    let mut labels: Map<String, Value> =
        policy.labels.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
    let server = &policy.server;
    for (name, value) in
        [("group", server.group()), ("kind", server.kind()), ("name", server.name())]
    {
        labels.insert(name.to_string(), value.into());
    }
    json!({
        "protocol": protocol,
        "authorizations": list(&policy.authorizations, authorization),
        "labels": labels,
    })
}

/// `destination.DestinationProfile`.
pub(super) fn profile(profile: &Profile) -> Value {
    let route = |route: &ProfileRoute| {
        let labels: Map<String, Value> =
            route.labels.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
        compact(json!({
            "metricsLabels": labels, "isRetryable": route.retryable,
            "timeout": route.timeout.map(time),
        }))
    };
    compact(json!({
        "fullyQualifiedName": profile.fully_qualified_name,
        "opaqueProtocol": profile.opaque,
        "routes": list(&profile.routes, route),
        "retryBudget": profile.retry_budget.map(|budget| json!({
            "retryRatio": budget.retry_ratio.as_f64(),
            "minRetriesPerSecond": budget.min_retries_per_second,
            "ttl": time(budget.ttl),
        })),
        "dstOverrides": list(&profile.dst_overrides, |to| json!({
            "authority": to.authority.to_string(), "weight": to.weight,
        })),
        "endpoint": profile.endpoint.as_ref().map(endpoint),
        "parentRef": profile.parent.as_ref().map(metadata),
        "profileRef": profile.profile.as_ref().map(metadata),
    }))
}

fn list<T>(items: &[T], one: impl Fn(&T) -> Value) -> Value {
    items.iter().map(one).collect()
}

/// Without what is null or empty.
fn compact(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, field| {
            !field.is_null() && field.as_array().is_none_or(|all| !all.is_empty())
        });
    }
    value
}

fn time(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

fn metadata(metadata: &Metadata) -> Value {
    match metadata {
        Metadata::Default(name) => json!({"default": &**name}),
        Metadata::Resource(resource) => {
            let mut fields = json!({
                "group": resource.group, "kind": resource.kind, "name": resource.name,
                "namespace": resource.namespace, "section": resource.section, "port": resource.port,
            });
            if let Value::Object(fields) = &mut fields {
                fields.retain(|_, field| *field != json!("") && *field != json!(0));
            }
            json!({"resource": fields})
        }
    }
}

fn host(host: &HostMatch) -> Value {
    match host {
        HostMatch::Exact(name) => json!({"exact": name}),
        HostMatch::Suffix(labels) => json!({"suffix": {"reverseLabels": labels}}),
    }
}

fn http_route(route: &HttpRoute) -> Value {
    compact(json!({
        "metadata": metadata(&route.metadata),
        "hosts": list(&route.hosts, host),
        "rules": list(&route.rules, |rule| self::rule(rule, http_match, http_filter, http_retry)),
    }))
}

fn grpc_route(route: &GrpcRoute) -> Value {
    compact(json!({
        "metadata": metadata(&route.metadata),
        "hosts": list(&route.hosts, host),
        "rules": list(&route.rules, |rule| self::rule(rule, grpc_match, grpc_filter, grpc_retry)),
    }))
}

fn rule<M, F, C>(
    rule: &Rule<M, F, C>,
    of_match: fn(&M) -> Value,
    filter: fn(&F) -> Value,
    conditions: fn(&C) -> Value,
) -> Value {
    compact(json!({
        "matches": list(&rule.matches, of_match),
        "filters": list(&rule.filters, filter),
        "backends": distribution(&rule.backends, filter),
        "timeouts": timeouts(&rule.timeouts),
        "retry": rule.retry.as_ref().map(|each| retry(each, conditions)),
    }))
}

fn opaque_route(route: &OpaqueRoute) -> Value {
    json!({"metadata": metadata(&route.metadata), "rules": list(&route.rules, connection_rule)})
}

fn tls_route(route: &TlsRoute) -> Value {
    compact(json!({
        "metadata": metadata(&route.metadata),
        "snis": list(&route.snis, host),
        "rules": list(&route.rules, connection_rule),
    }))
}

fn connection_rule(rule: &ConnectionRule) -> Value {
    compact(json!({
        "filters": list(&rule.filters, connection_filter),
        "backends": distribution(&rule.backends, connection_filter),
    }))
}

fn distribution<F>(distribution: &Distribution<F>, filter: fn(&F) -> Value) -> Value {
    match distribution {
        Distribution::Empty => json!({"empty": {}}),
        Distribution::FirstAvailable(backends) => json!({"firstAvailable": {
            "backends": list(backends, |backend| route_backend(backend, filter)),
        }}),
        Distribution::RandomAvailable(backends) => json!({"randomAvailable": {
            "backends": list(backends, |each| json!({
                "backend": route_backend(&each.backend, filter), "weight": each.weight,
            })),
        }}),
    }
}

fn route_backend<F>(of_route: &RouteBackend<F>, filter: fn(&F) -> Value) -> Value {
    compact(json!({
        "backend": backend(&of_route.backend),
        "filters": list(&of_route.filters, filter),
        "requestTimeout": of_route.request_timeout.map(time),
    }))
}

fn backend(backend: &Backend) -> Value {
    let mut fields = json!({
        "metadata": metadata(&backend.metadata),
        "queue": {
            "capacity": backend.queue.capacity,
            "failfastTimeout": time(backend.queue.failfast_timeout),
        },
    });
    match &backend.dispatcher {
        Dispatcher::Forward(to) => fields["forward"] = endpoint(to),
        Dispatcher::Balance { path, load } => {
            let mut balancer = json!({"discovery": {"dst": {"path": path}}});
            let (name, load) = match load {
                Load::PeakEwma { default_rtt, decay } => {
                    ("peakEwma", json!({"defaultRtt": time(*default_rtt), "decay": time(*decay)}))
                }
                Load::PenaltyPeakEwma { default_rtt, decay, penalty, .. } => (
                    "penaltyPeakEwma",
                    json!({
                        "defaultRtt": time(*default_rtt), "decay": time(*decay),
                        "penalty": time(*penalty),
                    }),
                ),
            };
            balancer[name] = load;
            fields["balancer"] = balancer;
        }
        Dispatcher::Fail => {}
    }
    fields
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let labels: Map<String, Value> =
        endpoint.labels.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
    compact(json!({
        "addr": endpoint.address.to_string(),
        "weight": endpoint.weight,
        "metricLabels": labels,
        "tlsIdentity": endpoint.tls.as_ref().map(|tls| json!({
            "identity": tls.identity.as_str(), "serverName": tls.server_name.as_str(),
        })),
        "protocolHint": format!("{:?}", endpoint.protocol_hint).to_lowercase(),
        "inboundPort": endpoint.inbound_port,
        "resourceRef": endpoint.resource.as_ref().map(metadata),
    }))
}

fn timeouts(timeouts: &Timeouts) -> Value {
    compact(json!({
        "request": timeouts.request.map(time), "response": timeouts.response.map(time),
        "idle": timeouts.idle.map(time),
    }))
}

fn retry<C>(retry: &Retry<C>, conditions: fn(&C) -> Value) -> Value {
    compact(json!({
        "maxRetries": retry.max_retries, "maxRequestBytes": retry.max_request_bytes,
        "conditions": conditions(&retry.conditions), "timeout": retry.timeout.map(time),
        "backoff": retry.backoff.as_ref().map(backoff),
    }))
}

fn http_retry(conditions: &HttpRetryConditions) -> Value {
    let range = |(start, end): &(u16, u16)| json!({"start": start, "end": end});
    json!({"statusRanges": list(&conditions.statuses, range)})
}

fn grpc_retry(conditions: &GrpcRetryConditions) -> Value {
    json!({
        "cancelled": conditions.cancelled, "deadlineExceeded": conditions.deadline_exceeded,
        "resourceExhausted": conditions.resource_exhausted, "internal": conditions.internal,
        "unavailable": conditions.unavailable,
    })
}

fn backoff(backoff: &Backoff) -> Value {
    json!({
        "minBackoff": time(backoff.min), "maxBackoff": time(backoff.max),
        "jitterRatio": backoff.jitter.as_f64(),
    })
}

fn accrual(accrual: &FailureAccrual) -> Value {
    match &accrual.trip {
        None => json!({}),
        Some(Trip::Consecutive { max_failures, backoff: after }) => {
            json!({"consecutiveFailures": {"maxFailures": max_failures, "backoff": backoff(after)}})
        }
        Some(Trip::Unified {
            success_rate_threshold,
            decay,
            min_requests,
            max_consecutive_failures,
            backoff: after,
        }) => json!({"unified": {
            "successRateThreshold": success_rate_threshold.as_f64(), "decay": time(*decay),
            "minRequests": min_requests, "maxConsecutiveFailures": max_consecutive_failures,
            "backoff": backoff(after),
        }}),
    }
}

fn http_match(wanted: &HttpMatch) -> Value {
    let query = |query: &QueryParamMatch| match query {
        QueryParamMatch::Exact(name, value) => json!({"name": name, "exact": value}),
        QueryParamMatch::Regex(name, pattern) => json!({"name": name, "regex": pattern.as_str()}),
    };
    compact(json!({
        "path": wanted.path.as_ref().map(|path| match path {
            PathMatch::Exact(path) => json!({"exact": path}),
            PathMatch::Prefix(path) => json!({"prefix": path}),
            PathMatch::Regex(pattern) => json!({"regex": pattern.as_str()}),
        }),
        "headers": list(&wanted.headers, header_match),
        "queryParams": list(&wanted.query_params, query),
        "method": wanted.method.as_ref().map(|method| method.as_str()),
    }))
}

fn grpc_match(wanted: &GrpcMatch) -> Value {
    compact(json!({
        "rpc": compact(json!({"service": wanted.service, "method": wanted.method})),
        "headers": list(&wanted.headers, header_match),
    }))
}

fn header_match(header: &HeaderMatch) -> Value {
    match header {
        HeaderMatch::Exact(name, value) => {
            json!({"name": name.as_str(), "exact": String::from_utf8_lossy(value.as_bytes())})
        }
        HeaderMatch::Regex(name, pattern) => {
            json!({"name": name.as_str(), "regex": pattern.as_str()})
        }
    }
}

fn http_filter(filter: &HttpFilter) -> Value {
    match filter {
        HttpFilter::Failure(failure) => http_failure(failure),
        HttpFilter::RequestHeaders(modifier) => json!({"requestHeaderModifier": headers(modifier)}),
        HttpFilter::Redirect(to) => json!({"redirect": redirect(to)}),
        HttpFilter::ResponseHeaders(modifier) => {
            json!({"responseHeaderModifier": headers(modifier)})
        }
        HttpFilter::Unknown => json!({}),
    }
}

fn grpc_filter(filter: &GrpcFilter) -> Value {
    match filter {
        GrpcFilter::Failure(failure) => grpc_failure(failure),
        GrpcFilter::RequestHeaders(modifier) => json!({"requestHeaderModifier": headers(modifier)}),
        GrpcFilter::Unknown => json!({}),
    }
}

fn server_http_filter(filter: &ServerHttpFilter) -> Value {
    match filter {
        ServerHttpFilter::Failure(failure) => http_failure(failure),
        ServerHttpFilter::RequestHeaders(modifier) => {
            json!({"requestHeaderModifier": headers(modifier)})
        }
        ServerHttpFilter::Redirect(to) => json!({"redirect": redirect(to)}),
        ServerHttpFilter::Unknown => json!({}),
    }
}

fn server_grpc_filter(filter: &ServerGrpcFilter) -> Value {
    match filter {
        ServerGrpcFilter::Failure(failure) => grpc_failure(failure),
        ServerGrpcFilter::RequestHeaders(modifier) => {
            json!({"requestHeaderModifier": headers(modifier)})
        }
        ServerGrpcFilter::Unknown => json!({}),
    }
}

fn connection_filter(filter: &ConnectionFilter) -> Value {
    match filter {
        ConnectionFilter::Invalid(message) => json!({"invalid": {"message": message}}),
        ConnectionFilter::Forbidden => json!({"forbidden": {}}),
        ConnectionFilter::Unknown => json!({}),
    }
}

fn http_failure(failure: &HttpFailure) -> Value {
    json!({"failureInjector": {
        "status": failure.status.as_u16(), "message": failure.message,
        "ratio": {"numerator": failure.share.numerator, "denominator": failure.share.denominator},
    }})
}

fn grpc_failure(failure: &GrpcFailure) -> Value {
    json!({"failureInjector": {
        "code": failure.code, "message": failure.message,
        "ratio": {"numerator": failure.share.numerator, "denominator": failure.share.denominator},
    }})
}

fn headers(modifier: &HeaderModifier) -> Value {
    let pair = |(name, value): &(http::HeaderName, http::HeaderValue)| json!({"name": name.as_str(), "value": String::from_utf8_lossy(value.as_bytes())});
    compact(json!({
        "add": list(&modifier.add, pair), "set": list(&modifier.set, pair),
        "remove": list(&modifier.remove, |name| name.as_str().into()),
    }))
}

fn redirect(to: &Redirect) -> Value {
    compact(json!({
        "scheme": to.scheme.as_ref().map(|scheme| scheme.as_str()), "host": to.host,
        "port": to.port, "status": to.status.map(|status| status.as_u16()),
    }))
}

fn server_http_route(route: &ServerHttpRoute) -> Value {
    server_route(route, http_match, server_http_filter)
}

fn server_route<M, F>(
    route: &ServerRoute<M, F>,
    of_match: fn(&M) -> Value,
    filter: fn(&F) -> Value,
) -> Value {
    compact(json!({
        "metadata": metadata(&route.metadata),
        "hosts": list(&route.hosts, host),
        "authorizations": list(&route.authorizations, authorization),
        "rules": list(&route.rules, |rule| compact(json!({
            "matches": list(&rule.matches, of_match), "filters": list(&rule.filters, filter),
        }))),
    }))
}

fn authorization(authorization: &Authorization) -> Value {
    let networks = list(&authorization.networks, |network| {
        let text = |net: &IpNet| Value::from(net.to_string());
        compact(json!({"net": network.net.to_string(), "except": list(&network.except, text)}))
    });
    let authentication = match &authorization.authentication {
        Authentication::Unauthenticated => json!({"unauthenticated": {}}),
        Authentication::TlsUnauthenticated => json!({"meshTls": {"unauthenticated": {}}}),
        Authentication::TlsAuthenticated { identities, suffixes } => {
            json!({"meshTls": {"identities": compact(json!({
                "identities": list(identities, |name| name.as_str().into()),
                "suffixes": list(suffixes, |suffix| json!({"parts": suffix.parts})),
            }))}})
        }
    };
    json!({
        "networks": networks, "authentication": authentication,
        "metadata": metadata(&authorization.metadata),
    })
}

fn rate_limit(limit: &RateLimit) -> Value {
    let rate = |rate: u32| json!({"requestsPerSecond": rate});
    compact(json!({
        "metadata": metadata(&limit.metadata),
        "total": limit.total.map(rate),
        "identity": limit.identity.map(rate),
        "overrides": list(&limit.overrides, |each| json!({
            "limit": rate(each.requests_per_second),
            "clients": {"identities": list(&each.clients, |client| client.as_str().into())},
        })),
    }))
}

#[cfg(test)]
mod tests {
    use mesh_core::control::index::{Index, View};
    use mesh_core::control::{MeshConfig, policy};
    use mesh_core::model::target::Target;

    use super::*;

    #[test]
    fn a_policy_has_the_shape_of_the_api() {
        let (index, mesh) = (Index::default(), MeshConfig::default());
        let target = Target::Address("192.0.2.1:25".parse().unwrap());
        let policy = policy::client::compile(&View::new(&index, &mesh), "shop", &target).unwrap();
        insta::assert_snapshot!(client_policy(&policy).to_string(), @r#"{"metadata":{"default":"default"},"protocol":{"opaque":{"routes":[{"metadata":{"default":"default"},"rules":[{"backends":{"firstAvailable":{"backends":[{"backend":{"forward":{"addr":"192.0.2.1:25","metricLabels":{},"protocolHint":"unknown","weight":1},"metadata":{"default":"default"},"queue":{"capacity":100,"failfastTimeout":"3s"}}}]}}}]}]}}}"#);
    }
}
