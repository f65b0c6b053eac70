//! Methods, schemes and headers (`http_types.proto`).

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method};
use linkerd2_proxy_api::http_types as proto;

use super::codec::{DecodeError, Decoded, each, fault};

pub(super) fn encode_method(method: &Method) -> proto::HttpMethod {
    method.clone().into()
}

pub(super) fn decode_method(method: proto::HttpMethod) -> Decoded<Method> {
    fault(Method::try_from(method))
}

pub(super) fn encode_scheme(scheme: &Scheme) -> proto::Scheme {
    scheme.into()
}

pub(super) fn decode_scheme(scheme: proto::Scheme) -> Decoded<Scheme> {
    fault(Scheme::try_from(scheme))
}

pub(super) fn decode_header_name(name: &str) -> Decoded<HeaderName> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| DecodeError::new(format!("{name:?} is not a header name")))
}

pub(super) fn decode_header_value(value: &[u8]) -> Decoded<HeaderValue> {
    let invalid = || DecodeError::new(format!("{:?} is not a header value", value.escape_ascii()));
    HeaderValue::from_bytes(value).map_err(|_| invalid())
}

/// `None` where there are none.
pub(super) fn encode_headers(headers: &[(HeaderName, HeaderValue)]) -> Option<proto::Headers> {
    let encode = |(name, value): &(HeaderName, HeaderValue)| proto::headers::Header {
        name: name.to_string(),
        value: value.as_bytes().to_vec(),
    };
    (!headers.is_empty()).then(|| proto::Headers { headers: headers.iter().map(encode).collect() })
}

pub(super) fn decode_headers(
    field: &str,
    headers: Option<proto::Headers>,
) -> Decoded<Vec<(HeaderName, HeaderValue)>> {
    let headers = headers.map(|headers| headers.headers).unwrap_or_default();
    each(field, headers, |header| {
        let name = decode_header_name(&header.name).map_err(|error| error.at("name"))?;
        let value = decode_header_value(&header.value).map_err(|error| error.at("value"))?;
        Ok((name, value))
    })
}
