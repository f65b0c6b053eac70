//! Taps of a mesh in memory, whose proxies say what a test lets them.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Mutex;

use serde_json::Value;

use super::*;
use crate::api::Message as _;
use crate::control::config::MeshConfig;
use crate::control::metrics::ControlMetrics;
use crate::control::testing;
use crate::model::labels::Labels;
use crate::model::protocol::HttpVersion;
use crate::model::tap::{
    Direction, Event as TapEvent, HttpMatch, Label, Match, Observe, StreamId, StringMatch, What,
};
use crate::resource::Kind;
use crate::runtime::BoxFuture;
use crate::runtime::cluster::WatchEvent;
use crate::runtime::net::ListenOptions;
use crate::runtime::testing::net::MemoryNet;
use crate::runtime::testing::runtime;
use crate::wire::drain::DrainWatch;
use crate::wire::grpc::{self, Messages};
use crate::wire::http::server::{ServerOptions, serve};
use crate::wire::http::{Body, Request};

const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: quiet, annotations: {viz.linkerd.io/disable-tap: "true"}}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-5d8f-x
  namespace: shop
  labels: {app: web, linkerd.io/proxy-deployment: web, linkerd.io/control-plane-ns: linkerd}
spec:
  serviceAccountName: web
  containers:
  - name: linkerd-proxy
    env:
    - {name: LINKERD2_PROXY_CONTROL_LISTEN_ADDR, value: "[::]:4290"}
    - {name: LINKERD2_PROXY_TAP_SVC_NAME, value: linkerd-viz}
status: {phase: Running, podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-5d8f-old
  namespace: shop
  labels: {app: web, linkerd.io/proxy-deployment: web, linkerd.io/control-plane-ns: linkerd}
spec: {containers: [{name: linkerd-proxy}]}
status: {phase: Running, podIP: 10.0.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: shop, labels: {app: bare}}
spec: {containers: []}
status: {phase: Running, podIP: 10.0.0.3}
---
apiVersion: v1
kind: Pod
metadata:
  name: still
  namespace: quiet
  labels: {linkerd.io/control-plane-ns: linkerd}
spec: {containers: []}
status: {phase: Running, podIP: 10.0.0.4}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: api-1, namespace: hosts}
spec: {addresses: [10.0.1.1], service: api, serviceAccount: api, proxy: {}}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: api-2, namespace: hosts}
spec: {addresses: [10.0.1.2], service: api, serviceAccount: api, proxy: {controlPort: 5190}}
"#;

fn publisher() -> Publisher {
    let metrics = Arc::new(ControlMetrics::default());
    let publisher = Publisher::new(MeshConfig::default(), 100, metrics);
    for kind in Kind::ALL {
        publisher.apply(*kind, WatchEvent::Init);
        for object in testing::objects(MANIFEST).into_iter().filter(|o| o.kind() == *kind) {
            publisher.apply(*kind, WatchEvent::InitApply(object));
        }
        publisher.apply(*kind, WatchEvent::InitDone);
    }
    publisher
}

fn question(query: &str) -> Result<TapQuestion, ApiError> {
    TapQuestion::read(&Query::of(&format!("/api/v1/tap?{query}").parse().unwrap()))
}

/// Who is asked, and who is not, or why nobody is.
fn found(query: &str) -> String {
    let question = match question(query) {
        Ok(question) => question,
        Err(error) => return error.to_string(),
    };
    match publisher().read(|view| targets::find(view, &question)) {
        Err(error) => error.to_string(),
        Ok(found) => {
            let targets = found.targets.iter().map(|target| {
                format!(
                    "{} at {} is {}",
                    target.name, target.proxy.at, target.proxy.server.identity
                )
            });
            let missing = found.missing.iter().map(|m| format!("{} no: {}", m.name, m.reason));
            targets.chain(missing).collect::<Vec<_>>().join("\n")
        }
    }
}

