//! Undoing an injection: a pod without what [`inject`](super::inject) put into it.

use serde_json::{Map, Value};

use super::annotations::{INJECT, PREFIX};
use super::sidecar::{CONTAINERS, VOLUMES};

/// Takes the sidecar out of a pod or a pod's template, and what asks for one. Whether anything of
/// either was there.
pub fn pod(pod: &mut Value) -> bool {
    let mut changed = metadata(pod);
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return changed;
    };
    for (field, names) in
        [("containers", &CONTAINERS[..]), ("initContainers", &CONTAINERS), ("volumes", &VOLUMES)]
    {
        changed |= remove_named(spec, field, names);
    }
    changed
}

/// Takes the mesh's own annotations and labels off. An annotation that forbids a sidecar stays.
pub fn metadata(object: &mut Value) -> bool {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return false;
    };
    let forbids = |name: &String, value: &Value| name == INJECT && value == "disabled";
    let mut changed = retain(metadata, "annotations", |name, value| {
        !name.starts_with(PREFIX) || forbids(name, value)
    });
    changed |= retain(metadata, "labels", |name, _| !name.starts_with(PREFIX));
    if changed && metadata.is_empty() {
        object.as_object_mut().expect("it has metadata").remove("metadata");
    }
    changed
}

/// Keeps some entries of a map; a map that loses all is removed.
fn retain(
    of: &mut Map<String, Value>,
    field: &str,
    mut keep: impl FnMut(&String, &Value) -> bool,
) -> bool {
    let Some(map) = of.get_mut(field).and_then(Value::as_object_mut) else {
        return false;
    };
    let before = map.len();
    map.retain(|name, value| keep(name, value));
    let changed = map.len() < before;
    if changed && map.is_empty() {
        of.remove(field);
    }
    changed
}

/// Removes what has one of some names from a list; a list that loses all is removed.
fn remove_named(of: &mut Map<String, Value>, field: &str, names: &[&str]) -> bool {
    let Some(list) = of.get_mut(field).and_then(Value::as_array_mut) else {
        return false;
    };
    let before = list.len();
    list.retain(|item| !item["name"].as_str().is_some_and(|name| names.contains(&name)));
    let changed = list.len() < before;
    if changed && list.is_empty() {
        of.remove(field);
    }
    changed
}
