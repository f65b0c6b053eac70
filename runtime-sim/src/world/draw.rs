//! Draws a scenario's random faults: what a seed means, as a list that can be read, written out
//! and shortened.
//!
//! Law: a function of the scenario and the seed, and of no other draw. What is drawn begins after
//! `from`, has ended at `heal_by`, and spares whom `protect` names.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::random::Random;

use super::parse::Scenario;
use super::scenario::{
    Action, Bandwidth, Component, CrashKind, DnsKind, Fault, FaultClass, OutageKind, Process,
    RandomFaults, Seeds, Span, Target,
};

/// The shortest that a fault lasts.
const LASTS_AT_LEAST: Duration = Duration::from_millis(100);
/// Faults of one run at most; an interval that would give more gives these.
const FAULTS_MAX: usize = 1_000;

impl Scenario {
    /// The same scenario with the faults that a seed draws written out, to be played with that
    /// seed: it runs as this one does.
    pub fn materialise(&self, seed: u64) -> Self {
        let mut scenario = self.clone();
        scenario.spec.seeds = Seeds { pinned: vec![seed], ci: 0, nightly: 0 };
        if let Some(random) = scenario.spec.random_faults.take() {
            let mut draw = Draw::new(self, &random, seed);
            scenario.spec.faults.extend(draw.faults(&random));
        }
        scenario
    }
}

struct Draw {
    random: Random,
    /// Pods that are not spared, and the Deployments of which no pod is.
    pods: Vec<Target>,
    deployments: Vec<(String, u32)>,
    controller_is_spared: bool,
    controllers: u32,
    /// Until when something is being done to a target that two faults would quarrel about.
    busy: BTreeMap<String, Duration>,
}

impl Draw {
    fn new(scenario: &Scenario, random: &RandomFaults, seed: u64) -> Self {
        let (mut pods, mut deployments) = (Vec::new(), Vec::new());
        let is_spared = |target: Target| random.protect.contains(&target);
        for deployment in scenario.deployments() {
            let name = deployment.metadata.name.clone().unwrap_or_default();
            if is_spared(Target::Deployment(name.clone())) {
                continue;
            }
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let replicas = u32::try_from(replicas).unwrap_or(0);
            let is_open = |index: &u32| !is_spared(Target::Pod(format!("{name}-{index}")));
            let open: Vec<_> = (0..replicas).filter(is_open).collect();
            if open.len() == replicas as usize && replicas > 0 {
                // By number, not by name: other pods will have taken the place of the first.
                pods.extend(open.into_iter().map(|index| Target::PodOf(name.clone(), index)));
                deployments.push((name, replicas));
            } else {
                pods.extend(open.iter().map(|index| Target::Pod(format!("{name}-{index}"))));
            }
        }
        let controllers = random.protect.iter();
        let controller_is_spared =
            controllers.into_iter().any(|target| matches!(target, Target::Controller(_)));
        Self {
            random: Random::new(seed, "scenario", "faults"),
            pods,
            deployments,
            controller_is_spared,
            controllers: scenario.spec.topology.controllers.max(1),
            busy: BTreeMap::new(),
        }
    }

