//! The difference between two documents as a JSON Patch (RFC 6902), which is how an admission
//! webhook answers.
//!
//! Law: the patch of two documents makes the first into the second.

use serde_json::{Map, Value, json};

/// The operations that make `from` into `to`.
pub fn difference(from: &Value, to: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    compare("", from, to, &mut operations);
    operations
}

fn compare(path: &str, from: &Value, to: &Value, operations: &mut Vec<Value>) {
    match (from, to) {
        (from, to) if from == to => {}
        (Value::Object(from), Value::Object(to)) => objects(path, from, to, operations),
        (Value::Array(from), Value::Array(to)) => lists(path, from, to, operations),
        _ => operations.push(json!({"op": "replace", "path": path, "value": to})),
    }
}

fn objects(
    path: &str,
    from: &Map<String, Value>,
    to: &Map<String, Value>,
    operations: &mut Vec<Value>,
) {
    for (name, before) in from {
        let path = format!("{path}/{}", escape(name));
        match to.get(name) {
            Some(after) => compare(&path, before, after, operations),
            None => operations.push(json!({"op": "remove", "path": path})),
        }
    }
    for (name, value) in to.iter().filter(|(name, _)| !from.contains_key(*name)) {
        let path = format!("{path}/{}", escape(name));
        operations.push(json!({"op": "add", "path": path, "value": value}));
    }
}

/// What both begin and end with stays; between, the old goes and the new comes.
fn lists(path: &str, from: &[Value], to: &[Value], operations: &mut Vec<Value>) {
    let first = from.iter().zip(to).take_while(|(from, to)| from == to).count();
    let (old, new) = (&from[first..], &to[first..]);
    let last = old.iter().rev().zip(new.iter().rev()).take_while(|(from, to)| from == to).count();
    let (old, new) = (&old[..old.len() - last], &new[..new.len() - last]);
    let shared = old.len().min(new.len());
    for (index, (old, new)) in old.iter().zip(new).enumerate() {
        compare(&format!("{path}/{}", first + index), old, new, operations);
    }
    for index in (shared..old.len()).rev() {
        operations.push(json!({"op": "remove", "path": format!("{path}/{}", first + index)}));
    }
    for (index, value) in new.iter().enumerate().skip(shared) {
        let path = format!("{path}/{}", first + index);
        operations.push(json!({"op": "add", "path": path, "value": value}));
    }
}

/// A name as a part of a JSON Pointer (RFC 6901).
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
