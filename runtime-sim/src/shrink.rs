//! Makes a failing scenario smaller for as long as it fails in the same way: fewer expectations, faults,
//! workloads, taps and apps, fewer replicas, shorter times. What is left is what the failure needs.
//!
//! Law: every scenario that is tried is one that could be read from a file, is played with the same
//! seed, and counts as failing only where the same expectation fails, and fails at something. Never more
//! than the runs that were allowed.

use std::time::Duration;

use crate::world::oracle::Judgement;
use crate::world::parse::{self, Scenario};
use crate::world::run::{EngineKind, Report, run};
use crate::world::scenario::{Expectation, Span};

/// Times are not made shorter than this.
const SHORTEST: Duration = Duration::from_millis(100);
/// Nor a run than this: the mesh and its workloads need two seconds to begin.
const SHORTEST_RUN: Duration = Duration::from_secs(4);

/// How a run fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// By an expectation.
    Oracle {
        /// Its name.
        oracle: &'static str,
        /// It, in words.
        expected: String,
        /// Whether something was named that was wrong: else there may be nothing at all.
        at_something: bool,
    },
    /// A fault could not be done.
    Trouble,
}

impl Failure {
    /// How a run failed first; nothing where it passed.
    pub fn of(report: &Report) -> Option<Self> {
        let broken = report.expectations.iter().find(|judged| !judged.passes());
        match broken {
            Some(Judgement { oracle, expected, first, .. }) => {
                let at_something = first.is_some();
                Some(Self::Oracle { oracle, expected: expected.clone(), at_something })
            }
            None => (!report.troubles.is_empty()).then_some(Self::Trouble),
        }
    }

    /// Whether a run fails so.
    pub fn is_of(&self, report: &Report) -> bool {
        match self {
            Self::Trouble => !report.troubles.is_empty(),
            Self::Oracle { oracle, expected, at_something } => {
                report.expectations.iter().any(|judged| {
                    !judged.passes()
                        && judged.oracle == *oracle
                        && judged.expected == *expected
                        && (judged.first.is_some() || !at_something)
                })
            }
        }
    }

    /// Whether an expectation is the one that fails.
    fn is_about(&self, expectation: &Expectation) -> bool {
        let Self::Oracle { oracle, expected, .. } = self else { return false };
        expectation.name() == *oracle && expectation.to_string() == *expected
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Oracle { oracle, expected, .. } => write!(f, "{oracle} ({expected})"),
            Self::Trouble => f.write_str("a fault that cannot be done"),
        }
    }
}

/// What shrinking came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest scenario that fails in the same way.
    pub scenario: Scenario,
    /// What its run came to; none where no smaller one was found.
    pub report: Option<Report>,
    /// Runs that it took.
    pub runs: usize,
}

/// Makes a scenario smaller that fails so with a seed. `tell` hears of every step that was kept.
pub fn shrink(
    scenario: &Scenario,
    seed: u64,
    engine: EngineKind,
    failure: &Failure,
    runs_max: usize,
    tell: &mut dyn FnMut(&str),
) -> Shrunk {
    let best = scenario.materialise(seed);
    let mut search = Search { best, report: None, seed, engine, failure, runs: 0, runs_max, tell };
    search.expectations();
    search.faults();
    search.workloads();
    search.taps();
    search.manifests();
    search.apps();
    search.replicas();
    search.times();
    let Search { best, report, runs, .. } = search;
    Shrunk { scenario: best, report, runs }
}

struct Search<'a> {
    best: Scenario,
    report: Option<Report>,
    seed: u64,
    engine: EngineKind,
    failure: &'a Failure,
    runs: usize,
    runs_max: usize,
    tell: &'a mut dyn FnMut(&str),
}

