//! Reads scenario files: manifests as for a cluster, Deployments of simulated programs among them,
//! and one `Scenario` document. Writes them as well.
//!
//! Law: unknown fields are errors; every error names file, line and column, the field, and what is
//! valid there; what one document has wrong is told at once. What is written is read as the same.
//!
//! Modules: `schema` knows what a document may hold, `names` what its strings may say, `check` what
//! may not go together, `place` where a field stands, `app` what Deployments in short stand for,
//! `write` the way back.

mod app;
mod check;
mod names;
mod place;
mod schema;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path as FilePath;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value as Yaml;
use serde_yaml_ng::with::singleton_map_recursive;

use mesh_core::resource::yaml::{self, Problem};
use mesh_core::resource::{Kind, Object};

use super::scenario::Spec;
use names::Names;
use place::{Path, place};
use schema::{Document, Flaw};

pub use schema::schema;

/// A file, read, with the files that it includes.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// `metadata.name` of its Scenario document.
    pub name: String,
    /// What happens.
    pub spec: Spec,
    /// Manifests: the cluster's objects but pods and endpoints, which are made of deployments.
    pub manifests: Vec<Object>,
    /// Manifests: what runs, beside `spec.apps`.
    pub manifest_deployments: Vec<Deployment>,
    /// Manifests: what runs under names that are given again.
    pub manifest_stateful_sets: Vec<StatefulSet>,
}

/// Reads a scenario file and those that it includes.
///
/// # Errors
/// Every problem found, in order of the file; one without a place where a file cannot be opened.
pub fn load(path: &FilePath) -> Result<Scenario, Vec<Problem>> {
    let file = path.display().to_string();
    let open = |path: &FilePath| std::fs::read_to_string(path).map_err(|error| error.to_string());
    let text = open(path).map_err(|error| {
        let part = Part { file: &file, number: 1, first_line: 0, text: "" };
        vec![part.problem(&format!("cannot be opened: {error}"))]
    })?;
    let directory = path.parent().unwrap_or(FilePath::new(""));
    read_with(&file, &text, &|include| open(&directory.join(include)))
}

/// Reads a scenario's text, which includes no other. `file` is for messages.
///
/// # Errors
/// Every problem found, in order of the file.
pub fn read(file: &str, text: &str) -> Result<Scenario, Vec<Problem>> {
    read_with(file, text, &|_| Err("this text has no directory".to_owned()))
}

