//! Decides whether a client may use a port or a route.
//!
//! Law: authorizations only allow. Adding one never denies, and what none allows is denied.
//! That localhost may always is an authorization that the control plane sends, not this file's.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::model::identity::Identity;
use crate::model::server_policy::{Authentication, Authorization, IdentitySuffix, Network};

/// A client, as the proxy knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'c> {
    /// Its address.
    pub ip: IpAddr,
    /// How it came.
    pub tls: ClientTls<'c>,
}

/// How a client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTls<'c> {
    /// Without mesh TLS.
    None,
    /// Over mesh TLS, without a certificate.
    NoIdentity,
    /// Over mesh TLS, with this identity.
    Identity(&'c Identity),
}

impl Client<'_> {
    /// Whether it is on this host: `127.0.0.0/8` or `::1`.
    pub fn is_loopback(&self) -> bool {
        self.ip.to_canonical().is_loopback()
    }
}

/// Why nothing allows a client: how far the authorization that came closest went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Denied {
    /// There are no authorizations.
    #[error("nobody is authorized")]
    Nobody,
    /// It is in none of the networks.
    #[error("the client's network is not authorized")]
    Network,
    /// Its network is good, but it came without mesh TLS.
    #[error("mesh TLS is required")]
    NoTls,
    /// It came over mesh TLS, but showed no certificate.
    #[error("a client identity is required")]
    NoIdentity,
    /// Its identity is none of those wanted.
    #[error("the client's identity is not authorized")]
    Identity,
}

/// The first authorization that allows the client: of the route's, then of the port's.
///
/// # Errors
/// [`Denied`] where none does.
pub fn authorize<'p>(
    server: &'p [Authorization],
    route: &'p [Authorization],
    client: Client<'_>,
) -> Result<&'p Authorization, Denied> {
    let mut closest = Denied::Nobody;
    for authorization in route.iter().chain(server) {
        match check(authorization, client) {
            Ok(()) => return Ok(authorization),
            Err(denied) => closest = closest.max(denied),
        }
    }
    Err(closest)
}

/// Whether one authorization allows the client.
///
/// # Errors
/// [`Denied`]: how far it went.
pub fn check(authorization: &Authorization, client: Client<'_>) -> Result<(), Denied> {
    let ip = client.ip.to_canonical();
    if !authorization.networks.iter().any(|n| in_network(n, ip)) {
        return Err(Denied::Network);
    }
    match (&authorization.authentication, client.tls) {
        (Authentication::Unauthenticated, _) => Ok(()),
        (_, ClientTls::None) => Err(Denied::NoTls),
        (Authentication::TlsUnauthenticated, _) => Ok(()),
        (Authentication::TlsAuthenticated { .. }, ClientTls::NoIdentity) => Err(Denied::NoIdentity),
        (
            Authentication::TlsAuthenticated { identities, suffixes },
            ClientTls::Identity(identity),
        ) => {
            let allowed = planted!("client-identity-unchecked")
                || identities.contains(identity)
                || suffixes.iter().any(|suffix| has_suffix(identity, suffix));
            allowed.then_some(()).ok_or(Denied::Identity)
        }
    }
}

/// Whether a canonical address is in a network and in none of its exceptions.
fn in_network(network: &Network, ip: IpAddr) -> bool {
    canonical(network.net).contains(&ip)
        && !network.except.iter().any(|except| canonical(*except).contains(&ip))
}

/// A network of IPv4-mapped addresses as one of IPv4 addresses. A dual-stack socket shows IPv4
/// clients as mapped, and who may come must not depend on the socket.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(bits)) => Ipv4Net::new(v4, bits).map_or(net, IpNet::V4),
        _ => net,
    }
}

