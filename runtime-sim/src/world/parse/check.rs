//! What a Scenario may not say though each of its fields is right: twice the same name, times out of
//! range, faults that cannot be.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use serde_yaml_ng::Value as Yaml;

use super::super::scenario::{
    Action, App, CrashKind, Fault, Lifetimes, RandomFaults, Span, Spec, Target,
};
use super::place::{Path, Step};
use super::schema::Flaw;

/// Every such flaw.
pub(super) fn check(spec: &Spec, deployments: &[Deployment]) -> Vec<Flaw> {
    let mut found = Flaws { spec, flaws: Vec::new() };
    found.check_whole();
    found.check_apps(deployments);
    found.check_topology();
    found.check_network();
    found.check_workloads();
    found.check_taps();
    let mut ids = BTreeSet::new();
    for (index, fault) in spec.faults.iter().enumerate() {
        let path = Path::read("spec.faults").index(index);
        if let Some(id) = fault.id.as_ref().filter(|id| !ids.insert(id.as_str())) {
            found.refuse(path.key("id"), format!("a second fault has the id `{id}`"), RENAME);
        }
        found.check_fault(fault, &path);
    }
    if let Some(random) = &spec.random_faults {
        found.check_random(random);
    }
    if let Ok(expect) = serde_yaml_ng::to_value(Wire(&spec.expect)) {
        found.check_bounds(&expect, &Path::read("spec.expect"));
    }
    found.flaws
}

const RENAME: &str = "give it another name";
const SHORTEN: &str = "make it earlier, or the duration longer";

/// Written as a file has it.
struct Wire<'a, T>(&'a T);

impl<T: serde::Serialize> serde::Serialize for Wire<'_, T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_yaml_ng::with::singleton_map_recursive::serialize(self.0, serializer)
    }
}

struct Flaws<'a> {
    spec: &'a Spec,
    flaws: Vec<Flaw>,
}

