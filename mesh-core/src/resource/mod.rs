//! The objects that configure the mesh: Kubernetes' own as k8s-openapi defines them, and the mesh's
//! custom resources. The deployed CRDs are generated from the types here.
//!
//! Law: what a Linkerd user's manifest says is read; what is not understood is an error that names
//! the field, never dropped.

pub mod check;
mod check_route;
pub mod crd;
pub mod duration;
pub mod external;
mod locate;
pub mod policy;
pub mod ports;
pub mod profile;
mod project;
pub mod remark;
pub mod route;
pub mod traffic;
pub mod workload;
pub mod yaml;

use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::Resource;

pub use external::ExternalWorkload;
pub use k8s_openapi::api::apps::v1::ReplicaSet;
pub use k8s_openapi::api::batch::v1::Job;
pub use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service, ServiceAccount};
pub use k8s_openapi::api::discovery::v1::EndpointSlice;
pub use policy::{
    AuthorizationPolicy, EgressNetwork, HTTPLocalRateLimitPolicy, MeshTLSAuthentication,
    NetworkAuthentication, Server, ServerAuthorization,
};
pub use profile::ServiceProfile;
pub use route::{GRPCRoute, HTTPRoute, PolicyHTTPRoute};
pub use workload::Workload;

use policy::PolicyStatus;
use route::{Route, RouteCondition, RouteSpec, RouteStatus};

/// Names an object: kind, namespace (empty for those that have none) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty where the kind has none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        match namespace.as_str() {
            "" => write!(f, "{kind}/{name}"),
            _ => write!(f, "{kind}/{namespace}/{name}"),
        }
    }
}

impl Kind {
    /// Whether objects of this `apiVersion` are read as this kind: the version that is stored, and
    /// older ones that differ only in what they lack.
    pub fn reads(self, api_version: &str) -> bool {
        self.api_version() == api_version || self.versions().contains(&api_version)
    }

    /// Versions that are read beside or as the stored one, oldest first. Empty for kinds that were
    /// never another.
    fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Server => &[
                "policy.linkerd.io/v1alpha1",
                "policy.linkerd.io/v1beta1",
                "policy.linkerd.io/v1beta2",
                "policy.linkerd.io/v1beta3",
            ],
            Self::ServerAuthorization => {
                &["policy.linkerd.io/v1alpha1", "policy.linkerd.io/v1beta1"]
            }
            Self::PolicyHTTPRoute => &[
                "policy.linkerd.io/v1alpha1",
                "policy.linkerd.io/v1beta1",
                "policy.linkerd.io/v1beta2",
                "policy.linkerd.io/v1beta3",
            ],
            Self::HTTPRoute => {
                &["gateway.networking.k8s.io/v1beta1", "gateway.networking.k8s.io/v1"]
            }
            Self::GRPCRoute => {
                &["gateway.networking.k8s.io/v1alpha2", "gateway.networking.k8s.io/v1"]
            }
            Self::ServiceProfile => &["linkerd.io/v1alpha1", "linkerd.io/v1alpha2"],
            Self::ExternalWorkload => {
                &["workload.linkerd.io/v1alpha1", "workload.linkerd.io/v1beta1"]
            }
            _ => &[],
        }
    }

    /// The versions that are read, newest first.
    pub fn api_versions(self) -> Vec<String> {
        match self.versions() {
            [] => vec![self.api_version()],
            versions => versions.iter().rev().map(ToString::to_string).collect(),
        }
    }

    /// Whether nothing but the metadata of such objects is read.
    pub fn is_metadata(self) -> bool {
        let owners = matches!(self, Self::ReplicaSet | Self::Job);
        owners || matches!(self, Self::Namespace | Self::ServiceAccount | Self::Node)
    }

    /// Whether every API server has this kind: no definition has to be installed.
    pub fn is_built_in(self) -> bool {
        let group = self.group();
        ["", "apps", "batch", "discovery.k8s.io"].contains(&group.as_str())
    }

    /// The API group; empty for Kubernetes' own core.
    pub fn group(self) -> String {
        let version = self.api_version();
        version.split_once('/').map_or(String::new(), |(group, _)| group.to_string())
    }

    /// Kinds of that name, of whatever group: HTTPRoute is two.
    pub fn named(name: &str) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |kind| kind.name() == name)
    }

    /// Whether the mesh writes the status of objects of this kind.
    pub fn has_status(self) -> bool {
        let routes = matches!(self, Self::PolicyHTTPRoute | Self::HTTPRoute | Self::GRPCRoute);
        routes || matches!(self, Self::HTTPLocalRateLimitPolicy | Self::EgressNetwork)
    }

    /// Whether objects of this kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }
}

