//! What is looked at while a run goes on: metrics, endpoints, and what hosts hold. Each expectation
//! that needs it has a probe, which keeps its own answer and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::time::Timestamp;

use super::metrics::{Metrics, Selector};
use super::{DefaultOracle, Finding, LEAK_TOLERANCE, Offence, relaxed};
use crate::world::scenario::{Expectation, Spec, Target, Value};

/// Between two looks at metrics and at what processes hold.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a change may be on its way from the cluster to a proxy.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// After the workloads' end, how long idle things may be kept.
pub const IDLE: Duration = Duration::from_secs(90);

/// A world at a moment.
pub trait Scene {
    /// Pods whose proxies run, and the controller.
    fn names(&self) -> Vec<Arc<str>>;
    /// The metrics of a proxy or a controller that runs.
    fn metrics(&self, name: &str) -> Option<Metrics>;
    /// The endpoints that the cluster has for each port of a service (`host:port`).
    fn services(&self) -> BTreeMap<String, Expected>;
    /// The services that a proxy balances over, and the endpoints that it knows: whether they are up.
    fn known(&self, name: &str) -> Option<Vec<(String, BTreeMap<SocketAddr, bool>)>>;
    /// The pods that may answer for a service now; none where that cannot be told of a host.
    fn servers(&self, host: &str) -> Option<BTreeSet<Arc<str>>>;
    /// What the mesh's process of a pod, or the controller, holds; none where nobody counts.
    fn held(&self, name: &str) -> Option<Held>;
    /// The most heap that each pod's proxy had since it was started, in bytes; of those that run,
    /// and empty where nobody counts.
    fn heap_peaks(&self) -> BTreeMap<Arc<str>, u64>;
    /// What all of them hold.
    fn held_by_all(&self) -> BTreeMap<Arc<str>, Held> {
        let names = self.names().into_iter();
        names.filter_map(|name| Some((name.clone(), self.held(&name)?))).collect()
    }
}

/// The endpoints that a proxy must have of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Those that are ready; where none is, those that end and still serve.
    pub addresses: BTreeSet<SocketAddr>,
    /// Some are meant for a zone: who is elsewhere may have fewer, but not none.
    pub hinted: bool,
}

/// What a process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Tasks that live.
    pub tasks: u64,
    /// Connections and listeners.
    pub sockets: u64,
    /// Sleeps that have not ended.
    pub timers: u64,
    /// Heap, where it is counted.
    pub heap_bytes: Option<u64>,
}

/// All probes of a run.
#[derive(Debug)]
pub struct Watch {
    probes: Vec<(Expectation, Probe)>,
    next: Timestamp,
    checks: Vec<Timestamp>,
    /// When the first workload begins, until it does.
    base_at: Option<Timestamp>,
    base: BTreeMap<Arc<str>, Held>,
    leaked: Option<Finding>,
    /// The most heap that each proxy had at any moment, where it is counted.
    heap_peaks: BTreeMap<Arc<str>, u64>,
}

#[derive(Debug)]
enum Probe {
    /// The value of a metric.
    Metric { selector: Selector, once: bool, looks: u64, hit: Option<Offence>, last: Option<f64> },
    /// The endpoints of every balancer, at moments. Where a proxy differs it is looked at once more a
    /// second later: the change may have been on its way.
    Converged {
        moments: Vec<Timestamp>,
        end: Timestamp,
        looks: u64,
        suspects: BTreeMap<(Arc<str>, String), Offence>,
        first: Option<Offence>,
    },
    /// Who might answer a workload's requests, at any moment.
    Servers { host: String, known: Option<BTreeSet<Arc<str>>> },
    /// What processes hold.
    Bounded { looks: u64, most: Held, first: Option<Offence> },
    /// It cannot be probed.
    Impossible(String),
}

