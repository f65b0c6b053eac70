//! A pod: what its template says of it, and how the cluster shows it. Pods that are to be meshed look
//! as the injector leaves them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, Pod, PodCondition, PodIP, PodSpec, PodStatus, PodTemplateSpec, ServicePort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest, Sha256};

use mesh_core::resource::{Object, Service};
use mesh_core::time::{Timestamp, WallTime};

use super::super::mesh;
use super::super::programs::{Conduct, Program};
use super::super::scenario::Span;

/// The namespace of the simulated control plane.
pub(in crate::world) const CONTROL_NAMESPACE: &str = "linkerd";

/// A pod's environment names here how long its program runs until it ends by itself: for kubelet, all
/// else of it is the program's.
const CRASH_AFTER: &str = "CRASH_AFTER";
/// Kubernetes' own `terminationGracePeriodSeconds`.
const GRACE: Duration = Duration::from_secs(30);

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::world) struct Condition {
    /// Its containers run, and it has its address.
    pub(in crate::world) started: bool,
    /// Its readiness probes succeed.
    pub(in crate::world) ready: bool,
    /// Since when it is being deleted.
    pub(in crate::world) deleted: Option<Timestamp>,
}

/// A pod that is to run.
#[derive(Clone, Debug)]
pub(in crate::world) struct PodPlan {
    pub(in crate::world) name: Arc<str>,
    pub(in crate::world) namespace: String,
    pub(in crate::world) ip: IpAddr,
    pub(in crate::world) account: String,
    pub(in crate::world) meshed: bool,
    pub(in crate::world) program: Program,
    /// Where its program listens.
    pub(in crate::world) port: u16,
    /// How its program behaves.
    pub(in crate::world) conduct: Conduct,
    /// Its `preStop` sleep: it goes on for so long after it is deleted.
    pub(in crate::world) pre_stop: Duration,
    pub(in crate::world) deployment: String,
    /// The hash of its template.
    pub(in crate::world) revision: String,
    /// Of a StatefulSet: its name is given again, and names it in DNS.
    pub(in crate::world) stable: bool,
    /// Where it runs.
    pub(in crate::world) node: String,
    /// Where that is.
    pub(in crate::world) zone: Option<String>,
    /// How long it may take to finish, its `preStop` sleep included.
    pub(in crate::world) grace: Duration,
    /// From its start until it is ready, where it says so.
    pub(in crate::world) ready_after: Option<Duration>,
    /// From its start until its program ends by itself, where it does.
    pub(in crate::world) crash_after: Option<Duration>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    containers: Vec<Container>,
}

/// The pod of a deployment, without a name, an address or a node yet. What is wrong with the
/// deployment is told in words.
pub(in crate::world) fn plan_pod(
    deployment: &Deployment,
    objects: &[Object],
) -> Result<PodPlan, String> {
    let name = deployment.metadata.name.clone().unwrap_or_default();
    let fault = |what: &str| format!("deployment {name}: {what}");
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let template = template.ok_or_else(|| fault("has no spec"))?;
    let spec = template.spec.as_ref().ok_or_else(|| fault("its template has no spec"))?;
    let meta = template.metadata.clone().unwrap_or_default();
    let container = spec.containers.first().ok_or_else(|| fault("has no container"))?;
    let image = container.image.as_deref().unwrap_or_default();
    let program = Program::of_image(image).ok_or_else(|| {
        fault(&format!("image `{image}` is no simulated program; use {}", Program::IMAGES))
    })?;
    let port = container.ports.iter().flatten().next();
    let port = port.and_then(|port| u16::try_from(port.container_port).ok());
    let variables = container.env.iter().flatten();
    let variables = variables.filter(|variable| variable.name != CRASH_AFTER);
    let variables = variables.filter_map(|v| Some((v.name.as_str(), v.value.as_deref()?)));
    let conduct = Conduct::from_env(variables).map_err(|error| fault(&error))?;
    let namespace = deployment.metadata.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let annotations = meta.annotations.unwrap_or_default();
    let pre_stop = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()?.sleep.as_ref());
    let pre_stop = pre_stop.and_then(|sleep| u64::try_from(sleep.seconds).ok());
    let mut crashes = container.env.iter().flatten().filter(|v| v.name == CRASH_AFTER);
    let crash_after = crashes.find_map(|variable| variable.value.as_deref()).map(Span::read);
    let crash_after = crash_after.transpose();
    let grace = spec.termination_grace_period_seconds;
    Ok(PodPlan {
        pre_stop: Duration::from_secs(pre_stop.unwrap_or(0)),
        name: Arc::from(""),
        ip: Ipv4Addr::UNSPECIFIED.into(),
        revision: revision(template),
        stable: false,
        node: String::new(),
        zone: None,
        grace: grace.and_then(|s| u64::try_from(s).ok()).map_or(GRACE, Duration::from_secs),
        ready_after: Some(conduct.ready_after).filter(|after| !after.is_zero()),
        crash_after: crash_after.map_err(|error| fault(&error))?.map(|span| span.0),
        account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        meshed: is_injected(&annotations, &namespace, objects),
        program,
        port: port.unwrap_or(80),
        conduct,
        deployment: name,
        labels: meta.labels.unwrap_or_default(),
        annotations,
        containers: spec.containers.clone(),
        namespace,
    })
}

