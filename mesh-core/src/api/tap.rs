//! Taps (`tap.proto`): the question, and each event of the answer.
//!
//! What is ours travels in fields that Linkerd's messages do not have, so that its proxies and
//! its tools pass over it. A match's depth and size are bounded before anything is made of it.

use linkerd2_proxy_api::tap::{self as proto, observe_request as ask, tap_event as tell};
use linkerd2_proxy_api::{http_types, net as proto_net};

use super::codec::{
    Codec, DecodeError, Decoded, Message as _, decode_duration, decode_u16, each, encode_duration,
    fault, field, optional, required,
};
use super::http_types::{
    decode_header_name, decode_method, decode_scheme, encode_method, encode_scheme,
};
use super::metadata::{decode_labels, encode_labels};
use super::net::{decode_address, decode_ip, encode_address, encode_ip};
use crate::model::labels::Labels;
use crate::model::tap::{
    Captured, Direction, End, Event, HEADER_MATCHES_MAX, HeaderMatch, Headers, HttpMatch, Label,
    MATCH_DEPTH_MAX, MATCH_PARTS_MAX, Match, Observe, StreamId, StringMatch, TcpMatch, What,
};
use crate::wire::grpc;
use crate::wire::http::{Body, Request};

/// The method, as a path.
pub const OBSERVE: &str = "/io.linkerd.proxy.tap.Tap/Observe";

/// The question to a proxy at `authority`, as a call over HTTP/2.
///
/// # Errors
/// Where `authority` is none.
pub fn call(authority: &str, observe: &Observe) -> Result<Request, http::Error> {
    http::Request::post(format!("http://{authority}{OBSERVE}"))
        .version(http::Version::HTTP_2)
        .header(http::header::CONTENT_TYPE, grpc::APPLICATION_GRPC)
        .header(http::header::TE, "trailers")
        .body(Body::full(grpc::frame(&observe.to_bytes())))
}

/// `ObserveRequest`, and what is ours.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ObserveProto {
    #[prost(uint32, tag = "1")]
    limit: u32,
    #[prost(message, optional, tag = "2")]
    r#match: Option<ask::Match>,
    #[prost(message, optional, tag = "3")]
    extract: Option<ask::Extract>,
    #[prost(message, optional, tag = "1000")]
    beyond: Option<ObserveBeyond>,
}

/// What a tap may ask of a proxy of ours.
#[derive(Clone, PartialEq, prost::Message)]
struct ObserveBeyond {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<HeaderProto>,
    #[prost(bool, tag = "2")]
    bodies: bool,
    #[prost(uint32, tag = "3")]
    per_second: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeaderProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<ask::r#match::http::StringMatch>,
}

/// `TapEvent`, and what is ours.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EventProto {
    #[prost(message, optional, tag = "1")]
    source: Option<proto_net::TcpAddress>,
    #[prost(message, optional, tag = "5")]
    source_meta: Option<tell::EndpointMeta>,
    #[prost(message, optional, tag = "7")]
    route_meta: Option<tell::RouteMeta>,
    #[prost(message, optional, tag = "2")]
    destination: Option<proto_net::TcpAddress>,
    #[prost(message, optional, tag = "4")]
    destination_meta: Option<tell::EndpointMeta>,
    #[prost(enumeration = "tell::ProxyDirection", tag = "6")]
    proxy_direction: i32,
    #[prost(oneof = "tell::Event", tags = "3")]
    event: Option<tell::Event>,
    #[prost(message, optional, tag = "1000")]
    beyond: Option<EventBeyond>,
}

/// What a proxy of ours tells beyond Linkerd's.
#[derive(Clone, PartialEq, prost::Message)]
struct EventBeyond {
    #[prost(uint64, tag = "1")]
    lost: u64,
    #[prost(message, optional, tag = "2")]
    request_body: Option<CapturedProto>,
    #[prost(message, optional, tag = "3")]
    response_body: Option<CapturedProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CapturedProto {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
    #[prost(bool, tag = "2")]
    truncated: bool,
}

impl Codec for Observe {
    type Proto = ObserveProto;

    fn encode(&self) -> ObserveProto {
        let headers = ask::extract::http::Extract::Headers(ask::extract::http::Headers {});
        let http = ask::extract::Extract::Http(ask::extract::Http { extract: Some(headers) });
        let beyond = ObserveBeyond {
            headers: self.headers.iter().map(encode_header).collect(),
            bodies: self.bodies,
            per_second: self.per_second,
        };
        ObserveProto {
            limit: self.limit,
            r#match: Some(encode_match(&self.matches)),
            extract: self.extract_headers.then_some(ask::Extract { extract: Some(http) }),
            beyond: (beyond != ObserveBeyond::default()).then_some(beyond),
        }
    }

