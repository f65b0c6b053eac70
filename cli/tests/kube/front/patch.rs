//! Patches of JSON: RFC 7396, and of RFC 6902 what API servers and webhooks send.

use serde_json::{Value, json};

/// RFC 7396.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => drop(target.as_object_mut().and_then(|target| target.remove(name))),
            value => merge(&mut target[name], value),
        }
    }
}

/// RFC 6902: `add`, `replace` and `remove`. Fails where a path leads nowhere, as it does in Kubernetes.
pub fn apply(target: &mut Value, patch: &Value) -> Result<(), String> {
    let steps = patch.as_array().ok_or_else(|| format!("no JSON patch: {patch}"))?;
    steps.iter().try_for_each(|step| one(target, step).ok_or_else(|| format!("cannot do {step}")))
}

/// None where it cannot be done.
fn one(target: &mut Value, step: &Value) -> Option<()> {
    let value = step.get("value").cloned();
    let (parent, name) = step["path"].as_str()?.rsplit_once('/')?;
    let name = name.replace("~1", "/").replace("~0", "~");
    match (target.pointer_mut(parent)?, step["op"].as_str()?) {
        (Value::Object(fields), "add") => drop(fields.insert(name, value?)),
        (Value::Object(fields), "replace") => *fields.get_mut(&name)? = value?,
        (Value::Object(fields), "remove") => drop(fields.remove(&name)?),
        (Value::Array(items), "add") if name == "-" => items.push(value?),
        (Value::Array(items), "add") => {
            let at = name.parse().ok().filter(|at| *at <= items.len())?;
            items.insert(at, value?);
        }
        (Value::Array(items), "replace") => *items.get_mut(name.parse::<usize>().ok()?)? = value?,
        (Value::Array(items), "remove") => {
            let at = name.parse().ok().filter(|at| *at < items.len())?;
            items.remove(at);
        }
        _ => return None,
    }
    Some(())
}
