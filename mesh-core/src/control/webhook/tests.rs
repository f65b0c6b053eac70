//! Webhooks over the network, asked as an API server asks: TLS by the bundle that its configuration
//! has, HTTP/2 or HTTP/1, AdmissionReviews.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::certificate::{self, LIFETIME};
use super::{Webhook, WebhookConfig};
use crate::control::config::MeshConfig;
use crate::control::metrics::ControlMetrics;
use crate::control::pem;
use crate::control::publish::Publisher;
use crate::control::testing::{self, MemoryCluster, MemoryFiles};
use crate::resource::Kind;
use crate::runtime::cluster::{Secret, WatchEvent, WebhookKind};
use crate::runtime::net::{ListenOptions, TcpOptions};
use crate::runtime::{BoxIo, Runtime};
use crate::telemetry::format::Format;
use crate::wire::drain::{self, DrainSignal};
use crate::wire::http::Body;
use crate::wire::http::client::{self, Http2ClientOptions};
use crate::wire::tls::client::connect;
use crate::wire::tls::credentials::Credentials;
use crate::wire::tls::testing::server_tls;
use crate::wire::tls::validity_of;

const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {linkerd.io/inject: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: plain}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web-http, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: http}
";
const INJECTOR: &str = "linkerd-proxy-injector.linkerd.svc";
const SECRET: &str = "linkerd-proxy-injector-k8s-tls";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Bench {
    runtime: Runtime,
    cluster: MemoryCluster,
    files: MemoryFiles,
    publisher: Publisher,
    metrics: Arc<ControlMetrics>,
    stop: DrainSignal,
}

impl Bench {
    fn new() -> Self {
        let (runtime, files, cluster, _) = testing::runtime();
        files.put("values", b"linkerdVersion: edge-1\n");
        let metrics = Arc::new(ControlMetrics::default());
        let publisher = Publisher::new(MeshConfig::default(), 10, metrics.clone());
        let (stop, _) = drain::channel();
        Self { runtime, cluster, files, publisher, metrics, stop }
    }

    fn sync(&self) {
        for kind in Kind::ALL {
            self.publisher.apply(*kind, WatchEvent::Init);
            for object in testing::objects(MESH).into_iter().filter(|o| o.kind() == *kind) {
                self.publisher.apply(*kind, WatchEvent::InitApply(object));
            }
            self.publisher.apply(*kind, WatchEvent::InitDone);
        }
    }

    /// A process that serves all webhooks at an address.
    async fn run(&self, ip: &str) -> Webhook {
        let listen: SocketAddr = format!("{ip}:8443").parse().unwrap();
        let values = Some("values".into());
        let trust_roots = Some("roots".into());
        let config = WebhookConfig { listen, values, trust_roots, validates: true };
        let (publisher, metrics) = (self.publisher.clone(), self.metrics.clone());
        let mesh = MeshConfig::default();
        let webhook = Webhook::new(&self.runtime, &config, &mesh, publisher, metrics).unwrap();
        let listener = self.runtime.net.listen(listen, ListenOptions::default()).await.unwrap();
        let serving = webhook.clone().serve(listener, self.stop.watch());
        self.runtime.spawn("webhook", serving);
        webhook
    }

    /// A connection of an API server that trusts what its configuration says.
    async fn connect(&self, ip: &str, alpn: &'static [u8]) -> BoxIo {
        let bundle = self.bundle();
        let credentials = Credentials::new(&self.runtime, server_tls("kubernetes"));
        credentials.set_roots(bundle.as_bytes()).unwrap();
        let at = format!("{ip}:8443").parse().unwrap();
        let connection = self.runtime.net.connect(at, TcpOptions::default()).await.unwrap();
        let name = server_tls(INJECTOR);
        connect(connection.io, &credentials, &name, Some(alpn)).await.unwrap().io
    }

    fn bundle(&self) -> String {
        let name = "linkerd-proxy-injector-webhook-config";
        self.cluster.bundle(WebhookKind::Mutating, name).expect("the webhook told it")
    }