    fn decode(proto: ObserveProto) -> Decoded<Self> {
        if proto.limit == 0 {
            return Err(DecodeError::new("must be positive").at("limit"));
        }
        let mut parts = 0;
        let matches = required("match", proto.r#match, |m| decode_match(m, 0, &mut parts))?;
        let extract = proto.extract.and_then(|extract| extract.extract);
        let extract_headers = extract.is_some_and(|ask::extract::Extract::Http(http)| {
            matches!(http.extract, Some(ask::extract::http::Extract::Headers(_)))
        });
        let beyond = proto.beyond.unwrap_or_default();
        if beyond.headers.len() > HEADER_MATCHES_MAX {
            let fault = format!("has more than {HEADER_MATCHES_MAX} items");
            return Err(DecodeError::new(fault).at("headers"));
        }
        Ok(Self {
            limit: proto.limit,
            matches,
            extract_headers,
            headers: each("headers", beyond.headers, decode_header)?,
            bodies: beyond.bodies,
            per_second: beyond.per_second,
        })
    }
}

fn encode_header(header: &HeaderMatch) -> HeaderProto {
    HeaderProto { name: header.name.to_string(), value: Some(encode_string(&header.value)) }
}

fn decode_header(header: HeaderProto) -> Decoded<HeaderMatch> {
    Ok(HeaderMatch {
        name: decode_header_name(&header.name).map_err(|error| error.at("name"))?,
        value: required("value", header.value, decode_string)?,
    })
}

fn encode_match(value: &Match) -> ask::Match {
    use ask::r#match::{self as m, Match as Proto};
    let seq = |all: &[Match]| m::Seq { matches: all.iter().map(encode_match).collect() };
    let label = |label: &Label| m::Label { key: label.key.clone(), value: label.value.clone() };
    let value = match value {
        Match::All(all) => Proto::All(seq(all)),
        Match::Any(any) => Proto::Any(seq(any)),
        Match::Not(not) => Proto::Not(Box::new(encode_match(not))),
        Match::Source(tcp) => Proto::Source(encode_tcp(tcp)),
        Match::Destination(tcp) => Proto::Destination(encode_tcp(tcp)),
        Match::Http(http) => Proto::Http(encode_http(http)),
        Match::DestinationLabel(of) => Proto::DestinationLabel(label(of)),
        Match::RouteLabel(of) => Proto::RouteLabel(label(of)),
    };
    ask::Match { r#match: Some(value) }
}

/// `parts` counts those of the whole match.
fn decode_match(proto: ask::Match, depth: usize, parts: &mut usize) -> Decoded<Match> {
    use ask::r#match::{self as m, Match as Proto};
    *parts += 1;
    if depth >= MATCH_DEPTH_MAX {
        return Err(DecodeError::new(format!("is deeper than {MATCH_DEPTH_MAX}")));
    }
    if *parts > MATCH_PARTS_MAX {
        return Err(DecodeError::new(format!("has more than {MATCH_PARTS_MAX} parts")));
    }
    let label = |label: m::Label| Label { key: label.key, value: label.value };
    let mut seq = |name: &str, seq: m::Seq| {
        let parts = seq.matches.into_iter().enumerate().map(|(index, part)| {
            let part = decode_match(part, depth + 1, parts);
            part.map_err(|error| error.at(&format!("[{index}]")).at(name))
        });
        parts.collect::<Decoded<Vec<_>>>()
    };
    Ok(match proto.r#match {
        Some(Proto::All(all)) => Match::All(seq("all", all)?),
        Some(Proto::Any(any)) => Match::Any(seq("any", any)?),
        Some(Proto::Not(not)) => {
            let not = field("not", *not, |not| decode_match(not, depth + 1, parts))?;
            Match::Not(Box::new(not))
        }
        Some(Proto::Source(tcp)) => Match::Source(field("source", tcp, decode_tcp)?),
        Some(Proto::Destination(tcp)) => Match::Destination(field("destination", tcp, decode_tcp)?),
        Some(Proto::Http(http)) => Match::Http(field("http", http, decode_http)?),
        Some(Proto::DestinationLabel(of)) => Match::DestinationLabel(label(of)),
        Some(Proto::RouteLabel(of)) => Match::RouteLabel(label(of)),
        None => return Err(DecodeError::new("matches nothing that is known here")),
    })
}

fn encode_tcp(tcp: &TcpMatch) -> ask::r#match::Tcp {
    use ask::r#match::tcp::{Match as Proto, Netmask, PortRange};
    let value = match tcp {
        TcpMatch::Net(net) => Proto::Netmask(Netmask {
            ip: Some(encode_ip(net.addr())),
            mask: u32::from(net.prefix_len()),
        }),
        TcpMatch::Ports { min, max } => {
            Proto::Ports(PortRange { min: u32::from(*min), max: u32::from(*max) })
        }
    };
    ask::r#match::Tcp { r#match: Some(value) }
}

fn decode_tcp(tcp: ask::r#match::Tcp) -> Decoded<TcpMatch> {
    use ask::r#match::tcp::Match as Proto;
    match tcp.r#match {
        Some(Proto::Netmask(netmask)) => {
            let ip = required("netmask.ip", netmask.ip, decode_ip)?;
            let bits = u8::try_from(netmask.mask).unwrap_or(u8::MAX);
            let net = fault(ipnet::IpNet::new(ip, bits)).map_err(|e| e.at("netmask.mask"))?;
            Ok(TcpMatch::Net(net))
        }
        Some(Proto::Ports(ports)) => {
            // An end that is not given is the other.
            let or = |one, other| if one == 0 { other } else { one };
            let min = field("ports.min", or(ports.min, ports.max), decode_u16)?;
            let max = field("ports.max", or(ports.max, ports.min), decode_u16)?;
            match 0 < min && min <= max {
                true => Ok(TcpMatch::Ports { min, max }),
                false => Err(DecodeError::new(format!("{min} to {max} is no port")).at("ports")),
            }
        }
        None => Err(DecodeError::new("matches nothing that is known here")),
    }
}

