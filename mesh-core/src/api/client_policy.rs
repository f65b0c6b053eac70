//! Policies of clients (`outbound.OutboundPolicy`).
//!
//! Strict, unlike endpoints and profiles: a policy that cannot be read whole is refused whole, so
//! that no rule is obeyed without the one before it. What Linkerd's proxy requires is required.

mod backend;
mod breaker;
mod connection_route;
mod distribution;
mod request_route;

use linkerd2_proxy_api::outbound as proto;
use proto::proxy_protocol as kinds;

use super::codec::{
    Codec, DecodeError, Decoded, decode_duration, each, encode_duration, field, optional, required,
};
use crate::model::client_policy::{
    ClientPolicy, ClientProtocol, GrpcRoutes, HttpRoutes, OpaqueRoutes, TlsRoutes,
};

impl Codec for ClientPolicy {
    type Proto = proto::OutboundPolicy;

    fn encode(&self) -> Self::Proto {
        proto::OutboundPolicy {
            protocol: Some(self.protocol.encode()),
            metadata: Some(self.parent.encode()),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            parent: required("metadata", proto.metadata, Codec::decode)?,
            protocol: required("protocol", proto.protocol, Codec::decode)?,
        })
    }
}

impl Codec for ClientProtocol {
    type Proto = proto::ProxyProtocol;

