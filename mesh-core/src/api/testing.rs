//! Arbitrary values of the model, for this module's properties. They are values that the wire can
//! carry: no empty text where protobuf's empty text means "absent", no time beyond protobuf's.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::identity::Certificate;
use crate::model::client_policy::*;
use crate::model::endpoint::{Endpoint, EndpointUpdate, ProtocolHint};
use crate::model::identity::{DnsName, Identity, ServerTls};
use crate::model::labels::Labels;
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::pattern::Pattern;
use crate::model::profile::*;
use crate::model::protocol::{FlowControl, Http2Internals, Http2Params, KeepAlive};
use crate::model::ratio::Ratio;
use crate::model::route::HostMatch;
use crate::model::route::grpc::{GrpcFailure, GrpcMatch};
use crate::model::route::http::*;
use crate::model::server_policy::*;
use crate::model::target::NameAddr;
use crate::time::WallTime;

/// Items of a list: few, so that deep messages stay small.
fn few<T: std::fmt::Debug>(
    item: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Vec<T>> {
    vec(item, 0..3)
}

fn duration() -> impl Strategy<Value = Duration> {
    (0_u64..=315_576_000_000, 0_u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n))
}

/// Small enough that the API's 32-bit floats hold each millionth.
fn ratio() -> impl Strategy<Value = Ratio> {
    (0_u32..=8_000_000).prop_map(Ratio::from_millionths)
}

fn labels() -> impl Strategy<Value = Labels> {
    let name = "[a-z_]{1,8}".prop_filter("names the object", |name| {
        !["group", "kind", "name"].contains(&name.as_str())
    });
    few((name, ".{0,8}")).prop_map(|pairs| pairs.into_iter().collect())
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let resource = (
        ("[a-z.]{0,9}", "[A-Za-z]{0,9}", "[a-z-]{0,9}"),
        ("[a-z-]{0,9}", "[a-z]{0,5}", any::<u16>()),
    );
    prop_oneof![
        ".{0,9}".prop_map(|name| Metadata::new_default(&name)),
        resource.prop_map(|((group, kind, name), (namespace, section, port))| {
            Metadata::new_resource(ResourceRef {
                group,
                kind,
                name,
                namespace,
                section,
                port,
            })
        }),
    ]
}

/// What three labels can carry.
fn labelled_metadata() -> impl Strategy<Value = Metadata> {
    prop_oneof![
        ".{0,9}".prop_map(|name| Metadata::new_default(&name)),
        ("[a-z.]{0,9}", "[A-Z][a-z]{0,9}", "[a-z:-]{0,9}").prop_map(|(group, kind, name)| {
            Metadata::new_resource(ResourceRef {
                group,
                kind,
                name,
                ..ResourceRef::default()
            })
        }),
    ]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

fn network() -> impl Strategy<Value = IpNet> {
    (any::<IpAddr>(), any::<u8>()).prop_map(|(address, bits)| {
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, bits % (bits_max + 1)).expect("within bounds")
    })
}

/// Names with ports.
pub(super) fn name_addr() -> impl Strategy<Value = NameAddr> {
    prop_oneof![
        ("[a-z]{1,8}(\\.[a-z0-9]{1,8}){0,3}", 1_u16..)
            .prop_map(|(host, port)| NameAddr::new(&host, port).expect("a host")),
        (any::<IpAddr>(), 1_u16..).prop_map(|address| SocketAddr::from(address).into()),
    ]
}

fn dns_name() -> impl Strategy<Value = DnsName> {
    "[a-z_][a-z0-9-]{0,9}(\\.[a-z0-9-]{1,9}){0,4}"
        .prop_map(|name| DnsName::new(&name).expect("a DNS name"))
}

fn identity() -> impl Strategy<Value = Identity> {
    prop_oneof![
        dns_name().prop_map(Identity::Dns),
        "spiffe://[a-z.]{1,9}/[!-~]{0,9}".prop_map(|uri| Identity::new(&uri).expect("a URI")),
    ]
}

fn server_tls() -> impl Strategy<Value = ServerTls> {
    (identity(), dns_name()).prop_map(|(identity, server_name)| ServerTls {
        identity,
        server_name,
    })
}

fn pattern() -> impl Strategy<Value = Pattern> {
    "(/[a-z]{1,5}){0,3}(/\\.\\*|/\\[0-9\\]\\+)?".prop_map(|re| Pattern::new(re).expect("a pattern"))
}

