//! The control plane of a world: one process or several, each on a host of its own with a client of
//! the API server of its own. Proxies find them by the names of the services that an installation has,
//! which lead to those that are ready.
//!
//! Law: all of them have one issuer, as a Secret that each mounts gives them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use mesh_core::control::metrics::IndexFigures;
use mesh_core::telemetry::format::Format;
use mesh_core::time::Timestamp;
use mesh_core::wire::drain::{self, DrainSignal};

use crate::lock;
use crate::topology::{DnsAnswer, HostSpec, Role};
use crate::trace::START;

use super::oracle::metrics::Metrics;
use super::scenario::{Component, Target, Topology};
use super::{Simulator, World, mesh};

/// A controller and its host.
pub(super) struct Controller {
    /// `controller`, or `controller-0` and on where there are several.
    pub(super) name: Arc<str>,
    pub(super) host: usize,
    ip: IpAddr,
    /// The node that it runs on, where there are zones and several controllers.
    node: Option<String>,
    zone: Option<String>,
    /// By which the process that was started last is told to finish.
    drain: Option<DrainSignal>,
    metrics: mesh::MetricsSlot,
    /// It does not answer probes, which is noticed then.
    pub(super) frozen: Option<Timestamp>,
    /// Among the addresses of the services.
    ready: bool,
}

/// Makes the controllers' hosts. Several are spread over the zones.
pub(super) fn house(simulator: &mut impl Simulator, topology: &Topology) -> Vec<Controller> {
    let zones: Vec<_> = topology.zones.iter().collect();
    let one = |number: u32| {
        let alone = topology.controllers <= 1;
        let last = u8::try_from(number + 1).unwrap_or(u8::MAX);
        let ip = IpAddr::V4(Ipv4Addr::new(10, 1, 255, last));
        let name = match alone {
            true => "controller".to_owned(),
            false => format!("controller-{number}"),
        };
        let mut spec = HostSpec::new(name.clone(), ip);
        if !alone && !zones.is_empty() {
            let (zone, nodes) = zones[number as usize % zones.len()];
            (spec.node, spec.zone) = (nodes.first().cloned(), Some(zone.clone()));
        }
        let (node, zone) = (spec.node.clone(), spec.zone.clone());
        let host = simulator.add_host(spec);
        let name = name.into();
        let metrics = mesh::MetricsSlot::default();
        // What a world begins with is ready from its beginning.
        Controller { name, host, ip, node, zone, drain: None, metrics, frozen: None, ready: true }
    };
    (0..topology.controllers.max(1)).map(one).collect()
}

impl Controller {
    /// The metrics of its process, while that runs.
    pub(super) fn metrics(&self) -> Option<Metrics> {
        let metrics = self.metrics.get().filter(|metrics| Arc::strong_count(metrics) > 1)?;
        let index = IndexFigures { is_synced: metrics.is_synced(), ..IndexFigures::default() };
        Some(Metrics::read(&metrics.render(Format::Text, Some(&index), None, START)))
    }

    /// Whether it runs and has listed the cluster's objects, as its probe finds it.
    fn is_up(&self) -> bool {
        let metrics = self.metrics.get();
        // What a process that was ended counted is held by this world alone.
        metrics.is_some_and(|metrics| Arc::strong_count(metrics) > 1 && metrics.is_synced())
    }
}

impl<S: Simulator> World<S> {
    /// Starts the control plane: the first controller makes the issuer, the others are given it.
    pub(super) fn start_control_plane(&mut self) -> Result<(), String> {
        let names = self.controllers.iter().map(|c| (c.ip, c.name.clone()));
        lock(&self.names).extend(names);
        for component in Component::ALL {
            let at = mesh::component_address(component);
            let answer = DnsAnswer::Addresses(vec![at.ip()]);
            self.simulator.set_name(&mesh::component_name(component), answer);
            self.serve(component);
        }
        self.give_authority()?;
        self.start_controller(0);
        self.await_state()?;
        for index in 1..self.controllers.len() {
            let first = self.simulator.files(self.controllers[0].host);
            mesh::share_state(first, self.simulator.files(self.controllers[index].host));
            self.start_controller(index);
        }
        Ok(())
    }

    /// Starts the process of a controller.
    pub(super) fn start_controller(&mut self, index: usize) {
        let controller = &mut self.controllers[index];
        let runtime = self.simulator.start(controller.host, mesh::CONTROLLER, Role::Proxy);
        let (signal, watch) = drain::channel();
        let (name, viz) = (&controller.name, self.has_viz);
        controller.metrics = mesh::start_controller(&runtime, name, &self.lifetimes, viz, watch);
        controller.drain = Some(signal);
        controller.frozen = None;
    }

    /// Starts the controllers of a target.
    pub(super) fn restart_controllers(&mut self, target: &Target) {
        for index in self.controllers_of(target) {
            self.start_controller(index);
        }
    }

    /// The controllers that a target means. Nodes and zones mean those that run there.
    pub(super) fn controllers_of(&self, target: &Target) -> Vec<usize> {
        let meant = |(index, controller): &(usize, &Controller)| match target {
            Target::All | Target::Controller(None) => true,
            Target::Controller(Some(number)) => *index == *number as usize,
            Target::Node(node) => controller.node.as_ref() == Some(node),
            Target::Zone(zone) => controller.zone.as_ref() == Some(zone),
            Target::Pod(_) | Target::Deployment(_) | Target::PodOf(..) => false,
        };
        let meant = self.controllers.iter().enumerate().filter(meant);
        meant.map(|(index, _)| index).collect()
    }

    /// Lets the services follow which controllers are ready.
    pub(super) fn probe_controllers(&mut self, now: Timestamp) {
        let mut changed = false;
        for controller in &mut self.controllers {
            let ready = match controller.frozen {
                Some(noticed) if now < noticed => controller.ready,
                Some(_) => false,
                None => controller.is_up(),
            };
            changed |= controller.ready != ready;
            controller.ready = ready;
        }
        if changed {
            Component::ALL.into_iter().for_each(|component| self.serve(component));
        }
    }

    /// The addresses of the controllers that are ready.
    pub(super) fn ready_controllers(&self) -> Vec<IpAddr> {
        let ready = self.controllers.iter().filter(|controller| controller.ready);
        ready.map(|controller| controller.ip).collect()
    }

    fn await_state(&mut self) -> Result<(), String> {
        let until = self.simulator.now() + super::CONTROLLER_STARTS_WITHIN;
        let files = self.simulator.files(self.controllers[0].host).clone();
        self.simulator.run_while(until, &mut || mesh::trust_anchors(&files).is_none());
        let anchors = mesh::trust_anchors(&files);
        self.trust_anchors = anchors.ok_or("the controller did not start")?;
        Ok(())
    }
}
