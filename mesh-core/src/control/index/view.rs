//! Reading the index. A view remembers what was read, absent things included, so that whoever
//! compiled something from it can be told exactly when to compile it again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::control::config::MeshConfig;
use crate::resource::route::Route;
use crate::resource::{
    AuthorizationPolicy, EgressNetwork, EndpointSlice, ExternalWorkload, HTTPLocalRateLimitPolicy,
    Kind, MeshTLSAuthentication, Namespace, NetworkAuthentication, Object, ObjectRef, Server,
    ServerAuthorization, Service, ServiceProfile, Workload,
};

use super::instance::made_by;
use super::{Fact, Index, Instance, ServiceRef};

/// Label of a node: its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The index as one reader sees it.
pub struct View<'a> {
    index: &'a Index,
    /// Facts of the mesh that never change.
    pub mesh: &'a MeshConfig,
    read: RefCell<BTreeSet<Fact>>,
}

macro_rules! cast {
    ($object:expr, $kind:ident) => {
        match $object {
            Object::$kind(object) => Some(&**object),
            _ => None,
        }
    };
}

impl<'a> View<'a> {
    /// A view that has read nothing yet.
    pub fn new(index: &'a Index, mesh: &'a MeshConfig) -> Self {
        Self { index, mesh, read: RefCell::default() }
    }

    /// What was read.
    pub fn into_facts(self) -> BTreeSet<Fact> {
        self.read.into_inner()
    }

