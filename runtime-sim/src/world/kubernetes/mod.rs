//! What a cluster's own controllers and kubelets do, in virtual time: deployments become pods,
//! pods start, get ready, end with grace; services get addresses and endpoints; nodes are lost.
//! A machine without I/O: it is told the time, writes objects to the API server, and says what
//! is to be done to pods' programs and to the network.
//!
//! Law: what it does follows from what it was asked and when. Of a pod, `Start` comes first, then
//! `Terminate`, then `Kill`; after that its name may come again only for a StatefulSet.
//!
//! Modules: `plan` is a pod, `rollout` decides which to make and end, `kubelet` starts and ends their
//! programs, `services` has slices and rules written, `endpoints` writes slices, `addresses` gives
//! addresses out.

mod addresses;
mod endpoints;
mod kubelet;
mod plan;
mod rollout;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use mesh_core::resource::{Kind, Node, Object, ObjectRef};
use mesh_core::time::Timestamp;

use crate::cluster::ApiServer;

use addresses::Addresses;
use endpoints::Slices;
use plan::{Condition, plan_pod};
use rollout::{Member, Update, Wanted, decide};
use services::{keep_address, with_addresses};

pub(super) use endpoints::ServiceFact;
pub(super) use plan::{CONTROL_NAMESPACE, PodPlan};

/// From a node's loss until it is marked NotReady, as Kubernetes'.
pub(super) const NODE_GRACE: Duration = Duration::from_secs(40);

/// How a cluster is and how quick its parts are.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Nodes and their zones, in the order in which pods are spread over them.
    pub(super) nodes: Vec<(String, Option<String>)>,
    /// From a pod's making until its containers start.
    pub(super) pod_start: Duration,
    /// From then until it is ready, for pods that say nothing and are made while the world runs.
    pub(super) ready_after: Duration,
    /// How long EndpointSlices lag behind pods.
    pub(super) slice_lag: Duration,
    /// How long kube-proxy's rules and DNS lag behind slices.
    pub(super) rules_lag: Duration,
    /// How long pods stay on a node that is marked NotReady.
    pub(super) eviction_after: Duration,
    /// A freed address goes to the next pod.
    pub(super) reuse_addresses: bool,
    /// Pods that are made while the world runs are not ready before [`Kubernetes::probed`] says so.
    pub(super) probed: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nodes: vec![("node".to_owned(), None)],
            pod_start: Duration::ZERO,
            ready_after: Duration::from_secs(1),
            slice_lag: Duration::ZERO,
            rules_lag: Duration::ZERO,
            eviction_after: Duration::from_secs(300),
            reuse_addresses: false,
            probed: false,
        }
    }
}

/// What is to be done now.
#[derive(Clone, Debug)]
pub(super) enum PodEvent {
    /// A pod's programs start, on a host with its address. Where there is one, its programs have
    /// ended.
    Start(Arc<PodPlan>),
    /// They start again: their node came back.
    Restart(Arc<str>),
    /// Its program ends by itself; its proxy goes on.
    Crash(Arc<str>),
    /// Its program starts again.
    RestartApp(Arc<str>),
    /// The pod is told to finish: its program, and its proxy after that.
    Terminate(Arc<str>),
    /// What still runs of it is ended. The pod is gone.
    Kill(Arc<str>),
    /// Its host falls silent.
    PowerOff(Arc<str>),
    /// Its host has power again. Nothing runs.
    PowerOn(Arc<str>),
    /// A service's name or address leads elsewhere.
    Service(ServiceFact),
}

/// The controllers and kubelets of a cluster.
#[derive(Debug)]
pub(super) struct Kubernetes {
    api: ApiServer,
    settings: Settings,
    now: Timestamp,
    workloads: BTreeMap<WorkloadRef, Workload>,
    pods: BTreeMap<Arc<str>, Pod>,
    lost_nodes: BTreeSet<String>,
    addresses: Addresses,
    slices: BTreeMap<ObjectRef, Slices>,
    agenda: BTreeMap<(Timestamp, u64), Due>,
    dues: u64,
    /// Pods or what is wanted of them changed.
    unsettled: bool,
    /// Namespaces in which pods changed.
    changed: BTreeSet<String>,
    /// Services whose slices, or rules, are to be written already.
    slices_due: BTreeSet<ObjectRef>,
    rules_due: BTreeSet<ObjectRef>,
    /// What the network was last told of each service.
    rules: BTreeMap<ObjectRef, Vec<ServiceFact>>,
    events: Vec<PodEvent>,
}