    async fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> (StatusCode, String) {
        let io = self.connect("10.0.0.5", b"h2").await;
        let options = Http2ClientOptions::default();
        let connection = client::connect(&self.runtime, io, &options).await.unwrap();
        let request = ::http::Request::post(format!("https://{INJECTOR}{path}"));
        let mut request = request.body(Body::full(body.into())).unwrap();
        let response = connection.send(&mut request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.read_to_end(1 << 22).await.unwrap();
        (head.status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn ask(&self, path: &str, review: &Value) -> Value {
        let (status, body) = self.post(path, review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }
}

async fn started() -> (Bench, Webhook) {
    let bench = Bench::new();
    bench.sync();
    let webhook = bench.run("10.0.0.5").await;
    bench.runtime.sleep(Duration::from_secs(1)).await;
    (bench, webhook)
}

/// As a 1.36 API server sends it.
fn review(namespace: &str, object: Value) -> Value {
    let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", "v1"),
    };
    let kind = json!({"group": group, "version": version, "kind": object["kind"]});
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "f639b3ab-faba-4399-8755-0ea9eee46a35", "kind": kind, "requestKind": kind,
            "namespace": namespace, "operation": "CREATE", "object": object, "oldObject": null,
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:authenticated"]},
            "dryRun": false, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// A pod as the controller of a workload makes it.
fn pod(owner: Option<(&str, &str, &str)>) -> Value {
    let mut pod = json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"generateName": "echo-", "namespace": "shop",
            "labels": {"app": "echo", "pod-template-hash": "6f55d88c7c"}},
        "spec": {"containers": [{"name": "echo", "image": "echo:1", "ports": [
            {"containerPort": 8080, "protocol": "TCP"}]}], "serviceAccountName": "default"},
        "status": {},
    });
    if let Some((api_version, kind, name)) = owner {
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": api_version, "kind": kind,
            "name": name, "uid": "23678373", "controller": true, "blockOwnerDeletion": true}]);
    }
    pod
}

fn patched(response: &Value) -> String {
    let Some(patch) = response["patch"].as_str() else { return String::new() };
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
    String::from_utf8(patch).unwrap()
}

