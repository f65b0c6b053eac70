//! What statuses say, and how they are written by control planes that come and go.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::*;
use crate::control::config::{LeaseConfig, MeshConfig};
use crate::control::index::Index;
use crate::control::lease::lead;
use crate::control::metrics::ControlMetrics;
use crate::control::publish::Publisher;
use crate::control::testing::{self, MemoryCluster};
use crate::control::{follow, status};
use crate::resource::Object;
use crate::runtime::Runtime;
use crate::runtime::cluster::{ClusterError, Lease};
use crate::runtime::tasks::TaskGuard;
use crate::wire::drain::{self, DrainSignal};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: hidden, namespace: shop}
spec: {clusterIP: None, ports: [{port: 80}]}
---
";

fn route(parents: &str, backend: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
spec: {{parentRefs: [{parents}], rules: [{{backendRefs: [{backend}]}}]}}
---
"
    )
}

const WEB: &str = "{group: core, kind: Service, name: web, port: 80}";
const BACKEND: &str = "{name: web, port: 80}";

fn name() -> ObjectRef {
    ObjectRef { kind: Kind::HTTPRoute, namespace: "shop".to_string(), name: "web".to_string() }
}

fn compiled(index: &Index, secs: u64) -> Object {
    let mesh = MeshConfig::default();
    let view = View::new(index, &mesh);
    compile(&view, &name(), WallTime::from_unix_secs(secs)).expect("a route has a status")
}

/// `parent: type=status reason message`, of each condition.
fn said(manifest: &str) -> Vec<String> {
    let status = compiled(&testing::index(manifest), 0);
    let parents = &status.route_status().expect("a status").parents;
    let of = |parent: &RouteParentStatus| {
        let of_parent = parent.conditions.iter().map(|condition| {
            let RouteCondition { type_, status, reason, message, .. } = condition;
            format!("{}: {type_}={status} {reason} {message}", parent.parent_ref.name)
        });
        of_parent.collect::<Vec<_>>()
    };
    parents.iter().flat_map(of).collect()
}

#[test]
fn a_route_that_is_in_force_is_accepted_and_resolved() {
    assert_eq!(
        said(&format!("{SERVICES}{}", route(WEB, BACKEND))),
        ["web: Accepted=True Accepted ", "web: ResolvedRefs=True ResolvedRefs "]
    );
}

#[test]
fn what_keeps_a_route_from_being_in_force_is_said_of_each_parent() {
    let gone = "{group: core, kind: Service, name: gone}";
    let hidden = "{group: core, kind: Service, name: hidden}";
    let parents = format!("{WEB}, {gone}, {hidden}, {{name: some-gateway}}");
    let all = said(&format!("{SERVICES}{}", route(&parents, "{name: lost, port: 80}")));
    insta::assert_snapshot!(all.join("\n"), @r#"
    web: Accepted=True Accepted 
    web: ResolvedRefs=False BackendNotFound spec.rules[0].backendRefs[0].name: there is no Service/shop/lost; requests that would go there are answered with 500
    gone: Accepted=False NoMatchingParent spec.parentRefs[1].name: there is no Service/shop/gone; nothing follows this route there until it exists
    gone: ResolvedRefs=False BackendNotFound spec.rules[0].backendRefs[0].name: there is no Service/shop/lost; requests that would go there are answered with 500
    hidden: Accepted=False NoMatchingParent parent service must have a ClusterIP
    hidden: ResolvedRefs=False BackendNotFound spec.rules[0].backendRefs[0].name: there is no Service/shop/lost; requests that would go there are answered with 500
    "#);
}

#[test]
fn an_http_route_beside_a_grpc_route_is_conflicted() {
    let grpc = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: calls, namespace: shop}}
spec: {{parentRefs: [{WEB}], rules: []}}
---
"
    );
    let all = said(&format!("{SERVICES}{grpc}{}", route(WEB, BACKEND)));
    assert!(all[0].starts_with("web: Accepted=False RouteReasonConflicted"), "{all:?}");
}

