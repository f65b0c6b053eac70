//! Texts of many documents: which of their objects are injected, annotated or left alone.
//!
//! Law: a document that is left alone comes out byte for byte as it was; one bad document, and
//! nothing of the text comes out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::inject::{Skip, Surroundings, annotate};
use super::settings::Settings;
use super::values::Values;
use super::{annotations, inject, uninject};
use crate::resource::yaml;

/// A text after injection or its undoing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// The documents.
    pub text: String,
    /// What was done, object by object.
    pub objects: Vec<Reported>,
}

/// What was done to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// `deployment`; empty where a document names none.
    pub kind: String,
    /// Its name; empty where it has none.
    pub name: String,
    /// What was done.
    pub outcome: Outcome,
    /// Its containers have UDP ports, whose traffic is not the mesh's.
    pub has_udp: bool,
    /// Annotations that mean nothing.
    pub remarks: Vec<String>,
}

/// What was done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It got a sidecar, or an annotation that asks for one.
    Injected,
    /// It got annotations, and has no pods of its own.
    Annotated,
    /// What an injection had done is undone.
    Uninjected,
    /// Nothing, for a reason.
    Skipped(Skip),
    /// Nothing: it has no pods.
    Unsupported,
}

/// How to inject.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The whole sidecar, made with these values; `None`: annotations that make the cluster's
    /// injector do it.
    pub manual: Option<Values>,
    /// `linkerd.io/inject: ingress`.
    pub ingress: bool,
    /// Annotations that flags ask for, `config.linkerd.io/…` with their values.
    pub annotations: BTreeMap<String, String>,
}

/// Why a text could not be worked on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is no YAML.
    #[error("{file}, document {document}: {fault}")]
    Yaml {
        /// The text's name.
        file: String,
        /// The document in it, from 1.
        document: usize,
        /// What the parser says, with line and column.
        fault: String,
    },
    /// An object's annotations cannot be used.
    #[error("{file}, document {document}: {kind} {name}: {fault}")]
    Annotation {
        /// The text's name.
        file: String,
        /// The document in it, from 1.
        document: usize,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// Which annotations, and what they take.
        fault: String,
    },
}

/// Injects every object of a text that can be.
///
/// # Errors
/// [`DocumentError`]: the first.
pub fn inject(file: &str, text: &str, options: &Options) -> Result<Documents, DocumentError> {
    each(file, text, |object| inject_object(object, options))
}

/// Undoes the injection of every object of a text.
///
/// # Errors
/// [`DocumentError`]: the first.
pub fn uninject(file: &str, text: &str) -> Result<Documents, DocumentError> {
    each(file, text, |object| {
        let changed = match kind(object).as_str() {
            "namespace" | "service" => uninject::metadata(object),
            _ => match pods(object) {
                Some(pod) => uninject::pod(pod),
                None => return Ok(Outcome::Unsupported),
            },
        };
        Ok(if changed { Outcome::Uninjected } else { Outcome::Unsupported })
    })
}

/// Works on every object of every document, those in lists too.
fn each(
    file: &str,
    text: &str,
    mut work: impl FnMut(&mut Value) -> Result<Outcome, String>,
) -> Result<Documents, DocumentError> {
    let mut done = Documents::default();
    for (index, (_, document)) in yaml::documents(text).into_iter().enumerate() {
        let at = |fault: serde_yaml_ng::Error| DocumentError::Yaml {
            file: file.to_string(),
            document: index + 1,
            fault: fault.to_string(),
        };
        let mut value: Value = serde_yaml_ng::from_str(document).map_err(at)?;
        if value.is_null() {
            continue;
        }
        let before = value.clone();
        let is_list = kind(&value).ends_with("list") && value["items"].is_array();
        let objects = match is_list {
            true => value["items"].as_array_mut().expect("it is one").iter_mut().collect(),
            false => vec![&mut value],
        };
        for object in objects {
            let (kind, name) = (kind(object), name(object));
            let outcome = work(object).map_err(|fault| DocumentError::Annotation {
                file: file.to_string(),
                document: index + 1,
                kind: kind.clone(),
                name: name.clone(),
                fault,
            })?;
            let template = pods(object).map(|pod| (has_udp(pod), inject::annotations(pod)));
            let (has_udp, annotated) = template.unwrap_or_default();
            let remarks = annotations::unknown(&annotated);
            done.objects.push(Reported { kind, name, outcome, has_udp, remarks });
        }
        let changed = value != before;
        let changed = changed.then(|| serde_yaml_ng::to_string(&value)).transpose().map_err(at)?;
        let document = changed.as_deref().unwrap_or(document);
        if !done.text.is_empty() && !document.starts_with("---") {
            done.text.push_str("---\n");
        }
        done.text.push_str(document);
        if !done.text.ends_with('\n') {
            done.text.push('\n');
        }
    }
    Ok(done)
}

fn inject_object(object: &mut Value, options: &Options) -> Result<Outcome, String> {
    let (kind, name) = (kind(object), name(object));
    match kind.as_str() {
        "namespace" | "service" if !inject::has_whole_metadata(object) => {
            return Ok(Outcome::Unsupported);
        }
        "namespace" => {
            ask(object, options);
            return Ok(Outcome::Annotated);
        }
        "service" => {
            let Some(ports) = options.annotations.get(annotations::OPAQUE_PORTS) else {
                return Ok(Outcome::Unsupported);
            };
            annotate(object, annotations::OPAQUE_PORTS, ports);
            return Ok(Outcome::Annotated);
        }
        _ => {}
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_string();
    let Some(pod) = pods(object) else {
        return Ok(Outcome::Unsupported);
    };
    if let Err(skip) = inject::check(pod) {
        return Ok(Outcome::Skipped(skip));
    }
    let faults = |faults: Vec<super::settings::BadAnnotation>| {
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    match &options.manual {
        None => {
            ask(pod, options);
            let values = Values::default();
            Settings::new(&values, &BTreeMap::new(), &inject::annotations(pod)).map_err(faults)?;
        }
        Some(values) => {
            for (name, value) in &options.annotations {
                annotate(pod, name, value);
            }
            if options.ingress {
                annotate(pod, annotations::INJECT, "ingress");
            }
            let owner = (kind != "pod").then(|| (kind.clone(), name));
            let surroundings = Surroundings { namespace, owner, ..Surroundings::default() };
            inject::pod(pod, values, &surroundings).map_err(faults)?;
        }
    }
    Ok(Outcome::Injected)
}

/// Annotates what the cluster's injector is to inject.
fn ask(object: &mut Value, options: &Options) {
    let mode = if options.ingress { "ingress" } else { "enabled" };
    annotate(object, annotations::INJECT, mode);
    for (name, value) in &options.annotations {
        annotate(object, name, value);
    }
}

/// An object's kind, as reports write it.
fn kind(object: &Value) -> String {
    object["kind"].as_str().unwrap_or_default().to_lowercase()
}

fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str());
    name.unwrap_or_default().to_string()
}

/// The pod, or the template of the pods, that an object is or makes.
pub fn pods(object: &mut Value) -> Option<&mut Value> {
    let path = match object["kind"].as_str()? {
        "Pod" => "",
        "Deployment"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet"
        | "DaemonSet"
        | "Job" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    object.pointer_mut(path).filter(|pod| inject::is_whole(pod))
}

fn has_udp(pod: &Value) -> bool {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.filter_map(|container| container["ports"].as_array()).flatten();
    ports.any(|port| port["protocol"] == "UDP")
}