macro_rules! objects {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// The kinds of object that the mesh reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Its name in its group: `HTTPRoute`. What prints tells groups apart.
            pub fn name(self) -> String {
                match self {
                    $(Self::$kind => $kind::kind(&Default::default()).into_owned(),)*
                }
            }

            /// Its name in paths of the API: `httproutes`.
            pub fn plural(self) -> String {
                match self {
                    $(Self::$kind => $kind::plural(&Default::default()).into_owned(),)*
                }
            }

            /// The kind's `apiVersion`, such as `v1` or `policy.linkerd.io/v1beta3`.
            pub fn api_version(self) -> String {
                match self {
                    $(Self::$kind => $kind::api_version(&Default::default()).into_owned(),)*
                }
            }
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$kind => stringify!($kind),)* })
            }
        }

        /// An object of any kind that the mesh reads. Cloning shares it.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $($(#[$doc])* $kind(Arc<$kind>),)*
        }

        impl Object {
            /// The object's kind.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind,)* }
            }

            /// The object's metadata.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => object.meta(),)* }
            }

            /// The object's metadata, to change. Copies an object that is shared.
            pub fn meta_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$kind(object) => Arc::make_mut(object).meta_mut(),)* }
            }

            /// The object's name.
            pub fn object_ref(&self) -> ObjectRef {
                let meta = self.meta();
                ObjectRef {
                    kind: self.kind(),
                    namespace: meta.namespace.clone().unwrap_or_default(),
                    name: meta.name.clone().unwrap_or_default(),
                }
            }

            /// The object as the API has it, with its `apiVersion` and `kind`.
            pub fn to_json(&self) -> serde_json::Value {
                let json = match self {
                    $(Self::$kind(object) => serde_json::to_value(&**object),)*
                };
                json.expect("these types have string keys and no failing serializers")
            }

            /// Reads an object of a kind out of a document.
            ///
            /// # Errors
            /// What is wrong, with the field where serde knows it.
            pub fn deserialize<'de, D: serde::Deserializer<'de>>(
                kind: Kind,
                document: D,
            ) -> Result<Self, D::Error> {
                use serde::Deserialize;
                Ok(match kind {
                    $(Kind::$kind => Self::$kind(Arc::new($kind::deserialize(document)?)),)*
                })
            }
        }

        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$kind(Arc::new(object))
            }
        })*
    };
}

objects! {
    /// A namespace: annotations that hold for what is in it.
    Namespace,
    /// A service account: an identity.
    ServiceAccount,
    /// A service: a name, an address and ports.
    Service,
    /// The endpoints of a service.
    EndpointSlice,
    /// A pod: an instance of a workload.
    Pod,
    /// A host of pods: its zone.
    Node,
    /// Pods of one version of a Deployment: what made them.
    ReplicaSet,
    /// Pods that run to their end: what made them.
    Job,
    /// An instance of a workload on a plain host, and the service it serves.
    Workload,
    /// A port of workloads, and what it speaks.
    Server,
    /// Who may use a Server, route or namespace.
    AuthorizationPolicy,
    /// Who may use Servers, the older way.
    ServerAuthorization,
    /// Identities that clients may have.
    MeshTLSAuthentication,
    /// Networks that clients may be in.
    NetworkAuthentication,
    /// Routes of HTTP requests, in Linkerd's group.
    PolicyHTTPRoute,
    /// Routes of HTTP requests, in Gateway API's group.
    HTTPRoute,
    /// Routes of gRPC calls.
    GRPCRoute,
    /// Routes, retries and splits of a service, the older way.
    ServiceProfile,
    /// An instance of a workload outside of the cluster.
    ExternalWorkload,
    /// How many requests a Server takes.
    HTTPLocalRateLimitPolicy,
    /// Networks outside of the cluster, and whether workloads may reach them.
    EgressNetwork,
}

