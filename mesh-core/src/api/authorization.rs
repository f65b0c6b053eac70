//! Who may use a port or a route (`inbound.Authz`).
//!
//! It names its object twice, in `metadata` and, for older proxies, in `labels`. Both are written;
//! `metadata` is what is read where it is there.

use linkerd2_proxy_api::inbound as proto;
use proto::authn::permit_mesh_tls as clients;

use super::codec::{Codec, DecodeError, Decoded, each, optional, required};
use super::metadata::{decode_labelled, decode_labels, encode_labelled};
use super::net::{decode_net, encode_net};
use crate::model::server_policy::{Authentication, Authorization, IdentitySuffix, Network};

impl Codec for Authorization {
    type Proto = proto::Authz;

    fn encode(&self) -> Self::Proto {
        proto::Authz {
            networks: self.networks.iter().map(Codec::encode).collect(),
            authentication: Some(self.authentication.encode()),
            labels: encode_labelled(&self.metadata, &self.labels),
            metadata: Some(self.metadata.encode()),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let mut labels = proto.labels;
        let (metadata, labels) = match optional("metadata", proto.metadata, Codec::decode)? {
            None => decode_labelled(labels)?,
            Some(metadata) => {
                for named_twice in ["group", "kind", "name"] {
                    labels.remove(named_twice);
                }
                (metadata, decode_labels(labels))
            }
        };
        Ok(Self {
            metadata,
            networks: each("networks", proto.networks, Codec::decode)?,
            authentication: required("authentication", proto.authentication, Codec::decode)?,
            labels,
        })
    }
}

impl Codec for Network {
    type Proto = proto::Network;

    fn encode(&self) -> Self::Proto {
        proto::Network {
            net: Some(encode_net(self.net)),
            except: self.except.iter().copied().map(encode_net).collect(),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            net: required("net", proto.net, decode_net)?,
            except: each("except", proto.except, decode_net)?,
        })
    }
}

impl Codec for Authentication {
    type Proto = proto::Authn;

    fn encode(&self) -> Self::Proto {
        use proto::authn::{Permit, PermitMeshTls, PermitUnauthenticated};
        let over_tls = |clients| Permit::MeshTls(PermitMeshTls { clients: Some(clients) });
        let permit = match self {
            Self::Unauthenticated => Permit::Unauthenticated(PermitUnauthenticated {}),
            Self::TlsUnauthenticated => {
                over_tls(clients::Clients::Unauthenticated(PermitUnauthenticated {}))
            }
            Self::TlsAuthenticated { identities, suffixes } => {
                over_tls(clients::Clients::Identities(clients::PermitClientIdentities {
                    identities: identities.iter().map(Codec::encode).collect(),
                    suffixes: suffixes.iter().map(Codec::encode).collect(),
                }))
            }
        };
        proto::Authn { permit: Some(permit) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use proto::authn::{Permit, PermitUnauthenticated};
        let unknown = || DecodeError::new("is an authentication this proxy does not know");
        match proto.permit.ok_or_else(unknown)? {
            Permit::Unauthenticated(PermitUnauthenticated {}) => Ok(Self::Unauthenticated),
            Permit::MeshTls(tls) => match tls.clients.ok_or_else(|| unknown().at("meshTLS"))? {
                clients::Clients::Unauthenticated(PermitUnauthenticated {}) => {
                    Ok(Self::TlsUnauthenticated)
                }
                clients::Clients::Identities(clients) => Ok(Self::TlsAuthenticated {
                    identities: each("meshTLS.identities", clients.identities, Codec::decode)?,
                    suffixes: each("meshTLS.suffixes", clients.suffixes, Codec::decode)?,
                }),
            },
        }
    }
}

impl Codec for IdentitySuffix {
    type Proto = proto::IdentitySuffix;

    fn encode(&self) -> Self::Proto {
        proto::IdentitySuffix { parts: self.parts.clone() }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self { parts: proto.parts })
    }
}
