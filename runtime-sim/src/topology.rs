//! Who is where: addresses of hosts, redirect rules, virtual addresses and names. Both engines
//! route by it, so that what they disagree on is the network and nothing else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// What a host is like.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// Name, unique; names its random streams.
    pub name: String,
    /// Address, unique.
    pub ip: IpAddr,
    /// The machine it is on, for links between machines.
    pub node: Option<String>,
    /// The zone it is in, for links between zones.
    pub zone: Option<String>,
    /// Rules that bring connections to a proxy of the host.
    pub redirect: Option<Redirect>,
    /// What is wrong with its clocks.
    pub clock: ClockSpec,
}

impl HostSpec {
    /// A host with a right clock and no rules.
    pub fn new(name: impl Into<String>, ip: IpAddr) -> Self {
        let clock = ClockSpec::default();
        Self { name: name.into(), ip, node: None, zone: None, redirect: None, clock }
    }
}

/// The errors of a host's clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSpec {
    /// How far the wall clock is ahead.
    pub ahead: Duration,
    /// How far the wall clock is behind.
    pub behind: Duration,
    /// How much too fast the wall clock runs from when this is set, in parts of a million.
    pub wall_drift_ppm: i32,
    /// How much too fast the monotonic clock runs, and with it every sleep.
    pub monotonic_drift_ppm: i32,
}

/// Redirect rules, as an init container installs them. Connections to the host's own addresses
/// are never redirected, nor are those of processes that are the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The port on 127.0.0.1 that takes what the host's programs connect to.
    pub outbound_port: u16,
    /// The port that takes what other hosts connect to.
    pub inbound_port: u16,
    /// Ports that programs reach directly.
    pub skip_outbound_ports: Vec<u16>,
    /// Ports that other hosts reach directly.
    pub skip_inbound_ports: Vec<u16>,
}

impl Default for Redirect {
    /// 4140 and 4143; the proxy's tap and admin ports are reached directly.
    fn default() -> Self {
        Self {
            outbound_port: 4140,
            inbound_port: 4143,
            skip_outbound_ports: Vec::new(),
            skip_inbound_ports: vec![4190, 4191],
        }
    }
}

/// What a resolver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// Addresses, in order.
    Addresses(Vec<IpAddr>),
    /// The name does not exist.
    NotFound,
    /// The resolver has no answer now (SERVFAIL).
    Failure,
    /// Nobody answers.
    Silence,
}

/// The resolver that a host asks, over UDP: a lost question is asked again after a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resolver {
    /// The host that it runs on, whose links the questions and answers take; none is a resolver that
    /// is always reached.
    pub host: Option<usize>,
    /// How long it thinks.
    pub latency: Duration,
    /// The part of questions that are lost beside what the link loses.
    pub loss: f64,
    /// After which the next question is asked.
    pub timeout: Duration,
    /// Questions before it is given up.
    pub attempts: u32,
    /// What it answers whatever is asked: everything fails, or nothing is answered.
    pub broken: Option<BrokenResolver>,
}

impl Default for Resolver {
    /// `resolv.conf`'s defaults, and a resolver near by.
    fn default() -> Self {
        Self {
            host: None,
            latency: Duration::from_millis(1),
            loss: 0.0,
            timeout: Duration::from_secs(5),
            attempts: 2,
            broken: None,
        }
    }
}

/// How a resolver fails at every question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenResolver {
    /// No name exists.
    NotFound,
    /// SERVFAIL.
    Failure,
    /// No answer.
    Silence,
}

impl From<BrokenResolver> for DnsAnswer {
    fn from(broken: BrokenResolver) -> Self {
        match broken {
            BrokenResolver::NotFound => Self::NotFound,
            BrokenResolver::Failure => Self::Failure,
            BrokenResolver::Silence => Self::Silence,
        }
    }
}

/// What a process is to the redirect rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A program, whose connections the rules may bring to the proxy.
    App,
    /// The proxy, or a program of a host without rules.
    Proxy,
}

/// How a host's processes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The kernel closes their sockets.
    Process,
    /// The host falls silent.
    Power,
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To a listener of a host, perhaps past a rule that changed the destination.
    To { host: IpAddr, target: SocketAddr, original_dst: Option<SocketAddr> },
    /// A virtual address without endpoints.
    Refused,
    /// Nobody has the address.
    Nowhere,
}

#[derive(Debug, Default)]
pub(crate) struct Topology {
    hosts: BTreeMap<IpAddr, (String, Option<Redirect>)>,
    virtual_addresses: BTreeMap<SocketAddr, Vec<SocketAddr>>,
    names: BTreeMap<String, DnsAnswer>,
    /// What single hosts are told otherwise.
    names_of: BTreeMap<(IpAddr, String), DnsAnswer>,
}

impl Topology {
    /// Two hosts of a name or an address are a mistake of the world's builder.
    pub(crate) fn add_host(&mut self, spec: &HostSpec) {
        let place = (spec.name.clone(), spec.redirect.clone());
        let twice = self.hosts.insert(spec.ip, place);
        assert!(twice.is_none(), "two hosts have the address {}", spec.ip);
        let address = DnsAnswer::Addresses(vec![spec.ip]);
        let twice = self.names.insert(spec.name.clone(), address);
        assert!(twice.is_none(), "two hosts have the name {}", spec.name);
    }

