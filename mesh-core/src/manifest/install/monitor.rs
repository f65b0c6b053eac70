//! What the Prometheus operator is told to scrape.

use serde_json::{Value, json};

use super::super::values::{MonitorOf, Values};
use super::{COMPONENT, metadata};

/// The PodMonitors, where they are wanted.
pub(super) fn documents(values: &Values) -> Vec<Value> {
    let wanted = &values.pod_monitor;
    if !wanted.enabled {
        return Vec::new();
    }
    let mut documents = Vec::new();
    if wanted.controller.enabled {
        let own = json!({"matchNames": [values.linkerd_namespace]});
        documents.push(document(
            values,
            "linkerd-controller",
            selector(&wanted.controller, own),
            json!({"matchExpressions": [{"key": COMPONENT, "operator": "Exists"}]}),
            &json!({"port": "admin"}),
            &[
                json!({"action": "replace", "sourceLabels": ["__meta_kubernetes_pod_container_name"],
                    "targetLabel": "component"}),
            ],
        ));
    }
    if wanted.proxy.enabled {
        documents.push(document(
            values,
            "linkerd-proxy",
            selector(&wanted.proxy, json!({"any": true})),
            json!({"matchLabels": {
                "linkerd.io/control-plane-ns": values.linkerd_namespace,
            }}),
            &json!({"port": "linkerd-admin"}),
            &proxy_labels(),
        ));
    }
    documents
}

fn selector(said: &MonitorOf, otherwise: Value) -> Value {
    match said.namespace_selector.as_object() {
        Some(selector) if !selector.is_empty() => said.namespace_selector.clone(),
        _ => otherwise,
    }
}

/// Labels that Linkerd's dashboards ask for.
fn proxy_labels() -> Vec<Value> {
    let replace = |from: &str, to: &str| json!({"action": "replace", "sourceLabels": [from], "targetLabel": to});
    let labelmap = |pattern: &str, replacement: &str| json!({"action": "labelmap", "regex": pattern, "replacement": replacement});
    vec![
        json!({"action": "keep", "regex": "^linkerd-proxy;linkerd-admin$", "sourceLabels": [
            "__meta_kubernetes_pod_container_name", "__meta_kubernetes_pod_container_port_name",
        ]}),
        replace("__meta_kubernetes_namespace", "namespace"),
        replace("__meta_kubernetes_pod_name", "pod"),
        replace("__meta_kubernetes_pod_label_linkerd_io_proxy_job", "k8s_job"),
        json!({"action": "labeldrop", "regex": "__meta_kubernetes_pod_label_linkerd_io_proxy_job"}),
        labelmap("__meta_kubernetes_pod_label_linkerd_io_proxy_(.+)", "$1"),
        json!({"action": "labeldrop", "regex": "__meta_kubernetes_pod_label_linkerd_io_proxy_(.+)"}),
        labelmap("__meta_kubernetes_pod_label_linkerd_io_(.+)", "__tmp_pod_label_$1"),
        labelmap("__tmp_pod_label_(.+)", "$1"),
    ]
}

fn document(
    values: &Values,
    name: &str,
    namespaces: Value,
    pods: Value,
    endpoint: &Value,
    relabelings: &[Value],
) -> Value {
    let wanted = &values.pod_monitor;
    let mut metadata = metadata(values, name, None);
    for (label, value) in &wanted.labels {
        metadata["labels"][label] = value.as_str().into();
    }
    let mut endpoint = endpoint.clone();
    endpoint["interval"] = wanted.scrape_interval.as_str().into();
    endpoint["scrapeTimeout"] = wanted.scrape_timeout.as_str().into();
    endpoint["relabelings"] = relabelings.to_vec().into();
    json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata,
        "spec": {
            "namespaceSelector": namespaces,
            "selector": pods,
            "podMetricsEndpoints": [endpoint],
        },
    })
}
