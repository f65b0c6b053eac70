//! What oracles see of a world while it runs, beside its record.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::telemetry::Telemetry;
use mesh_core::time::Timestamp;

use super::oracle::metrics::Metrics;
use super::oracle::watch::{Expected, Held, Scene, Watch};
use super::services::{self, Backend};
use super::{Pod, Simulator, World, mesh};
use crate::usage::Usage;

/// The API server, where metrics are looked at.
pub(super) const API_SERVER: &str = "api-server";

impl<S: Simulator> World<S> {
    /// Runs until a moment, and lets the probes look at theirs.
    pub(super) fn run_until(&mut self, until: Timestamp, watch: &mut Watch) -> Result<(), String> {
        while let Some(at) = watch.next(self.simulator.now()).filter(|at| *at <= until) {
            self.live_until(at)?;
            watch.look(at, self);
        }
        self.live_until(until)
    }

    /// The last metrics of every proxy that each pod had.
    pub(super) fn scrapes(&self) -> BTreeMap<Arc<str>, Vec<Metrics>> {
        let meshed = self.pods.iter().filter(|(_, pod)| !pod.telemetry.is_empty());
        let now = self.simulator.now();
        let of = |pod: &Pod| {
            let counted = pod.telemetry.iter().filter_map(|slot| slot.get());
            counted.map(|telemetry| read(telemetry, now)).collect()
        };
        meshed.map(|(name, pod)| (name.clone(), of(pod))).collect()
    }
}

pub(super) fn read(telemetry: &Telemetry, now: Timestamp) -> Metrics {
    Metrics::read(&telemetry.scrape(now).into_text())
}

impl<S: Simulator> Scene for World<S> {
    fn names(&self) -> Vec<Arc<str>> {
        let meshed = self.pods.values().filter(|pod| pod.plan.meshed);
        let controllers = self.controllers.iter().map(|controller| controller.name.clone());
        let pods = meshed.map(|pod| pod.plan.name.clone());
        pods.chain(controllers).chain([API_SERVER.into()]).collect()
    }

    fn metrics(&self, name: &str) -> Option<Metrics> {
        if name == API_SERVER {
            return Some(Metrics::read(&self.api.metrics()));
        }
        if let Some(controller) = self.controllers.iter().find(|known| *known.name == *name) {
            return controller.metrics();
        }
        let telemetry = self.pods.get(name)?.telemetry.last()?.get()?;
        // That of a proxy that was ended is held by this world alone.
        (Arc::strong_count(telemetry) > 1).then(|| read(telemetry, self.simulator.now()))
    }

    fn services(&self) -> BTreeMap<String, Expected> {
        services::expected(&self.api)
    }

    fn known(&self, name: &str) -> Option<Vec<(String, BTreeMap<SocketAddr, bool>)>> {
        self.pods.get(name)?.endpoints.get()?.all()
    }

    fn servers(&self, host: &str) -> Option<BTreeSet<Arc<str>>> {
        let backends = services::backends(&self.api, host)?;
        let serves = |pod: &Pod| {
            let facts = mesh::facts(&pod.plan);
            backends.iter().any(|backend| match backend {
                Backend::Selected(service) => pod.plan.is_selected(service),
                Backend::Identity(identity) => facts.identity.as_ref() == Some(identity),
            })
        };
        let pods = self.pods.iter().filter(|(_, pod)| serves(pod));
        Some(pods.map(|(name, _)| name.clone()).collect())
    }

    fn heap_peaks(&self) -> BTreeMap<Arc<str>, u64> {
        let usages = self.simulator.usages().unwrap_or_default();
        let peak = |pod: &Pod| {
            let process = usages.get(pod.host)?.process("proxy")?;
            Some(process.heap?.peak_bytes)
        };
        let meshed = self.pods.iter().filter(|(_, pod)| pod.plan.meshed);
        meshed.filter_map(|(name, pod)| Some((name.clone(), peak(pod)?))).collect()
    }

    fn held(&self, name: &str) -> Option<Held> {
        let (host, process) = self.mesh_process(name)?;
        held(&self.simulator.usage(host).ok()?, process)
    }

    fn held_by_all(&self) -> BTreeMap<Arc<str>, Held> {
        let Ok(usages) = self.simulator.usages() else { return BTreeMap::new() };
        let of = |name: Arc<str>| {
            let (host, process) = self.mesh_process(&name)?;
            Some((name, held(usages.get(host)?, process)?))
        };
        self.names().into_iter().filter_map(of).collect()
    }
}

impl<S: Simulator> World<S> {
    /// The host of a pod or a controller, and the mesh's process there.
    fn mesh_process(&self, name: &str) -> Option<(usize, &'static str)> {
        match self.pods.get(name) {
            Some(pod) => Some((pod.host, "proxy")),
            None => {
                let mut controllers = self.controllers.iter();
                let named = controllers.find(|controller| *controller.name == *name)?;
                Some((named.host, mesh::CONTROLLER))
            }
        }
    }
}

fn held(usage: &Usage, process: &str) -> Option<Held> {
    let process = usage.process(process)?;
    let count = |number: usize| number as u64;
    Some(Held {
        tasks: count(process.tasks()),
        sockets: count(process.sockets + process.listeners),
        timers: count(process.timers),
        heap_bytes: process.heap.map(|heap| heap.current_bytes),
    })
}
