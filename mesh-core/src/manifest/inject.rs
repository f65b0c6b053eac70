//! Injection: whether a pod gets a sidecar, and the pod with it.
//!
//! Law: a pod that is not to have one, or has one already, is left as it is, and the reason is
//! told. Injecting twice is injecting once.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::annotations::{
    CONTROL_PLANE_NS, CREATED_BY, INJECT, PROXY_OWNER_PREFIX, PROXY_VERSION, TRUST_ROOT_SHA256,
    WORKLOAD_NS,
};
use super::settings::{BadAnnotation, Settings};
use super::sidecar;
use super::values::Values;

/// Why a pod gets no sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// Its network is the node's: nothing can be redirected.
    HostNetwork,
    /// It has one, or another mesh's.
    HasSidecar,
    /// An annotation of its own says no.
    Disabled,
    /// Neither its annotations nor its namespace's ask for one.
    NotAsked,
    /// Without a service account's token it could prove nothing.
    NoToken,
}

impl Skip {
    /// Linkerd's word for it, as in metrics and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HostNetwork => "host_network",
            Self::HasSidecar => "sidecar_already_exists",
            Self::Disabled => "injection_disable_annotation_present",
            Self::NotAsked => "injection_enable_annotation_absent",
            Self::NoToken => "disabled_automount_service_account_token",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostNetwork => "hostNetwork is enabled",
            Self::HasSidecar => "pod has a sidecar injected already",
            Self::Disabled => "pod has the annotation linkerd.io/inject:disabled",
            Self::NotAsked => {
                "neither the namespace nor the pod have the annotation linkerd.io/inject:enabled"
            }
            Self::NoToken => "automountServiceAccountToken set to \"false\"",
        })
    }
}

/// What is known of a pod beside itself.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Its namespace; empty where it is not known.
    pub namespace: String,
    /// Its namespace's annotations.
    pub namespace_annotations: BTreeMap<String, String>,
    /// What made it: `("deployment", "web")`.
    pub owner: Option<(String, String)>,
}

/// Whether everything that an injection touches has the form that Kubernetes gives it.
pub fn is_whole(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let is_list = |name: &str| spec[name].is_null() || spec[name].is_array();
    has_whole_metadata(pod)
        && spec["containers"].is_array()
        && is_list("initContainers")
        && is_list("volumes")
}

/// Whether an object's labels and annotations have the form that Kubernetes gives them.
pub fn has_whole_metadata(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let is_map = |value: &Value| value.is_null() || value.is_object();
    object.is_object()
        && is_map(metadata)
        && is_map(&metadata["labels"])
        && is_map(&metadata["annotations"])
}

/// Whether a pod (or a pod's template) could have a sidecar, whoever asks for it.
///
/// # Errors
/// [`Skip`].
pub fn check(pod: &Value) -> Result<(), Skip> {
    let spec = &pod["spec"];
    let has = |list: &str, names: &[&str]| {
        let containers = spec[list].as_array().into_iter().flatten();
        let mut named = containers.filter_map(|container| container["name"].as_str());
        named.any(|name| names.contains(&name))
    };
    let sidecars = [sidecar::PROXY, sidecar::INIT, "istio-proxy", "istio-init"];
    match () {
        () if spec["hostNetwork"] == true => Err(Skip::HostNetwork),
        () if has("containers", &sidecars) || has("initContainers", &sidecars) => {
            Err(Skip::HasSidecar)
        }
        () if annotations(pod).get(INJECT).is_some_and(|mode| mode == "disabled") => {
            Err(Skip::Disabled)
        }
        () => Ok(()),
    }
}

/// Whether a pod that is about to be created is to have a sidecar.
///
/// # Errors
/// [`Skip`].
pub fn is_asked(pod: &Value, surroundings: &Surroundings) -> Result<(), Skip> {
    let is_asked = |mode: &String| mode == "enabled" || mode == "ingress";
    match annotations(pod).get(INJECT) {
        Some(mode) if is_asked(mode) => {}
        Some(_) => return Err(Skip::Disabled),
        None => match surroundings.namespace_annotations.get(INJECT) {
            Some(mode) if is_asked(mode) => {}
            _ => return Err(Skip::NotAsked),
        },
    }
    check(pod)
}

