//! Cuts objects down to what the mesh reads, before they are kept: the bulk of a pod is the
//! kubelet's business.
//!
//! Law: an index of projected objects compiles to the same as one of whole objects. Projecting
//! twice is projecting once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, Pod, PodCondition, PodSpec, PodStatus, Probe, Service, ServiceAccount,
    ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Job, Kind, Namespace, Node, Object, ReplicaSet};

/// What `kubectl apply` leaves behind: the whole object again.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Where a node is.
const ZONES: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
/// The variables of containers that are read: how a pod's own proxy was set up.
const PROXY_VARIABLES: &str = "LINKERD2_PROXY_";

impl Object {
    /// Drops what the mesh never reads. Objects whose status the mesh writes keep their resource
    /// version, which writing takes; others lose it, so that what did not change for the mesh is
    /// equal. Policies keep their generation, which only what they say changes.
    pub fn project(&mut self) {
        let (has_status, is_built_in) = (self.kind().has_status(), self.kind().is_built_in());
        let meta = self.meta_mut();
        project_meta(meta);
        if !has_status {
            meta.resource_version = None;
        }
        if is_built_in {
            meta.generation = None;
        }
        match self {
            Self::Pod(pod) => project_pod(Arc::make_mut(pod)),
            Self::Service(service) => project_service(Arc::make_mut(service)),
            _ => {
                let meta = self.meta().clone();
                if let Some(bare) = Self::of_metadata(self.kind(), meta) {
                    *self = bare;
                }
            }
        }
    }

    /// An object of a kind of which only the metadata is read, cut down like every other; none of
    /// other kinds.
    pub fn of_metadata(kind: Kind, mut metadata: ObjectMeta) -> Option<Self> {
        project_meta(&mut metadata);
        metadata.resource_version = None;
        metadata.generation = None;
        Some(match kind {
            Kind::Namespace => Namespace { metadata, ..Namespace::default() }.into(),
            Kind::ServiceAccount => ServiceAccount { metadata, ..ServiceAccount::default() }.into(),
            Kind::Node => {
                let is_read = |label: &String| ZONES.contains(&label.as_str());
                let labels = metadata.labels.take().unwrap_or_default();
                let labels = labels.into_iter().filter(|(label, _)| is_read(label)).collect();
                let metadata = ObjectMeta { labels: Some(labels), ..bare(metadata) };
                Node { metadata, ..Node::default() }.into()
            }
            Kind::ReplicaSet => {
                ReplicaSet { metadata: bare(metadata), ..ReplicaSet::default() }.into()
            }
            Kind::Job => Job { metadata: bare(metadata), ..Job::default() }.into(),
            _ => return None,
        })
    }
}

/// Who it is and what made it.
fn bare(metadata: ObjectMeta) -> ObjectMeta {
    let ObjectMeta { name, namespace, uid, owner_references, .. } = metadata;
    ObjectMeta { name, namespace, uid, owner_references, ..ObjectMeta::default() }
}

fn project_meta(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.finalizers = None;
    meta.self_link = None;
    meta.generate_name = None;
    meta.deletion_grace_period_seconds = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
    meta.annotations.take_if(|annotations| annotations.is_empty());
}

fn project_pod(pod: &mut Pod) {
    let spec = std::mem::take(&mut pod.spec);
    pod.spec = spec.map(|spec| PodSpec {
        containers: spec.containers.into_iter().map(project_container).collect(),
        init_containers: spec
            .init_containers
            .map(|all| all.into_iter().map(project_container).collect()),
        host_network: spec.host_network,
        hostname: spec.hostname,
        node_name: spec.node_name,
        service_account_name: spec.service_account_name,
        subdomain: spec.subdomain,
        ..PodSpec::default()
    });
    let status = std::mem::take(&mut pod.status);
    pod.status = status.map(|status| PodStatus {
        conditions: status
            .conditions
            .map(|all| all.into_iter().filter_map(project_condition).collect()),
        host_ip: status.host_ip,
        host_ips: status.host_ips,
        phase: status.phase,
        pod_ip: status.pod_ip,
        pod_ips: status.pod_ips,
        ..PodStatus::default()
    });
}

fn project_container(container: Container) -> Container {
    let is_read = |variable: &EnvVar| variable.name.starts_with(PROXY_VARIABLES);
    let variables: Vec<_> = container.env.into_iter().flatten().filter(is_read).collect();
    Container {
        name: container.name,
        env: (!variables.is_empty()).then_some(variables),
        ports: container.ports,
        liveness_probe: container.liveness_probe.and_then(project_probe),
        readiness_probe: container.readiness_probe.and_then(project_probe),
        startup_probe: container.startup_probe.and_then(project_probe),
        restart_policy: container.restart_policy,
        ..Container::default()
    }
}

/// Probes over HTTP alone are authorized by their path; gRPC's and TCP's have none.
fn project_probe(probe: Probe) -> Option<Probe> {
    let http_get = probe.http_get?;
    Some(Probe { http_get: Some(http_get), ..Probe::default() })
}

/// Whether it is ready, without when and why.
fn project_condition(condition: PodCondition) -> Option<PodCondition> {
    (condition.type_ == "Ready").then(|| PodCondition {
        type_: condition.type_,
        status: condition.status,
        ..PodCondition::default()
    })
}

fn project_service(service: &mut Service) {
    service.status = None;
    let spec = std::mem::take(&mut service.spec);
    service.spec = spec.map(|spec| ServiceSpec {
        allocate_load_balancer_node_ports: None,
        health_check_node_port: None,
        load_balancer_class: None,
        load_balancer_source_ranges: None,
        session_affinity_config: None,
        ..spec
    });
}
