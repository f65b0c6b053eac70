//! Policies of servers (`inbound.Server`).
//!
//! Strict: a policy that cannot be read whole is refused whole, for a rule left out could let
//! somebody in. The Server itself travels in labels alone, so it comes without a namespace.

use linkerd2_proxy_api::inbound as proto;
use proto::proxy_protocol as kinds;

use super::codec::{
    Codec, DecodeError, Decoded, decode_duration, each, encode_duration, fault, field, optional,
    required,
};
use super::metadata::{decode_labelled, encode_labelled};
use crate::model::identity::Identity;
use crate::model::server_policy::{
    RateLimit, RateLimitOverride, ServerGrpcFilter, ServerGrpcRoute, ServerHttpFilter,
    ServerHttpRoute, ServerHttpRoutes, ServerPolicy, ServerProtocol, ServerRule,
};

impl Codec for ServerPolicy {
    type Proto = proto::Server;

    fn encode(&self) -> Self::Proto {
        proto::Server {
            protocol: Some(self.protocol.encode()),
            // Linkerd's proxy ignores these, and so does this one.
            server_ips: Vec::new(),
            authorizations: self.authorizations.iter().map(Codec::encode).collect(),
            labels: encode_labelled(&self.server, &self.labels),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let (server, labels) = decode_labelled(proto.labels)?;
        Ok(Self {
            server,
            protocol: required("protocol", proto.protocol, Codec::decode)?,
            authorizations: each("authorizations", proto.authorizations, Codec::decode)?,
            labels,
        })
    }
}

impl Codec for ServerProtocol {
    type Proto = proto::ProxyProtocol;

    fn encode(&self) -> Self::Proto {
        use kinds::Kind;
        let kind = match self {
            Self::Detect { timeout, routes, rate_limit } => Kind::Detect(kinds::Detect {
                timeout: Some(encode_duration(*timeout)),
                http_routes: routes.iter().map(Codec::encode).collect(),
                http_local_rate_limit: rate_limit.as_ref().map(Codec::encode),
            }),
            Self::Http1(http) => Kind::Http1(kinds::Http1 {
                routes: http.routes.iter().map(Codec::encode).collect(),
                local_rate_limit: http.rate_limit.as_ref().map(Codec::encode),
            }),
            Self::Http2(http) => Kind::Http2(kinds::Http2 {
                routes: http.routes.iter().map(Codec::encode).collect(),
                local_rate_limit: http.rate_limit.as_ref().map(Codec::encode),
            }),
            Self::Grpc(routes) => {
                Kind::Grpc(kinds::Grpc { routes: routes.iter().map(Codec::encode).collect() })
            }
            Self::Opaque => Kind::Opaque(kinds::Opaque {}),
            Self::Tls => Kind::Tls(kinds::Tls {}),
        };
        proto::ProxyProtocol { kind: Some(kind) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use kinds::Kind;
        match proto.kind {
            Some(Kind::Detect(detect)) => field("detect", detect, decode_detect),
            Some(Kind::Http1(http)) => {
                field("http1", http, |http| decode_http(http.routes, http.local_rate_limit))
                    .map(Self::Http1)
            }
            Some(Kind::Http2(http)) => {
                field("http2", http, |http| decode_http(http.routes, http.local_rate_limit))
                    .map(Self::Http2)
            }
            Some(Kind::Grpc(grpc)) => {
                field("grpc", grpc.routes, |routes| each("routes", routes, Codec::decode))
                    .map(Self::Grpc)
            }
            Some(Kind::Opaque(kinds::Opaque {})) => Ok(Self::Opaque),
            Some(Kind::Tls(kinds::Tls {})) => Ok(Self::Tls),
            None => Err(DecodeError::new("is a protocol this proxy does not know")),
        }
    }
}

fn decode_detect(detect: kinds::Detect) -> Decoded<ServerProtocol> {
    let rate_limit = detect.http_local_rate_limit;
    Ok(ServerProtocol::Detect {
        timeout: required("timeout", detect.timeout, decode_duration)?,
        routes: each("http_routes", detect.http_routes, Codec::decode)?,
        rate_limit: optional("http_local_rate_limit", rate_limit, Codec::decode)?,
    })
}

fn decode_http(
    routes: Vec<proto::HttpRoute>,
    rate_limit: Option<proto::HttpLocalRateLimit>,
) -> Decoded<ServerHttpRoutes> {
    Ok(ServerHttpRoutes {
        routes: each("routes", routes, Codec::decode)?,
        rate_limit: optional("local_rate_limit", rate_limit, Codec::decode)?,
    })
}

/// Writes the codec of a route of a port; those of HTTP and gRPC differ in their types alone.
macro_rules! server_route {
    ($route:ty, $proto:ident, $name:ident) => {
        impl Codec for $route {
            type Proto = proto::$proto;

            fn encode(&self) -> Self::Proto {
                let encode_rule = |rule: &ServerRule<_, _>| proto::$name::Rule {
                    matches: rule.matches.iter().map(Codec::encode).collect(),
                    filters: rule.filters.iter().map(Codec::encode).collect(),
                };
                proto::$proto {
                    metadata: Some(self.metadata.encode()),
                    hosts: self.hosts.iter().map(Codec::encode).collect(),
                    authorizations: self.authorizations.iter().map(Codec::encode).collect(),
                    rules: self.rules.iter().map(encode_rule).collect(),
                }
            }

            fn decode(proto: Self::Proto) -> Decoded<Self> {
                let decode_rule = |rule: proto::$name::Rule| {
                    Ok(ServerRule {
                        matches: each("matches", rule.matches, Codec::decode)?,
                        filters: each("filters", rule.filters, Codec::decode)?,
                    })
                };
                Ok(Self {
                    metadata: required("metadata", proto.metadata, Codec::decode)?,
                    hosts: each("hosts", proto.hosts, Codec::decode)?,
                    authorizations: each("authorizations", proto.authorizations, Codec::decode)?,
                    rules: each("rules", proto.rules, decode_rule)?,
                })
            }
        }
    };
}

server_route!(ServerHttpRoute, HttpRoute, http_route);
server_route!(ServerGrpcRoute, GrpcRoute, grpc_route);

impl Codec for ServerHttpFilter {
    type Proto = proto::http_route::Filter;