/// Reads a scenario's text. `open` gives the texts of files that it includes.
///
/// # Errors
/// Every problem found, in order of the file.
pub fn read_with(
    file: &str,
    text: &str,
    open: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Scenario, Vec<Problem>> {
    let mut read = Manifests::read(file, text);
    let Some((part, document)) = read.scenario.take() else {
        if read.problems.is_empty() {
            let part = Part { file, number: 1, first_line: 0, text };
            read.problems.push(part.problem("no Scenario in this file"));
        }
        return Err(read.problems);
    };
    read.include(&part, &document, open);
    let runs = read.runs();
    let names = Names::new(&document, &runs, !read.problems.is_empty());
    let flaws = schema::check(&document, &names);
    let is_whole = flaws.is_empty();
    read.problems.extend(part.flaws(flaws));
    if !is_whole {
        return Err(read.problems);
    }
    let document = match part.parse_scenario() {
        Ok(document) => document,
        Err(problem) => {
            read.problems.push(problem);
            return Err(read.problems);
        }
    };
    let flaws = check::check(&document.spec, &runs);
    read.problems.extend(part.flaws(flaws));
    if !read.problems.is_empty() {
        return Err(read.problems);
    }
    let mut spec = document.spec;
    // They are part of it now.
    spec.include.clear();
    Ok(Scenario {
        name: document.metadata.name,
        spec,
        manifests: read.objects,
        manifest_deployments: read.deployments,
        manifest_stateful_sets: read.stateful_sets,
    })
}

/// What a file holds.
#[derive(Default)]
struct Manifests<'a> {
    scenario: Option<(Part<'a>, Yaml)>,
    deployments: Vec<Deployment>,
    stateful_sets: Vec<StatefulSet>,
    objects: Vec<Object>,
    problems: Vec<Problem>,
}

impl<'a> Manifests<'a> {
    fn read(file: &'a str, text: &'a str) -> Self {
        let mut read = Self::default();
        // What the cluster's own reader is given: the other documents, at the lines where they are.
        let mut manifests = String::new();
        for part in parts(file, text) {
            let document: Result<Yaml, _> = serde_yaml_ng::from_str(part.text);
            let kind = match &document {
                Ok(document) => document["kind"].as_str().unwrap_or_default().to_owned(),
                // What cannot be parsed is told by whoever it is meant for.
                Err(_) if part.text.lines().any(|line| line == "kind: Scenario") => {
                    "Scenario".to_owned()
                }
                Err(_) => String::new(),
            };
            let blank = part.blank();
            match (kind.as_str(), document) {
                ("Scenario", Err(error)) => read.problems.push(part.yaml(&error)),
                ("Scenario", Ok(_)) if read.scenario.is_some() => {
                    read.problems.push(part.problem("a second Scenario in this file"));
                }
                ("Scenario", Ok(document)) => {
                    read.scenario = Some((part, document));
                }
                ("Deployment", _) => match part.parse_manifest("Deployment") {
                    Ok(deployment) => read.deployments.push(deployment),
                    Err(problem) => read.problems.push(problem),
                },
                ("StatefulSet", _) => match part.parse_manifest("StatefulSet") {
                    Ok(set) => read.stateful_sets.push(set),
                    Err(problem) => read.problems.push(problem),
                },
                _ => {
                    manifests.push_str(part.text);
                    continue;
                }
            }
            manifests.push_str(&blank);
        }
        match yaml::read(file, &manifests) {
            Ok(manifest) => {
                read.problems.extend(manifest.notices);
                read.objects = manifest.objects;
            }
            Err(found) => read.problems.extend(found),
        }
        read
    }

    /// Adds the manifests of files that a Scenario includes.
    fn include(
        &mut self,
        part: &Part<'_>,
        document: &Yaml,
        open: &dyn Fn(&str) -> Result<String, String>,
    ) {
        let includes = document["spec"]["include"].as_sequence().into_iter().flatten();
        let mut seen = BTreeSet::new();
        for (index, include) in includes.enumerate() {
            let path = Path::read("spec.include").index(index);
            let Some(name) = include.as_str() else { continue };
            let mut refuse = |fault: String, remedy: &str| {
                self.problems.push(part.flaw(Flaw::new(path.clone(), fault, remedy)));
            };
            if !seen.insert(name) {
                refuse(format!("`{name}` is included twice"), "keep one of them");
                continue;
            }
            let text = match open(name) {
                Ok(text) => text,
                Err(error) => {
                    let remedy = "paths are relative to this file";
                    refuse(format!("`{name}` cannot be opened: {error}"), remedy);
                    continue;
                }
            };
            let included = Manifests::read(name, &text);
            if included.scenario.is_some() {
                refuse(format!("`{name}` holds a Scenario"), "include files of manifests only");
            }
            self.problems.extend(included.problems);
            for object in &included.objects {
                let twice = self.objects.iter().any(|o| o.object_ref() == object.object_ref());
                if twice {
                    let path = path.clone();
                    let fault = format!("{} of `{name}` stands here as well", object.object_ref());
                    self.problems.push(part.flaw(Flaw::new(path, fault, "keep one of them")));
                }
            }
            self.objects.extend(included.objects);
            self.deployments.extend(included.deployments);
            self.stateful_sets.extend(included.stateful_sets);
        }
    }

    /// All that runs, in a Deployment's shape.
    fn runs(&self) -> Vec<Deployment> {
        let sets = self.stateful_sets.iter().map(app::in_shape);
        self.deployments.iter().cloned().chain(sets).collect()
    }
}

/// One document: its lines, and where they begin (from 0).
struct Part<'a> {
    file: &'a str,
    number: usize,
    first_line: usize,
    text: &'a str,
}