impl Search<'_> {
    /// Takes a smaller scenario in place of the best where it fails in the same way.
    fn try_one(&mut self, what: &str, candidate: Scenario) -> bool {
        if self.runs >= self.runs_max || candidate == self.best {
            return false;
        }
        // Names that are no more, windows that do not fit: the reader of files knows.
        if parse::read("shrunk.yaml", &candidate.to_yaml()).is_err() {
            return false;
        }
        self.runs += 1;
        let report = run(&candidate, self.seed, self.engine, false);
        let Some(report) = report.ok().filter(|report| self.failure.is_of(report)) else {
            return false;
        };
        (self.tell)(&format!("{what} (run {})", self.runs));
        self.best = candidate;
        self.report = Some(report);
        true
    }

    fn with(&mut self, what: &str, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.try_one(what, candidate)
    }

    /// Only what fails is expected; what is allowed stays allowed.
    fn expectations(&mut self) {
        let failure = self.failure;
        self.with("other expectations left out", |scenario| {
            scenario.spec.expect.retain(|expectation| {
                matches!(expectation, Expectation::Relaxed { .. }) || failure.is_about(expectation)
            });
        });
    }

    fn faults(&mut self) {
        let all = self.best.spec.faults.clone();
        minimise(all, |few| {
            let what = format!("{} faults", few.len());
            self.with(&what, |scenario| scenario.spec.faults = few.to_vec())
        });
        for index in 0..self.best.spec.faults.len() {
            if self.best.spec.faults[index].every.is_some() {
                let what = format!("fault {} once", index + 1);
                self.with(&what, |scenario| {
                    let fault = &mut scenario.spec.faults[index];
                    (fault.every, fault.times) = (None, None);
                });
            }
        }
    }

    fn workloads(&mut self) {
        let all = self.best.spec.workloads.clone();
        minimise(all, |few| {
            let what = format!("{} workloads", few.len());
            self.with(&what, |scenario| scenario.spec.workloads = few.to_vec())
        });
    }

    fn taps(&mut self) {
        let all = self.best.spec.taps.clone();
        minimise(all, |few| {
            let what = format!("{} taps", few.len());
            self.with(&what, |scenario| scenario.spec.taps = few.to_vec())
        });
    }

    fn manifests(&mut self) {
        let all = self.best.manifests.clone();
        minimise(all, |few| {
            let what = format!("{} manifests", few.len());
            self.with(&what, |scenario| scenario.manifests = few.to_vec())
        });
    }

    fn apps(&mut self) {
        let names: Vec<_> = self.best.spec.apps.keys().cloned().collect();
        for name in names {
            self.with(&format!("without app {name}"), |scenario| {
                scenario.spec.apps.remove(&name);
            });
        }
    }

    fn replicas(&mut self) {
        let apps: Vec<_> = self.best.spec.apps.keys().cloned().collect();
        for name in apps {
            let replicas = self.best.spec.apps[&name].replicas;
            for fewer in smaller(replicas) {
                let done = self.with(&format!("{fewer} of {name}"), |scenario| {
                    if let Some(app) = scenario.spec.apps.get_mut(&name) {
                        app.replicas = fewer;
                    }
                });
                if done {
                    break;
                }
            }
        }
        for index in 0..self.best.manifest_deployments.len() {
            let deployment = &self.best.manifest_deployments[index];
            let name = deployment.metadata.name.clone().unwrap_or_default();
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            for fewer in smaller(u32::try_from(replicas).unwrap_or(0)) {
                let done = self.with(&format!("{fewer} of {name}"), |scenario| {
                    let spec = &mut scenario.manifest_deployments[index].spec;
                    if let Some(spec) = spec {
                        spec.replicas = i32::try_from(fewer).ok();
                    }
                });
                if done {
                    break;
                }
            }
        }
    }

    fn times(&mut self) {
        for index in 0..self.best.spec.faults.len() {
            while let Some(lasts) = self.best.spec.faults[index].lasts {
                let half = half(lasts.0, SHORTEST);
                let what = format!("fault {} for {half}", index + 1);
                if half == lasts || !self.with(&what, |s| s.spec.faults[index].lasts = Some(half)) {
                    break;
                }
            }
        }
        loop {
            let duration = self.best.spec.duration;
            let half = half(duration.0, SHORTEST_RUN);
            let what = format!("{half} in all");
            if half == duration || !self.with(&what, |scenario| scenario.spec.duration = half) {
                return;
            }
        }
    }
}

/// One, then half, then one less: whichever of them is fewer.
fn smaller(replicas: u32) -> Vec<u32> {
    let mut fewer = vec![1, replicas / 2, replicas.saturating_sub(1)];
    fewer.retain(|n| (1..replicas).contains(n));
    fewer.dedup();
    fewer
}

