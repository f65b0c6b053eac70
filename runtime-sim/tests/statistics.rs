//! What the public API says of simulated traffic is what the workloads sent.

use mesh_core::control::public_api::edges::EdgeRow;
use mesh_core::control::public_api::history::HistoryRow;
use mesh_core::control::public_api::routes::{InboundRow, OutboundRow};
use mesh_core::control::public_api::stat::StatRow;
use mesh_core::control::public_api::statistics::Answer;
use runtime_sim::world::parse;
use runtime_sim::world::run::{EngineKind, Keep, Run, observe};
use serde::de::DeserializeOwned;

/// Requests of this test's workload for each second; one of five fails.
const RATE: f64 = 20.0;

const SCENARIO: &str = "\
apiVersion: scenario.weft.sh/v1alpha1
kind: Scenario
metadata:
  name: statistics
spec:
  about: A test.
  duration: 90s
  workloads:
    - name: load
      from: client
      to: web.shop.svc.cluster.local:80
      protocol: http1
      arrivals: {constant: {rate: 20}}
  expect:
    - requests: {workload: load, at_least: 1}
---
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  annotations: {linkerd.io/inject: enabled}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: client, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: app, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      serviceAccountName: client
      containers: [{name: app, image: simulated/client}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers:
        - name: app
          image: simulated/http
          ports: [{containerPort: 8080}]
          env: [{name: LATENCY, value: 15ms}, {name: ERRORS, value: '503:0.2'}]
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: idle-5d8f
  namespace: shop
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: idle, uid: idle, controller: true}]
";

const QUESTIONS: [&str; 7] = [
    "/api/v1/stat?resource=deploy&resource=svc&resource=pod&resource=ns&all_namespaces",
    "/api/v1/stat?resource=deploy/client&namespace=shop&to=svc/web",
    "/api/v1/edges?resource=deploy&namespace=shop",
    "/api/v1/stat-inbound?resource=deploy&namespace=shop",
    "/api/v1/stat-outbound?resource=deploy&namespace=shop",
    "/api/v1/history?resource=deploy&namespace=shop",
    "/api/v1/pods?namespace=shop",
];

fn play(engine: EngineKind) -> Run {
    let scenario = parse::read("statistics.yaml", SCENARIO).expect("a scenario");
    let questions = QUESTIONS.map(str::to_owned).to_vec();
    let keep = Keep { questions, ..Keep::default() };
    observe(&scenario, 7, engine, &keep).expect("a run")
}

fn rows<R: DeserializeOwned>(run: &Run, index: usize) -> Vec<R> {
    let answer: Answer<R> = serde_json::from_value(run.answers[index].clone()).expect("rows");
    assert!(!answer.partial, "{}: {:?}", QUESTIONS[index], answer.reasons);
    answer.rows
}

/// Between two scrapes what is counted is estimated: 5 %.
fn about(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 0.05 * expected
}

#[test]
fn figures_are_what_the_workload_sent() {
    let run = play(EngineKind::Des);
    let sent = &run.report.workloads["load"];
    // It begins once its pods are ready.
    assert!(about(sent.requests as f64, RATE * 90.0), "{sent:?}");
    let success = sent.succeeded as f64 / sent.requests as f64;
    let rows: Vec<StatRow> = rows(&run, 0);
    let of = |kind: &str, name: &str| {
        let found =
            rows.iter().find(|row| row.resource.kind.name() == kind && row.resource.name == name);
        found.unwrap_or_else(|| panic!("{kind}/{name} in {rows:?}"))
    };
    for (kind, name) in [("deployment", "web"), ("service", "web"), ("namespace", "shop")] {
        let http = of(kind, name).http.expect("it has traffic");
        assert!(about(http.rps, RATE), "{kind}: {http:?}");
        assert!(about(http.success_rate.unwrap(), success), "{kind}: {http:?}, {success}");
        assert_eq!(http.secured, Some(1.0), "{kind}");
        // Served in 15 ms: in the bucket from 10 to 20.
        assert!((10.0..=20.0).contains(&http.latency_ms.p50.unwrap()), "{kind}: {http:?}");
    }
    let (web, client) = (of("deployment", "web"), of("deployment", "client"));
    assert_eq!(web.meshed.map(|count| (count.meshed, count.running)), Some((2, 2)));
    let idle = of("deployment", "idle");
    assert_eq!(idle.meshed.map(|count| (count.meshed, count.running)), Some((0, 0)));
    assert!(idle.http.is_none() && idle.tcp.is_none(), "it is scaled to zero: {idle:?}");
    assert!(client.http.is_none(), "nobody calls it: {client:?}");
    assert!(web.tcp.is_some_and(|tcp| tcp.connections >= 1.0), "{web:?}");
    let pods = rows.iter().filter(|row| row.resource.kind.name() == "pod");
    let of_pods: f64 = pods.filter_map(|row| Some(row.http?.rps)).sum();
    assert!(about(of_pods, RATE), "{of_pods}");
}

#[test]
fn both_ends_tell_the_same() {
    let run = play(EngineKind::Des);
    let [to]: [StatRow; 1] = rows(&run, 1).try_into().expect("one client");
    assert!(about(to.http.expect("it has traffic").rps, RATE), "{to:?}");
    let edges: Vec<EdgeRow> = rows(&run, 2);
    let [edge] = edges.as_slice() else { panic!("{edges:?}") };
    assert_eq!((&*edge.src.name, &*edge.dst.name, edge.secured), ("client", "web", true));
    assert!(edge.client_id.starts_with("client.shop."), "{edge:?}");
    assert!(edge.server_id.starts_with("web.shop."), "{edge:?}");
    let inbound: Vec<InboundRow> = rows(&run, 3);
    let on_app = inbound.iter().find(|row| row.server.port == Some(8080));
    assert!(about(on_app.expect("the application's port").http.rps, RATE), "{inbound:?}");
    let outbound: Vec<OutboundRow> = rows(&run, 4);
    let [route] = outbound.as_slice() else { panic!("{outbound:?}") };
    assert_eq!((&*route.service.name, route.service.port), ("web", Some(80)));
    assert!(about(route.figures.rps, RATE), "{route:?}");
    let [backend] = route.backends.as_slice() else { panic!("{route:?}") };
    assert!(about(backend.figures.rps, RATE), "{route:?}");
    let history: Vec<HistoryRow> = rows(&run, 5);
    let web = history.iter().find(|row| row.resource.name == "web").expect("its history");
    let last = web.points.last().expect("a point");
    assert!(web.points.len() >= 5 && about(last.rps, RATE), "{web:?}");
}

#[test]
fn answers_are_the_same_in_every_run() {
    let (first, second) = (play(EngineKind::Des), play(EngineKind::Des));
    assert_eq!(first.answers, second.answers);
    assert_eq!(first.report.trace_hash, second.report.trace_hash);
}