/// Namespace and name.
type WorkloadRef = (String, String);

#[derive(Debug)]
struct Workload {
    deployment: Deployment,
    /// A StatefulSet.
    stable: bool,
    /// The number of the next pod, where numbers are not given again.
    next: u64,
    /// Rollouts so far.
    rollouts: u32,
    /// How many pods are wanted instead of what its manifest says.
    scaled: Option<u32>,
}

#[derive(Debug)]
struct Pod {
    plan: Arc<PodPlan>,
    number: u64,
    condition: Condition,
    ready_since: Option<Timestamp>,
    /// Counts starts and stops of its programs: what was due of an earlier one is void.
    run: u64,
    crashes: u32,
    /// It may be ready, as far as time goes.
    up: bool,
    /// Its probes fail.
    fails: bool,
    /// Its node is lost.
    silent: bool,
}

#[derive(Clone, Debug)]
enum Due {
    Started {
        pod: Arc<str>,
        run: u64,
    },
    Ready {
        pod: Arc<str>,
        run: u64,
    },
    /// A ready pod may have become available.
    Look,
    Terminate(Arc<str>),
    Kill {
        pod: Arc<str>,
        deleted: Timestamp,
    },
    Restart {
        pod: Arc<str>,
        run: u64,
        whole: bool,
    },
    /// Its program ends by itself.
    Crash {
        pod: Arc<str>,
        run: u64,
    },
    NodeNotReady(String),
    Evict(String),
    Slices(ObjectRef),
    Rules(ObjectRef),
}