fn half(time: Duration, shortest: Duration) -> Span {
    let millis = u64::try_from(time.as_millis() / 2).unwrap_or(u64::MAX);
    Span(Duration::from_millis(millis).max(shortest).min(time))
}

/// Delta debugging (Zeller and Hildebrandt, 2002): the fewest of the items, in their order, for which
/// `fails` still says yes: none of them can be left out alone.
fn minimise<T: Clone>(items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    if items.is_empty() || fails(&[]) {
        return Vec::new();
    }
    let (mut items, mut parts) = (items, 2);
    while items.len() > 1 {
        let size = items.len().div_ceil(parts);
        let starts = (0..items.len()).step_by(size);
        let without = |start: usize| {
            let end = (start + size).min(items.len());
            [&items[..start], &items[end..]].concat()
        };
        match starts.map(without).find(|few| fails(few)) {
            Some(few) => {
                items = few;
                parts = (parts - 1).max(2);
            }
            None if parts >= items.len() => break,
            None => parts = (parts * 2).min(items.len()),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_needed_is_left_and_nothing_else(
            count in 1..40usize,
            needed in proptest::collection::btree_set(0..40usize, 0..4),
        ) {
            let needed: Vec<_> = needed.into_iter().filter(|n| *n < count).collect();
            let mut runs = 0;
            let found = minimise((0..count).collect(), |few| {
                runs += 1;
                needed.iter().all(|n| few.contains(n))
            });
            prop_assert_eq!(found, needed);
            prop_assert!(runs < 200, "{} runs", runs);
        }
    }

    #[test]
    fn fewer_replicas_are_one_half_and_one_less() {
        assert_eq!(smaller(9), [1, 4, 8]);
        assert_eq!(smaller(2), [1]);
        assert_eq!(smaller(1), [0u32; 0]);
    }

    const PLANTED: &str = "
apiVersion: scenario.weft.sh/v1alpha1
kind: Scenario
metadata: {name: planted}
spec:
  about: One of several faults makes requests fail, though none may.
  duration: 12s
  apps:
    client: {}
    web: {replicas: 3, serves: http}
    echo: {serves: tcp}
  workloads:
    - name: load
      from: client
      to: web.default.svc.cluster.local:80
      protocol: http1
      arrivals: {constant: {rate: 20}}
    - name: lines
      from: client
      to: echo.default.svc.cluster.local:80
      protocol: tcp
      arrivals: {constant: {rate: 2}}
  faults:
    - {at: 3s, do: {watch_disconnect: {}}}
    - {at: 3s, for: 2s, do: {slow: {target: web-0, by: 20ms}}}
    - {at: 4s, for: 2s, do: {errors: {target: deployment/web, status: 500}}}
    - {at: 5s, for: 1s, do: {watch_lag: {by: 1s}}}
    - {at: 6s, do: {relist: {}}}
  expect:
    - requests: {workload: load, at_least: 10}
    - failures: {workload: load, at_most: 0}
    - relaxed: {oracle: no_leak, because: it takes a minute and a half to tell}
";

    #[test]
    fn a_planted_failure_shrinks_to_its_one_fault_and_is_the_same_failure() {
        let scenario = parse::read("planted.yaml", PLANTED).expect("a scenario");
        let report = run(&scenario, 1, EngineKind::Des, false).expect("a world");
        let failure = Failure::of(&report).expect("it fails");
        let mut steps = Vec::new();
        let mut tell = |step: &str| steps.push(step.to_owned());
        let shrunk = shrink(&scenario, 1, EngineKind::Des, &failure, 60, &mut tell);
        let spec = &shrunk.scenario.spec;
        let faults: Vec<_> = spec.faults.iter().map(|fault| fault.action.to_string()).collect();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("errors"), "{faults:?}");
        assert_eq!((spec.workloads.len(), spec.apps.len()), (1, 2), "{steps:?}");
        assert_eq!(spec.apps["web"].replicas, 1);
        assert!(spec.duration.0 < scenario.spec.duration.0);
        assert!(shrunk.runs <= 60);
        assert!(failure.is_of(&shrunk.report.expect("a smaller one was found")));
    }
}
