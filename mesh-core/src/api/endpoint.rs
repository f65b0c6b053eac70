//! Endpoints and changes of the set of them (`destination.Update`, `destination.WeightedAddr`).
//!
//! An update is a difference, so one endpoint that makes no sense is left out, with a warning,
//! rather than the rest lost with it. An endpoint whose identity cannot be read is left out too:
//! it is never reached in plaintext for that.

use std::num::NonZeroU16;

use linkerd2_proxy_api::destination as proto;

use super::codec::{
    Codec, DecodeError, Decoded, decode_duration, decode_u16, each_valid, encode_duration, fault,
    field, optional, required,
};
use super::metadata::{decode_labels, encode_labels};
use super::net::{decode_address, encode_address};
use crate::model::endpoint::{Endpoint, EndpointUpdate, ProtocolHint};
use crate::model::identity::{DnsName, Identity, ServerTls};
use crate::model::protocol::{FlowControl, Http2Internals, Http2Params, KeepAlive};
use crate::model::target::NameAddr;

/// Authorities without a port are HTTP's.
pub(super) const DEFAULT_PORT: u16 = 80;

impl Codec for EndpointUpdate {
    type Proto = proto::Update;

    fn encode(&self) -> Self::Proto {
        use proto::update::Update;
        let update = match self {
            Self::Add { endpoints, labels } => Update::Add(proto::WeightedAddrSet {
                addrs: endpoints.iter().map(Codec::encode).collect(),
                metric_labels: encode_labels(labels),
            }),
            Self::Remove(addresses) => Update::Remove(proto::AddrSet {
                addrs: addresses.iter().copied().map(encode_address).collect(),
            }),
            Self::NoEndpoints { exists } => {
                Update::NoEndpoints(proto::NoEndpoints { exists: *exists })
            }
        };
        proto::Update { update: Some(update) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use proto::update::Update;
        match proto.update {
            Some(Update::Add(set)) => Ok(Self::Add {
                endpoints: each_valid("add.addrs", set.addrs, Codec::decode)?,
                labels: decode_labels(set.metric_labels),
            }),
            Some(Update::Remove(set)) => {
                each_valid("remove.addrs", set.addrs, decode_address).map(Self::Remove)
            }
            Some(Update::NoEndpoints(none)) => Ok(Self::NoEndpoints { exists: none.exists }),
            None => Err(DecodeError::new("is none of add, remove and no_endpoints")),
        }
    }
}

impl Codec for Endpoint {
    type Proto = proto::WeightedAddr;

    fn encode(&self) -> Self::Proto {
        proto::WeightedAddr {
            addr: Some(encode_address(self.address)),
            weight: self.weight,
            metric_labels: encode_labels(&self.labels),
            tls_identity: self.tls.as_ref().map(Codec::encode),
            protocol_hint: encode_hint(self.protocol_hint, self.inbound_port),
            authority_override: self
                .authority_override
                .as_ref()
                .map(|name| proto::AuthorityOverride { authority_override: name.to_string() }),
            http2: self.http2.as_ref().map(Codec::encode),
            resource_ref: self.resource.as_ref().map(Codec::encode),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let hint = proto.protocol_hint.unwrap_or_default();
        let port = hint.opaque_transport.map(|transport| transport.inbound_port);
        let authority = proto.authority_override.map(|name| name.authority_override);
        let authority = authority.filter(|name| !name.is_empty());
        Ok(Self {
            address: required("addr", proto.addr, decode_address)?,
            weight: proto.weight,
            labels: decode_labels(proto.metric_labels),
            tls: optional("tls_identity", proto.tls_identity, Codec::decode)?,
            protocol_hint: match hint.protocol {
                Some(proto::protocol_hint::Protocol::H2(_)) => ProtocolHint::Http2,
                Some(proto::protocol_hint::Protocol::Opaque(_)) => ProtocolHint::Opaque,
                None => ProtocolHint::Unknown,
            },
            inbound_port: optional("opaque_transport.inbound_port", port, decode_u16)
                .map_err(|error| error.at("protocol_hint"))?
                .and_then(NonZeroU16::new),
            authority_override: optional("authority_override", authority, decode_authority)?,
            http2: optional("http2", proto.http2, Codec::decode)?,
            resource: optional("resource_ref", proto.resource_ref, Codec::decode)?,
        })
    }
}

fn encode_hint(
    protocol: ProtocolHint,
    inbound_port: Option<NonZeroU16>,
) -> Option<proto::ProtocolHint> {
    use proto::protocol_hint::{H2, Opaque, OpaqueTransport, Protocol};
    let hint = proto::ProtocolHint {
        protocol: match protocol {
            ProtocolHint::Unknown => None,
            ProtocolHint::Http2 => Some(Protocol::H2(H2 {})),
            ProtocolHint::Opaque => Some(Protocol::Opaque(Opaque {})),
        },
        opaque_transport: inbound_port
            .map(|port| OpaqueTransport { inbound_port: u32::from(port.get()) }),
    };
    (hint != proto::ProtocolHint::default()).then_some(hint)
}

pub(super) fn decode_authority(authority: String) -> Decoded<NameAddr> {
    fault(NameAddr::with_default_port(&authority, DEFAULT_PORT))
}

impl Codec for ServerTls {
    type Proto = proto::TlsIdentity;

