//! Draws whole scenarios: a topology, workloads and a random subset of the faults there are. Until
//! `heal_by` things go wrong; from then on the mesh must come to itself, and every request succeed.
//!
//! Law: what is drawn follows from the seed alone, is a scenario that could be read from a file, and
//! asks nothing of an engine that it cannot do.

mod policy;

use std::time::Duration;

use serde_json::{Value, json};

use crate::random::Random;
use crate::world::parse::{self, Scenario};
use crate::world::run::{EngineKind, impossible};
use crate::world::scenario::{FaultClass, Span};

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
/// Those of them whose requests say who their client is, and share connections.
const IS_HTTP: [&str; 3] = ["http1", "h2", "grpc"];

/// A scenario in the making.
#[derive(Default)]
struct Plan {
    apps: Value,
    workloads: Vec<Value>,
    /// Names of workloads that policies deny.
    strangers: Vec<String>,
    /// Manifests beside the scenario.
    objects: Vec<Value>,
    /// What is done to those objects, beside what the seed draws as faults.
    changes: Vec<Value>,
    expect: Vec<Value>,
}

/// The longest that a request of a workload may take where nothing is wrong, in milliseconds: its
/// messages, and what two proxies and a queue of others may add.
fn slowest(workload: &Value) -> u64 {
    let stream = &workload["stream"];
    let messages = stream["messages"].as_u64().unwrap_or(1);
    let interval = stream["interval"].as_str().and_then(|text| Span::read(text).ok());
    let interval = interval.map_or(0, |interval| interval.0.as_millis() as u64);
    3_000 + messages * (interval + 500)
}

/// The scenario of a seed, its faults written out.
pub fn draw(seed: u64, engine: EngineKind) -> Scenario {
    let mut draw = Draw(Random::new(seed, "swarm", "scenario"));
    let text = draw.file(seed);
    let scenario = parse::read("swarm.yaml", &text);
    let scenario = scenario.expect("what is drawn here is a scenario, and tested");
    let mut scenario = scenario.materialise(seed);
    scenario.spec.faults.retain(|fault| impossible(&fault.action, engine).is_none());
    scenario
}

struct Draw(Random);

impl Draw {
    /// A file: the scenario, and the objects beside it.
    fn file(&mut self, seed: u64) -> String {
        let honest = 1 + self.below(3);
        let protocols: Vec<_> = (0..honest).map(|_| self.one_of(&PROTOCOLS)).collect();
        let mut apps = json!({"client": {"replicas": 1 + self.below(3)}});
        for (_, program) in &protocols {
            apps[program] = self.server(program);
        }
        let mut plan = Plan { apps, ..Plan::default() };
        for (number, (protocol, program)) in protocols.iter().enumerate() {
            let workload = self.workload(&format!("load-{}", number + 1), protocol, program);
            plan.workloads.push(workload);
        }
        self.add_policies(&protocols, &mut plan);
        if self.chance(3) {
            let (_, program) = self.one_of(&protocols);
            plan.workloads.push(self.misbehaving(program));
        }
        let mut documents = vec![self.scenario(seed, &mut plan)];
        documents.append(&mut plan.objects);
        let texts = documents.iter().map(|document| format!("{document}\n"));
        texts.collect::<Vec<_>>().join("---\n")
    }

    fn scenario(&mut self, seed: u64, plan: &mut Plan) -> Value {
        let heal_by = 15 + self.below(25);
        let healthy_from = heal_by + SETTLES.as_secs();
        let classes = self.classes();
        let nodes = self.topology();
        self.add_changes(heal_by, plan);
        self.add_losses(heal_by, &nodes, plan);
        self.expect(healthy_from, &classes, plan);
        let senders = ["client", "stranger"].into_iter();
        let senders = senders.filter(|name| plan.apps.get(name).is_some());
        let protect: Vec<_> = senders.map(|name| format!("deployment/{name}")).collect();
        json!({
            "apiVersion": "scenario.weft.sh/v1alpha1",
            "kind": "Scenario",
            "metadata": {"name": format!("swarm-{seed}")},
            "spec": {
                "about": "Drawn by a swarm: things go wrong for a while, then all must be well.",
                "duration": format!("{}s", healthy_from + HEALTHY.as_secs()),
                "seeds": [seed],
                "apps": plan.apps,
                "topology": nodes,
                "network": self.network(),
                "lifetimes": self.lifetimes(),
                "workloads": plan.workloads,
                "faults": plan.changes,
                "random_faults": {
                    "classes": classes,
                    "from": "4s",
                    "interval": format!("{}ms", 500 + self.below(5_000)),
                    "lasts_at_most": format!("{}s", 1 + self.below(12)),
                    "heal_by": format!("{heal_by}s"),
                    "protect": protect,
                },
                "expect": plan.expect,
            },
        })
    }

