//! Routes of connections: opaque, and TLS by SNI. They differ in names alone.

use linkerd2_proxy_api::opaque_route::{Forbidden, Invalid};
use linkerd2_proxy_api::outbound as proto;
use linkerd2_proxy_api::tls_route as sni;

use super::distribution;
use crate::api::codec::{Codec, DecodeError, Decoded, each, required};
use crate::model::client_policy::{ConnectionFilter, ConnectionRule, OpaqueRoute, TlsRoute};
use crate::model::route::HostMatch;

impl Codec for OpaqueRoute {
    type Proto = proto::OpaqueRoute;

    fn encode(&self) -> Self::Proto {
        let encode_rule = |rule: &ConnectionRule| proto::opaque_route::Rule {
            backends: Some(distribution::opaque_route::encode(&rule.backends)),
            filters: rule.filters.iter().map(encode_opaque_filter).collect(),
        };
        proto::OpaqueRoute {
            metadata: Some(self.metadata.encode()),
            rules: self.rules.iter().map(encode_rule).collect(),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let decode_rule = |rule: proto::opaque_route::Rule| {
            let decode = distribution::opaque_route::decode;
            Ok(ConnectionRule {
                backends: required("backends", rule.backends, decode)?,
                filters: each("filters", rule.filters, decode_opaque_filter)?,
            })
        };
        Ok(Self {
            metadata: required("metadata", proto.metadata, Codec::decode)?,
            rules: each("rules", proto.rules, decode_rule)?,
        })
    }
}

impl Codec for TlsRoute {
    type Proto = proto::TlsRoute;

    fn encode(&self) -> Self::Proto {
        let encode_rule = |rule: &ConnectionRule| proto::tls_route::Rule {
            backends: Some(distribution::tls_route::encode(&rule.backends)),
            filters: rule.filters.iter().map(encode_tls_filter).collect(),
        };
        proto::TlsRoute {
            metadata: Some(self.metadata.encode()),
            snis: self.snis.iter().map(encode_sni).collect(),
            rules: self.rules.iter().map(encode_rule).collect(),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let decode_rule = |rule: proto::tls_route::Rule| {
            let decode = distribution::tls_route::decode;
            Ok(ConnectionRule {
                backends: required("backends", rule.backends, decode)?,
                filters: each("filters", rule.filters, decode_tls_filter)?,
            })
        };
        Ok(Self {
            metadata: required("metadata", proto.metadata, Codec::decode)?,
            snis: each("snis", proto.snis, decode_sni)?,
            rules: each("rules", proto.rules, decode_rule)?,
        })
    }
}

fn encode_sni(name: &HostMatch) -> sni::SniMatch {
    let name = match name {
        HostMatch::Exact(name) => sni::sni_match::Match::Exact(name.clone()),
        HostMatch::Suffix(labels) => {
            sni::sni_match::Match::Suffix(sni::sni_match::Suffix { reverse_labels: labels.clone() })
        }
    };
    sni::SniMatch { r#match: Some(name) }
}

fn decode_sni(name: sni::SniMatch) -> Decoded<HostMatch> {
    match name.r#match {
        Some(sni::sni_match::Match::Exact(name)) => Ok(HostMatch::Exact(name)),
        Some(sni::sni_match::Match::Suffix(suffix)) => Ok(HostMatch::Suffix(suffix.reverse_labels)),
        None => Err(DecodeError::new("is neither exact nor a suffix")),
    }
}

pub(super) fn encode_opaque_filter(filter: &ConnectionFilter) -> proto::opaque_route::Filter {
    use proto::opaque_route::filter::Kind;
    let kind = match filter {
        ConnectionFilter::Invalid(message) => {
            Some(Kind::Invalid(Invalid { message: message.clone() }))
        }
        ConnectionFilter::Forbidden => Some(Kind::Forbidden(Forbidden {})),
        ConnectionFilter::Unknown => None,
    };
    proto::opaque_route::Filter { kind }
}

pub(super) fn decode_opaque_filter(
    filter: proto::opaque_route::Filter,
) -> Decoded<ConnectionFilter> {
    use proto::opaque_route::filter::Kind;
    Ok(match filter.kind {
        Some(Kind::Invalid(invalid)) => ConnectionFilter::Invalid(invalid.message),
        Some(Kind::Forbidden(Forbidden {})) => ConnectionFilter::Forbidden,
        None => ConnectionFilter::Unknown,
    })
}

pub(super) fn encode_tls_filter(filter: &ConnectionFilter) -> proto::tls_route::Filter {
    use proto::tls_route::filter::Kind;
    let kind = match filter {
        ConnectionFilter::Invalid(message) => {
            Some(Kind::Invalid(Invalid { message: message.clone() }))
        }
        ConnectionFilter::Forbidden => Some(Kind::Forbidden(Forbidden {})),
        ConnectionFilter::Unknown => None,
    };
    proto::tls_route::Filter { kind }
}

pub(super) fn decode_tls_filter(filter: proto::tls_route::Filter) -> Decoded<ConnectionFilter> {
    use proto::tls_route::filter::Kind;
    Ok(match filter.kind {
        Some(Kind::Invalid(invalid)) => ConnectionFilter::Invalid(invalid.message),
        Some(Kind::Forbidden(Forbidden {})) => ConnectionFilter::Forbidden,
        None => ConnectionFilter::Unknown,
    })
}