#[test]
fn what_another_controller_says_stays_and_times_change_with_what_they_are_of() {
    let manifest = format!("{SERVICES}{}", route(WEB, BACKEND));
    let mut index = testing::index(&manifest);
    let mut first = compiled(&index, 100);
    let mut status = first.route_status().cloned().expect("a status");
    let other = RouteParentStatus { controller_name: "other".to_string(), ..Default::default() };
    status.parents.push(other.clone());
    first.set_route_status(status);
    testing::put(&mut index, first.clone());
    let again = compiled(&index, 200);
    assert!(says_the_same(&again, &compiled(&index, 300)));
    let parents = &again.route_status().expect("a status").parents;
    assert!(parents.contains(&other));
    let times = |object: &Object| -> Vec<String> {
        conditions(object).map(|condition| condition.last_transition_time.clone()).collect()
    };
    assert_eq!(times(&again), ["1970-01-01T00:01:40Z"; 2]);
    let name = ObjectRef { kind: Kind::Service, ..name() };
    let mut changed = Default::default();
    let gone = crate::runtime::cluster::WatchEvent::Delete(name);
    index.apply(Kind::Service, gone, &mut changed);
    let lost = compiled(&index, 300);
    assert!(!says_the_same(&again, &lost));
    assert_eq!(times(&lost), ["1970-01-01T00:05:00Z"; 2]);
}

/// A control plane that only follows the cluster and writes.
struct Writing {
    _tasks: Vec<TaskGuard>,
    stop: DrainSignal,
    metrics: Arc<ControlMetrics>,
}

