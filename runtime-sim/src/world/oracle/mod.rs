//! Judges a run by what was recorded and observed of it. Reads nothing else and changes nothing.
//!
//! Law: a judgement says what was expected and found, and where it fails, what was first wrong and
//! when. Nothing is shown by nothing: an expectation about no request at all does not hold.

mod accounts;
pub mod attempts;
mod figures;
mod memory;
pub mod metrics;
pub mod plaintext;
mod presence;
mod tapped;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use mesh_core::time::Timestamp;

use super::record::{Entries, Request};
use super::scenario::{DefaultOracle, Expectation, Span, Spec, Window, Workload};

use metrics::Metrics;
use watch::Watch;

pub(super) use figures::quantile_of;

/// Whether an expectation holds, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The expectation's name in a file.
    pub oracle: &'static str,
    /// The expectation in words.
    pub expected: String,
    /// Whether it holds.
    pub holds: bool,
    /// The figure.
    pub found: String,
    /// What was first wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Offence>,
    /// Whether it is expected of every scenario, and was not written.
    pub automatic: bool,
    /// Why it need not hold, where the scenario says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relaxed: Option<String>,
}

/// Something that was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offence {
    /// When, in nanoseconds of virtual time.
    #[serde(serialize_with = "nanoseconds")]
    pub at: Timestamp,
    /// The request's number, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// The pod, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// What.
    pub what: String,
}

fn nanoseconds<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(at.as_nanos())
}

impl Judgement {
    /// Whether the run passes as far as this goes.
    pub fn passes(&self) -> bool {
        self.holds || self.relaxed.is_some()
    }
}

impl Offence {
    /// Something at a moment.
    pub fn at(at: Timestamp, what: impl Into<String>) -> Self {
        Self { at, request: None, pod: None, what: what.into() }
    }

    /// It is about a request.
    #[must_use]
    pub fn of_request(self, number: u64) -> Self {
        Self { request: Some(number), ..self }
    }

    /// It is about a pod.
    #[must_use]
    pub fn of_pod(self, pod: &str) -> Self {
        Self { pod: Some(pod.to_owned()), ..self }
    }
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {}", self.at)?;
        if let Some(request) = self.request {
            write!(f, ", request {request}")?;
        }
        if let Some(pod) = &self.pod {
            write!(f, ", {pod}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What an oracle found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) holds: bool,
    pub(super) found: String,
    pub(super) first: Option<Offence>,
}

impl Finding {
    pub(super) fn new(holds: bool, found: impl Into<String>) -> Self {
        Self { holds, found: found.into(), first: None }
    }

    /// Fails for an offence, where there is one.
    pub(super) fn of(found: impl Into<String>, first: Option<Offence>) -> Self {
        Self { holds: first.is_none(), found: found.into(), first }
    }

    /// Names what was first wrong, where it does not hold.
    pub(super) fn first(self, first: impl FnOnce() -> Option<Offence>) -> Self {
        let first = if self.holds { None } else { first() };
        Self { first, ..self }
    }
}

/// A pod of the world, as far as oracles care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// The deployment that it is of.
    pub deployment: String,
    /// The identity that its proxy has, where it is meshed.
    pub identity: Option<String>,
}

/// What was seen of a run beside its requests.
#[derive(Debug)]
pub struct Observed {
    /// Panics of tasks, in words.
    pub panics: Vec<String>,
    /// The last metrics of every proxy that a pod had; read where an expectation asks for them.
    pub scrapes: BTreeMap<Arc<str>, Vec<Metrics>>,
    /// What was looked at while it went on.
    pub watch: Watch,
}

/// All that a run is judged by.
pub struct Evidence<'a> {
    entries: &'a Entries,
    pods: &'a BTreeMap<Arc<str>, PodFacts>,
    workloads: BTreeMap<&'a str, &'a Workload>,
    by_workload: BTreeMap<&'a str, Vec<usize>>,
    panics: &'a [String],
    scrapes: &'a BTreeMap<Arc<str>, Vec<Metrics>>,
    watch: &'a Watch,
    end: Timestamp,
}

