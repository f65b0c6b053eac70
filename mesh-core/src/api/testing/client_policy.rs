//! Arbitrary policies of clients.

use std::sync::Arc;
use std::time::Duration;

use proptest::option::of;
use proptest::prelude::*;

use super::{
    duration, endpoint, few, grpc_failure, grpc_match, header_modifier, host_match, http_failure,
    http_match, metadata, ratio, redirect,
};
use crate::model::client_policy::*;
use crate::model::ratio::Ratio;
use crate::model::route::http::Timeouts;

fn backoff() -> impl Strategy<Value = Backoff> {
    (duration(), duration(), ratio(), any::<bool>()).prop_map(|(a, b, jitter, respect)| Backoff {
        min: a.min(b),
        max: a.max(b).max(Duration::from_nanos(1)),
        jitter,
        respect_retry_after: respect,
    })
}

fn failure_accrual() -> impl Strategy<Value = FailureAccrual> {
    let consecutive = (any::<u32>(), backoff())
        .prop_map(|(max_failures, backoff)| Trip::Consecutive { max_failures, backoff });
    let threshold = (0_u32..=1_000_000).prop_map(Ratio::from_millionths);
    let unified = (threshold, duration(), any::<(u32, u32)>(), backoff()).prop_map(
        |(threshold, decay, (requests, failures), backoff)| Trip::Unified {
            success_rate_threshold: threshold,
            decay,
            min_requests: requests,
            max_consecutive_failures: failures,
            backoff,
        },
    );
    (of(prop_oneof![consecutive, unified]), of(1_u32..))
        .prop_map(|(trip, min_ready_endpoints)| FailureAccrual { trip, min_ready_endpoints })
}

fn backend() -> impl Strategy<Value = Arc<Backend>> {
    let peak = (duration(), duration())
        .prop_map(|(default_rtt, decay)| Load::PeakEwma { default_rtt, decay });
    let times = (duration(), duration(), duration(), duration(), duration());
    let penalty =
        times.prop_map(|(default_rtt, decay, penalty, max_retry_after, penalty_decay)| {
            Load::PenaltyPeakEwma { default_rtt, decay, penalty, max_retry_after, penalty_decay }
        });
    let dispatcher = prop_oneof![
        endpoint().prop_map(Dispatcher::Forward),
        (".{0,12}", prop_oneof![peak, penalty])
            .prop_map(|(path, load)| Dispatcher::Balance { path, load }),
        Just(Dispatcher::Fail),
    ];
    (metadata(), any::<u32>(), duration(), dispatcher).prop_map(
        |(metadata, capacity, failfast_timeout, dispatcher)| {
            Arc::new(Backend { metadata, queue: Queue { capacity, failfast_timeout }, dispatcher })
        },
    )
}

/// `timeouts`: those of connections' backends have no request timeout.
fn distribution<F: Clone + std::fmt::Debug + 'static>(
    filter: BoxedStrategy<F>,
    timeout: BoxedStrategy<Option<Duration>>,
) -> BoxedStrategy<Distribution<F>> {
    let backend = (backend(), few(filter), timeout)
        .prop_map(|(backend, filters, request_timeout)| RouteBackend {
            backend,
            filters,
            request_timeout,
        })
        .boxed();
    let weighted = (backend.clone(), any::<u32>())
        .prop_map(|(backend, weight)| WeightedBackend { backend, weight });
    prop_oneof![
        Just(Distribution::Empty),
        few(backend).prop_map(Distribution::FirstAvailable),
        few(weighted).prop_map(Distribution::RandomAvailable),
    ]
    .boxed()
}

fn rules<M, F, C>(
    matches: BoxedStrategy<M>,
    filter: BoxedStrategy<F>,
    conditions: BoxedStrategy<C>,
) -> BoxedStrategy<Vec<Rule<M, F, C>>>
where
    M: Clone + std::fmt::Debug + 'static,
    F: Clone + std::fmt::Debug + 'static,
    C: Clone + std::fmt::Debug + 'static,
{
    let timeouts = (of(duration()), of(duration()), of(duration()))
        .prop_map(|(response, request, idle)| Timeouts { response, request, idle });
    let limits = (any::<u16>(), any::<u32>(), of(duration()), of(backoff()));
    let retry = (limits, conditions).prop_map(
        |((max_retries, max_request_bytes, timeout, backoff), conditions)| Retry {
            max_retries,
            max_request_bytes,
            conditions,
            timeout,
            backoff,
        },
    );
    let backends = distribution(filter.clone(), of(duration()).boxed());
    let rest = (backends, timeouts, of(retry), any::<bool>());
    let rule = (few(matches), few(filter), rest).prop_map(
        |(matches, filters, (backends, timeouts, retry, allow))| Rule {
            matches,
            filters,
            backends,
            timeouts,
            retry,
            allow_l5d_request_headers: allow,
        },
    );
    few(rule).boxed()
}

