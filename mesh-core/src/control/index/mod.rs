//! The only mutable copy of the cluster's state. Fed by watch events, read through a [`View`].
//! Compiles nothing and knows no proxy.
//!
//! Law: an index that followed any events equals one built from the objects that are left, and
//! every fact that a reader could have read differently is reported as changed.

mod instance;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::PodStatus;

use crate::resource::route::Route;
use crate::resource::{Kind, Object, ObjectRef};
use crate::runtime::cluster::WatchEvent;

pub use instance::Instance;
pub use view::View;

/// The cluster's objects, and where to find them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    objects: BTreeMap<ObjectRef, Object>,
    by_address: BTreeMap<IpAddr, BTreeSet<ObjectRef>>,
    by_service: BTreeMap<ServiceRef, BTreeSet<ObjectRef>>,
    /// Routes by the Services and Servers that they name as parents.
    by_parent: BTreeMap<ObjectRef, BTreeSet<ObjectRef>>,
    synced: BTreeSet<Kind>,
    /// Lists that have begun and are not complete. They take effect at once when they are.
    lists: BTreeMap<Kind, BTreeMap<ObjectRef, Object>>,
}

/// Names a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Something that can be read from the index, and so can change under a reader.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    /// This object: its being there, and what it says.
    Object(ObjectRef),
    /// Whose this address is.
    Address(IpAddr),
    /// The instances of a service.
    Backends(ServiceRef),
    /// Servers, authorizations, authentications and rate limits of a namespace.
    Policies(String),
    /// The routes of a Service, Server or EgressNetwork.
    Routes(ObjectRef),
    /// The external workloads of a namespace.
    ExternalWorkloads(String),
    /// Every EgressNetwork.
    EgressNetworks,
}

impl Index {
    /// Follows an event of `kind`'s watch; adds what changed to `changed`.
    pub fn apply(&mut self, kind: Kind, event: WatchEvent, changed: &mut BTreeSet<Fact>) {
        match event {
            WatchEvent::Init => {
                self.lists.insert(kind, BTreeMap::new());
            }
            WatchEvent::InitApply(object) => {
                let name = object.object_ref();
                self.lists.entry(kind).or_default().insert(name, object);
            }
            WatchEvent::InitDone => {
                let list = self.lists.remove(&kind).unwrap_or_default();
                self.replace(kind, list, changed);
                if !self.synced.insert(kind) {
                    mark!("watch-listed-again");
                }
            }
            WatchEvent::Apply(object) => self.put(object.object_ref(), Some(object), changed),
            WatchEvent::Delete(name) => self.put(name, None, changed),
        }
    }

    /// Whether every kind has been listed once: before that, what is missing may only be late.
    pub fn is_synced(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.synced.contains(kind))
    }

    /// Whether this kind has been listed once.
    pub fn has_listed(&self, kind: Kind) -> bool {
        self.synced.contains(&kind)
    }

    /// The objects of a kind, by namespace and name.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &ObjectRef> {
        self.objects_of(kind, None).map(|(name, _)| name)
    }

    /// Objects by kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.objects_of(kind, None).count()
    }

    fn replace(
        &mut self,
        kind: Kind,
        list: BTreeMap<ObjectRef, Object>,
        changed: &mut BTreeSet<Fact>,
    ) {
        let gone: Vec<_> = self
            .objects_of(kind, None)
            .map(|(name, _)| name.clone())
            .filter(|name| !list.contains_key(name))
            .collect();
        for name in gone {
            if planted!("relist-misses-deletion") {
                break;
            }
            mark!("object-gone-in-new-list");
            self.put(name, None, changed);
        }
        for (name, object) in list {
            self.put(name, Some(object), changed);
        }
    }

    /// Puts, replaces or removes an object.
    fn put(&mut self, name: ObjectRef, object: Option<Object>, changed: &mut BTreeSet<Fact>) {
        let old = match &object {
            Some(object) => self.objects.insert(name.clone(), object.clone()),
            None => self.objects.remove(&name),
        };
        if old == object {
            return;
        }
        if let Some(old) = &old {
            let Places { addresses, service, parents } = Places::of(old);
            for parent in parents {
                remove_from(&mut self.by_parent, &parent, &name);
            }
            for address in addresses {
                remove_from(&mut self.by_address, &address, &name);
            }
            if let Some(service) = service {
                if planted!("slice-takes-others-along") && object.is_none() {
                    self.by_service.remove(&service);
                }
                remove_from(&mut self.by_service, &service, &name);
            }
        }
        if let Some(new) = &object {
            let Places { addresses, service, parents } = Places::of(new);
            for parent in parents {
                self.by_parent.entry(parent).or_default().insert(name.clone());
            }
            for address in addresses {
                let owners = self.by_address.entry(address).or_default();
                owners.insert(name.clone());
            }
            if let Some(service) = service {
                let backends = self.by_service.entry(service).or_default();
                backends.insert(name.clone());
            }
        }
        for object in old.iter().chain(&object) {
            changed.extend(facts(&name, object));
        }
    }

    fn objects_of<'a>(
        &'a self,
        kind: Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a ObjectRef, &'a Object)> {
        let first = ObjectRef {
            kind,
            namespace: namespace.unwrap_or_default().to_string(),
            name: String::new(),
        };
        self.objects.range(first..).take_while(move |(name, _)| {
            name.kind == kind && namespace.is_none_or(|namespace| name.namespace == namespace)
        })
    }
}