    fn encode(&self) -> Self::Proto {
        use proto::http_route::filter::Kind;
        let kind = match self {
            Self::Failure(failure) => Some(Kind::FailureInjector(failure.encode())),
            Self::RequestHeaders(modifier) => Some(Kind::RequestHeaderModifier(modifier.encode())),
            Self::Redirect(redirect) => Some(Kind::Redirect(redirect.encode())),
            Self::Unknown => None,
        };
        Self::Proto { kind }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use proto::http_route::filter::Kind;
        match proto.kind {
            Some(Kind::FailureInjector(failure)) => {
                field("failure_injector", failure, Codec::decode).map(Self::Failure)
            }
            Some(Kind::RequestHeaderModifier(modifier)) => {
                field("request_header_modifier", modifier, Codec::decode).map(Self::RequestHeaders)
            }
            Some(Kind::Redirect(redirect)) => {
                field("redirect", redirect, Codec::decode).map(Self::Redirect)
            }
            None => Ok(Self::Unknown),
        }
    }
}

impl Codec for ServerGrpcFilter {
    type Proto = proto::grpc_route::Filter;

    fn encode(&self) -> Self::Proto {
        use proto::grpc_route::filter::Kind;
        let kind = match self {
            Self::Failure(failure) => Some(Kind::FailureInjector(failure.encode())),
            Self::RequestHeaders(modifier) => Some(Kind::RequestHeaderModifier(modifier.encode())),
            Self::Unknown => None,
        };
        Self::Proto { kind }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use proto::grpc_route::filter::Kind;
        match proto.kind {
            Some(Kind::FailureInjector(failure)) => {
                field("failure_injector", failure, Codec::decode).map(Self::Failure)
            }
            Some(Kind::RequestHeaderModifier(modifier)) => {
                field("request_header_modifier", modifier, Codec::decode).map(Self::RequestHeaders)
            }
            None => Ok(Self::Unknown),
        }
    }
}

impl Codec for RateLimit {
    type Proto = proto::HttpLocalRateLimit;

    fn encode(&self) -> Self::Proto {
        proto::HttpLocalRateLimit {
            metadata: Some(self.metadata.encode()),
            total: self.total.map(encode_limit),
            identity: self.identity.map(encode_limit),
            overrides: self.overrides.iter().map(Codec::encode).collect(),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            metadata: required("metadata", proto.metadata, Codec::decode)?,
            total: proto.total.map(|limit| limit.requests_per_second),
            identity: proto.identity.map(|limit| limit.requests_per_second),
            overrides: each("overrides", proto.overrides, Codec::decode)?,
        })
    }
}

impl Codec for RateLimitOverride {
    type Proto = proto::http_local_rate_limit::Override;

    fn encode(&self) -> Self::Proto {
        let clients = proto::http_local_rate_limit::r#override::ClientIdentities {
            identities: self.clients.iter().map(Codec::encode).collect(),
        };
        Self::Proto { limit: Some(encode_limit(self.requests_per_second)), clients: Some(clients) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            requests_per_second: required("limit", proto.limit, |l| Ok(l.requests_per_second))?,
            clients: required("clients", proto.clients, |clients| {
                each("identities", clients.identities, Codec::decode)
            })?,
        })
    }
}

fn encode_limit(requests_per_second: u32) -> proto::http_local_rate_limit::Limit {
    proto::http_local_rate_limit::Limit { requests_per_second }
}

impl Codec for Identity {
    type Proto = proto::Identity;

    fn encode(&self) -> Self::Proto {
        proto::Identity { name: self.to_string() }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        fault(Self::new(&proto.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::labels::Labels;
    use crate::model::metadata::{Metadata, ResourceRef};

    fn policy() -> ServerPolicy {
        ServerPolicy {
            server: Metadata::new_resource(ResourceRef {
                group: "policy.linkerd.io".into(),
                kind: "server".into(),
                name: "web-http".into(),
                ..ResourceRef::default()
            }),
            protocol: ServerProtocol::Opaque,
            authorizations: Vec::new(),
            labels: Labels::default(),
        }
    }

    #[test]
    fn the_server_travels_as_labels() {
        let labels = policy().encode().labels;
        let sorted = std::collections::BTreeMap::from_iter(labels);
        let expected = [("group", "policy.linkerd.io"), ("kind", "server"), ("name", "web-http")];
        assert!(sorted.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
    }

    #[test]
    fn a_policy_needs_its_labels_and_a_protocol() {
        let mut proto = policy().encode();
        proto.protocol = None;
        let error = ServerPolicy::decode(proto.clone()).unwrap_err();
        assert_eq!(error.to_string(), "protocol: required");
        proto.labels.remove("kind");
        let error = ServerPolicy::decode(proto).unwrap_err();
        assert_eq!(error.to_string(), r#"labels["kind"]: required"#);
    }

    #[test]
    fn detection_needs_its_timeout() {
        let mut proto = policy().encode();
        let kind = kinds::Kind::Detect(kinds::Detect::default());
        proto.protocol = Some(proto::ProxyProtocol { kind: Some(kind) });
        let error = ServerPolicy::decode(proto).unwrap_err();
        assert_eq!(error.to_string(), "protocol.detect.timeout: required");
    }
}