fn encode_http(http: &HttpMatch) -> ask::r#match::Http {
    use ask::r#match::http::Match as Proto;
    let value = match http {
        HttpMatch::Scheme(scheme) => Proto::Scheme(encode_scheme(scheme)),
        HttpMatch::Method(method) => Proto::Method(encode_method(method)),
        HttpMatch::Authority(text) => Proto::Authority(encode_string(text)),
        HttpMatch::Path(text) => Proto::Path(encode_string(text)),
    };
    ask::r#match::Http { r#match: Some(value) }
}

fn decode_http(http: ask::r#match::Http) -> Decoded<HttpMatch> {
    use ask::r#match::http::Match as Proto;
    Ok(match http.r#match {
        Some(Proto::Scheme(scheme)) => HttpMatch::Scheme(field("scheme", scheme, decode_scheme)?),
        Some(Proto::Method(method)) => HttpMatch::Method(field("method", method, decode_method)?),
        Some(Proto::Authority(text)) => {
            HttpMatch::Authority(field("authority", text, decode_string)?)
        }
        Some(Proto::Path(text)) => HttpMatch::Path(field("path", text, decode_string)?),
        None => return Err(DecodeError::new("matches nothing that is known here")),
    })
}

fn encode_string(text: &StringMatch) -> ask::r#match::http::StringMatch {
    use ask::r#match::http::string_match::Match as Proto;
    let value = match text {
        StringMatch::Exact(text) => Proto::Exact(text.clone()),
        StringMatch::Prefix(text) => Proto::Prefix(text.clone()),
    };
    ask::r#match::http::StringMatch { r#match: Some(value) }
}

fn decode_string(text: ask::r#match::http::StringMatch) -> Decoded<StringMatch> {
    use ask::r#match::http::string_match::Match as Proto;
    match text.r#match {
        Some(Proto::Exact(text)) => Ok(StringMatch::Exact(text)),
        Some(Proto::Prefix(text)) => Ok(StringMatch::Prefix(text)),
        None => Err(DecodeError::new("is neither exact nor prefix")),
    }
}

impl Codec for Event {
    type Proto = EventProto;

