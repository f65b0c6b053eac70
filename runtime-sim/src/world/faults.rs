//! Carries out faults: what an [`Action`] means for hosts, links, programs and objects.
//!
//! Law: a fault is done or said to be impossible; none is passed over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::resource::{Kind, ObjectRef, yaml};
use mesh_core::time::Timestamp;

use crate::cluster::ApiFault;
use crate::link::ImpairmentId;
use crate::topology::Crash;

use super::programs::Behaviour;
use super::run::EngineKind;
use super::scenario::{Action, CrashKind, Process, Target};
use super::{Simulator, World, parse};

/// What a fault that was begun leaves to do.
pub(super) type Stops = Vec<(Arc<str>, Timestamp)>;

/// What lasts of links' faults, by the hosts on both sides and whether it is one-way.
pub(super) type Impaired = BTreeMap<(Vec<usize>, Vec<usize>, bool), Vec<ImpairmentId>>;

/// Why an engine cannot carry out a fault, where it cannot.
pub(super) fn impossible(action: &Action, engine: EngineKind) -> Option<String> {
    let possible = match action {
        Action::Crash { how, .. } => engine == EngineKind::Des || *how != CrashKind::Hang,
        Action::Pause { .. } => engine == EngineKind::Des,
        Action::Partition { one_way, .. } => engine == EngineKind::Des || !one_way,
        Action::Restart { .. }
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
        | Action::ApiOutage {} => true,
        _ => false,
    };
    let engine = match engine {
        EngineKind::Des => "the discrete-event engine",
        EngineKind::Turmoil => "the turmoil engine",
    };
    (!possible).then(|| format!("`{action}` cannot be played on {engine}"))
}

impl<S: Simulator> World<S> {
    /// Does what a fault does. Tells which deleted pods are to be told to stop, and when.
    pub(super) fn begin(&mut self, action: &Action) -> Result<Stops, String> {
        match action {
            Action::Crash { target, how, process } => self.crash(target, *how, *process)?,
            Action::Restart { target } => self.restart(target)?,
            Action::Pause { target } => self.set_paused(target, true)?,
            Action::Partition { a, b, one_way } => self.set_partition(a, b, *one_way, true)?,
            Action::Slow { target, by } => self.behave(target, |b| b.set_slow(by.0)),
            Action::Errors { target, status, rate } => {
                self.behave(target, |b| b.set_errors(Some((*status, *rate))))
            }
            Action::StopReading { target } => self.behave(target, |b| b.set_stops_reading(true)),
            Action::Apply { manifest } => self.apply(manifest)?,
            Action::Delete { object, name, namespace } => {
                return self.delete(object, name, namespace);
            }
            Action::WatchLag { by } => self.api.set_fault(None, ApiFault::Lag(by.0)),
            Action::WatchDisconnect {} => self.api.disconnect(None),
            Action::Relist {} => self.api.relist(None),
            Action::StaleList { by } => self.api.set_fault(None, ApiFault::Stale(by.0)),
            Action::WriteConflicts { count } => self.api.set_conflicts(*count),
            Action::ApiOutage {} => self.api.set_fault(None, ApiFault::Outage),
            _ => return Err(format!("`{action}` cannot be played")),
        }
        Ok(Stops::new())
    }

