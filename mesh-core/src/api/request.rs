//! What a proxy asks: about traffic to a target, about a port, about a destination.

use std::num::NonZeroU16;

use linkerd2_proxy_api::destination::GetDestination;
use linkerd2_proxy_api::inbound::PortSpec;
use linkerd2_proxy_api::outbound::{TrafficSpec, traffic_spec};

use super::codec::{Codec, DecodeError, Decoded, decode_u16, field, required};
use super::endpoint::decode_authority;
use super::net::{decode_address, encode_address};
use super::workload::{ContextToken, Workload};
use crate::model::target::{NameAddr, Target};

/// About traffic to a target (`OutboundPolicies.Watch`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficQuestion {
    /// Whose traffic.
    pub workload: Workload,
    /// Where to.
    pub target: Target,
}

/// About a port of the proxy's own workload (`InboundServerPolicies.WatchPort`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortQuestion {
    /// Whose port.
    pub workload: Workload,
    /// Which.
    pub port: NonZeroU16,
}

/// About an address or a name (`Destination.Get`, `Destination.GetProfile`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationQuestion {
    /// Address or name; port 80 where the client gave none.
    pub path: NameAddr,
    /// Where the client is.
    pub context: ContextToken,
}

impl Codec for TrafficQuestion {
    type Proto = TrafficSpec;

    fn encode(&self) -> TrafficSpec {
        encode_traffic(&self.workload.to_string(), &self.target)
    }

    fn decode(spec: TrafficSpec) -> Decoded<Self> {
        let workload = decode_workload("source_workload", &spec.source_workload)?;
        let target = match spec.target {
            Some(traffic_spec::Target::Addr(address)) => {
                let address = field("addr", address, decode_address)?;
                if address.port() == 0 {
                    return Err(DecodeError::new("required").at("addr.port"));
                }
                Target::Address(address)
            }
            Some(traffic_spec::Target::Authority(authority)) => {
                Target::Name(field("authority", authority, decode_authority)?)
            }
            None => return Err(DecodeError::new("required").at("target")),
        };
        Ok(Self { workload, target })
    }
}

impl Codec for PortQuestion {
    type Proto = PortSpec;

    fn encode(&self) -> PortSpec {
        encode_port(&self.workload.to_string(), self.port.get())
    }

    fn decode(spec: PortSpec) -> Decoded<Self> {
        let workload = decode_workload("workload", &spec.workload)?;
        let port = field("port", spec.port, decode_u16)?;
        let port = required("port", NonZeroU16::new(port), Ok)?;
        Ok(Self { workload, port })
    }
}

impl Codec for DestinationQuestion {
    type Proto = GetDestination;

    fn encode(&self) -> GetDestination {
        encode_destination(&self.path.to_string(), &self.context.to_string())
    }

    fn decode(destination: GetDestination) -> Decoded<Self> {
        let path = field("path", destination.path, decode_authority)?;
        Ok(Self { path, context: ContextToken::parse(&destination.context_token) })
    }
}

/// As a proxy asks: `workload` is what its environment says, sent as it is.
pub(super) fn encode_traffic(workload: &str, target: &Target) -> TrafficSpec {
    TrafficSpec {
        source_workload: workload.to_string(),
        target: Some(match target {
            Target::Address(address) => traffic_spec::Target::Addr(encode_address(*address)),
            Target::Name(name) => traffic_spec::Target::Authority(name.to_string()),
        }),
    }
}

/// As a proxy asks; see [`encode_traffic`].
pub(super) fn encode_port(workload: &str, port: u16) -> PortSpec {
    PortSpec { workload: workload.to_string(), port: u32::from(port) }
}

/// As a proxy asks; see [`encode_traffic`].
pub(super) fn encode_destination(path: &str, context_token: &str) -> GetDestination {
    GetDestination {
        // Linkerd's controllers take no other.
        scheme: "k8s".to_string(),
        path: path.to_string(),
        context_token: context_token.to_string(),
    }
}

fn decode_workload(field: &str, text: &str) -> Decoded<Workload> {
    Workload::parse(text).map_err(|error| DecodeError::new(error.fault()).at(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = r#"{"ns":"emojivoto","pod":"web-1"}"#;

    #[test]
    fn questions_read_back() {
        let web = Workload::pod("emojivoto", "web-1");
        for target in [
            Target::Address("[fd00::1]:80".parse().unwrap()),
            Target::Name("web.ns.svc.cluster.local:80".parse().unwrap()),
        ] {
            let read = TrafficQuestion::decode(encode_traffic(WEB, &target));
            assert_eq!(read, Ok(TrafficQuestion { workload: web.clone(), target }));
        }
        let port = NonZeroU16::new(80).unwrap();
        let read = PortQuestion::decode(encode_port(WEB, 80));
        assert_eq!(read, Ok(PortQuestion { workload: web, port }));
        let asked = encode_destination("web.ns", r#"{"ns":"a"}"#);
        let read = DestinationQuestion::decode(asked).unwrap();
        assert_eq!(read.path.to_string(), "web.ns:80");
        assert_eq!(read.context.namespace, "a");
    }

    #[test]
    fn questions_without_sense_name_their_fault() {
        let fault = |spec| TrafficQuestion::decode(spec).unwrap_err().to_string();
        let mut spec = encode_traffic(WEB, &Target::Address("1.2.3.4:0".parse().unwrap()));
        assert_eq!(fault(spec.clone()), "addr.port: required");
        spec.target = None;
        assert_eq!(fault(spec.clone()), "target: required");
        spec.source_workload.clear();
        assert_eq!(fault(spec), r#"source_workload: "" is neither JSON nor ns:pod"#);
        let error = PortQuestion::decode(encode_port(WEB, 0)).unwrap_err();
        assert_eq!(error.to_string(), "port: required");
    }
}