/// Under what else than its name an object is found.
struct Places {
    addresses: Vec<IpAddr>,
    /// The service whose instances it tells of.
    service: Option<ServiceRef>,
    /// What it is a route of.
    parents: Vec<ObjectRef>,
}

impl Places {
    fn of(object: &Object) -> Self {
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        let service_ref =
            |name: &String| ServiceRef { namespace: namespace.clone(), name: name.clone() };
        let (addresses, service): (Vec<&String>, _) = match object {
            Object::Service(service) => {
                let spec = service.spec.iter();
                let all = spec.flat_map(|s| s.cluster_ips.iter().flatten().chain(&s.cluster_ip));
                (all.collect(), None)
            }
            Object::Pod(pod) => {
                // A pod that has ended is kept for its logs; its address is another's by now.
                let has_ended = |status: &&PodStatus| {
                    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
                };
                let status = pod.status.iter().filter(|status| !has_ended(status));
                let all = status.flat_map(|status| {
                    let ips = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
                    let has_host_port = Instance::Pod(pod).has_host_port();
                    let host = status.host_ip.iter().filter(move |_| has_host_port);
                    ips.chain(&status.pod_ip).chain(host)
                });
                (all.collect(), None)
            }
            Object::Workload(workload) => (
                workload.spec.addresses.iter().collect(),
                workload.spec.service.as_ref().map(service_ref),
            ),
            Object::ExternalWorkload(workload) => {
                let ips = workload.spec.workload_ips.iter().flatten();
                (ips.map(|ip| &ip.ip).collect(), None)
            }
            Object::EndpointSlice(slice) => {
                let labels = slice.metadata.labels.as_ref();
                let service = labels.and_then(|all| all.get("kubernetes.io/service-name"));
                (Vec::new(), service.map(service_ref))
            }
            _ => (Vec::new(), None),
        };
        Self {
            addresses: addresses
                .into_iter()
                .filter_map(|ip| ip.parse::<IpAddr>().ok())
                .map(|ip| ip.to_canonical())
                .collect(),
            service,
            parents: object.route().iter().flat_map(Self::parents).collect(),
        }
    }
}

impl Places {
    fn parents(route: &Route<'_>) -> Vec<ObjectRef> {
        let parents = route.parent_refs().iter();
        let mut parents: Vec<_> =
            parents.filter_map(|parent| parent.target(route.namespace())).collect();
        parents.sort();
        parents.dedup();
        parents
    }
}

/// What can be read differently when `object` comes, changes or goes.
fn facts(name: &ObjectRef, object: &Object) -> Vec<Fact> {
    let Places { addresses, service, parents } = Places::of(object);
    let mut facts = vec![Fact::Object(name.clone())];
    facts.extend(addresses.into_iter().map(Fact::Address));
    facts.extend(service.map(Fact::Backends));
    facts.extend(parents.into_iter().map(Fact::Routes));
    if matches!(object, Object::ExternalWorkload(_)) {
        facts.push(Fact::ExternalWorkloads(name.namespace.clone()));
    }
    if matches!(object, Object::EgressNetwork(_)) {
        facts.push(Fact::EgressNetworks);
    }
    if matches!(
        object,
        Object::Server(_)
            | Object::HTTPLocalRateLimitPolicy(_)
            | Object::AuthorizationPolicy(_)
            | Object::ServerAuthorization(_)
            | Object::MeshTLSAuthentication(_)
            | Object::NetworkAuthentication(_)
    ) {
        facts.push(Fact::Policies(name.namespace.clone()));
    }
    facts
}

fn remove_from<K: Ord>(places: &mut BTreeMap<K, BTreeSet<ObjectRef>>, place: &K, name: &ObjectRef) {
    if let Some(names) = places.get_mut(place) {
        names.remove(name);
        if names.is_empty() {
            places.remove(place);
        }
    }
}

#[cfg(test)]
mod tests;
