//! What the cluster's objects say of services, read by whoever judges a mesh: nothing of the mesh's own
//! code is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use serde_json::Value as Json;

use mesh_core::resource::{Kind, Object, ObjectRef, Service};

use crate::cluster::ApiServer;

use super::oracle::watch::Expected;

/// Who answers for a service.
#[derive(Debug)]
pub(super) enum Backend {
    /// The pods that a service selects.
    Selected(Arc<Service>),
    /// Whoever has an identity: of an ExternalWorkload.
    Identity(String),
}

/// The endpoints of each port of each service (`host:port`). Services that lead out of the cluster, to
/// workloads that are no pods, are not among them.
pub(super) fn expected(api: &ApiServer) -> BTreeMap<String, Expected> {
    let mut slices: BTreeMap<(String, String), Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for object in api.list(Kind::EndpointSlice) {
        let Object::EndpointSlice(slice) = object else { continue };
        let labels = slice.metadata.labels.as_ref();
        if let Some(service) = labels.and_then(|l| l.get("kubernetes.io/service-name")) {
            let namespace = slice.metadata.namespace.clone().unwrap_or_default();
            slices.entry((namespace, service.clone())).or_default().push(slice);
        }
    }
    let external =
        !api.list(Kind::ExternalWorkload).is_empty() || !api.list(Kind::Workload).is_empty();
    let mut expected = BTreeMap::new();
    for object in api.list(Kind::Service).into_iter().filter(|_| !external) {
        let Object::Service(service) = object else { continue };
        let name = service.metadata.name.clone().unwrap_or_default();
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        let host = host(&name, &namespace);
        let slices = slices.get(&(namespace, name)).map_or(&[][..], |slices| slices);
        for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let of_port = endpoints(slices, port.name.as_deref().unwrap_or_default());
            expected.insert(format!("{host}:{}", port.port), of_port);
        }
    }
    expected
}

fn endpoints(slices: &[Arc<EndpointSlice>], port: &str) -> Expected {
    let conditions = |endpoint: &Endpoint| endpoint.conditions.clone().unwrap_or_default();
    let ready = |endpoint: &Endpoint| conditions(endpoint).ready != Some(false);
    let ending = |endpoint: &Endpoint| {
        let conditions = conditions(endpoint);
        conditions.serving == Some(true) && conditions.terminating == Some(true)
    };
    let those = |takes: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<SocketAddr> {
        let of_slice = |slice: &Arc<EndpointSlice>| {
            let mut ports = slice.ports.iter().flatten();
            let port = ports.find(|p| p.name.as_deref().unwrap_or_default() == port)?.port?;
            let port = u16::try_from(port).ok()?;
            let endpoints = slice.endpoints.iter().filter(|endpoint| takes(endpoint));
            let addresses = endpoints.flat_map(|endpoint| &endpoint.addresses);
            let ips = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
            Some(ips.map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>())
        };
        slices.iter().filter_map(of_slice).flatten().collect()
    };
    let addresses = Some(those(&ready)).filter(|ready| !ready.is_empty());
    let mut all = slices.iter().flat_map(|slice| &slice.endpoints);
    Expected {
        addresses: addresses.unwrap_or_else(|| those(&ending)),
        hinted: all.any(|endpoint| endpoint.hints.is_some()),
    }
}

fn host(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

/// Who answers for a host: the service's own, and those of the services to which its routes and its
/// profile lead. None where it is no service of the cluster that selects anybody.
pub(super) fn backends(api: &ApiServer, of: &str) -> Option<Vec<Backend>> {
    let (name, namespace) = of.strip_suffix(".svc.cluster.local")?.split_once('.')?;
    let mut names = vec![(name.to_owned(), namespace.to_owned())];
    for kind in [Kind::HTTPRoute, Kind::PolicyHTTPRoute, Kind::GRPCRoute, Kind::ServiceProfile] {
        for object in api.list(kind) {
            leads_to(&object, name, namespace, &mut names);
        }
    }
    let mut backends = Vec::new();
    for (name, namespace) in names {
        let reference = ObjectRef { kind: Kind::Service, namespace: namespace.clone(), name };
        let Some(Object::Service(service)) = api.find(&reference) else { continue };
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
        let selector = selector.filter(|selector| !selector.is_empty())?;
        for object in api.list(Kind::ExternalWorkload) {
            let value = json(&object);
            let labels = &value["metadata"]["labels"];
            let is_its = selector.iter().all(|(key, wanted)| labels[key] == **wanted);
            let identity = value["spec"]["meshTLS"]["identity"].as_str();
            if let Some(identity) = identity.filter(|_| is_its) {
                backends.push(Backend::Identity(identity.to_owned()));
            }
        }
        backends.push(Backend::Selected(service));
    }
    Some(backends)
}

/// Adds the services to which a route or profile of a service leads.
fn leads_to(object: &Object, name: &str, namespace: &str, names: &mut Vec<(String, String)>) {
    let value = json(object);
    let own = value["metadata"]["namespace"].as_str().unwrap_or("default");
    if object.kind() == Kind::ServiceProfile {
        if value["metadata"]["name"] == *host(name, namespace) {
            let overrides = value["spec"]["dstOverrides"].as_array().into_iter().flatten();
            let authorities = overrides.filter_map(|target| target["authority"].as_str());
            names.extend(authorities.filter_map(|authority| {
                let mut parts = authority.split(['.', ':']);
                Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
            }));
        }
        return;
    }
    let namespace_of = |reference: &Json| reference["namespace"].as_str().unwrap_or(own).to_owned();
    let mut parents = value["spec"]["parentRefs"].as_array().into_iter().flatten();
    if parents.any(|parent| parent["name"] == *name && namespace_of(parent) == namespace) {
        let rules = value["spec"]["rules"].as_array().into_iter().flatten();
        let backends = rules.flat_map(|rule| rule["backendRefs"].as_array().into_iter().flatten());
        names.extend(
            backends.filter_map(|b| Some((b["name"].as_str()?.to_owned(), namespace_of(b)))),
        );
    }
}

fn json(object: &Object) -> Json {
    let value = match object {
        Object::HTTPRoute(object) => serde_json::to_value(&**object),
        Object::PolicyHTTPRoute(object) => serde_json::to_value(&**object),
        Object::GRPCRoute(object) => serde_json::to_value(&**object),
        Object::ServiceProfile(object) => serde_json::to_value(&**object),
        Object::ExternalWorkload(object) => serde_json::to_value(&**object),
        _ => Ok(Json::Null),
    };
    value.expect("an object that was read can be written")
}
