//! Draws whole scenarios: a topology, workloads and a random subset of the faults there are. Until
//! `heal_by` things go wrong; from then on the mesh must come to itself, and every request succeed.
//!
//! Law: what is drawn follows from the seed alone, is a scenario that could be read from a file, and
//! asks nothing of an engine that it cannot do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::random::Random;
use crate::world::parse::{self, Scenario};
use crate::world::run::{EngineKind, impossible};
use crate::world::scenario::FaultClass;

/// From the last fault's end on, how long the mesh may take until every request succeeds.
const SETTLES: Duration = Duration::from_secs(20);
/// How long every request must succeed then.
const HEALTHY: Duration = Duration::from_secs(20);

/// The protocols of workloads, each with the program that serves it.
const PROTOCOLS: [(&str, &str); 7] = [
    ("http1", "http"),
    ("h2", "http"),
    ("grpc", "http"),
    ("websocket", "http"),
    ("tcp", "tcp"),
    ("server-first-tcp", "server-first-tcp"),
    ("tls", "tls"),
];

/// The scenario of a seed, its faults written out.
pub fn draw(seed: u64, engine: EngineKind) -> Scenario {
    let mut draw = Draw(Random::new(seed, "swarm", "scenario"));
    let document = draw.document(seed);
    let scenario = parse::read("swarm.yaml", &document.to_string());
    let scenario = scenario.expect("what is drawn here is a scenario, and tested");
    let mut scenario = scenario.materialise(seed);
    scenario.spec.faults.retain(|fault| impossible(&fault.action, engine).is_none());
    scenario
}

struct Draw(Random);

impl Draw {
    fn document(&mut self, seed: u64) -> Value {
        let workloads = 1 + self.below(3);
        let protocols: Vec<_> = (0..workloads).map(|_| self.one_of(&PROTOCOLS)).collect();
        let heal_by = 15 + self.below(25);
        let healthy_from = heal_by + SETTLES.as_secs();
        let names: Vec<_> = (0..workloads).map(|n| format!("load-{}", n + 1)).collect();
        let workloads: Vec<_> = protocols
            .iter()
            .zip(&names)
            .map(|((protocol, program), name)| self.workload(name, protocol, program))
            .collect();
        let mut apps = json!({"client": {"replicas": 1 + self.below(3)}});
        for (_, program) in &protocols {
            apps[program] = self.server(program);
        }
        let succeeds = names.iter().map(|name| {
            let window = json!({"from": format!("{healthy_from}s")});
            json!({"success_rate": {"workload": name, "at_least": 1.0, "window": window}})
        });
        let expect: Vec<_> = succeeds.collect();
        json!({
            "apiVersion": "scenario.weft.sh/v1alpha1",
            "kind": "Scenario",
            "metadata": {"name": format!("swarm-{seed}")},
            "spec": {
                "about": "Drawn by a swarm: things go wrong for a while, then all must be well.",
                "duration": format!("{}s", healthy_from + HEALTHY.as_secs()),
                "seeds": [seed],
                "apps": apps,
                "topology": self.topology(),
                "network": self.network(),
                "workloads": workloads,
                "random_faults": {
                    "classes": self.classes(),
                    "from": "4s",
                    "interval": format!("{}ms", 500 + self.below(5_000)),
                    "lasts_at_most": format!("{}s", 1 + self.below(12)),
                    "heal_by": format!("{heal_by}s"),
                    "protect": ["deployment/client"],
                },
                "expect": expect,
            },
        })
    }

    fn server(&mut self, program: &str) -> Value {
        let mut server = json!({
            "replicas": 1 + self.below(5),
            "serves": program,
            "latency": format!("{}ms", 1 + self.below(40)),
        });
        if self.chance(3) {
            server["pre_stop"] = json!(format!("{}s", 1 + self.below(3)));
        }
        server
    }