impl Kubernetes {
    pub(super) fn new(api: ApiServer, settings: Settings) -> Self {
        for (name, zone) in &settings.nodes {
            api.apply(node(name, zone.as_deref()).into());
        }
        Self {
            addresses: Addresses::new(settings.reuse_addresses),
            api,
            settings,
            now: Timestamp::ZERO,
            workloads: BTreeMap::new(),
            pods: BTreeMap::new(),
            lost_nodes: BTreeSet::new(),
            slices: BTreeMap::new(),
            agenda: BTreeMap::new(),
            dues: 0,
            unsettled: true,
            changed: BTreeSet::new(),
            slices_due: BTreeSet::new(),
            rules_due: BTreeSet::new(),
            rules: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// When there is next something to do.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Goes on to `now` and tells what is to be done, in order. To be called after whatever was
    /// asked of it, and when [`Kubernetes::next`] has come.
    pub(super) fn advance(&mut self, now: Timestamp) -> Vec<PodEvent> {
        self.now = self.now.max(now);
        loop {
            if std::mem::take(&mut self.unsettled) {
                self.reconcile();
            }
            self.notice_changes();
            let Some(at) = self.next().filter(|at| *at <= self.now) else {
                return std::mem::take(&mut self.events);
            };
            let later = self.agenda.split_off(&(at, u64::MAX));
            for due in std::mem::replace(&mut self.agenda, later).into_values() {
                self.happen(due);
            }
        }
    }

    /// Makes or changes a deployment. What is wrong with it is told in words.
    pub(super) fn apply(&mut self, deployment: Deployment) -> Result<(), String> {
        self.apply_workload(deployment, false)
    }

    /// Makes or changes a StatefulSet, in a Deployment's shape.
    pub(super) fn apply_stateful(&mut self, set: Deployment) -> Result<(), String> {
        self.apply_workload(set, true)
    }

    fn apply_workload(&mut self, deployment: Deployment, stable: bool) -> Result<(), String> {
        let plan = plan_pod(&deployment, &[])?;
        let key = (plan.namespace, plan.deployment);
        let known = self.workloads.get(&key);
        let (next, rollouts) = known.map_or((0, 0), |known| (known.next, known.rollouts));
        self.workloads.insert(key, Workload { deployment, stable, next, rollouts, scaled: None });
        self.unsettled = true;
        Ok(())
    }

    /// Replaces a deployment's pods as its strategy says, as `kubectl rollout restart`.
    pub(super) fn rollout(&mut self, name: &str) -> Result<(), String> {
        let workload = self.workload(name)?;
        workload.rollouts += 1;
        let rollout = workload.rollouts.to_string();
        if let Some(spec) = &mut workload.deployment.spec {
            let metadata = spec.template.metadata.get_or_insert_default();
            let annotations = metadata.annotations.get_or_insert_default();
            annotations.insert("kubectl.kubernetes.io/restartedAt".to_owned(), rollout);
        }
        Ok(())
    }

    /// Changes how many pods a deployment has, or takes that back.
    pub(super) fn scale(&mut self, name: &str, replicas: Option<u32>) -> Result<(), String> {
        self.workload(name)?.scaled = replicas;
        Ok(())
    }

    /// Deletes a pod, with its own grace or another. False where there is none, or was already.
    pub(super) fn delete_pod(&mut self, name: &str, grace: Option<Duration>) -> bool {
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name).filter(|pod| pod.condition.deleted.is_none())
        else {
            return false;
        };
        pod.condition.deleted = Some(now);
        let (plan, silent) = (pod.plan.clone(), pod.silent);
        self.show(&plan.name);
        // What is on a lost node ends when that is back: nobody there hears of it.
        if !silent {
            let grace = grace.unwrap_or(plan.grace);
            let terminate = now + plan.pre_stop.min(grace);
            self.due(terminate, Due::Terminate(plan.name.clone()));
            self.due(now + grace, Due::Kill { pod: plan.name.clone(), deleted: now });
        }
        true
    }

    /// A node is gone, and its pods with it. After 40 s it is marked NotReady, and its pods with it;
    /// they are evicted later. False where there is no such node.
    pub(super) fn lose_node(&mut self, node: &str) -> bool {
        if !self.settings.nodes.iter().any(|(name, _)| name == node) {
            return false;
        }
        if self.lost_nodes.insert(node.to_owned()) {
            for pod in self.pods.values_mut().filter(|pod| pod.plan.node == node) {
                pod.silent = true;
                pod.run += 1;
                self.events.push(PodEvent::PowerOff(pod.plan.name.clone()));
            }
            let not_ready = self.now + NODE_GRACE;
            self.due(not_ready, Due::NodeNotReady(node.to_owned()));
            let evict = not_ready + self.settings.eviction_after;
            self.due(evict, Due::Evict(node.to_owned()));
        }
        true
    }

    /// A node is back: what was deleted meanwhile ends, the rest starts again.
    pub(super) fn restore_node(&mut self, node: &str) {
        if !self.lost_nodes.remove(node) {
            return;
        }
        let pods = self.pods.values_mut().filter(|pod| pod.plan.node == node);
        let mut back = Vec::new();
        for pod in pods {
            pod.silent = false;
            pod.run += 1;
            back.push((pod.plan.name.clone(), pod.run, pod.condition.deleted));
        }
        for (pod, run, deleted) in back {
            self.events.push(PodEvent::PowerOn(pod.clone()));
            self.set_ready(&pod, false);
            let now = self.now;
            let due = match deleted {
                Some(deleted) => Due::Kill { pod, deleted },
                None => Due::Restart { pod, run, whole: true },
            };
            self.due(now, due);
        }
    }

    /// The nodes of a zone.
    pub(super) fn nodes_of(&self, zone: &str) -> Vec<String> {
        let nodes = self.settings.nodes.iter();
        let of = nodes.filter(|(_, of)| of.as_deref() == Some(zone));
        of.map(|(name, _)| name.clone()).collect()
    }

    /// Applies objects as users do. A service keeps its address where its manifest has none.
    pub(super) fn apply_objects(&mut self, objects: Vec<Object>) {
        for object in objects {
            let name = object.object_ref();
            let known = self.api.find(&name);
            let object = match (object, known) {
                (Object::Service(new), Some(Object::Service(old))) => keep_address(new, &old),
                (object, _) => object,
            };
            self.api.apply(object);
        }
        for object in with_addresses(self.api.list(Kind::Service)) {
            self.changed.insert(object.object_ref().namespace);
            self.api.apply(object);
        }
    }

    /// Deletes an object that is no pod. False where there is none.
    pub(super) fn delete_object(&mut self, name: &ObjectRef) -> bool {
        let existed = self.api.delete(name);
        self.changed.insert(name.namespace.clone());
        existed
    }

    /// Whether a pod is among the ready endpoints of its services: it is not being deleted, nor gone.
    pub(super) fn is_ready(&self, pod: &str) -> bool {
        let is_ready = |pod: &Pod| pod.condition.ready && pod.condition.deleted.is_none();
        self.pods.get(pod).is_some_and(is_ready)
    }

    /// A pod's probes succeed from now on, or fail. Nobody hears of those of a lost node.
    pub(super) fn probed(&mut self, name: &str, succeed: bool) {
        let Some(pod) = self.pods.get_mut(name).filter(|pod| !pod.silent) else {
            return;
        };
        if pod.fails == succeed {
            pod.fails = !succeed;
            let name = pod.plan.name.clone();
            self.follow_readiness(&name);
        }
    }

    fn workload(&mut self, name: &str) -> Result<&mut Workload, String> {
        self.unsettled = true;
        let found = self.workloads.iter_mut().find(|((_, known), _)| known == name);
        let found = found.map(|(_, workload)| workload);
        found.ok_or_else(|| format!("there is no deployment `{name}`"))
    }

    fn due(&mut self, at: Timestamp, due: Due) {
        self.dues += 1;
        self.agenda.insert((at, self.dues), due);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Started { pod, run } => self.started(&pod, run),
            Due::Ready { pod, run } => {
                if self.pods.get(&pod).is_some_and(|pod| pod.run == run) {
                    self.set_ready(&pod, true);
                }
            }
            Due::Look => self.unsettled = true,
            Due::Terminate(pod) => {
                if self.pods.get(&pod).is_some_and(|pod| !pod.silent) {
                    self.events.push(PodEvent::Terminate(pod));
                }
            }
            // It may have ended by itself meanwhile, and another have its name.
            Due::Kill { pod, deleted } => {
                let known = self.pods.get(&pod);
                if known.is_some_and(|pod| pod.condition.deleted == Some(deleted)) {
                    self.kill(&pod);
                }
            }
            Due::Restart { pod, run, whole } => {
                if self.pods.get(&pod).is_some_and(|known| known.run == run) {
                    self.events.push(match whole {
                        true => PodEvent::Restart(pod.clone()),
                        false => PodEvent::RestartApp(pod.clone()),
                    });
                    self.await_readiness(&pod);
                }
            }
            Due::Crash { pod, run } => self.crash(&pod, run),
            Due::NodeNotReady(node) => {
                for pod in self.silent_pods(&node) {
                    self.set_ready(&pod, false);
                }
            }
            Due::Evict(node) => {
                for pod in self.silent_pods(&node) {
                    self.delete_pod(&pod, None);
                }
            }
            Due::Slices(service) => {
                self.slices_due.remove(&service);
                self.write_slices(&service);
            }
            Due::Rules(service) => {
                self.rules_due.remove(&service);
                self.write_rules(&service);
            }
        }
    }

