//! Reads scenario files: manifests as for a cluster, Deployments of simulated programs among them,
//! and one `Scenario` document.
//!
//! Law: unknown fields are errors, and every error names file, line and column, and the field.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::with::singleton_map_recursive;

use mesh_core::resource::yaml::{self, Problem};
use mesh_core::resource::{Kind, Object};

use super::scenario::{Action, Spec, Target};

/// A file, read.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// `metadata.name` of its Scenario document.
    pub name: String,
    /// What happens.
    pub spec: Spec,
    /// The cluster's objects but pods and endpoints, which are made of the deployments.
    pub objects: Vec<Object>,
    /// What runs.
    pub deployments: Vec<Deployment>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

/// One document: its lines, and where they begin (from 0).
struct Part<'a> {
    file: &'a str,
    number: usize,
    first_line: usize,
    text: &'a str,
}

/// Reads a scenario file's text. `file` is for messages.
///
/// # Errors
/// Every problem found, in order of the file.
pub fn read(file: &str, text: &str) -> Result<Scenario, Vec<Problem>> {
    let mut scenario = None;
    let mut deployments = Vec::new();
    let mut problems = Vec::new();
    // What the cluster's own reader is given: the other documents, at the lines where they are.
    let mut manifests = String::new();
    for part in parts(file, text) {
        let head: Option<Head> = part.parse();
        let kind = head.as_ref().map_or("", |head| head.kind.as_str());
        match kind {
            "Scenario" => match part.parse_scenario() {
                Ok(_) if scenario.is_some() => {
                    problems.push(part.problem("a second Scenario in this file"));
                }
                Ok(read) => scenario = Some(read),
                Err(problem) => problems.push(problem),
            },
            "Deployment" => match part.parse_deployment() {
                Ok(deployment) => deployments.push(deployment),
                Err(problem) => problems.push(problem),
            },
            _ => {
                manifests.push_str(part.text);
                continue;
            }
        }
        let lines = part.text.split_inclusive('\n').map(|line| match line {
            marker if marker.starts_with("---") => "---\n",
            _ => "\n",
        });
        manifests.extend(lines);
    }
    let objects = match yaml::read(file, &manifests) {
        Ok(manifest) => {
            problems.extend(manifest.notices);
            manifest.objects
        }
        Err(found) => {
            problems.extend(found);
            Vec::new()
        }
    };
    let Some(document) = scenario else {
        if problems.is_empty() {
            let part = Part { file, number: 1, first_line: 0, text };
            problems.push(part.problem("no Scenario in this file"));
        }
        return Err(problems);
    };
    let scenario =
        Scenario { name: document.metadata.name, spec: document.spec, objects, deployments };
    problems.extend(check(file, text, &scenario));
    match problems.is_empty() {
        true => Ok(scenario),
        false => Err(problems),
    }
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
    fn parse<T: DeserializeOwned>(&self) -> Option<T> {
        serde_yaml_ng::from_str(self.text).ok()
    }

    fn parse_scenario(&self) -> Result<Document, Problem> {
        let deserializer = serde_yaml_ng::Deserializer::from_str(self.text);
        singleton_map_recursive::deserialize(deserializer).map_err(|error| self.yaml(&error))
    }

    fn parse_deployment(&self) -> Result<Deployment, Problem> {
        let mut unknown = None;
        let deserializer = serde_yaml_ng::Deserializer::from_str(self.text);
        let deployment = serde_ignored::deserialize(deserializer, |path| {
            unknown.get_or_insert(path.to_string());
        })
        .map_err(|error| self.yaml(&error))?;
        let unknown = unknown.filter(|path| !matches!(path.as_str(), "apiVersion" | "kind"));
        match unknown {
            Some(path) => {
                let leaf = path.rsplit('.').next().unwrap_or_default();
                let mut problem = self.problem("is not a field of a Deployment");
                let line = self.text.lines().position(|line| {
                    line.trim_start().trim_start_matches("- ").starts_with(&format!("{leaf}:"))
                });
                problem.line = self.first_line + line.unwrap_or(0) + 1;
                problem.field = path.replace(".?", "");
                Err(problem)
            }
            None => Ok(deployment),
        }
    }

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

/// What the documents say of each other: names that must exist.
fn check(file: &str, text: &str, scenario: &Scenario) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = &scenario.spec;
    let mut pods = BTreeSet::from(["controller".to_owned()]);
    let mut deployments = BTreeSet::new();
    for deployment in &scenario.deployments {
        let name = deployment.metadata.name.clone().unwrap_or_default();
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        pods.extend((0..replicas).map(|index| format!("{name}-{index}")));
        deployments.insert(name);
    }
    let workloads: BTreeSet<_> = spec.workloads.iter().map(|w| w.name.clone()).collect();
    let mut ask = |known: &BTreeSet<String>, name: &str, field: String, what: &str| {
        if !known.contains(name) {
            let line = text.lines().position(|line| line.contains(name)).unwrap_or(0);
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            problems.push(Problem {
                file: file.to_owned(),
                document: 1,
                line: line + 1,
                column: 1,
                field,
                fault: format!("there is no {what} `{name}`"),
                remedy: format!("name one of: {}", known.join(", ")),
            });
        }
    };
    for (index, workload) in spec.workloads.iter().enumerate() {
        let field = format!("spec.workloads[{index}].from");
        ask(&deployments, &workload.from, field, "Deployment");
    }
    for (index, fault) in spec.faults.iter().enumerate() {
        let field = format!("spec.faults[{index}].do");
        for target in targets(&fault.action) {
            ask(&pods, target, field.clone(), "pod");
        }
    }
    for (index, expectation) in spec.expect.iter().enumerate() {
        let field = format!("spec.expect[{index}]");
        if let Some(workload) = expectation.workload() {
            ask(&workloads, workload, field.clone(), "workload");
        }
        if let Some(deployment) = expectation.deployment() {
            ask(&deployments, deployment, field.clone(), "Deployment");
        }
        if let Some(pod) = expectation.pod() {
            ask(&pods, pod, field, "pod");
        }
    }
    problems
}

/// The names of pods that an action is done to.
fn targets(action: &Action) -> Vec<&str> {
    let named = action.targets().into_iter().filter_map(|target| match target {
        Target::Pod(name) => Some(name.as_str()),
        _ => None,
    });
    let deleted = match action {
        Action::Delete { object, name, .. } if object == "Pod" => Some(name.as_str()),
        _ => None,
    };
    named.chain(deleted).collect()
}

/// The kind of a name, such as `Server`.
pub(super) fn kind(name: &str) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| kind.to_string() == name)
}
