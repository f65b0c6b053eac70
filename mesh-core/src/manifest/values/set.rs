//! `--set a.b=c,d={1,2},e[0].f=g`, as Helm reads it.

use serde_json::{Map, Value};

use super::ValuesError;
use super::layers::Layer;

/// Longest list that an index may make.
const INDEX_MAX: usize = 100;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

/// The assignments of a `--set`, each a layer of its own.
///
/// # Errors
/// What is not of the form `path=value`.
pub fn parse(text: &str) -> Result<Vec<Layer>, ValuesError> {
    let layer = |assignment: &str| {
        let (path, value) = assignment.split_once('=').ok_or_else(|| {
            fault(assignment, "give a path and a value, as in controllerReplicas=3")
        })?;
        let value = match value.strip_prefix('{').and_then(|list| list.strip_suffix('}')) {
            Some("") => Value::Array(Vec::new()),
            Some(list) => split(list, ',').iter().map(|item| scalar(item)).collect(),
            None => scalar(value),
        };
        Ok(Layer { source: format!("--set {assignment}"), values: at(assignment, path, value)? })
    };
    let assignments = split(text, ',');
    assignments.iter().filter(|assignment| !assignment.is_empty()).map(|a| layer(a)).collect()
}

/// `path=text`, the text being a file's: it is taken as it is.
///
/// # Errors
/// The path is none.
pub fn text(path: &str, text: String) -> Result<Layer, ValuesError> {
    let source = format!("--set-file {path}");
    Ok(Layer { values: at(&source, path, text.into())?, source })
}

/// Parts between separators that are neither escaped nor in braces.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_usize;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let part = parts.last_mut().expect("there is always one");
        match character {
            '\\' => {
                part.push('\\');
                part.extend(characters.next());
            }
            _ if character == separator && depth == 0 => parts.push(String::new()),
            _ => {
                match character {
                    '{' => depth += 1,
                    '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                part.push(character);
            }
        }
    }
    parts
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            _ => plain.push(character),
        }
    }
    plain
}

/// Numbers, booleans and null are such; everything else is a text.
fn scalar(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        "null" => Value::Null,
        _ => match text.parse::<i64>() {
            // As in Helm: a number with a zero before it is a text.
            Ok(number) if number.to_string() == text => number.into(),
            _ => match text.parse::<f64>() {
                Ok(number) if text.contains('.') && number.to_string() == text => number.into(),
                _ => unescaped(text).into(),
            },
        },
    }
}

/// A tree that has a value at a path, and nothing else.
fn at(assignment: &str, path: &str, value: Value) -> Result<Value, ValuesError> {
    let mut steps = Vec::new();
    for part in split(path, '.') {
        let (name, indices) = match part.split_once('[') {
            Some((name, indices)) => (name, Some(indices)),
            None => (&*part, None),
        };
        if name.is_empty() {
            return Err(fault(assignment, "a part of its path is empty"));
        }
        steps.push(Step::Name(unescaped(name)));
        for index in indices.into_iter().flat_map(|indices| indices.split('[')) {
            let index = index.strip_suffix(']').and_then(|index| index.parse().ok());
            let index = index.filter(|index| *index < INDEX_MAX);
            steps.push(Step::Index(index.ok_or_else(|| {
                fault(assignment, "what is in brackets is an index from 0 to 99, as in a[0]")
            })?));
        }
    }
    Ok(steps.into_iter().rev().fold(value, |value, step| match step {
        Step::Name(name) => Map::from_iter([(name, value)]).into(),
        Step::Index(index) => {
            let mut list = vec![Value::Null; index];
            list.push(value);
            list.into()
        }
    }))
}

fn fault(assignment: &str, what: &str) -> ValuesError {
    ValuesError(vec![format!("--set {assignment}: {what}")])
}