    fn encode(&self) -> EventProto {
        let meta = |labels: &Labels| {
            let labels = encode_labels(labels);
            (!labels.is_empty()).then_some(tell::EndpointMeta { labels })
        };
        let route = encode_labels(&self.route_labels);
        let (request_body, response_body) = match &self.what {
            Some(What::ResponseEnd { request_body, response_body, .. }) => {
                (request_body.as_ref(), response_body.as_ref())
            }
            _ => (None, None),
        };
        let captured =
            |body: &Captured| CapturedProto { data: body.data.clone(), truncated: body.truncated };
        let beyond = EventBeyond {
            lost: self.lost,
            request_body: request_body.map(captured),
            response_body: response_body.map(captured),
        };
        EventProto {
            source: self.source.map(encode_address),
            source_meta: meta(&self.source_labels),
            route_meta: (!route.is_empty()).then_some(tell::RouteMeta { labels: route }),
            destination: self.destination.map(encode_address),
            destination_meta: meta(&self.destination_labels),
            proxy_direction: i32::from(match self.direction {
                Direction::Unknown => tell::ProxyDirection::Unknown,
                Direction::Inbound => tell::ProxyDirection::Inbound,
                Direction::Outbound => tell::ProxyDirection::Outbound,
            }),
            event: self
                .what
                .as_ref()
                .map(|what| tell::Event::Http(tell::Http { event: Some(encode_what(what)) })),
            beyond: (beyond != EventBeyond::default()).then_some(beyond),
        }
    }

    fn decode(proto: EventProto) -> Decoded<Self> {
        let labels = |meta: Option<tell::EndpointMeta>| {
            meta.map_or_else(Labels::default, |meta| decode_labels(meta.labels))
        };
        let beyond = proto.beyond.unwrap_or_default();
        let event = proto.event.and_then(|tell::Event::Http(http)| http.event);
        let bodies = (beyond.request_body, beyond.response_body);
        Ok(Self {
            source: optional("source", proto.source, decode_address)?,
            source_labels: labels(proto.source_meta),
            destination: optional("destination", proto.destination, decode_address)?,
            destination_labels: labels(proto.destination_meta),
            route_labels: proto
                .route_meta
                .map_or_else(Labels::default, |meta| decode_labels(meta.labels)),
            direction: match tell::ProxyDirection::try_from(proto.proxy_direction) {
                Ok(tell::ProxyDirection::Inbound) => Direction::Inbound,
                Ok(tell::ProxyDirection::Outbound) => Direction::Outbound,
                _ => Direction::Unknown,
            },
            what: optional("http", event, |event| decode_what(event, bodies))?,
            lost: beyond.lost,
        })
    }
}

fn encode_what(what: &What) -> tell::http::Event {
    use tell::http::Event as Proto;
    let encode_id = |id: &StreamId| tell::http::StreamId { base: id.base, stream: id.stream };
    match what {
        What::RequestInit { id, method, scheme, authority, path, headers } => {
            Proto::RequestInit(tell::http::RequestInit {
                id: Some(encode_id(id)),
                method: Some(encode_method(method)),
                scheme: scheme.as_ref().map(encode_scheme),
                authority: authority.clone(),
                path: path.clone(),
                headers: encode_headers(headers),
            })
        }
        What::ResponseInit { id, since_request, status, headers } => {
            Proto::ResponseInit(tell::http::ResponseInit {
                id: Some(encode_id(id)),
                since_request_init: Some(encode_duration(*since_request)),
                http_status: u32::from(*status),
                headers: encode_headers(headers),
            })
        }
        What::ResponseEnd { id, since_request, since_response, bytes, end, trailers, .. } => {
            let end = end.map(|end| match end {
                End::Grpc(code) => proto::eos::End::GrpcStatusCode(code),
                End::Reset(code) => proto::eos::End::ResetErrorCode(code),
            });
            Proto::ResponseEnd(tell::http::ResponseEnd {
                id: Some(encode_id(id)),
                since_request_init: Some(encode_duration(*since_request)),
                since_response_init: since_response.map(encode_duration),
                response_bytes: *bytes,
                eos: end.map(|end| proto::Eos { end: Some(end) }),
                trailers: encode_headers(trailers),
            })
        }
    }
}

fn decode_what(
    event: tell::http::Event,
    bodies: (Option<CapturedProto>, Option<CapturedProto>),
) -> Decoded<What> {
    use tell::http::Event as Proto;
    let decode_id = |id: Option<tell::http::StreamId>| {
        id.map_or_else(StreamId::default, |id| StreamId { base: id.base, stream: id.stream })
    };
    let captured = |body: CapturedProto| Captured { data: body.data, truncated: body.truncated };
    Ok(match event {
        Proto::RequestInit(init) => What::RequestInit {
            id: decode_id(init.id),
            method: required("request_init.method", init.method, decode_method)?,
            scheme: optional("request_init.scheme", init.scheme, decode_scheme)?,
            authority: init.authority,
            path: init.path,
            headers: decode_headers(init.headers),
        },
        Proto::ResponseInit(init) => What::ResponseInit {
            id: decode_id(init.id),
            since_request: decode_time("response_init", init.since_request_init)?,
            status: field("response_init.http_status", init.http_status, decode_u16)?,
            headers: decode_headers(init.headers),
        },
        Proto::ResponseEnd(end) => What::ResponseEnd {
            id: decode_id(end.id),
            since_request: decode_time("response_end", end.since_request_init)?,
            since_response: optional(
                "response_end.since_response_init",
                end.since_response_init,
                decode_duration,
            )?,
            bytes: end.response_bytes,
            end: end.eos.and_then(|eos| eos.end).map(|end| match end {
                proto::eos::End::GrpcStatusCode(code) => End::Grpc(code),
                proto::eos::End::ResetErrorCode(code) => End::Reset(code),
            }),
            trailers: decode_headers(end.trailers),
            request_body: bodies.0.map(captured),
            response_body: bodies.1.map(captured),
        },
    })
}

