//! Values in layers over the defaults, as `--values` and `--set` give them: later ones win, maps are
//! merged, lists are replaced.
//!
//! Law: a name that means nothing is an error with its whole path and the name that was probably
//! meant; nothing is passed over but what Linkerd's chart has and Weft has no use for, and that is
//! remarked on.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::{Values, check};

/// Values that are given together, and by whom: `--values ha.yaml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Who gives them, as errors say it.
    pub source: String,
    /// The values, as deep as they differ.
    pub values: Value,
}

/// Values after their layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The values.
    pub values: Values,
    /// What was given and has no effect.
    pub remarks: Vec<String>,
}

/// Why values cannot be used: every reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ValuesError(pub(super) Vec<String>);

/// Values of Linkerd's chart that say nothing here: whatever Weft does not have, or needs not be told.
pub(super) const INERT: [&str; 23] = [
    "controlPlaneTracing",
    "controlPlaneTracingNamespace",
    "destinationController",
    "disableHeartBeat",
    "enableEndpointSlices",
    "enablePSP",
    "heartbeat",
    "heartbeatResources",
    "heartbeatSchedule",
    "identity.additionalEnv",
    "identity.serviceAccountTokenProjection",
    "kubeAPI",
    "networkValidator",
    "podMonitor.serviceMirror",
    "policyController.image",
    "policyController.logLevel",
    "policyController.resources",
    "proxy.saMountPath",
    "proxy.tracing.labels",
    "proxyInit.logLevel",
    "proxyInit.runAsRoot",
    "proxyInit.xtMountPath",
    "spValidatorResources",
];

/// Maps and lists that hold what the user wants, under names of the user's or of Kubernetes.
const FREE: [&str; 14] = [
    "nodeSelector",
    "nodeAffinity",
    "deploymentStrategy",
    "podAnnotations",
    "podLabels",
    "commonLabels",
    "podMonitor.labels",
    "podMonitor.controller.namespaceSelector",
    "podMonitor.proxy.namespaceSelector",
    "proxyInjector.podAnnotations",
    "profileValidator.podAnnotations",
    "policyValidator.podAnnotations",
    "namespaceSelector",
    "objectSelector",
];

/// Reads a file of values.
///
/// # Errors
/// It is no YAML, or no map.
pub fn parse(source: &str, yaml: &str) -> Result<Layer, ValuesError> {
    let fault = |fault: &dyn fmt::Display| ValuesError(vec![format!("{source}: {fault}")]);
    let values: Value = serde_yaml_ng::from_str(yaml).map_err(|error| fault(&error))?;
    match values {
        Value::Null => Ok(Layer { source: source.into(), values: Map::new().into() }),
        Value::Object(_) => Ok(Layer { source: source.into(), values }),
        _ => Err(fault(&"is no map of values, such as `controllerReplicas: 3`")),
    }
}

/// The defaults with layers over them.
///
/// # Errors
/// Every fault of every layer.
pub fn merge(layers: &[Layer]) -> Result<Merged, ValuesError> {
    let defaults = serde_json::to_value(Values::default()).expect("values are plain data");
    let known = paths(&defaults);
    let mut merged = defaults.clone();
    let mut faults = Vec::new();
    let mut remarks = BTreeSet::new();
    for Layer { source, values } in layers {
        let mut merging =
            Merging { source, known: &known, faults: &mut faults, remarks: &mut remarks };
        merging.value("", &mut merged, values, &defaults);
    }
    if !faults.is_empty() {
        return Err(ValuesError(faults));
    }
    let values = serde_json::from_value(merged.clone())
        .map_err(|error| ValuesError(vec![named(&merged, &defaults, &error.to_string())]))?;
    let faults = check::faults(&values);
    match faults.is_empty() {
        true => Ok(Merged { values, remarks: remarks.into_iter().collect() }),
        false => Err(ValuesError(faults)),
    }
}

struct Merging<'a> {
    source: &'a str,
    known: &'a [String],
    faults: &'a mut Vec<String>,
    remarks: &'a mut BTreeSet<String>,
}

