//! The names that a scenario's parts call each other by, and the check of every string that has a
//! format: quantities, targets, and names that must exist.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use serde_yaml_ng::Value as Yaml;

use mesh_core::resource::{Kind, yaml};

use super::super::scenario::{Bandwidth, Bytes, Moment, Span, Target};
use super::schema::choices;

/// A fault and its remedy.
type Wrong = (String, String);

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Names {
    deployments: BTreeSet<String>,
    pods: BTreeSet<String>,
    workloads: BTreeSet<String>,
    taps: BTreeSet<String>,
    faults: BTreeSet<String>,
    nodes: BTreeSet<String>,
    zones: BTreeSet<String>,
    controllers: u64,
    /// Pods come and go: there will be others of the same Deployments.
    changing: bool,
    /// Not all of the file could be read: a name may stand in the rest.
    partial: bool,
}

impl Names {
    /// Of a Scenario document, as far as it can be read, and the Deployments beside it.
    pub(super) fn new(document: &Yaml, deployments: &[Deployment], partial: bool) -> Self {
        let spec = &document["spec"];
        let mut names = Self { partial, ..Self::default() };
        for deployment in deployments {
            let name = deployment.metadata.name.clone().unwrap_or_default();
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            names.add_deployment(name, u64::try_from(replicas).unwrap_or(0));
        }
        for (name, app) in entries(&spec["apps"]) {
            names.add_deployment(name.to_owned(), app["replicas"].as_u64().unwrap_or(1));
        }
        let texts = |list: &Yaml, key: &str| -> BTreeSet<String> {
            let items = list.as_sequence().into_iter().flatten();
            items.filter_map(|item| Some(item[key].as_str()?.to_owned())).collect()
        };
        names.workloads = texts(&spec["workloads"], "name");
        names.taps = texts(&spec["taps"], "name");
        names.faults = texts(&spec["faults"], "id");
        for (zone, nodes) in entries(&spec["topology"]["zones"]) {
            names.zones.insert(zone.to_owned());
            let nodes = nodes.as_sequence().into_iter().flatten().filter_map(Yaml::as_str);
            names.nodes.extend(nodes.map(str::to_owned));
        }
        names.controllers = spec["topology"]["controllers"].as_u64().unwrap_or(1);
        let moves = ["rollout", "scale", "node_loss", "zone_loss", "delete", "apply"];
        let faults = spec["faults"].as_sequence().into_iter().flatten();
        names.changing = faults
            .filter_map(|fault| fault["do"].as_mapping()?.keys().next()?.as_str())
            .any(|action| moves.contains(&action));
        names
    }

    fn add_deployment(&mut self, name: String, replicas: u64) {
        let pods = (0..replicas.min(5_000)).map(|index| format!("{name}-{index}"));
        self.pods.extend(pods);
        self.deployments.insert(name);
    }

    /// Checks a string of a format.
    pub(super) fn check(&self, format: &str, text: &str) -> Result<(), Wrong> {
        let read =
            |result: Result<(), String>| result.map_err(|fault| (fault, "correct it".to_owned()));
        match format {
            "span" => read(Span::read(text).map(drop)),
            "bandwidth" => read(Bandwidth::read(text).map(drop)),
            "bytes" => read(Bytes::read(text).map(drop)),
            "date-time" => read(Moment::read(text).map(drop)),
            "target" => match Target::read(text) {
                Ok(target) => self.check_target(&target),
                Err(fault) => Err((fault, "correct it".to_owned())),
            },
            "pod" => self.check_pod(text),
            "deployment" => self.among(&self.deployments, "Deployment", text),
            "workload" => self.among(&self.workloads, "workload", text),
            "tap" => self.among(&self.taps, "tap", text),
            "fault" => self.among(&self.faults, "fault with the id", text),
            "node" => self.among(&self.nodes, "node", text),
            "zone" => self.among(&self.zones, "zone", text),
            "address" => check_address(text),
            "kind" => check_kind(text),
            "manifest" => check_manifest(text),
            _ => Ok(()),
        }
    }

    fn check_target(&self, target: &Target) -> Result<(), Wrong> {
        match target {
            Target::All | Target::Controller(None) => Ok(()),
            Target::Pod(name) => self.check_pod(name),
            Target::Deployment(name) | Target::PodOf(name, _) => {
                self.among(&self.deployments, "Deployment", name)
            }
            Target::Node(name) => self.among(&self.nodes, "node", name),
            Target::Zone(name) => self.among(&self.zones, "zone", name),
            Target::Controller(Some(number)) => match self.controllers {
                1 => Err(("there is one controller".to_owned(), "write `controller`".to_owned())),
                count if u64::from(*number) < count => Ok(()),
                count => Err((
                    format!("there is no controller `controller-{number}`"),
                    format!("use controller-0 to controller-{}", count.saturating_sub(1)),
                )),
            },
        }
    }

    fn check_pod(&self, name: &str) -> Result<(), Wrong> {
        let of_deployment = |deployment: &String| {
            name.strip_prefix(&**deployment).is_some_and(|rest| rest.starts_with('-'))
        };
        // Expectations of a program's figures may be about a controller's.
        if let Ok(controller @ Target::Controller(_)) = Target::read(name) {
            return self.check_target(&controller);
        }
        if self.changing && self.deployments.iter().any(of_deployment) {
            return Ok(());
        }
        self.among(&self.pods, "pod", name)
    }

    fn among(&self, known: &BTreeSet<String>, what: &str, name: &str) -> Result<(), Wrong> {
        const SHOWN_MAX: usize = 20;
        if self.partial || known.contains(name) {
            return Ok(());
        }
        let known: Vec<_> = known.iter().map(String::as_str).take(SHOWN_MAX).collect();
        Err((format!("there is no {what} `{name}`"), choices(name, &known)))
    }
}

fn entries(map: &Yaml) -> impl Iterator<Item = (&str, &Yaml)> {
    let entries = map.as_mapping().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.as_str()?, value)))
}

fn check_address(text: &str) -> Result<(), Wrong> {
    let remedy = "write host:port, as web.shop.svc.cluster.local:80".to_owned();
    match text.parse::<http::uri::Authority>() {
        Ok(authority) if authority.port_u16().is_some() && !text.contains('@') => Ok(()),
        Ok(_) => Err((format!("`{text}` has no port"), remedy)),
        Err(error) => Err((format!("`{text}`: {error}"), remedy)),
    }
}

fn check_kind(text: &str) -> Result<(), Wrong> {
    let known: Vec<_> = Kind::ALL.iter().map(ToString::to_string).collect();
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    match known.contains(&text) {
        true => Ok(()),
        false => Err((format!("there is no kind `{text}`"), choices(text, &known))),
    }
}

/// What is passed over in a cluster is a mistake here: it would do nothing.
fn check_manifest(text: &str) -> Result<(), Wrong> {
    let problems = match yaml::read("manifest", text) {
        Ok(manifest) => manifest.notices,
        Err(problems) => problems,
    };
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err((problems.join("; "), "lines are counted in the manifest".to_owned())),
    }
}
