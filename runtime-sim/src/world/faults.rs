//! Carries out faults: what an [`Action`] means for hosts, links, programs and objects.
//!
//! Law: a fault is done or said to be impossible; none is passed over.

use std::sync::Arc;
use std::time::Duration;

use mesh_core::resource::{Kind, ObjectRef, yaml};

use crate::cluster::{ApiFault, ApiServer};
use crate::topology::Crash;

use super::kubernetes::NODE_GRACE;
use super::programs::Behaviour;
use super::run::EngineKind;
use super::scenario::{Action, CrashKind, Process, Target};
use super::{Simulator, World, parse};

/// Why an engine cannot carry out a fault, where it cannot.
pub(super) fn impossible(action: &Action, engine: EngineKind) -> Option<String> {
    let possible = match action {
        Action::Crash { how, .. } => engine == EngineKind::Des || *how != CrashKind::Hang,
        Action::Pause { .. }
        | Action::Outage { .. }
        | Action::Latency { .. }
        | Action::Loss { .. }
        | Action::Bandwidth { .. }
        | Action::Reset { .. }
        | Action::ClockDrift { .. }
        | Action::Dns { .. } => engine == EngineKind::Des,
        Action::Partition { one_way, .. } => engine == EngineKind::Des || !one_way,
        Action::Restart { .. }
        | Action::ClockSkew { .. }
        | Action::UpgradeProxy { .. }
        | Action::Slow { .. }
        | Action::Errors { .. }
        | Action::StopReading { .. }
        | Action::Apply { .. }
        | Action::Delete { .. }
        | Action::WatchLag { .. }
        | Action::WatchDisconnect {}
        | Action::Relist {}
        | Action::StaleList { .. }
        | Action::WriteConflicts { .. }
        | Action::ApiOutage { .. }
        | Action::RotateIssuer {}
        | Action::RotateTrustAnchor { .. }
        | Action::LeaseLoss {}
        | Action::Rollout { .. }
        | Action::Scale { .. }
        | Action::NodeLoss { .. }
        | Action::ZoneLoss { .. } => true,
    };
    let engine = match engine {
        EngineKind::Des => "the discrete-event engine",
        EngineKind::Turmoil => "the turmoil engine",
    };
    (!possible).then(|| format!("`{action}` cannot be played on {engine}"))
}