    /// An object of any kind.
    pub fn find(&self, name: &ObjectRef) -> Option<&'a Object> {
        self.note(Fact::Object(name.clone()));
        self.index.objects.get(name)
    }

    /// Every object of a kind, by namespace and name. Nothing is noted as read: for those who read
    /// anew each time.
    pub fn objects(&self, kind: Kind) -> impl Iterator<Item = &'a Object> {
        self.index.objects_of(kind, None).map(|(_, object)| object)
    }

    /// Every instance of workloads. Nothing is noted as read.
    pub fn instances(&self) -> impl Iterator<Item = Instance<'a>> {
        let kinds = [Kind::Pod, Kind::Workload, Kind::ExternalWorkload];
        let index = self.index;
        let objects = kinds.into_iter().flat_map(move |kind| index.objects_of(kind, None));
        objects.filter_map(|(_, object)| Instance::of(object))
    }

    /// A namespace.
    pub fn namespace(&self, name: &str) -> Option<&'a Namespace> {
        self.object(Kind::Namespace, "", name).and_then(|object| cast!(object, Namespace))
    }

    /// A service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&'a Service> {
        self.object(Kind::Service, namespace, name).and_then(|object| cast!(object, Service))
    }

    /// An instance by name: a Pod, or else a Workload, or else an ExternalWorkload.
    pub fn instance(&self, namespace: &str, name: &str) -> Option<Instance<'a>> {
        let pod = self.object(Kind::Pod, namespace, name);
        pod.or_else(|| self.object(Kind::Workload, namespace, name))
            .or_else(|| self.object(Kind::ExternalWorkload, namespace, name))
            .and_then(Instance::of)
    }

    /// The service whose cluster address this is.
    pub fn service_at(&self, address: IpAddr) -> Option<&'a Service> {
        self.at(address).find_map(|object| cast!(object, Service))
    }

    /// The instance behind an address, and its port there: the only instance, or the one that has the
    /// port where a host's address is not one instance's alone, as a loopback address never is. Of
    /// several that each have the address to themselves all but the newest have lost it, and their
    /// objects are about to go.
    pub fn instance_at(&self, address: SocketAddr) -> Option<(Instance<'a>, u16)> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let (behind, own): (Vec<_>, Vec<_>) =
            self.at(ip).filter_map(Instance::of).partition(|one| one.is_behind(ip));
        if let Some(found) = behind.iter().find_map(|one| Some((*one, one.port_behind(port)?))) {
            return Some(found);
        }
        if ip.is_loopback() || own.iter().any(|one| one.shares_address()) {
            return own.iter().find(|one| one.has_port(port)).map(|one| (*one, port));
        }
        let newest = own.into_iter().max_by_key(|one| {
            let meta = one.meta();
            let created = meta.creation_timestamp.as_ref().map(|at| at.0);
            (meta.deletion_timestamp.is_none(), created)
        });
        newest.map(|one| (one, port))
    }

    /// What made an instance: `("deployment", "web")`, through its ReplicaSet, or `("cronjob",
    /// "nightly")`, through its Job.
    pub fn owner(&self, instance: Instance<'_>) -> Option<(String, String)> {
        let (kind, name) = instance.made_by()?;
        let (kind, name) = self.maker_of(instance.namespace(), kind, name).unwrap_or_else(|| {
            // A ReplicaSet's name is its Deployment's with the hash that its pods carry as a label.
            let hash = instance.label("pod-template-hash").filter(|_| kind == "ReplicaSet");
            match hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-')) {
                Some(deployment) => ("Deployment", deployment),
                None => (kind, name),
            }
        });
        Some((kind.to_ascii_lowercase(), name.to_string()))
    }

    /// What made a ReplicaSet or a Job, where that is known.
    pub fn maker_of<'o>(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Option<(&'o str, &'o str)>
    where
        'a: 'o,
    {
        let kind = match kind {
            "ReplicaSet" => Kind::ReplicaSet,
            "Job" => Kind::Job,
            _ => return None,
        };
        made_by(self.object(kind, namespace, name)?.meta())
    }

    /// The zone of a node; empty where it has none or is not known.
    pub fn zone_of(&self, node: &str) -> &'a str {
        let node = self.object(Kind::Node, "", node);
        let labels = node.and_then(|node| node.meta().labels.as_ref());
        labels.and_then(|all| all.get(ZONE)).map(String::as_str).unwrap_or_default()
    }

    /// The slices of a service.
    pub fn slices(&self, service: &ServiceRef) -> impl Iterator<Item = &'a EndpointSlice> {
        self.backends(service).filter_map(|object| cast!(object, EndpointSlice))
    }

    /// The Workloads of a service.
    pub fn workloads(&self, service: &ServiceRef) -> impl Iterator<Item = &'a Workload> {
        self.backends(service).filter_map(|object| cast!(object, Workload))
    }

    /// The Servers of a namespace, in order of name.
    pub fn servers(&self, namespace: &'a str) -> impl Iterator<Item = &'a Server> {
        self.policies(Kind::Server, namespace).filter_map(|object| cast!(object, Server))
    }

    /// The AuthorizationPolicies of a namespace, in order of name.
    pub fn authorizations(
        &self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a AuthorizationPolicy> {
        self.policies(Kind::AuthorizationPolicy, namespace)
            .filter_map(|object| cast!(object, AuthorizationPolicy))
    }

    /// The ServerAuthorizations of a namespace, in order of name.
    pub fn server_authorizations(
        &self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a ServerAuthorization> {
        self.policies(Kind::ServerAuthorization, namespace)
            .filter_map(|object| cast!(object, ServerAuthorization))
    }

    /// The rate limits of a namespace, in order of name.
    pub fn rate_limits(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = &'a HTTPLocalRateLimitPolicy> {
        self.note(Fact::Policies(namespace.to_string()));
        let kind = Kind::HTTPLocalRateLimitPolicy;
        let first = ObjectRef { kind, namespace: namespace.to_string(), name: String::new() };
        let objects = self.index.objects.range(first.clone()..);
        let is_of =
            move |name: &ObjectRef| name.kind == first.kind && name.namespace == first.namespace;
        objects
            .take_while(move |(name, _)| is_of(name))
            .map(|(_, object)| object)
            .filter_map(|object| cast!(object, HTTPLocalRateLimitPolicy))
    }

    /// Every EgressNetwork, by namespace and name.
    pub fn egress_networks(&self) -> impl Iterator<Item = &'a EgressNetwork> {
        self.note(Fact::EgressNetworks);
        let objects = self.index.objects_of(Kind::EgressNetwork, None);
        objects.filter_map(|(_, object)| cast!(object, EgressNetwork))
    }

    /// The routes that name a Service, Server or EgressNetwork as their parent.
    pub fn routes(&self, parent: &ObjectRef) -> impl Iterator<Item = Route<'a>> {
        self.note(Fact::Routes(parent.clone()));
        let names = self.index.by_parent.get(parent).into_iter().flatten();
        let index = self.index;
        names.filter_map(|name| index.objects.get(name)?.route())
    }

    /// The external workloads of a namespace, in order of name.
    pub fn external_workloads(
        &self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a ExternalWorkload> {
        self.note(Fact::ExternalWorkloads(namespace.to_string()));
        let objects = self.index.objects_of(Kind::ExternalWorkload, Some(namespace));
        objects.filter_map(|(_, object)| cast!(object, ExternalWorkload))
    }

    /// A ServiceProfile.
    pub fn service_profile(&self, namespace: &str, name: &str) -> Option<&'a ServiceProfile> {
        self.object(Kind::ServiceProfile, namespace, name)
            .and_then(|object| cast!(object, ServiceProfile))
    }

    /// A MeshTLSAuthentication.
    pub fn mesh_tls(&self, namespace: &str, name: &str) -> Option<&'a MeshTLSAuthentication> {
        self.object(Kind::MeshTLSAuthentication, namespace, name)
            .and_then(|object| cast!(object, MeshTLSAuthentication))
    }

    /// A NetworkAuthentication.
    pub fn network(&self, namespace: &str, name: &str) -> Option<&'a NetworkAuthentication> {
        self.object(Kind::NetworkAuthentication, namespace, name)
            .and_then(|object| cast!(object, NetworkAuthentication))
    }

    fn object(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a Object> {
        let name = ObjectRef { kind, namespace: namespace.to_string(), name: name.to_string() };
        let object = self.index.objects.get(&name);
        self.note(Fact::Object(name));
        object
    }

    fn at(&self, address: IpAddr) -> impl Iterator<Item = &'a Object> {
        let address = address.to_canonical();
        self.note(Fact::Address(address));
        let names = self.index.by_address.get(&address).into_iter().flatten();
        let index = self.index;
        names.filter_map(|name| index.objects.get(name))
    }

    fn backends(&self, service: &ServiceRef) -> impl Iterator<Item = &'a Object> {
        self.note(Fact::Backends(service.clone()));
        let names = self.index.by_service.get(service).into_iter().flatten();
        let index = self.index;
        names.filter_map(|name| index.objects.get(name))
    }

    fn policies(&self, kind: Kind, namespace: &'a str) -> impl Iterator<Item = &'a Object> {
        self.note(Fact::Policies(namespace.to_string()));
        self.index.objects_of(kind, Some(namespace)).map(|(_, object)| object)
    }

    fn note(&self, fact: Fact) {
        self.read.borrow_mut().insert(fact);
    }
}