/// A time that is left out is none.
fn decode_time(name: &str, time: Option<prost_types::Duration>) -> Decoded<std::time::Duration> {
    optional(name, time, decode_duration).map(Option::unwrap_or_default)
}

fn encode_headers(headers: &Headers) -> Option<http_types::Headers> {
    let encode = |(name, value): &(String, Vec<u8>)| http_types::headers::Header {
        name: name.clone(),
        value: value.clone(),
    };
    let headers: Vec<_> = headers.iter().map(encode).collect();
    (!headers.is_empty()).then_some(http_types::Headers { headers })
}

fn decode_headers(headers: Option<http_types::Headers>) -> Headers {
    let headers = headers.map(|headers| headers.headers).unwrap_or_default();
    headers.into_iter().map(|header| (header.name, header.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::codec::Message;
    use prost::Message as _;

    fn observe(matches: Match) -> Observe {
        Observe {
            limit: 1,
            matches,
            extract_headers: false,
            headers: Vec::new(),
            bodies: false,
            per_second: 0,
        }
    }

    fn nested(depth: usize) -> Match {
        (1..depth).fold(Match::All(Vec::new()), |inner, _| Match::Not(Box::new(inner)))
    }

    #[test]
    fn linkerds_proxies_read_our_question_and_pass_over_what_is_ours() {
        let ours = Observe {
            headers: vec![HeaderMatch {
                name: "x-user".parse().unwrap(),
                value: StringMatch::Exact("7".into()),
            }],
            bodies: true,
            per_second: 10,
            ..observe(Match::All(Vec::new()))
        };
        let theirs = proto::ObserveRequest::decode(&*ours.to_bytes()).unwrap();
        assert_eq!(theirs.limit, 1);
        let plain = Observe::from_bytes(&theirs.encode_to_vec()).unwrap();
        assert_eq!(plain, observe(Match::All(Vec::new())));
    }

    #[test]
    fn a_match_is_bounded_in_depth_and_size() {
        let at = |matches| Observe::from_bytes(&observe(matches).to_bytes()).map(|_| ());
        assert!(at(nested(MATCH_DEPTH_MAX)).is_ok());
        let error = at(nested(MATCH_DEPTH_MAX + 1)).unwrap_err();
        assert_eq!(error.fault(), "is deeper than 16");
        let wide = |parts| Match::Any(vec![Match::All(Vec::new()); parts]);
        assert!(at(wide(MATCH_PARTS_MAX - 1)).is_ok());
        let error = at(wide(MATCH_PARTS_MAX)).unwrap_err();
        assert_eq!(error.fault(), "has more than 1024 parts");
    }

    #[test]
    fn a_question_without_a_limit_or_a_match_is_refused() {
        let without = |change: fn(&mut ObserveProto)| {
            let mut proto = observe(Match::All(Vec::new())).encode();
            change(&mut proto);
            Observe::decode(proto).unwrap_err().to_string()
        };
        assert_eq!(without(|proto| proto.limit = 0), "limit: must be positive");
        assert_eq!(without(|proto| proto.r#match = None), "match: required");
    }

    #[test]
    fn a_range_of_ports_with_one_end_is_one_port() {
        use ask::r#match::tcp::{Match as Proto, PortRange};
        let decode = |min, max| {
            let ports = Proto::Ports(PortRange { min, max });
            decode_tcp(ask::r#match::Tcp { r#match: Some(ports) })
        };
        assert_eq!(decode(80, 0), Ok(TcpMatch::Ports { min: 80, max: 80 }));
        assert_eq!(decode(0, 80), Ok(TcpMatch::Ports { min: 80, max: 80 }));
        assert!(decode(0, 0).is_err());
        assert!(decode(81, 80).is_err());
        assert!(decode(1, 70_000).is_err());
    }
}