    fn faults(&mut self, random: &RandomFaults) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut at = random.from.0;
        for _ in 0..FAULTS_MAX {
            at += self.up_to(random.interval.0 * 2);
            let at = whole_millis(at);
            let room = random.heal_by.0.saturating_sub(at);
            if room <= LASTS_AT_LEAST {
                break;
            }
            let class = random.classes[self.random.below(random.classes.len())];
            let longest = random.lasts_at_most.0.min(room);
            let lasts = LASTS_AT_LEAST.max(whole_millis(self.up_to(longest)));
            let Some(action) = self.action(class, at, at + lasts) else {
                continue;
            };
            faults.push(Fault {
                id: Some(format!("random-{}", faults.len() + 1)),
                at: Span(at),
                lasts: (!action.is_momentary()).then_some(Span(lasts)),
                every: None,
                times: None,
                action,
            });
        }
        faults
    }

    /// A fault of a class; none where there is nobody left to do it to.
    fn action(&mut self, class: FaultClass, at: Duration, until: Duration) -> Option<Action> {
        Some(match class {
            FaultClass::Crash => {
                let target = self.idle_pod(at, until)?;
                let how = self.one_of(&[CrashKind::Process, CrashKind::Power, CrashKind::Hang]);
                // A host loses its power as a whole.
                let process = match how {
                    CrashKind::Power => None,
                    _ => self.one_of(&[None, Some(Process::App), Some(Process::Proxy)]),
                };
                Action::Crash { target, how, process }
            }
            FaultClass::ControllerCrash => Action::Crash {
                target: self.idle_controller(at, until)?,
                how: self.one_of(&[CrashKind::Process, CrashKind::Power]),
                process: None,
            },
            FaultClass::Pause => Action::Pause { target: self.idle_pod(at, until)? },
            FaultClass::UpgradeProxy => Action::UpgradeProxy { target: self.idle_pod(at, until)? },
            FaultClass::Slow => {
                let by = self.span(Duration::from_secs(2));
                Action::Slow { target: self.pod()?, by }
            }
            FaultClass::Errors => Action::Errors {
                target: self.pod()?,
                status: self.one_of(&[500, 502, 503]),
                rate: (self.random.below(20) + 1) as f64 / 20.0,
            },
            FaultClass::Clock => {
                let error = Span(Duration::from_secs(self.random.below(600) as u64 + 1));
                let none = Span::default();
                let (ahead, behind) = match self.flip() {
                    true => (error, none),
                    false => (none, error),
                };
                Action::ClockSkew { target: self.idle_pod(at, until)?, ahead, behind }
            }
            FaultClass::Dns => Action::Dns {
                target: self.pod()?,
                name: None,
                how: self.one_of(&[DnsKind::NotFound, DnsKind::Silence]),
            },
            FaultClass::Rollout => {
                let (deployment, _) = self.deployment()?;
                Action::Rollout { deployment }
            }
            FaultClass::Scale => {
                let (deployment, replicas) = self.deployment()?;
                let key = format!("scale of {deployment}");
                self.take(key, at, until)?;
                let replicas = self.random.below(replicas as usize * 2) as u32 + 1;
                Action::Scale { deployment, replicas }
            }
            _ => return self.infrastructure(class, at, until),
        })
    }

    fn infrastructure(
        &mut self,
        class: FaultClass,
        at: Duration,
        until: Duration,
    ) -> Option<Action> {
        let links = [
            FaultClass::Partition,
            FaultClass::Latency,
            FaultClass::Loss,
            FaultClass::Bandwidth,
            FaultClass::Reset,
        ];
        if links.contains(&class) {
            return self.link(class);
        }
        Some(match class {
            FaultClass::Outage => {
                let component = [Component::Destination, Component::Policy, Component::Identity];
                let component = self.one_of(&component);
                self.take(format!("{component:?}"), at, until)?;
                let how = self.one_of(&[OutageKind::Refuse, OutageKind::Silence]);
                Action::Outage { component, how }
            }
            FaultClass::Watch => match self.random.below(4) {
                0 => {
                    self.take("watches".to_owned(), at, until)?;
                    Action::WatchLag { by: self.span(Duration::from_secs(10)) }
                }
                1 => Action::WatchDisconnect {},
                2 => {
                    self.take("lists".to_owned(), at, until)?;
                    Action::StaleList { by: self.span(Duration::from_secs(10)) }
                }
                _ => Action::Relist {},
            },
            _ => {
                self.take("API server".to_owned(), at, until)?;
                Action::ApiOutage { target: Target::All }
            }
        })
    }

    fn link(&mut self, class: FaultClass) -> Option<Action> {
        let a = self.pod()?;
        let b = match self.random.below(3) {
            0 => Target::All,
            1 if !self.controller_is_spared => Target::Controller(None),
            _ => self.pod().filter(|b| *b != a).unwrap_or(Target::All),
        };
        let one_way = self.random.below(3) == 0;
        Some(match class {
            FaultClass::Partition => Action::Partition { a, b, one_way },
            FaultClass::Latency => {
                let by = self.span(Duration::from_millis(300));
                let jitter = self.span(Duration::from_millis(300));
                Action::Latency { a, b, one_way, by, jitter }
            }
            FaultClass::Loss => {
                let rate = (self.random.below(30) + 1) as f64 / 100.0;
                Action::Loss { a, b, one_way, rate }
            }
            FaultClass::Bandwidth => {
                let limit = Bandwidth(64_000 << self.random.below(8));
                Action::Bandwidth { a, b, one_way, limit }
            }
            _ => Action::Reset { a, b },
        })
    }

    fn pod(&mut self) -> Option<Target> {
        let bound = self.pods.len();
        (bound > 0).then(|| self.pods[self.random.below(bound)].clone())
    }

    fn idle_pod(&mut self, at: Duration, until: Duration) -> Option<Target> {
        let pod = self.pod()?;
        self.take(pod.to_string(), at, until)?;
        Some(pod)
    }

    fn idle_controller(&mut self, at: Duration, until: Duration) -> Option<Target> {
        if self.controller_is_spared {
            return None;
        }
        let target = match self.controllers {
            1 => None,
            several => self.random.below(several as usize + 1).checked_sub(1),
        };
        self.take("controller".to_owned(), at, until)?;
        Some(Target::Controller(target.and_then(|number| u32::try_from(number).ok())))
    }

    fn deployment(&mut self) -> Option<(String, u32)> {
        let bound = self.deployments.len();
        (bound > 0).then(|| self.deployments[self.random.below(bound)].clone())
    }

    /// Takes what nobody else has.
    fn take(&mut self, what: String, at: Duration, until: Duration) -> Option<()> {
        if self.busy.get(&what).is_some_and(|busy| *busy >= at) {
            return None;
        }
        self.busy.insert(what, until);
        Some(())
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len())]
    }

    fn flip(&mut self) -> bool {
        self.random.below(2) == 0
    }

    /// A time below `longest`, each as likely.
    fn up_to(&mut self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.random.next_u64() % nanos)
    }

    fn span(&mut self, longest: Duration) -> Span {
        Span(whole_millis(self.up_to(longest)).max(Duration::from_millis(1)))
    }
}