    pub(crate) fn set_virtual_address(&mut self, at: SocketAddr, endpoints: Vec<SocketAddr>) {
        self.virtual_addresses.insert(at, endpoints);
    }

    pub(crate) fn set_name(&mut self, name: &str, answer: DnsAnswer) {
        self.names.insert(name.to_owned(), answer);
    }

    /// Tells one host otherwise than the others, or no longer.
    pub(crate) fn set_name_for(&mut self, asker: IpAddr, name: &str, answer: Option<DnsAnswer>) {
        let key = (asker, name.to_owned());
        match answer {
            Some(answer) => self.names_of.insert(key, answer),
            None => self.names_of.remove(&key),
        };
    }

    /// What a host is told.
    pub(crate) fn answer(&self, asker: IpAddr, name: &str) -> DnsAnswer {
        if let Some(answer) = self.names_of.get(&(asker, name.to_owned())) {
            return answer.clone();
        }
        match (self.names.get(name), name) {
            (Some(answer), _) => answer.clone(),
            (None, "localhost") => {
                DnsAnswer::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
            }
            (None, _) => DnsAnswer::NotFound,
        }
    }

    /// Where a connection of a process on a host to `to` goes: the host itself first, then its
    /// outbound rule, virtual addresses, the owner of the address, and the owner's inbound rule.
    /// `draw` picks below a bound.
    pub(crate) fn route(
        &self,
        from: IpAddr,
        role: Role,
        to: SocketAddr,
        mut draw: impl FnMut(usize) -> usize,
    ) -> Route {
        let direct = |host, target| Route::To { host, target, original_dst: None };
        if to.ip() == from || to.ip().is_loopback() {
            return direct(from, to);
        }
        let redirected = |host, target| Route::To { host, target, original_dst: Some(to) };
        let outbound = self.redirect(from).filter(|_| role == Role::App);
        if let Some(rule) = outbound
            && !rule.skip_outbound_ports.contains(&to.port())
        {
            let loopback: IpAddr = match to.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            return redirected(from, SocketAddr::new(loopback, rule.outbound_port));
        }
        let to = match self.virtual_addresses.get(&to) {
            Some(endpoints) if endpoints.is_empty() => return Route::Refused,
            Some(endpoints) => endpoints[draw(endpoints.len())],
            None => to,
        };
        let host = to.ip();
        if host == from {
            return direct(from, to);
        }
        if !self.hosts.contains_key(&host) {
            return Route::Nowhere;
        }
        let inbound = self.redirect(host);
        match inbound.filter(|rule| !rule.skip_inbound_ports.contains(&to.port())) {
            // The rule of the other host sees the address that a virtual one became.
            Some(rule) => Route::To {
                host,
                target: SocketAddr::new(host, rule.inbound_port),
                original_dst: Some(to),
            },
            None => direct(host, to),
        }
    }

    fn redirect(&self, host: IpAddr) -> Option<&Redirect> {
        self.hosts.get(&host)?.1.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn topology() -> Topology {
        let mut topology = Topology::default();
        for (name, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
            let mut spec = HostSpec::new(name, ip.parse().expect("an address"));
            spec.redirect = Some(Redirect::default());
            topology.add_host(&spec);
        }
        topology.set_virtual_address(at("10.96.0.1:80"), vec![at("10.0.0.2:8080")]);
        topology
    }

    fn route(role: Role, to: &str) -> Route {
        topology().route([10, 0, 0, 1].into(), role, at(to), |_| 0)
    }

    fn to(host: [u8; 4], target: &str, original_dst: Option<&str>) -> Route {
        Route::To { host: host.into(), target: at(target), original_dst: original_dst.map(at) }
    }

    #[test]
    fn a_program_is_brought_to_its_own_proxy() {
        let own = |dialled| to([10, 0, 0, 1], "127.0.0.1:4140", Some(dialled));
        assert_eq!(route(Role::App, "10.0.0.2:8080"), own("10.0.0.2:8080"));
        assert_eq!(route(Role::App, "10.96.0.1:80"), own("10.96.0.1:80"));
    }

    #[test]
    fn nobody_is_redirected_on_the_way_to_itself() {
        let own = to([10, 0, 0, 1], "10.0.0.1:80", None);
        assert_eq!(route(Role::App, "10.0.0.1:80"), own);
        let loopback = to([10, 0, 0, 1], "127.0.0.1:80", None);
        assert_eq!(route(Role::App, "127.0.0.1:80"), loopback);
    }

    #[test]
    fn what_comes_from_elsewhere_meets_the_inbound_proxy() {
        let inbound = |dialled| to([10, 0, 0, 2], "10.0.0.2:4143", Some(dialled));
        assert_eq!(route(Role::Proxy, "10.0.0.2:80"), inbound("10.0.0.2:80"));
        assert_eq!(route(Role::Proxy, "10.0.0.2:4143"), inbound("10.0.0.2:4143"));
        assert_eq!(route(Role::Proxy, "10.96.0.1:80"), inbound("10.0.0.2:8080"));
        let admin = to([10, 0, 0, 2], "10.0.0.2:4191", None);
        assert_eq!(route(Role::Proxy, "10.0.0.2:4191"), admin);
        assert_eq!(route(Role::Proxy, "10.0.0.9:80"), Route::Nowhere);
    }
}
