//! Questions to a controller that has scraped a mesh of two workloads.

use std::sync::Arc;

use super::edges::EdgesQuestion;
use super::history::HistoryQuestion;
use super::resource::ResourceKind;
use super::stat::{StatQuestion, read_selector};
use super::statistics::{Source, Statistics};
use super::*;
use crate::control::config::MeshConfig;
use crate::control::metrics::ControlMetrics;
use crate::control::publish::Publisher;
use crate::control::scrape::{ScrapeConfig, Scrapes};
use crate::control::{testing, workload};
use crate::resource::Kind;
use crate::runtime::cluster::WatchEvent;
use crate::runtime::testing::runtime;

const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {ports: [{name: app, port: 80}]}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {addresses: [10.0.0.1], serviceAccount: web, proxy: {}}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: api-1, namespace: shop, labels: {app: api}}
spec: {addresses: [10.0.0.2], serviceAccount: api, service: api, proxy: {}}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: bare-1, namespace: shop}
spec: {addresses: [10.0.0.3], serviceAccount: bare}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: idle-5d8f
  namespace: rest
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: idle, uid: a, controller: true}]
---
apiVersion: v1
kind: Pod
metadata:
  name: late-1
  namespace: rest
  labels: {linkerd.io/control-plane-ns: linkerd}
  ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: late, uid: b, controller: true}]
spec: {containers: [{name: linkerd-proxy}]}
status: {phase: Pending}
---
apiVersion: v1
kind: Pod
metadata:
  name: ended-1
  namespace: rest
  ownerReferences: [{apiVersion: batch/v1, kind: Job, name: ended, uid: c, controller: true}]
spec: {containers: [{name: app}]}
status: {phase: Succeeded}
"#;

/// What the client's proxy says after so many requests.
fn client(requests: u32) -> String {
    let labels = "direction=\"outbound\",authority=\"api.shop.svc.cluster.local:80\",tls=\"true\",\
                  server_id=\"api.shop.serviceaccount.identity.linkerd.cluster.local\",\
                  dst_namespace=\"shop\",dst_deployment=\"api\",dst_service=\"api\",dst_pod=\"api-1\"";
    format!(
        "response_total{{{labels},classification=\"success\"}} {requests}\n\
         response_latency_ms_bucket{{{labels},le=\"10\"}} {requests}\n\
         response_latency_ms_bucket{{{labels},le=\"+Inf\"}} {requests}\n\
         tcp_open_total{{{labels},peer=\"dst\"}} 1\n\
         tcp_open_connections{{{labels},peer=\"dst\"}} 1\n"
    )
}

/// What the server's proxy says: one request of ten fails.
fn server(requests: u32) -> String {
    let labels = "direction=\"inbound\",tls=\"true\",\
                  client_id=\"web.shop.serviceaccount.identity.linkerd.cluster.local\",\
                  srv_kind=\"server\",srv_name=\"api-http\"";
    let (good, bad) = (requests / 10 * 9, requests / 10);
    format!(
        "response_total{{{labels},classification=\"success\"}} {good}\n\
         response_total{{{labels},classification=\"failure\"}} {bad}\n\
         response_latency_ms_bucket{{{labels},le=\"10\"}} {good}\n\
         response_latency_ms_bucket{{{labels},le=\"20\"}} {requests}\n\
         response_latency_ms_bucket{{{labels},le=\"+Inf\"}} {requests}\n\
         tcp_open_connections{{{labels},peer=\"src\"}} 1\n\
         tcp_read_bytes_total{{{labels},peer=\"src\"}} {requests}00\n\
         inbound_http_authz_deny_total{{srv_kind=\"server\",srv_name=\"api-http\"}} {bad}\n"
    )
}

/// Statistics of a mesh in which web asked api ten times a second for a minute.
fn statistics() -> Statistics {
    let runtime = runtime();
    let metrics = Arc::new(ControlMetrics::default());
    let publisher = Publisher::new(MeshConfig::default(), 100, metrics);
    for kind in Kind::ALL {
        publisher.apply(*kind, WatchEvent::Init);
        for object in testing::objects(MANIFEST).into_iter().filter(|o| o.kind() == *kind) {
            publisher.apply(*kind, WatchEvent::InitApply(object));
        }
        publisher.apply(*kind, WatchEvent::InitDone);
    }
    let scrapes = Scrapes::new(ScrapeConfig::default());
    let now_ms = crate::control::scrape::wall_ms(&runtime);
    for nth in 0..=6_u32 {
        let at_ms = now_ms - 60_000 + i64::from(nth) * 10_000;
        for (name, text) in [("web-1", client(nth * 100)), ("api-1", server(nth * 100))] {
            let labels = publisher
                .read(|view| workload::target_labels(view, view.instance("shop", name).unwrap()));
            scrapes.put(("shop", name), &labels, at_ms, Ok(text));
        }
    }
    Statistics::new(&runtime, publisher, Source::Embedded(scrapes))
}