    /// Undoes what a fault did.
    pub(super) fn end(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Crash { target, how: CrashKind::Hang, process } => {
                self.set_hung(target, *process, false)?
            }
            Action::Crash { target, .. } => self.restart(target)?,
            Action::Pause { target } => self.set_paused(target, false)?,
            Action::Partition { a, b, one_way } => self.set_partition(a, b, *one_way, false)?,
            Action::Slow { target, .. } => self.behave(target, |b| b.set_slow(Duration::ZERO)),
            Action::Errors { target, .. } => self.behave(target, |b| b.set_errors(None)),
            Action::WatchLag { by } => self.api.clear_fault(None, ApiFault::Lag(by.0)),
            Action::StaleList { by } => self.api.clear_fault(None, ApiFault::Stale(by.0)),
            Action::StopReading { target } => self.behave(target, |b| b.set_stops_reading(false)),
            Action::WriteConflicts { .. } => self.api.set_conflicts(0),
            Action::ApiOutage {} => self.api.clear_fault(None, ApiFault::Outage),
            _ => {}
        }
        Ok(())
    }

    /// The pods that a target means, by name.
    fn pods_of(&self, target: &Target) -> Vec<Arc<str>> {
        let meant = |name: &Arc<str>, pod: &super::Pod| match target {
            Target::All => true,
            Target::Pod(wanted) => **name == **wanted,
            Target::Deployment(wanted) => pod.plan.deployment == *wanted,
            Target::Node(_) | Target::Zone(_) | Target::Controller(_) => false,
        };
        let pods = self.pods.iter().filter(|(name, pod)| meant(name, pod));
        pods.map(|(name, _)| name.clone()).collect()
    }

    fn means_controller(target: &Target) -> bool {
        matches!(target, Target::All | Target::Controller(_))
    }

    /// The hosts that a target means.
    fn hosts(&self, target: &Target) -> Vec<usize> {
        let pods = self.pods_of(target);
        let mut hosts: Vec<_> = pods.iter().map(|name| self.pods[name].host).collect();
        if Self::means_controller(target) {
            hosts.push(self.controller);
        }
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
        if Self::means_controller(target) {
            self.start_controller();
        }
        for pod in self.pods_of(target) {
            self.start_pod(&pod)?;
        }
        Ok(())
    }

    fn set_paused(&mut self, target: &Target, paused: bool) -> Result<(), String> {
        for host in self.hosts(target) {
            self.simulator.set_paused(host, paused).map_err(|error| error.to_string())?;
        }
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
        Ok(())
    }

    fn set_partition(
        &mut self,
        a: &Target,
        b: &Target,
        one_way: bool,
        parted: bool,
    ) -> Result<(), String> {
        let (a, b) = (self.hosts(a), self.hosts(b));
        let key = (a.clone(), b.clone(), one_way);
        if !parted {
            for impairment in self.impairments.remove(&key).unwrap_or_default() {
                self.simulator.mend(impairment);
            }
            return Ok(());
        }
        for from in &a {
            for to in b.iter().filter(|to| !a.contains(to)) {
                let cut = self.simulator.partition((*from).into(), (*to).into(), one_way);
                let cut = cut.map_err(|error| error.to_string())?;
                self.impairments.entry(key.clone()).or_default().extend(cut);
            }
        }
        Ok(())
    }

    fn behave(&self, target: &Target, change: impl Fn(&Behaviour)) {
        for pod in self.pods_of(target) {
            change(&self.pods[&pod].behaviour);
        }
    }

    fn apply(&self, manifest: &str) -> Result<(), String> {
        let read = yaml::read("fault", manifest).map_err(|problems| {
            let problems = problems.iter().map(ToString::to_string);
            problems.collect::<Vec<_>>().join("; ")
        })?;
        for object in read.objects {
            self.api.apply(object);
        }
        self.sync_endpoints();
        Ok(())
    }

    fn delete(&mut self, object: &str, name: &str, namespace: &str) -> Result<Stops, String> {
        let kind = parse::kind(object).ok_or_else(|| format!("there is no kind `{object}`"))?;
        let namespace = match self.pods.get(name).filter(|_| kind == Kind::Pod) {
            Some(pod) => pod.plan.namespace.clone(),
            None => namespace.to_owned(),
        };
        let name_of = ObjectRef { kind, namespace, name: name.to_owned() };
        let Some(pod) = self.pods.get_mut(name).filter(|_| kind == Kind::Pod) else {
            return match self.api.delete(&name_of) {
                true => Ok(Stops::new()),
                false => Err(format!("there is no {name_of} to delete")),
            };
        };
        pod.listed = false;
        let stops = (pod.plan.name.clone(), self.simulator.now() + pod.plan.pre_stop);
        self.sync_endpoints();
        self.api.delete(&name_of);
        Ok(vec![stops])
    }
}