fn parts<'a>(file: &'a str, text: &'a str) -> Vec<Part<'a>> {
    let mut starts = vec![(0, 0)];
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if at > 0 && (line.trim_end() == "---" || line.starts_with("--- ")) {
            starts.push((number, at));
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).map(|(_, at)| *at).chain([text.len()]);
    let parts = starts.iter().zip(ends).enumerate();
    parts
        .map(|(index, ((first_line, start), end))| Part {
            file,
            number: index + 1,
            first_line: *first_line,
            text: &text[*start..end],
        })
        .collect()
}

impl Part<'_> {
    /// As many lines, without what stands in them.
    fn blank(&self) -> String {
        let lines = self.text.split_inclusive('\n').map(|line| match line {
            marker if marker.starts_with("---") => "---\n",
            _ => "\n",
        });
        lines.collect()
    }

    fn parse_scenario(&self) -> Result<Document, Problem> {
        let deserializer = serde_yaml_ng::Deserializer::from_str(self.text);
        singleton_map_recursive::deserialize(deserializer).map_err(|error| self.yaml(&error))
    }

    fn parse_manifest<T: DeserializeOwned>(&self, kind: &str) -> Result<T, Problem> {
        let mut unknown = None;
        let deserializer = serde_yaml_ng::Deserializer::from_str(self.text);
        let object = serde_ignored::deserialize(deserializer, |path| {
            unknown.get_or_insert(path.to_string());
        })
        .map_err(|error| self.yaml(&error))?;
        let unknown = unknown.filter(|path| !matches!(path.as_str(), "apiVersion" | "kind"));
        let Some(path) = unknown else {
            return Ok(object);
        };
        let mut steps = Path::default();
        for step in path.split('.').filter(|step| *step != "?") {
            steps = match step.parse() {
                Ok(index) => steps.index(index),
                Err(_) => steps.key(step),
            };
        }
        let remedy = "correct its name or remove it";
        let flaw = Flaw::new(steps, format!("is not a field of a {kind}"), remedy);
        Err(self.flaw(Flaw { at_key: true, ..flaw }))
    }

    /// The parser's own error. Its place is exact; its path is in its text.
    fn yaml(&self, error: &serde_yaml_ng::Error) -> Problem {
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        let is_path = |text: &str| !text.is_empty() && !text.contains([' ', '`']);
        let (field, fault) = match text.split_once(": ") {
            Some((field, fault)) if is_path(field) => (field, fault),
            _ => ("", text),
        };
        let mut problem = self.problem(fault);
        if let Some(place) = error.location() {
            problem.line = self.first_line + place.line();
            problem.column = place.column();
        }
        problem.field = field.to_owned();
        problem
    }

    /// In order of the file.
    fn flaws(&self, flaws: Vec<Flaw>) -> Vec<Problem> {
        let mut problems: Vec<_> = flaws.into_iter().map(|flaw| self.flaw(flaw)).collect();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }

    fn flaw(&self, flaw: Flaw) -> Problem {
        let (line, column) = place(self.text, &flaw.path, flaw.at_key);
        Problem {
            line: self.first_line + line,
            column,
            field: flaw.path.to_string(),
            remedy: flaw.remedy,
            ..self.problem(&flaw.fault)
        }
    }

    fn problem(&self, fault: &str) -> Problem {
        Problem {
            file: self.file.to_owned(),
            document: self.number,
            line: self.first_line + 1,
            column: 1,
            field: String::new(),
            fault: fault.to_owned(),
            remedy: "correct it; nothing is run until then".to_owned(),
        }
    }
}

/// The kind of a name, such as `Server`.
pub(super) fn kind(name: &str) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| kind.to_string() == name)
}
