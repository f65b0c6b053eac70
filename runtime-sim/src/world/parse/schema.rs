//! The schema of scenario files, made of the types that they are read into, and the check of a
//! document against it: every flaw at once, each with its place and the valid choices.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value as Yaml;

use super::super::scenario::Spec;
use super::names::Names;
use super::place::Path;

/// The version that Scenario documents name.
pub(super) const API_VERSION: &str = "scenario.weft.sh/v1alpha1";

/// What happens in a simulated world, and what must hold.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Scenario")]
pub(super) struct Document {
    #[schemars(extend("const" = API_VERSION))]
    pub(super) api_version: String,
    #[schemars(extend("const" = "Scenario"))]
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
}

/// Its name.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    /// The scenario's name.
    pub(super) name: String,
}

/// The JSON schema of scenario files, for editors. Documents that are no Scenario pass it.
pub fn schema() -> Json {
    let mut generator = SchemaSettings::draft07().into_generator();
    let document = generator.subschema_for::<Document>();
    let definitions = generator.take_definitions(true);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Weft scenario file",
        "if": {"properties": {"kind": {"const": "Scenario"}}, "required": ["kind"]},
        "then": document,
        "definitions": definitions,
    })
}

/// Something wrong with a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) path: Path,
    /// Whether the key is wrong, not the value.
    pub(super) at_key: bool,
    pub(super) fault: String,
    pub(super) remedy: String,
}

impl Flaw {
    pub(super) fn new(path: Path, fault: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path, at_key: false, fault: fault.into(), remedy: remedy.into() }
    }
}

/// Every flaw of a Scenario document, in its order.
pub(super) fn check(document: &Yaml, names: &Names) -> Vec<Flaw> {
    let schema = schema();
    let mut checker = Checker { root: &schema, names, flaws: Vec::new() };
    checker.check(&schema["then"], document, &Path::default());
    checker.flaws
}

struct Checker<'a> {
    root: &'a Json,
    names: &'a Names,
    flaws: Vec<Flaw>,
}

