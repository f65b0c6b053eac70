//! Citations: the objects that something follows from, with their versions where they are known.

use crate::control::index::{Instance, View};
use crate::model::metadata::Metadata;
use crate::resource::{Kind, Object, ObjectRef};

use super::story::Cited;

/// An object.
pub(super) fn object(object: &Object) -> Cited {
    meta(object.kind(), object.meta())
}

/// An object of which the metadata is at hand.
pub(super) fn meta(
    kind: Kind,
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> Cited {
    Cited {
        kind: kind.name(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        generation: meta.generation,
        resource_version: meta.resource_version.clone(),
    }
}

/// An instance.
pub(super) fn instance(instance: Instance<'_>) -> Cited {
    meta(instance.kind(), instance.meta())
}

/// An object by its name, where there is one.
pub(super) fn find(view: &View<'_>, kind: Kind, namespace: &str, name: &str) -> Option<Cited> {
    let name = ObjectRef { kind, namespace: namespace.to_string(), name: name.to_string() };
    view.find(&name).map(object)
}

/// The object that a part of a policy is compiled from; none where the control plane made it up.
/// `home`: its namespace, where a policy does not say.
pub(super) fn metadata(view: &View<'_>, metadata: &Metadata, home: &str) -> Option<Cited> {
    let Metadata::Resource(resource) = metadata else {
        return None;
    };
    let group = match resource.group.as_str() {
        "core" => "",
        group => group,
    };
    let kind = Kind::ALL
        .iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(&resource.kind) && kind.group() == group)?;
    let namespace = match resource.namespace.as_str() {
        "" => home,
        namespace => namespace,
    };
    find(view, *kind, namespace, &resource.name)
}
