//! What the index says there is: namespaces, workloads, who of them has a proxy. Knows no figures.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::index::{Instance, View};
use crate::control::workload;
use crate::resource::Kind;

use super::link::Link;

/// Kinds of workload in the order that they are shown in, with what several of them are called.
pub(crate) const KINDS: [(&str, &str); 10] = [
    ("deployment", "Deployments"),
    ("statefulset", "StatefulSets"),
    ("daemonset", "DaemonSets"),
    ("replicaset", "ReplicaSets"),
    ("replicationcontroller", "ReplicationControllers"),
    ("job", "Jobs"),
    ("cronjob", "CronJobs"),
    ("pod", "Pods"),
    ("service", "Services"),
    ("namespace", "Namespaces"),
];

/// Names something that has figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// Its namespace; empty for namespaces themselves.
    pub(crate) namespace: String,
    /// Its kind, in lower case: `deployment`.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) name: String,
}

impl Name {
    /// A name.
    pub(crate) fn new(namespace: &str, kind: &str, name: &str) -> Self {
        Self { namespace: namespace.to_string(), kind: kind.to_string(), name: name.to_string() }
    }

    /// Its own page.
    pub(crate) fn link(&self) -> Link {
        match self.kind.as_str() {
            "namespace" => Link::to("/namespaces").segment(&self.name),
            kind => {
                Link::to("/workloads").segment(&self.namespace).segment(kind).segment(&self.name)
            }
        }
    }

    /// As commands take it: `deployment/web`.
    pub(crate) fn of_command(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

/// A workload, and what is known of its instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workload {
    /// How many there are.
    pub(crate) instances: usize,
    /// How many of these have a proxy.
    pub(crate) meshed: usize,
    /// Who they are.
    pub(crate) accounts: BTreeSet<String>,
    /// The services that lead to them, where the index says so.
    pub(crate) services: BTreeSet<String>,
    /// The instances themselves, by name.
    pub(crate) members: BTreeMap<String, Member>,
}

/// An instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// Whether it has a proxy.
    pub(crate) is_meshed: bool,
    /// Its first address.
    pub(crate) address: String,
    /// What it is doing, as its status has it.
    pub(crate) phase: String,
}

/// Everything that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// By name.
    pub(crate) workloads: BTreeMap<Name, Workload>,
    /// Services.
    pub(crate) services: BTreeSet<Name>,
    /// Namespaces that are known, whether anything is in them or not.
    pub(crate) namespaces: BTreeSet<String>,
    /// Of instances alone.
    pub(crate) instances: usize,
    /// Of these, with a proxy.
    pub(crate) meshed: usize,
}

impl Inventory {
    /// Reads the index.
    pub(crate) fn read(view: &View<'_>) -> Self {
        let mut inventory = Self::default();
        for object in view.objects(Kind::Namespace) {
            inventory.namespaces.extend(object.meta().name.clone());
        }
        for object in view.objects(Kind::Service) {
            let meta = object.meta();
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let name = meta.name.as_deref().unwrap_or_default();
            inventory.services.insert(Name::new(namespace, "service", name));
        }
        for workload::Known { namespace, kind, name } in workload::known(view) {
            inventory.namespaces.insert(namespace.clone());
            inventory.workloads.entry(Name { namespace, kind, name }).or_default();
        }
        view.instances().for_each(|instance| inventory.add(view, instance));
        inventory
    }

    fn add(&mut self, view: &View<'_>, instance: Instance<'_>) {
        let member = Member::of(instance, &view.mesh.control_namespace);
        if matches!(member.phase.as_str(), "Succeeded" | "Failed") {
            return;
        }
        let (namespace, name) = (instance.namespace(), instance.name());
        let owner = workload::of_instance(view, instance);
        let (kind, owner) = match &owner {
            Some((kind, name)) => (kind.as_str(), name.as_str()),
            None => ("pod", name),
        };
        self.namespaces.insert(namespace.to_string());
        self.instances += 1;
        self.meshed += usize::from(member.is_meshed);
        let workload = self.workloads.entry(Name::new(namespace, kind, owner)).or_default();
        workload.instances += 1;
        workload.meshed += usize::from(member.is_meshed);
        workload.accounts.insert(instance.service_account().to_string());
        if let Instance::Workload(plain) = instance {
            workload.services.extend(plain.spec.service.clone());
        }
        workload.members.insert(name.to_string(), member);
    }