impl<S: Simulator> World<S> {
    /// Does what a fault does.
    pub(super) fn begin(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Crash { target, how, process } => self.crash(target, *how, *process)?,
            Action::Restart { target } => self.restart(target)?,
            Action::Pause { target } => self.set_paused(target, true)?,
            Action::Slow { target, by } => self.behave(target, |b| b.set_slow(by.0)),
            Action::Errors { target, status, rate } => {
                self.behave(target, |b| b.set_errors(Some((*status, *rate))))
            }
            Action::StopReading { target } => self.behave(target, |b| b.set_stops_reading(true)),
            Action::Apply { manifest } => self.apply(manifest)?,
            Action::Delete { object, name, namespace } => self.delete(object, name, namespace)?,
            Action::Rollout { deployment } => self.kubernetes.rollout(deployment)?,
            Action::Scale { deployment, replicas } => {
                self.kubernetes.scale(deployment, Some(*replicas))?
            }
            Action::NodeLoss { node } => self.lose_node(node)?,
            Action::ZoneLoss { zone } => {
                let nodes = self.kubernetes.nodes_of(zone);
                if nodes.is_empty() {
                    return Err(format!("there is no zone `{zone}`"));
                }
                nodes.iter().try_for_each(|node| self.lose_node(node))?;
            }
            Action::WatchLag { by } => self.api.set_fault(None, ApiFault::Lag(by.0)),
            Action::WatchDisconnect {} => self.api.disconnect(None),
            Action::Relist {} => self.api.relist(None),
            Action::StaleList { by } => self.api.set_fault(None, ApiFault::Stale(by.0)),
            Action::WriteConflicts { count } => self.api.set_conflicts(*count),
            Action::ApiOutage { target } => {
                self.for_clients(target, |api, client| api.set_fault(client, ApiFault::Outage));
            }
            Action::LeaseLoss {} => self.lose_leases()?,
            Action::RotateIssuer {} => self.rotate_issuer()?,
            Action::RotateTrustAnchor { step } => self.rotate_anchor(*step)?,
            Action::UpgradeProxy { target } => {
                self.pods_of(target).iter().for_each(|pod| self.drain_proxy(pod));
            }
            other => self.begin_link(other)?,
        }
        Ok(())
    }

    /// Undoes what a fault did.
    pub(super) fn end(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Crash { target, how: CrashKind::Hang, process } => {
                self.set_hung(target, *process, false)?
            }
            Action::Crash { target, process: Some(process), .. } => {
                self.restart_process(target, *process)?
            }
            Action::Crash { target, .. } => self.restart(target)?,
            Action::Pause { target } => self.set_paused(target, false)?,
            Action::Slow { target, .. } => self.behave(target, |b| b.set_slow(Duration::ZERO)),
            Action::Errors { target, .. } => self.behave(target, |b| b.set_errors(None)),
            Action::WatchLag { by } => self.api.clear_fault(None, ApiFault::Lag(by.0)),
            Action::StaleList { by } => self.api.clear_fault(None, ApiFault::Stale(by.0)),
            Action::StopReading { target } => self.behave(target, |b| b.set_stops_reading(false)),
            Action::WriteConflicts { .. } => self.api.set_conflicts(0),
            Action::ApiOutage { target } => {
                self.for_clients(target, |api, client| api.clear_fault(client, ApiFault::Outage));
            }
            Action::Scale { deployment, .. } => self.kubernetes.scale(deployment, None)?,
            Action::NodeLoss { node } => self.restore_node(node),
            Action::ZoneLoss { zone } => {
                for node in self.kubernetes.nodes_of(zone) {
                    self.restore_node(&node);
                }
            }
            Action::UpgradeProxy { target } => {
                self.pods_of(target).iter().try_for_each(|pod| self.replace_proxy(pod))?;
            }
            other => self.end_link(other)?,
        }
        Ok(())
    }

    /// The pods that a target means, by name.
    pub(super) fn pods_of(&self, target: &Target) -> Vec<Arc<str>> {
        let meant = |name: &Arc<str>, pod: &super::Pod| match target {
            Target::All => true,
            Target::Pod(wanted) => **name == **wanted,
            Target::Deployment(wanted) | Target::PodOf(wanted, _) => pod.plan.deployment == *wanted,
            Target::Node(node) => pod.plan.node == *node,
            Target::Zone(zone) => pod.plan.zone.as_ref() == Some(zone),
            Target::Controller(_) => false,
        };
        let living = self.pods.iter().filter(|(_, pod)| !pod.gone);
        let pods = living.filter(|(name, pod)| meant(name, pod));
        let mut pods: Vec<_> = pods.map(|(name, _)| name.clone()).collect();
        if let Target::PodOf(_, number) = target {
            // Names tell who is older: the shorter number is the smaller.
            pods.sort_by_key(|name| (name.len(), name.clone()));
            let chosen = (*number as usize).checked_rem(pods.len());
            pods = chosen.map(|chosen| vec![pods.swap_remove(chosen)]).unwrap_or_default();
        }
        pods
    }

    /// A fault with the pods that it meets now in the place of those that it numbers, for its end to
    /// be theirs. Nothing where there is no such pod: it passes over.
    pub(super) fn meet(&self, action: &Action) -> Option<Action> {
        let mut met = action.clone();
        for target in met.targets_mut() {
            if let Target::PodOf(..) = target {
                let pod = self.pods_of(target).into_iter().next()?;
                *target = Target::Pod(pod.to_string());
            }
        }
        Some(met)
    }

    /// The hosts that a target means.
    pub(super) fn hosts(&self, target: &Target) -> Vec<usize> {
        let pods = self.pods_of(target);
        let mut hosts: Vec<_> = pods.iter().map(|name| self.pods[name].host).collect();
        let controllers = self.controllers_of(target).into_iter();
        hosts.extend(controllers.map(|index| self.controllers[index].host));
        hosts
    }

    /// The host of a pod.
    pub(super) fn host(&self, pod: &str) -> Option<usize> {
        self.pods.get(pod).map(|pod| pod.host)
    }

    fn crash(
        &mut self,
        target: &Target,
        how: CrashKind,
        process: Option<Process>,
    ) -> Result<(), String> {
        let how = match how {
            CrashKind::Process => Crash::Process,
            CrashKind::Power => Crash::Power,
            CrashKind::Hang => return self.set_hung(target, process, true),
        };
        if how == Crash::Power {
            self.set_frozen(target, Some(CrashKind::Power));
        }
        for host in self.hosts(target) {
            self.simulator.crash(host, process.map(Process::name), how);
        }
        Ok(())
    }

    fn restart(&mut self, target: &Target) -> Result<(), String> {
        for host in self.hosts(target) {
            self.simulator.power_on(host);
            // What still runs of it would hold its ports.
            self.simulator.crash(host, None, Crash::Process);
        }
        self.restart_controllers(target);
        for pod in self.pods_of(target) {
            self.start_pod(&pod)?;
        }
        Ok(())
    }

    /// Starts one process of a pod anew; the other, and what a client sends, goes on meanwhile.
    fn restart_process(&mut self, target: &Target, process: Process) -> Result<(), String> {
        for pod in self.pods_of(target) {
            match process {
                Process::Proxy => self.replace_proxy(&pod)?,
                Process::App => self.replace_app(&pod)?,
            }
        }
        Ok(())
    }

    fn set_paused(&mut self, target: &Target, paused: bool) -> Result<(), String> {
        for host in self.hosts(target) {
            self.simulator.set_paused(host, paused).map_err(|error| error.to_string())?;
        }
        self.set_frozen(target, paused.then_some(CrashKind::Hang));
        Ok(())
    }

    fn set_hung(
        &mut self,
        target: &Target,
        process: Option<Process>,
        hung: bool,
    ) -> Result<(), String> {
        for host in self.hosts(target) {
            let done = self.simulator.set_hung(host, process.map(Process::name), hung);
            done.map_err(|error| error.to_string())?;
        }
        self.set_frozen(target, hung.then_some(CrashKind::Hang));
        Ok(())
    }

    fn behave(&self, target: &Target, change: impl Fn(&Behaviour)) {
        for pod in self.pods_of(target) {
            change(&self.pods[&pod].behaviour);
        }
    }

    fn apply(&mut self, manifest: &str) -> Result<(), String> {
        let read = yaml::read("fault", manifest).map_err(|problems| {
            let problems = problems.iter().map(ToString::to_string);
            problems.collect::<Vec<_>>().join("; ")
        })?;
        self.kubernetes.apply_objects(read.objects);
        Ok(())
    }

    fn delete(&mut self, object: &str, name: &str, namespace: &str) -> Result<(), String> {
        let kind = parse::kind(object).ok_or_else(|| format!("there is no kind `{object}`"))?;
        let name_of = ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        let existed = match kind {
            Kind::Pod => self.kubernetes.delete_pod(name, None),
            _ => self.kubernetes.delete_object(&name_of),
        };
        match existed {
            true => Ok(()),
            false => Err(format!("there is no {name_of} to delete")),
        }
    }

    fn lose_node(&mut self, node: &str) -> Result<(), String> {
        if !self.kubernetes.lose_node(node) {
            return Err(format!("there is no node `{node}`"));
        }
        for index in self.controllers_of(&Target::Node(node.to_owned())) {
            let controller = &mut self.controllers[index];
            controller.frozen = Some(self.simulator.now() + NODE_GRACE);
            self.simulator.crash(controller.host, None, Crash::Power);
        }
        Ok(())
    }

    fn restore_node(&mut self, node: &str) {
        self.kubernetes.restore_node(node);
        for index in self.controllers_of(&Target::Node(node.to_owned())) {
            let host = self.controllers[index].host;
            self.simulator.power_on(host);
            // Another fault may have started it meanwhile: it would hold its ports.
            self.simulator.crash(host, None, Crash::Process);
            self.start_controller(index);
        }
    }

    /// Does something to the API server for the clients that a target means.
    fn for_clients(&self, target: &Target, done: impl Fn(&ApiServer, Option<&str>)) {
        if *target == Target::All {
            return done(&self.api, None);
        }
        for index in self.controllers_of(target) {
            done(&self.api, Some(&self.controllers[index].name));
        }
    }

    /// Takes every lease from whoever holds it.
    fn lose_leases(&self) -> Result<(), String> {
        match self.api.revoke_leases() {
            0 => Err("nobody holds a lease".to_owned()),
            _ => Ok(()),
        }
    }
}