impl Merging<'_> {
    fn value(&mut self, path: &str, into: &mut Value, from: &Value, default: &Value) {
        match (into, from) {
            // As in Helm: nothing takes back what was said.
            (into, Value::Null) => *into = default.clone(),
            (Value::Object(into), Value::Object(from)) if is_free(path) => deepen(into, from),
            (Value::Object(into), Value::Object(from)) => {
                for (name, from) in from {
                    let path = under(path, name);
                    match into.get_mut(name) {
                        Some(into) => self.value(&path, into, from, &default[name]),
                        None => self.unknown(&path, from),
                    }
                }
            }
            (Value::String(into), Value::Number(_) | Value::Bool(_)) => *into = from.to_string(),
            (into, from) if is_alike(into, from) => *into = from.clone(),
            (into, from) => {
                let wanted = wanted(into);
                self.fault(path, &format!("`{}` cannot be used; it takes {wanted}", short(from)));
            }
        }
    }

    fn unknown(&mut self, path: &str, value: &Value) {
        let is_inert = |inert: &&'static str| {
            path.strip_prefix(*inert).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        // What only leads to values without effect is gone through, so that others in it are found.
        if let Some(fields) = value.as_object()
            && INERT.iter().any(|inert| inert.starts_with(&format!("{path}.")))
        {
            fields.iter().for_each(|(name, value)| self.unknown(&under(path, name), value));
        } else if INERT.iter().any(is_inert) {
            let source = self.source;
            self.remarks.insert(format!("{source}: {path} has no effect in Weft"));
        } else {
            let remedy = match nearest(path, self.known) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "see docs/install.md for what there is".into(),
            };
            self.fault(path, &format!("there is no such value; {remedy}"));
        }
    }

    fn fault(&mut self, path: &str, what: &str) {
        self.faults.push(format!("{}: {path}: {what}", self.source));
    }
}

/// The known path that was probably meant: nearly the same, or the same name elsewhere.
fn nearest<'a>(path: &str, known: &'a [String]) -> Option<&'a String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let distance = |known: &&String| strsim::levenshtein(known, path);
    let is_close = |known: &&String| distance(known) <= 3.min(last(path).len() / 2);
    let close = known.iter().min_by_key(distance).filter(is_close);
    let elsewhere = || known.iter().filter(|known| last(known) == last(path)).min_by_key(distance);
    close.or_else(elsewhere)
}

/// Every path of a tree of values: `proxy`, `proxy.uid`.
fn paths(of: &Value) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = vec![(String::new(), of)];
    while let Some((path, value)) = rest.pop() {
        for (name, value) in value.as_object().into_iter().flatten() {
            let path = under(&path, name);
            all.push(path.clone());
            if !is_free(&path) {
                rest.push((path, value));
            }
        }
    }
    all.sort();
    all
}

pub(super) fn under(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

pub(super) fn is_free(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or_default();
    FREE.contains(&path) || FREE.contains(&last)
}

fn deepen(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (name, from) in from {
        match (into.get_mut(name), from) {
            (_, Value::Null) => drop(into.remove(name)),
            (Some(Value::Object(into)), Value::Object(from)) => deepen(into, from),
            _ => drop(into.insert(name.clone(), from.clone())),
        }
    }
}

fn is_alike(one: &Value, other: &Value) -> bool {
    one.is_null() || std::mem::discriminant(one) == std::mem::discriminant(other)
}

fn wanted(like: &Value) -> &'static str {
    match like {
        Value::Null | Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToString::to_string);
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What serde says of merged values, with the path of the value that it says it of: the first one
/// that alone is refused among defaults.
fn named(merged: &Value, defaults: &Value, error: &str) -> String {
    let pointer = |path: &str| format!("/{}", path.replace('.', "/"));
    let is_refused = |path: &&String| {
        let mut alone = defaults.clone();
        let given = merged.pointer(&pointer(path)).filter(|given| !given.is_object());
        match (alone.pointer_mut(&pointer(path)), given) {
            (Some(place), Some(given)) => *place = given.clone(),
            _ => return false,
        }
        serde_json::from_value::<Values>(alone).is_err()
    };
    match paths(defaults).iter().find(is_refused) {
        Some(path) => format!("{path}: {error}"),
        None => error.to_string(),
    }
}
