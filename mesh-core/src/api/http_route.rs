//! Matches and filters of HTTP routes (`http_route.proto`), for clients and servers alike.

use std::num::NonZeroU16;
use std::time::Duration;

use http::StatusCode;
use linkerd2_proxy_api::http_route as proto;

use super::codec::{
    Codec, DecodeError, Decoded, decode_duration, decode_u16, each, encode_duration, fault, field,
    non_empty, optional, required,
};
use super::http_types::{
    decode_header_name, decode_header_value, decode_headers, decode_method, decode_scheme,
    encode_headers, encode_method, encode_scheme,
};
use crate::model::pattern::Pattern;
use crate::model::route::HostMatch;
use crate::model::route::http::{
    HeaderMatch, HeaderModifier, HttpFailure, HttpMatch, PathMatch, PathModifier, QueryParamMatch,
    Redirect, Share, Timeouts,
};

impl Codec for HostMatch {
    type Proto = proto::HostMatch;

    fn encode(&self) -> Self::Proto {
        let host = match self {
            Self::Exact(host) => proto::host_match::Match::Exact(host.clone()),
            Self::Suffix(labels) => proto::host_match::Match::Suffix(proto::host_match::Suffix {
                reverse_labels: labels.clone(),
            }),
        };
        proto::HostMatch { r#match: Some(host) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        match proto.r#match {
            Some(proto::host_match::Match::Exact(host)) => Ok(Self::Exact(host)),
            Some(proto::host_match::Match::Suffix(suffix)) => {
                Ok(Self::Suffix(suffix.reverse_labels))
            }
            None => Err(DecodeError::new("is neither exact nor a suffix")),
        }
    }
}

impl Codec for HttpMatch {
    type Proto = proto::HttpRouteMatch;

    fn encode(&self) -> Self::Proto {
        proto::HttpRouteMatch {
            path: self.path.as_ref().map(Codec::encode),
            headers: self.headers.iter().map(Codec::encode).collect(),
            query_params: self.query_params.iter().map(Codec::encode).collect(),
            method: self.method.as_ref().map(encode_method),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            path: optional("path", proto.path, Codec::decode)?,
            headers: each("headers", proto.headers, Codec::decode)?,
            query_params: each("query_params", proto.query_params, Codec::decode)?,
            method: optional("method", proto.method, decode_method)?,
        })
    }
}

impl Codec for PathMatch {
    type Proto = proto::PathMatch;

    fn encode(&self) -> Self::Proto {
        use proto::path_match::Kind;
        let kind = match self {
            Self::Exact(path) => Kind::Exact(path.clone()),
            Self::Prefix(path) => Kind::Prefix(path.clone()),
            Self::Regex(pattern) => Kind::Regex(pattern.as_str().to_string()),
        };
        proto::PathMatch { kind: Some(kind) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use proto::path_match::Kind;
        match proto.kind {
            Some(Kind::Exact(path)) => Ok(Self::Exact(path)),
            Some(Kind::Prefix(path)) => Ok(Self::Prefix(path)),
            Some(Kind::Regex(pattern)) => decode_pattern(pattern).map(Self::Regex),
            None => Err(DecodeError::new("is none of exact, prefix and regex")),
        }
    }
}

impl Codec for HeaderMatch {
    type Proto = proto::HeaderMatch;

    fn encode(&self) -> Self::Proto {
        use proto::header_match::Value;
        let (name, value) = match self {
            Self::Exact(name, value) => (name, Value::Exact(value.as_bytes().to_vec())),
            Self::Regex(name, pattern) => (name, Value::Regex(pattern.as_str().to_string())),
        };
        proto::HeaderMatch { name: name.to_string(), value: Some(value) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use proto::header_match::Value;
        let name = decode_header_name(&proto.name).map_err(|error| error.at("name"))?;
        required("value", proto.value, |value| match value {
            Value::Exact(value) => Ok(Self::Exact(name, decode_header_value(&value)?)),
            Value::Regex(pattern) => Ok(Self::Regex(name, decode_pattern(pattern)?)),
        })
    }
}

impl Codec for QueryParamMatch {
    type Proto = proto::QueryParamMatch;

    fn encode(&self) -> Self::Proto {
        use proto::query_param_match::Value;
        let (name, value) = match self {
            Self::Exact(name, value) => (name, Value::Exact(value.clone())),
            Self::Regex(name, pattern) => (name, Value::Regex(pattern.as_str().to_string())),
        };
        proto::QueryParamMatch { name: name.clone(), value: Some(value) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use proto::query_param_match::Value;
        let name = proto.name;
        required("value", proto.value, |value| match value {
            Value::Exact(value) => Ok(Self::Exact(name, value)),
            Value::Regex(pattern) => Ok(Self::Regex(name, decode_pattern(pattern)?)),
        })
    }
}

pub(super) fn decode_pattern(source: String) -> Decoded<Pattern> {
    fault(Pattern::new(source))
}

impl Codec for HeaderModifier {
    type Proto = proto::RequestHeaderModifier;

