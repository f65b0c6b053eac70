//! Injection of texts, and answers to an API server: the injector refuses nothing and loses nothing,
//! and the validators say why they refuse.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use mesh_core::control::MeshConfig;
use mesh_core::control::index::{Index, View};
use mesh_core::control::injector::{self, Decision, Surrounded};
use mesh_core::control::webhook::validate::{self, Checked};
use mesh_core::manifest::Values;
use mesh_core::manifest::documents::{self, Options};
use mesh_core::resource::yaml;
use mesh_core::runtime::cluster::WatchEvent;
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

/// Any review, by either validator: it is answered with its own `uid`, a refusal says why, and what
/// is removed may be.
pub fn validation(input: &[u8]) {
    static INDEX: LazyLock<(Index, MeshConfig)> = LazyLock::new(|| {
        let mut index = Index::default();
        let manifest = yaml::read("fuzz.yaml", SERVER).expect("a manifest written here");
        for object in manifest.objects {
            index.apply(object.kind(), WatchEvent::Apply(object), &mut Default::default());
        }
        (index, MeshConfig::default())
    });
    let (index, mesh) = &*INDEX;
    for checked in [Checked::Policy, Checked::Profile] {
        let Ok(answer) = validate::answer(input, checked, &View::new(index, mesh)) else {
            return;
        };
        let request =
            serde_json::from_slice::<Value>(input).expect("it was read")["request"].take();
        let response =
            serde_json::from_slice::<Value>(&answer).expect("an answer is JSON")["response"].take();
        assert_eq!(response["uid"], request["uid"]);
        let says_why = response["status"]["message"].as_str().is_some_and(|why| !why.is_empty());
        assert_ne!(response["allowed"] == true, says_why, "{response}");
        assert!(request["operation"] != "DELETE" || response["allowed"] == true);
    }
}

const SERVER: &str = "\
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: all, namespace: shop}
spec: {podSelector: {}, port: 8080}
";

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

pub(crate) fn validations() -> Vec<Vec<u8>> {
    let policy = "policy.linkerd.io/v1alpha1";
    let server = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "all"});
    let objects = [
        (
            "policy.linkerd.io/v1beta3",
            "Server",
            json!({"podSelector": {"matchLabels": {"a": "b"}},
            "port": "http", "proxyProtocol": "HTTP/2", "accessPolicy": "deny"}),
        ),
        (
            policy,
            "AuthorizationPolicy",
            json!({"targetRef": server, "requiredAuthenticationRefs": [
            {"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": "a"}]}),
        ),
        (policy, "MeshTLSAuthentication", json!({"identities": ["*.shop"]})),
        (
            policy,
            "NetworkAuthentication",
            json!({"networks": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]}),
        ),
        (
            policy,
            "HTTPLocalRateLimitPolicy",
            json!({"targetRef": server, "total": {"requestsPerSecond": 1}}),
        ),
        (
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            json!({
            "parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80}],
            "rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "/a+"}}],
                "backendRefs": [{"name": "web", "port": 80}]}]}),
        ),
        (
            "linkerd.io/v1alpha2",
            "ServiceProfile",
            json!({"routes": [
            {"name": "a", "condition": {"not": {"pathRegex": "/a", "method": "GET"}}}]}),
        ),
    ];
    let review = |(api_version, kind, spec): (&str, &str, Value)| {
        let object = json!({"apiVersion": api_version, "kind": kind, "spec": spec,
            "metadata": {"name": "web.shop", "namespace": "shop"}});
        let request =
            json!({"uid": "u", "namespace": "shop", "operation": "UPDATE", "object": object});
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": request});
        review.to_string().into_bytes()
    };
    objects.map(review).to_vec()
}