fn method() -> impl Strategy<Value = Method> {
    "GET|POST|PUT|DELETE|PATCH|OPTIONS|CONNECT|HEAD|TRACE|[A-Z]{1,9}"
        .prop_map(|method| Method::from_bytes(method.as_bytes()).expect("a method"))
}

fn header_name() -> impl Strategy<Value = HeaderName> {
    "[a-z][a-z0-9-]{0,9}".prop_map(|name| name.parse().expect("a header name"))
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..], 0..9)
        .prop_map(|value| HeaderValue::from_bytes(&value).expect("a header value"))
}

fn host_match() -> impl Strategy<Value = HostMatch> {
    prop_oneof![
        ".{0,12}".prop_map(HostMatch::Exact),
        few("[a-z]{1,5}").prop_map(HostMatch::Suffix),
    ]
}

fn header_match() -> impl Strategy<Value = HeaderMatch> {
    prop_oneof![
        (header_name(), header_value()).prop_map(|(n, v)| HeaderMatch::Exact(n, v)),
        (header_name(), pattern()).prop_map(|(n, p)| HeaderMatch::Regex(n, p)),
    ]
}

fn http_match() -> impl Strategy<Value = HttpMatch> {
    let path = prop_oneof![
        "/.{0,9}".prop_map(PathMatch::Exact),
        "/.{0,9}".prop_map(PathMatch::Prefix),
        pattern().prop_map(PathMatch::Regex),
    ];
    let query = prop_oneof![
        (".{0,5}", ".{0,5}").prop_map(|(n, v)| QueryParamMatch::Exact(n, v)),
        (".{0,5}", pattern()).prop_map(|(n, p)| QueryParamMatch::Regex(n, p)),
    ];
    (of(path), few(header_match()), few(query), of(method())).prop_map(
        |(path, headers, query_params, method)| HttpMatch {
            path,
            headers,
            query_params,
            method,
        },
    )
}

fn grpc_match() -> impl Strategy<Value = GrpcMatch> {
    (of(".{1,9}"), of(".{1,9}"), few(header_match())).prop_map(|(service, method, headers)| {
        GrpcMatch {
            service,
            method,
            headers,
        }
    })
}

fn share() -> impl Strategy<Value = Share> {
    let some = (1_u32..).prop_flat_map(|d| (0..=d, Just(d)));
    prop_oneof![Just((0, 0)), some].prop_map(|(numerator, denominator)| Share {
        numerator,
        denominator,
    })
}

fn status() -> impl Strategy<Value = StatusCode> {
    (100_u16..1000).prop_map(|status| StatusCode::from_u16(status).expect("a status"))
}

fn http_failure() -> impl Strategy<Value = HttpFailure> {
    (status(), ".{0,9}", share()).prop_map(|(status, message, share)| HttpFailure {
        status,
        message,
        share,
    })
}

fn grpc_failure() -> impl Strategy<Value = GrpcFailure> {
    (any::<u16>(), ".{0,9}", share()).prop_map(|(code, message, share)| GrpcFailure {
        code,
        message,
        share,
    })
}

fn header_modifier() -> impl Strategy<Value = HeaderModifier> {
    let headers = || few((header_name(), header_value()));
    (headers(), headers(), few(header_name())).prop_map(|(add, set, remove)| HeaderModifier {
        add,
        set,
        remove,
    })
}