    fn silent_pods(&self, node: &str) -> Vec<Arc<str>> {
        let lost = self.pods.values().filter(|pod| pod.silent && pod.plan.node == node);
        lost.map(|pod| pod.plan.name.clone()).collect()
    }

    /// Makes and ends pods as the workloads want.
    fn reconcile(&mut self) {
        let keys: Vec<_> = self.workloads.keys().cloned().collect();
        for key in keys {
            let workload = &self.workloads[&key];
            let Ok(plan) = plan_pod(&workload.deployment, &self.api.list(Kind::Namespace)) else {
                // It was planned when it was applied.
                continue;
            };
            let (min_ready, now) = (workload.min_ready(), self.now);
            let of_this = |pod: &&Pod| pod.plan.deployment == key.1 && pod.plan.namespace == key.0;
            let of_this: Vec<_> = self.pods.values().filter(of_this).collect();
            let (living, ending): (Vec<&Pod>, Vec<&Pod>) =
                of_this.iter().partition(|pod| pod.condition.deleted.is_none());
            let members: Vec<_> = living
                .iter()
                .map(|pod| Member {
                    number: pod.number,
                    current: pod.plan.revision == plan.revision,
                    ready: pod.condition.ready,
                    available: pod.ready_since.is_some_and(|since| since + min_ready <= now),
                })
                .collect();
            let steps = decide(workload.wanted(), &members, ending.len());
            let end: Vec<_> = living
                .iter()
                .filter(|pod| steps.end.contains(&pod.number))
                .map(|pod| pod.plan.name.clone())
                .collect();
            for pod in end {
                self.delete_pod(&pod, None);
            }
            for _ in 0..steps.make {
                self.make(&key, plan.clone());
            }
        }
    }

