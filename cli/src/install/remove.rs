//! `weft uninstall` and `weft prune`: what kubectl is to delete.
//!
//! Law: only what carries this control plane's label is named, and nothing is deleted here.

use std::collections::BTreeSet;

use clap::Args;
use mesh_core::manifest::install;
use mesh_core::manifest::values::layers;
use runtime_real::kube::ApiClient;
use serde_json::{Value, json};

use super::upgrade::Installed;
use super::{Output, print};
use crate::Failure;
use crate::cluster::{ClusterArgs, object};

/// Whose an object is.
const LABEL: &str = "linkerd.io/control-plane-ns";
/// Most pods that are named where they are in the way.
const NAMED_MAX: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// Also where pods still have sidecars
    #[arg(long, short)]
    force: bool,
    /// Form of the manifests
    #[arg(long, short, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Form of the manifests
    #[arg(long, short, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

/// A kind that installations have: its `apiVersion`, its name and its name in addresses; and whether
/// it lives in a namespace.
type InstalledKind = (&'static str, &'static str, &'static str, bool);

const KINDS: [InstalledKind; 14] = [
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        false,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
    ),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("v1", "Service", "services", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Secret", "secrets", true),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("v1", "Namespace", "namespaces", false),
];

/// Prints everything that an uninstallation deletes.
pub(crate) async fn uninstall(args: UninstallArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = cluster.client().await?;
    let namespace = &cluster.linkerd_namespace;
    if !args.force {
        refuse_sidecars(&client, namespace).await?;
    }
    // What is in the namespace goes with it.
    let kinds = KINDS.iter().filter(|(.., is_namespaced)| !is_namespaced);
    let mut documents = Vec::new();
    for kind in kinds {
        documents.extend(labelled(&client, kind, namespace).await?);
    }
    match documents.is_empty() {
        true => Err(Failure::failed(format!(
            "there is nothing of a control plane of namespace {namespace}; say where it is with \
             --linkerd-namespace"
        ))),
        false => print(&documents, args.output),
    }
}

/// Prints what earlier versions made and this one does not.
pub(crate) async fn prune(args: PruneArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = cluster.client().await?;
    let namespace = &cluster.linkerd_namespace;
    let layer = Installed::find(cluster).await?.layer()?;
    let values = layers::merge(&[layer]).map_err(Failure::misconfigured)?.values;
    let wanted = install::install(&values).into_iter().chain(install::crds(&values));
    let wanted: BTreeSet<_> = wanted.map(|document| place(&document)).collect();
    let mut documents = Vec::new();
    for kind in &KINDS {
        let found = labelled(&client, kind, namespace).await?;
        documents.extend(found.into_iter().filter(|found| !wanted.contains(&place(found))));
    }
    print(&superseded(documents), args.output)
}

/// Of what no manifest names, what the control plane makes itself stays: secrets, and what the
/// cluster puts into every namespace.
fn superseded(mut documents: Vec<Value>) -> Vec<Value> {
    documents.retain(|document| document["kind"] != "Secret");
    documents
}

/// Where an object is, whatever its version.
fn place(document: &Value) -> (String, Option<String>, String) {
    let (_, kind, namespace, name) = install::object_of(document);
    (kind, namespace, name)
}

/// The objects of a kind with the control plane's label, as kubectl needs them to delete them.
async fn labelled(
    client: &ApiClient,
    (version, kind, plural, is_namespaced): &InstalledKind,
    namespace: &str,
) -> Result<Vec<Value>, Failure> {
    let group = if version.contains('/') { "apis" } else { "api" };
    let scope = if *is_namespaced { format!("/namespaces/{namespace}") } else { String::new() };
    let path = format!("/{group}/{version}{scope}/{plural}?labelSelector={LABEL}%3D{namespace}");
    let found = object(client, &path).await.map_err(|error| {
        Failure::failed(format!("{kind} objects cannot be listed: {}", error.reason))
    })?;
    let items = found.unwrap_or_default()["items"].take();
    let items = items.as_array().into_iter().flatten();
    Ok(items
        .map(|item| {
            let mut metadata = json!({"name": item["metadata"]["name"]});
            if *is_namespaced {
                metadata["namespace"] = item["metadata"]["namespace"].clone();
            }
            json!({"apiVersion": version, "kind": kind, "metadata": metadata})
        })
        .collect())
}

/// Stops where pods outside of the control plane still have sidecars: they would lose it.
async fn refuse_sidecars(client: &ApiClient, namespace: &str) -> Result<(), Failure> {
    let path = format!("/api/v1/pods?labelSelector={LABEL}%3D{namespace}");
    let pods = object(client, &path).await.map_err(|error| {
        Failure::failed(format!("pods cannot be listed: {}; --force does without", error.reason))
    })?;
    let pods = pods.unwrap_or_default()["items"].take();
    let named = |pod: &Value| {
        let of = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_string();
        (of("namespace"), of("name"))
    };
    let pods = pods.as_array().into_iter().flatten().map(named);
    let meshed: Vec<_> = pods.filter(|(of, _)| of != namespace).collect();
    if meshed.is_empty() {
        return Ok(());
    }
    let listed = meshed.iter().take(NAMED_MAX);
    let mut listed: Vec<_> =
        listed.map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    if meshed.len() > NAMED_MAX {
        listed.push(format!("and {} more", meshed.len() - NAMED_MAX));
    }
    Err(Failure::failed(format!(
        "{} pods still have sidecars of this control plane: {}; take them out first (`weft \
         uninject`), or give --force",
        meshed.len(),
        listed.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_an_installation_can_be_removed() {
        let mut values = mesh_core::manifest::Values {
            enable_pod_disruption_budget: true,
            ..mesh_core::manifest::Values::default()
        };
        values.identity.issuer.tls.certificate_pem = "c".into();
        values.identity.issuer.tls.key_pem = "k".into();
        for document in install::install(&values).iter().chain(&install::crds(&values)) {
            let (version, kind, namespace, _) = install::object_of(document);
            let known = KINDS.iter().find(|known| (known.0, known.1) == (&version, &kind));
            let known = known.unwrap_or_else(|| panic!("{version} {kind}"));
            assert_eq!(known.3, namespace.is_some(), "{kind}");
        }
    }
}
