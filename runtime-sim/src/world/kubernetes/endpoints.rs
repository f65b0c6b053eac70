//! EndpointSlices as their controller writes them, and what kube-proxy and DNS make of them.
//!
//! Law: the ready endpoints of a service's slices are exactly the ready pods that it selects, each
//! once; a pod that is being deleted is never ready, and serving as long as its probes succeed. Slices
//! hold a hundred endpoints at most and change as little as can be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use mesh_core::resource::{Kind, Object, ObjectRef, Service};

use super::plan::{Condition, PodPlan};
use crate::cluster::ApiServer;
use crate::topology::DnsAnswer;

/// Endpoints of a slice, as Kubernetes has it.
const SLICE_ENDPOINTS_MAX: usize = 100;
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// Which endpoints are in which slice of a service, so that they stay there.
#[derive(Debug, Default)]
pub(super) struct Slices {
    made: u32,
    slices: BTreeMap<u32, Slice>,
}

#[derive(Debug, Default)]
struct Slice {
    /// What the service's ports are on its pods.
    ports: Vec<Option<u16>>,
    pods: BTreeSet<Arc<str>>,
}

/// What the network knows of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::world) enum ServiceFact {
    /// What its name, or that of an instance, resolves to.
    Name(String, DnsAnswer),
    /// Where connections to its address go.
    VirtualAddress(SocketAddr, Vec<SocketAddr>),
}

impl ServiceFact {
    /// Whether both tell of the same name or address.
    pub(super) fn is_about_what(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one, _), Self::Name(other, _)) => one == other,
            (Self::VirtualAddress(one, _), Self::VirtualAddress(other, _)) => one == other,
            _ => false,
        }
    }

    /// That the name or address leads nowhere any more.
    pub(super) fn withdrawn(&self) -> Self {
        match self {
            Self::Name(name, _) => Self::Name(name.clone(), DnsAnswer::NotFound),
            Self::VirtualAddress(at, _) => Self::VirtualAddress(*at, Vec::new()),
        }
    }
}

impl Slices {
    /// Writes a service's slices anew where they differ.
    pub(super) fn write(
        &mut self,
        api: &ApiServer,
        service: &Service,
        pods: &[(&PodPlan, Condition)],
    ) {
        let ports_of = |pod: &PodPlan| -> Vec<Option<u16>> {
            let spec = service.spec.as_ref();
            let ports = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
            ports.map(|port| pod.target(port)).collect()
        };
        let by_name: BTreeMap<_, _> = pods.iter().map(|pod| (pod.0.name.clone(), pod)).collect();
        for slice in self.slices.values_mut() {
            let Slice { ports, pods } = slice;
            pods.retain(|name| by_name.get(name).is_some_and(|pod| ports_of(pod.0) == *ports));
        }
        let placed: BTreeSet<_> =
            self.slices.values().flat_map(|slice| slice.pods.iter().cloned()).collect();
        for (name, (plan, _)) in by_name.iter().filter(|(name, _)| !placed.contains(*name)) {
            self.place(name.clone(), ports_of(plan));
        }
        if self.slices.is_empty() {
            let none = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
            self.open(none.map_or_else(Vec::new, |ports| vec![None; ports.len()]));
        }
        let last = self.slices.keys().next().copied();
        let empty =
            |number: &u32, slice: &mut Slice| slice.pods.is_empty() && Some(*number) != last;
        let gone: Vec<_> = self.slices.extract_if(.., empty).map(|(number, _)| number).collect();
        for (number, slice) in &self.slices {
            let endpoints = slice.pods.iter().map(|name| endpoint(service, by_name[name]));
            api.apply(object(service, *number, &slice.ports, endpoints.collect()));
        }
        for number in gone {
            api.delete(&slice_ref(service, number));
        }
    }

    /// Removes what was written for a service that is gone.
    pub(super) fn remove(&self, api: &ApiServer, service: &ObjectRef) {
        for number in self.slices.keys() {
            let name = format!("{}-{number}", service.name);
            let namespace = service.namespace.clone();
            api.delete(&ObjectRef { kind: Kind::EndpointSlice, namespace, name });
        }
    }

    fn place(&mut self, pod: Arc<str>, ports: Vec<Option<u16>>) {
        let fits = |slice: &&mut Slice| {
            (slice.ports == ports || slice.pods.is_empty())
                && slice.pods.len() < SLICE_ENDPOINTS_MAX
        };
        let slice = match self.slices.values_mut().find(fits) {
            Some(slice) => slice,
            None => self.open(ports.clone()),
        };
        slice.ports = ports;
        slice.pods.insert(pod);
    }

    fn open(&mut self, ports: Vec<Option<u16>>) -> &mut Slice {
        self.made += 1;
        self.slices.entry(self.made).or_insert(Slice { ports, pods: BTreeSet::new() })
    }
}

