//! What a port speaks, as far as objects say: annotations, `appProtocol`, Servers, default lists.

use k8s_openapi::api::core::v1::{Service, ServicePort};

use crate::resource::check::{OPAQUE_PORTS, SKIP_INBOUND_PORTS};
use crate::resource::policy::ProxyProtocol;
use crate::resource::ports::PortSet;

use super::index::{Instance, View};
use super::select::server_of;

/// What a service's port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortProtocol {
    /// Nothing is said.
    Detect,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Bytes.
    Opaque,
}

/// What says what a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// Nothing does.
    NothingSaid,
    /// The object's own `opaque-ports` annotation.
    OwnAnnotation,
    /// Its namespace's.
    NamespaceAnnotation,
    /// The port's `appProtocol`.
    AppProtocol,
    /// The mesh's list of opaque ports.
    DefaultList,
    /// The Server that selects it.
    Server,
}

/// What a port of a service speaks: its opaque-ports annotation (or, where it has none, its
/// namespace's) before `appProtocol`, and that before the default list.
pub(super) fn of_service_port(
    view: &View<'_>,
    service: &Service,
    port: &ServicePort,
) -> PortProtocol {
    service_port_because(view, service, port).0
}

/// The same, and what says so.
pub(super) fn service_port_because(
    view: &View<'_>,
    service: &Service,
    port: &ServicePort,
) -> (PortProtocol, Because) {
    let Ok(number) = u16::try_from(port.port) else {
        return (PortProtocol::Opaque, Because::NothingSaid);
    };
    let meta = &service.metadata;
    let own = meta
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(OPAQUE_PORTS).map(String::as_str));
    let annotated = own.map(|text| (text, Because::OwnAnnotation)).or_else(|| {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let text = of_namespace(view, namespace, OPAQUE_PORTS)?;
        Some((text, Because::NamespaceAnnotation))
    });
    let named = |name: &str| {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        ports
            .filter(|port| port.name.as_deref() == Some(name))
            .find_map(|port| u16::try_from(port.port).ok())
    };
    if let Some((_, because)) =
        annotated.filter(|(text, _)| read_ports(text, named).contains(number))
    {
        return (PortProtocol::Opaque, because);
    }
    match port.app_protocol.as_deref() {
        Some("http") => (PortProtocol::Http1, Because::AppProtocol),
        Some("kubernetes.io/h2c") => (PortProtocol::Http2, Because::AppProtocol),
        // As Linkerd has it: whatever is not known is carried as bytes.
        Some(_) => (PortProtocol::Opaque, Because::AppProtocol),
        None if annotated.is_none() && view.mesh.opaque_ports.contains(number) => {
            (PortProtocol::Opaque, Because::DefaultList)
        }
        None => (PortProtocol::Detect, Because::NothingSaid),
    }
}

/// Whether a port of an instance is opaque: a Server says so, or its annotation (or, where it has
/// none, its namespace's), or the default list.
pub(super) fn is_opaque(view: &View<'_>, instance: Instance<'_>, port: u16) -> bool {
    opaque_because(view, instance, port).is_some()
}

/// What makes a port of an instance opaque; none where nothing does.
pub(super) fn opaque_because(
    view: &View<'_>,
    instance: Instance<'_>,
    port: u16,
) -> Option<Because> {
    match server_of(view, instance, port) {
        Some(server) => {
            (server.spec.proxy_protocol == Some(ProxyProtocol::Opaque)).then_some(Because::Server)
        }
        None => opaque_by_annotation(view, instance, port),
    }
}

/// Whether a port is opaque that no Server selects.
pub(super) fn is_opaque_by_annotation(view: &View<'_>, instance: Instance<'_>, port: u16) -> bool {
    opaque_by_annotation(view, instance, port).is_some()
}

fn opaque_by_annotation(view: &View<'_>, instance: Instance<'_>, port: u16) -> Option<Because> {
    let of_namespace = || of_namespace(view, instance.namespace(), OPAQUE_PORTS);
    let own = instance.annotation(OPAQUE_PORTS).map(|text| (text, Because::OwnAnnotation));
    let annotated = own.or_else(|| of_namespace().map(|text| (text, Because::NamespaceAnnotation)));
    let (is_opaque, because) = match annotated {
        Some((text, because)) => {
            (read_ports(text, |name| instance.port_named(name)).contains(port), because)
        }
        None => (view.mesh.opaque_ports.contains(port), Because::DefaultList),
    };
    is_opaque.then_some(because)
}

/// Whether connections to a port of an instance do not go through its proxy.
pub(super) fn skips_proxy(view: &View<'_>, instance: Instance<'_>, port: u16) -> bool {
    instance
        .annotation(SKIP_INBOUND_PORTS)
        .or_else(|| of_namespace(view, instance.namespace(), SKIP_INBOUND_PORTS))
        .is_some_and(|text| read_ports(text, |_| None).contains(port))
}

/// An annotation of a namespace.
pub(super) fn of_namespace<'a>(
    view: &View<'a>,
    namespace: &str,
    annotation: &str,
) -> Option<&'a str> {
    let annotations = view.namespace(namespace)?.metadata.annotations.as_ref()?;
    annotations.get(annotation).map(String::as_str)
}

/// Ports, ranges and names of ports; what is none of them counts for nothing.
pub(super) fn read_ports(text: &str, named: impl Fn(&str) -> Option<u16>) -> PortSet {
    let items = text.split(',').map(str::trim);
    PortSet::union(
        items.map(|item| item.parse().unwrap_or_else(|_| named(item).into_iter().collect())),
    )
}
