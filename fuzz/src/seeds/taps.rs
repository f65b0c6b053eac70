//! Messages of taps.

use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderName, Method};
use mesh_core::api::Message;
use mesh_core::model::tap::{
    Captured, Direction, End, Event, HeaderMatch, HttpMatch, Label, MATCH_DEPTH_MAX, Match,
    Observe, StreamId, StringMatch, TcpMatch, What,
};

/// Questions: everything, every kind of part, and the deepest.
pub(super) fn questions() -> Vec<Vec<u8>> {
    let deepest =
        (1..MATCH_DEPTH_MAX).fold(Match::All(Vec::new()), |inner, level| match level % 2 {
            0 => Match::Not(Box::new(inner)),
            _ => Match::Any(vec![inner]),
        });
    let asked = |matches| Observe {
        limit: 100,
        matches,
        extract_headers: true,
        headers: vec![HeaderMatch {
            name: HeaderName::from_static("x-tenant"),
            value: StringMatch::Prefix("ac".into()),
        }],
        bodies: true,
        per_second: 100,
    };
    let plain = Observe {
        extract_headers: false,
        headers: Vec::new(),
        bodies: false,
        per_second: 0,
        ..asked(Match::All(Vec::new()))
    };
    let all = [plain, asked(parts()), asked(deepest)];
    all.map(|observe| observe.to_bytes()).to_vec()
}

/// Every kind of part.
fn parts() -> Match {
    let label = |key: &str, value: &str| Label { key: key.into(), value: value.into() };
    let net = TcpMatch::Net("10.0.0.0/8".parse().expect("a network"));
    let net6 = TcpMatch::Net("fd00::/64".parse().expect("a network"));
    Match::All(vec![
        Match::Http(HttpMatch::Method(Method::POST)),
        Match::Http(HttpMatch::Scheme(Scheme::HTTPS)),
        Match::Http(HttpMatch::Authority(StringMatch::Exact("web.shop".into()))),
        Match::Http(HttpMatch::Path(StringMatch::Prefix("/v1/".into()))),
        Match::Any(vec![Match::Source(net), Match::Source(net6)]),
        Match::Not(Box::new(Match::Destination(TcpMatch::Ports { min: 8_080, max: 8_090 }))),
        Match::DestinationLabel(label("service", "web")),
        Match::RouteLabel(label("route", "list")),
    ])
}

/// Events: each moment of a request, and a loss.
pub(super) fn events() -> Vec<Vec<u8>> {
    let id = StreamId { base: 3, stream: 41 };
    let headers = vec![("x-tenant".to_owned(), b"acme".to_vec()), (":path".to_owned(), vec![0xff])];
    let captured = Captured { data: b"{\"a\":\"***\"}".to_vec(), truncated: true };
    let moments = [
        Some(What::RequestInit {
            id,
            method: Method::GET,
            scheme: Some(Scheme::HTTP),
            authority: "web.shop:80".into(),
            path: "/v1/items".into(),
            headers: headers.clone(),
        }),
        Some(What::ResponseInit {
            id,
            since_request: Duration::from_micros(1_024),
            status: 200,
            headers: headers.clone(),
        }),
        Some(What::ResponseEnd {
            id,
            since_request: Duration::from_millis(3),
            since_response: Some(Duration::from_millis(2)),
            bytes: 4_096,
            end: Some(End::Grpc(14)),
            trailers: headers,
            request_body: Some(captured.clone()),
            response_body: Some(captured),
        }),
        None,
    ];
    let event = |what| {
        let event = Event {
            source: Some(([10, 0, 0, 5], 41_234).into()),
            source_labels: [("pod", "client-1"), ("tls", "true")].into_iter().collect(),
            destination: Some(([0xfd00, 0, 0, 0, 0, 0, 0, 7], 8_080).into()),
            destination_labels: [("namespace", "shop"), ("pod", "web-1")].into_iter().collect(),
            route_labels: [("route", "list")].into_iter().collect(),
            direction: Direction::Outbound,
            what,
            lost: 7,
        };
        event.to_bytes()
    };
    moments.map(event).to_vec()
}