#[test]
fn a_resource_is_its_pods_and_those_that_cannot_be_tapped_say_why() {
    insta::assert_snapshot!(found("resource=deploy/web&namespace=shop"), @r"
    shop/web-5d8f-x at 10.0.0.1:4290 is web.shop.serviceaccount.identity.linkerd.cluster.local
    shop/web-5d8f-old no: its proxy has no LINKERD2_PROXY_TAP_SVC_NAME, so nobody may tap it; it was injected before there was a tap service, and has to be made anew
    ");
    assert_eq!(
        found("resource=svc/front&namespace=shop"),
        found("resource=deploy/web&namespace=shop")
    );
    insta::assert_snapshot!(found("resource=ns/shop"), @r"
    shop/web-5d8f-x at 10.0.0.1:4290 is web.shop.serviceaccount.identity.linkerd.cluster.local
    shop/bare no: it has no proxy of this mesh
    shop/web-5d8f-old no: its proxy has no LINKERD2_PROXY_TAP_SVC_NAME, so nobody may tap it; it was injected before there was a tap service, and has to be made anew
    ");
    insta::assert_snapshot!(found("resource=svc/api&namespace=hosts"), @r"
    hosts/api-1 at 10.0.1.1:4190 is api.hosts.serviceaccount.identity.linkerd.cluster.local
    hosts/api-2 at 10.0.1.2:5190 is api.hosts.serviceaccount.identity.linkerd.cluster.local
    ");
    assert_eq!(found("resource=deploy/api&namespace=hosts"), found("resource=ns/hosts"));
    insta::assert_snapshot!(found("resource=po/api-2&namespace=hosts"), @"hosts/api-2 at 10.0.1.2:5190 is api.hosts.serviceaccount.identity.linkerd.cluster.local");
}

#[test]
fn where_nobody_can_be_asked_it_is_said_why() {
    let all = [
        found("resource=deploy/web"),
        found("resource=deploy/wbe&namespace=shop"),
        found("resource=ns/quiet"),
        found("resource=po/bare&namespace=shop"),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    there is no running pod of deployment default/web; namespace default has no pods; give another with namespace=NAME
    there is no running pod of deployment shop/wbe; see what there is in namespace shop
    no pod of namespace quiet can be tapped; of 1 the first is quiet/still: viz.linkerd.io/disable-tap is true; see docs/tap.md
    no pod of pod shop/bare can be tapped; of 1 the first is shop/bare: it has no proxy of this mesh; see docs/tap.md
    ");
}

#[test]
fn a_question_that_makes_no_sense_is_told_what_to_write() {
    let all = [
        found(""),
        found("resource=deploymnt/web"),
        found("resource=au/web"),
        found("resource=all"),
        found("resource=deploy/web&max_rps=0"),
        found("resource=deploy/web&max_rps=many"),
        found("resource=deploy/web&method=G%20T"),
        found("resource=deploy/web&header=x-user"),
        found("resource=deploy/web&to=srv/api"),
        found("resource=deploy/web&to=deploy"),
        found("resource=deploy/web&pth=/"),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    no resource is given; give resource=deploy/web or resource=ns/shop
    there is no kind of resource "deploymnt"; did you mean deployment?
    what is called authority has no pods to tap; give a workload, a pod, a service or a namespace, such as resource=deploy/web
    all is many kinds; give one, such as deploy/web
    max_rps=0 cannot be taken; give requests in a second, such as max_rps=100
    max_rps="many" cannot be taken; give requests in a second, such as max_rps=100
    method="G T" cannot be taken; give a method, such as method=GET
    header="x-user" cannot be taken; give header=NAME=VALUE, or header=NAME=PREFIX*
    requests are not to a server; give a workload, a pod, a service or a namespace, such as to=deploy/web; for an authority, authority=NAME
    to=deployment names none; give to=deploy/NAME
    there is no "pth"; there are resource, namespace, selector, to, to_namespace, max_rps, scheme, method, authority, path, header, extract_headers, bodies
    "#);
}

#[test]
fn what_is_asked_of_a_proxy_is_linkerds_match() {
    let asked = question(
        "resource=deploy/web&namespace=shop&to=svc/api&method=POST&path=/v1&authority=a&scheme=http",
    );
    let observe = asked.unwrap().observe(7);
    let label = |key: &str, value: &str| {
        Match::DestinationLabel(Label { key: key.into(), value: value.into() })
    };
    let expected = [
        Match::Http(HttpMatch::Method(::http::Method::POST)),
        Match::Http(HttpMatch::Scheme(::http::uri::Scheme::HTTP)),
        Match::Http(HttpMatch::Authority(StringMatch::Exact("a".into()))),
        Match::Http(HttpMatch::Path(StringMatch::Prefix("/v1".into()))),
        label("service", "api"),
        label("namespace", "shop"),
    ];
    assert_eq!(observe.matches, Match::All(expected.into()));
    assert_eq!((observe.limit, observe.per_second), (7, 7));
    let everything = question("resource=deploy/web").unwrap().observe(1);
    assert_eq!(everything.matches, Match::All(Vec::new()));
}

#[test]
fn the_rate_is_divided_among_pods_and_is_never_none() {
    let question = question("resource=deploy/web&max_rps=10").unwrap();
    assert_eq!([1, 3, 100].map(|pods| question.per_pod(pods)), [10, 3, 1]);
}

/// A mesh whose proxies answer with these events.
struct Mesh {
    runtime: Runtime,
    net: MemoryNet,
    publisher: Publisher,
    asked: Arc<Mutex<Vec<(SocketAddr, String, Observe)>>>,
    kept: Vec<TaskGuard>,
}

impl Mesh {
    fn new() -> Self {
        let net = MemoryNet::default();
        net.connect_from([10, 9, 9, 9].into());
        let runtime = Runtime { net: Arc::new(net.clone()), ..runtime() };
        let (publisher, asked) = (publisher(), Arc::default());
        Self { runtime, net, publisher, asked, kept: Vec::new() }
    }

    /// A proxy that answers each question with what `answer` makes.
    async fn proxy(&mut self, at: &str, answer: impl Fn() -> Response + Send + Sync + 'static) {
        let at: SocketAddr = at.parse().unwrap();
        let listener = self.runtime.net.listen(at, ListenOptions::default()).await.unwrap();
        let (runtime, asked, answer) = (self.runtime.clone(), self.asked.clone(), Arc::new(answer));
        self.kept.push(self.runtime.spawn_guarded("proxy", async move {
            loop {
                let io = listener.accept().await.unwrap().io;
                let (of_task, asked, answer) = (runtime.clone(), asked.clone(), answer.clone());
                let service = move |request: Request| -> BoxFuture<'static, Response> {
                    let (asked, answer) = (asked.clone(), answer.clone());
                    Box::pin(async move {
                        let required = &request.headers()["l5d-require-id"];
                        let required = required.to_str().unwrap().to_string();
                        let body = request.into_body();
                        let message = Messages::new(body, 1 << 16).next().await.unwrap().unwrap();
                        let observe = Observe::from_bytes(&message).unwrap();
                        asked.lock().unwrap().push((at, required, observe));
                        answer()
                    })
                };
                runtime.spawn("proxy connection", async move {
                    let (options, never) = (ServerOptions::default(), DrainWatch::never());
                    let version = HttpVersion::Http2;
                    let service = Arc::new(service);
                    let _ = serve(&of_task, io, version, &options, service, never).await;
                });
            }
        }));
    }

    /// The first `count` events of a tap, as lines.
    async fn tap(&self, query: &str, count: usize) -> Vec<String> {
        let place = Taps::default().0.try_acquire_owned().unwrap();
        let dialer = Dialer::new(&self.runtime, None);
        let question = question(query).unwrap();
        let mut told =
            Box::pin(tap(&self.runtime, &self.publisher, &dialer, &question, place).unwrap());
        let mut lines = Vec::new();
        while lines.len() < count {
            let Some(event) = poll_fn(|cx| told.as_mut().poll_next(cx)).await else { break };
            lines.push(format!("{} {}", event.name.unwrap_or("-"), event.data));
        }
        lines
    }
}

fn tap_event(direction: Direction, stream: u64, lost: u64) -> TapEvent {
    TapEvent {
        source: Some("10.0.0.1:5000".parse().unwrap()),
        source_labels: [("tls", "true")].into_iter().collect(),
        destination: Some("10.0.1.1:80".parse().unwrap()),
        destination_labels: Labels::default(),
        route_labels: Labels::default(),
        direction,
        what: Some(What::RequestInit {
            id: StreamId { base: 77, stream },
            method: ::http::Method::GET,
            scheme: None,
            authority: "api".into(),
            path: "/".into(),
            headers: Vec::new(),
        }),
        lost,
    }
}

fn answer(events: &[TapEvent]) -> Response {
    let frames: Vec<u8> = events.iter().flat_map(|e| grpc::frame(&e.to_bytes())).collect();
    let body = Body::empty().after(Ok(http_body::Frame::trailers(grpc::trailers_ok())));
    let mut response = Response::new(body.after(Ok(http_body::Frame::data(frames.into()))));
    response.headers_mut().insert("weft-tap", ::http::HeaderValue::from_static("1"));
    response
}

#[tokio::test(start_paused = true)]
async fn what_proxies_tell_is_one_stream_that_says_what_is_missing() {
    let mut mesh = Mesh::new();
    mesh.proxy("10.0.1.1:4190", || answer(&[tap_event(Direction::Inbound, 5, 0)])).await;
    mesh.proxy("10.0.1.2:5190", || answer(&[tap_event(Direction::Outbound, 6, 3)])).await;
    let mut lines = mesh.tap("resource=svc/api&namespace=hosts", 4).await;
    lines[1..].sort();
    assert!(lines[0].starts_with("start "), "{}", lines[0]);
    let start: Value = serde_json::from_str(&lines[0]["start ".len()..]).unwrap();
    assert_eq!(start["pods"], serde_json::json!(["hosts/api-1", "hosts/api-2"]));
    assert_eq!((&start["max_rps_per_pod"], &start["is_partial"]), (&50.into(), &false.into()));
    let event =
        |line: &str| -> Value { serde_json::from_str(line.strip_prefix("- ").unwrap()).unwrap() };
    let (one, other) = (event(&lines[1]), event(&lines[2]));
    let (inbound, outbound) = match one["proxyDirection"].as_str() {
        Some("INBOUND") => (one, other),
        _ => (other, one),
    };
    // What the index knows is added, and requests are numbered by proxy.
    assert_eq!(inbound["requestInitEvent"]["id"], serde_json::json!({"base": 1, "stream": 5}));
    assert_eq!(inbound["source"]["metadata"]["pod"], "web-5d8f-x");
    assert_eq!(inbound["source"]["metadata"]["deployment"], "web");
    assert_eq!(inbound["source"]["metadata"]["tls"], "true");
    assert_eq!(inbound["destination"]["metadata"]["pod"], "api-1");
    assert_eq!(outbound["requestInitEvent"]["id"], serde_json::json!({"base": 2, "stream": 6}));
    assert_eq!(outbound["source"]["metadata"]["pod"], "api-2");
    assert_eq!(lines[3], r#"lost {"lost":3,"pod":"hosts/api-2"}"#);

    let asked = mesh.asked.lock().unwrap();
    let identity = "api.hosts.serviceaccount.identity.linkerd.cluster.local";
    assert!(asked.iter().all(|(_, required, observe)| {
        required == identity && observe.limit == 50 && observe.per_second == 50
    }));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_ends_its_answer_is_asked_again_a_second_later() {
    let mut mesh = Mesh::new();
    mesh.proxy("10.0.1.1:4190", || answer(&[tap_event(Direction::Inbound, 5, 0)])).await;
    let began = mesh.runtime.now();
    let lines = mesh.tap("resource=po/api-1&namespace=hosts", 4).await;
    assert_eq!(lines.len(), 4);
    assert_eq!(mesh.asked.lock().unwrap().len(), 3);
    assert_eq!(mesh.runtime.now().since(began).as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn pods_that_do_not_answer_are_told_and_the_tap_ends_with_the_last() {
    let mut mesh = Mesh::new();
    mesh.proxy("10.0.1.2:5190", || grpc::refuse(grpc::PERMISSION_DENIED, "only x may")).await;
    let mut lines = mesh.tap("resource=svc/api&namespace=hosts", 9).await;
    let end = lines.pop().unwrap();
    assert_eq!(end, r#"end {"reason":"no pod is left that could be tapped"}"#);
    lines[1..].sort();
    insta::assert_snapshot!(lines[1..].join("\n"), @r#"
    missing {"is_final":false,"pod":"hosts/api-1","reason":"cannot connect to 10.0.1.1:4190: connection refused"}
    missing {"is_final":true,"pod":"hosts/api-1","reason":"cannot connect to 10.0.1.1:4190: connection refused"}
    missing {"is_final":true,"pod":"hosts/api-2","reason":"it does not let the control plane tap: only x may"}
    "#);
    // It was tried some times before.
    let tried = mesh.net.dialed().iter().filter(|at| at.port() == 4190).count();
    assert_eq!(tried, 5);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_of_linkerds_is_not_asked_for_what_it_does_not_know() {
    let mut mesh = Mesh::new();
    let theirs = || {
        let mut response = answer(&[tap_event(Direction::Inbound, 5, 0)]);
        response.headers_mut().remove("weft-tap");
        response
    };
    mesh.proxy("10.0.1.1:4190", theirs).await;
    let lines = mesh.tap("resource=po/api-1&namespace=hosts", 2).await;
    assert!(lines[1].starts_with("- "), "{}", lines[1]);
    let lines = mesh.tap("resource=po/api-1&namespace=hosts&header=x-user=7", 9).await;
    assert!(lines[1].contains("its proxy cannot match headers"), "{}", lines[1]);
    assert!(lines[2].starts_with("end "), "{}", lines[2]);
}

#[tokio::test(start_paused = true)]
async fn garbage_costs_its_proxy_alone() {
    let mut mesh = Mesh::new();
    mesh.proxy("10.0.1.1:4190", || Response::new(Body::full("this is no message of gRPC"))).await;
    mesh.proxy("10.0.1.2:5190", || answer(&[tap_event(Direction::Outbound, 6, 0)])).await;
    let lines = mesh.tap("resource=svc/api&namespace=hosts", 5).await;
    assert!(lines.iter().any(|line| line.starts_with("missing ") && line.contains("api-1")));
    assert!(lines.iter().filter(|line| line.starts_with("- ")).count() >= 1);
}
