//! Addresses and networks (`net.proto`). IPv4 addresses travel as numbers in host order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use linkerd2_proxy_api::net as proto;

use super::codec::{DecodeError, Decoded, decode_u16, field, required};

pub(super) fn encode_ip(address: IpAddr) -> proto::IpAddress {
    let ip = match address {
        IpAddr::V4(v4) => proto::ip_address::Ip::Ipv4(v4.to_bits()),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            proto::ip_address::Ip::Ipv6(proto::IPv6 {
                first: (bits >> 64) as u64,
                last: bits as u64,
            })
        }
    };
    proto::IpAddress { ip: Some(ip) }
}

pub(super) fn decode_ip(address: proto::IpAddress) -> Decoded<IpAddr> {
    match address.ip {
        Some(proto::ip_address::Ip::Ipv4(bits)) => Ok(Ipv4Addr::from_bits(bits).into()),
        Some(proto::ip_address::Ip::Ipv6(v6)) => {
            let bits = u128::from(v6.first) << 64 | u128::from(v6.last);
            Ok(Ipv6Addr::from_bits(bits).into())
        }
        None => Err(DecodeError::new("is neither ipv4 nor ipv6")),
    }
}

pub(super) fn encode_address(address: SocketAddr) -> proto::TcpAddress {
    proto::TcpAddress { ip: Some(encode_ip(address.ip())), port: u32::from(address.port()) }
}

pub(super) fn decode_address(address: proto::TcpAddress) -> Decoded<SocketAddr> {
    let ip = required("ip", address.ip, decode_ip)?;
    let port = field("port", address.port, decode_u16)?;
    Ok(SocketAddr::new(ip, port))
}

pub(super) fn encode_net(net: IpNet) -> proto::IpNetwork {
    proto::IpNetwork { ip: Some(encode_ip(net.addr())), prefix_len: u32::from(net.prefix_len()) }
}

pub(super) fn decode_net(net: proto::IpNetwork) -> Decoded<IpNet> {
    let ip = required("ip", net.ip, decode_ip)?;
    field("prefix_len", net.prefix_len, |bits| {
        IpNet::new(ip, u8::try_from(bits).unwrap_or(u8::MAX))
            .map_err(|_| DecodeError::new(format!("{bits} bits are too many for {ip}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_a_number_in_host_order() {
        let encoded = encode_address("1.2.3.4:80".parse().unwrap());
        let ip = proto::ip_address::Ip::Ipv4(0x0102_0304);
        assert_eq!(encoded.ip, Some(proto::IpAddress { ip: Some(ip) }));
    }

    #[test]
    fn impossible_addresses_are_refused() {
        let ip = Some(encode_ip("::1".parse().unwrap()));
        let port = 70_000;
        assert!(decode_address(proto::TcpAddress { ip, port }).is_err());
        assert!(decode_address(proto::TcpAddress { ip: None, port: 1 }).is_err());
        let prefix_len = 129;
        let error = decode_net(proto::IpNetwork { ip, prefix_len }).unwrap_err();
        assert_eq!(error.to_string(), "prefix_len: 129 bits are too many for ::1");
    }
}