impl Watch {
    /// The probes of what a scenario expects.
    pub fn new(spec: &Spec) -> Self {
        let probes: Vec<_> = spec
            .expect
            .iter()
            .filter_map(|expectation| Some((expectation.clone(), Probe::of(expectation, spec)?)))
            .collect();
        let mut checks: Vec<_> = probes.iter().flat_map(|(_, probe)| probe.moments()).collect();
        checks.sort_unstable();
        let first = spec.workloads.iter().map(|workload| workload.start.0).min();
        let base_at = Some(Timestamp::ZERO + first.unwrap_or_default());
        Self {
            probes,
            next: Timestamp::ZERO,
            checks,
            base_at,
            base: BTreeMap::new(),
            leaked: None,
            heap_peaks: BTreeMap::new(),
        }
    }

    /// The next moment at which to look, from `now` on. Another than the last, once it was looked at.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let regular = self.probes.iter().any(|(_, probe)| probe.is_regular());
        let regular = regular.then_some(self.next.max(now));
        let check = self.checks.iter().copied().find(|at| *at >= now);
        [regular, check, self.base_at.map(|at| at.max(now))].into_iter().flatten().min()
    }

    /// Looks at the world.
    pub fn look(&mut self, at: Timestamp, scene: &dyn Scene) {
        if at >= self.next {
            self.next = at + INTERVAL;
        }
        if self.base_at.is_some_and(|base_at| at >= base_at) {
            self.base_at = None;
            self.base = scene.held_by_all();
        }
        let mut scrapes = Scrapes { scene, read: BTreeMap::new() };
        for (expectation, probe) in &mut self.probes {
            probe.look(expectation, at, &mut scrapes);
        }
        self.checks = self.probes.iter().flat_map(|(_, probe)| probe.moments()).collect();
        self.checks.retain(|check| *check > at);
        self.checks.sort_unstable();
    }

    /// The pods that might answer a workload's requests at some moment of the run; none where that
    /// was not looked at or cannot be told.
    pub(super) fn servers(&self, workload: &str) -> Option<&BTreeSet<Arc<str>>> {
        self.probes.iter().find_map(|(expectation, probe)| match probe {
            Probe::Servers { known, .. } if expectation.workload() == Some(workload) => {
                known.as_ref()
            }
            _ => None,
        })
    }

    /// How many more of a thing are no leak; none where nobody counts, or leaks are allowed: then
    /// it is not worth waiting for idle things to go.
    pub fn leaks_tolerated(&self, spec: &Spec) -> Option<u64> {
        let written = spec.expect.iter().find_map(|expectation| match expectation {
            Expectation::NoLeak { tolerance } => Some(*tolerance),
            _ => None,
        });
        let allowed = relaxed(spec, DefaultOracle::NoLeak, None).is_some();
        let grows =
            |e: &Expectation| matches!(e, Expectation::Bounded { growth_at_most: Some(_), .. });
        let looks = !allowed || spec.expect.iter().any(grows);
        (looks && !self.base.is_empty()).then(|| written.unwrap_or(LEAK_TOLERANCE))
    }

    /// Looks at how much heap each proxy ever had.
    pub fn look_at_heap_peaks(&mut self, scene: &dyn Scene) {
        self.heap_peaks = scene.heap_peaks();
    }

    /// What was seen of it.
    pub(super) fn heap_peaks(&self) -> &BTreeMap<Arc<str>, u64> {
        &self.heap_peaks
    }

    /// Looks at what is left at the very end.
    pub fn look_for_leaks(&mut self, at: Timestamp, tolerance: u64, scene: &dyn Scene) {
        let (mut first, mut looked) = (None, 0);
        let (mut worst, mut most) = (String::new(), 0);
        let left = scene.held_by_all();
        for (expectation, probe) in &mut self.probes {
            if let (
                Expectation::Bounded { growth_at_most: Some(most), pod, .. },
                Probe::Bounded { first, .. },
            ) = (expectation, probe)
            {
                let grown = grown(&self.base, &left, pod.as_deref(), *most, at);
                *first = first.take().or(grown);
            }
        }
        // Every proxy keeps its connections to the controller.
        let allowed = |name: &str| match Target::read(name) {
            Ok(Target::Controller(_)) => tolerance + 16 * left.len() as u64,
            _ => tolerance,
        };
        for (name, now) in &left {
            let Some(base) = self.base.get(name) else { continue };
            looked += 1;
            let figures = [
                ("tasks", now.tasks, base.tasks),
                ("sockets", now.sockets, base.sockets),
                ("timers", now.timers, base.timers),
            ];
            for (what, now, base) in figures {
                let more = now.saturating_sub(base);
                if more > most {
                    (worst, most) = (format!(", {name} has {more} more {what}"), more);
                }
                if more > allowed(name) && first.is_none() {
                    let what = format!("{now} {what}, and {base} before the workloads");
                    first = Some(Offence::at(at, what).of_pod(name));
                }
            }
        }
        self.leaked =
            (looked > 0).then(|| Finding::of(format!("{looked} processes{worst}"), first));
    }

    /// What was found of an expectation that has a probe.
    pub(super) fn finding(&self, expectation: &Expectation) -> Finding {
        if let Expectation::NoLeak { .. } = expectation {
            let uncounted = || Finding::new(true, "this engine does not count what processes hold");
            return self.leaked.clone().unwrap_or_else(uncounted);
        }
        let probe = self.probes.iter().find(|(probed, _)| probed == expectation);
        probe.map_or_else(|| Finding::new(false, "not observed"), |(_, probe)| probe.finding())
    }
}