impl Object {
    /// Takes over the status of an object of the same kind; everything else stays as it is. Tells
    /// whether such objects have a status that the mesh writes.
    pub fn take_status(&mut self, from: &Self) -> bool {
        match (self, from) {
            (Self::PolicyHTTPRoute(to), Self::PolicyHTTPRoute(from)) => {
                Arc::make_mut(to).status.clone_from(&from.status);
            }
            (Self::HTTPRoute(to), Self::HTTPRoute(from)) => {
                Arc::make_mut(to).status.clone_from(&from.status);
            }
            (Self::GRPCRoute(to), Self::GRPCRoute(from)) => {
                Arc::make_mut(to).status.clone_from(&from.status);
            }
            (Self::HTTPLocalRateLimitPolicy(to), Self::HTTPLocalRateLimitPolicy(from)) => {
                Arc::make_mut(to).status.clone_from(&from.status);
            }
            (Self::EgressNetwork(to), Self::EgressNetwork(from)) => {
                Arc::make_mut(to).status.clone_from(&from.status);
            }
            _ => return false,
        }
        true
    }

    /// The status of a route.
    pub fn route_status(&self) -> Option<&RouteStatus> {
        match self {
            Self::PolicyHTTPRoute(route) => route.status.as_ref(),
            Self::HTTPRoute(route) => route.status.as_ref(),
            Self::GRPCRoute(route) => route.status.as_ref(),
            _ => None,
        }
    }

    /// What its status says, whoever wrote it.
    pub fn conditions(&self) -> impl Iterator<Item = &RouteCondition> {
        let parents = self.route_status().into_iter().flat_map(|status| &status.parents);
        let own = self.policy_status().into_iter().flat_map(|status| &status.conditions);
        parents.flat_map(|parent| &parent.conditions).chain(own)
    }

    /// The status of a policy that has one of its own.
    pub fn policy_status(&self) -> Option<&PolicyStatus> {
        match self {
            Self::HTTPLocalRateLimitPolicy(policy) => policy.status.as_ref(),
            Self::EgressNetwork(network) => network.status.as_ref(),
            _ => None,
        }
    }

    /// Gives a policy a status. Other objects stay as they are.
    pub fn set_policy_status(&mut self, status: PolicyStatus) {
        match self {
            Self::HTTPLocalRateLimitPolicy(policy) => Arc::make_mut(policy).status = Some(status),
            Self::EgressNetwork(network) => Arc::make_mut(network).status = Some(status),
            _ => {}
        }
    }

    /// Gives a route a status. Other objects stay as they are.
    pub fn set_route_status(&mut self, status: RouteStatus) {
        match self {
            Self::PolicyHTTPRoute(route) => Arc::make_mut(route).status = Some(status),
            Self::HTTPRoute(route) => Arc::make_mut(route).status = Some(status),
            Self::GRPCRoute(route) => Arc::make_mut(route).status = Some(status),
            _ => {}
        }
    }

    /// The object as a route, where it is one.
    pub fn route(&self) -> Option<Route<'_>> {
        let spec = match self {
            Self::PolicyHTTPRoute(route) => RouteSpec::Http(&route.spec.0),
            Self::HTTPRoute(route) => RouteSpec::Http(&route.spec.0),
            Self::GRPCRoute(route) => RouteSpec::Grpc(&route.spec),
            _ => return None,
        };
        Some(Route { kind: self.kind(), meta: self.meta(), spec })
    }
}
