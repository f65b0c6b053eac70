//! Compiles the endpoints of a service, and what has to be sent when they change.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::server::Refusal;
use crate::control::index::{Instance, ServiceRef, View};
use crate::control::names::{self, ServiceName};
use crate::control::protocol;
use crate::model::endpoint::{Endpoint, EndpointUpdate, ProtocolHint};
use crate::model::identity::{DnsName, Identity, ServerTls};
use crate::model::labels::Labels;
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::target::NameAddr;
use crate::resource::Service;

use super::place::{Place, Placed, Placement};

/// Linkerd's control plane gives every endpoint this weight.
const WEIGHT: u32 = 10_000;

/// The endpoints of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    /// Labels of all of them.
    pub labels: Labels,
    /// By address.
    pub endpoints: BTreeMap<SocketAddr, Endpoint>,
    /// Whether the service exists.
    pub exists: bool,
}

impl EndpointSet {
    /// What turns `sent` into this, for a client who has it. For one who has nothing yet there is
    /// always something to say.
    pub fn updates_since(&self, sent: Option<&Self>) -> Vec<EndpointUpdate> {
        let nothing = Self::default();
        let before = sent.unwrap_or(&nothing);
        let relabelled = self.labels != before.labels;
        let mut updates = Vec::new();
        if self.endpoints.is_empty() {
            let exists = self.exists;
            let is_news = sent.is_none() || !before.endpoints.is_empty() || before.exists != exists;
            updates.extend(is_news.then_some(EndpointUpdate::NoEndpoints { exists }));
            return updates;
        }
        let is_news = |(address, endpoint): &(&SocketAddr, &Endpoint)| {
            relabelled || before.endpoints.get(*address) != Some(*endpoint)
        };
        let news = self.endpoints.iter().filter(is_news);
        let endpoints: Vec<_> = news.map(|(_, endpoint)| endpoint.clone()).collect();
        // First those that come, so that a client never has fewer than both sets share.
        let late = planted!("added-endpoint-ignored") && !before.endpoints.is_empty();
        if !endpoints.is_empty() && !late {
            updates.push(EndpointUpdate::Add { endpoints, labels: self.labels.clone() });
        }
        let gone = before.endpoints.keys();
        let gone: Vec<_> =
            gone.filter(|address| !self.endpoints.contains_key(address)).copied().collect();
        if !gone.is_empty() {
            updates.push(EndpointUpdate::Remove(gone));
        }
        updates
    }
}

/// The endpoints of `path`, and where they are.
///
/// # Errors
/// [`Refusal::InvalidArgument`] for addresses, [`Refusal::NotFound`] for names that are not the
/// cluster's. A service that does not exist has no endpoints, until it does.
pub fn compile(view: &View<'_>, path: &NameAddr) -> Result<Placed, Refusal> {
    if path.as_address().is_some() {
        let reason = format!("{path} is an address, which has no endpoints");
        return Err(Refusal::InvalidArgument(reason));
    }
    let Some(name) = names::parse_full(view.mesh, path.host()) else {
        let reason = format!("{} is not a service of this cluster", path.host());
        return Err(Refusal::NotFound(reason));
    };
    let ServiceName { service, instance } = &name;
    let Some(found) = view.service(&service.namespace, &service.name) else {
        return Ok(Placed::default());
    };
    let spec = found.spec.as_ref();
    let mut ports = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
    let port = ports.find(|port| port.port == i32::from(path.port()));
    let is_local = spec.and_then(|spec| spec.internal_traffic_policy.as_deref()) == Some("Local");
    let mut set = EndpointSet {
        labels: [("namespace", service.namespace.as_str()), ("service", service.name.as_str())]
            .into_iter()
            .collect(),
        endpoints: BTreeMap::new(),
        exists: true,
    };
    let reader = Reader { view, service, path, port, instance: instance.as_deref() };
    let mut placements = reader.read_slices(&mut set);
    reader.read_workloads(&mut set);
    reader.read_external_workloads(found, &mut set);
    keep_one_family(&mut set, view.mesh.prefer_ipv6);
    placements.retain(|address, _| set.endpoints.contains_key(address));
    Ok(Placed::new(set, placements, is_local))
}

