//! What Deployments in short stand for: the manifests that one would write out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, StatefulSet};
use mesh_core::resource::{Object, yaml};
use serde_json::{Value, json};

use super::super::scenario::App;
use super::Scenario;

impl Scenario {
    /// What runs: the manifests' Deployments and those of `spec.apps`.
    pub fn deployments(&self) -> Vec<Deployment> {
        let apps = self.spec.apps.iter().map(|(name, app)| {
            serde_json::from_value(deployment(name, app)).expect("a Deployment written here is one")
        });
        self.manifest_deployments.iter().cloned().chain(apps).collect()
    }

    /// What runs under names that are given again, in a Deployment's shape.
    pub fn stateful_sets(&self) -> Vec<Deployment> {
        self.manifest_stateful_sets.iter().map(in_shape).collect()
    }

    /// The cluster's objects: the manifests, and what belongs to `spec.apps` and stands in no manifest.
    pub fn objects(&self) -> Vec<Object> {
        let mut objects = self.manifests.clone();
        let mut known: BTreeSet<_> = objects.iter().map(Object::object_ref).collect();
        for (name, app) in &self.spec.apps {
            let documents: Vec<_> = documents(name, app).iter().map(Value::to_string).collect();
            let text = documents.join("\n---\n");
            let made = yaml::read("spec.apps", &text).expect("manifests written here are valid");
            let fresh = made.objects.into_iter();
            objects.extend(fresh.filter(|object| known.insert(object.object_ref())));
        }
        objects
    }
}

/// A StatefulSet in a Deployment's shape.
pub(super) fn in_shape(set: &StatefulSet) -> Deployment {
    let spec = set.spec.clone().map(|spec| DeploymentSpec {
        replicas: spec.replicas,
        selector: spec.selector,
        template: spec.template,
        min_ready_seconds: spec.min_ready_seconds,
        ..DeploymentSpec::default()
    });
    Deployment { metadata: set.metadata.clone(), spec, status: None }
}

fn deployment(name: &str, app: &App) -> Value {
    let mut labels = app.labels.clone();
    labels.entry("app".to_owned()).or_insert_with(|| name.to_owned());
    let mut annotations = app.annotations.clone();
    let injected = if app.meshed { "enabled" } else { "disabled" };
    annotations.entry("linkerd.io/inject".to_owned()).or_insert_with(|| injected.to_owned());
    let serves = app.serves.as_deref().unwrap_or("client");
    let mut env = app.env.clone();
    if let Some(latency) = app.latency {
        env.insert("LATENCY".to_owned(), latency.to_string());
    }
    let env: Vec<_> =
        env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut container = json!({"name": "app", "image": format!("simulated/{serves}"), "env": env});
    if app.serves.is_some() {
        container["ports"] = json!([{"name": "app", "containerPort": target_port(app)}]);
    }
    if let Some(sleep) = app.pre_stop {
        container["lifecycle"] = json!({"preStop": {"sleep": {"seconds": sleep.0.as_secs()}}});
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": app.namespace},
        "spec": {
            "replicas": app.replicas,
            "selector": {"matchLabels": selector(name, app)},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {"serviceAccountName": name, "containers": [container]},
            },
        },
    })
}

/// Its ServiceAccount, and the Service where it serves.
fn documents(name: &str, app: &App) -> Vec<Value> {
    let mut documents = vec![json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": app.namespace},
    })];
    if app.serves.is_some() {
        documents.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": name,
                "namespace": app.namespace,
                "annotations": app.service_annotations,
            },
            "spec": {
                "selector": selector(name, app),
                "ports": [{"name": "app", "port": app.port, "targetPort": "app"}],
            },
        }));
    }
    documents
}

fn selector(name: &str, app: &App) -> BTreeMap<String, String> {
    let label = app.labels.get("app").cloned().unwrap_or_else(|| name.to_owned());
    [("app".to_owned(), label)].into()
}

fn target_port(app: &App) -> u16 {
    app.target_port.unwrap_or(if app.port == 80 { 8080 } else { app.port })
}
