//! Worlds: a cluster of simulated pods with workloads, faults and expectations, as a scenario file
//! describes it, on either engine.
//!
//! Law: a world knows its engine by [`Simulator`] alone, and what it does to it follows from the
//! scenario and the seed.

mod certificates;
mod controllers;
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
mod questions;
mod readiness;
pub mod record;
pub mod run;
pub mod scenario;
mod scene;
mod services;
mod simulator;
mod speech;
mod taps;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::proxy::{EndpointsSlot, TelemetrySlot};
use mesh_core::runtime::{Runtime, TaskGuard};
use mesh_core::time::Timestamp;

use crate::cluster::ApiServer;
use crate::link::Unsupported;
use crate::topology::ClockSpec;
use crate::trace::Capture;

use controllers::Controller;
use kubernetes::{Kubernetes, PodPlan};
use oracle::plaintext::Names;
use programs::Behaviour;
use record::Record;
use scenario::{Component, OutageKind, Readiness, Senders, Workload};

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
    controllers: Vec<Controller>,
    trust_anchors: String,
    /// Where the operator keeps the anchor in force and its key, where the control plane does not.
    anchor_kept: Option<PathBuf>,
    /// Where an anchor was made that is to take the place of the first.
    new_anchor: Option<PathBuf>,
    /// Directories in which certificates were made.
    rotations: u32,
    /// What lasts of links' faults.
    impairments: links::Impaired,
    /// Hosts of pods, also of those that are gone.
    hosts: BTreeMap<IpAddr, usize>,
    /// Who has an address, for the tap.
    names: Names,
    seed: u64,
    /// What pods send, once they do.
    workloads: Vec<Workload>,
    /// When the last workload ends.
    end: Timestamp,
    readiness: Readiness,
    /// When kubelets look at their pods next.
    next_look: Timestamp,
    /// Programs of pods may start.
    begun: bool,
    /// What is wrong with hosts' clocks.
    clocks: BTreeMap<usize, ClockSpec>,
    lifetimes: scenario::Lifetimes,
    has_silent_host: bool,
    /// Controllers answer people as well.
    has_viz: bool,
    /// Pods whose proxies have finished.
    ended: mesh::Ended,
    /// APIs of the control plane that are away.
    outages: BTreeMap<Component, OutageKind>,
    /// Taps that are open, by name.
    taps: BTreeMap<String, TaskGuard>,
    /// Proxies may be tapped by the control plane.
    has_taps: bool,
}

struct Pod {
    plan: Arc<PodPlan>,
    host: usize,
    behaviour: Behaviour,
    health: readiness::Health,
    /// Its program's doors, as last started.
    app: Option<Runtime>,
    drains: Option<pods::Drains>,
    /// Among the ready endpoints of its services.
    present: bool,
    /// It was made while the world ran.
    made_late: bool,
    /// What its proxies counted, those that were ended too.
    telemetry: Vec<TelemetrySlot>,
    /// What endpoints the last of them knows.
    endpoints: EndpointsSlot,
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
        has_viz: bool,
    ) -> Result<Self, String> {
        let topology = &scenario.spec.topology;
        let controllers = controllers::house(&mut simulator, topology);
        let settings = pods::settings(topology);
        let mut kubernetes = Kubernetes::new(api.clone(), settings);
        kubernetes.apply_objects(scenario.objects());
        for deployment in scenario.deployments() {
            kubernetes.apply(deployment)?;
        }
        for set in scenario.stateful_sets() {
            kubernetes.apply_stateful(set)?;
        }
        let mut world = Self {
            simulator,
            api,
            kubernetes,
            record: Record::default(),
            pods: BTreeMap::new(),
            controllers,
            trust_anchors: String::new(),
            anchor_kept: None,
            new_anchor: None,
            rotations: 0,
            impairments: links::Impaired::new(),
            hosts: BTreeMap::new(),
            names: Names::default(),
            seed,
            workloads: Vec::new(),
            end: Timestamp::ZERO + scenario.spec.duration.0,
            readiness: topology.readiness,
            next_look: Timestamp::ZERO + readiness::LOOKS,
            begun: false,
            clocks: BTreeMap::new(),
            lifetimes: scenario.spec.lifetimes,
            has_silent_host: false,
            has_viz,
            ended: mesh::Ended::default(),
            outages: BTreeMap::new(),
            taps: BTreeMap::new(),
            has_taps: !scenario.spec.taps.is_empty(),
        };
        world.settle()?;
        world.watch_for_plaintext();
        world.start_control_plane()?;
        world.set_network(&scenario.spec.network)?;
        world.begun = true;
        let names: Vec<_> = world.pods.keys().cloned().collect();
        for name in names {
            world.start_pod(&name)?;
        }
        Ok(world)
    }

    /// Hosts by their addresses.
    fn host_names(&self) -> BTreeMap<IpAddr, Arc<str>> {
        crate::lock(&self.names).clone()
    }

    fn watch_for_plaintext(&self) {
        let (names, record) = (self.names.clone(), self.record.clone());
        let tap = oracle::plaintext::watch(programs::MARKER, names, record);
        self.simulator.set_tap(tap);
    }

    /// Records who tries to open connections; every packet is shown to `next` as well.
    fn watch_attempts(&self, next: Option<Capture>) -> Result<(), Unsupported> {
        let (names, record) = (self.names.clone(), self.record.clone());
        self.simulator.set_capture(oracle::attempts::watch(names, record, next))
    }

    /// What oracles know of the pods.
    fn facts(&self) -> BTreeMap<Arc<str>, oracle::PodFacts> {
        self.pods.iter().map(|(name, pod)| (name.clone(), mesh::facts(&pod.plan))).collect()
    }

    /// Lets pods send, those that are there and those that come.
    fn start_workloads(&mut self, spec: &scenario::Spec) -> Result<(), String> {
        self.workloads.clone_from(&spec.workloads);
        let names: Vec<_> = self.pods.keys().cloned().collect();
        names.iter().try_for_each(|name| self.send_from(name))
    }

    /// Whether a pod sends a workload.
    fn sends(pod: &str, workload: &Workload) -> bool {
        let number = pod.strip_prefix(&*workload.from).and_then(|rest| rest.strip_prefix('-'));
        match (number.and_then(|number| number.parse::<u32>().ok()), workload.senders) {
            (None, _) => false,
            (Some(number), Senders::First) => number == 0,
            (Some(_), Senders::All) => true,
        }
    }
}
