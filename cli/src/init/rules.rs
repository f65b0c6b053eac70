//! What the kernel is to do with a pod's TCP connections, as rules that are tried in order. Decides;
//! knows neither nftables nor iptables.

use ipnet::IpNet;

use super::Capture;
use super::ports::Ports;

/// Of which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// Where a connection is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It comes from elsewhere.
    In,
    /// Somebody in the pod opens it.
    Out,
}

/// Which connections a rule is for. All are TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    User(u32),
    Group(u32),
    OverLoopback,
    ToPorts(Ports),
    From(IpNet),
    All,
}

/// What happens to those that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// They go where they were going; no later rule is tried.
    Pass,
    /// They go to this port of the pod.
    Redirect(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) way: Way,
    pub(super) which: Which,
    pub(super) then: Then,
    /// For who reads the rules in the kernel.
    pub(super) why: &'static str,
}

/// The rules for one family of addresses.
pub(super) fn rules(capture: &Capture, family: Family) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut rule = |way, which, then, why| rules.push(Rule { way, which, then, why });
    if !capture.ignore_inbound.is_empty() {
        let ports = Which::ToPorts(capture.ignore_inbound.clone());
        rule(Way::In, ports, Then::Pass, "ports to ignore");
    }
    let is_of = |network: &&IpNet| matches!(network, IpNet::V4(_)) == (family == Family::V4);
    for network in capture.ignore_networks.iter().filter(is_of) {
        rule(Way::In, Which::From(*network), Then::Pass, "subnet to ignore");
    }
    let captured = match capture.redirect.is_empty() {
        true => Which::All,
        false => Which::ToPorts(capture.redirect.clone()),
    };
    rule(Way::In, captured, Then::Redirect(capture.inbound_port), "to the proxy");
    if let Some(uid) = capture.uid {
        rule(Way::Out, Which::User(uid), Then::Pass, "the proxy's own");
    }
    if let Some(gid) = capture.gid {
        rule(Way::Out, Which::Group(gid), Then::Pass, "the proxy's own");
    }
    rule(Way::Out, Which::OverLoopback, Then::Pass, "within the pod");
    if !capture.ignore_outbound.is_empty() {
        let ports = Which::ToPorts(capture.ignore_outbound.clone());
        rule(Way::Out, ports, Then::Pass, "ports to ignore");
    }
    rule(Way::Out, Which::All, Then::Redirect(capture.outbound_port), "to the proxy");
    rules
}