/// `linkerd.io/inject` of the pod, else of its namespace.
fn is_injected(
    annotations: &BTreeMap<String, String>,
    namespace: &str,
    objects: &[Object],
) -> bool {
    const INJECT: &str = "linkerd.io/inject";
    let of_namespace = objects.iter().find_map(|object| match object {
        Object::Namespace(found) if found.metadata.name.as_deref() == Some(namespace) => {
            found.metadata.annotations.as_ref()?.get(INJECT).cloned()
        }
        _ => None,
    });
    let inject = annotations.get(INJECT).cloned().or(of_namespace);
    inject.as_deref() == Some("enabled")
}

impl PodPlan {
    /// Whom its token is for, where an annotation says that it is not for the mesh.
    pub(in crate::world) fn token_audience(&self) -> Option<&str> {
        self.annotations.get("simulated/token-audience").map(String::as_str)
    }

    /// Variables of its proxy that annotations set: `simulated/LINKERD2_PROXY_…`.
    pub(in crate::world) fn proxy_variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let set = self.annotations.iter();
        set.filter_map(|(name, value)| {
            let name = name.strip_prefix("simulated/")?;
            name.starts_with("LINKERD2_PROXY_").then_some((name, value.as_str()))
        })
    }

    /// What its proxy does before it knows a policy, where its annotations say so.
    pub(in crate::world) fn default_inbound_policy(&self) -> Option<&str> {
        self.annotations.get("config.linkerd.io/default-inbound-policy").map(String::as_str)
    }

    /// The pod as the cluster shows it.
    pub(in crate::world) fn object(&self, condition: Condition, start: WallTime) -> Object {
        let mut labels = self.labels.clone();
        labels.insert("pod-template-hash".to_owned(), self.revision.clone());
        let mut containers = self.containers.clone();
        if self.meshed {
            let plane = "linkerd.io/control-plane-ns".to_owned();
            labels.insert(plane, CONTROL_NAMESPACE.to_owned());
            containers.insert(0, proxy_container());
        }
        let owner = OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: if self.stable { "StatefulSet" } else { "ReplicaSet" }.to_owned(),
            name: match self.stable {
                true => self.deployment.clone(),
                false => format!("{}-{}", self.deployment, self.revision),
            },
            controller: Some(true),
            ..OwnerReference::default()
        };
        let ready = PodCondition {
            type_: "Ready".to_owned(),
            status: if condition.ready { "True" } else { "False" }.to_owned(),
            ..PodCondition::default()
        };
        let status = PodStatus {
            phase: Some(if condition.started { "Running" } else { "Pending" }.to_owned()),
            pod_ip: condition.started.then(|| self.ip.to_string()),
            pod_ips: condition.started.then(|| vec![PodIP { ip: self.ip.to_string() }]),
            conditions: Some(vec![ready]),
            ..PodStatus::default()
        };
        Object::from(Pod {
            metadata: ObjectMeta {
                name: Some(self.name.to_string()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels),
                annotations: Some(self.annotations.clone()),
                owner_references: Some(vec![owner]),
                deletion_timestamp: condition.deleted.map(|at| time(start, at + self.grace)),
                deletion_grace_period_seconds: condition
                    .deleted
                    .and_then(|_| i64::try_from(self.grace.as_secs()).ok()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                service_account_name: Some(self.account.clone()),
                node_name: Some(self.node.clone()),
                containers,
                ..PodSpec::default()
            }),
            status: Some(status),
        })
    }

    pub(in crate::world) fn is_selected(&self, service: &Service) -> bool {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| {
            let has = |(key, value): (&String, &String)| self.labels.get(key) == Some(value);
            service.metadata.namespace.as_ref() == Some(&self.namespace)
                && !selector.is_empty()
                && selector.iter().all(has)
        })
    }

    /// The port that a service's port means here.
    pub(in crate::world) fn target(&self, port: &ServicePort) -> Option<u16> {
        let declared = || self.containers.iter().flat_map(|c| c.ports.iter().flatten());
        let number = match &port.target_port {
            None => port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(name)) => {
                let named = declared().find(|p| p.name.as_ref() == Some(name));
                named?.container_port
            }
        };
        u16::try_from(number).ok()
    }
}

/// What Kubernetes calls a template's hash.
fn revision(template: &PodTemplateSpec) -> String {
    let text = serde_json::to_string(template).unwrap_or_default();
    let digest = Sha256::digest(text.as_bytes());
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn time(start: WallTime, at: Timestamp) -> Time {
    let wall = start + at.since(Timestamp::ZERO);
    let seconds = i64::try_from(wall.as_unix_secs()).unwrap_or(i64::MAX);
    Time(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap_or_default())
}

/// The container that the injector adds, as far as a control plane reads it.
fn proxy_container() -> Container {
    let variable = |name: &str, port: u16| EnvVar {
        name: format!("LINKERD2_PROXY_{name}_LISTEN_ADDR"),
        value: Some(format!("0.0.0.0:{port}")),
        ..EnvVar::default()
    };
    Container {
        name: "linkerd-proxy".to_owned(),
        env: Some(vec![
            variable("INBOUND", 4143),
            variable("ADMIN", 4191),
            variable("CONTROL", 4190),
            EnvVar {
                name: "LINKERD2_PROXY_TAP_SVC_NAME".to_owned(),
                value: Some(mesh::tap_service()),
                ..EnvVar::default()
            },
        ]),
        ..Container::default()
    }
}
