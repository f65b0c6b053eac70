//! References of denials: a short text that says who was denied what and why, so that whoever reads
//! it in a log or a response can have it explained, and nobody has to keep a list of denials.
//!
//! Law: reading undoes writing. A text with one wrong character is not taken for another reference,
//! but for one in 256. Addresses of IPv6, identities and routes are told by their hashes: whoever
//! knows those that there are finds them again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::model::identity::Identity;
use crate::model::metadata::Metadata;

use super::authorize::{Client, ClientTls, Denied};

/// A reference of a denial: 26 characters when written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenialId([u8; 16]);

/// What a reference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What was denied.
    pub what: DeniedWhat,
    /// Why.
    pub why: Denied,
    /// Whom.
    pub client: Host,
    /// Its identity by its hash; none where it showed none.
    pub identity: Option<u16>,
    /// Where.
    pub server: Host,
    /// At which port there.
    pub port: u16,
    /// The route by its hash; none for connections.
    pub route: Option<u16>,
}

/// What can be denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedWhat {
    /// A connection of bytes.
    Connection,
    /// A request.
    Request,
}

/// A host, as a reference names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// By its address.
    V4(Ipv4Addr),
    /// By the hash of its address.
    V6(u32),
}

/// A text that is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDenialId {
    /// It has another length, or other characters.
    #[error("a reference has 26 letters and digits")]
    Form,
    /// It was mistyped.
    #[error("the reference is mistyped: its checksum does not fit")]
    Checksum,
    /// It is of another version.
    #[error("the reference is of another version of weft")]
    Version,
}

/// Crockford's: no `i`, `l`, `o` or `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CHARACTERS: usize = 26;
/// Of the layout.
const VERSION: u128 = 1;

impl DenialId {
    /// Of a client that was denied at `target`; `route` where it was a request.
    #[cold]
    pub fn new(
        client: Client<'_>,
        target: SocketAddr,
        route: Option<&Metadata>,
        why: Denied,
    ) -> Self {
        let (client_v6, client_ip) = host(client.ip);
        let (server_v6, server_ip) = host(target.ip());
        let identity = match client.tls {
            ClientTls::Identity(identity) => identity_hash(identity),
            ClientTls::None | ClientTls::NoIdentity => 0,
        };
        let mut bits = VERSION;
        let mut put = |value: u32, width: u32| bits = bits << width | u128::from(value);
        put(u32::from(client_v6), 1);
        put(u32::from(server_v6), 1);
        put(u32::from(route.is_some()), 1);
        put(code(why), 3);
        put(u32::from(target.port()), 16);
        put(client_ip, 32);
        put(server_ip, 32);
        put(u32::from(identity), 16);
        put(route.map_or(0, |route| u32::from(route_hash(route))), 16);
        let sum = checksum(bits);
        Self((bits << 8 | u128::from(sum)).to_be_bytes())
    }

    /// What it says. Written by whoever knew; only texts are doubted.
    pub fn denial(self) -> Denial {
        let mut bits = u128::from_be_bytes(self.0) >> 8;
        let mut take = |width: u32| {
            let value = bits & ((1 << width) - 1);
            bits >>= width;
            value as u32
        };
        let (route, identity) = (take(16) as u16, take(16) as u16);
        let (server, client) = (take(32), take(32));
        let port = take(16) as u16;
        let why = reason(take(3));
        let is_request = take(1) == 1;
        let (server_v6, client_v6) = (take(1) == 1, take(1) == 1);
        let host = |v6: bool, ip: u32| match v6 {
            true => Host::V6(ip),
            false => Host::V4(Ipv4Addr::from_bits(ip)),
        };
        Denial {
            what: if is_request { DeniedWhat::Request } else { DeniedWhat::Connection },
            why,
            client: host(client_v6, client),
            identity: (identity != 0).then_some(identity),
            server: host(server_v6, server),
            port,
            route: is_request.then_some(route),
        }
    }
}

impl Host {
    /// Whether it may be the host at an address.
    pub fn may_be(self, ip: IpAddr) -> bool {
        match (self, host(ip)) {
            (Self::V4(own), (false, bits)) => own.to_bits() == bits,
            (Self::V6(own), (true, bits)) => own == bits,
            _ => false,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(ip) => ip.fmt(f),
            Self::V6(_) => f.write_str("an IPv6 address"),
        }
    }
}

/// The address as bits, and whether they are the hash of one of IPv6.
fn host(ip: IpAddr) -> (bool, u32) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (false, ip.to_bits()),
        IpAddr::V6(ip) => (true, hash(&[&ip.octets()])),
    }
}

/// By what a reference tells an identity; never 0.
pub fn identity_hash(identity: &Identity) -> u16 {
    fold(hash(&[identity.as_str().as_bytes()]))
}

/// By what a reference tells a route; never 0.
pub fn route_hash(route: &Metadata) -> u16 {
    let parts = [route.group(), route.kind(), route.namespace(), route.name()];
    fold(hash(&parts.map(str::as_bytes)))
}

fn fold(hash: u32) -> u16 {
    ((hash >> 16) as u16 ^ hash as u16).max(1)
}

