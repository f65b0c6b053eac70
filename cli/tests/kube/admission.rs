//! The webhooks as an API server asks them, over TLS: what `weft install` prints is given to a front,
//! `weft controller` runs as processes, and what is made through the front goes by them.

use std::path::PathBuf;
use std::process::Command;

use http::{Method, StatusCode};
use mesh_core::resource::{Kind, ObjectRef};
use runtime_real::kube::{ApiClient, ApiError, KubeOptions};
use serde_json::{Value, json};

use super::controller::{Controller, PATIENCE, WEBHOOK, runtime};
use super::front::Front;

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1";
const INJECTOR: &str = "mutatingwebhookconfigurations/linkerd-proxy-injector-webhook-config";
const VALIDATOR: &str = "validatingwebhookconfigurations/linkerd-policy-validator-webhook-config";
const SERVERS: &str = "/apis/policy.linkerd.io/v1beta3/namespaces/shop/servers";

/// A cluster with what `weft install` prints of it, and whoever writes to it.
struct Installed {
    front: Front,
    client: ApiClient,
    directory: tempfile::TempDir,
    values: PathBuf,
}

impl Installed {
    async fn new() -> Self {
        let front = Front::start().await;
        let kubeconfig = Some(front.kubeconfig());
        let options = KubeOptions { kubeconfig, ..KubeOptions::default() };
        let client = ApiClient::open(&options).await.expect("a kubeconfig");
        let directory = tempfile::tempdir().expect("a directory");
        let values = directory.path().join("values");
        let installed = Self { front, client, directory, values };
        for document in manifests() {
            installed.install(&document).await;
        }
        let shop = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "shop", "annotations": { "linkerd.io/inject": "enabled" } } });
        installed.make("/api/v1/namespaces", &shop).await.expect("made");
        installed
    }

    /// Makes what webhooks are found and configured by.
    async fn install(&self, document: &Value) {
        let collection = match document["kind"].as_str() {
            Some("Namespace") => "/api/v1/namespaces".to_owned(),
            Some("Service") => "/api/v1/namespaces/linkerd/services".to_owned(),
            Some("MutatingWebhookConfiguration") => {
                format!("{WEBHOOKS}/mutatingwebhookconfigurations")
            }
            Some("ValidatingWebhookConfiguration") => {
                format!("{WEBHOOKS}/validatingwebhookconfigurations")
            }
            Some("ConfigMap") if document["metadata"]["name"] == "linkerd-config" => {
                let values = document["data"]["values"].as_str().expect("values");
                return std::fs::write(&self.values, values).expect("mounted");
            }
            _ => return,
        };
        self.make(&collection, document).await.expect("made");
    }

    async fn make(&self, collection: &str, object: &Value) -> Result<Value, ApiError> {
        let body = object.to_string().into_bytes();
        let made = self.client.call(Method::POST, collection, "application/json", body).await?;
        Ok(serde_json::from_slice(&made).expect("JSON"))
    }

    /// Makes a pod of a workload.
    async fn make_pod(&self) -> Result<Value, ApiError> {
        self.make("/api/v1/namespaces/shop/pods", &pod()).await
    }

    /// A part of the control plane, and the endpoints of its webhooks' services. Ready once the API
    /// server was told whom to trust.
    async fn run(&self, serve: &str, services: &[&str], configuration: &str) -> Controller {
        let values = self.values.display().to_string();
        let arguments = match serve {
            "injector" => vec!["--values".to_owned(), values],
            _ => Vec::new(),
        };
        let (kubeconfig, directory) = (self.front.kubeconfig(), self.directory.path());
        let mut controller = Controller::start(&kubeconfig, directory, serve, &arguments);
        let slices = "/apis/discovery.k8s.io/v1/namespaces/linkerd/endpointslices";
        for service in services {
            let slice = slice(service, controller.ports[WEBHOOK]);
            self.make(slices, &slice).await.expect("made");
        }
        controller.until_ready(&runtime()).await;
        let path = format!("{WEBHOOKS}/{configuration}");
        self.front
            .until("the CA bundle", |front| {
                let kept = front.kept(&path).expect("installed");
                let bundle = kept["webhooks"][0]["clientConfig"]["caBundle"].as_str();
                bundle.is_some_and(|bundle| !bundle.is_empty())
            })
            .await;
        controller
    }

    /// Says what is to happen while a webhook does not answer.
    async fn set_failure_policy(&self, configuration: &str, policy: &str) {
        let patch =
            json!([{ "op": "replace", "path": "/webhooks/0/failurePolicy", "value": policy }]);
        let (form, body) = ("application/json-patch+json", patch.to_string().into_bytes());
        let path = format!("{WEBHOOKS}/{configuration}");
        self.client.call(Method::PATCH, &path, form, body).await.expect("patched");
    }
}

fn manifests() -> Vec<Value> {
    let printed = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["install", "--ignore-cluster", "--output", "json"])
        .output()
        .expect("to start weft");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let list: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    list["items"].as_array().expect("a List").clone()
}

