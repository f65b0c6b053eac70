//! Arbitrary taps.

use super::*;
use crate::model::tap::{
    Captured, Direction, End, Event, HeaderMatch, Headers, HttpMatch, Label, Match, Observe,
    StreamId, StringMatch, TcpMatch, What,
};

fn text() -> impl Strategy<Value = StringMatch> {
    prop_oneof![".{0,8}".prop_map(StringMatch::Exact), ".{0,8}".prop_map(StringMatch::Prefix),]
}

fn scheme() -> impl Strategy<Value = Scheme> {
    prop_oneof![
        Just(Scheme::HTTP),
        Just(Scheme::HTTPS),
        "[a-z]{6,9}".prop_map(|text| text.parse().unwrap()),
    ]
}

fn tcp() -> impl Strategy<Value = TcpMatch> {
    let net = (any::<IpAddr>(), 0_u8..=32)
        .prop_map(|(ip, bits)| TcpMatch::Net(ipnet::IpNet::new(ip, bits).unwrap()));
    let ports =
        (1_u16.., 1_u16..).prop_map(|(a, b)| TcpMatch::Ports { min: a.min(b), max: a.max(b) });
    prop_oneof![net, ports]
}

fn label() -> impl Strategy<Value = Label> {
    (".{0,8}", ".{0,8}").prop_map(|(key, value)| Label { key, value })
}

/// A match of any shape, three deep at most.
pub(in crate::api) fn tap_match() -> impl Strategy<Value = Match> {
    let http = prop_oneof![
        scheme().prop_map(HttpMatch::Scheme),
        method().prop_map(HttpMatch::Method),
        text().prop_map(HttpMatch::Authority),
        text().prop_map(HttpMatch::Path),
    ];
    let leaf = prop_oneof![
        tcp().prop_map(Match::Source),
        tcp().prop_map(Match::Destination),
        http.prop_map(Match::Http),
        label().prop_map(Match::DestinationLabel),
        label().prop_map(Match::RouteLabel),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Match::All),
            vec(inner.clone(), 0..3).prop_map(Match::Any),
            inner.prop_map(|inner| Match::Not(Box::new(inner))),
        ]
    })
}

/// A question of a tap.
pub(in crate::api) fn observe() -> impl Strategy<Value = Observe> {
    let header = ("[a-z-]{1,8}", text())
        .prop_map(|(name, value)| HeaderMatch { name: name.parse().unwrap(), value });
    let rest = (any::<bool>(), few(header), any::<bool>(), any::<u32>());
    (1_u32.., tap_match(), rest).prop_map(
        |(limit, matches, (extract_headers, headers, bodies, per_second))| Observe {
            limit,
            matches,
            extract_headers,
            headers,
            bodies,
            per_second,
        },
    )
}

fn headers() -> impl Strategy<Value = Headers> {
    few((".{0,8}", vec(any::<u8>(), 0..8)))
}

fn captured() -> impl Strategy<Value = Option<Captured>> {
    of((vec(any::<u8>(), 0..8), any::<bool>())
        .prop_map(|(data, truncated)| Captured { data, truncated }))
}

fn what() -> impl Strategy<Value = What> {
    let id = || (any::<u32>(), any::<u64>()).prop_map(|(base, stream)| StreamId { base, stream });
    let end = of(prop_oneof![any::<u32>().prop_map(End::Grpc), any::<u32>().prop_map(End::Reset)]);
    prop_oneof![
        (id(), method(), of(scheme()), ".{0,8}", ".{0,8}", headers()).prop_map(
            |(id, method, scheme, authority, path, headers)| What::RequestInit {
                id,
                method,
                scheme,
                authority,
                path,
                headers
            }
        ),
        (id(), duration(), any::<u16>(), headers()).prop_map(
            |(id, since_request, status, headers)| What::ResponseInit {
                id,
                since_request,
                status,
                headers
            }
        ),
        (id(), (duration(), of(duration())), any::<u64>(), end, headers(), captured(), captured())
            .prop_map(|(id, (since_request, since_response), bytes, end, trailers, one, other)| {
                What::ResponseEnd {
                    id,
                    since_request,
                    since_response,
                    bytes,
                    end,
                    trailers,
                    request_body: one,
                    response_body: other,
                }
            }),
    ]
}

/// An event of a tap.
pub(in crate::api) fn tap_event() -> impl Strategy<Value = Event> {
    let direction =
        prop_oneof![Just(Direction::Unknown), Just(Direction::Inbound), Just(Direction::Outbound)];
    let all = (labels(), labels(), labels());
    ((of(address()), of(address())), all, direction, of(what()), any::<u64>()).prop_map(
        |((source, destination), labels, direction, what, lost)| Event {
            source,
            source_labels: labels.0,
            destination,
            destination_labels: labels.1,
            route_labels: labels.2,
            direction,
            what,
            lost,
        },
    )
}