/// How many instances of a service are not ready, and so are no endpoints of it.
pub(in crate::control) fn not_ready(view: &View<'_>, path: &NameAddr) -> usize {
    let Some(ServiceName { service, .. }) = names::parse_full(view.mesh, path.host()) else {
        return 0;
    };
    let waits = |endpoint: &&SliceEndpoint| {
        endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(false))
    };
    let slices = view.slices(&service).flat_map(|slice| &slice.endpoints);
    let workloads = view.workloads(&service);
    slices.filter(waits).count()
        + workloads.filter(|workload| workload.spec.ready == Some(false)).count()
}

struct Reader<'a, 'v> {
    view: &'a View<'v>,
    service: &'a ServiceRef,
    path: &'a NameAddr,
    /// `None` where the service does not have the port that is asked for.
    port: Option<&'a ServicePort>,
    /// Only this one.
    instance: Option<&'a str>,
}

/// Where endpoints are.
type Placements = BTreeMap<SocketAddr, Placement>;

impl Reader<'_, '_> {
    fn read_slices(&self, set: &mut EndpointSet) -> Placements {
        let slices: Vec<_> = self.view.slices(self.service).collect();
        let ready = |endpoint: &SliceEndpoint| {
            let conditions = endpoint.conditions.as_ref();
            planted!("terminating-endpoint-kept")
                || conditions.is_none_or(|conditions| conditions.ready != Some(false))
        };
        // As kube-proxy does: while none is ready, those that end but still serve are better.
        let ending = |endpoint: &SliceEndpoint| {
            endpoint.conditions.as_ref().is_some_and(|conditions| {
                conditions.serving == Some(true) && conditions.terminating == Some(true)
            })
        };
        let placements = self.read_endpoints(&slices, ready, set);
        match set.endpoints.is_empty() {
            true => self.read_endpoints(&slices, ending, set),
            false => placements,
        }
    }

    fn read_endpoints(
        &self,
        slices: &[&EndpointSlice],
        takes_traffic: impl Fn(&SliceEndpoint) -> bool,
        set: &mut EndpointSet,
    ) -> Placements {
        let mut placements = Placements::new();
        for slice in slices {
            let Some(port) = self.slice_port(slice) else {
                continue;
            };
            let endpoints = slice.endpoints.iter().filter(|endpoint| takes_traffic(endpoint));
            for endpoint in endpoints.filter(|endpoint| self.is_wanted(endpoint)) {
                for ip in endpoint.addresses.iter().filter_map(|ip| ip.parse().ok()) {
                    let address = SocketAddr::new(ip, port);
                    if let Some(compiled) = self.of_slice(slice, endpoint, address) {
                        set.endpoints.insert(address, compiled);
                        placements
                            .extend(placement(endpoint).map(|placement| (address, placement)));
                    }
                }
            }
        }
        placements
    }

    /// The port of a slice's endpoints: the one named as the service's port is.
    fn slice_port(&self, slice: &EndpointSlice) -> Option<u16> {
        let port = self.port?;
        let name = |name: Option<&String>| name.map(String::as_str).unwrap_or_default().to_string();
        let wanted = name(port.name.as_ref());
        let mut ports = slice.ports.iter().flatten();
        let found = ports.find(|found| name(found.name.as_ref()) == wanted)?;
        u16::try_from(found.port?).ok()
    }

    fn is_wanted(&self, endpoint: &SliceEndpoint) -> bool {
        self.instance.is_none_or(|instance| endpoint.hostname.as_deref() == Some(instance))
    }

