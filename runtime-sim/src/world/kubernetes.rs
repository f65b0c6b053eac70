//! What a cluster's own controllers do: deployments become pods, services get addresses and
//! endpoints, and pods that are to be meshed look as the injector leaves them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, ObjectReference, Pod, PodCondition, PodIP, PodSpec, PodStatus, ServicePort,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use mesh_core::resource::{Kind, Object, Service};

use crate::cluster::ApiServer;
use crate::topology::DnsAnswer;

use super::programs::{Conduct, Program};
use super::simulator::Simulator;

/// The namespace of the simulated control plane.
pub(super) const CONTROL_NAMESPACE: &str = "linkerd";
const TEMPLATE_HASH: &str = "simulated";

/// A pod that is to run.
#[derive(Clone, Debug)]
pub(super) struct PodPlan {
    pub(super) name: Arc<str>,
    pub(super) namespace: String,
    pub(super) ip: IpAddr,
    pub(super) account: String,
    pub(super) meshed: bool,
    pub(super) program: Program,
    /// Where its program listens.
    pub(super) port: u16,
    /// How its program behaves.
    pub(super) conduct: Conduct,
    /// Its `preStop` sleep: it goes on for so long after it is deleted.
    pub(super) pre_stop: Duration,
    pub(super) deployment: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    containers: Vec<Container>,
}

/// The pods of deployments, with addresses 10.1.0.1 and on. What is wrong with a deployment is told
/// in words.
pub(super) fn plan(deployments: &[Deployment], objects: &[Object]) -> Result<Vec<PodPlan>, String> {
    let mut pods = Vec::new();
    for deployment in deployments {
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        for index in 0..replicas {
            let number = pods.len() as u32 + 1;
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 0)) + number);
            pods.push(plan_pod(deployment, index, ip.into(), objects)?);
        }
    }
    Ok(pods)
}

fn plan_pod(
    deployment: &Deployment,
    index: i32,
    ip: IpAddr,
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
    let variables = variables.filter_map(|v| Some((v.name.as_str(), v.value.as_deref()?)));
    let conduct = Conduct::from_env(variables).map_err(|error| fault(&error))?;
    let namespace = deployment.metadata.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let annotations = meta.annotations.unwrap_or_default();
    let pre_stop = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()?.sleep.as_ref());
    let pre_stop = pre_stop.and_then(|sleep| u64::try_from(sleep.seconds).ok());
    Ok(PodPlan {
        pre_stop: Duration::from_secs(pre_stop.unwrap_or(0)),
        name: format!("{name}-{index}").into(),
        ip,
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
    /// The pod as the cluster shows it.
    pub(super) fn object(&self) -> Object {
        let mut labels = self.labels.clone();
        labels.insert("pod-template-hash".to_owned(), TEMPLATE_HASH.to_owned());
        let mut containers = self.containers.clone();
        if self.meshed {
            let plane = "linkerd.io/control-plane-ns".to_owned();
            labels.insert(plane, CONTROL_NAMESPACE.to_owned());
            containers.insert(0, proxy_container());
        }
        let owner = OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: format!("{}-{TEMPLATE_HASH}", self.deployment),
            controller: Some(true),
            ..OwnerReference::default()
        };
        let ready = PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            ..PodCondition::default()
        };
        let status = PodStatus {
            phase: Some("Running".to_owned()),
            pod_ip: Some(self.ip.to_string()),
            pod_ips: Some(vec![PodIP { ip: self.ip.to_string() }]),
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
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                service_account_name: Some(self.account.clone()),
                containers,
                ..PodSpec::default()
            }),
            status: Some(status),
        })
    }

    fn is_selected(&self, service: &Service) -> bool {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| {
            let has = |(key, value): (&String, &String)| self.labels.get(key) == Some(value);
            service.metadata.namespace.as_ref() == Some(&self.namespace)
                && !selector.is_empty()
                && selector.iter().all(has)
        })
    }

    /// The port that a service's port means here.
    fn target(&self, port: &ServicePort) -> Option<u16> {
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
        ]),
        ..Container::default()
    }
}

/// Gives each service that has none an address, 10.96.0.1 and on.
pub(super) fn with_addresses(objects: Vec<Object>) -> Vec<Object> {
    let mut number = 0;
    let address = |object| match object {
        Object::Service(service) => {
            let mut service = Arc::unwrap_or_clone(service);
            let spec = service.spec.get_or_insert_default();
            if spec.cluster_ip.is_none() {
                number += 1;
                spec.cluster_ip = Some(format!("10.96.0.{number}"));
            }
            Object::from(service)
        }
        other => other,
    };
    objects.into_iter().map(address).collect()
}

/// Writes the endpoints of every service, its name, and its address's endpoints.
pub(super) fn sync_endpoints<'a>(
    api: &ApiServer,
    simulator: &dyn Simulator,
    pods: impl Iterator<Item = &'a PodPlan> + Clone,
) {
    for object in api.list(Kind::Service) {
        let Object::Service(service) = object else {
            continue;
        };
        let selected: Vec<_> = pods.clone().filter(|pod| pod.is_selected(&service)).collect();
        api.apply(endpoint_slice(&service, &selected));
        let spec = service.spec.clone().unwrap_or_default();
        let address = spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
        let (name, namespace) = names(&service);
        let answer = match address {
            Some(address) => vec![address],
            None => selected.iter().map(|pod| pod.ip).collect(),
        };
        let name = format!("{name}.{namespace}.svc.cluster.local");
        simulator.set_name(&name, DnsAnswer::Addresses(answer));
        let Some(address) = address else { continue };
        for port in spec.ports.iter().flatten() {
            let Ok(number) = u16::try_from(port.port) else {
                continue;
            };
            let endpoint = |pod: &&PodPlan| Some(SocketAddr::new(pod.ip, pod.target(port)?));
            let endpoints = selected.iter().filter_map(endpoint).collect();
            simulator.set_virtual_address(SocketAddr::new(address, number), endpoints);
        }
    }
}

fn names(service: &Service) -> (String, String) {
    let meta = &service.metadata;
    let name = meta.name.clone().unwrap_or_default();
    (name, meta.namespace.clone().unwrap_or_default())
}

fn endpoint_slice(service: &Service, pods: &[&PodPlan]) -> Object {
    let (name, namespace) = names(service);
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        // Pods of one service that name different ports would be slices of their own.
        port: pods.first().and_then(|pod| pod.target(port)).map(i32::from),
        protocol: Some("TCP".to_owned()),
        app_protocol: port.app_protocol.clone(),
    });
    let endpoints = pods.iter().map(|pod| Endpoint {
        addresses: vec![pod.ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.to_string()),
            namespace: Some(pod.namespace.clone()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    });
    let label = ("kubernetes.io/service-name".to_owned(), name.clone());
    Object::from(EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{TEMPLATE_HASH}")),
            namespace: Some(namespace),
            labels: Some([label].into()),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: endpoints.collect(),
        ports: Some(ports.collect()),
    })
}
