//! Pods of a world come and go as the cluster's controllers say: hosts are made for them, programs
//! started, told to finish, and ended.
//!
//! Law: whatever the controllers say is done at the moment for which they say it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_core::proxy::EndpointsSlot;
use mesh_core::time::Timestamp;
use mesh_core::wire::drain::{self, DrainSignal};

use crate::lock;
use crate::random::Random;
use crate::topology::{Crash, DnsAnswer, HostSpec, Redirect, Role};

use super::kubernetes::{PodEvent, PodPlan, ServiceFact, Settings};
use super::load::{Load, Sender};
use super::programs::{Behaviour, Server};
use super::readiness::Health;
use super::scenario::{Readiness, Topology};
use super::{Pod, Simulator, World, mesh};

/// By which a pod's containers are told to finish.
pub(super) struct Drains {
    app: DrainSignal,
    proxy: DrainSignal,
}

/// A scenario's topology as the controllers are told it.
pub(super) fn settings(topology: &Topology) -> Settings {
    let of_zone = |(zone, nodes): (&String, &Vec<String>)| -> Vec<_> {
        nodes.iter().map(|node| (node.clone(), Some(zone.clone()))).collect()
    };
    let nodes: Vec<_> = topology.zones.iter().flat_map(of_zone).collect();
    let one = Settings::default();
    Settings {
        nodes: if nodes.is_empty() { one.nodes } else { nodes },
        pod_start: topology.pod_start.0,
        ready_after: one.ready_after,
        slice_lag: topology.slice_lag.0,
        rules_lag: topology.rules_lag.0,
        eviction_after: topology.eviction_after.0,
        reuse_addresses: topology.reuse_addresses,
        probed: topology.readiness == Readiness::Probed,
    }
}

impl<S: Simulator> World<S> {
    /// Runs until a moment, the cluster's controllers with it.
    pub(super) fn live_until(&mut self, until: Timestamp) -> Result<(), String> {
        loop {
            self.settle()?;
            let next = [self.kubernetes.next(), self.next_look()].into_iter().flatten().min();
            let next = next.filter(|at| *at <= until);
            let ended = self.ended.clone();
            self.simulator.run_while(next.unwrap_or(until), &mut || lock(&ended).is_empty());
            if !self.end_proxies() && next.is_none() {
                return self.settle();
            }
        }
    }

    /// Ends the processes of proxies that have finished: what they left open closes. Tells whether
    /// there were any.
    fn end_proxies(&mut self) -> bool {
        let ended = std::mem::take(&mut *lock(&self.ended));
        for name in &ended {
            if let Some(host) = self.host(name) {
                self.simulator.crash(host, Some("proxy"), Crash::Process);
            }
        }
        !ended.is_empty()
    }