    fn encode(&self) -> Self::Proto {
        use kinds::Kind;
        let kind = match self {
            Self::Detect { timeout, http1, http2, opaque } => Kind::Detect(kinds::Detect {
                timeout: Some(encode_duration(*timeout)),
                opaque: Some(encode_opaque(opaque)),
                http1: Some(encode_http1(http1)),
                http2: Some(encode_http2(http2)),
            }),
            Self::Opaque(routes) => Kind::Opaque(encode_opaque(routes)),
            Self::Http1(routes) => Kind::Http1(encode_http1(routes)),
            Self::Http2(routes) => Kind::Http2(encode_http2(routes)),
            Self::Grpc(routes) => Kind::Grpc(kinds::Grpc {
                routes: routes.routes.iter().map(Codec::encode).collect(),
                failure_accrual: routes.breaker.as_ref().map(Codec::encode),
            }),
            Self::Tls(routes) => {
                Kind::Tls(kinds::Tls { routes: routes.routes.iter().map(Codec::encode).collect() })
            }
        };
        proto::ProxyProtocol { kind: Some(kind) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use kinds::Kind;
        match proto.kind {
            Some(Kind::Detect(detect)) => decode_detect(detect).map_err(|e| e.at("detect")),
            Some(Kind::Opaque(opaque)) => field("opaque", opaque, decode_opaque).map(Self::Opaque),
            Some(Kind::Http1(http)) => field("http1", http, decode_http1).map(Self::Http1),
            Some(Kind::Http2(http)) => field("http2", http, decode_http2).map(Self::Http2),
            Some(Kind::Grpc(grpc)) => field("grpc", grpc, decode_grpc).map(Self::Grpc),
            Some(Kind::Tls(tls)) => field("tls", tls, decode_tls).map(Self::Tls),
            None => Err(DecodeError::new("is a protocol this proxy does not know")),
        }
    }
}

fn decode_detect(detect: kinds::Detect) -> Decoded<ClientProtocol> {
    Ok(ClientProtocol::Detect {
        timeout: required("timeout", detect.timeout, decode_duration)?,
        http1: required("http1", detect.http1, decode_http1)?,
        http2: required("http2", detect.http2, decode_http2)?,
        opaque: required("opaque", detect.opaque, decode_opaque)?,
    })
}

fn encode_http1(http: &HttpRoutes) -> kinds::Http1 {
    kinds::Http1 {
        routes: http.routes.iter().map(Codec::encode).collect(),
        failure_accrual: http.breaker.as_ref().map(Codec::encode),
    }
}

fn decode_http1(http: kinds::Http1) -> Decoded<HttpRoutes> {
    Ok(HttpRoutes {
        routes: each("routes", http.routes, Codec::decode)?,
        breaker: optional("failure_accrual", http.failure_accrual, Codec::decode)?,
    })
}

/// The message for HTTP/2 has the same fields.
fn encode_http2(http: &HttpRoutes) -> kinds::Http2 {
    let kinds::Http1 { routes, failure_accrual } = encode_http1(http);
    kinds::Http2 { routes, failure_accrual }
}

fn decode_http2(http: kinds::Http2) -> Decoded<HttpRoutes> {
    let kinds::Http2 { routes, failure_accrual } = http;
    decode_http1(kinds::Http1 { routes, failure_accrual })
}

fn decode_grpc(grpc: kinds::Grpc) -> Decoded<GrpcRoutes> {
    Ok(GrpcRoutes {
        routes: each("routes", grpc.routes, Codec::decode)?,
        breaker: optional("failure_accrual", grpc.failure_accrual, Codec::decode)?,
    })
}

fn encode_opaque(opaque: &OpaqueRoutes) -> kinds::Opaque {
    kinds::Opaque { routes: opaque.routes.iter().map(Codec::encode).collect() }
}

fn decode_opaque(opaque: kinds::Opaque) -> Decoded<OpaqueRoutes> {
    Ok(OpaqueRoutes { routes: each("routes", opaque.routes, Codec::decode)? })
}

fn decode_tls(tls: kinds::Tls) -> Decoded<TlsRoutes> {
    Ok(TlsRoutes { routes: each("routes", tls.routes, Codec::decode)? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::client_policy::{Distribution, HttpRoute, Retry, Rule};
    use crate::model::metadata::Metadata;
    use crate::model::route::http::Timeouts;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> ClientPolicy {
        let retry = Retry {
            max_retries: 1,
            max_request_bytes: 64 * 1024,
            conditions: Default::default(),
            timeout: None,
            backoff: None,
        };
        let rule = Rule {
            matches: Vec::new(),
            filters: Vec::new(),
            backends: Distribution::Empty,
            timeouts: Timeouts::default(),
            retry: Some(retry),
            allow_l5d_request_headers: false,
        };
        let route = HttpRoute {
            metadata: Metadata::new_default("route"),
            hosts: Vec::new(),
            rules: vec![rule],
        };
        let http1 = HttpRoutes { routes: vec![route], breaker: None };
        ClientPolicy {
            parent: Metadata::new_default("parent"),
            protocol: ClientProtocol::Detect {
                timeout: SECOND,
                http1,
                http2: HttpRoutes::default(),
                opaque: OpaqueRoutes::default(),
            },
        }
    }

    /// The fault found after `spoil` has spoilt a good policy.
    fn fault_after(spoil: impl FnOnce(&mut kinds::Detect)) -> String {
        let mut proto = policy().encode();
        let kind = proto.protocol.as_mut().and_then(|p| p.kind.as_mut());
        let Some(kinds::Kind::Detect(detect)) = kind else {
            panic!("not a policy for detection");
        };
        spoil(detect);
        ClientPolicy::decode(proto).unwrap_err().to_string()
    }

    fn rule(detect: &mut kinds::Detect) -> &mut proto::http_route::Rule {
        &mut detect.http1.as_mut().unwrap().routes[0].rules[0]
    }

    #[test]
    fn detection_needs_all_four_of_its_parts() {
        let faults = [
            fault_after(|detect| detect.timeout = None),
            fault_after(|detect| detect.http1 = None),
            fault_after(|detect| detect.http2 = None),
            fault_after(|detect| detect.opaque = None),
        ];
        let parts = ["timeout", "http1", "http2", "opaque"];
        let expected = parts.map(|part| format!("protocol.detect.{part}: required"));
        assert_eq!(faults, expected);
    }

    #[test]
    fn a_rule_needs_backends_and_a_retry_conditions() {
        let at = "protocol.detect.http1.routes[0].rules[0]";
        assert_eq!(
            fault_after(|detect| rule(detect).backends = None),
            format!("{at}.backends: required")
        );
        assert_eq!(
            fault_after(|detect| rule(detect).retry.as_mut().unwrap().conditions = None),
            format!("{at}.retry.conditions: required")
        );
    }

    #[test]
    fn a_policy_needs_a_protocol_that_is_known() {
        let mut proto = policy().encode();
        proto.protocol = Some(proto::ProxyProtocol { kind: None });
        let error = ClientPolicy::decode(proto).unwrap_err();
        assert_eq!(error.to_string(), "protocol: is a protocol this proxy does not know");
    }

    #[test]
    #[allow(deprecated)]
    fn the_old_request_timeout_counts_where_there_is_no_new_one() {
        type HttpRule = Rule<
            crate::model::route::http::HttpMatch,
            crate::model::client_policy::HttpFilter,
            crate::model::client_policy::HttpRetryConditions,
        >;
        let decode = |old: Option<u64>, new: Option<u64>| {
            let seconds = |secs| encode_duration(SECOND * secs as u32);
            let rule = proto::http_route::Rule {
                backends: Some(proto::http_route::Distribution {
                    kind: Some(proto::http_route::distribution::Kind::Empty(
                        proto::http_route::distribution::Empty {},
                    )),
                }),
                request_timeout: old.map(seconds),
                timeouts: new.map(|new| linkerd2_proxy_api::http_route::Timeouts {
                    request: Some(seconds(new)),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let request = HttpRule::decode(rule).unwrap().timeouts.request;
            request.map(|timeout| timeout.as_secs())
        };
        assert_eq!(decode(None, None), None);
        assert_eq!(decode(Some(1), None), Some(1));
        assert_eq!(decode(Some(1), Some(2)), Some(2));
    }
}