    fn encode(&self) -> Self::Proto {
        proto::RequestHeaderModifier {
            add: encode_headers(&self.add),
            set: encode_headers(&self.set),
            remove: self.remove.iter().map(ToString::to_string).collect(),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            add: decode_headers("add", proto.add)?,
            set: decode_headers("set", proto.set)?,
            remove: each("remove", proto.remove, |name| decode_header_name(&name))?,
        })
    }
}

/// The message for responses has the same fields.
pub(super) fn encode_response_modifier(modifier: &HeaderModifier) -> proto::ResponseHeaderModifier {
    let proto::RequestHeaderModifier { add, set, remove } = modifier.encode();
    proto::ResponseHeaderModifier { add, set, remove }
}

pub(super) fn decode_response_modifier(
    modifier: proto::ResponseHeaderModifier,
) -> Decoded<HeaderModifier> {
    let proto::ResponseHeaderModifier { add, set, remove } = modifier;
    HeaderModifier::decode(proto::RequestHeaderModifier { add, set, remove })
}

impl Codec for Redirect {
    type Proto = proto::RequestRedirect;

    fn encode(&self) -> Self::Proto {
        use proto::path_modifier::Replace;
        let path = self.path.as_ref().map(|path| match path {
            PathModifier::Full(path) => Replace::Full(path.clone()),
            PathModifier::Prefix(path) => Replace::Prefix(path.clone()),
        });
        proto::RequestRedirect {
            scheme: self.scheme.as_ref().map(encode_scheme),
            host: self.host.clone().unwrap_or_default(),
            path: path.map(|replace| proto::PathModifier { replace: Some(replace) }),
            port: self.port.map_or(0, |port| u32::from(port.get())),
            status: self.status.map_or(0, |status| u32::from(status.as_u16())),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use proto::path_modifier::Replace;
        let status = (proto.status != 0).then_some(proto.status);
        Ok(Self {
            scheme: optional("scheme", proto.scheme, decode_scheme)?,
            host: non_empty(proto.host),
            path: optional("path", proto.path, |path| match path.replace {
                Some(Replace::Full(path)) => Ok(PathModifier::Full(path)),
                Some(Replace::Prefix(path)) => Ok(PathModifier::Prefix(path)),
                None => Err(DecodeError::new("is neither full nor a prefix")),
            })?,
            port: field("port", proto.port, decode_u16).map(NonZeroU16::new)?,
            status: optional("status", status, decode_status)?,
        })
    }
}

impl Codec for HttpFailure {
    type Proto = proto::HttpFailureInjector;

    fn encode(&self) -> Self::Proto {
        proto::HttpFailureInjector {
            status: u32::from(self.status.as_u16()),
            message: self.message.clone(),
            ratio: encode_share(self.share),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            status: field("status", proto.status, decode_status)?,
            message: proto.message,
            share: decode_share("ratio", proto.ratio)?,
        })
    }
}

fn decode_status(status: u32) -> Decoded<StatusCode> {
    let code = u16::try_from(status).ok();
    code.and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| DecodeError::new(format!("{status} is not an HTTP status")))
}

pub(super) fn encode_share(share: Share) -> Option<proto::Ratio> {
    (share.denominator != 0)
        .then_some(proto::Ratio { numerator: share.numerator, denominator: share.denominator })
}

/// None given is 0/0, which means all.
pub(super) fn decode_share(field: &str, ratio: Option<proto::Ratio>) -> Decoded<Share> {
    let share = optional(field, ratio, |ratio| {
        if ratio.denominator == 0 || ratio.numerator > ratio.denominator {
            return Err(DecodeError::new(format!(
                "{}/{} is not a share from 0 to 1",
                ratio.numerator, ratio.denominator
            )));
        }
        Ok(Share { numerator: ratio.numerator, denominator: ratio.denominator })
    })?;
    Ok(share.unwrap_or(Share { numerator: 0, denominator: 0 }))
}

impl Codec for Timeouts {
    type Proto = proto::Timeouts;

    fn encode(&self) -> Self::Proto {
        let encode = |timeout: Option<Duration>| timeout.map(encode_duration);
        proto::Timeouts {
            response: encode(self.response),
            request: encode(self.request),
            idle: encode(self.idle),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            response: optional("response", proto.response, decode_duration)?,
            request: optional("request", proto.request, decode_duration)?,
            idle: optional("idle", proto.idle, decode_duration)?,
        })
    }
}
