//! Injection of texts, and answers to an API server: nothing is refused, nothing is lost.

use std::collections::BTreeMap;

use base64::Engine;
use mesh_core::control::injector::{self, Decision, Surrounded};
use mesh_core::manifest::Values;
use mesh_core::manifest::documents::{self, Options};
use serde_json::{Value, json};

/// Any text: injecting it twice is injecting it once.
pub fn text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(once) = documents::inject("fuzz.yaml", text, &Options::default()) else {
        return;
    };
    let twice = documents::inject("fuzz.yaml", &once.text, &Options::default());
    assert_eq!(twice.expect("what came out goes in").text, once.text);
    documents::uninject("fuzz.yaml", &once.text).expect("what came out goes in");
}

/// Any review: it is answered with its own `uid`, allowed, and with a patch that takes nothing away.
pub fn review(input: &[u8]) {
    let Ok(answer) = injector::answer(input, &Values::default(), &Asking) else {
        return;
    };
    let asked: Value = serde_json::from_slice(input).expect("it was read");
    let review: Value = serde_json::from_slice(&answer.review).expect("an answer is JSON");
    let response = &review["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&asked["request"]["uid"], &true.into()));
    let patch = response["patch"].as_str().map(|patch| {
        let patch = base64::engine::general_purpose::STANDARD.decode(patch).expect("base64");
        serde_json::from_slice::<Vec<Value>>(&patch).expect("a list of operations")
    });
    assert_eq!(response["patchType"] == "JSONPatch", patch.is_some());
    let patch = patch.unwrap_or_default();
    assert!(patch.iter().all(|operation| operation["op"] != "remove"), "{patch:?}");
    if matches!(answer.decision, Decision::Skipped(_) | Decision::Ignored) {
        assert!(patch.is_empty(), "{patch:?}");
    }
}

/// A cluster in which every namespace asks for sidecars.
struct Asking;

impl Surrounded for Asking {
    fn namespace_annotations(&self, _: &str) -> BTreeMap<String, String> {
        let named = [
            ("linkerd.io/inject", "enabled"),
            ("config.linkerd.io/opaque-ports", "25"),
            ("config.linkerd.io/proxy-uid", "nobody"),
        ];
        named.map(|(name, value)| (name.to_string(), value.to_string())).into()
    }

    fn owner_of(&self, _: &str, _: &str, _: &str) -> Option<(String, String)> {
        None
    }
}

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {annotations: {config.linkerd.io/skip-inbound-ports: '25'}}
    spec: {containers: [{name: web, ports: [{containerPort: 80, protocol: UDP}]}]}
";

const LIST: &str = "\
# A comment.
kind: List
items:
- {kind: Pod, metadata: {name: a, labels: {a: b}}, spec: {containers: [], hostNetwork: true}}
- {kind: CronJob, spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: c}]}}}}}}
--- # Another.
kind: Namespace
metadata: {name: shop}
";

pub(crate) fn texts() -> Vec<Vec<u8>> {
    [DEPLOYMENT, LIST].map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(crate) fn reviews() -> Vec<Vec<u8>> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-", "annotations": {"config.linkerd.io/admin-port": "x"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-5d", "controller": true}]},
        "spec": {"containers": [{"name": "web", "ports": [{"containerPort": 80}]}], "volumes": []},
    });
    let service = json!({"kind": "Service", "metadata": {"name": "web"}, "spec": {}});
    let review = |object: Value| {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "705ab4f5", "namespace": "shop", "operation": "CREATE",
                "kind": {"group": "", "version": "v1", "kind": object["kind"]}, "object": object},
        });
        review.to_string().into_bytes()
    };
    [pod, service].map(review).to_vec()
}