    fn encode(&self) -> Self::Proto {
        use proto::tls_identity::{DnsLikeIdentity, Strategy, UriLikeIdentity};
        let strategy = match &self.identity {
            Identity::Dns(name) => {
                Strategy::DnsLikeIdentity(DnsLikeIdentity { name: name.to_string() })
            }
            Identity::Uri(uri) => {
                Strategy::UriLikeIdentity(UriLikeIdentity { uri: uri.to_string() })
            }
        };
        proto::TlsIdentity {
            strategy: Some(strategy),
            server_name: Some(DnsLikeIdentity { name: self.server_name.to_string() }),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use proto::tls_identity::Strategy;
        let dns = |name: String| fault(DnsName::new(&name));
        let server_name = proto.server_name.map(|name| name.name);
        let server_name = optional("server_name", server_name, dns)?;
        match proto.strategy {
            Some(Strategy::DnsLikeIdentity(identity)) => {
                let name = field("dns_like_identity", identity.name, dns)?;
                Ok(Self {
                    server_name: server_name.unwrap_or_else(|| name.clone()),
                    identity: Identity::Dns(name),
                })
            }
            Some(Strategy::UriLikeIdentity(identity)) => Ok(Self {
                identity: field("uri_like_identity", identity.uri, decode_uri)?,
                server_name: required("server_name", server_name, Ok)?,
            }),
            None => Err(DecodeError::new("is neither dns_like nor uri_like")),
        }
    }
}

fn decode_uri(uri: String) -> Decoded<Identity> {
    match fault(Identity::new(&uri))? {
        identity @ Identity::Uri(_) => Ok(identity),
        Identity::Dns(name) => Err(DecodeError::new(format!("{name} is not a URI"))),
    }
}

impl Codec for Http2Params {
    type Proto = proto::Http2ClientParams;

    fn encode(&self) -> Self::Proto {
        use proto::http2_client_params as params;
        proto::Http2ClientParams {
            flow_control: self.flow_control.map(|flow| params::FlowControl {
                initial_connection_window_size: flow.initial_connection_window_bytes,
                initial_stream_window_size: flow.initial_stream_window_bytes,
                adaptive_flow_control: flow.adaptive,
            }),
            keep_alive: self.keep_alive.map(|keep_alive| params::KeepAlive {
                interval: keep_alive.interval.map(encode_duration),
                timeout: keep_alive.timeout.map(encode_duration),
                while_idle: keep_alive.while_idle,
            }),
            internals: self.internals.map(|internals| params::Internals {
                max_concurrent_reset_streams: internals.max_concurrent_reset_streams,
                max_frame_size: internals.max_frame_bytes,
                max_send_buf_size: internals.max_send_buffer_bytes,
            }),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            flow_control: proto.flow_control.map(|flow| FlowControl {
                initial_connection_window_bytes: flow.initial_connection_window_size,
                initial_stream_window_bytes: flow.initial_stream_window_size,
                adaptive: flow.adaptive_flow_control,
            }),
            keep_alive: optional("keep_alive", proto.keep_alive, |keep_alive| {
                Ok(KeepAlive {
                    interval: optional("interval", keep_alive.interval, decode_duration)?,
                    timeout: optional("timeout", keep_alive.timeout, decode_duration)?,
                    while_idle: keep_alive.while_idle,
                })
            })?,
            internals: proto.internals.map(|internals| Http2Internals {
                max_concurrent_reset_streams: internals.max_concurrent_reset_streams,
                max_frame_bytes: internals.max_frame_size,
                max_send_buffer_bytes: internals.max_send_buf_size,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> proto::WeightedAddr {
        Endpoint::new(([10, 0, 0, 1], port).into()).encode()
    }

    #[test]
    fn an_endpoint_that_cannot_be_read_does_not_spoil_the_update() {
        let mut unreadable = endpoint(2);
        unreadable.tls_identity = Some(proto::TlsIdentity::default());
        let update = proto::Update {
            update: Some(proto::update::Update::Add(proto::WeightedAddrSet {
                addrs: vec![endpoint(1), unreadable, endpoint(3)],
                ..proto::WeightedAddrSet::default()
            })),
        };
        let Ok(EndpointUpdate::Add { endpoints, .. }) = EndpointUpdate::decode(update) else {
            panic!("not an addition");
        };
        let ports: Vec<_> = endpoints.iter().map(|e| e.address.port()).collect();
        assert_eq!(ports, [1, 3]);
    }

    #[test]
    fn the_server_name_is_the_dns_identity_unless_told_otherwise() {
        let name = "web.ns.serviceaccount.identity.linkerd.cluster.local";
        let strategy =
            proto::tls_identity::Strategy::DnsLikeIdentity(proto::tls_identity::DnsLikeIdentity {
                name: name.to_string(),
            });
        let tls =
            ServerTls::decode(proto::TlsIdentity { strategy: Some(strategy), server_name: None });
        assert_eq!(tls.unwrap().server_name.as_str(), name);
    }

    #[test]
    fn a_uri_identity_needs_a_server_name() {
        let strategy =
            proto::tls_identity::Strategy::UriLikeIdentity(proto::tls_identity::UriLikeIdentity {
                uri: "spiffe://root/db".to_string(),
            });
        let tls =
            ServerTls::decode(proto::TlsIdentity { strategy: Some(strategy), server_name: None });
        assert_eq!(tls.unwrap_err().to_string(), "server_name: required");
    }

    #[test]
    fn an_unmeshed_endpoint_has_no_hint() {
        assert_eq!(endpoint(1).protocol_hint, None);
    }
}
