//! Carries out what a scenario says of the network, of clocks and of names: what its links are like,
//! and the faults that concern them.
//!
//! Law: what a fault did is undone by its end, also where targets mean other hosts by then.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::link::{Impairment, ImpairmentId, LinkSpec, Place, Unsupported};
use crate::topology::{BrokenResolver, Crash, DnsAnswer, HostSpec, Resolver};

use super::scenario::{self, Action, Component, DnsKind, Network, OutageKind, Target};
use super::{Simulator, World, mesh};

/// What lasts of links' faults.
pub(super) type Impaired = Vec<(Action, Vec<ImpairmentId>)>;

impl<S: Simulator> World<S> {
    /// Makes the network what the scenario says.
    pub(super) fn set_network(&mut self, network: &Network) -> Result<(), String> {
        let words = |error: Unsupported| format!("spec.network: {error}");
        let usual = LinkSpec::default();
        let scenario::LinkSpec { latency, bandwidth, loss } = network.default;
        let default = link(usual, latency, bandwidth, loss);
        if default != usual {
            let (from, to) = (Place::Anywhere, Place::Anywhere);
            self.simulator.set_link(from, to, default).map_err(words)?;
        }
        for named in &network.links {
            let spec = link(default, named.latency, named.bandwidth, named.loss);
            for a in self.places(&named.a) {
                for b in self.places(&named.b) {
                    self.simulator.set_link(a.clone(), b.clone(), spec).map_err(words)?;
                    if !named.one_way {
                        self.simulator.set_link(b, a.clone(), spec).map_err(words)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Does what a fault of links, clocks or names does.
    pub(super) fn begin_link(&mut self, action: &Action) -> Result<(), String> {
        let words = |error: Unsupported| error.to_string();
        match action {
            Action::Partition { a, b, one_way } => {
                let mut cuts = Vec::new();
                for (a, b) in self.pairs(a, b) {
                    cuts.extend(self.simulator.partition(a, b, *one_way).map_err(words)?);
                }
                self.impairments.push((action.clone(), cuts));
            }
            Action::Latency { a, b, one_way, by, jitter } => {
                let (extra_latency, extra_jitter) = (by.0, jitter.0);
                let how = Impairment { extra_latency, extra_jitter, ..Impairment::default() };
                self.impair(action, (a, b, *one_way), how)?;
            }
            Action::Loss { a, b, one_way, rate } => {
                let how = Impairment { loss: *rate, ..Impairment::default() };
                self.impair(action, (a, b, *one_way), how)?;
            }
            Action::Bandwidth { a, b, one_way, limit } => {
                let how = Impairment { bandwidth_bps: Some(limit.0), ..Impairment::default() };
                self.impair(action, (a, b, *one_way), how)?;
            }
            Action::Reset { a, b } => {
                for (a, b) in self.pairs(a, b) {
                    self.simulator.reset(a, b).map_err(words)?;
                }
            }
            Action::ClockSkew { target, ahead, behind } => self.set_clocks(target, |clock| {
                (clock.ahead, clock.behind) = (ahead.0, behind.0);
            })?,
            Action::ClockDrift { target, ppm } => self.set_drift(target, *ppm)?,
            Action::Dns { target, name, how } => {
                self.set_dns(target, name.as_deref(), Some(*how))?
            }
            Action::Outage { component, how } => self.set_outage(*component, Some(*how))?,
            other => return Err(format!("`{other}` cannot be played")),
        }
        Ok(())
    }

    /// Undoes it.
    pub(super) fn end_link(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::ClockSkew { target, .. } => self.set_clocks(target, |clock| {
                (clock.ahead, clock.behind) = (Duration::ZERO, Duration::ZERO);
            }),
            Action::ClockDrift { target, .. } => self.set_drift(target, 0),
            Action::Dns { target, name, .. } => self.set_dns(target, name.as_deref(), None),
            Action::Outage { component, .. } => self.set_outage(*component, None),
            _ => {
                let of_it = self.impairments.iter().position(|(begun, _)| begun == action);
                let ids = of_it.map(|index| self.impairments.remove(index).1);
                for id in ids.into_iter().flatten() {
                    self.simulator.mend(id);
                }
                Ok(())
            }
        }
    }

    fn impair(
        &mut self,
        action: &Action,
        (a, b, one_way): (&Target, &Target, bool),
        how: Impairment,
    ) -> Result<(), String> {
        let mut ids = Vec::new();
        for (a, b) in self.pairs(a, b) {
            let there = self.simulator.impair(a.clone(), b.clone(), how);
            ids.push(there.map_err(|error| error.to_string())?);
            if !one_way {
                let back = self.simulator.impair(b, a, how);
                ids.push(back.map_err(|error| error.to_string())?);
            }
        }
        self.impairments.push((action.clone(), ids));
        Ok(())
    }

    fn set_drift(&mut self, target: &Target, ppm: i32) -> Result<(), String> {
        // One crystal drives both clocks.
        self.set_clocks(target, |clock| {
            (clock.wall_drift_ppm, clock.monotonic_drift_ppm) = (ppm, ppm);
        })
    }

    fn set_clocks(
        &mut self,
        target: &Target,
        change: impl Fn(&mut crate::topology::ClockSpec),
    ) -> Result<(), String> {
        for host in self.hosts(target) {
            let clock = self.clocks.entry(host).or_default();
            change(clock);
            let done = self.simulator.set_clock(host, *clock);
            done.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn set_dns(
        &mut self,
        target: &Target,
        name: Option<&str>,
        how: Option<DnsKind>,
    ) -> Result<(), String> {
        for host in self.hosts(target) {
            if let Some(name) = name {
                let answer = how.map(|how| match how {
                    DnsKind::NotFound => DnsAnswer::NotFound,
                    DnsKind::Silence => DnsAnswer::Silence,
                });
                self.simulator.set_name_for(host, name, answer);
                continue;
            }
            let broken = how.map(|how| match how {
                DnsKind::NotFound => BrokenResolver::NotFound,
                DnsKind::Silence => BrokenResolver::Silence,
            });
            let resolver = Resolver { broken, ..Resolver::default() };
            let done = self.simulator.set_resolver(Some(host), resolver);
            done.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Says where an API of the control plane is served: by the controller, by nobody, or by a host
    /// without power.
    pub(super) fn set_outage(
        &mut self,
        component: Component,
        how: Option<OutageKind>,
    ) -> Result<(), String> {
        match how {
            Some(how) => self.outages.insert(component, how),
            None => self.outages.remove(&component),
        };
        self.serve(component);
        if how.is_some() {
            for host in self.hosts(&Target::Controller(None)) {
                let reset = self.simulator.reset(Place::Host(host), Place::Anywhere);
                reset.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Lets the service of an API lead to the controllers that are ready.
    pub(super) fn serve(&mut self, component: Component) {
        let served_by = match self.outages.get(&component) {
            None => self.ready_controllers(),
            Some(OutageKind::Refuse) => Vec::new(),
            Some(OutageKind::Silence) => vec![self.silent_host()],
        };
        let at = mesh::component_address(component);
        let served_by = served_by.into_iter().map(|ip| SocketAddr::new(ip, at.port()));
        self.simulator.set_virtual_address(at, served_by.collect());
    }

    /// The address of a host that never answers.
    fn silent_host(&mut self) -> IpAddr {
        const SILENT_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 255, 254));
        if !self.has_silent_host {
            self.has_silent_host = true;
            let host = self.simulator.add_host(HostSpec::new("silent", SILENT_IP));
            self.simulator.crash(host, None, Crash::Power);
        }
        SILENT_IP
    }

    /// Where a target is. Nodes and zones are meant with what will run there.
    fn places(&self, target: &Target) -> Vec<Place> {
        match target {
            Target::All => vec![Place::Anywhere],
            Target::Node(node) => vec![Place::Node(node.clone())],
            Target::Zone(zone) => vec![Place::Zone(zone.clone())],
            Target::Pod(_) | Target::Deployment(_) | Target::PodOf(..) | Target::Controller(_) => {
                self.hosts(target).into_iter().map(Place::Host).collect()
            }
        }
    }

    /// The links between two targets. All is everything but the other.
    fn pairs(&self, a: &Target, b: &Target) -> Vec<(Place, Place)> {
        let others = |than: &Target| -> Vec<Place> {
            let these = self.hosts(than);
            let all = self.hosts(&Target::All).into_iter();
            all.filter(|host| !these.contains(host)).map(Place::Host).collect()
        };
        let (from, to) = match (a, b) {
            (Target::All, Target::All) => (self.places(a), self.places(b)),
            (Target::All, _) => (others(b), self.places(b)),
            (_, Target::All) => (self.places(a), others(a)),
            _ => (self.places(a), self.places(b)),
        };
        let both = from.iter().flat_map(|a| to.iter().map(move |b| (a.clone(), b.clone())));
        both.filter(|(a, b)| a != b || !matches!(a, Place::Host(_))).collect()
    }
}

fn link(
    usual: LinkSpec,
    latency: Option<scenario::LatencySpec>,
    bandwidth: Option<scenario::Bandwidth>,
    loss: Option<f64>,
) -> LinkSpec {
    let (latency_median, latency_p99) = match latency {
        Some(latency) => (latency.median.0, latency.p99.unwrap_or(latency.median).0),
        None => (usual.latency_median, usual.latency_p99),
    };
    LinkSpec {
        latency_median,
        latency_p99,
        loss: loss.unwrap_or(usual.loss),
        bandwidth_bps: bandwidth.map(|limit| limit.0).or(usual.bandwidth_bps),
        ..usual
    }
}