impl Flaws<'_> {
    fn refuse(&mut self, path: Path, fault: impl Into<String>, remedy: &str) {
        self.flaws.push(Flaw::new(path, fault, remedy));
    }

    /// Refuses a moment after the end.
    fn check_moment(&mut self, at: Span, path: Path) {
        if at > self.spec.duration {
            let fault = format!("{at} is after the end at {}", self.spec.duration);
            self.refuse(path, fault, SHORTEN);
        }
    }

    fn check_whole(&mut self) {
        let at = |field: &str| Path::read("spec").key(field);
        let Lifetimes { leaf, issuer, anchor } = self.spec.lifetimes;
        for (field, lifetime) in [("leaf", leaf), ("issuer", issuer), ("anchor", anchor)] {
            if lifetime.is_some_and(|lifetime| lifetime.0.subsec_nanos() > 0) {
                let fault = "certificates end at whole seconds";
                self.refuse(at("lifetimes").key(field), fault, "round it");
            }
        }
        if self.spec.duration.0.is_zero() {
            self.refuse(at("duration"), "nothing happens in no time", "make it longer");
        }
        if self.spec.seeds.pinned.is_empty() {
            self.refuse(at("seeds"), "no seed is pinned", "name one that is always played: [1]");
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.spec.seeds.pinned.iter().find(|seed| !seen.insert(**seed)) {
            self.refuse(at("seeds"), format!("{twice} stands twice"), "keep one of them");
        }
    }

    fn check_apps(&mut self, deployments: &[Deployment]) {
        let mut seen = BTreeSet::new();
        for deployment in deployments {
            let name = deployment.metadata.name.clone().unwrap_or_default();
            let path = Path::read("spec.apps").key(&name);
            if self.spec.apps.contains_key(&name) {
                let fault = format!("a Deployment `{name}` stands beside it");
                self.refuse(path, fault, "keep one of them");
            } else if !seen.insert(name.clone()) {
                let fault = format!("two Deployments have the name `{name}`");
                self.refuse(Path::default(), fault, RENAME);
            }
        }
        for (name, app) in &self.spec.apps {
            let path = Path::read("spec.apps").key(name);
            let App { serves, latency, pre_stop, target_port, .. } = app;
            if serves.is_none() && (latency.is_some() || target_port.is_some()) {
                let fault = "it serves nothing, and has a latency or a target port";
                self.refuse(path.clone(), fault, "say what it serves: `serves: http`");
            }
            if pre_stop.is_some_and(|sleep| sleep.0.subsec_nanos() > 0) {
                let fault = "Kubernetes sleeps whole seconds";
                self.refuse(path.key("pre_stop"), fault, "round it");
            }
        }
    }

    fn check_topology(&mut self) {
        let mut seen = BTreeSet::new();
        for (zone, nodes) in &self.spec.topology.zones {
            let path = Path::read("spec.topology.zones").key(zone);
            if nodes.is_empty() {
                self.refuse(path.clone(), "a zone without nodes", "name its nodes: [\"1\"]");
            }
            for (index, node) in nodes.iter().enumerate() {
                if !seen.insert(node) {
                    let fault = format!("node `{node}` stands twice");
                    self.refuse(path.index(index), fault, "name each node once");
                }
            }
        }
    }

    fn check_network(&mut self) {
        let network = &self.spec.network;
        let path = Path::read("spec.network");
        let links = network.links.iter().enumerate();
        let links = links.map(|(index, link)| (link.latency, path.key("links").index(index)));
        let all = std::iter::once((network.default.latency, path.key("default"))).chain(links);
        let wrong = all.filter(|(latency, _)| {
            latency.is_some_and(|latency| latency.p99.is_some_and(|p99| p99 < latency.median))
        });
        for (_, path) in wrong.collect::<Vec<_>>() {
            self.refuse(path.key("latency").key("p99"), P99_BELOW, "make it larger");
        }
    }

    fn check_workloads(&mut self) {
        let mut names = BTreeSet::new();
        for (index, workload) in self.spec.workloads.iter().enumerate() {
            let path = Path::read("spec.workloads").index(index);
            if !names.insert(workload.name.as_str()) {
                let fault = format!("a second workload has the name `{}`", workload.name);
                self.refuse(path.key("name"), fault, RENAME);
            }
            self.check_moment(workload.start, path.key("start"));
            if workload.stop.is_some_and(|stop| stop <= workload.start) {
                let fault = format!("it stops before it starts at {}", workload.start);
                self.refuse(path.key("stop"), fault, "make it later");
            }
        }
    }

    fn check_taps(&mut self) {
        let mut names = BTreeSet::new();
        for (index, tap) in self.spec.taps.iter().enumerate() {
            let path = Path::read("spec.taps").index(index);
            if !names.insert(tap.name.as_str()) {
                let fault = format!("a second tap has the name `{}`", tap.name);
                self.refuse(path.key("name"), fault, RENAME);
            }
            self.check_moment(tap.at, path.key("at"));
            if tap.lasts.is_some_and(|lasts| lasts.0.is_zero()) {
                self.refuse(path.key("for"), "it ends when it begins", "make it longer");
            }
            if tap.read_from.is_some_and(|from| from <= tap.at) {
                let fault = format!("it is read before it is opened at {}", tap.at);
                self.refuse(path.key("read_from"), fault, "make it later, or remove it");
            }
            if tap.by.is_some() && tap.pod().is_none() {
                let fault = "a program asks the proxy of one pod";
                self.refuse(path.key("resource"), fault, "name a pod: po/web-0");
            }
        }
    }

    fn check_fault(&mut self, fault: &Fault, path: &Path) {
        self.check_moment(fault.at, path.key("at"));
        let action = &fault.action;
        match fault.lasts {
            Some(lasts) if lasts.0.is_zero() => {
                self.refuse(path.key("for"), "it ends when it begins", "make it longer");
            }
            Some(_) if action.is_momentary() => {
                let what = "it happens at a moment and has no end";
                self.refuse(path.key("for"), what, "remove `for`");
            }
            Some(lasts) if fault.every.is_some_and(|every| every <= lasts) => {
                let what = "it lasts until it begins again";
                self.refuse(path.key("every"), what, "make it longer than `for`");
            }
            None if fault.every.is_some() && !action.is_momentary() => {
                let what = "it begins again and never ends";
                self.refuse(path.key("every"), what, "say how long it lasts with `for`");
            }
            None if matches!(action, Action::UpgradeProxy { .. }) => {
                let what = "the proxy drains, and never ends";
                self.refuse(path.clone(), what, "say how long it may drain with `for`");
            }
            _ => {}
        }
        match (fault.every, fault.times) {
            (None, Some(_)) => {
                self.refuse(path.key("times"), "how often, but not how soon", "add `every`");
            }
            (Some(every), _) if every.0.is_zero() => {
                self.refuse(path.key("every"), "no time is between two of them", "make it longer");
            }
            _ => {}
        }
        self.check_action(action, &path.key("do"));
    }

    fn check_action(&mut self, action: &Action, path: &Path) {
        match action {
            Action::Crash { how, process: Some(_), .. } if *how == CrashKind::Power => {
                let fault = "a host loses its power as a whole, not one process";
                self.refuse(path.key("crash").key("process"), fault, "remove `process`");
            }
            Action::Partition { a, b, .. } => self.check_sides(a, b, path.key("partition")),
            Action::Latency { a, b, .. } => self.check_sides(a, b, path.key("latency")),
            Action::Loss { a, b, .. } => self.check_sides(a, b, path.key("loss")),
            Action::Bandwidth { a, b, .. } => self.check_sides(a, b, path.key("bandwidth")),
            Action::Reset { a, b } => self.check_sides(a, b, path.key("reset")),
            Action::ClockSkew { ahead, behind, .. } if ahead.0.is_zero() == behind.0.is_zero() => {
                let fault = "a clock is ahead or behind";
                self.refuse(path.key("clock_skew"), fault, "write one of `ahead` and `behind`");
            }
            _ => {}
        }
    }

    fn check_sides(&mut self, a: &Target, b: &Target, path: Path) {
        if a == b && matches!(a, Target::Pod(_) | Target::PodOf(..)) {
            let fault = format!("`{a}` has no link to itself");
            self.refuse(path, fault, "name two targets, or leave out `b`");
        }
    }

    fn check_random(&mut self, random: &RandomFaults) {
        let path = Path::read("spec.random_faults");
        if random.interval.0.is_zero() {
            let fault = "no time is between two of them";
            self.refuse(path.key("interval"), fault, "make it longer");
        }
        if random.lasts_at_most.0.is_zero() {
            self.refuse(path.key("lasts_at_most"), "they end when they begin", "make it longer");
        }
        self.check_moment(random.heal_by, path.key("heal_by"));
        if random.from >= random.heal_by {
            let fault = format!("all has healed before they begin at {}", random.from);
            self.refuse(path.key("heal_by"), fault, "make it later");
        }
        let spared = random.protect.iter().enumerate();
        for (index, target) in spared {
            if matches!(target, Target::All | Target::Node(_) | Target::Zone(_)) {
                let fault = format!("`{target}` cannot be spared");
                let remedy = "name pods, Deployments or controllers";
                self.refuse(path.key("protect").index(index), fault, remedy);
            }
        }
    }

    /// Windows and bounds of expectations, whatever they are of.
    fn check_bounds(&mut self, value: &Yaml, path: &Path) {
        match value {
            Yaml::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.check_bounds(item, &path.index(index));
                }
            }
            Yaml::Mapping(map) => {
                let span = |key: &str| map.get(key)?.as_str().and_then(|t| Span::read(t).ok());
                if path.0.last() == Some(&Step::Key("window".to_owned())) {
                    if let Some(from) = span("from") {
                        self.check_moment(from, path.key("from"));
                    }
                    if let (Some(from), Some(to)) = (span("from"), span("to"))
                        && to <= from
                    {
                        let fault = format!("the window ends at {to}, before it begins at {from}");
                        self.refuse(path.key("to"), fault, "make it later");
                    }
                }
                let number = |key: &str| map.get(key).and_then(Yaml::as_f64);
                if let (Some(least), Some(most)) = (number("at_least"), number("at_most"))
                    && least > most
                {
                    let fault = format!("nothing is at least {least} and at most {most}");
                    self.refuse(path.key("at_most"), fault, "make it larger");
                }
                for (key, value) in map {
                    let inside = path.key(key.as_str().unwrap_or_default());
                    self.check_bounds(value, &inside);
                }
            }
            _ => {}
        }
    }
}

const P99_BELOW: &str = "the 99th percentile is below the median";