    /// What must hold of honest workloads; policies have said what must of others.
    fn expect(&mut self, healthy_from: u64, classes: &[FaultClass], plan: &mut Plan) {
        let window = json!({"from": format!("{healthy_from}s")});
        for strange in &plan.strangers {
            let denied = json!({"denied": {"workload": strange, "window": window}});
            let because = "it is denied";
            plan.expect.extend([
                denied,
                json!({"not_executed": {"workload": strange}}),
                json!({"relaxed": {"oracle": "live", "workload": strange, "because": because}}),
            ]);
        }
        let is_honest = |workload: &&Value| {
            workload["name"].as_str().is_some_and(|name| name.starts_with("load-"))
        };
        for workload in plan.workloads.iter().filter(is_honest) {
            let name = &workload["name"];
            let rate = json!({"workload": name, "at_least": 1.0, "window": window});
            plan.expect.push(json!({"success_rate": rate}));
            let calm = json!({
                "workload": name,
                "quantile": 1.0,
                "at_most": format!("{}ms", slowest(workload)),
                "window": window,
            });
            plan.expect.push(json!({"latency": calm}));
            let program = workload["to"].as_str().and_then(|to| to.split('.').next());
            let meshed = program.is_some_and(|program| plan.apps[program]["meshed"] != false);
            let is_http = workload["protocol"].as_str().is_some_and(|p| IS_HTTP.contains(&p));
            if is_http && meshed {
                plan.expect.push(json!({"identity": {"workload": name}}));
            }
        }
        plan.expect.push(json!({"converged": {"within": format!("{}s", SETTLES.as_secs())}}));
        // Where nothing keeps the news of a change from anybody, it is known soon.
        let harmless =
            [FaultClass::Rollout, FaultClass::Scale, FaultClass::Slow, FaultClass::Errors];
        if classes.iter().all(|class| harmless.contains(class)) {
            plan.expect.push(json!({"no_traffic_to_dead": {"within": "2s"}}));
        }
        // Where no connection breaks and nobody gives up, proxies and programs count alike.
        let counted = [
            FaultClass::Watch,
            FaultClass::ApiOutage,
            FaultClass::Outage,
            FaultClass::ControllerCrash,
        ];
        let rude = plan.workloads.iter().any(|workload| workload["name"] == "rude");
        if classes.iter().all(|class| counted.contains(class)) && plan.changes.is_empty() && !rude {
            plan.expect.push(json!({"metrics_agree": {}}));
        }
    }

    /// A node is lost for a while, with what runs there; or the issuer is replaced.
    fn add_losses(&mut self, heal_by: u64, topology: &Value, plan: &mut Plan) {
        let zones = topology["zones"].as_object().into_iter().flat_map(|zones| zones.values());
        let nodes = zones.filter_map(Value::as_array).flatten().filter_map(Value::as_str);
        let nodes: Vec<_> = nodes.collect();
        if nodes.len() > 1 && self.chance(5) {
            let node = self.one_of(&nodes);
            let (at, lasts) = self.moments(heal_by);
            let lost = json!({"at": at, "for": lasts, "do": {"node_loss": {"node": node}}});
            plan.changes.push(lost);
        }
        if self.chance(6) {
            let (at, _) = self.moments(heal_by);
            plan.changes.push(json!({"at": at, "do": {"rotate_issuer": {}}}));
        }
    }