/// Suffixes are of DNS names alone: URIs are named whole, even where the suffix is empty.
fn has_suffix(identity: &Identity, suffix: &IdentitySuffix) -> bool {
    let Identity::Dns(name) = identity else {
        return false;
    };
    if suffix.parts.is_empty() {
        return true;
    }
    let mut labels = name.as_str().rsplit('.');
    let same = |part: &String| labels.next().is_some_and(|label| label.eq_ignore_ascii_case(part));
    // At least one label must stand where `*` stood.
    suffix.parts.iter().rev().all(same) && labels.next().is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::labels::Labels;
    use crate::model::metadata::Metadata;

    fn suffix(text: &str) -> IdentitySuffix {
        let parts = text.split('.').filter(|p| !p.is_empty()).map(String::from);
        IdentitySuffix { parts: parts.collect() }
    }

    fn allow(nets: &[&str], except: &[&str], authentication: Authentication) -> Authorization {
        let parse = |net: &&str| net.parse().unwrap();
        Authorization {
            metadata: Metadata::new_default("test"),
            networks: nets
                .iter()
                .map(|net| Network { net: parse(net), except: except.iter().map(parse).collect() })
                .collect(),
            authentication,
            labels: Labels::default(),
        }
    }

    fn authenticated(identities: &[&str], suffixes: &[&str]) -> Authentication {
        Authentication::TlsAuthenticated {
            identities: identities.iter().map(|i| Identity::new(i).unwrap()).collect(),
            suffixes: suffixes.iter().map(|s| suffix(s)).collect(),
        }
    }

    fn client<'c>(ip: &str, tls: ClientTls<'c>) -> Client<'c> {
        Client { ip: ip.parse().unwrap(), tls }
    }

    const ALL: [&str; 2] = ["0.0.0.0/0", "::/0"];

    fn denied(authorization: Authorization, client: Client<'_>) -> Option<Denied> {
        authorize(&[authorization], &[], client).err()
    }

    #[test]
    fn networks_count_without_their_exceptions() {
        let nets = || allow(&["10.0.0.0/8"], &["10.1.0.0/16"], Authentication::Unauthenticated);
        let from = |ip| denied(nets(), client(ip, ClientTls::None));
        assert_eq!(from("10.2.0.1"), None);
        assert_eq!(from("::ffff:10.2.0.1"), None);
        assert_eq!(from("10.1.0.1"), Some(Denied::Network));
        assert_eq!(from("::ffff:10.1.0.1"), Some(Denied::Network));
        assert_eq!(from("::10.2.0.1"), Some(Denied::Network));
        assert_eq!(from("192.0.2.1"), Some(Denied::Network));
    }

    #[test]
    fn mapped_networks_are_of_ipv4() {
        let mapped = || allow(&["::ffff:10.0.0.0/104"], &[], Authentication::Unauthenticated);
        for ip in ["10.2.0.1", "::ffff:10.2.0.1"] {
            assert_eq!(denied(mapped(), client(ip, ClientTls::None)), None);
        }
        let outside = client("11.0.0.1", ClientTls::None);
        assert_eq!(denied(mapped(), outside), Some(Denied::Network));
    }

    #[test]
    fn authentication_has_three_steps() {
        let web = Identity::new("web.ns.example").unwrap();
        let with = |authentication, tls| {
            denied(allow(&ALL, &[], authentication), client("192.0.2.1", tls))
        };
        let anyone = || Authentication::TlsUnauthenticated;
        assert_eq!(with(anyone(), ClientTls::None), Some(Denied::NoTls));
        assert_eq!(with(anyone(), ClientTls::NoIdentity), None);
        let named = || authenticated(&["web.ns.example"], &[]);
        assert_eq!(with(named(), ClientTls::None), Some(Denied::NoTls));
        assert_eq!(with(named(), ClientTls::NoIdentity), Some(Denied::NoIdentity));
        assert_eq!(with(named(), ClientTls::Identity(&web)), None);
        let other = authenticated(&["other.ns.example"], &[]);
        assert_eq!(with(other, ClientTls::Identity(&web)), Some(Denied::Identity));
        let nobody = authenticated(&[], &[]);
        assert_eq!(with(nobody, ClientTls::Identity(&web)), Some(Denied::Identity));
    }

    #[test]
    fn suffixes_are_of_dns_names_alone() {
        let allows = |text: &str, identity: &str| {
            let identity = Identity::new(identity).unwrap();
            let client = client("::1", ClientTls::Identity(&identity));
            denied(allow(&ALL, &[], authenticated(&[], &[text])), client).is_none()
        };
        assert!(allows("ns.example", "web.ns.example"));
        assert!(allows("NS.example", "a.web.ns.example"));
        assert!(allows("", "web.ns.example"));
        assert!(!allows("ns.example", "ns.example"));
        assert!(!allows("ns.example", "web.xns.example"));
        assert!(!allows("ns.example", "example"));
        assert!(!allows("", "spiffe://root/web"));
    }

    #[test]
    fn a_uri_is_named_whole() {
        let web = Identity::new("spiffe://root/web").unwrap();
        let named = allow(&ALL, &[], authenticated(&["spiffe://root/web"], &[]));
        assert_eq!(denied(named, client("::1", ClientTls::Identity(&web))), None);
    }

    #[test]
    fn the_routes_authorizations_go_before_the_ports() {
        let anyone = allow(&ALL, &[], Authentication::Unauthenticated);
        let (server, route) = ([anyone.clone()], [anyone]);
        let allowed = authorize(&server, &route, client("::1", ClientTls::None)).unwrap();
        assert!(std::ptr::eq(allowed, &route[0]));
        assert_eq!(authorize(&[], &[], client("::1", ClientTls::None)), Err(Denied::Nobody));
    }

    #[test]
    fn loopback_is_recognised() {
        for (ip, loopback) in
            [("127.0.0.1", true), ("::1", true), ("::ffff:127.1.2.3", true), ("10.0.0.1", false)]
        {
            assert_eq!(client(ip, ClientTls::None).is_loopback(), loopback, "{ip}");
        }
    }

    fn any_authorization() -> impl Strategy<Value = Authorization> {
        let net = prop::sample::select(vec!["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0"]);
        let except = prop::sample::subsequence(vec!["10.1.0.0/16", "fd00::/8"], 0..=2);
        let authentication = prop_oneof![
            Just(Authentication::Unauthenticated),
            Just(Authentication::TlsUnauthenticated),
            Just(authenticated(&["a.x"], &[])),
            Just(authenticated(&["spiffe://x/a"], &["y"])),
            Just(authenticated(&[], &[""])),
        ];
        (prop::collection::vec(net, 0..3), except, authentication)
            .prop_map(|(nets, except, authentication)| allow(&nets, &except, authentication))
    }

    proptest! {
        #[test]
        fn adding_an_authorization_never_denies(
            server in prop::collection::vec(any_authorization(), 0..4),
            route in prop::collection::vec(any_authorization(), 0..4),
            more in any_authorization(),
            at in any::<prop::sample::Index>(),
            to_route in any::<bool>(),
            ip in prop::sample::select(vec!["10.1.0.1", "::ffff:10.2.0.1", "192.0.2.1", "fd00::1"]),
            who in prop::sample::select(vec![None, Some("a.x"), Some("b.y"), Some("spiffe://x/a")]),
            tls in any::<bool>(),
        ) {
            let identity = who.map(|who| Identity::new(who).unwrap());
            let tls = match &identity {
                Some(identity) => ClientTls::Identity(identity),
                None if tls => ClientTls::NoIdentity,
                None => ClientTls::None,
            };
            let client = client(ip, tls);
            let before = authorize(&server, &route, client).is_ok();
            let (mut server, mut route) = (server.clone(), route.clone());
            let list = if to_route { &mut route } else { &mut server };
            list.insert(at.index(list.len() + 1), more.clone());
            let after = authorize(&server, &route, client).is_ok();
            prop_assert!(after || !before);
            // And it adds exactly what it allows alone.
            prop_assert_eq!(after, before || authorize(&[more], &[], client).is_ok());
        }

        /// What is allowed, an authorization allows; what is denied, each of them denies.
        #[test]
        fn what_none_allows_is_denied(
            server in prop::collection::vec(any_authorization(), 0..4),
            route in prop::collection::vec(any_authorization(), 0..4),
            ip in any::<IpAddr>(),
            who in prop::sample::select(vec![None, Some("a.x"), Some("spiffe://x/a")]),
        ) {
            let identity = who.map(|who| Identity::new(who).unwrap());
            let tls = identity.as_ref().map_or(ClientTls::None, ClientTls::Identity);
            let client = Client { ip, tls };
            match authorize(&server, &route, client) {
                Ok(allowed) => prop_assert_eq!(check(allowed, client), Ok(())),
                Err(denied) => {
                    let closest = route.iter().chain(&server).map(|a| check(a, client).unwrap_err());
                    prop_assert_eq!(Some(denied), closest.max().or(Some(Denied::Nobody)));
                }
            }
        }

        /// Who shows more is never denied what they had: no TLS, TLS, TLS with a certificate.
        #[test]
        fn showing_more_never_denies(
            authorizations in prop::collection::vec(any_authorization(), 0..4),
            ip in any::<IpAddr>(),
        ) {
            let identity = Identity::new("a.x").unwrap();
            let steps = [ClientTls::None, ClientTls::NoIdentity, ClientTls::Identity(&identity)];
            let allowed = steps.map(|tls| authorize(&authorizations, &[], Client { ip, tls }).is_ok());
            prop_assert!(allowed.is_sorted(), "{allowed:?}");
        }
    }
}