fn slice(service: &str, port: u16) -> Value {
    let labels = json!({ "kubernetes.io/service-name": service });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": service, "labels": labels }, "addressType": "IPv4",
        "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": true } }],
        "ports": [{ "name": "webhook", "port": port }],
    })
}

fn pod() -> Value {
    let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6f55d88c7c",
        "uid": "1", "controller": true });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "generateName": "web-6f55d88c7c-", "ownerReferences": [owner],
            "labels": { "app": "web", "pod-template-hash": "6f55d88c7c" } },
        "spec": { "serviceAccountName": "web", "containers": [
            { "name": "web", "image": "web:1", "ports": [{ "containerPort": 8080 }] }] },
    })
}

fn server(name: &str, protocol: &str) -> Value {
    json!({
        "apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": { "name": name },
        "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "port": 8080,
            "proxyProtocol": protocol },
    })
}

/// The containers of a pod, those that come first among them.
fn containers(pod: &Value) -> Vec<&str> {
    let of = |field: &str| pod["spec"][field].as_array().into_iter().flatten();
    let all = of("initContainers").chain(of("containers"));
    all.filter_map(|container| container["name"].as_str()).collect()
}

#[tokio::test]
async fn a_pod_that_is_made_at_the_api_server_has_a_sidecar_and_none_while_the_injector_is_away() {
    let installed = Installed::new().await;
    let mut injector = installed.run("injector", &["linkerd-proxy-injector"], INJECTOR).await;
    let made = installed.make_pod().await.expect("admitted");
    assert_eq!(containers(&made), ["linkerd-init", "linkerd-proxy", "web"]);
    assert_eq!(made["metadata"]["labels"]["linkerd.io/proxy-deployment"], "web");
    // What is stored is what was answered.
    let name = made["metadata"]["name"].as_str().expect("a name was made up").to_owned();
    let name = ObjectRef { kind: Kind::Pod, namespace: "shop".to_owned(), name };
    let stored = installed.front.server.find(&name).expect("stored").to_json();
    assert_eq!(containers(&stored), containers(&made));
    installed
        .front
        .until("an event", |front| {
            let events = front.kept_below("/api/v1/namespaces/shop/events/");
            events.iter().any(|event| event["reason"] == "Injected")
        })
        .await;

    injector.kill();
    let made = installed.make_pod().await.expect("failurePolicy Ignore lets it through");
    assert_eq!(containers(&made), ["web"]);
    installed.set_failure_policy(INJECTOR, "Fail").await;
    let refused = installed.make_pod().await.expect_err("failurePolicy Fail does not");
    assert_eq!(refused.status, Some(StatusCode::INTERNAL_SERVER_ERROR));
    let told = "failed calling webhook \"linkerd-proxy-injector.linkerd.io\"";
    assert!(refused.reason.contains(told), "{}", refused.reason);
}

#[tokio::test]
async fn a_wrong_server_is_refused_at_the_api_server_and_the_fault_is_told() {
    let installed = Installed::new().await;
    let services = ["linkerd-policy-validator", "linkerd-sp-validator"];
    installed.set_failure_policy(VALIDATOR, "Fail").await;
    let controller = installed.run("destination", &services, VALIDATOR).await;
    // The certificate is served a moment after whom to trust for it is told.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let refused = loop {
        let answer = installed.make(SERVERS, &server("wrong", "HTTP/7")).await;
        let refused = answer.expect_err("wrong");
        if refused.status != Some(StatusCode::INTERNAL_SERVER_ERROR) {
            break refused;
        }
        assert!(tokio::time::Instant::now() < deadline, "{}", refused.reason);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(refused.status, Some(StatusCode::BAD_REQUEST));
    let denied = "admission webhook \"linkerd-policy-validator.linkerd.io\" denied the request: ";
    assert!(refused.reason.starts_with(denied), "{}", refused.reason);
    assert!(refused.reason.contains("spec.proxyProtocol"), "{}", refused.reason);

    installed.make(SERVERS, &server("web", "HTTP/1")).await.expect("right");
    until_known(&controller, "weft_control_objects{kind=\"Server\"} 1").await;
    let refused = installed.make(SERVERS, &server("second", "HTTP/1")).await;
    let told = refused.expect_err("it is for the same port").reason;
    assert!(told.contains("the Server shop/web is for port 8080"), "{told}");
    // It is there already: what changes nothing that is checked goes through.
    let patch = json!({ "metadata": { "labels": { "team": "shop" } } });
    let (form, path) = ("application/merge-patch+json", format!("{SERVERS}/web"));
    let patched = installed.client.call(Method::PATCH, &path, form, patch.to_string().into()).await;
    patched.expect("labels may change");
    let patch = json!({ "spec": { "proxyProtocol": "HTTP/7" } });
    let patched = installed.client.call(Method::PATCH, &path, form, patch.to_string().into()).await;
    let told = patched.expect_err("wrong").reason;
    assert!(told.contains("spec.proxyProtocol"), "{told}");
}

/// Waits until a controller counts this.
async fn until_known(controller: &Controller, sample: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let runtime = runtime();
    loop {
        let metrics = controller.admin(&runtime, "/metrics").await.unwrap_or_default();
        if metrics.contains(sample) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "never {sample}: {metrics}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