    fn topology(&mut self) -> Value {
        let zones = match self.below(3) {
            0 => json!({}),
            1 => json!({"a": ["1", "2"]}),
            _ => json!({"a": ["1"], "b": ["2"], "c": ["3"]}),
        };
        json!({
            "zones": zones,
            "reuse_addresses": self.chance(2),
            "slice_lag": format!("{}ms", self.below(800)),
            "pod_start": format!("{}ms", self.below(2_000)),
        })
    }

    fn network(&mut self) -> Value {
        let micros = 100 << self.below(6);
        let latency = json!({"median": format!("{micros}us"), "p99": format!("{}us", micros * 4)});
        json!({"default": {"latency": latency}})
    }

    fn workload(&mut self, name: &str, protocol: &str, program: &str) -> Value {
        let mut workload = json!({
            "name": name,
            "from": "client",
            "to": format!("{program}.default.svc.cluster.local:80"),
            "protocol": protocol,
            "arrivals": self.arrivals(),
            "senders": if self.chance(2) { "all" } else { "first" },
        });
        if self.chance(3) {
            let response = json!({"uniform": {"from": 0, "to": 1 << (8 + self.below(10))}});
            workload["request"] = json!({"response": response});
        }
        let is_http = ["http1", "h2", "grpc"].contains(&protocol);
        if is_http && self.chance(3) {
            workload["connections"] = json!("per-request");
        }
        if protocol == "grpc" && self.chance(2) {
            let kind = self.one_of(&["server", "client", "bidirectional"]);
            let messages = 1 + self.below(10);
            let interval = format!("{}ms", 1 + self.below(100));
            workload["stream"] = json!({"kind": kind, "messages": messages, "interval": interval});
        } else if !["http1", "h2", "grpc"].contains(&protocol) {
            let interval = format!("{}ms", 1 + self.below(100));
            workload["stream"] = json!({"messages": 1 + self.below(10), "interval": interval});
        }
        workload
    }

    fn arrivals(&mut self) -> Value {
        match self.below(4) {
            0 => json!({"constant": {"rate": (2 + self.below(30)) as f64}}),
            1 => json!({"poisson": {"rate": (2 + self.below(30)) as f64}}),
            2 => {
                let think = format!("{}ms", 50 + self.below(200));
                json!({"closed": {"concurrency": 1 + self.below(5), "think": think}})
            }
            _ => {
                let every = format!("{}ms", 500 + self.below(2_000));
                json!({"burst": {"size": 1 + self.below(20), "every": every}})
            }
        }
    }

    /// A random subset, so that some runs have one kind of trouble alone.
    fn classes(&mut self) -> Vec<FaultClass> {
        let share = 1 + self.below(4);
        let mut classes = FaultClass::ALL.to_vec();
        classes.retain(|_| self.below(4) < share);
        if classes.is_empty() {
            classes.push(self.one_of(&FaultClass::ALL));
        }
        classes
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound as usize) as u64
    }

    /// One time in so many.
    fn chance(&mut self, in_how_many: u64) -> bool {
        self.below(in_how_many) == 0
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.below(of.len())]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_a_seed_draws_is_a_scenario_that_is_read_as_it_is_written() {
        for seed in 0..200 {
            let drawn = draw(seed, EngineKind::Des);
            assert_eq!(drawn, draw(seed, EngineKind::Des));
            let read = parse::read("drawn.yaml", &drawn.to_yaml());
            assert_eq!(read, Ok(drawn), "seed {seed}");
        }
    }

    #[test]
    fn seeds_draw_every_protocol_and_all_faults_heal_before_all_must_be_well() {
        let mut protocols = BTreeSet::new();
        for seed in 0..100 {
            let spec = draw(seed, EngineKind::Des).spec;
            protocols.extend(spec.workloads.iter().map(|w| format!("{:?}", w.protocol)));
            let quiet_from = spec.duration.0 - SETTLES - HEALTHY;
            for fault in &spec.faults {
                assert!(fault.at.0 + fault.lasts.unwrap_or_default().0 <= quiet_from, "{fault:?}");
            }
        }
        assert_eq!(protocols.len(), PROTOCOLS.len());
    }
}