    /// When something begins before all has healed, and how long it lasts until then at most.
    fn moments(&mut self, heal_by: u64) -> (String, String) {
        let at = 4 + self.below(heal_by - 6);
        let lasts = 1 + self.below(heal_by - at - 1);
        (format!("{at}s"), format!("{lasts}s"))
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
        if self.chance(10) {
            server["meshed"] = json!(false);
        }
        let mut env = serde_json::Map::new();
        if program == "http" && self.chance(4) {
            env.insert("CLOSE_AFTER".to_owned(), json!((5 + self.below(50)).to_string()));
        }
        if self.chance(6) {
            env.insert("BODY_PAUSE".to_owned(), json!(format!("{}ms", 1 + self.below(10))));
        }
        if self.chance(6) {
            let millis = 50 + self.below(200);
            env.insert("LATENCY_P99".to_owned(), json!(format!("{millis}ms")));
        }
        server["env"] = Value::Object(env);
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
            "controllers": if self.chance(3) { 2 } else { 1 },
            "reuse_addresses": self.chance(2),
            "slice_lag": format!("{}ms", self.below(800)),
            "rules_lag": format!("{}ms", if self.chance(2) { self.below(400) } else { 0 }),
            "pod_start": format!("{}ms", self.below(2_000)),
        })
    }

    fn network(&mut self) -> Value {
        let micros = 100 << self.below(6);
        let latency = json!({"median": format!("{micros}us"), "p99": format!("{}us", micros * 4)});
        json!({"default": {"latency": latency}})
    }

    fn lifetimes(&mut self) -> Value {
        match self.chance(4) {
            true => json!({"leaf": format!("{}s", 60 + self.below(120))}),
            false => json!({}),
        }
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
        let is_http = IS_HTTP.contains(&protocol);
        let mut request = serde_json::Map::new();
        if self.chance(3) {
            request.insert("response".to_owned(), self.size(8, 10));
        }
        if self.chance(3) {
            request.insert("body".to_owned(), self.size(8, 8));
        }
        if is_http && protocol != "grpc" && self.chance(3) {
            request.insert("framing".to_owned(), json!("chunked"));
            request.insert("response_framing".to_owned(), json!("chunked"));
        }
        if !request.is_empty() {
            workload["request"] = Value::Object(request);
        }
        if is_http && self.chance(3) {
            workload["connections"] = json!("per-request");
        }
        if self.chance(5) {
            let backoff = format!("{}ms", 10 + self.below(500));
            workload["retries"] = json!({"times": 1 + self.below(2), "backoff": backoff});
        }
        if protocol == "grpc" && self.chance(2) {
            let kind = self.one_of(&["server", "client", "bidirectional"]);
            let messages = 1 + self.below(10);
            let interval = format!("{}ms", 1 + self.below(100));
            workload["stream"] = json!({"kind": kind, "messages": messages, "interval": interval});
        } else if !is_http {
            let interval = format!("{}ms", 1 + self.below(100));
            workload["stream"] = json!({"messages": 1 + self.below(10), "interval": interval});
        }
        workload
    }

    /// Up to so many bytes, of which the power of two is drawn.
    fn size(&mut self, least: u64, powers: u64) -> Value {
        json!({"uniform": {"from": 0, "to": 1 << (least + self.below(powers))}})
    }

    /// A client that breaks the rules. It is owed nothing, and may harm nobody.
    fn misbehaving(&mut self, program: &str) -> Value {
        let misbehaviours = [
            json!({"slow_loris": {"every": format!("{}ms", 20 + self.below(1_000))}}),
            json!({"stop_reading": {"requests": 1 + self.below(8)}}),
            json!({"half_open": {}}),
            json!({"pipelining": {"depth": 2 + self.below(8)}}),
            json!({"idle": {}}),
            json!({"garbage": {"bytes": 1 + self.below(4_000)}}),
        ];
        // Programs that do not speak HTTP meet those that do not either.
        let first = if program == "http" { 0 } else { 4 };
        let misbehaviour = &misbehaviours[first + self.below(6 - first as u64) as usize];
        json!({
            "name": "rude",
            "from": "client",
            "to": format!("{program}.default.svc.cluster.local:80"),
            "protocol": "http1",
            "request": {"response": {"fixed": 1 << (8 + self.below(13))}},
            "arrivals": {"constant": {"rate": (1 + self.below(8)) as f64}},
            "timeout": format!("{}s", 1 + self.below(20)),
            "misbehave": misbehaviour,
        })
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
    use crate::world::scenario::Expectation;

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
        let (mut protocols, mut actions) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..100 {
            let spec = draw(seed, EngineKind::Des).spec;
            protocols.extend(spec.workloads.iter().map(|w| format!("{:?}", w.protocol)));
            let quiet_from = spec.duration.0 - SETTLES - HEALTHY;
            for fault in &spec.faults {
                assert!(fault.at.0 + fault.lasts.unwrap_or_default().0 <= quiet_from, "{fault:?}");
                actions.extend(fault.action.to_string().split(' ').next().map(str::to_owned));
            }
        }
        assert_eq!(protocols.len(), PROTOCOLS.len());
        for action in ["apply", "delete", "node_loss", "rotate_issuer"] {
            assert!(actions.contains(action), "{actions:?}");
        }
    }

    #[test]
    fn seeds_draw_policies_strangers_rude_clients_and_second_controllers() {
        let (mut kinds, mut rude, mut controllers) = (BTreeSet::new(), BTreeSet::new(), 0);
        for seed in 0..150 {
            let Scenario { spec, manifests, .. } = draw(seed, EngineKind::Des);
            kinds.extend(manifests.iter().map(|object| object.kind().to_string()));
            let misbehave = spec.workloads.iter().filter_map(|w| w.misbehave);
            rude.extend(misbehave.map(|m| format!("{m:?}").split(' ').next().map(str::to_owned)));
            controllers = controllers.max(spec.topology.controllers);
            let converged = |e: &Expectation| matches!(e, Expectation::Converged { .. });
            assert!(spec.expect.iter().any(converged), "seed {seed}");
        }
        let kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
        let expected = ["AuthorizationPolicy", "HTTPRoute", "MeshTLSAuthentication", "Server"];
        assert_eq!(kinds, expected);
        assert_eq!((rude.len(), controllers), (6, 2), "{rude:?}");
    }
}