fn question(query: &str) -> Result<StatQuestion, ApiError> {
    StatQuestion::read(&Query::of(&format!("/api/v1/stat?{query}").parse().unwrap()))
}

async fn rows(query: &str) -> Vec<String> {
    let answer = statistics().stat(&question(query).unwrap()).await.unwrap();
    let rows = answer.rows.iter().map(|row| {
        let http = row.http.map(|http| {
            let share =
                |share: Option<f64>| share.map_or(-1.0, |share| (share * 1e3).round() / 1e3);
            let p95 = http.latency_ms.p95.unwrap_or(-1.0);
            format!(
                "{:.1}rps {} {} p95={p95:.1}",
                http.rps,
                share(http.success_rate),
                share(http.secured)
            )
        });
        let tcp =
            row.tcp.map(|tcp| format!("{} {:.0}B/s", tcp.connections, tcp.read_bytes_per_second));
        let meshed = row.meshed.map(|meshed| format!("{}/{}", meshed.meshed, meshed.running));
        let denied = row.unauthorized_rps.map(|rps| format!(" denied={rps:.1}"));
        let or_none = |text: Option<String>| text.unwrap_or("-".to_string());
        format!(
            "{}/{} {} {} {}{}",
            row.resource.kind,
            row.resource.name,
            or_none(meshed),
            or_none(http),
            or_none(tcp),
            denied.unwrap_or_default()
        )
    });
    rows.collect()
}

