//! Routes of requests: HTTP and gRPC. Their rules have the same fields under different types, so
//! one macro writes both.

use linkerd2_proxy_api::outbound as proto;

use super::distribution;
use crate::api::codec::{
    Codec, DecodeError, Decoded, decode_duration, decode_u16, each, encode_duration, field,
    optional, required,
};
use crate::api::http_route::{decode_response_modifier, encode_response_modifier};
use crate::model::client_policy::{
    GrpcFilter, GrpcRetryConditions, GrpcRoute, HttpFilter, HttpRetryConditions, HttpRoute, Retry,
    Rule,
};
use crate::model::route::grpc::GrpcMatch;
use crate::model::route::http::{HttpMatch, Timeouts};

/// Writes the codecs of a route, its rules and their retries.
macro_rules! request_route {
    ($name:ident, $route:ident, $match:ty, $filter:ty, $conditions:ty) => {
        impl Codec for $route {
            type Proto = proto::$route;

            fn encode(&self) -> Self::Proto {
                proto::$route {
                    metadata: Some(self.metadata.encode()),
                    hosts: self.hosts.iter().map(Codec::encode).collect(),
                    rules: self.rules.iter().map(Codec::encode).collect(),
                }
            }

            fn decode(proto: Self::Proto) -> Decoded<Self> {
                Ok(Self {
                    metadata: required("metadata", proto.metadata, Codec::decode)?,
                    hosts: each("hosts", proto.hosts, Codec::decode)?,
                    rules: each("rules", proto.rules, Codec::decode)?,
                })
            }
        }

        impl Codec for Rule<$match, $filter, $conditions> {
            type Proto = proto::$name::Rule;

            // Proxies older than `timeouts` know the request's timeout as `requestTimeout`.
            #[allow(deprecated)]
            fn encode(&self) -> Self::Proto {
                proto::$name::Rule {
                    matches: self.matches.iter().map(Codec::encode).collect(),
                    filters: self.filters.iter().map(Codec::encode).collect(),
                    backends: Some(distribution::$name::encode(&self.backends)),
                    request_timeout: self.timeouts.request.map(encode_duration),
                    timeouts: Some(self.timeouts.encode()),
                    retry: self.retry.as_ref().map(Codec::encode),
                    allow_l5d_request_headers: self.allow_l5d_request_headers,
                }
            }

            #[allow(deprecated)]
            fn decode(proto: Self::Proto) -> Decoded<Self> {
                let old = optional("requestTimeout", proto.request_timeout, decode_duration)?;
                let timeouts = optional("timeouts", proto.timeouts, Timeouts::decode)?;
                let timeouts = timeouts.unwrap_or_default();
                Ok(Self {
                    matches: each("matches", proto.matches, Codec::decode)?,
                    filters: each("filters", proto.filters, Codec::decode)?,
                    backends: required("backends", proto.backends, distribution::$name::decode)?,
                    timeouts: Timeouts { request: timeouts.request.or(old), ..timeouts },
                    retry: optional("retry", proto.retry, Codec::decode)?,
                    allow_l5d_request_headers: proto.allow_l5d_request_headers,
                })
            }
        }

        impl Codec for Retry<$conditions> {
            type Proto = proto::$name::Retry;

            fn encode(&self) -> Self::Proto {
                proto::$name::Retry {
                    max_retries: u32::from(self.max_retries),
                    max_request_bytes: self.max_request_bytes,
                    conditions: Some(self.conditions.encode()),
                    timeout: self.timeout.map(encode_duration),
                    backoff: self.backoff.as_ref().map(Codec::encode),
                }
            }

            fn decode(proto: Self::Proto) -> Decoded<Self> {
                Ok(Self {
                    max_retries: u16::try_from(proto.max_retries).unwrap_or(u16::MAX),
                    max_request_bytes: proto.max_request_bytes,
                    conditions: required("conditions", proto.conditions, Codec::decode)?,
                    timeout: optional("timeout", proto.timeout, decode_duration)?,
                    backoff: optional("backoff", proto.backoff, Codec::decode)?,
                })
            }
        }
    };
}

request_route!(http_route, HttpRoute, HttpMatch, HttpFilter, HttpRetryConditions);
request_route!(grpc_route, GrpcRoute, GrpcMatch, GrpcFilter, GrpcRetryConditions);

impl Codec for HttpRetryConditions {
    type Proto = proto::http_route::retry::Conditions;

    fn encode(&self) -> Self::Proto {
        let encode_range =
            |&(start, end): &(u16, u16)| proto::http_route::retry::conditions::StatusRange {
                start: u32::from(start),
                end: u32::from(end),
            };
        Self::Proto { status_ranges: self.statuses.iter().map(encode_range).collect() }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let statuses = each("status_ranges", proto.status_ranges, |range| {
            let start = field("start", range.start, decode_u16)?;
            let end = field("end", range.end, decode_u16)?;
            if start > end {
                return Err(DecodeError::new(format!("{start} to {end} is no range")));
            }
            Ok((start, end))
        })?;
        Ok(Self { statuses })
    }
}

impl Codec for GrpcRetryConditions {
    type Proto = proto::grpc_route::retry::Conditions;

    fn encode(&self) -> Self::Proto {
        Self::Proto {
            cancelled: self.cancelled,
            deadine_exceeded: self.deadline_exceeded,
            resource_exhausted: self.resource_exhausted,
            internal: self.internal,
            unavailable: self.unavailable,
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            cancelled: proto.cancelled,
            deadline_exceeded: proto.deadine_exceeded,
            resource_exhausted: proto.resource_exhausted,
            internal: proto.internal,
            unavailable: proto.unavailable,
        })
    }
}

impl Codec for HttpFilter {
    type Proto = proto::http_route::Filter;

    fn encode(&self) -> Self::Proto {
        use proto::http_route::filter::Kind;
        let kind = match self {
            Self::Failure(failure) => Some(Kind::FailureInjector(failure.encode())),
            Self::RequestHeaders(modifier) => Some(Kind::RequestHeaderModifier(modifier.encode())),
            Self::Redirect(redirect) => Some(Kind::Redirect(redirect.encode())),
            Self::ResponseHeaders(modifier) => {
                Some(Kind::ResponseHeaderModifier(encode_response_modifier(modifier)))
            }
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
            Some(Kind::ResponseHeaderModifier(modifier)) => {
                let decode = decode_response_modifier;
                field("response_header_modifier", modifier, decode).map(Self::ResponseHeaders)
            }
            None => Ok(Self::Unknown),
        }
    }
}

impl Codec for GrpcFilter {
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