fn redirect() -> impl Strategy<Value = Redirect> {
    let scheme = "http|https|wss".prop_map(|scheme| scheme.parse::<Scheme>().expect("a scheme"));
    let path = prop_oneof![
        "/.{0,9}".prop_map(PathModifier::Full),
        "/.{0,9}".prop_map(PathModifier::Prefix),
    ];
    let port = any::<NonZeroU16>();
    (of(scheme), of(".{1,9}"), of(path), of(port), of(status())).prop_map(
        |(scheme, host, path, port, status)| Redirect {
            scheme,
            host,
            path,
            port,
            status,
        },
    )
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

fn http2_params() -> impl Strategy<Value = Http2Params> {
    let flow = any::<(u32, u32, bool)>().prop_map(|(connection, stream, adaptive)| FlowControl {
        initial_connection_window_bytes: connection,
        initial_stream_window_bytes: stream,
        adaptive,
    });
    let keep_alive =
        (of(duration()), of(duration()), any::<bool>()).prop_map(|(interval, timeout, idle)| {
            KeepAlive {
                interval,
                timeout,
                while_idle: idle,
            }
        });
    let internals = any::<(u32, u32, u32)>().prop_map(|(resets, frame, buffer)| Http2Internals {
        max_concurrent_reset_streams: resets,
        max_frame_bytes: frame,
        max_send_buffer_bytes: buffer,
    });
    (of(flow), of(keep_alive), of(internals)).prop_map(|(flow_control, keep_alive, internals)| {
        Http2Params {
            flow_control,
            keep_alive,
            internals,
        }
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let hint = prop_oneof![
        Just(ProtocolHint::Unknown),
        Just(ProtocolHint::Http2),
        Just(ProtocolHint::Opaque),
    ];
    let identity = (of(server_tls()), hint, of(any::<NonZeroU16>()));
    let more = (of(name_addr()), of(http2_params()), of(metadata()));
    (address(), any::<u32>(), labels(), identity, more).prop_map(
        |(address, weight, labels, (tls, protocol_hint, inbound_port), more)| Endpoint {
            address,
            weight,
            labels,
            tls,
            protocol_hint,
            inbound_port,
            authority_override: more.0,
            http2: more.1,
            resource: more.2,
        },
    )
}

/// What `Destination.Get` yields.
pub(super) fn endpoint_update() -> impl Strategy<Value = EndpointUpdate> {
    prop_oneof![
        (few(endpoint()), labels())
            .prop_map(|(endpoints, labels)| EndpointUpdate::Add { endpoints, labels }),
        few(address()).prop_map(EndpointUpdate::Remove),
        any::<bool>().prop_map(|exists| EndpointUpdate::NoEndpoints { exists }),
    ]
}

fn backoff() -> impl Strategy<Value = Backoff> {
    (duration(), duration(), ratio(), any::<bool>()).prop_map(|(a, b, jitter, respect)| Backoff {
        min: a.min(b),
        max: a.max(b).max(Duration::from_nanos(1)),
        jitter,
        respect_retry_after: respect,
    })
}

fn failure_accrual() -> impl Strategy<Value = FailureAccrual> {
    let consecutive =
        (any::<u32>(), backoff()).prop_map(|(max_failures, backoff)| Trip::Consecutive {
            max_failures,
            backoff,
        });
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
    (of(prop_oneof![consecutive, unified]), of(1_u32..)).prop_map(|(trip, min_ready_endpoints)| {
        FailureAccrual {
            trip,
            min_ready_endpoints,
        }
    })
}

fn backend() -> impl Strategy<Value = Arc<Backend>> {
    let peak = (duration(), duration())
        .prop_map(|(default_rtt, decay)| Load::PeakEwma { default_rtt, decay });
    let times = (duration(), duration(), duration(), duration(), duration());
    let penalty = times.prop_map(
        |(default_rtt, decay, penalty, max_retry_after, penalty_decay)| Load::PenaltyPeakEwma {
            default_rtt,
            decay,
            penalty,
            max_retry_after,
            penalty_decay,
        },
    );
    let dispatcher = prop_oneof![
        endpoint().prop_map(Dispatcher::Forward),
        (".{0,12}", prop_oneof![peak, penalty])
            .prop_map(|(path, load)| Dispatcher::Balance { path, load }),
        Just(Dispatcher::Fail),
    ];
    (metadata(), any::<u32>(), duration(), dispatcher).prop_map(
        |(metadata, capacity, failfast_timeout, dispatcher)| {
            Arc::new(Backend {
                metadata,
                queue: Queue {
                    capacity,
                    failfast_timeout,
                },
                dispatcher,
            })
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
    let timeouts =
        (of(duration()), of(duration()), of(duration())).prop_map(|(response, request, idle)| {
            Timeouts {
                response,
                request,
                idle,
            }
        });
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
    let rules = rules(
        http_match().boxed(),
        http_filter().boxed(),
        conditions.boxed(),
    );
    let route =
        (metadata(), few(host_match()), rules).prop_map(|(metadata, hosts, rules)| HttpRoute {
            metadata,
            hosts,
            rules,
        });
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
    let rules = rules(
        grpc_match().boxed(),
        grpc_filter().boxed(),
        conditions.boxed(),
    );
    let route =
        (metadata(), few(host_match()), rules).prop_map(|(metadata, hosts, rules)| GrpcRoute {
            metadata,
            hosts,
            rules,
        });
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
    few(route)
        .prop_map(|routes| OpaqueRoutes { routes })
        .boxed()
}

fn tls_routes() -> BoxedStrategy<TlsRoutes> {
    let route =
        (metadata(), few(host_match()), connection_rules()).prop_map(|(metadata, snis, rules)| {
            TlsRoute {
                metadata,
                snis,
                rules,
            }
        });
    few(route).prop_map(|routes| TlsRoutes { routes }).boxed()
}

/// What `OutboundPolicies.Watch` yields.
pub(super) fn client_policy() -> impl Strategy<Value = ClientPolicy> {
    let detect = (duration(), http_routes(), http_routes(), opaque_routes()).prop_map(
        |(timeout, http1, http2, opaque)| ClientProtocol::Detect {
            timeout,
            http1,
            http2,
            opaque,
        },
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

fn authorization() -> impl Strategy<Value = Authorization> {
    let networks =
        few((network(), few(network())).prop_map(|(net, except)| Network { net, except }));
    let suffix = few("[a-z]{1,5}").prop_map(|parts| IdentitySuffix { parts });
    let authentication = prop_oneof![
        Just(Authentication::Unauthenticated),
        Just(Authentication::TlsUnauthenticated),
        (few(identity()), few(suffix)).prop_map(|(identities, suffixes)| {
            Authentication::TlsAuthenticated {
                identities,
                suffixes,
            }
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
    let route = (
        metadata(),
        few(host_match()),
        few(authorization()),
        few(rule),
    )
        .prop_map(|(metadata, hosts, authorizations, rules)| ServerRoute {
            metadata,
            hosts,
            authorizations,
            rules,
        });
    few(route).boxed()
}

fn rate_limit() -> impl Strategy<Value = RateLimit> {
    let other = (any::<u32>(), few(identity())).prop_map(|(rate, clients)| RateLimitOverride {
        requests_per_second: rate,
        clients,
    });
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
pub(super) fn server_policy() -> impl Strategy<Value = ServerPolicy> {
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
            ServerProtocol::Detect {
                timeout,
                routes,
                rate_limit,
            }
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

fn request_match() -> impl Strategy<Value = RequestMatch> {
    let leaf = prop_oneof![
        pattern().prop_map(RequestMatch::Path),
        method().prop_map(RequestMatch::Method),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(RequestMatch::All),
            vec(inner.clone(), 0..3).prop_map(RequestMatch::Any),
            inner.prop_map(|inner| RequestMatch::Not(Box::new(inner))),
        ]
    })
}

fn response_match() -> impl Strategy<Value = ResponseMatch> {
    let leaf = (1_u16.., 1_u16..).prop_map(|(min, max)| ResponseMatch::Status { min, max });
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(ResponseMatch::All),
            vec(inner.clone(), 0..3).prop_map(ResponseMatch::Any),
            inner.prop_map(|inner| ResponseMatch::Not(Box::new(inner))),
        ]
    })
}

/// What `Destination.GetProfile` yields.
pub(super) fn profile() -> impl Strategy<Value = Profile> {
    let class =
        (response_match(), any::<bool>()).prop_map(|(condition, is_failure)| ResponseClass {
            condition,
            is_failure,
        });
    let route = (
        request_match(),
        few(class),
        labels(),
        any::<bool>(),
        of(duration()),
    )
        .prop_map(
            |(condition, response_classes, labels, retryable, timeout)| ProfileRoute {
                condition,
                response_classes,
                labels,
                retryable,
                timeout,
            },
        );
    let budget =
        (ratio(), any::<u32>(), duration()).prop_map(|(retry_ratio, min, ttl)| RetryBudget {
            retry_ratio,
            min_retries_per_second: min,
            ttl,
        });
    let split =
        (name_addr(), any::<u32>(), of(metadata())).prop_map(|(authority, weight, backend)| {
            WeightedDestination {
                authority,
                weight,
                backend,
            }
        });
    let routes = (few(route), of(budget), few(split));
    let origin = (of(endpoint()), of(metadata()), of(metadata()));
    (of(".{1,12}"), any::<bool>(), routes, origin).prop_map(|(name, opaque, routes, origin)| {
        Profile {
            fully_qualified_name: name,
            opaque,
            routes: routes.0,
            retry_budget: routes.1,
            dst_overrides: routes.2,
            endpoint: origin.0,
            parent: origin.1,
            profile: origin.2,
        }
    })
}

/// What `Identity.Certify` yields.
pub(super) fn certificate() -> impl Strategy<Value = Certificate> {
    let der = || vec(any::<u8>(), 1..20);
    let until = duration().prop_map(WallTime::since_unix_epoch);
    (der(), few(der()), until).prop_map(|(leaf_der, intermediates_der, valid_until)| Certificate {
        leaf_der,
        intermediates_der,
        valid_until,
    })
}