    /// Workloads of a namespace, or of all where it is empty.
    pub(crate) fn of_namespace<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Name, &'a Workload)> {
        let is_in = move |name: &Name| namespace.is_empty() || name.namespace == namespace;
        self.workloads.iter().filter(move |(name, _)| is_in(name))
    }

    /// Every instance, by namespace and name.
    pub(crate) fn members(&self) -> impl Iterator<Item = ((&str, &str), &Member)> {
        self.workloads.iter().flat_map(|(name, workload)| {
            let members = workload.members.iter();
            members.map(|(member, of)| ((name.namespace.as_str(), member.as_str()), of))
        })
    }

    /// One instance, as a workload of its own.
    pub(crate) fn of_member(&self, namespace: &str, name: &str) -> Option<Workload> {
        let mut workloads = self.of_namespace(namespace);
        let (_, found) = workloads.find(|(_, workload)| workload.members.contains_key(name))?;
        let member = found.members.get(name)?.clone();
        Some(Workload {
            instances: 1,
            meshed: usize::from(member.is_meshed),
            members: [(name.to_string(), member)].into(),
            ..found.clone()
        })
    }

    /// Instances and meshed instances of a namespace.
    pub(crate) fn counts(&self, namespace: &str) -> (usize, usize) {
        let all = self.of_namespace(namespace);
        all.fold((0, 0), |(meshed, instances), (_, workload)| {
            (meshed + workload.meshed, instances + workload.instances)
        })
    }
}

impl Member {
    fn of(instance: Instance<'_>, control_namespace: &str) -> Self {
        let (address, phase) = match instance {
            Instance::Pod(pod) => {
                let status = pod.status.as_ref();
                let ip = status.and_then(|status| status.pod_ip.clone());
                (ip, status.and_then(|status| status.phase.clone()))
            }
            Instance::Workload(plain) => {
                let phase = if plain.spec.ready == Some(false) { "Not ready" } else { "Ready" };
                (plain.spec.addresses.first().cloned(), Some(phase.to_string()))
            }
            Instance::External(external) => {
                let ips = external.spec.workload_ips.as_ref();
                let ip = ips.and_then(|ips| ips.first()).map(|ip| ip.ip.clone());
                (ip, None)
            }
        };
        Self {
            is_meshed: instance.is_meshed(control_namespace),
            address: address.unwrap_or_default(),
            phase: phase.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::MeshConfig;
    use crate::control::testing;

    const MANIFEST: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: empty}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-5d8f-1
  namespace: shop
  labels: {linkerd.io/control-plane-ns: linkerd, pod-template-hash: 5d8f}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d8f, uid: a, controller: true}]
spec: {serviceAccountName: web, containers: [{name: web}]}
status: {phase: Running, podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: old, namespace: shop}
spec: {containers: [{name: web}]}
status: {phase: Succeeded}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: idle-5d8f
  namespace: shop
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: idle, uid: b, controller: true}]
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: vm-1, namespace: shop}
spec: {addresses: [10.0.0.2], service: api}
";

    #[test]
    fn pods_are_counted_to_what_made_them() {
        let (index, mesh) = (testing::index(MANIFEST), MeshConfig::default());
        let inventory = Inventory::read(&View::new(&index, &mesh));
        assert_eq!((inventory.instances, inventory.meshed), (2, 1), "what has ended is no more");
        let web = &inventory.workloads[&Name::new("shop", "deployment", "web")];
        assert_eq!((web.instances, web.meshed), (1, 1));
        assert_eq!(web.members["web-5d8f-1"].address, "10.0.0.1");
        let idle = &inventory.workloads[&Name::new("shop", "deployment", "idle")];
        assert_eq!(idle, &Workload::default(), "it is scaled to zero");
        let vm = &inventory.workloads[&Name::new("shop", "deployment", "api")];
        assert!(vm.services.contains("api"), "as statistics call it");
        assert_eq!(inventory.of_member("shop", "vm-1").unwrap().meshed, 0);
        assert_eq!(inventory.namespaces.iter().collect::<Vec<_>>(), ["empty", "shop"]);
        assert_eq!(inventory.counts("shop"), (1, 2));
    }
}
