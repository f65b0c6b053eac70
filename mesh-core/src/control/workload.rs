//! Which workload an instance is of, in the words of metrics: the labels that Linkerd's Prometheus
//! puts on what it scrapes of a pod.
//!
//! A plain host's instance has no maker. It is of the deployment that its labels say, else of one
//! that is called as its service, else as its service account.

use std::collections::BTreeMap;

use super::index::{Instance, View};
use crate::manifest::annotations::PROXY_OWNER_PREFIX;
use crate::model::labels::Labels;
use crate::resource::{Kind, ObjectRef};

/// Kinds of workloads, as labels and as people call them.
pub const KINDS: [&str; 7] = [
    "deployment",
    "statefulset",
    "daemonset",
    "replicaset",
    "replicationcontroller",
    "job",
    "cronjob",
];

/// What made an instance: `("deployment", "web")`.
pub fn of_instance(view: &View<'_>, instance: Instance<'_>) -> Option<(String, String)> {
    let labels = instance.labels().into_iter().flatten();
    let mut said = labels.filter_map(|(name, value)| {
        let kind = name.strip_prefix(PROXY_OWNER_PREFIX)?;
        KINDS.contains(&kind).then(|| (kind.to_string(), value.clone()))
    });
    if let Some(said) = said.next() {
        return Some(said);
    }
    let Instance::Workload(workload) = instance else { return view.owner(instance) };
    let spec = &workload.spec;
    let labelled = KINDS.iter().find_map(|kind| spec.labels.get_key_value(*kind));
    if let Some((kind, name)) = labelled {
        return Some((kind.clone(), name.clone()));
    }
    let of_others = view.owner(instance);
    let name = spec.service.as_ref().or(spec.service_account.as_ref());
    of_others.or_else(|| Some(("deployment".to_string(), name?.clone())))
}

/// A workload that has an object of its own in the index, whether it has pods or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Known {
    /// Its namespace.
    pub namespace: String,
    /// Its kind: `deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Workloads that are known by more than their pods: ReplicaSets and Jobs, and what made them. A
/// Deployment that is scaled to zero keeps its ReplicaSets. Others without pods are not known:
/// their kinds are not watched.
pub fn known(view: &View<'_>) -> impl Iterator<Item = Known> {
    let of_kind = |kind: Kind| view.objects(kind).map(move |object| (kind, object.object_ref()));
    let made = of_kind(Kind::ReplicaSet).chain(of_kind(Kind::Job));
    made.filter_map(|(kind, ObjectRef { namespace, name, .. })| {
        let kind = kind.name();
        let maker = view.maker_of(&namespace, &kind, &name);
        let (kind, name) = maker.unwrap_or((&kind, &name));
        let (kind, name) = (kind.to_ascii_lowercase(), name.to_string());
        KINDS.contains(&&*kind).then_some(Known { namespace, kind, name })
    })
}

/// The label of a kind: Prometheus has another use for `job`.
pub fn label_of(kind: &str) -> &str {
    match kind {
        "job" => "k8s_job",
        kind => kind,
    }
}

/// The labels of everything that is scraped of an instance.
pub fn target_labels(view: &View<'_>, instance: Instance<'_>) -> Labels {
    let mut labels = BTreeMap::new();
    if let Instance::Workload(workload) = instance {
        labels.extend(workload.spec.labels.clone());
    }
    let mut put = |name: &str, value: &str| labels.insert(name.to_string(), value.to_string());
    put("job", "linkerd-proxy");
    put("namespace", instance.namespace());
    put("workload_ns", instance.namespace());
    put("pod", instance.name());
    if let Some((kind, name)) = of_instance(view, instance) {
        put(label_of(&kind), &name);
    }
    if let Some(control) = instance.control_namespace(&view.mesh.control_namespace) {
        put("control_plane_ns", control);
    }
    if let Some(hash) = instance.label("pod-template-hash") {
        put("pod_template_hash", hash);
    }
    Labels::from(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::MeshConfig;
    use crate::control::testing;

    const MANIFEST: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: web-5d8f-x
  namespace: shop
  labels:
    linkerd.io/proxy-deployment: web
    linkerd.io/control-plane-ns: linkerd
    pod-template-hash: 5d8f
---
apiVersion: v1
kind: Pod
metadata:
  name: nightly-1-x
  namespace: shop
  labels: {linkerd.io/proxy-job: nightly-1, linkerd.io/control-plane-ns: linkerd}
---
apiVersion: v1
kind: Pod
metadata:
  name: plain-5d8f-x
  namespace: shop
  labels: {pod-template-hash: 5d8f}
  ownerReferences:
  - {apiVersion: apps/v1, kind: ReplicaSet, name: plain-5d8f, uid: a, controller: true}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: api-1, namespace: hosts}
spec:
  addresses: [10.0.0.1]
  service: api
  proxy: {}
  labels: {rack: r1}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: db-1, namespace: hosts}
spec:
  addresses: [10.0.0.2]
  service: db
  labels: {statefulset: postgres}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: load-1, namespace: hosts}
spec:
  addresses: [10.0.0.3]
  serviceAccount: load
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: idle-5d8f
  namespace: shop
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: idle, uid: b, controller: true}]
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: canary-5d8f
  namespace: shop
  ownerReferences: [{apiVersion: argoproj.io/v1, kind: Rollout, name: canary, uid: c, controller: true}]
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: alone, namespace: shop}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: nightly-7
  namespace: shop
  ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: nightly, uid: d, controller: true}]
"#;

    #[test]
    fn what_made_replica_sets_and_jobs_is_known_without_pods() {
        let (index, mesh) = (testing::index(MANIFEST), MeshConfig::default());
        let view = View::new(&index, &mesh);
        let known = known(&view).map(|one| format!("{}/{}", one.kind, one.name));
        let known: Vec<_> = known.collect();
        assert_eq!(known, ["replicaset/alone", "deployment/idle", "cronjob/nightly"]);
    }

    #[test]
    fn what_is_scraped_has_linkerds_labels() {
        let (index, mesh) = (testing::index(MANIFEST), MeshConfig::default());
        let view = View::new(&index, &mesh);
        let lines = view.instances().map(|instance| {
            let labels = target_labels(&view, instance);
            let labels: Vec<_> = labels
                .iter()
                .filter(|(name, _)| !["job", "workload_ns"].contains(name))
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            labels.join(" ")
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
        control_plane_ns=linkerd k8s_job=nightly-1 namespace=shop pod=nightly-1-x
        deployment=plain namespace=shop pod=plain-5d8f-x pod_template_hash=5d8f
        control_plane_ns=linkerd deployment=web namespace=shop pod=web-5d8f-x pod_template_hash=5d8f
        control_plane_ns=linkerd deployment=api namespace=hosts pod=api-1 rack=r1
        namespace=hosts pod=db-1 statefulset=postgres
        deployment=load namespace=hosts pod=load-1
        ");
    }
}
