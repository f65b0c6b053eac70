//! What an API server says of an object, read into the types of the mesh and cut down to what the
//! mesh reads.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mesh_core::resource::{Kind, Object, ObjectRef, yaml};
use mesh_core::runtime::cluster::ClusterError;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    pub(super) metadata: PageMeta,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) next: Option<String>,
}

/// A line of a watch.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) what: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// What every object says, however wrong the rest.
#[derive(Default, Deserialize)]
pub(super) struct Head {
    #[serde(default)]
    pub(super) metadata: HeadMeta,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct HeadMeta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) resource_version: String,
}

/// An object of which the metadata was asked for.
#[derive(Deserialize)]
struct Partial {
    metadata: ObjectMeta,
}

impl Head {
    pub(super) fn of(object: &RawValue) -> Self {
        serde_json::from_str(object.get()).unwrap_or_default()
    }

    pub(super) fn object_ref(&self, kind: Kind) -> ObjectRef {
        let HeadMeta { name, namespace, .. } = &self.metadata;
        ObjectRef { kind, namespace: namespace.clone(), name: name.clone() }
    }
}

/// An object of a kind, cut down to what the mesh reads.
///
/// # Errors
/// [`ClusterError::Invalid`], which names the object and, where it is known, the field.
pub(super) fn object(kind: Kind, text: &RawValue) -> Result<Object, ClusterError> {
    if kind.is_metadata()
        && let Ok(Partial { metadata }) = serde_json::from_str(text.get())
        && let Some(object) = Object::of_metadata(kind, metadata)
    {
        return Ok(object);
    }
    let mut reader = serde_json::Deserializer::from_str(text.get());
    match Object::deserialize(kind, &mut reader) {
        Ok(mut object) => {
            object.project();
            Ok(object)
        }
        Err(error) => {
            let name = Head::of(text).object_ref(kind);
            Err(ClusterError::Invalid(fault(&name, text.get(), &error)))
        }
    }
}

/// The manifests' reader knows the field and what to do; JSON is YAML.
fn fault(name: &ObjectRef, text: &str, error: &serde_json::Error) -> String {
    let problems = yaml::read("", text).err().unwrap_or_default();
    match problems.first() {
        Some(problem) if !problem.field.is_empty() => {
            format!("{name}: {}: {}; correct it", problem.field, problem.fault)
        }
        _ => {
            let error = error.to_string();
            let fault = error.rsplit_once(" at line ").map_or(error.as_str(), |(fault, _)| fault);
            format!("{name}: {fault}; correct it")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Result<Object, ClusterError> {
        object(kind, &RawValue::from_string(text.to_owned()).expect("JSON"))
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_field() {
        let server = r#"{"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
            "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "7"},
            "spec": {"port": {"number": 80}, "podSelector": {}}}"#;
        let error = read(Kind::Server, server).expect_err("no such port");
        let text = error.to_string();
        assert!(text.starts_with("Server/shop/web: spec.port: "), "{text}");
    }

    #[test]
    fn objects_of_lists_need_not_say_what_they_are() {
        let service = r#"{"metadata": {"name": "web", "namespace": "shop"}}"#;
        let read = read(Kind::Service, service).expect("a service");
        assert_eq!(read.object_ref().to_string(), "Service/shop/web");
    }
}