#[tokio::test(start_paused = true)]
async fn pods_of_every_workload_get_a_sidecar_and_their_owners_an_event() {
    let (bench, _) = started().await;
    let workloads = [
        Some(("apps/v1", "ReplicaSet", "echo-6f55d88c7c")),
        Some(("apps/v1", "ReplicaSet", "bare")),
        Some(("apps/v1", "StatefulSet", "db")),
        Some(("apps/v1", "DaemonSet", "agent")),
        Some(("batch/v1", "Job", "once")),
        Some(("v1", "ReplicationController", "old")),
        None,
    ];
    for owner in workloads {
        let response = bench.ask("/mutate", &review("shop", pod(owner))).await;
        assert!(patched(&response).contains("linkerd-proxy"), "{owner:?}");
    }
    let response = bench.ask("/mutate", &review("plain", pod(workloads[0]))).await;
    assert_eq!((patched(&response), &response["allowed"]), (String::new(), &true.into()));
    bench.runtime.sleep(Duration::from_secs(1)).await;
    let mut events = bench.cluster.event_texts();
    events.sort();
    insta::assert_snapshot!(events.join("\n"), @r"
    apps/v1 DaemonSet agent (23678373): Injected: Linkerd sidecar proxy injected
    apps/v1 Deployment echo (no uid): Injected: Linkerd sidecar proxy injected
    apps/v1 Deployment echo (no uid): InjectionSkipped: Linkerd sidecar proxy injection skipped: neither the namespace nor the pod have the annotation linkerd.io/inject:enabled
    apps/v1 ReplicaSet bare (23678373): Injected: Linkerd sidecar proxy injected
    apps/v1 StatefulSet db (23678373): Injected: Linkerd sidecar proxy injected
    batch/v1 Job once (23678373): Injected: Linkerd sidecar proxy injected
    v1 ReplicationController old (23678373): Injected: Linkerd sidecar proxy injected
    ");
    let metrics = bench.metrics.admission.render(Format::Text);
    insta::assert_snapshot!(metrics, @r#"
    # HELP proxy_inject_admission_requests_total Reviews that the injector was asked for.
    # TYPE proxy_inject_admission_requests_total counter
    proxy_inject_admission_requests_total{owner_kind="",namespace="shop",annotation_at="namespace"} 1
    proxy_inject_admission_requests_total{owner_kind="daemonset",namespace="shop",annotation_at="namespace"} 1
    proxy_inject_admission_requests_total{owner_kind="deployment",namespace="plain",annotation_at=""} 1
    proxy_inject_admission_requests_total{owner_kind="deployment",namespace="shop",annotation_at="namespace"} 1
    proxy_inject_admission_requests_total{owner_kind="job",namespace="shop",annotation_at="namespace"} 1
    proxy_inject_admission_requests_total{owner_kind="replicaset",namespace="shop",annotation_at="namespace"} 1
    proxy_inject_admission_requests_total{owner_kind="replicationcontroller",namespace="shop",annotation_at="namespace"} 1
    proxy_inject_admission_requests_total{owner_kind="statefulset",namespace="shop",annotation_at="namespace"} 1
    # HELP proxy_inject_admission_responses_total Reviews that the injector answered.
    # TYPE proxy_inject_admission_responses_total counter
    proxy_inject_admission_responses_total{owner_kind="",namespace="shop",skip="false",skip_reason="",annotation_at="namespace"} 1
    proxy_inject_admission_responses_total{owner_kind="daemonset",namespace="shop",skip="false",skip_reason="",annotation_at="namespace"} 1
    proxy_inject_admission_responses_total{owner_kind="deployment",namespace="plain",skip="true",skip_reason="injection_enable_annotation_absent",annotation_at=""} 1
    proxy_inject_admission_responses_total{owner_kind="deployment",namespace="shop",skip="false",skip_reason="",annotation_at="namespace"} 1
    proxy_inject_admission_responses_total{owner_kind="job",namespace="shop",skip="false",skip_reason="",annotation_at="namespace"} 1
    proxy_inject_admission_responses_total{owner_kind="replicaset",namespace="shop",skip="false",skip_reason="",annotation_at="namespace"} 1
    proxy_inject_admission_responses_total{owner_kind="replicationcontroller",namespace="shop",skip="false",skip_reason="",annotation_at="namespace"} 1
    proxy_inject_admission_responses_total{owner_kind="statefulset",namespace="shop",skip="false",skip_reason="",annotation_at="namespace"} 1
    # HELP weft_metrics_label_sets_folded_total How often labels were counted under `other` because their group was full.
    # TYPE weft_metrics_label_sets_folded_total counter
    weft_metrics_label_sets_folded_total{group="proxy_inject_admission"} 0
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_review_that_an_api_server_sent_is_answered_with_a_patch_for_it() {
    let (bench, _) = started().await;
    let meshed = "apiVersion: v1\nkind: Namespace\nmetadata: {name: meshed, annotations: {linkerd.io/inject: enabled}}";
    let [meshed] = testing::objects(meshed).try_into().unwrap();
    bench.publisher.apply(Kind::Namespace, WatchEvent::Apply(meshed));
    let review: Value =
        serde_json::from_str(include_str!("recorded/pod-of-a-deployment.json")).unwrap();
    let response = bench.ask("/mutate", &review).await;
    let patch: Value = serde_json::from_str(&patched(&response)).unwrap();
    let operations = patch.as_array().unwrap().iter();
    let operations: Vec<_> = operations
        .map(|one| format!("{} {}", one["op"].as_str().unwrap(), one["path"].as_str().unwrap()))
        .collect();
    insta::assert_snapshot!(operations.join("\n"), @r"
    add /metadata/annotations/linkerd.io~1created-by
    add /metadata/annotations/linkerd.io~1proxy-version
    add /metadata/labels/linkerd.io~1control-plane-ns
    add /metadata/labels/linkerd.io~1proxy-deployment
    add /metadata/labels/linkerd.io~1workload-ns
    add /spec/initContainers/0
    add /spec/initContainers/1
    add /spec/volumes/1
    add /spec/volumes/2
    add /spec/volumes/3
    ");
    bench.runtime.sleep(Duration::from_secs(1)).await;
    insta::assert_snapshot!(bench.cluster.event_texts().join("\n"), @"apps/v1 Deployment echo (no uid): Injected: Linkerd sidecar proxy injected");
}

#[tokio::test(start_paused = true)]
async fn resources_are_checked_and_what_is_refused_says_why() {
    let (bench, _) = started().await;
    let server = json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
        "metadata": {"name": "again", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "port": "http"}});
    let response = bench.ask("/validate/policy", &review("shop", server.clone())).await;
    assert_eq!(response["allowed"], false);
    insta::assert_snapshot!(response["status"]["message"].as_str().unwrap(), @"spec.port: the Server shop/web-http is for port http of pods that this one selects too; give another port, or a selector that selects other pods");
    let mut other = server;
    other["metadata"]["name"] = "web-http".into();
    let response = bench.ask("/validate/policy", &review("shop", other)).await;
    assert_eq!(response["allowed"], true, "{response}");
    let profile = json!({"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
        "metadata": {"name": "web.shop.svc.cluster.local", "namespace": "shop"},
        "spec": {"routes": [{"name": "r", "condition": {"pathRegex": "("}}]}});
    let response = bench.ask("/validate/profile", &review("shop", profile)).await;
    insta::assert_snapshot!(response["status"]["message"].as_str().unwrap(), @r#"spec.routes[0].condition.pathRegex: "(" is not valid; use a regular expression without look-around"#);
    insta::assert_snapshot!(bench.metrics.admission.render(Format::Text), @r#"
    # HELP weft_control_validations_total Resources checked.
    # TYPE weft_control_validations_total counter
    weft_control_validations_total{webhook="policy",allowed="false"} 1
    weft_control_validations_total{webhook="policy",allowed="true"} 1
    weft_control_validations_total{webhook="profile",allowed="false"} 1
    "#);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_review_gets_a_clear_400_and_the_next_is_answered() {
    let (bench, _) = started().await;
    let mut said = Vec::new();
    for body in ["", "{", "{}", r#"{"apiVersion":"v1","kind":"Pod"}"#] {
        let (status, text) = bench.post("/mutate", body).await;
        said.push(format!("{} {text}", status.as_u16()));
    }
    let (status, text) = bench.post("/mutate", vec![b' '; (4 << 20) + 1]).await;
    said.push(format!("{} {text}", status.as_u16()));
    let (status, text) = bench.post("/other", "").await;
    said.push(format!("{} {text}", status.as_u16()));
    insta::assert_snapshot!(said.concat(), @r"
    400 not an AdmissionReview of admission.k8s.io/v1: EOF while parsing a value at line 1 column 0
    400 not an AdmissionReview of admission.k8s.io/v1: EOF while parsing an object at line 1 column 1
    400 not an AdmissionReview of admission.k8s.io/v1: missing field `apiVersion` at line 1 column 2
    400 not an AdmissionReview of admission.k8s.io/v1: it is a Pod of v1
    413 the review has more than 4194304 bytes
    404 there is no such webhook here
    ");
    let response = bench.ask("/mutate", &review("shop", pod(None))).await;
    assert!(patched(&response).contains("linkerd-proxy"));
}

#[tokio::test(start_paused = true)]
async fn http1_is_spoken_where_that_is_agreed_on() {
    let (bench, _) = started().await;
    let mut io = bench.connect("10.0.0.5", b"http/1.1").await;
    let body = review("shop", pod(None)).to_string();
    let head = format!("POST /mutate?timeout=10s HTTP/1.1\r\nhost: {INJECTOR}\r\n");
    let head = head + &format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    io.write_all((head + &body).as_bytes()).await.unwrap();
    io.flush().await.unwrap();
    let mut answer = Vec::new();
    io.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("JSONPatch"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_before_the_cluster_is_known_and_not_for_longer_than_is_waited() {
    let bench = Bench::new();
    bench.run("10.0.0.5").await;
    bench.runtime.sleep(Duration::from_secs(1)).await;
    let (status, text) = bench.post("/mutate", review("shop", pod(None)).to_string()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    let asked = async {
        let review = review("shop", pod(None));
        bench.ask("/mutate", &review).await
    };
    let syncing = async {
        bench.runtime.sleep(Duration::from_secs(2)).await;
        bench.sync();
    };
    let (response, ()) = tokio::join!(asked, syncing);
    assert!(patched(&response).contains("linkerd-proxy"));
}

#[tokio::test(start_paused = true)]
async fn values_that_cannot_be_read_leave_the_last_good_ones_in_force() {
    let (bench, webhook) = started().await;
    let proxy_of = async |review: Value| patched(&bench.ask("/mutate", &review).await);
    bench.files.put("values", b"proxy: [nonsense");
    bench.runtime.sleep(Duration::from_secs(1)).await;
    assert!(proxy_of(review("shop", pod(None))).await.contains("edge-1"));
    assert!(bench.metrics.reload_errors.value() > 0);
    bench.files.put("values", b"linkerdVersion: edge-2\n");
    bench.runtime.sleep(Duration::from_secs(1)).await;
    assert!(proxy_of(review("shop", pod(None))).await.contains("edge-2"));
    assert_eq!(webhook.unready(), None);
}

#[tokio::test(start_paused = true)]
async fn sidecars_begin_with_the_anchors_that_are_mounted() {
    let (bench, _webhook) = started().await;
    let sidecar = async || patched(&bench.ask("/mutate", &review("shop", pod(None))).await);
    // There is no file of them, nor are they among the values: the namespace's config map tells.
    assert!(sidecar().await.contains("configMapKeyRef"));
    bench.files.put("roots", bench.bundle().as_bytes());
    bench.runtime.sleep(Duration::from_secs(61)).await;
    let begun = sidecar().await;
    assert!(begun.contains("BEGIN CERTIFICATE") && begun.contains("trust-root-sha256"), "{begun}");
    bench.files.put("roots", b"broken");
    bench.runtime.sleep(Duration::from_secs(61)).await;
    assert_eq!(sidecar().await, begun);
}

#[tokio::test(start_paused = true)]
async fn two_replicas_that_start_at_once_serve_one_certificate() {
    let bench = Bench::new();
    bench.sync();
    bench.run("10.0.0.5").await;
    bench.run("10.0.0.6").await;
    bench.runtime.sleep(Duration::from_secs(30)).await;
    assert_eq!(pem::certificates(bench.bundle().as_bytes()).unwrap().len(), 1);
    bench.connect("10.0.0.5", b"h2").await;
    bench.connect("10.0.0.6", b"h2").await;
    assert_eq!(bench.cluster.secret_of(SECRET).unwrap().version.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_by_one_replica_and_api_servers_never_meet_one_they_do_not_trust()
{
    let bench = Bench::new();
    bench.sync();
    let config = WebhookConfig {
        listen: "10.0.0.5:8443".parse().unwrap(),
        values: Some("values".into()),
        trust_roots: None,
        validates: true,
    };
    let names = config.names(&MeshConfig::default()).unwrap();
    let Runtime { crypto, entropy, clock, .. } = &bench.runtime;
    // A minute before two thirds of its life, with the hour that it is older than it was made.
    let life = LIFETIME + Duration::from_secs(3600);
    let made = clock.wall() + Duration::from_secs(60 + 3600) - life * 2 / 3;
    let old = certificate::make(&**crypto, &**entropy, &names, &[], None, made).unwrap();
    let old = Secret { version: Some("1".to_string()), ..old };
    bench.cluster.put_secret(SECRET, old);
    bench.run("10.0.0.5").await;
    bench.run("10.0.0.6").await;
    bench.runtime.sleep(Duration::from_secs(5)).await;
    for _ in 0..40 {
        bench.connect("10.0.0.5", b"h2").await;
        bench.connect("10.0.0.6", b"h2").await;
        bench.runtime.sleep(Duration::from_secs(3)).await;
    }
    let new = bench.cluster.secret_of(SECRET).unwrap();
    assert_eq!(new.version.as_deref(), Some("2"));
    assert_eq!(pem::certificates(bench.bundle().as_bytes()).unwrap().len(), 2);
    let leaf = pem::certificates(&new.data["tls.crt"]).unwrap().remove(0);
    let (_, until) = validity_of(&leaf).unwrap();
    assert!(until > clock.wall() + DAY * 360);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_spoilt_is_made_anew() {
    let (bench, _) = started().await;
    let mut secret = bench.cluster.secret_of(SECRET).unwrap();
    secret.data.insert("tls.key".to_string(), b"nonsense".to_vec());
    bench.cluster.put_secret(SECRET, secret);
    bench.runtime.sleep(Duration::from_secs(30)).await;
    assert_eq!(bench.cluster.secret_of(SECRET).unwrap().version.as_deref(), Some("2"));
    bench.connect("10.0.0.5", b"h2").await;
}