fn endpoint(service: &Service, (pod, condition): &(&PodPlan, Condition)) -> Endpoint {
    let spec = service.spec.as_ref();
    let publishes = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let stays_near =
        spec.and_then(|s| s.traffic_distribution.as_deref()).is_some_and(|d| d == "PreferClose");
    let terminating = condition.deleted.is_some();
    let hints = pod.zone.clone().filter(|_| stays_near).map(|name| EndpointHints {
        for_zones: Some(vec![ForZone { name }]),
        ..EndpointHints::default()
    });
    Endpoint {
        addresses: vec![pod.ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(publishes || condition.ready && !terminating),
            serving: Some(publishes || condition.ready),
            terminating: Some(terminating),
        }),
        hostname: pod.stable.then(|| pod.name.to_string()),
        node_name: Some(pod.node.clone()),
        zone: pod.zone.clone(),
        hints,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.to_string()),
            namespace: Some(pod.namespace.clone()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn slice_ref(service: &Service, number: u32) -> ObjectRef {
    let (name, namespace) = names(service);
    ObjectRef { kind: Kind::EndpointSlice, namespace, name: format!("{name}-{number}") }
}

fn object(
    service: &Service,
    number: u32,
    ports: &[Option<u16>],
    endpoints: Vec<Endpoint>,
) -> Object {
    let (name, _) = names(service);
    let ObjectRef { namespace, name: slice, .. } = slice_ref(service, number);
    let spec = service.spec.as_ref();
    let of_service = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
    let ports = of_service.zip(ports).map(|(port, number)| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: number.map(i32::from),
        protocol: Some("TCP".to_owned()),
        app_protocol: port.app_protocol.clone(),
    });
    let labels = [(SERVICE_NAME, name.as_str()), (MANAGED_BY, CONTROLLER)];
    let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
    Object::from(EndpointSlice {
        metadata: ObjectMeta {
            name: Some(slice),
            namespace: Some(namespace),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints,
        ports: Some(ports.collect()),
    })
}

/// What kube-proxy and DNS make of a service and its slices.
pub(super) fn facts(api: &ApiServer, service: &Service) -> Vec<ServiceFact> {
    let (name, namespace) = names(service);
    let full = format!("{name}.{namespace}.svc.cluster.local");
    let spec = service.spec.clone().unwrap_or_default();
    if let Some(external) = spec.external_name {
        return vec![ServiceFact::Name(full, alias(api, &external))];
    }
    let slices = slices_of(api, &name, &namespace);
    let mut facts = Vec::new();
    let address = spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
    let Some(address) = address else {
        let all = slices.iter().flat_map(|slice| &slice.endpoints).filter(|e| is_ready(e));
        let mut addresses = Vec::new();
        for endpoint in all {
            let ip = endpoint.addresses.first().and_then(|ip| ip.parse().ok());
            addresses.extend(ip);
            if let (Some(hostname), Some(ip)) = (&endpoint.hostname, ip) {
                let instance = format!("{hostname}.{full}");
                facts.push(ServiceFact::Name(instance, DnsAnswer::Addresses(vec![ip])));
            }
        }
        let answer = match addresses.is_empty() {
            true => DnsAnswer::NotFound,
            false => DnsAnswer::Addresses(addresses),
        };
        facts.push(ServiceFact::Name(full, answer));
        return facts;
    };
    facts.push(ServiceFact::Name(full, DnsAnswer::Addresses(vec![address])));
    for port in spec.ports.iter().flatten() {
        let Ok(number) = u16::try_from(port.port) else {
            continue;
        };
        let endpoints = endpoints_of(&slices, port.name.as_deref().unwrap_or_default());
        facts.push(ServiceFact::VirtualAddress(SocketAddr::new(address, number), endpoints));
    }
    facts
}

/// Where an ExternalName leads: to another service's name as far as that has an address.
fn alias(api: &ApiServer, external: &str) -> DnsAnswer {
    let other = api.list(Kind::Service).into_iter().find_map(|object| match object {
        Object::Service(service) => {
            let (name, namespace) = names(&service);
            let full = format!("{name}.{namespace}.svc.cluster.local");
            (full == external).then_some(service)
        }
        _ => None,
    });
    let is_external =
        |service: &Service| service.spec.as_ref().is_some_and(|spec| spec.external_name.is_some());
    let other = other.filter(|service| !is_external(service));
    let facts = other.map(|service| facts(api, &service)).unwrap_or_default();
    let name = facts.into_iter().rev().find_map(|fact| match fact {
        ServiceFact::Name(name, answer) if name == external => Some(answer),
        _ => None,
    });
    name.or_else(|| external.parse().ok().map(|ip| DnsAnswer::Addresses(vec![ip])))
        .unwrap_or(DnsAnswer::NotFound)
}

/// The ready endpoints of a port; where none is, those that end and still serve, as kube-proxy.
fn endpoints_of(slices: &[Arc<EndpointSlice>], port: &str) -> Vec<SocketAddr> {
    let of = |wanted: &dyn Fn(&Endpoint) -> bool| {
        let mut found = Vec::new();
        for slice in slices {
            let ports = slice.ports.iter().flatten();
            let mut ports = ports.filter(|p| p.name.as_deref().unwrap_or_default() == port);
            let Some(number) = ports.next().and_then(|p| u16::try_from(p.port?).ok()) else {
                continue;
            };
            let ips = slice.endpoints.iter().filter(|e| wanted(e)).filter_map(|endpoint| {
                endpoint.addresses.first().and_then(|ip| ip.parse::<IpAddr>().ok())
            });
            found.extend(ips.map(|ip| SocketAddr::new(ip, number)));
        }
        found
    };
    let ready = of(&is_ready);
    match ready.is_empty() {
        true => of(&|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.is_some_and(|c| c.serving == Some(true) && c.terminating == Some(true))
        }),
        false => ready,
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false))
}

fn slices_of(api: &ApiServer, name: &str, namespace: &str) -> Vec<Arc<EndpointSlice>> {
    let slices = api.list(Kind::EndpointSlice).into_iter().filter_map(|object| match object {
        Object::EndpointSlice(slice) => Some(slice),
        _ => None,
    });
    let is_of = |slice: &Arc<EndpointSlice>| {
        let labels = slice.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(SERVICE_NAME)).is_some_and(|of| of == name)
            && slice.metadata.namespace.as_deref() == Some(namespace)
    };
    slices.filter(is_of).collect()
}

pub(super) fn names(service: &Service) -> (String, String) {
    let meta = &service.metadata;
    let name = meta.name.clone().unwrap_or_default();
    (name, meta.namespace.clone().unwrap_or_default())
}
