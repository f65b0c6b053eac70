//! The control plane's pods: one process, and beside it the same sidecar that every workload gets.
//!
//! Law: no container of them runs as root but the one that redirects traffic, and none may write
//! to its image.

use serde_json::{Value, json};

use super::super::annotations::{OPAQUE_PORTS, TRUST_ROOT_SHA256};
use super::super::inject::{self, Surroundings};
use super::super::settings::Settings;
use super::super::sidecar;
use super::super::values::Values;
use super::component::{Component, WEBHOOK_PORT};
use super::identity::{ISSUER_SECRET, TRUST_ROOTS};
use super::{COMPONENT, CONFIG, metadata};
use crate::resource::duration;

const ISSUER_PATH: &str = "/var/run/linkerd/identity/issuer";
const TRUST_ROOTS_PATH: &str = "/var/run/linkerd/identity/trust-roots";
const CONFIG_PATH: &str = "/var/run/linkerd/config";

/// A component's deployment.
pub(super) fn document(values: &Values, component: &Component) -> Value {
    let mut metadata = metadata(values, component.deployment, Some(component.name));
    metadata["labels"]["app.kubernetes.io/name"] = component.name.into();
    metadata["labels"]["app.kubernetes.io/part-of"] = "Linkerd".into();
    metadata["labels"]["app.kubernetes.io/version"] = values.linkerd_version.as_str().into();
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": component.replicas(values),
            "revisionHistoryLimit": values.revision_history_limit,
            "selector": {"matchLabels": selector(values, component)},
            "strategy": values.deployment_strategy,
            "template": pod(values, component),
        },
    })
}

/// How many of a component's pods may be down at once.
pub(super) fn budget(values: &Values, component: &Component) -> Option<Value> {
    values.enable_pod_disruption_budget.then(|| {
        json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata(values, component.deployment, Some(component.name)),
            "spec": {
                "maxUnavailable": values.controller.pod_disruption_budget.max_unavailable,
                "selector": {"matchLabels": {COMPONENT: component.name}},
            },
        })
    })
}

fn selector(values: &Values, component: &Component) -> Value {
    json!({
        COMPONENT: component.name,
        "linkerd.io/control-plane-ns": values.linkerd_namespace,
        "linkerd.io/proxy-deployment": component.deployment,
    })
}

fn pod(values: &Values, component: &Component) -> Value {
    let mut spec = json!({
        "serviceAccountName": component.deployment,
        "containers": [container(values, component)],
        "volumes": volumes(component),
        "nodeSelector": values.node_selector,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
    });
    let affinity = affinity(values, component);
    for (field, value, is_said) in [
        ("affinity", affinity.clone(), affinity != json!({})),
        ("tolerations", values.tolerations.clone().into(), !values.tolerations.is_empty()),
        (
            "imagePullSecrets",
            values.image_pull_secrets.clone().into(),
            !values.image_pull_secrets.is_empty(),
        ),
        (
            "priorityClassName",
            values.priority_class_name.as_str().into(),
            !values.priority_class_name.is_empty(),
        ),
        (
            "runtimeClassName",
            values.runtime_class_name.as_str().into(),
            !values.runtime_class_name.is_empty(),
        ),
    ] {
        if is_said {
            spec[field] = value;
        }
    }
    let mut pod = json!({
        "metadata": {
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
            "labels": {COMPONENT: component.name},
        },
        "spec": spec,
    });
    if component.has_webhook() {
        // The API server speaks TLS of its own to it.
        inject::annotate(&mut pod, OPAQUE_PORTS, &WEBHOOK_PORT.to_string());
    }
    let webhook = component.webhook(values).map(|webhook| &webhook.pod_annotations);
    for (name, value) in values.pod_annotations.iter().chain(webhook.into_iter().flatten()) {
        inject::annotate(&mut pod, name, value);
    }
    for (name, value) in values.pod_labels.iter().chain(&values.common_labels) {
        pod["metadata"]["labels"][name] = value.as_str().into();
    }
    let surroundings = Surroundings {
        namespace: values.linkerd_namespace.clone(),
        owner: Some(("deployment".into(), component.deployment.into())),
        ..Surroundings::default()
    };
    inject::put(&mut pod, &settings(values, component), &surroundings);
    let anchors = &values.identity_trust_anchors_pem;
    if !anchors.is_empty() {
        // Their sidecars take the anchors from the config map when they start: other anchors, other pods.
        inject::annotate(&mut pod, TRUST_ROOT_SHA256, &inject::sha256(anchors));
    }
    pod
}

/// The sidecar's settings: a workload's, but that it must not wait for what it carries.
fn settings(values: &Values, component: &Component) -> Settings {
    let mut settings = Settings::of_values(values);
    settings.local_identity = component.name == "identity";
    settings.local_destination = component.name == "destination";
    settings.ingress = false;
    settings.gateway = false;
    let values = &mut settings.values;
    // Anchors that change are picked up with the config map, by whoever is started anew.
    values.identity_trust_anchors_pem.clear();
    values.proxy.native_sidecar = false;
    values.proxy.await_ready = false;
    values.proxy.default_inbound_policy = "all-unauthenticated".into();
    if component.has_webhook() {
        values.proxy.opaque_ports = WEBHOOK_PORT.to_string();
    }
    if let Some(resources) = component.proxy_resources(values).cloned() {
        values.proxy.resources = resources;
    }
    let init = &mut values.proxy_init;
    let ignored = [&init.kube_api_server_ports, &init.ignore_outbound_ports];
    let ignored = ignored.into_iter().filter(|ports| !ports.is_empty()).cloned();
    init.ignore_outbound_ports = ignored.collect::<Vec<_>>().join(",");
    settings
}

