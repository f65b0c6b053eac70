//! What each directed pair of hosts has between it now: specifications by place, impairments on top,
//! resolved once per pair and change.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agenda::Nanos;
use super::host::HostId;
use crate::link::{Impairment, ImpairmentId, LinkSpec, Place};
use crate::random::Random;

/// The 99th percentile of the standard normal distribution.
const NORMAL_P99: f64 = 2.326;

/// A direction, ready to compute with.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) spec: LinkSpec,
    median_nanos: f64,
    sigma: f64,
    jitter_nanos: u64,
}

impl Way {
    fn new(spec: LinkSpec) -> Self {
        let median = spec.latency_median.as_nanos() as f64;
        let p99 = spec.latency_p99.max(spec.latency_median).as_nanos() as f64;
        let sigma = if median == 0.0 { 0.0 } else { (p99 / median).ln() / NORMAL_P99 };
        Self { spec, median_nanos: median, sigma, jitter_nanos: nanos(spec.jitter) }
    }

    pub(super) fn is_up(&self) -> bool {
        self.spec.up && self.spec.loss < 1.0
    }

    /// Log-normal: most packets near the median, a tail that reaches the 99th percentile.
    pub(super) fn latency(&self, random: &mut Random) -> Nanos {
        let mut latency = self.median_nanos;
        if self.sigma > 0.0 {
            latency *= (self.sigma * random.normal()).exp();
        }
        let mut latency = latency as Nanos;
        if self.jitter_nanos > 0 {
            latency += random.next_u64() % self.jitter_nanos;
        }
        latency
    }
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a host is.
#[derive(Default)]
struct Site {
    node: Option<String>,
    zone: Option<String>,
}

/// The ways between all hosts.
pub(super) struct Ways {
    usual: Way,
    /// By place, with the order in which they were set.
    specs: BTreeMap<(Place, Place), (u64, LinkSpec)>,
    impairments: BTreeMap<ImpairmentId, (Place, Place, Impairment)>,
    sites: Vec<Site>,
    resolved: BTreeMap<(HostId, HostId), Way>,
    changes: u64,
}

impl Ways {
    pub(super) fn new() -> Self {
        Self {
            usual: Way::new(LinkSpec::default()),
            specs: BTreeMap::new(),
            impairments: BTreeMap::new(),
            sites: Vec::new(),
            resolved: BTreeMap::new(),
            changes: 0,
        }
    }

    /// The next host's place.
    pub(super) fn add_host(&mut self, node: Option<String>, zone: Option<String>) {
        self.sites.push(Site { node, zone });
    }

    pub(super) fn is_in(&self, place: &Place, host: HostId) -> bool {
        match place {
            Place::Anywhere => true,
            Place::Zone(zone) => self.sites[host].zone.as_ref() == Some(zone),
            Place::Node(node) => self.sites[host].node.as_ref() == Some(node),
            Place::Host(one) => *one == host,
        }
    }

    pub(super) fn set(&mut self, from: Place, to: Place, spec: LinkSpec) {
        self.resolved.clear();
        self.changes += 1;
        self.specs.insert((from, to), (self.changes, spec));
    }

    pub(super) fn unset(&mut self, from: Place, to: Place) {
        self.resolved.clear();
        self.specs.remove(&(from, to));
    }

    pub(super) fn set_usual(&mut self, spec: LinkSpec) {
        self.resolved.clear();
        self.usual = Way::new(spec);
    }

    pub(super) fn impair(&mut self, from: Place, to: Place, how: Impairment) -> ImpairmentId {
        self.resolved.clear();
        self.changes += 1;
        let id = ImpairmentId(self.changes);
        self.impairments.insert(id, (from, to, how));
        id
    }

    pub(super) fn mend(&mut self, id: ImpairmentId) {
        self.resolved.clear();
        self.impairments.remove(&id);
    }

    /// The way from one host to another.
    pub(super) fn between(&mut self, a: HostId, b: HostId) -> Way {
        if self.specs.is_empty() && self.impairments.is_empty() {
            return self.usual;
        }
        if let Some(way) = self.resolved.get(&(a, b)) {
            return *way;
        }
        let way = Way::new(self.resolve(a, b));
        self.resolved.insert((a, b), way);
        way
    }

    /// The way from one host to another, where it need not be remembered.
    pub(super) fn resolve(&self, a: HostId, b: HostId) -> LinkSpec {
        let fits = |from: &Place, to: &Place| self.is_in(from, a) && self.is_in(to, b);
        let specs = self.specs.iter().filter(|((from, to), _)| fits(from, to));
        let most = specs.max_by_key(|((from, to), (number, _))| {
            let (from, to) = (from.rank(), to.rank());
            (from.max(to), from + to, *number)
        });
        let mut spec = most.map_or(self.usual.spec, |(_, (_, spec))| *spec);
        for (from, to, how) in self.impairments.values() {
            if fits(from, to) {
                spec = how.on(spec);
            }
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways() -> Ways {
        let mut ways = Ways::new();
        for (node, zone) in [("n1", "z1"), ("n1", "z1"), ("n2", "z1"), ("n3", "z2")] {
            ways.add_host(Some(node.to_owned()), Some(zone.to_owned()));
        }
        ways
    }

    fn millis(median: u64) -> LinkSpec {
        LinkSpec { latency_median: Duration::from_millis(median), ..LinkSpec::default() }
    }

    fn median(ways: &mut Ways, a: HostId, b: HostId) -> u128 {
        ways.between(a, b).spec.latency_median.as_millis()
    }

    #[test]
    fn the_most_specific_specification_holds_and_each_direction_has_its_own() {
        let mut ways = ways();
        let zone = |name: &str| Place::Zone(name.to_owned());
        ways.set(Place::Host(0), Place::Host(3), millis(7));
        ways.set(Place::Node("n1".to_owned()), zone("z2"), millis(6));
        ways.set(zone("z1"), zone("z2"), millis(5));
        ways.set(Place::Anywhere, Place::Anywhere, millis(4));
        let all = [(0, 3), (1, 3), (2, 3), (3, 0), (0, 1)];
        assert_eq!(all.map(|(a, b)| median(&mut ways, a, b)), [7, 6, 5, 4, 4]);
        ways.unset(Place::Host(0), Place::Host(3));
        assert_eq!(median(&mut ways, 0, 3), 6);
    }

    #[test]
    fn overlapping_cuts_end_one_by_one() {
        let mut ways = ways();
        let one = ways.impair(Place::Anywhere, Place::Host(1), Impairment::cut());
        let other = ways.impair(Place::Zone("z1".to_owned()), Place::Anywhere, Impairment::cut());
        assert!(!ways.between(0, 1).is_up());
        ways.mend(one);
        assert!(!ways.between(0, 1).is_up());
        assert!(ways.between(3, 1).is_up());
        ways.mend(other);
        assert!(ways.between(0, 1).is_up());
    }

    #[test]
    fn latencies_have_the_median_and_the_99th_percentile_asked_for() {
        let mut random = Random::new(1, "", "");
        let way = Way::new(LinkSpec::default());
        let mut draws: Vec<_> = (0..20_000).map(|_| way.latency(&mut random)).collect();
        draws.sort_unstable();
        let near = |found: u64, wanted: u64| found.abs_diff(wanted) < wanted / 10;
        assert!(near(draws[10_000], 300_000), "{}", draws[10_000]);
        assert!(near(draws[19_800], 1_000_000), "{}", draws[19_800]);
    }
}