/// The scrapes of one moment, each read once.
struct Scrapes<'a> {
    scene: &'a dyn Scene,
    read: BTreeMap<Arc<str>, Option<Metrics>>,
}

impl Scrapes<'_> {
    fn of(&mut self, name: &Arc<str>) -> Option<&Metrics> {
        let scene = self.scene;
        self.read.entry(name.clone()).or_insert_with(|| scene.metrics(name)).as_ref()
    }
}

impl Probe {
    fn of(expectation: &Expectation, spec: &Spec) -> Option<Self> {
        match expectation {
            Expectation::Eventually { metric, .. } | Expectation::Never { metric, .. } => {
                let once = matches!(expectation, Expectation::Eventually { .. });
                Some(match Selector::read(metric) {
                    Ok(selector) => {
                        Self::Metric { selector, once, looks: 0, hit: None, last: None }
                    }
                    Err(fault) => Self::Impossible(fault),
                })
            }
            Expectation::Converged { within } => Some(Self::Converged {
                moments: quiet_moments(spec, within.0),
                end: Timestamp::ZERO + spec.duration.0,
                looks: 0,
                suspects: BTreeMap::new(),
                first: None,
            }),
            Expectation::Identity { workload, .. } => {
                let workload = spec.workloads.iter().find(|w| w.name == *workload)?;
                let host = workload.to.rsplit_once(':').map_or(&*workload.to, |(host, _)| host);
                Some(Self::Servers { host: host.to_owned(), known: None })
            }
            Expectation::Bounded { .. } => {
                Some(Self::Bounded { looks: 0, most: Held::default(), first: None })
            }
            _ => None,
        }
    }

    fn moments(&self) -> Vec<Timestamp> {
        match self {
            Self::Converged { moments, .. } => moments.clone(),
            _ => Vec::new(),
        }
    }

    fn is_regular(&self) -> bool {
        matches!(self, Self::Metric { .. } | Self::Bounded { .. } | Self::Servers { .. })
    }