impl<'a> Evidence<'a> {
    /// Of a run that ended at a moment.
    pub fn new(
        spec: &'a Spec,
        entries: &'a Entries,
        pods: &'a BTreeMap<Arc<str>, PodFacts>,
        observed: &'a Observed,
        end: Timestamp,
    ) -> Self {
        let mut by_workload: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, request) in entries.requests.iter().enumerate() {
            by_workload.entry(&request.workload).or_default().push(index);
        }
        let workloads = spec.workloads.iter().map(|w| (w.name.as_str(), w)).collect();
        let Observed { panics, scrapes, watch } = observed;
        Self { entries, pods, workloads, by_workload, panics, scrapes, watch, end }
    }

    /// The requests of a workload with their numbers, in the order they began.
    fn all_of(&self, workload: &str) -> impl Iterator<Item = (u64, &'a Request)> + Clone {
        let entries = self.entries;
        let indexes = self.by_workload.get(workload).cloned().unwrap_or_default();
        indexes.into_iter().map(|index| (index as u64 + 1, &entries.requests[index]))
    }

    /// Those that began in a window.
    fn of(
        &self,
        workload: &str,
        window: Window,
    ) -> impl Iterator<Item = (u64, &'a Request)> + Clone {
        self.all_of(workload).filter(move |(_, request)| window.contains(request.began))
    }

    /// The workload that an execution is of.
    fn workload_of(&self, number: Option<u64>) -> Option<&'a str> {
        Some(&self.entries.request(number?)?.workload)
    }
}

/// Judges all that a scenario expects, and what is expected of every scenario.
pub fn judge_all(spec: &Spec, evidence: &Evidence<'_>) -> Vec<Judgement> {
    let written = spec.expect.iter().filter(|e| !matches!(e, Expectation::Relaxed { .. }));
    let mut judgements: Vec<_> = written.map(|expectation| judge(expectation, evidence)).collect();
    for (oracle, expectation) in defaults(spec) {
        let mut judgement = match (&expectation, oracle) {
            (Some(expectation), _) => judge(expectation, evidence),
            (None, DefaultOracle::Memory) => memory::judge(spec, evidence.watch, evidence.end),
            (None, _) => no_panics(evidence),
        };
        judgement.automatic = true;
        let workload = expectation.as_ref().and_then(Expectation::workload);
        judgement.relaxed = relaxed(spec, oracle, workload);
        judgements.push(judgement);
    }
    judgements
}

/// How much of a workload's end must show success where nothing is said.
const LIVE_LAST: Duration = Duration::from_secs(5);
/// What a process may have more in the end than before the workloads, where nothing is said: the
/// connections that a proxy keeps to its control plane from its first request on.
const LEAK_TOLERANCE: u64 = 8;

/// What is expected of every scenario, where it does not write the same itself.
fn defaults(spec: &Spec) -> Vec<(DefaultOracle, Option<Expectation>)> {
    let writes = |name: &str, workload: Option<&str>| {
        spec.expect.iter().any(|e| e.name() == name && e.workload() == workload)
    };
    let mut defaults = vec![(DefaultOracle::NoPanics, None), (DefaultOracle::Memory, None)];
    let mut add = |oracle, expectation: Expectation| {
        if !writes(expectation.name(), expectation.workload()) {
            defaults.push((oracle, Some(expectation)));
        }
    };
    // A client that breaks the rules is owed nothing.
    for Workload { name, .. } in spec.workloads.iter().filter(|w| w.misbehave.is_none()) {
        let workload = name.clone();
        add(DefaultOracle::Conserved, Expectation::Conserved { workload, executions_at_most: 1 });
    }
    for Workload { name, .. } in spec.workloads.iter().filter(|w| w.misbehave.is_none()) {
        let (workload, last) = (name.clone(), Span(LIVE_LAST));
        add(DefaultOracle::Live, Expectation::Live { workload, last });
    }
    add(DefaultOracle::NoLeak, Expectation::NoLeak { tolerance: LEAK_TOLERANCE });
    add(DefaultOracle::NoPlaintext, Expectation::NoPlaintext { between: Default::default() });
    defaults
}

