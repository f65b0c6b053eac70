//! What a proxy asks: about traffic to a target, about a port, about a destination.

use std::num::NonZeroU16;

use linkerd2_proxy_api::destination::GetDestination;
use linkerd2_proxy_api::inbound::PortSpec;
use linkerd2_proxy_api::outbound::{TrafficSpec, traffic_spec};

use super::codec::{DecodeError, Decoded, decode_u16, field, required};
use super::endpoint::decode_authority;
use super::net::{decode_address, encode_address};
use super::workload::{ContextToken, Workload};
use crate::model::target::{NameAddr, Target};

pub(super) fn encode_traffic(workload: &str, target: &Target) -> TrafficSpec {
    TrafficSpec {
        source_workload: workload.to_string(),
        target: Some(match target {
            Target::Address(address) => traffic_spec::Target::Addr(encode_address(*address)),
            Target::Name(name) => traffic_spec::Target::Authority(name.to_string()),
        }),
    }
}

pub(super) fn decode_traffic(spec: TrafficSpec) -> Decoded<(Workload, Target)> {
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
    Ok((workload, target))
}

pub(super) fn encode_port(workload: &str, port: u16) -> PortSpec {
    PortSpec { workload: workload.to_string(), port: u32::from(port) }
}

pub(super) fn decode_port(spec: PortSpec) -> Decoded<(Workload, NonZeroU16)> {
    let workload = decode_workload("workload", &spec.workload)?;
    let port = field("port", spec.port, decode_u16)?;
    let port = required("port", NonZeroU16::new(port), Ok)?;
    Ok((workload, port))
}

fn decode_workload(field: &str, text: &str) -> Decoded<Workload> {
    Workload::parse(text).map_err(|error| DecodeError::new(error.fault()).at(field))
}

pub(super) fn encode_destination(path: &str, context_token: &str) -> GetDestination {
    GetDestination {
        // Linkerd's controllers take no other.
        scheme: "k8s".to_string(),
        path: path.to_string(),
        context_token: context_token.to_string(),
    }
}

pub(super) fn decode_destination(destination: GetDestination) -> Decoded<(NameAddr, ContextToken)> {
    let path = field("path", destination.path, decode_authority)?;
    Ok((path, ContextToken::parse(&destination.context_token)))
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
            let read = decode_traffic(encode_traffic(WEB, &target));
            assert_eq!(read, Ok((web.clone(), target)));
        }
        let port = NonZeroU16::new(80).unwrap();
        assert_eq!(decode_port(encode_port(WEB, 80)), Ok((web, port)));
        let (path, context) =
            decode_destination(encode_destination("web.ns", r#"{"ns":"a"}"#)).unwrap();
        assert_eq!(path.to_string(), "web.ns:80");
        assert_eq!(context.namespace, "a");
    }

    #[test]
    fn questions_without_sense_name_their_fault() {
        let fault = |spec| decode_traffic(spec).unwrap_err().to_string();
        let mut spec = encode_traffic(WEB, &Target::Address("1.2.3.4:0".parse().unwrap()));
        assert_eq!(fault(spec.clone()), "addr.port: required");
        spec.target = None;
        assert_eq!(fault(spec.clone()), "target: required");
        spec.source_workload.clear();
        assert_eq!(fault(spec), r#"source_workload: "" is neither JSON nor ns:pod"#);
        let error = decode_port(encode_port(WEB, 0)).unwrap_err();
        assert_eq!(error.to_string(), "port: required");
    }
}