fn start(runtime: &Runtime, holder: &str) -> Writing {
    let metrics = Arc::new(ControlMetrics::default());
    let publisher = Publisher::new(MeshConfig::default(), 10, metrics.clone());
    let (changed, refreshed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut tasks = Vec::new();
    for kind in Kind::ALL {
        let following = follow::follow_kind(
            runtime.clone(),
            *kind,
            publisher.clone(),
            changed.clone(),
            metrics.clone(),
        );
        tasks.push(runtime.spawn_guarded("follow", following));
    }
    let publishing = follow::publish_changes(
        runtime.clone(),
        publisher.clone(),
        changed,
        refreshed.clone(),
        Duration::from_millis(10),
        metrics.clone(),
    );
    tasks.push(runtime.spawn_guarded("publish", publishing));
    let (told, leadership) = watch::channel(None);
    let (stop, stopping) = drain::channel();
    let config = LeaseConfig { holder: holder.to_string(), ..LeaseConfig::default() };
    let standing = lead::stand(runtime.clone(), config, told, metrics.clone(), stopping);
    tasks.push(runtime.spawn_guarded("stand", standing));
    let writing = status::write::write_statuses(
        runtime.clone(),
        publisher,
        leadership,
        refreshed,
        metrics.clone(),
    );
    tasks.push(runtime.spawn_guarded("write", writing));
    Writing { _tasks: tasks, stop, metrics }
}

fn accepted_now(cluster: &MemoryCluster) -> Option<String> {
    let object = cluster.find(&name())?;
    let accepted = object.conditions().find(|condition| condition.type_ == "Accepted");
    accepted.map(|condition| condition.status.clone())
}

#[tokio::test(start_paused = true)]
async fn the_holder_alone_writes_once_and_again_when_something_changes() {
    let (runtime, _, cluster, _) = testing::runtime();
    cluster.apply(&format!("{SERVICES}{}", route(WEB, BACKEND)));
    let one = start(&runtime, "one");
    runtime.sleep(Duration::from_secs(1)).await;
    let two = start(&runtime, "two");
    runtime.sleep(Duration::from_secs(60)).await;
    assert_eq!(accepted_now(&cluster).as_deref(), Some("True"));
    assert_eq!(cluster.writes(), 1);
    assert!(one.metrics.is_leader() && !two.metrics.is_leader());
    cluster.delete(Kind::Service, "shop", "web");
    runtime.sleep(Duration::from_secs(1)).await;
    assert_eq!(accepted_now(&cluster).as_deref(), Some("False"));
    assert_eq!((cluster.writes(), two.metrics.statuses.dequeued.value()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_goes_over_when_its_holder_is_gone_and_at_once_when_it_leaves() {
    let (runtime, _, cluster, _) = testing::runtime();
    let lease = LeaseConfig::default().name;
    let one = start(&runtime, "one");
    runtime.sleep(Duration::from_secs(1)).await;
    let two = start(&runtime, "two");
    runtime.sleep(Duration::from_secs(1)).await;
    drop(one);
    runtime.sleep(Duration::from_secs(25)).await;
    assert_eq!(cluster.holder(&lease).as_deref(), Some("one"));
    cluster.apply(&format!("{SERVICES}{}", route(WEB, BACKEND)));
    runtime.sleep(Duration::from_secs(20)).await;
    assert_eq!(cluster.holder(&lease).as_deref(), Some("two"));
    assert_eq!(accepted_now(&cluster).as_deref(), Some("True"), "it came while nobody wrote");
    let three = start(&runtime, "three");
    runtime.sleep(Duration::from_secs(1)).await;
    two.stop.start();
    runtime.sleep(Duration::from_secs(6)).await;
    assert_eq!(cluster.holder(&lease).as_deref(), Some("three"));
    assert!(three.metrics.is_leader() && !two.metrics.is_leader());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_meets_conflicts_is_tried_again() {
    let (runtime, _, cluster, _) = testing::runtime();
    cluster.refuse_writes((0..5).map(|_| ClusterError::Conflict("route".to_string())));
    cluster.refuse_writes([ClusterError::Unavailable("away".to_string())]);
    cluster.apply(&format!("{SERVICES}{}", route(WEB, BACKEND)));
    let one = start(&runtime, "one");
    runtime.sleep(Duration::from_secs(30)).await;
    assert_eq!(accepted_now(&cluster).as_deref(), Some("True"));
    assert_eq!((cluster.writes(), one.metrics.statuses.refused.value()), (1, 6));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_keeps_no_statuses_is_asked_once() {
    let (runtime, _, cluster, _) = testing::runtime();
    cluster.refuse_writes((0..9).map(|_| ClusterError::ReadOnly("files".to_string())));
    cluster.apply(&format!("{SERVICES}{}", route(WEB, BACKEND)));
    let one = start(&runtime, "one");
    runtime.sleep(Duration::from_secs(10)).await;
    cluster.apply(SERVICES);
    runtime.sleep(Duration::from_secs(60)).await;
    assert_eq!((cluster.writes(), one.metrics.statuses.dequeued.value()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_lost_the_lease_meanwhile_writes_nothing_more() {
    let (runtime, _, cluster, _) = testing::runtime();
    let one = start(&runtime, "one");
    runtime.sleep(Duration::from_secs(1)).await;
    let version = Some("9".to_string());
    let duration = Duration::from_secs(30);
    let other = Lease { version, duration, holder: "other".to_string(), ..Lease::default() };
    cluster.give_lease("policy-controller-write", Some(other));
    runtime.sleep(Duration::from_secs(15)).await;
    assert!(!one.metrics.is_leader());
    cluster.give_lease("policy-controller-write", None);
    cluster.apply(&format!("{SERVICES}{}", route(WEB, BACKEND)));
    runtime.sleep(Duration::from_millis(100)).await;
    assert_eq!(cluster.writes(), 0);
}

fn policy_said(kind: Kind, manifest: &str, name: &str) -> String {
    let (index, mesh) = (testing::index(manifest), MeshConfig::default());
    let name = ObjectRef { kind, namespace: "shop".to_string(), name: name.to_string() };
    let status = compile(&View::new(&index, &mesh), &name, WallTime::from_unix_secs(0)).unwrap();
    let all =
        conditions(&status).map(|condition| format!("{} {}", condition.status, condition.reason));
    all.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_rate_limit_is_accepted_where_its_server_has_no_older_one() {
    const LIMITS: &str = "
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: a, namespace: shop}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, total: {requestsPerSecond: 1}}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: b, namespace: shop}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, total: {requestsPerSecond: 1}}
---
";
    const SERVER: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, port: 8080}
---
";
    let kind = Kind::HTTPLocalRateLimitPolicy;
    let both = format!("{LIMITS}{SERVER}");
    assert_eq!(policy_said(kind, LIMITS, "a"), "False NoMatchingTarget");
    assert_eq!(policy_said(kind, &both, "a"), "True Accepted");
    assert_eq!(policy_said(kind, &both, "b"), "False RateLimitReasonAlreadyExists");
}

#[test]
fn an_egress_network_that_overlaps_the_cluster_is_not_accepted() {
    let network = |networks: &str| {
        format!(
            "
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: {{name: out, namespace: shop}}
spec: {{trafficPolicy: Deny{networks}}}
"
        )
    };
    let said = |networks: &str| policy_said(Kind::EgressNetwork, &network(networks), "out");
    assert_eq!(said(""), "True Accepted");
    assert_eq!(said(", networks: [{cidr: 203.0.113.0/24}]"), "True Accepted");
    let overlaps = "False EgressReasonNetworkOverlap";
    assert_eq!(said(", networks: [{cidr: 10.1.0.0/16}]"), overlaps);
}