/// FNV-1a; a byte that no text has stands between the parts.
fn hash(parts: &[&[u8]]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let each = |hash: u32, part: &&[u8]| step(part.iter().fold(hash, step), &0xff);
    parts.iter().fold(0x811c_9dc5, each)
}

fn checksum(bits: u128) -> u8 {
    let hash = hash(&[&bits.to_be_bytes()]);
    hash.to_be_bytes().iter().fold(0, |sum, byte| sum ^ byte)
}

fn code(why: Denied) -> u32 {
    match why {
        Denied::Nobody => 0,
        Denied::Network => 1,
        Denied::NoTls => 2,
        Denied::NoIdentity => 3,
        Denied::Identity => 4,
    }
}

fn reason(code: u32) -> Denied {
    match code {
        1 => Denied::Network,
        2 => Denied::NoTls,
        3 => Denied::NoIdentity,
        4 => Denied::Identity,
        _ => Denied::Nobody,
    }
}

impl fmt::Display for DenialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0; CHARACTERS];
        for (index, place) in text.iter_mut().rev().enumerate() {
            *place = ALPHABET[(bits >> (5 * index)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for DenialId {
    type Err = InvalidDenialId;

    fn from_str(text: &str) -> Result<Self, InvalidDenialId> {
        let mut bits: u128 = 0;
        for byte in text.bytes() {
            let folded = match byte.to_ascii_lowercase() {
                b'o' => b'0',
                b'i' | b'l' => b'1',
                byte => byte,
            };
            let value = ALPHABET.iter().position(|letter| *letter == folded);
            bits = bits << 5 | value.ok_or(InvalidDenialId::Form)? as u128;
        }
        // The first character has no more than three of its five bits.
        if text.len() != CHARACTERS || text.bytes().next().is_some_and(|first| first > b'7') {
            return Err(InvalidDenialId::Form);
        }
        if checksum(bits >> 8) != bits as u8 {
            return Err(InvalidDenialId::Checksum);
        }
        if bits >> 126 != VERSION {
            return Err(InvalidDenialId::Version);
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

const _: () = assert!(size_of::<DenialId>() == 16 && align_of::<DenialId>() == 1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reasons() -> impl Strategy<Value = Denied> {
        prop::sample::select(vec![
            Denied::Nobody,
            Denied::Network,
            Denied::NoTls,
            Denied::NoIdentity,
            Denied::Identity,
        ])
    }

    #[test]
    fn a_reference_is_one_word() {
        let identity = Identity::new("web.shop.example").unwrap();
        let client =
            Client { ip: "10.1.0.1".parse().unwrap(), tls: ClientTls::Identity(&identity) };
        let route = Metadata::new_default("default");
        let target = "10.1.0.2:8080".parse().unwrap();
        let id = DenialId::new(client, target, Some(&route), Denied::Identity);
        insta::assert_snapshot!(id, @"2c3y80m08004502002g5rrvb2e");
        let denial = id.denial();
        assert_eq!(denial.client, Host::V4([10, 1, 0, 1].into()));
        assert_eq!((denial.server, denial.port), (Host::V4([10, 1, 0, 2].into()), 8080));
        assert_eq!(denial.identity, Some(identity_hash(&identity)));
        assert_eq!(denial.route, Some(route_hash(&route)));
    }

    #[test]
    fn what_is_no_reference_is_told() {
        let read = |text: &str| text.parse::<DenialId>().unwrap_err();
        assert_eq!(read(""), InvalidDenialId::Form);
        assert_eq!(read("shop/web"), InvalidDenialId::Form);
        assert_eq!(read(&"z".repeat(26)), InvalidDenialId::Form);
        assert_eq!(read(&"0".repeat(27)), InvalidDenialId::Form);
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(
            client_ip in any::<IpAddr>(),
            target_ip in any::<IpAddr>(),
            port in any::<u16>(),
            named in any::<bool>(),
            request in any::<bool>(),
            why in reasons(),
        ) {
            let identity = Identity::new("a.b").unwrap();
            let tls = if named { ClientTls::Identity(&identity) } else { ClientTls::None };
            let route = Metadata::new_default("r");
            let target = SocketAddr::new(target_ip, port);
            let client = Client { ip: client_ip, tls };
            let id = DenialId::new(client, target, request.then_some(&route), why);
            let text = id.to_string();
            prop_assert_eq!(text.len(), CHARACTERS);
            prop_assert_eq!(text.parse::<DenialId>(), Ok(id));
            prop_assert_eq!(text.to_uppercase().parse::<DenialId>(), Ok(id));
            let denial = id.denial();
            prop_assert!(denial.client.may_be(client_ip) && denial.server.may_be(target_ip));
            prop_assert_eq!((denial.port, denial.why), (port, why));
            prop_assert_eq!(denial.identity.is_some(), named);
            prop_assert_eq!(denial.route.is_some(), request);
        }

        /// Nothing panics, whatever is read.
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-zA-Z]{0,30}") {
            if let Ok(id) = text.parse::<DenialId>() {
                let _ = id.denial();
            }
        }
    }
}