fn relaxed(spec: &Spec, oracle: DefaultOracle, workload: Option<&str>) -> Option<String> {
    spec.expect.iter().find_map(|expectation| match expectation {
        Expectation::Relaxed { oracle: named, workload: of, because }
            if *named == oracle && (of.is_none() || of.as_deref() == workload) =>
        {
            Some(because.clone())
        }
        _ => None,
    })
}

fn no_panics(evidence: &Evidence<'_>) -> Judgement {
    let panics = evidence.panics;
    let first = panics.first().map(|panic| Offence::at(evidence.end, panic));
    let finding = Finding::of(format!("{} panics", panics.len()), first);
    judgement("no_panics", "no task panics".to_owned(), finding)
}

/// Judges an expectation.
pub fn judge(expectation: &Expectation, evidence: &Evidence<'_>) -> Judgement {
    judgement(expectation.name(), expectation.to_string(), find(expectation, evidence))
}

fn judgement(oracle: &'static str, expected: String, finding: Finding) -> Judgement {
    let Finding { holds, found, first } = finding;
    Judgement { oracle, expected, holds, found, first, automatic: false, relaxed: None }
}

fn find(expectation: &Expectation, evidence: &Evidence<'_>) -> Finding {
    match expectation {
        Expectation::Requests { workload, at_least } => {
            figures::requests(evidence, workload, *at_least)
        }
        Expectation::SuccessRate { workload, at_least, window } => {
            figures::success_rate(evidence, workload, *at_least, *window)
        }
        Expectation::Failures { workload, at_most, window } => {
            figures::failures(evidence, workload, *at_most, *window)
        }
        Expectation::LoadShare { workload, pod, at_least, at_most, window } => {
            let bounds = (at_least.unwrap_or(0.0), at_most.unwrap_or(1.0));
            figures::load_share(evidence, workload, pod, bounds, *window)
        }
        Expectation::EvenLoad { workload, deployment, within, window } => {
            figures::even_load(evidence, workload, deployment, *within, *window)
        }
        Expectation::Latency { workload, quantile, at_most, window } => {
            figures::latency(evidence, workload, *quantile, at_most.0, *window)
        }
        Expectation::InFlight { workload, at_most, window } => {
            figures::in_flight(evidence, workload, *at_most, *window)
        }
        Expectation::Conserved { workload, executions_at_most } => {
            accounts::conserved(evidence, workload, *executions_at_most)
        }
        Expectation::RetryBudget { workload, at_most, per, free } => {
            accounts::retry_budget(evidence, workload, *at_most, per.0, *free)
        }
        Expectation::Denied { workload, window } => accounts::denied(evidence, workload, *window),
        Expectation::NotExecuted { workload, window } => {
            accounts::not_executed(evidence, workload, *window)
        }
        Expectation::Identity { workload, client } => {
            accounts::identity(evidence, workload, client.as_deref())
        }
        Expectation::Live { workload, last } => accounts::live(evidence, workload, last.0),
        Expectation::NoPlaintext { between } => plaintext::judge(evidence, *between),
        Expectation::NoTraffic { pod, after } => presence::no_traffic(evidence, pod, after.0),
        Expectation::NoTrafficToDead { within } => presence::no_traffic_to_dead(evidence, within.0),
        Expectation::ConnectAttempts { from, to, at_most, per, window } => {
            let ends = [from, to].map(Option::as_deref);
            attempts::judge(evidence, ends, *at_most, per.0, *window)
        }
        Expectation::MetricsAgree { tolerance } => metrics::agree(evidence, *tolerance),
        Expectation::Tapped(expected) => tapped::tapped(evidence, expected),
        Expectation::TapOnly(expected) => tapped::only(evidence, expected),
        Expectation::TapLoss(expected) => tapped::loss(evidence, expected),
        Expectation::TapSays(expected) => tapped::says(evidence, expected),
        Expectation::TapRefused(expected) => tapped::refused(evidence, expected),
        Expectation::Converged { .. }
        | Expectation::Bounded { .. }
        | Expectation::Eventually { .. }
        | Expectation::Never { .. }
        | Expectation::NoLeak { .. } => evidence.watch.finding(expectation),
        Expectation::Relaxed { .. } => Finding::new(true, ""),
    }
}

#[cfg(test)]
mod still;
#[cfg(test)]
mod tests;
