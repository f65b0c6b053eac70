//! Worlds: a cluster of simulated pods with workloads, faults and expectations, as a scenario file
//! describes it, on either engine.
//!
//! Law: a world knows its engine by [`Simulator`] alone, and what it does to it follows from the
//! scenario and the seed.

mod draw;
mod faults;
mod kubernetes;
mod links;
mod load;
pub mod marks;
mod mesh;
pub mod oracle;
pub mod parse;
pub mod planted;
mod pods;
mod programs;
pub mod record;
pub mod run;
pub mod scenario;
mod scene;
mod simulator;
mod speech;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::proxy::TelemetrySlot;
use mesh_core::runtime::Runtime;
use mesh_core::time::Timestamp;
use mesh_core::wire::drain::{self, DrainSignal};

use crate::cluster::ApiServer;
use crate::topology::{ClockSpec, HostSpec, Role};

use kubernetes::{Kubernetes, PodPlan};
use load::Load;
use programs::Behaviour;
use record::Record;
use scenario::{Component, Senders};

pub use simulator::Simulator;

/// How long a controller may take to start.
const CONTROLLER_STARTS_WITHIN: Duration = Duration::from_secs(5);

/// A running cluster.
struct World<S> {
    simulator: S,
    api: ApiServer,
    kubernetes: Kubernetes,
    record: Record,
    pods: BTreeMap<Arc<str>, Pod>,
    controller: usize,
    controller_drain: Option<DrainSignal>,
    trust_anchors: String,
    /// What lasts of links' faults.
    impairments: links::Impaired,
    /// Hosts of pods, also of those that are gone.
    hosts: BTreeMap<IpAddr, usize>,
    seed: u64,
    /// Programs of pods may start.
    begun: bool,
    /// What is wrong with hosts' clocks.
    clocks: BTreeMap<usize, ClockSpec>,
    lifetimes: scenario::Lifetimes,
    has_silent_host: bool,
}

struct Pod {
    plan: Arc<PodPlan>,
    host: usize,
    behaviour: Behaviour,
    /// Its program's doors, as last started.
    app: Option<Runtime>,
    drains: Option<pods::Drains>,
    /// Not deleted.
    listed: bool,
    /// What its proxies counted, those that were ended too.
    telemetry: Vec<TelemetrySlot>,
    /// It ran once.
    gone: bool,
}

impl<S: Simulator> World<S> {
    /// Builds the cluster and starts all that runs in it.
    fn new(
        scenario: &parse::Scenario,
        seed: u64,
        mut simulator: S,
        api: ApiServer,
    ) -> Result<Self, String> {
        let controller = HostSpec::new(mesh::CONTROLLER, mesh::CONTROLLER_IP);
        let controller = simulator.add_host(controller);
        let settings = pods::settings(&scenario.spec.topology);
        let mut kubernetes = Kubernetes::new(api.clone(), settings);
        kubernetes.apply_objects(scenario.objects());
        for deployment in scenario.deployments() {
            kubernetes.apply(deployment)?;
        }
        let mut world = Self {
            simulator,
            api,
            kubernetes,
            record: Record::default(),
            pods: BTreeMap::new(),
            controller,
            controller_drain: None,
            trust_anchors: String::new(),
            impairments: links::Impaired::new(),
            hosts: BTreeMap::new(),
            seed,
            begun: false,
            clocks: BTreeMap::new(),
            lifetimes: scenario.spec.lifetimes,
            has_silent_host: false,
        };
        world.settle()?;
        world.watch_for_plaintext();
        world.start_controller();
        world.trust_anchors = world.await_trust_anchors()?;
        world.set_network(&scenario.spec.network)?;
        for component in [Component::Destination, Component::Policy, Component::Identity] {
            world.set_outage(component, None)?;
        }
        world.begun = true;
        let names: Vec<_> = world.pods.keys().cloned().collect();
        for name in names {
            world.start_pod(&name)?;
        }
        Ok(world)
    }

    /// Hosts by their addresses.
    fn host_names(&self) -> BTreeMap<IpAddr, Arc<str>> {
        let pods = self.pods.values().map(|pod| (pod.plan.ip, pod.plan.name.clone()));
        let controller: IpAddr = mesh::CONTROLLER_IP;
        pods.chain([(controller, mesh::CONTROLLER.into())]).collect()
    }

    fn watch_for_plaintext(&self) {
        let names = self.pods.values().map(|pod| (pod.plan.ip, pod.plan.name.clone())).collect();
        let tap = oracle::plaintext::watch(programs::MARKER, names, self.record.clone());
        self.simulator.set_tap(tap);
    }

    /// What oracles know of the pods.
    fn facts(&self) -> BTreeMap<Arc<str>, oracle::PodFacts> {
        self.pods.iter().map(|(name, pod)| (name.clone(), mesh::facts(&pod.plan))).collect()
    }

    fn start_controller(&mut self) {
        let runtime = self.simulator.start(self.controller, mesh::CONTROLLER, Role::Proxy);
        let (signal, watch) = drain::channel();
        self.controller_drain = Some(signal);
        mesh::start_controller(&runtime, &self.lifetimes, watch);
    }

    fn await_trust_anchors(&mut self) -> Result<String, String> {
        let until = self.simulator.now() + CONTROLLER_STARTS_WITHIN;
        let files = self.simulator.files(self.controller).clone();
        let mut missing = || mesh::trust_anchors(&files).is_none();
        self.simulator.run_while(until, &mut missing);
        mesh::trust_anchors(&files).ok_or_else(|| "the controller did not start".to_owned())
    }

    fn start_workloads(&self, spec: &scenario::Spec, seed: u64) -> Result<(), String> {
        let end = Timestamp::ZERO + spec.duration.0;
        for workload in &spec.workloads {
            let stop = workload.stop.map_or(end, |stop| Timestamp::ZERO + stop.0);
            for name in self.senders(workload) {
                let Some(runtime) = self.pods.get(&name).and_then(|pod| pod.app.clone()) else {
                    continue;
                };
                let record = self.record.clone();
                Load::new(runtime, record, name, workload, seed, stop.min(end))?.start();
            }
        }
        Ok(())
    }

    /// The pods that send a workload.
    fn senders(&self, workload: &scenario::Workload) -> Vec<Arc<str>> {
        let is_of = |name: &str| {
            let index = name.strip_prefix(&*workload.from).and_then(|rest| rest.strip_prefix('-'));
            index.is_some_and(|index| index.parse::<u32>().is_ok())
        };
        match workload.senders {
            Senders::First => vec![format!("{}-0", workload.from).into()],
            Senders::All => self.pods.keys().filter(|name| is_of(name)).cloned().collect(),
        }
    }
}