fn http_routes() -> BoxedStrategy<HttpRoutes> {
    let range = any::<(u16, u16)>().prop_map(|(a, b)| (a.min(b), a.max(b)));
    let conditions = few(range).prop_map(|statuses| HttpRetryConditions { statuses });
    let rules = rules(http_match().boxed(), http_filter().boxed(), conditions.boxed());
    let route = (metadata(), few(host_match()), rules)
        .prop_map(|(metadata, hosts, rules)| HttpRoute { metadata, hosts, rules });
    (few(route), of(failure_accrual()))
        .prop_map(|(routes, breaker)| HttpRoutes { routes, breaker })
        .boxed()
}

fn grpc_routes() -> BoxedStrategy<GrpcRoutes> {
    let conditions = any::<[bool; 5]>().prop_map(|on| GrpcRetryConditions {
        cancelled: on[0],
        deadline_exceeded: on[1],
        resource_exhausted: on[2],
        internal: on[3],
        unavailable: on[4],
    });
    let rules = rules(grpc_match().boxed(), grpc_filter().boxed(), conditions.boxed());
    let route = (metadata(), few(host_match()), rules)
        .prop_map(|(metadata, hosts, rules)| GrpcRoute { metadata, hosts, rules });
    (few(route), of(failure_accrual()))
        .prop_map(|(routes, breaker)| GrpcRoutes { routes, breaker })
        .boxed()
}

fn connection_rules() -> BoxedStrategy<Vec<ConnectionRule>> {
    let backends = distribution(connection_filter().boxed(), Just(None).boxed());
    let rule = (backends, few(connection_filter()))
        .prop_map(|(backends, filters)| ConnectionRule { backends, filters });
    few(rule).boxed()
}

fn opaque_routes() -> BoxedStrategy<OpaqueRoutes> {
    let route = (metadata(), connection_rules())
        .prop_map(|(metadata, rules)| OpaqueRoute { metadata, rules });
    few(route).prop_map(|routes| OpaqueRoutes { routes }).boxed()
}

fn tls_routes() -> BoxedStrategy<TlsRoutes> {
    let route = (metadata(), few(host_match()), connection_rules())
        .prop_map(|(metadata, snis, rules)| TlsRoute { metadata, snis, rules });
    few(route).prop_map(|routes| TlsRoutes { routes }).boxed()
}

/// What `OutboundPolicies.Watch` yields.
pub(in crate::api) fn client_policy() -> impl Strategy<Value = ClientPolicy> {
    let detect = (duration(), http_routes(), http_routes(), opaque_routes()).prop_map(
        |(timeout, http1, http2, opaque)| ClientProtocol::Detect { timeout, http1, http2, opaque },
    );
    let protocol = prop_oneof![
        detect,
        opaque_routes().prop_map(ClientProtocol::Opaque),
        http_routes().prop_map(ClientProtocol::Http1),
        http_routes().prop_map(ClientProtocol::Http2),
        grpc_routes().prop_map(ClientProtocol::Grpc),
        tls_routes().prop_map(ClientProtocol::Tls),
    ];
    (metadata(), protocol).prop_map(|(parent, protocol)| ClientPolicy { parent, protocol })
}

fn http_filter() -> impl Strategy<Value = HttpFilter> {
    prop_oneof![
        http_failure().prop_map(HttpFilter::Failure),
        header_modifier().prop_map(HttpFilter::RequestHeaders),
        redirect().prop_map(HttpFilter::Redirect),
        header_modifier().prop_map(HttpFilter::ResponseHeaders),
        Just(HttpFilter::Unknown),
    ]
}

fn grpc_filter() -> impl Strategy<Value = GrpcFilter> {
    prop_oneof![
        grpc_failure().prop_map(GrpcFilter::Failure),
        header_modifier().prop_map(GrpcFilter::RequestHeaders),
        Just(GrpcFilter::Unknown),
    ]
}

fn connection_filter() -> impl Strategy<Value = ConnectionFilter> {
    prop_oneof![
        ".{0,9}".prop_map(ConnectionFilter::Invalid),
        Just(ConnectionFilter::Forbidden),
        Just(ConnectionFilter::Unknown),
    ]
}
