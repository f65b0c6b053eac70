//! Whether a tap is about a request, and what of a request it may show.
//!
//! Laws: `not(not(m))` matches what `m` does; `all` is the negation of `any` of the negations. A
//! value of a redacted header or field is never shown, not even in part.

pub mod redact;

use std::net::SocketAddr;

use http::uri::Scheme;
use http::{HeaderMap, Method};

use crate::model::labels::Labels;
use crate::model::tap::{HeaderMatch, HttpMatch, Label, Match, StringMatch, TcpMatch};

/// What a tap looks at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The client.
    pub source: Option<SocketAddr>,
    /// The endpoint.
    pub destination: Option<SocketAddr>,
    /// Of the endpoint.
    pub destination_labels: &'a Labels,
    /// Of the route.
    pub route_labels: &'a Labels,
    /// How.
    pub method: &'a Method,
    /// The target's scheme, where it has one.
    pub scheme: Option<&'a Scheme>,
    /// To whom; empty where nobody is named.
    pub authority: &'a str,
    /// What, without the query.
    pub path: &'a str,
    /// The request's headers.
    pub headers: &'a HeaderMap,
}

/// Whether a request is one of those that a match means.
pub fn matches(wanted: &Match, facts: &Facts<'_>) -> bool {
    match wanted {
        Match::All(all) => all.iter().all(|each| matches(each, facts)),
        Match::Any(any) => any.iter().any(|each| matches(each, facts)),
        Match::Not(not) => !matches(not, facts),
        Match::Source(tcp) => facts.source.is_some_and(|address| is_of(tcp, address)),
        Match::Destination(tcp) => facts.destination.is_some_and(|address| is_of(tcp, address)),
        Match::Http(http) => speaks(http, facts),
        Match::DestinationLabel(label) => bears(facts.destination_labels, label),
        Match::RouteLabel(label) => bears(facts.route_labels, label),
    }
}

/// Whether a request has all of these headers.
pub fn has_headers(wanted: &[HeaderMatch], headers: &HeaderMap) -> bool {
    wanted.iter().all(|header| {
        let mut values = headers.get_all(&header.name).iter();
        values.any(|value| says(&header.value, value.as_bytes()))
    })
}

fn is_of(tcp: &TcpMatch, address: SocketAddr) -> bool {
    match tcp {
        TcpMatch::Net(net) => net.contains(&address.ip().to_canonical()),
        TcpMatch::Ports { min, max } => (*min..=*max).contains(&address.port()),
    }
}

fn speaks(http: &HttpMatch, facts: &Facts<'_>) -> bool {
    match http {
        HttpMatch::Scheme(scheme) => facts.scheme == Some(scheme),
        HttpMatch::Method(method) => facts.method == method,
        HttpMatch::Authority(text) => says(text, facts.authority.as_bytes()),
        HttpMatch::Path(text) => says(text, facts.path.as_bytes()),
    }
}

fn says(wanted: &StringMatch, text: &[u8]) -> bool {
    match wanted {
        StringMatch::Exact(exact) => text == exact.as_bytes(),
        StringMatch::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
    }
}

