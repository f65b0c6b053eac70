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

/// A place, its name a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spot {
    Anywhere,
    Zone(u32),
    Node(u32),
    Host(HostId),
}

impl Spot {
    /// The greater, the more specific.
    fn rank(self) -> u8 {
        match self {
            Self::Anywhere => 0,
            Self::Zone(_) => 1,
            Self::Node(_) => 2,
            Self::Host(_) => 3,
        }
    }
}

/// Where a host is.
#[derive(Clone, Copy, Default)]
struct Site {
    node: Option<u32>,
    zone: Option<u32>,
}

/// From where to where.
pub(super) type Course = (Spot, Spot);

/// The ways between all hosts.
pub(super) struct Ways {
    usual: Way,
    /// Names of zones and nodes, numbered as they came.
    names: BTreeMap<String, u32>,
    /// With the order in which they were set.
    specs: BTreeMap<Course, (u64, LinkSpec)>,
    impairments: BTreeMap<Course, BTreeMap<ImpairmentId, Impairment>>,
    courses: BTreeMap<ImpairmentId, Course>,
    sites: Vec<Site>,
    resolved: BTreeMap<(HostId, HostId), Way>,
    changes: u64,
}

impl Ways {
    pub(super) fn new() -> Self {
        Self {
            usual: Way::new(LinkSpec::default()),
            names: BTreeMap::new(),
            specs: BTreeMap::new(),
            impairments: BTreeMap::new(),
            courses: BTreeMap::new(),
            sites: Vec::new(),
            resolved: BTreeMap::new(),
            changes: 0,
        }
    }

    /// The next host's place.
    pub(super) fn add_host(&mut self, node: Option<String>, zone: Option<String>) {
        let [node, zone] = [node, zone].map(|name| name.map(|name| self.number(name)));
        self.sites.push(Site { node, zone });
    }

    fn number(&mut self, name: String) -> u32 {
        let next = self.names.len() as u32;
        *self.names.entry(name).or_insert(next)
    }

    pub(super) fn spot(&mut self, place: Place) -> Spot {
        match place {
            Place::Anywhere => Spot::Anywhere,
            Place::Zone(zone) => Spot::Zone(self.number(zone)),
            Place::Node(node) => Spot::Node(self.number(node)),
            Place::Host(host) => Spot::Host(host),
        }
    }

    pub(super) fn is_in(&self, spot: Spot, host: HostId) -> bool {
        match spot {
            Spot::Anywhere => true,
            Spot::Zone(zone) => self.sites[host].zone == Some(zone),
            Spot::Node(node) => self.sites[host].node == Some(node),
            Spot::Host(one) => one == host,
        }
    }

    pub(super) fn set(&mut self, course: Course, spec: LinkSpec) {
        self.resolved.clear();
        self.changes += 1;
        self.specs.insert(course, (self.changes, spec));
    }

    pub(super) fn unset(&mut self, course: Course) {
        self.resolved.clear();
        self.specs.remove(&course);
    }

    pub(super) fn set_usual(&mut self, spec: LinkSpec) {
        self.resolved.clear();
        self.usual = Way::new(spec);
    }

    pub(super) fn impair(&mut self, course: Course, how: Impairment) -> ImpairmentId {
        self.resolved.clear();
        self.changes += 1;
        let id = ImpairmentId(self.changes);
        self.impairments.entry(course).or_default().insert(id, how);
        self.courses.insert(id, course);
        id
    }

    /// What an impairment impairs; nothing where it has ended.
    pub(super) fn course(&self, id: ImpairmentId) -> Option<Course> {
        self.courses.get(&id).copied()
    }

    pub(super) fn mend(&mut self, id: ImpairmentId) {
        self.resolved.clear();
        let Some(course) = self.courses.remove(&id) else { return };
        if let Some(on_it) = self.impairments.get_mut(&course) {
            on_it.remove(&id);
            if on_it.is_empty() {
                self.impairments.remove(&course);
            }
        }
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
        let (mut most, mut impaired) = (None, Vec::new());
        for from in self.spots_of(a) {
            for to in self.spots_of(b) {
                if let Some((number, spec)) = self.specs.get(&(from, to)) {
                    let (x, y) = (from.rank(), to.rank());
                    let rank = (x.max(y), x + y, *number);
                    most = match most {
                        Some((known, _)) if known > rank => most,
                        _ => Some((rank, *spec)),
                    };
                }
                impaired.extend(self.impairments.get(&(from, to)).into_iter().flatten());
            }
        }
        // In the order in which they began.
        impaired.sort_unstable_by_key(|(id, _)| **id);
        let spec = most.map_or(self.usual.spec, |(_, spec)| spec);
        impaired.into_iter().fold(spec, |spec, (_, how)| how.on(spec))
    }

    /// Every place that a host is in.
    fn spots_of(&self, host: HostId) -> impl Iterator<Item = Spot> + use<> {
        let Site { node, zone } = self.sites[host];
        let named = [zone.map(Spot::Zone), node.map(Spot::Node)].into_iter().flatten();
        [Spot::Anywhere, Spot::Host(host)].into_iter().chain(named)
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
        let [one, two] = ["z1", "z2"].map(|name| ways.spot(Place::Zone(name.to_owned())));
        let node = ways.spot(Place::Node("n1".to_owned()));
        ways.set((Spot::Host(0), Spot::Host(3)), millis(7));
        ways.set((node, two), millis(6));
        ways.set((one, two), millis(5));
        ways.set((Spot::Anywhere, Spot::Anywhere), millis(4));
        let all = [(0, 3), (1, 3), (2, 3), (3, 0), (0, 1)];
        assert_eq!(all.map(|(a, b)| median(&mut ways, a, b)), [7, 6, 5, 4, 4]);
        ways.unset((Spot::Host(0), Spot::Host(3)));
        assert_eq!(median(&mut ways, 0, 3), 6);
    }

    #[test]
    fn overlapping_cuts_end_one_by_one() {
        let mut ways = ways();
        let one = ways.impair((Spot::Anywhere, Spot::Host(1)), Impairment::cut());
        let zone = ways.spot(Place::Zone("z1".to_owned()));
        let other = ways.impair((zone, Spot::Anywhere), Impairment::cut());
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
