//! Which object a policy, route or backend comes from: for labels and logs, never for decisions.

use std::fmt;
use std::sync::Arc;

/// The origin of a policy, route, backend or authorization (`io.linkerd.proxy.meta.Metadata`).
/// Cloning shares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metadata {
    /// Made by the control plane itself, such as `all-unauthenticated` or `localhost`.
    Default(Arc<str>),
    /// Compiled from an object.
    Resource(Arc<ResourceRef>),
}

/// A Kubernetes object, with a part of it where that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceRef {
    /// API group; `core` or empty for Kubernetes' own.
    pub group: String,
    /// Kind, such as `Service`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; empty where the kind has none.
    pub namespace: String,
    /// Part of the object, such as a listener's name; may be empty.
    pub section: String,
    /// Port of the object; 0 where none is meant.
    pub port: u16,
}

impl Metadata {
    /// Made by the control plane itself.
    pub fn new_default(name: &str) -> Self {
        Self::Default(name.into())
    }

    /// Compiled from an object.
    pub fn new_resource(resource: ResourceRef) -> Self {
        Self::Resource(Arc::new(resource))
    }

    /// API group; empty for defaults.
    pub fn group(&self) -> &str {
        match self {
            Self::Default(_) => "",
            Self::Resource(resource) => &resource.group,
        }
    }

    /// Kind; `default` for defaults.
    pub fn kind(&self) -> &str {
        match self {
            Self::Default(_) => "default",
            Self::Resource(resource) => &resource.kind,
        }
    }

    /// Name.
    pub fn name(&self) -> &str {
        match self {
            Self::Default(name) => name,
            Self::Resource(resource) => &resource.name,
        }
    }

    /// Namespace; empty for defaults.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Default(_) => "",
            Self::Resource(resource) => &resource.namespace,
        }
    }

    /// Section; empty where none is meant.
    pub fn section(&self) -> &str {
        match self {
            Self::Default(_) => "",
            Self::Resource(resource) => &resource.section,
        }
    }

    /// Port, where one is meant.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Resource(resource) if resource.port != 0 => Some(resource.port),
            _ => None,
        }
    }
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(name) => write!(f, "default/{name}"),
            Self::Resource(r) => write!(f, "{}/{}/{}", r.kind, r.namespace, r.name),
        }
    }
}