    fn look(&mut self, expectation: &Expectation, at: Timestamp, scrapes: &mut Scrapes<'_>) {
        let names = scrapes.scene.names();
        let named = names.iter().filter(|name| expectation.pod().is_none_or(|pod| pod == &***name));
        match (self, expectation) {
            (
                Self::Metric { selector, looks, hit, last, .. },
                Expectation::Eventually { window, .. } | Expectation::Never { window, .. },
            ) if window.contains(at) => {
                *looks += 1;
                look_at_metric(selector, expectation.value(), at, named, scrapes, (hit, last));
            }
            (Self::Converged { moments, end, looks, suspects, first }, _)
                if moments.contains(&at) =>
            {
                *looks += 1;
                let before = std::mem::take(suspects);
                let last = at + SECOND_LOOK > *end;
                for (balancer, offence) in differing_balancers(at, named, scrapes.scene) {
                    match before.get(&balancer) {
                        None if last => first.get_or_insert(offence),
                        None => suspects.entry(balancer).or_insert(offence),
                        Some(seen) => first.get_or_insert_with(|| seen.clone()),
                    };
                }
                if !suspects.is_empty() && !last {
                    moments.push(at + SECOND_LOOK);
                }
            }
            (Self::Servers { host, known }, _) => {
                if let Some(servers) = scrapes.scene.servers(host) {
                    known.get_or_insert_default().extend(servers);
                }
            }
            (Self::Bounded { looks, most, first }, _) => {
                for name in named {
                    let Some(held) = scrapes.scene.held(name) else { continue };
                    *looks += 1;
                    *most = larger(*most, held);
                    let wrong = || beyond(expectation, held, at, name);
                    *first = first.take().or_else(wrong);
                }
            }
            _ => {}
        }
    }

    fn finding(&self) -> Finding {
        match self {
            Self::Metric { looks: 0, .. } | Self::Converged { looks: 0, .. } => {
                Finding::new(false, "never looked at: no moment of the run is meant")
            }
            Self::Bounded { looks: 0, .. } => Finding::new(false, "nobody counts what it holds"),
            Self::Metric { once: true, hit: Some(hit), .. } => Finding::new(true, hit.to_string()),
            Self::Metric { once: true, looks, last, .. } => {
                let last =
                    last.map_or("it was not there".to_owned(), |last| format!("it was {last}"));
                Finding::new(false, format!("not in {looks} looks; at the last {last}"))
            }
            Self::Metric { looks, hit, last, .. } => {
                let there = if last.is_some() { "" } else { ", and it was never there" };
                Finding::of(format!("{looks} looks{there}"), hit.clone())
            }
            Self::Converged { looks, first, .. } => {
                Finding::of(format!("{looks} moments"), first.clone())
            }
            Self::Bounded { most, first, .. } => {
                let heap =
                    most.heap_bytes.map_or(String::new(), |heap| format!(", {heap} B of heap"));
                let Held { tasks, sockets, .. } = most;
                let found = format!("at most {tasks} tasks, {sockets} sockets{heap}");
                Finding::of(found, first.clone())
            }
            Self::Servers { .. } => Finding::new(false, "judged with its requests"),
            Self::Impossible(fault) => Finding::new(false, fault),
        }
    }
}

/// Keeps the first value that was meant, and the last that was seen.
fn look_at_metric<'n>(
    selector: &Selector,
    meant: Value,
    at: Timestamp,
    names: impl Iterator<Item = &'n Arc<str>>,
    scrapes: &mut Scrapes<'_>,
    (hit, last): (&mut Option<Offence>, &mut Option<f64>),
) {
    for name in names {
        let value = scrapes.of(name).and_then(|metrics| metrics.sum(selector));
        *last = value.or(*last);
        if let Some(value) = value.filter(|value| meant.contains(*value))
            && hit.is_none()
        {
            *hit = Some(Offence::at(at, format!("it was {value}")).of_pod(name));
        }
    }
}

/// The balancers (proxy and service) that have other endpoints than the cluster, or have one down.
fn differing_balancers<'n>(
    at: Timestamp,
    names: impl Iterator<Item = &'n Arc<str>>,
    scene: &dyn Scene,
) -> Vec<((Arc<str>, String), Offence)> {
    let truth = scene.services();
    let mut differing = Vec::new();
    for name in names {
        for (service, known) in scene.known(name).into_iter().flatten() {
            let Some(expected) = truth.get(&service) else { continue };
            if let Some(what) = difference(expected, &known) {
                let offence = Offence::at(at, format!("{service}: {what}")).of_pod(name);
                differing.push(((name.clone(), service), offence));
            }
        }
    }
    differing
}

