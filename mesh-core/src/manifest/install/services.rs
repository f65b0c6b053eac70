//! The names under which proxies and the API server find the control plane.

use serde_json::{Value, json};

use super::super::annotations::OPAQUE_PORTS;
use super::super::values::Values;
use super::component::Component;
use super::{COMPONENT, metadata};

/// The services of a component.
pub(super) fn documents(values: &Values, component: &Component) -> Vec<Value> {
    let service = |name: &str, port_name: &str, port: u16, is_headless: bool| {
        let mut spec = json!({
            "type": "ClusterIP",
            "selector": {COMPONENT: component.name},
            "ports": [{"name": port_name, "port": port, "targetPort": port, "protocol": "TCP"}],
        });
        if is_headless {
            spec["clusterIP"] = "None".into();
        }
        document(values, component, name, spec)
    };
    // The API server speaks TLS of its own to a webhook: to proxies, bytes.
    let webhook = |name: &str| {
        let target = "webhook";
        let mut document = document(
            values,
            component,
            name,
            json!({
                "type": "ClusterIP",
                "selector": {COMPONENT: component.name},
                "ports": [{
                    "name": target, "port": 443, "targetPort": target, "protocol": "TCP",
                }],
            }),
        );
        document["metadata"]["annotations"] = json!({OPAQUE_PORTS: "443"});
        document
    };
    match component.name {
        "identity" => vec![
            service("linkerd-identity", "grpc", 8080, false),
            service("linkerd-identity-headless", "grpc", 8080, true),
        ],
        "destination" => vec![
            service("linkerd-dst", "grpc", 8086, false),
            service("linkerd-dst-headless", "grpc", 8086, true),
            service("linkerd-policy", "grpc", 8090, true),
            webhook("linkerd-policy-validator"),
            webhook("linkerd-sp-validator"),
        ],
        // It is nobody's but those whose ports the API server forwards.
        "viz" => Vec::new(),
        _ => vec![webhook("linkerd-proxy-injector")],
    }
}

fn document(values: &Values, component: &Component, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(values, name, Some(component.name)),
        "spec": spec,
    })
}