impl<'a> Checker<'a> {
    fn check(&mut self, schema: &'a Json, value: &Yaml, path: &Path) {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.root.pointer(reference.trim_start_matches('#'));
            self.check(target.unwrap_or(&Json::Null), value, path);
        }
        for part in list(&schema["allOf"]) {
            self.check(part, value, path);
        }
        let variants = list(&schema["oneOf"]).iter().chain(list(&schema["anyOf"]));
        let variants: Vec<_> = variants.map(|variant| self.resolve(variant)).collect();
        if !variants.is_empty() {
            return self.check_variants(&variants, value, path);
        }
        if let Some(only) = schema.get("const") {
            return self.check_choice(&[only], value, path);
        }
        let choices: Vec<_> = list(&schema["enum"]).iter().collect();
        if !choices.is_empty() {
            return self.check_choice(&choices, value, path);
        }
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|wanted| is_of_type(value, wanted)) {
            let wanted: Vec<_> = types.into_iter().filter(|wanted| *wanted != "null").collect();
            let fault = format!("is {}, not {}", describe(value), article(&wanted.join(" or ")));
            let remedy = match example(schema) {
                Some(example) => format!("write it as {example}"),
                None => "correct it".to_owned(),
            };
            return self.flaws.push(Flaw::new(path.clone(), fault, remedy));
        }
        match value {
            Yaml::Mapping(map) => self.check_map(schema, map, path),
            Yaml::Sequence(items) => self.check_list(schema, items, path),
            Yaml::Number(number) => self.check_number(schema, number, path),
            Yaml::String(text) => {
                if let Some(format) = schema["format"].as_str()
                    && let Err((fault, remedy)) = self.names.check(format, text)
                {
                    self.flaws.push(Flaw::new(path.clone(), fault, remedy));
                }
            }
            _ => {}
        }
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let reference = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str());
        let target = reference.and_then(|r| self.root.pointer(r.trim_start_matches('#')));
        target.unwrap_or(schema)
    }

    /// A value that is one of several things: by its type, then by the name of its only key.
    fn check_variants(&mut self, variants: &[&'a Json], value: &Yaml, path: &Path) {
        let nested: Vec<_> = variants
            .iter()
            .flat_map(|variant| match list(&variant["oneOf"]) {
                [] => vec![*variant],
                inner => inner.iter().map(|inner| self.resolve(inner)).collect(),
            })
            .collect();
        let fits = |variant: &&Json| types(variant).iter().any(|wanted| is_of_type(value, wanted));
        let candidates: Vec<_> = nested.iter().copied().filter(fits).collect();
        match (candidates.as_slice(), value) {
            ([], _) | (_, Yaml::Null) if value.is_null() && candidates.is_empty() => {
                self.wrong_type(&nested, value, path);
            }
            (_, Yaml::Null) => {}
            ([only], _) => self.check(only, value, path),
            (several, Yaml::Mapping(map)) => self.check_tagged(several, map, path),
            (several, Yaml::String(_)) if !several.is_empty() => {
                let choices = several.iter().flat_map(|variant| match variant.get("const") {
                    Some(only) => vec![only],
                    None => list(&variant["enum"]).iter().collect(),
                });
                let choices: Vec<_> = choices.collect();
                self.check_choice(&choices, value, path);
            }
            _ => self.wrong_type(&nested, value, path),
        }
    }

    fn wrong_type(&mut self, variants: &[&'a Json], value: &Yaml, path: &Path) {
        let names = variants.iter().flat_map(|variant| match list(&variant["required"]) {
            [Json::String(tag)] => vec![format!("{tag}: …")],
            _ => variant["const"].as_str().map(str::to_owned).into_iter().collect(),
        });
        let names: Vec<_> = names.collect();
        let fault = format!("cannot be {}", describe(value));
        let remedy = match names.is_empty() {
            true => "correct it".to_owned(),
            false => format!("use one of: {}", names.join(", ")),
        };
        self.flaws.push(Flaw::new(path.clone(), fault, remedy));
    }

    fn check_tagged(&mut self, variants: &[&'a Json], map: &serde_yaml_ng::Mapping, path: &Path) {
        let tag = |variant: &'a Json| list(&variant["required"]).first().and_then(Json::as_str);
        let names: Vec<_> = variants.iter().filter_map(|variant| tag(variant)).collect();
        let keys: Vec<_> = map.keys().filter_map(Yaml::as_str).collect();
        let [key] = keys.as_slice() else {
            let fault = match keys.as_slice() {
                [] => "is empty".to_owned(),
                several => format!("has {} keys, not one", several.len()),
            };
            let remedy = format!("use one of: {}", names.join(", "));
            return self.flaws.push(Flaw::new(path.clone(), fault, remedy));
        };
        match variants.iter().find(|variant| tag(variant) == Some(key)) {
            Some(variant) => self.check(variant, &Yaml::Mapping(map.clone()), path),
            None => self.flaws.push(Flaw {
                at_key: true,
                ..Flaw::new(path.key(key), format!("there is no `{key}`"), choices(key, &names))
            }),
        }
    }

    fn check_choice(&mut self, valid: &[&Json], value: &Yaml, path: &Path) {
        let as_json = serde_json::to_value(value).unwrap_or_default();
        if valid.iter().any(|choice| **choice == as_json) {
            return;
        }
        let names: Vec<_> = valid.iter().filter_map(|choice| choice.as_str()).collect();
        let text = value.as_str().map_or_else(|| describe(value), |text| format!("`{text}`"));
        let remedy = choices(value.as_str().unwrap_or_default(), &names);
        let fault = format!("{text} is none of the choices");
        self.flaws.push(Flaw::new(path.clone(), fault, remedy));
    }

    fn check_map(&mut self, schema: &'a Json, map: &serde_yaml_ng::Mapping, path: &Path) {
        let Some(properties) = schema["properties"].as_object() else {
            let inner = &schema["additionalProperties"];
            for (key, value) in map {
                let key = key.as_str().map_or_else(|| describe(key), str::to_owned);
                self.check(inner, value, &path.key(&key));
            }
            return;
        };
        for (key, value) in map {
            let name = key.as_str().map_or_else(|| describe(key), str::to_owned);
            let inside = path.key(&name);
            match properties.get(&name) {
                Some(property) => self.check(property, value, &inside),
                None if schema["additionalProperties"] == false => {
                    let names: Vec<_> = properties.keys().map(String::as_str).collect();
                    let fault = format!("unknown field `{name}`");
                    let flaw = Flaw::new(inside, fault, choices(&name, &names));
                    self.flaws.push(Flaw { at_key: true, ..flaw });
                }
                None => {}
            }
        }
        let given = |name: &&str| map.get(*name).is_some();
        let required = list(&schema["required"]).iter().filter_map(Json::as_str);
        for name in required.filter(|name| !given(name)) {
            let about = properties.get(name).and_then(|p| p["description"].as_str());
            let about = about.unwrap_or_default().lines().next().unwrap_or_default();
            let fault = format!("`{name}` is missing");
            let remedy = format!("add `{name}`: {about}");
            let remedy = remedy.trim_end_matches(['.', ' ', ':']);
            self.flaws.push(Flaw::new(path.clone(), fault, remedy));
        }
    }

    fn check_list(&mut self, schema: &'a Json, items: &[Yaml], path: &Path) {
        if schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least) {
            self.flaws.push(Flaw::new(path.clone(), "is empty", "name at least one"));
        }
        for (index, item) in items.iter().enumerate() {
            self.check(&schema["items"], item, &path.index(index));
        }
    }

    fn check_number(&mut self, schema: &'a Json, number: &serde_yaml_ng::Number, path: &Path) {
        let value = number.as_f64().unwrap_or(f64::NAN);
        let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        let in_range = least.is_none_or(|least| value >= least)
            && most.is_none_or(|most| value <= most)
            && value.is_finite();
        if !in_range {
            let remedy = match (least, most) {
                (Some(least), Some(most)) => format!("use {least} to {most}"),
                (Some(least), None) => format!("use {least} or more"),
                (None, Some(most)) => format!("use {most} or less"),
                (None, None) => "use a finite number".to_owned(),
            };
            self.flaws.push(Flaw::new(path.clone(), format!("{number} is out of range"), remedy));
        }
    }
}

fn list(schema: &Json) -> &[Json] {
    schema.as_array().map_or(&[], Vec::as_slice)
}

fn types(schema: &Json) -> Vec<&str> {
    match &schema["type"] {
        Json::String(only) => vec![only],
        Json::Array(several) => several.iter().filter_map(Json::as_str).collect(),
        _ if schema.get("const").is_some() || schema.get("enum").is_some() => vec!["string"],
        _ => Vec::new(),
    }
}

fn is_of_type(value: &Yaml, wanted: &str) -> bool {
    match value {
        Yaml::Null => wanted == "null",
        Yaml::Bool(_) => wanted == "boolean",
        Yaml::Number(number) => wanted == "number" || (wanted == "integer" && !number.is_f64()),
        Yaml::String(_) => wanted == "string",
        Yaml::Sequence(_) => wanted == "array",
        Yaml::Mapping(_) => wanted == "object",
        Yaml::Tagged(_) => false,
    }
}

fn describe(value: &Yaml) -> String {
    match value {
        Yaml::Null => "nothing".to_owned(),
        Yaml::Bool(value) => value.to_string(),
        Yaml::Number(number) => number.to_string(),
        Yaml::String(text) => format!("`{text}`"),
        Yaml::Sequence(_) => "a list".to_owned(),
        Yaml::Mapping(_) => "a map".to_owned(),
        Yaml::Tagged(_) => "a tagged value".to_owned(),
    }
}

fn article(types: &str) -> String {
    let article = if types.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {types}").replace("object", "map").replace("an map", "a map")
}

fn example(schema: &Json) -> Option<String> {
    let examples: Vec<_> = list(&schema["examples"]).iter().filter_map(Json::as_str).collect();
    (!examples.is_empty()).then(|| examples.join(" or "))
}

/// What may stand there, the likely one first.
pub(super) fn choices(found: &str, valid: &[&str]) -> String {
    let near = valid.iter().map(|choice| (distance(found, choice), choice)).min();
    let mut text = match near {
        Some((distance, choice)) if distance <= 2 => format!("did you mean `{choice}`? "),
        _ => String::new(),
    };
    text.push_str(&match valid {
        [] => "there is none to choose".to_owned(),
        [only] => format!("the only choice is {only}"),
        several => format!("use one of: {}", several.join(", ")),
    });
    text
}

/// Letters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.chars().collect();
    let mut row: Vec<_> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