    /// None for an endpoint that is of an instance which is not known (yet, or any more): whether it is
    /// meshed, and who it is, is not known either, and it would be spoken to in the clear.
    fn of_slice(
        &self,
        slice: &EndpointSlice,
        endpoint: &SliceEndpoint,
        address: SocketAddr,
    ) -> Option<Endpoint> {
        let target = endpoint.target_ref.as_ref().filter(|target| {
            matches!(target.kind.as_deref(), Some("Pod" | "Workload" | "ExternalWorkload"))
        });
        let mut compiled = match target {
            Some(target) => {
                let namespace = target.namespace.as_deref();
                let namespace = namespace.or(slice.metadata.namespace.as_deref());
                let instance = self.view.instance(namespace?, target.name.as_deref()?)?;
                of_instance(self.view, instance, address, address.port())
            }
            None => Endpoint { weight: WEIGHT, ..Endpoint::new(address) },
        };
        if let Some(zone) = endpoint.zone.as_deref() {
            compiled.labels = compiled.labels.extended(&[("zone", zone)].into_iter().collect());
        }
        Some(compiled)
    }

    fn read_workloads(&self, set: &mut EndpointSet) {
        for workload in self.view.workloads(self.service) {
            let instance = Instance::Workload(workload);
            let wanted = self.instance.is_none_or(|wanted| instance.name() == wanted);
            if workload.spec.ready == Some(false) || !wanted {
                continue;
            }
            let Some(port) = self.instance_port(instance) else {
                continue;
            };
            let addresses = workload.spec.addresses.iter();
            for ip in addresses.filter_map(|ip| ip.parse::<IpAddr>().ok()) {
                let address = SocketAddr::new(ip, port);
                let compiled = of_instance(self.view, instance, address, port);
                set.endpoints.insert(address, compiled);
            }
        }
    }

    /// External workloads that the service selects by their labels. Those that a slice has as well
    /// are the same endpoints.
    fn read_external_workloads(&self, service: &'_ Service, set: &mut EndpointSet) {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
            return;
        };
        for workload in self.view.external_workloads(&self.service.namespace) {
            let instance = Instance::External(workload);
            let mut labels = selector.iter();
            let selected = labels.all(|(name, value)| instance.label(name) == Some(value.as_str()));
            let wanted = self.instance.is_none_or(|wanted| instance.name() == wanted);
            if !selected || !wanted || !workload.is_ready() {
                continue;
            }
            let Some(port) = self.instance_port(instance) else {
                continue;
            };
            let ips = workload.spec.workload_ips.iter().flatten();
            for ip in ips.filter_map(|ip| ip.ip.parse::<IpAddr>().ok()) {
                let address = SocketAddr::new(ip, port);
                let compiled = of_instance(self.view, instance, address, port);
                set.endpoints.insert(address, compiled);
            }
        }
    }

    /// The instance's port behind the service's: by `targetPort`, or the same number.
    fn instance_port(&self, instance: Instance<'_>) -> Option<u16> {
        match self.port?.target_port.as_ref() {
            Some(IntOrString::Int(port)) => u16::try_from(*port).ok(),
            Some(IntOrString::String(name)) => instance.port_named(name),
            None => Some(self.path.port()),
        }
    }
}

/// Where an endpoint is; none where its slice does not say.
fn placement(endpoint: &SliceEndpoint) -> Option<Placement> {
    let zones = endpoint.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
    let placement = Placement {
        place: Place {
            node: endpoint.node_name.clone().unwrap_or_default(),
            zone: endpoint.zone.clone().unwrap_or_default(),
        },
        for_zones: zones.map(|zone| zone.name.clone()).collect(),
    };
    (placement != Placement::default()).then_some(placement)
}

/// An instance that has addresses of both families is one endpoint, not two.
fn keep_one_family(set: &mut EndpointSet, prefer_ipv6: bool) {
    let mut families: BTreeMap<Metadata, [bool; 2]> = BTreeMap::new();
    for (address, endpoint) in &set.endpoints {
        if let Some(resource) = &endpoint.resource {
            let has = families.entry(resource.clone()).or_default();
            has[usize::from(address.is_ipv6())] = true;
        }
    }
    set.endpoints.retain(|address, endpoint| {
        let has = endpoint.resource.as_ref().and_then(|resource| families.get(resource));
        has != Some(&[true, true]) || address.is_ipv6() == prefer_ipv6
    });
}