fn bears(labels: &Labels, label: &Label) -> bool {
    labels.value(&label.key) == Some(&label.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the tests ask about: GET http://web:80/api/list from 10.0.0.1:5000 to 10.0.0.2:8080.
    struct Asked {
        labels: Labels,
        routes: Labels,
        headers: HeaderMap,
    }

    impl Asked {
        fn new() -> Self {
            let mut headers = HeaderMap::new();
            headers.append("x-user", "7".parse().unwrap());
            headers.append("x-user", "8".parse().unwrap());
            Self {
                labels: [("pod", "web-1"), ("namespace", "shop")].into_iter().collect(),
                routes: [("route", "list")].into_iter().collect(),
                headers,
            }
        }

        fn facts(&self) -> Facts<'_> {
            Facts {
                source: Some("10.0.0.1:5000".parse().unwrap()),
                destination: Some("10.0.0.2:8080".parse().unwrap()),
                destination_labels: &self.labels,
                route_labels: &self.routes,
                method: &Method::GET,
                scheme: Some(&Scheme::HTTP),
                authority: "web:80",
                path: "/api/list",
                headers: &self.headers,
            }
        }
    }

    fn holds(wanted: &Match) -> bool {
        matches(wanted, &Asked::new().facts())
    }

    fn label(key: &str, value: &str) -> Label {
        Label { key: key.into(), value: value.into() }
    }

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.into())
    }

    fn prefix(text: &str) -> StringMatch {
        StringMatch::Prefix(text.into())
    }

    #[test]
    fn each_leaf_looks_at_its_own_part_of_the_request() {
        let net = |net: &str| TcpMatch::Net(net.parse().unwrap());
        let ports = |min, max| TcpMatch::Ports { min, max };
        let http = |http| Match::Http(http);
        for (wanted, is) in [
            (Match::Source(net("10.0.0.0/31")), true),
            (Match::Source(net("10.0.0.2/32")), false),
            (Match::Source(ports(5000, 5000)), true),
            (Match::Destination(net("10.0.0.2/32")), true),
            (Match::Destination(net("fd00::/8")), false),
            (Match::Destination(ports(8000, 8080)), true),
            (Match::Destination(ports(8081, 9000)), false),
            (Match::DestinationLabel(label("pod", "web-1")), true),
            (Match::DestinationLabel(label("pod", "web-2")), false),
            (Match::DestinationLabel(label("route", "list")), false),
            (Match::RouteLabel(label("route", "list")), true),
            (http(HttpMatch::Method(Method::GET)), true),
            (http(HttpMatch::Method(Method::POST)), false),
            (http(HttpMatch::Scheme(Scheme::HTTP)), true),
            (http(HttpMatch::Scheme(Scheme::HTTPS)), false),
            (http(HttpMatch::Authority(exact("web:80"))), true),
            (http(HttpMatch::Authority(exact("web"))), false),
            (http(HttpMatch::Authority(prefix("web"))), true),
            (http(HttpMatch::Path(prefix("/api"))), true),
            (http(HttpMatch::Path(exact("/api"))), false),
        ] {
            assert_eq!(holds(&wanted), is, "{wanted:?}");
        }
    }

    #[test]
    fn all_of_none_is_everything_and_any_of_none_is_nothing() {
        assert!(holds(&Match::All(Vec::new())));
        assert!(!holds(&Match::Any(Vec::new())));
    }

    #[test]
    fn what_is_not_known_matches_nothing() {
        let asked = Asked::new();
        let facts = Facts { source: None, scheme: None, ..asked.facts() };
        let any = TcpMatch::Net("0.0.0.0/0".parse().unwrap());
        assert!(!matches(&Match::Source(any), &facts));
        assert!(!matches(&Match::Http(HttpMatch::Scheme(Scheme::HTTP)), &facts));
    }

    #[test]
    fn an_address_of_ipv4_in_ipv6_is_one_of_ipv4() {
        let asked = Asked::new();
        let source = Some("[::ffff:10.0.0.1]:1".parse().unwrap());
        let facts = Facts { source, ..asked.facts() };
        let net = TcpMatch::Net("10.0.0.0/8".parse().unwrap());
        assert!(matches(&Match::Source(net), &facts));
    }

    #[test]
    fn a_header_matches_by_any_of_its_values_and_all_are_needed() {
        let asked = Asked::new();
        let wanted = |name: &str, value| HeaderMatch { name: name.parse().unwrap(), value };
        let has = |wanted: &[HeaderMatch]| has_headers(wanted, &asked.headers);
        assert!(has(&[]));
        assert!(has(&[wanted("X-User", exact("8"))]));
        assert!(has(&[wanted("x-user", exact("7")), wanted("x-user", prefix("8"))]));
        assert!(!has(&[wanted("x-user", exact("9"))]));
        assert!(!has(&[wanted("x-user", exact("7")), wanted("x-other", prefix(""))]));
    }

    fn any_match() -> impl Strategy<Value = Match> {
        let leaf = prop_oneof![
            (0_u8..=32).prop_map(|bits| {
                let net = ipnet::IpNet::new([10, 0, 0, 1].into(), bits).unwrap();
                Match::Source(TcpMatch::Net(net))
            }),
            (1_u16..9_000, 0_u16..9_000).prop_map(|(min, more)| {
                Match::Destination(TcpMatch::Ports { min, max: min + more })
            }),
            "/(api)?".prop_map(|text| Match::Http(HttpMatch::Path(StringMatch::Prefix(text)))),
            "web(:80)?".prop_map(|text| Match::Http(HttpMatch::Authority(exact(&text)))),
            "web-[1-3]".prop_map(|pod| Match::DestinationLabel(label("pod", &pod))),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Match::All),
                prop::collection::vec(inner.clone(), 0..4).prop_map(Match::Any),
                inner.prop_map(|inner| Match::Not(Box::new(inner))),
            ]
        })
    }

    fn not(wanted: Match) -> Match {
        Match::Not(Box::new(wanted))
    }

    proptest! {
        #[test]
        fn twice_not_is_as_if_not_said(wanted in any_match()) {
            prop_assert_eq!(holds(&not(not(wanted.clone()))), holds(&wanted));
            prop_assert_ne!(holds(&not(wanted.clone())), holds(&wanted));
        }

        #[test]
        fn all_is_not_any_of_the_negations(parts in prop::collection::vec(any_match(), 0..4)) {
            let negations = parts.iter().cloned().map(not).collect();
            prop_assert_eq!(holds(&Match::All(parts)), holds(&not(Match::Any(negations))));
        }

        #[test]
        fn order_and_nesting_change_nothing(
            mut parts in prop::collection::vec(any_match(), 0..4),
            other in any_match(),
        ) {
            let nested = Match::All(vec![other.clone(), Match::All(parts.clone())]);
            parts.push(other);
            prop_assert_eq!(holds(&Match::All(parts.clone())), holds(&nested));
            let forward = holds(&Match::Any(parts.clone()));
            parts.reverse();
            prop_assert_eq!(holds(&Match::Any(parts)), forward);
        }
    }
}
