//! Arbitrary values of the model, for this module's properties. They are values that the wire can
//! carry: no empty text where protobuf's empty text means "absent", no time beyond protobuf's.

mod client_policy;
mod profile;
mod question;
mod server_policy;
mod tap;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::identity::Certificate;
use crate::model::endpoint::{Endpoint, EndpointUpdate, ProtocolHint};
use crate::model::identity::{DnsName, Identity, ServerTls};
use crate::model::labels::Labels;
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::pattern::Pattern;
use crate::model::protocol::{FlowControl, Http2Internals, Http2Params, KeepAlive};
use crate::model::ratio::Ratio;
use crate::model::route::HostMatch;
use crate::model::route::grpc::{GrpcFailure, GrpcMatch};
use crate::model::route::http::*;
use crate::model::target::NameAddr;
use crate::time::WallTime;

pub(super) use client_policy::client_policy;
pub(super) use profile::profile;
pub(super) use question::{
    certificate_question, destination_question, port_question, traffic_question,
};
pub(super) use server_policy::server_policy;
pub(super) use tap::{observe, tap_event};

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
            Metadata::new_resource(ResourceRef { group, kind, name, namespace, section, port })
        }),
    ]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
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
    (identity(), dns_name()).prop_map(|(identity, server_name)| ServerTls { identity, server_name })
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
    prop_oneof![".{0,12}".prop_map(HostMatch::Exact), few("[a-z]{1,5}").prop_map(HostMatch::Suffix),]
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
        |(path, headers, query_params, method)| HttpMatch { path, headers, query_params, method },
    )
}

fn grpc_match() -> impl Strategy<Value = GrpcMatch> {
    (of(".{1,9}"), of(".{1,9}"), few(header_match()))
        .prop_map(|(service, method, headers)| GrpcMatch { service, method, headers })
}

fn share() -> impl Strategy<Value = Share> {
    let some = (1_u32..).prop_flat_map(|d| (0..=d, Just(d)));
    prop_oneof![Just((0, 0)), some]
        .prop_map(|(numerator, denominator)| Share { numerator, denominator })
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
        |(scheme, host, path, port, status)| Redirect { scheme, host, path, port, status },
    )
}

fn http2_params() -> impl Strategy<Value = Http2Params> {
    let flow = any::<(u32, u32, bool)>().prop_map(|(connection, stream, adaptive)| FlowControl {
        initial_connection_window_bytes: connection,
        initial_stream_window_bytes: stream,
        adaptive,
    });
    let keep_alive = (of(duration()), of(duration()), any::<bool>())
        .prop_map(|(interval, timeout, idle)| KeepAlive { interval, timeout, while_idle: idle });
    let internals = any::<(u32, u32, u32)>().prop_map(|(resets, frame, buffer)| Http2Internals {
        max_concurrent_reset_streams: resets,
        max_frame_bytes: frame,
        max_send_buffer_bytes: buffer,
    });
    (of(flow), of(keep_alive), of(internals)).prop_map(|(flow_control, keep_alive, internals)| {
        Http2Params { flow_control, keep_alive, internals }
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