    /// Does what the cluster's controllers have to do by now.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let now = self.simulator.now();
        self.look_at_pods();
        for event in self.kubernetes.advance(now) {
            self.happen(event)?;
        }
        for (name, pod) in &mut self.pods {
            let present = self.kubernetes.is_ready(name);
            if pod.present != present {
                pod.present = present;
                self.record.set_present(name, present, now);
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: PodEvent) -> Result<(), String> {
        match event {
            PodEvent::Start(plan) => {
                let name = plan.name.clone();
                self.house(plan);
                if self.begun {
                    self.start_pod(&name)?;
                }
            }
            PodEvent::Restart(name) => {
                let Some(host) = self.host(&name) else { return Ok(()) };
                self.simulator.crash(host, None, Crash::Process);
                self.start_pod(&name)?;
            }
            PodEvent::Crash(name) => {
                if let Some(host) = self.host(&name) {
                    self.simulator.crash(host, Some("app"), Crash::Process);
                }
            }
            PodEvent::RestartApp(name) => self.start_app(&name)?,
            PodEvent::Terminate(name) => self.terminate(&name),
            PodEvent::Kill(name) => {
                if let Some(pod) = self.pods.get_mut(&name) {
                    pod.gone = true;
                    self.simulator.crash(pod.host, None, Crash::Process);
                }
            }
            PodEvent::PowerOff(name) => {
                if let Some(host) = self.host(&name) {
                    self.simulator.crash(host, None, Crash::Power);
                }
            }
            PodEvent::PowerOn(name) => {
                if let Some(host) = self.host(&name) {
                    self.simulator.power_on(host);
                }
            }
            PodEvent::Service(ServiceFact::Name(name, answer)) => {
                self.simulator.set_name(&name, answer);
            }
            PodEvent::Service(ServiceFact::VirtualAddress(at, endpoints)) => {
                self.simulator.set_virtual_address(at, endpoints);
            }
        }
        Ok(())
    }

    /// Gives a pod a host: the one that has its address, or a new one.
    fn house(&mut self, plan: Arc<PodPlan>) {
        let host = match self.hosts.get(&plan.ip) {
            Some(host) => {
                let answer = DnsAnswer::Addresses(vec![plan.ip]);
                self.simulator.set_name(&plan.name, answer);
                *host
            }
            None => {
                // A StatefulSet's pod comes again by the same name; hosts' names are unique.
                let again = self.pods.contains_key(&plan.name);
                let name = match again {
                    true => format!("{}+{}", plan.name, self.hosts.len()),
                    false => plan.name.to_string(),
                };
                let mut host = HostSpec::new(name, plan.ip);
                host.redirect = plan.meshed.then(Redirect::default);
                host.node = Some(plan.node.clone());
                host.zone = plan.zone.clone();
                self.simulator.add_host(host)
            }
        };
        self.hosts.insert(plan.ip, host);
        let draw = Random::new(self.seed, &plan.name, "behaviour");
        lock(&self.names).insert(plan.ip, plan.name.clone());
        let behaviour = Behaviour::new(plan.conduct.clone(), draw);
        let pod = Pod {
            health: Health::new(behaviour.readiness()),
            behaviour,
            made_late: self.begun,
            host,
            app: None,
            drains: None,
            present: false,
            telemetry: Vec::new(),
            endpoints: EndpointsSlot::default(),
            gone: false,
            plan,
        };
        self.pods.insert(pod.plan.name.clone(), pod);
    }

    /// Starts a pod's proxy, where it has one, and its program.
    pub(super) fn start_pod(&mut self, name: &str) -> Result<(), String> {
        self.look_soon();
        let Some(pod) = self.pods.get_mut(name) else {
            return Ok(());
        };
        pod.health.started(self.simulator.now());
        pod.drains = Some(Drains { app: drain::channel().0, proxy: drain::channel().0 });
        self.start_proxy(name)?;
        self.start_app(name)
    }

    /// Starts a pod's proxy, where it has one.
    fn start_proxy(&mut self, name: &str) -> Result<(), String> {
        let meshed = self.pods.get_mut(name).filter(|pod| pod.plan.meshed);
        let Some(pod) = meshed else {
            return Ok(());
        };
        let (signal, watch) = drain::channel();
        let proxy = self.simulator.start(pod.host, "proxy", Role::Proxy);
        let files = self.simulator.files(pod.host);
        let (api, plan) = (&self.api, &pod.plan);
        let installed =
            mesh::Installed { trust_anchors: &self.trust_anchors, has_taps: self.has_taps };
        let (telemetry, endpoints) =
            mesh::start_proxy(&proxy, files, api, plan, installed, watch, &self.ended)?;
        pod.telemetry.push(telemetry);
        pod.endpoints = endpoints;
        pod.health.proxy_started();
        if let Some(drains) = &mut pod.drains {
            drains.proxy = signal;
        }
        Ok(())
    }

    /// Has a pod's proxy drain.
    pub(super) fn drain_proxy(&self, name: &str) {
        if let Some(drains) = self.pods.get(name).and_then(|pod| pod.drains.as_ref()) {
            drains.proxy.start();
        }
    }

    /// Ends what is left of a pod's proxy, and starts another in its place; a pod that is told to
    /// finish meanwhile gets none.
    pub(super) fn replace_proxy(&mut self, name: &str) -> Result<(), String> {
        let Some(pod) = self.pods.get(name).filter(|pod| pod.drains.is_some()) else {
            return Ok(());
        };
        self.simulator.crash(pod.host, Some("proxy"), Crash::Process);
        self.start_proxy(name)
    }

    /// Ends what is left of a pod's program, and starts it anew.
    pub(super) fn replace_app(&mut self, name: &str) -> Result<(), String> {
        let Some(pod) = self.pods.get(name).filter(|pod| pod.drains.is_some()) else {
            return Ok(());
        };
        self.simulator.crash(pod.host, Some("app"), Crash::Process);
        self.start_app(name)
    }

    /// Starts a pod's program, and what it sends.
    fn start_app(&mut self, name: &str) -> Result<(), String> {
        let Some(pod) = self.pods.get_mut(name) else {
            return Ok(());
        };
        let runtime = self.simulator.start(pod.host, "app", Role::App);
        let (signal, watch) = drain::channel();
        if let Some(drains) = &mut pod.drains {
            drains.app = signal;
        }
        pod.app = Some(runtime.clone());
        let server = Server {
            runtime,
            pod: pod.plan.name.clone(),
            record: self.record.clone(),
            behaviour: pod.behaviour.clone(),
            drain: watch,
        };
        server.start(pod.plan.program, pod.plan.port);
        self.send_from(name)
    }

    /// Has a pod send its workloads, or go on with them where it was started again.
    pub(super) fn send_from(&self, name: &str) -> Result<(), String> {
        let Some(pod) = self.pods.get(name) else {
            return Ok(());
        };
        // One that is told to finish begins nothing.
        let (Some(runtime), Some(drains)) = (&pod.app, &pod.drains) else {
            return Ok(());
        };
        for workload in self.workloads.iter().filter(|workload| Self::sends(name, workload)) {
            let stop = workload.stop.map_or(self.end, |stop| Timestamp::ZERO + stop.0);
            let sender = Sender {
                runtime: runtime.clone(),
                drain: drains.app.watch(),
                record: self.record.clone(),
                pod: pod.plan.name.clone(),
            };
            Load::new(sender, workload, self.seed, stop.min(self.end))?.start();
        }
        Ok(())
    }

    /// As kubelet with a native sidecar: the program is told to finish, and the proxy when that has.
    fn terminate(&mut self, name: &str) {
        let Some(pod) = self.pods.get_mut(name) else {
            return;
        };
        let Some(Drains { app, proxy }) = pod.drains.take() else {
            return;
        };
        app.start();
        let ended = pod.health.ended.clone();
        // Not a task of the pod's: kubelet goes on when the program ends.
        let kubelet = self.simulator.start(pod.host, "kubelet", Role::Proxy);
        kubelet.spawn("kubelet", async move {
            app.drained().await;
            proxy.start();
            proxy.drained().await;
            ended.store(true, Ordering::Relaxed);
        });
    }
}