    fn make(&mut self, key: &WorkloadRef, mut plan: PodPlan) {
        let Some(workload) = self.workloads.get_mut(key) else {
            return;
        };
        let number = match workload.stable {
            true => {
                let is_free = |n: &u64| !self.pods.contains_key(format!("{}-{n}", key.1).as_str());
                (0..).find(is_free).unwrap_or_default()
            }
            false => {
                workload.next += 1;
                workload.next - 1
            }
        };
        plan.name = format!("{}-{number}", key.1).into();
        plan.stable = workload.stable;
        plan.ip = self.addresses.take(plan.meshed);
        // The least loaded of the nodes that are there.
        let up = self.settings.nodes.iter().filter(|(node, _)| !self.lost_nodes.contains(node));
        let load = |node: &str| self.pods.values().filter(|pod| pod.plan.node == node).count();
        let Some((node, zone)) = up.min_by_key(|(node, _)| load(node)).cloned() else {
            // Without a node it would be pending; it is tried again at the next change.
            self.addresses.free(plan.ip, plan.meshed);
            return;
        };
        (plan.node, plan.zone) = (node, zone);
        let condition = Condition { started: false, ready: false, deleted: None };
        let name = plan.name.clone();
        let pod = Pod {
            plan: Arc::new(plan),
            number,
            condition,
            ready_since: None,
            run: 0,
            crashes: 0,
            up: false,
            fails: false,
            silent: false,
        };
        self.pods.insert(name.clone(), pod);
        self.show(&name);
        // What a world begins with runs from its beginning.
        let takes = self.settings.pod_start;
        let takes = if self.now == Timestamp::ZERO { Duration::ZERO } else { takes };
        let at = self.now + takes;
        self.due(at, Due::Started { pod: name, run: 0 });
    }
}

impl Workload {
    fn wanted(&self) -> Wanted {
        let mut deployment = self.deployment.clone();
        if let (Some(spec), Some(replicas)) = (&mut deployment.spec, self.scaled) {
            spec.replicas = i32::try_from(replicas).ok();
        }
        let wanted = deployment.spec.as_ref().map(Wanted::of);
        let wanted = wanted.unwrap_or(Wanted { replicas: 1, strategy: Update::Recreate });
        match self.stable {
            true => Wanted { strategy: Update::Ordered, ..wanted },
            false => wanted,
        }
    }

    fn min_ready(&self) -> Duration {
        let seconds = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        Duration::from_secs(seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0))
    }
}

impl Pod {
    fn object_ref(&self) -> ObjectRef {
        let PodPlan { namespace, name, .. } = &*self.plan;
        ObjectRef { kind: Kind::Pod, namespace: namespace.clone(), name: name.to_string() }
    }
}

fn node(name: &str, zone: Option<&str>) -> Node {
    let labels = zone
        .map(|zone| BTreeMap::from([("topology.kubernetes.io/zone".to_owned(), zone.to_owned())]));
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels, ..ObjectMeta::default() };
    Node { metadata, ..Node::default() }
}