fn whole_millis(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::parse;
    use super::*;

    const CHAOS: &str = "
apiVersion: scenario.weft.sh/v1alpha1
kind: Scenario
metadata: {name: chaos}
spec:
  about: Everything at once.
  duration: 2m
  apps:
    client: {}
    web: {replicas: 3, serves: http}
  random_faults:
    classes: [crash, controller_crash, pause, partition, latency, loss, bandwidth, reset, slow, errors,
      outage, watch, api_outage, clock, dns, rollout, scale, upgrade_proxy]
    from: 5s
    interval: 1s
    lasts_at_most: 8s
    heal_by: 90s
    protect: [deployment/client]
  expect:
    - no_plaintext: {}
";

    fn chaos() -> Scenario {
        parse::read("chaos.yaml", CHAOS).expect("a scenario")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn drawn_faults_heal_in_time_and_spare_whom_they_must(seed in any::<u64>()) {
            let drawn = chaos().materialise(seed);
            prop_assert!(drawn.spec.faults.len() > 10);
            for fault in &drawn.spec.faults {
                let ends = fault.at.0 + fault.lasts.unwrap_or_default().0;
                prop_assert!(fault.at.0 >= Duration::from_secs(5));
                prop_assert!(ends <= Duration::from_secs(90), "{fault:?}");
                let spared = Target::Pod("client-0".to_owned());
                prop_assert!(!fault.action.targets().contains(&spared), "{fault:?}");
            }
        }

        #[test]
        fn what_a_seed_draws_is_a_scenario_file(seed in any::<u64>()) {
            let drawn = chaos().materialise(seed);
            prop_assert_eq!(&chaos().materialise(seed), &drawn);
            let text = drawn.to_yaml();
            let read = parse::read("drawn.yaml", &text);
            let read = read.map_err(|problems| TestCaseError::fail(format!("{problems:#?}\n{text}")))?;
            prop_assert_eq!(read, drawn);
        }
    }

    #[test]
    fn seeds_draw_differently() {
        assert_ne!(chaos().materialise(1).spec.faults, chaos().materialise(2).spec.faults);
    }
}