/// What a proxy has otherwise than the cluster.
fn difference(expected: &Expected, known: &BTreeMap<SocketAddr, bool>) -> Option<String> {
    let Expected { addresses, hinted } = expected;
    let stale = known.keys().find(|address| !addresses.contains(address));
    if let Some(address) = stale {
        return Some(format!("has {address}, which the cluster does not have"));
    }
    let enough = !known.is_empty() && *hinted;
    let missing = addresses.iter().find(|address| !known.contains_key(address));
    if let Some(address) = missing.filter(|_| !enough) {
        let (known, all) = (known.len(), addresses.len());
        return Some(format!("lacks {address}, has {known} of {all}"));
    }
    let down = known.iter().find(|(_, up)| !**up);
    down.map(|(address, _)| format!("{address} is down"))
}

fn larger(a: Held, b: Held) -> Held {
    Held {
        tasks: a.tasks.max(b.tasks),
        sockets: a.sockets.max(b.sockets),
        timers: a.timers.max(b.timers),
        heap_bytes: a.heap_bytes.max(b.heap_bytes),
    }
}

fn beyond(expectation: &Expectation, held: Held, at: Timestamp, name: &str) -> Option<Offence> {
    let Expectation::Bounded { heap_at_most, sockets_at_most, tasks_at_most, .. } = expectation
    else {
        return None;
    };
    let figures = [
        ("bytes of heap", held.heap_bytes, heap_at_most.map(|bytes| bytes.0)),
        ("sockets", Some(held.sockets), *sockets_at_most),
        ("tasks", Some(held.tasks), *tasks_at_most),
    ];
    figures.into_iter().find_map(|(what, now, most)| {
        let (now, most) = (now?, most?);
        (now > most).then(|| Offence::at(at, format!("{now} {what}")).of_pod(name))
    })
}

/// What has more in the end than it had, by more than a part of it.
fn grown(
    base: &BTreeMap<Arc<str>, Held>,
    left: &BTreeMap<Arc<str>, Held>,
    pod: Option<&str>,
    most: f64,
    at: Timestamp,
) -> Option<Offence> {
    let named = left.iter().filter(|(name, _)| pod.is_none_or(|pod| pod == &***name));
    let pairs = named.filter_map(|(name, now)| Some((name, base.get(name)?, now)));
    for (name, base, now) in pairs {
        let figures = [
            ("tasks", Some(base.tasks), Some(now.tasks)),
            ("sockets", Some(base.sockets), Some(now.sockets)),
            ("bytes of heap", base.heap_bytes, now.heap_bytes),
        ];
        for (what, base, now) in figures {
            let (Some(base), Some(now)) = (base, now) else { continue };
            if now as f64 > base as f64 * (1.0 + most) {
                let what = format!("{now} {what} in the end, and {base} before the workloads");
                return Some(Offence::at(at, what).of_pod(name));
            }
        }
    }
    None
}

/// Moments at which no fault has been in force for a while.
fn quiet_moments(spec: &Spec, within: Duration) -> Vec<Timestamp> {
    let mut spans = Vec::new();
    for fault in &spec.faults {
        for begin in fault.beginnings(spec.duration) {
            let lasts = fault.lasts.map_or(Duration::ZERO, |lasts| lasts.0);
            spans.push((begin, begin + lasts));
        }
    }
    let quiet = |at: &Duration| {
        *at <= spec.duration.0
            && !spans.iter().any(|(begin, end)| begin < at && *at < *end + within)
    };
    let mut moments: Vec<_> = spans.iter().map(|(_, end)| *end + within).filter(quiet).collect();
    moments.sort_unstable();
    moments.dedup();
    moments.into_iter().map(|at| Timestamp::ZERO + at).collect()
}

#[cfg(test)]
mod tests;