fn container(values: &Values, component: &Component) -> Value {
    let port = |(name, port): &(&str, u16)| json!({"name": name, "containerPort": port});
    let mut ports: Vec<_> = component.ports.iter().map(port).collect();
    ports.push(json!({"name": "admin", "containerPort": component.admin_port}));
    let probe = |path: &str| json!({"path": path, "port": component.admin_port});
    let mut container = json!({
        "name": component.name,
        "image": values.controller_reference(),
        "imagePullPolicy": values.image_pull_policy,
        "command": ["weft"],
        "args": arguments(values, component),
        "ports": ports,
        "livenessProbe": {
            "httpGet": probe("/live"), "initialDelaySeconds": 10, "timeoutSeconds": 1,
        },
        "readinessProbe": {
            "httpGet": probe("/ready"), "failureThreshold": 7, "timeoutSeconds": 1,
        },
        "securityContext": sidecar::restricted(values.controller_uid, values.controller_gid),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    let mounts = mounts(component);
    if !mounts.is_empty() {
        container["volumeMounts"] = mounts.into();
    }
    let resources = sidecar::resources(component.resources(values));
    if resources != json!({}) {
        container["resources"] = resources;
    }
    container
}

fn arguments(values: &Values, component: &Component) -> Vec<String> {
    let mut arguments = vec!["controller".to_string(), "--kubernetes".to_string()];
    let mut say = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
    say("serve", component.serves);
    say("control-namespace", &values.linkerd_namespace);
    say("cluster-domain", &values.cluster_domain);
    say("trust-domain", &values.identity_trust_domain);
    say("admin-port", &component.admin_port.to_string());
    say("log", &values.controller_log_level);
    say("log-format", &values.controller_log_format);
    match component.name {
        "identity" => {
            let issuer = &values.identity.issuer;
            let lifetime = duration::parse(&issuer.issuance_lifetime).unwrap_or_default();
            say("issuer-dir", ISSUER_PATH);
            say("trust-roots", &format!("{TRUST_ROOTS_PATH}/ca-bundle.crt"));
            say("certificate-lifetime", &format!("{}s", lifetime.as_secs()));
            let skew = duration::parse(&issuer.clock_skew_allowance).unwrap_or_default();
            say("clock-skew", &format!("{}s", skew.as_secs()));
        }
        "destination" => {
            say("webhook-port", &WEBHOOK_PORT.to_string());
            arguments.extend(mesh_arguments(values));
        }
        "viz" => {
            if !values.prometheus_url.is_empty() {
                say("prometheus-url", &values.prometheus_url);
            }
            arguments.extend(mesh_arguments(values));
        }
        _ => {
            say("trust-roots", &format!("{TRUST_ROOTS_PATH}/ca-bundle.crt"));
            say("values", &format!("{CONFIG_PATH}/values"));
            say("webhook-port", &WEBHOOK_PORT.to_string());
        }
    }
    arguments
}

/// What policies and destinations are compiled with.
fn mesh_arguments(values: &Values) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut say = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
    say("cluster-networks", &values.cluster_networks);
    say("default-inbound-policy", &values.proxy.default_inbound_policy);
    say("opaque-ports", &values.proxy.opaque_ports);
    say("probe-networks", &values.policy_controller.probe_networks.join(","));
    say("egress-namespace", &values.egress.global_egress_network_namespace);
    say("outbound-transport-mode", &values.proxy.outbound_transport_mode);
    if !values.enable_h2_upgrade {
        arguments.push("--disable-h2-upgrade".into());
    }
    if !values.disable_ipv6 {
        arguments.push("--prefer-ipv6".into());
    }
    arguments
}

fn mounts(component: &Component) -> Vec<Value> {
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    match component.name {
        "identity" => {
            vec![mount("identity-issuer", ISSUER_PATH), mount("trust-roots", TRUST_ROOTS_PATH)]
        }
        "destination" | "viz" => Vec::new(),
        _ => vec![mount("config", CONFIG_PATH), mount("trust-roots", TRUST_ROOTS_PATH)],
    }
}

fn volumes(component: &Component) -> Vec<Value> {
    let roots = json!({"name": "trust-roots", "configMap": {"name": TRUST_ROOTS}});
    match component.name {
        "identity" => {
            vec![json!({"name": "identity-issuer", "secret": {"secretName": ISSUER_SECRET}}), roots]
        }
        "destination" | "viz" => Vec::new(),
        _ => vec![json!({"name": "config", "configMap": {"name": CONFIG}}), roots],
    }
}

fn affinity(values: &Values, component: &Component) -> Value {
    let mut affinity = json!({});
    if values.node_affinity != json!({}) {
        affinity["nodeAffinity"] = values.node_affinity.clone();
    }
    if values.enable_pod_anti_affinity {
        let apart = |topology: &str| {
            json!({
                "labelSelector": {"matchExpressions": [{
                    "key": COMPONENT, "operator": "In", "values": [component.name],
                }]},
                "topologyKey": topology,
            })
        };
        affinity["podAntiAffinity"] = json!({
            "preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 100, "podAffinityTerm": apart("topology.kubernetes.io/zone"),
            }],
            "requiredDuringSchedulingIgnoredDuringExecution": [apart("kubernetes.io/hostname")],
        });
    }
    affinity
}