/// Puts a sidecar into a pod or a pod's template, which [`check`] has found fit for one.
///
/// # Errors
/// Every annotation that cannot be used.
pub fn pod(
    pod: &mut Value,
    values: &Values,
    surroundings: &Surroundings,
) -> Result<(), Vec<BadAnnotation>> {
    let namespace = &surroundings.namespace_annotations;
    let settings = Settings::new(values, namespace, &annotations(pod))?;
    put(pod, &settings, surroundings);
    Ok(())
}

/// Puts the sidecar of these settings into a pod or a pod's template.
pub(super) fn put(pod: &mut Value, settings: &Settings, surroundings: &Surroundings) {
    let values = &settings.values;
    let ports = application_ports(&pod["spec"]);
    let version = values.linkerd_version.clone();
    annotate(pod, CREATED_BY, &format!("weft/{version}"));
    annotate(pod, PROXY_VERSION, &version);
    let anchors = &values.identity_trust_anchors_pem;
    if !anchors.is_empty() {
        annotate(pod, TRUST_ROOT_SHA256, &sha256(anchors));
    }
    let labels = object(object(pod, "metadata"), "labels");
    labels.insert(CONTROL_PLANE_NS.into(), values.linkerd_namespace.as_str().into());
    if !surroundings.namespace.is_empty() {
        labels.insert(WORKLOAD_NS.into(), surroundings.namespace.as_str().into());
    }
    if let Some((kind, name)) = &surroundings.owner {
        labels.insert(format!("{PROXY_OWNER_PREFIX}{kind}"), name.as_str().into());
    }
    let spec = object(pod, "spec");
    list(spec, "volumes").extend(sidecar::volumes(settings));
    let proxy = sidecar::proxy(settings, &ports);
    let mut first = vec![sidecar::init(settings)];
    match settings.values.proxy.native_sidecar {
        true => first.push(proxy),
        // Where the application waits for it, it must be the first to start.
        false if settings.values.proxy.await_ready => list(spec, "containers").insert(0, proxy),
        false => list(spec, "containers").push(proxy),
    }
    list(spec, "initContainers").splice(0..0, first);
    if let Some(image) = &settings.debug_image {
        list(spec, "containers").push(sidecar::debug(settings, image));
    }
}

/// What pods are annotated with of the trust anchors that their sidecars begin with.
pub fn sha256(anchors_pem: &str) -> String {
    Sha256::digest(anchors_pem).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The TCP ports that a pod's containers declare: `8080,9090`.
fn application_ports(spec: &Value) -> String {
    let containers = spec["containers"].as_array().into_iter().flatten();
    let declared = containers.filter_map(|container| container["ports"].as_array()).flatten();
    let tcp = declared.filter(|port| port["protocol"].as_str().is_none_or(|name| name == "TCP"));
    let ports = tcp.filter_map(|port| port["containerPort"].as_u64());
    ports.map(|port| port.to_string()).collect::<Vec<_>>().join(",")
}

/// The annotations of a pod, or of anything else that has metadata.
pub fn annotations(object: &Value) -> BTreeMap<String, String> {
    let named = object["metadata"]["annotations"].as_object().into_iter().flatten();
    named.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_string()))).collect()
}

/// Sets an annotation.
pub fn annotate(to: &mut Value, name: &str, value: &str) {
    let annotations = object(object(to, "metadata"), "annotations");
    annotations.insert(name.to_string(), value.into());
}

/// What can be asked for a field that is an object.
pub(super) trait Fields {
    /// The fields; an empty object where there were none.
    fn fields(&mut self) -> &mut Map<String, Value>;
}

impl Fields for Value {
    fn fields(&mut self) -> &mut Map<String, Value> {
        if !self.is_object() {
            *self = Map::new().into();
        }
        self.as_object_mut().expect("it is an object now")
    }
}

impl Fields for Map<String, Value> {
    fn fields(&mut self) -> &mut Map<String, Value> {
        self
    }
}

/// A field that is an object, made where it is missing.
pub(super) fn object<'a>(of: &'a mut impl Fields, field: &str) -> &'a mut Map<String, Value> {
    of.fields().entry(field).or_insert(Value::Null).fields()
}

/// A field that is a list, made where it is missing.
pub(super) fn list<'a>(of: &'a mut Map<String, Value>, field: &str) -> &'a mut Vec<Value> {
    let list = of.entry(field).or_insert(Value::Null);
    if !list.is_array() {
        *list = Vec::<Value>::new().into();
    }
    list.as_array_mut().expect("it is a list now")
}