/// An instance as an endpoint at `address`: one of its own, or one of its host's that leads to
/// `port` of it.
pub fn of_instance(
    view: &View<'_>,
    instance: Instance<'_>,
    address: SocketAddr,
    port: u16,
) -> Endpoint {
    let is_meshed = instance.is_meshed(&view.mesh.control_namespace)
        && !protocol::skips_proxy(view, instance, port);
    let is_opaque = protocol::is_opaque(view, instance, port);
    let tls = is_meshed.then(|| identity(view, instance)).flatten();
    // Its host's address leads to that one port, and not to its proxy's.
    let takes_header = tls.is_some()
        && (view.mesh.transport_header || is_opaque)
        && !instance.is_proxy_port(port)
        && !instance.is_behind(address.ip());
    Endpoint {
        weight: WEIGHT,
        labels: labels(view, instance),
        protocol_hint: match (is_opaque, is_meshed && view.mesh.http2_upgrade) {
            (true, _) => ProtocolHint::Opaque,
            (false, true) => ProtocolHint::Http2,
            (false, false) => ProtocolHint::Unknown,
        },
        inbound_port: takes_header
            .then(|| instance.inbound_port())
            .flatten()
            .and_then(NonZeroU16::new),
        http2: tls.is_some().then(|| view.mesh.http2_client.clone()).flatten(),
        tls,
        resource: Some(Metadata::new_resource(ResourceRef {
            group: match instance {
                Instance::Pod(_) => "core",
                Instance::Workload(_) => "workload.weft.sh",
                Instance::External(_) => "workload.linkerd.io",
            }
            .to_string(),
            kind: match instance {
                Instance::Pod(_) => "Pod",
                Instance::Workload(_) => "Workload",
                Instance::External(_) => "ExternalWorkload",
            }
            .to_string(),
            name: instance.name().to_string(),
            namespace: instance.namespace().to_string(),
            ..ResourceRef::default()
        })),
        ..Endpoint::new(address)
    }
}

/// Who an instance is that has a proxy.
pub(in crate::control) fn identity(view: &View<'_>, instance: Instance<'_>) -> Option<ServerTls> {
    if let Instance::External(workload) = instance {
        let tls = &workload.spec.mesh_tls;
        return Some(ServerTls {
            server_name: DnsName::new(&tls.server_name).ok()?,
            identity: Identity::new(&tls.identity).ok()?,
        });
    }
    let name = view.mesh.identity(instance.namespace(), instance.service_account());
    match name.ok()? {
        Identity::Dns(name) => {
            Some(ServerTls { server_name: name.clone(), identity: Identity::Dns(name) })
        }
        Identity::Uri(_) => None,
    }
}

/// Metric labels, as Linkerd names them; the proxy prefixes them with `dst_`.
fn labels(view: &View<'_>, instance: Instance<'_>) -> Labels {
    let mut labels = BTreeMap::new();
    if let Instance::Workload(workload) = instance {
        labels.extend(workload.spec.labels.clone());
        // What instances of a service have in common is all that is known of who made them.
        if let Some(service) = &workload.spec.service {
            let made_by = labels.entry("deployment".to_string());
            made_by.or_insert_with(|| service.clone());
        }
    }
    let mut put = |name: &str, value: &str| labels.insert(name.to_string(), value.to_string());
    if !matches!(instance, Instance::External(_)) {
        put("pod", instance.name());
    }
    put("namespace", instance.namespace());
    match instance {
        // It has no account: its identity is its own.
        Instance::External(_) => put("external_workload", instance.name()),
        _ => put("serviceaccount", instance.service_account()),
    };
    if let Some(control) = instance.control_namespace(&view.mesh.control_namespace) {
        put("control_plane_ns", control);
    }
    if let Some(hash) = instance.label("pod-template-hash") {
        put("pod_template_hash", hash);
    }
    if let Some((kind, name)) = view.owner(instance) {
        put(&kind, &name);
    }
    Labels::from(labels)
}