#[tokio::test]
async fn a_workloads_figures_are_of_what_it_takes_in() {
    insta::assert_snapshot!(rows("resource=deploy&namespace=shop").await.join("\n"), @r#"
    deployment/api 1/1 10.0rps 0.9 1 p95=15.0 1 1000B/s denied=1.0
    deployment/web 1/1 - -
    "#);
}

#[tokio::test]
async fn what_has_no_pods_is_listed_without_figures_and_what_waits_is_counted() {
    let all = "resource=deploy/idle&resource=sts&resource=job&namespace=rest";
    insta::assert_snapshot!(rows(all).await.join("\n"), @r#"
    deployment/idle 0/0 - -
    statefulset/late 1/1 - -
    "#);
    insta::assert_snapshot!(rows("resource=job&namespace=rest&unmeshed").await.join("\n"), @"job/ended 0/0 - -");
    assert_eq!(rows("resource=deploy/idle&namespace=rest&selector=app").await, [""; 0]);
    assert_eq!(rows("resource=deploy/idle&namespace=other").await, [""; 0]);
}

#[tokio::test]
async fn what_has_no_proxy_is_shown_to_who_asks() {
    insta::assert_snapshot!(rows("resource=pod&namespace=shop&unmeshed").await.join("\n"), @r#"
    pod/api-1 1/1 10.0rps 0.9 1 p95=15.0 1 1000B/s denied=1.0
    pod/bare-1 0/1 - -
    pod/web-1 1/1 - -
    "#);
}

#[tokio::test]
async fn services_and_authorities_are_as_their_clients_see_them() {
    let rows =
        rows("resource=svc&resource=authority&resource=server&resource=ns&all_namespaces").await;
    insta::assert_snapshot!(rows.join("\n"), @r#"
    namespace/rest 1/1 - -
    namespace/shop 2/3 10.0rps 0.9 1 p95=15.0 1 1000B/s denied=1.0
    service/api - 10.0rps 1 1 p95=9.5 1 0B/s
    authority/api.shop.svc.cluster.local:80 - 10.0rps 1 1 p95=9.5 1 0B/s
    server/api-http - 10.0rps 0.9 1 p95=15.0 1 1000B/s denied=1.0
    "#);
}

#[tokio::test]
async fn traffic_is_between_two_ends() {
    insta::assert_snapshot!(rows("resource=deploy/web&namespace=shop&to=svc/api").await.join("\n"), @r#"deployment/web 1/1 10.0rps 1 1 p95=9.5 1 0B/s"#);
    insta::assert_snapshot!(rows("resource=deploy&namespace=shop&from=deploy/web").await.join("\n"), @"deployment/api 1/1 10.0rps 1 1 p95=9.5 1 0B/s");
    insta::assert_snapshot!(rows("resource=deploy&namespace=shop&from=deploy/other").await.join("\n"), @"");
}

#[tokio::test]
async fn a_selector_selects_by_labels_of_pods() {
    insta::assert_snapshot!(rows("resource=deploy&namespace=shop&selector=app%3Dapi").await.join("\n"), @r#"deployment/api 1/1 10.0rps 0.9 1 p95=15.0 1 1000B/s denied=1.0"#);
    assert!(read_selector("app=web, tier!=db,canary,!old").is_ok());
    for wrong in ["", "=a", "a in (b)", "a=b,,"] {
        assert!(read_selector(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn names_that_clients_ask_for_are_of_one_end() {
    let api = "authority/api.shop.svc.cluster.local:80 - 10.0rps 1 1 p95=9.5 1 0B/s";
    for (asked, expected) in [
        ("from=deploy/web&from_namespace=shop", vec![api]),
        ("from=deploy/api&from_namespace=shop", vec![]),
        ("to=deploy/api&to_namespace=shop", vec![api]),
        ("to=svc/api&to_namespace=shop", vec![api]),
        ("to=deploy/web&to_namespace=shop", vec![]),
    ] {
        let rows = rows(&format!("resource=au&all_namespaces&{asked}")).await;
        assert_eq!(rows, expected, "{asked}");
    }
}

#[tokio::test]
async fn inbound_routes_say_who_was_refused() {
    let question = RoutesQuestion::all(ResourceKind::Deployment);
    let answer = statistics().stat_inbound(&question).await.unwrap();
    let [row] = answer.rows.as_slice() else { panic!("{answer:?}") };
    assert_eq!((&*row.resource.name, row.server.of_port().as_str()), ("api", "api-http"));
    assert!((row.http.rps - 10.0).abs() < 0.01, "{row:?}");
    assert!((row.unauthorized_rps - 1.0).abs() < 0.01, "{row:?}");
}

#[tokio::test]
async fn questions_that_cannot_be_are_told_what_can() {
    let fault = |query: &str| question(query).unwrap_err().to_string();
    insta::assert_snapshot!(
        ["", "resource=depl", "resource=deploy&nonsense=1", "resource=deploy&window=5",
         "resource=svc&to=deploy/web", "resource=deploy&to=svc/a&from=deploy/b",
         "resource=deploy&from=svc/a", "resource=server&from=deploy/a", "resource=deploy&selector=a+in+b",
        ].map(fault).join("\n"),
        @r#"
        no resource is given; give resource=deploy, resource=deploy/web or resource=all
        there is no kind of resource "depl"; did you mean deploy?
        there is no "nonsense"; there are resource, namespace, all_namespaces, window, to, to_namespace, from, from_namespace, selector, unmeshed
        "5" is no length of time that can be looked at; give one from 1s to 24h, such as 30s, 1m or 10m
        there is no traffic from a service alone; ask about its pods' workload, such as deploy
        to and from cannot both be given; give one of them
        from cannot be a service; give a workload, a pod, a namespace, or after to a service
        there is no traffic to a server alone; ask about a service or a workload
        "a in b" selects nothing; write app=web, app!=web, app or !app, with commas between them
        "#
    );
}

#[tokio::test]
async fn edges_have_both_ends_and_their_identities() {
    let answer = statistics().edges(&EdgesQuestion::all(ResourceKind::Deployment)).await.unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&answer.rows).unwrap(), @r#"
    [
      {
        "src": {
          "kind": "deployment",
          "namespace": "shop",
          "name": "web"
        },
        "dst": {
          "kind": "deployment",
          "namespace": "shop",
          "name": "api"
        },
        "client_id": "web.shop.serviceaccount.identity.linkerd.cluster.local",
        "server_id": "api.shop.serviceaccount.identity.linkerd.cluster.local",
        "secured": true,
        "no_tls_reason": "",
        "connections": 1.0,
        "http": {
          "requests": 600.0,
          "rps": 10.0,
          "success_rate": 1.0,
          "secured": 1.0,
          "latency_ms": {
            "p50": 5.0,
            "p95": 9.5,
            "p99": 9.9
          }
        }
      }
    ]
    "#);
}

#[tokio::test]
async fn history_has_a_point_for_each_moment() {
    let question = HistoryQuestion::all(ResourceKind::Deployment);
    let answer = statistics().history(&question).await.unwrap();
    let [row] = answer.rows.as_slice() else { panic!("{answer:?}") };
    assert_eq!(row.resource.name, "api");
    let last = row.points.last().unwrap();
    assert!((last.rps - 10.0).abs() < 0.01, "{last:?}");
    assert!((last.success_rate.unwrap() - 0.9).abs() < 0.001, "{last:?}");
    assert!(row.points.len() >= 5, "{}", row.points.len());
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let statistics = statistics();
    let Source::Embedded(scrapes) = statistics.source() else { panic!("it is embedded") };
    let answer = statistics.stat(&StatQuestion::all(ResourceKind::Deployment)).await.unwrap();
    assert!(!answer.partial, "{:?}", answer.reasons);
    let labels = crate::model::labels::Labels::default();
    scrapes.put(("shop", "api-1"), &labels, 0, Err("no whole answer within 5s".into()));
    let answer = statistics.stat(&StatQuestion::all(ResourceKind::Deployment)).await.unwrap();
    assert_eq!(answer.reasons, ["shop/api-1: no whole answer within 5s"]);
}
