//! Who of the control plane may do what in the cluster. docs/KUBERNETES.md has the table.
//!
//! Law: a component may no more than it does. What can be named is named.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::values::Values;
use super::component::Component;
use super::{cluster_metadata, metadata, webhooks};
use crate::resource::Kind;

/// Who of the control plane's pods writes statuses.
const LEASE: &str = "policy-controller-write";

const READ: [&str; 3] = ["get", "list", "watch"];

/// The service account of a component, its roles and their bindings.
pub(super) fn documents(values: &Values, component: &Component) -> Vec<Value> {
    let namespace = &values.linkerd_namespace;
    let Component { name, deployment, .. } = component;
    let of = Some(*name);
    let mut account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(values, deployment, of),
    });
    if !values.image_pull_secrets.is_empty() {
        account["imagePullSecrets"] = values.image_pull_secrets.clone().into();
    }
    let subjects = json!([{"kind": "ServiceAccount", "name": deployment, "namespace": namespace}]);
    let cluster_role = format!("linkerd-{namespace}-{name}");
    let reference = |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    let mut documents = vec![
        account,
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": cluster_metadata(values, &cluster_role, of),
            "rules": cluster_rules(component),
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": cluster_metadata(values, &cluster_role, of),
            "roleRef": reference("ClusterRole", &cluster_role),
            "subjects": subjects,
        }),
    ];
    let rules = rules(component);
    if !rules.is_empty() {
        documents.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata(values, deployment, of),
            "rules": rules,
        }));
        documents.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata(values, deployment, of),
            "roleRef": reference("Role", deployment),
            "subjects": subjects,
        }));
    }
    documents
}

/// What a component may in every namespace.
fn cluster_rules(component: &Component) -> Vec<Value> {
    let event = rule("", &["events"], &["create", "patch"]);
    match component.name {
        "destination" => {
            let mut rules = read(Kind::ALL);
            rules.extend(write_statuses());
            rules.push(named(
                "admissionregistration.k8s.io",
                &["validatingwebhookconfigurations"],
                &[webhooks::POLICY_VALIDATOR_CONFIG, webhooks::PROFILE_VALIDATOR_CONFIG],
                &["get", "patch"],
            ));
            rules
        }
        "identity" => {
            vec![rule("authentication.k8s.io", &["tokenreviews"], &["create"]), event]
        }
        "viz" => read(Kind::ALL),
        _ => vec![
            rule("", &["namespaces"], &READ),
            // Whose a pod is to be.
            rule("apps", &["replicasets"], &READ),
            rule("batch", &["jobs"], &READ),
            named(
                "admissionregistration.k8s.io",
                &["mutatingwebhookconfigurations"],
                &[webhooks::INJECTOR_CONFIG],
                &["get", "patch"],
            ),
            event,
        ],
    }
}

/// What a component may in the control plane's namespace.
fn rules(component: &Component) -> Vec<Value> {
    let secret = |name| {
        [
            // What is not there yet has no name to be allowed by.
            rule("", &["secrets"], &["create"]),
            named("", &["secrets"], &[name], &["get", "patch"]),
        ]
    };
    match component.name {
        "destination" => {
            let group = "coordination.k8s.io";
            let mut rules = vec![
                rule(group, &["leases"], &["create"]),
                named(group, &["leases"], &[LEASE], &["get", "patch"]),
            ];
            rules.extend(secret(webhooks::POLICY_VALIDATOR_SECRET));
            rules
        }
        "identity" | "viz" => Vec::new(),
        _ => secret(webhooks::INJECTOR_SECRET).to_vec(),
    }
}

/// Reading of kinds, a rule for each group.
fn read(kinds: &[Kind]) -> Vec<Value> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in kinds {
        groups.entry(kind.group()).or_default().push(plural(*kind));
    }
    let of = |(group, names): (String, Vec<String>)| json!({"apiGroups": [group], "resources": names, "verbs": READ});
    groups.into_iter().map(of).collect()
}

fn write_statuses() -> Vec<Value> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in Kind::ALL.iter().filter(|kind| kind.has_status()) {
        groups.entry(kind.group()).or_default().push(format!("{}/status", plural(*kind)));
    }
    let of = |(group, names): (String, Vec<String>)| json!({"apiGroups": [group], "resources": names, "verbs": ["patch"]});
    groups.into_iter().map(of).collect()
}

/// A kind's name in addresses: `authorizationpolicies`.
pub(super) fn plural(kind: Kind) -> String {
    let name = kind.name().to_lowercase();
    match name.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{name}s"),
    }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn named(group: &str, resources: &[&str], names: &[&str], verbs: &[&str]) -> Value {
    json!({
        "apiGroups": [group], "resources": resources, "resourceNames": names, "verbs": verbs,
    })
}
