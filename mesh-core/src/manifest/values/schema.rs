//! The values as a JSON schema, by which Helm judges what a chart is given.
//!
//! Law: what [`layers`](super::layers) refuses for its name or its kind, and whatever is none of a few
//! texts, the schema refuses; what a value has to be beyond that is not in it.

use serde_json::{Map, Value, json};

use super::Values;
use super::check::CHOICES;
use super::layers::{INERT, is_free, under};

/// The schema of [`Values`], as a chart's `values.schema.json` has it.
pub fn schema() -> Value {
    let defaults = serde_json::to_value(Values::default()).expect("values are plain data");
    let mut schema = of("", &defaults);
    // Helm puts `global` beside every chart's values.
    for path in INERT.iter().chain(&["global"]) {
        permit(&mut schema, path);
    }
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "Values".into();
    schema
}

/// The schema of a value, told from its default.
fn of(path: &str, default: &Value) -> Value {
    match default {
        Value::Object(_) if is_free(path) => json!({"type": "object"}),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name, of(&under(path, name), value)));
            let fields: Map<_, _> = fields.map(|(name, schema)| (name.clone(), schema)).collect();
            json!({"type": "object", "additionalProperties": false, "properties": fields})
        }
        Value::Array(_) => json!({"type": "array"}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::String(_) => match CHOICES.iter().find(|(known, _)| *known == path) {
            Some((_, choices)) => json!({"enum": choices}),
            // A text that looks like something else is that to YAML.
            None => json!({"type": ["string", "number", "boolean"]}),
        },
        Value::Null => json!({"type": ["number", "null"]}),
    }
}

/// Lets a path hold anything.
fn permit(schema: &mut Value, path: &str) {
    let mut place = schema;
    for name in path.split('.') {
        let fields = &mut place["properties"];
        if fields[name].is_null() {
            fields[name] = json!({});
        }
        place = &mut fields[name];
    }
}
