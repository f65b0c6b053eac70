//! An installation as manifests: everything that a control plane on Kubernetes is made of. Names,
//! ports and labels are Linkerd's, so that habits, dashboards and proxies work unchanged.
//!
//! Law: the same values make the same documents, in the same order, and none is there twice.

mod access;
mod component;
mod deployment;
mod identity;
mod monitor;
mod services;
#[cfg(test)]
mod tests;
mod text;
mod webhooks;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::annotations::{CONTROL_PLANE_NS, INJECT};
use super::values::Values;
use crate::resource::crd;

pub use component::{COMPONENTS, Component, VIZ, components};
pub use identity::{
    ANCHORS_KEY, ISSUER_SCHEME_KUBERNETES, ISSUER_SCHEME_LINKERD, ISSUER_SECRET, TRUST_ROOTS,
};
pub use text::{Format, documents, render};

/// The config map of an installation's values.
pub const CONFIG: &str = "linkerd-config";
/// The key of the values in it.
pub const CONFIG_KEY: &str = "values";
/// Namespaces labelled so, with `disabled`, are not asked about by webhooks.
pub const ADMISSION_WEBHOOKS: &str = "config.linkerd.io/admission-webhooks";
/// What a document is of, by the component's name.
pub const COMPONENT: &str = "linkerd.io/control-plane-component";

/// What installs or upgrades a control plane with these values, whose anchors and issuer are known.
pub fn install(values: &Values) -> Vec<Value> {
    let mut documents = vec![namespace(values)];
    documents.extend(identity::documents(values));
    documents.push(config(values));
    for component in components(values) {
        documents.extend(access::documents(values, component));
        documents.extend(services::documents(values, component));
        documents.extend(webhooks::secrets(values, component));
        documents.push(deployment::document(values, component));
        documents.extend(deployment::budget(values, component));
    }
    documents.extend(webhooks::documents(values));
    documents.extend(monitor::documents(values));
    for document in &mut documents {
        label(document, &values.common_labels);
    }
    documents
}

/// The custom resource definitions, which come before everything else and stay when an installation
/// goes.
pub fn crds(values: &Values) -> Vec<Value> {
    let definitions = crd::definitions().expect("definitions are plain data");
    let read = |(_, yaml): &(String, String)| {
        let mut definition: Value = serde_yaml_ng::from_str(yaml).expect("it was written here");
        label(&mut definition, &labels(values, None));
        label(&mut definition, &values.common_labels);
        definition
    };
    definitions.iter().map(read).collect()
}

fn namespace(values: &Values) -> Value {
    // Init containers that redirect traffic have rights that stricter levels forbid.
    let security = if values.cni_enabled { "restricted" } else { "privileged" };
    let name = &values.linkerd_namespace;
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "annotations": {INJECT: "disabled"},
            "labels": {
                "linkerd.io/is-control-plane": "true",
                ADMISSION_WEBHOOKS: "disabled",
                CONTROL_PLANE_NS: name,
                "pod-security.kubernetes.io/enforce": security,
            },
        },
    })
}

/// What the injector injects with, and what an upgrade goes on from.
fn config(values: &Values) -> Value {
    let kept = serde_yaml_ng::to_string(&values.without_keys()).expect("values are plain data");
    let mut metadata = metadata(values, CONFIG, Some("controller"));
    metadata["annotations"] =
        json!({"linkerd.io/created-by": format!("weft/{}", values.linkerd_version)});
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {CONFIG_KEY: kept},
    })
}

/// The metadata of what is in the control plane's namespace.
fn metadata(values: &Values, name: &str, component: Option<&str>) -> Value {
    json!({
        "name": name,
        "namespace": values.linkerd_namespace,
        "labels": labels(values, component),
    })
}

/// The metadata of what is the whole cluster's.
fn cluster_metadata(values: &Values, name: &str, component: Option<&str>) -> Value {
    json!({"name": name, "labels": labels(values, component)})
}

/// The labels that say whose a document is.
fn labels(values: &Values, component: Option<&str>) -> BTreeMap<String, String> {
    let namespace = values.linkerd_namespace.clone();
    let mut labels = BTreeMap::from([(CONTROL_PLANE_NS.to_string(), namespace)]);
    if let Some(component) = component {
        labels.insert(COMPONENT.into(), component.into());
    }
    labels
}

fn label(document: &mut Value, labels: &BTreeMap<String, String>) {
    let known = &mut document["metadata"]["labels"];
    if !known.is_object() && !labels.is_empty() {
        *known = Map::new().into();
    }
    for (name, value) in labels {
        known[name] = value.as_str().into();
    }
}

/// Names as a document says them: `Deployment`, its namespace if it has one, and its name.
pub fn object_of(document: &Value) -> (String, String, Option<String>, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let metadata = &document["metadata"];
    (
        text(&document["apiVersion"]),
        text(&document["kind"]),
        metadata["namespace"].as_str().map(ToString::to_string),
        text(&metadata["name"]),
    )
}
