//! Annotations about traffic, rate limits and egress networks, compiled.

use std::time::Duration;

use crate::control::config::MeshConfig;
use crate::control::index::{Index, View};
use crate::control::testing;
use crate::model::client_policy::{
    ClientPolicy, ClientProtocol, ConnectionFilter, Dispatcher, Distribution, FailureAccrual,
    HttpFilter, HttpRoutes, Load, Trip,
};
use crate::model::server_policy::{RateLimit, ServerProtocol};
use crate::model::target::Target;

fn service(annotations: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop, annotations: {{{annotations}}}}}
spec: {{clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}
---
"
    )
}

fn policy(index: &Index, namespace: &str, to: &str) -> ClientPolicy {
    let mesh = MeshConfig::default();
    let target = Target::Address(to.parse().unwrap());
    super::client::compile(&View::new(index, &mesh), namespace, &target).unwrap()
}

fn http(policy: &ClientPolicy) -> &HttpRoutes {
    match &policy.protocol {
        ClientProtocol::Detect { http1, .. } => http1,
        other => panic!("{other:?}"),
    }
}

fn web(manifest: &str) -> ClientPolicy {
    policy(&testing::index(manifest), "shop", "10.96.0.1:80")
}

#[test]
fn a_services_annotations_break_circuits() {
    assert_eq!(http(&web(&service(""))).breaker, None);
    let wrong = service("balancer.linkerd.io/failure-accrual: sometimes");
    let index = testing::index(&service(""));
    assert_eq!(http(&policy(&index, "shop", "10.96.0.1:80")).breaker, None);
    assert!(crate::resource::yaml::read("web.yaml", &wrong).is_err(), "its author is told");
    let web = web(&service(
        "balancer.linkerd.io/failure-accrual: consecutive, \
         balancer.linkerd.io/failure-accrual-consecutive-max-failures: '3'",
    ));
    let ClientProtocol::Detect { http1, http2, .. } = &web.protocol else { panic!() };
    assert_eq!(http1.breaker, http2.breaker);
    let Some(FailureAccrual { trip: Some(Trip::Consecutive { max_failures, backoff }), .. }) =
        &http1.breaker
    else {
        panic!("{http1:?}")
    };
    assert_eq!((*max_failures, backoff.min, backoff.max), (3, secs(1), secs(60)));
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn failures_count_as_latency_where_a_service_says_so() {
    let web = web(&service("balancer.alpha.linkerd.io/penalize-failures: 'true'"));
    let Distribution::FirstAvailable(backends) = &http(&web).routes[0].rules[0].backends else {
        panic!("{web:?}")
    };
    let Dispatcher::Balance { load: Load::PenaltyPeakEwma { penalty, .. }, .. } =
        &backends[0].backend.dispatcher
    else {
        panic!("{backends:?}")
    };
    assert_eq!(*penalty, secs(5));
}

#[test]
fn a_routes_retries_replace_all_of_its_services() {
    let of_service = "retry.linkerd.io/http: 5xx, retry.linkerd.io/limit: '3'";
    let retry = |manifest: &str| http(&web(manifest)).routes[0].rules[0].retry.clone();
    let own = retry(&service(of_service)).unwrap();
    assert_eq!((own.max_retries, own.conditions.statuses), (3, vec![(500, 599)]));
    assert_eq!((own.max_request_bytes, own.timeout), (65_536, None));
    let route = |annotations: &str| {
        format!(
            "{}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop, annotations: {{{annotations}}}}}
spec: {{parentRefs: [{{group: core, kind: Service, name: web}}], rules: [{{}}]}}
",
            service(of_service)
        )
    };
    assert_eq!(retry(&route("")).unwrap().max_retries, 3);
    let routes = retry(&route("retry.linkerd.io/http: '503', retry.linkerd.io/timeout: 300ms"));
    let routes = routes.unwrap();
    assert_eq!((routes.max_retries, routes.conditions.statuses), (1, vec![(503, 503)]));
    assert_eq!(routes.timeout, Some(Duration::from_millis(300)));
    assert_eq!(retry(&route("retry.linkerd.io/limit: '9'")), None);
}

const SERVER: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: 8080}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {addresses: [10.3.0.1], ports: [{port: 8080}], proxy: {}}
---
";

fn limit(name: &str, total: u32) -> String {
    format!(
        "
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  targetRef: {{group: policy.linkerd.io, kind: Server, name: web}}
  total: {{requestsPerSecond: {total}}}
  identity: {{requestsPerSecond: 10}}
  overrides:
  - {{requestsPerSecond: 20, clientRefs: [{{kind: ServiceAccount, name: batch, namespace: jobs}}]}}
---
"
    )
}

fn limit_of(manifest: &str) -> Option<RateLimit> {
    let (index, mesh) = (testing::index(manifest), MeshConfig::default());
    let policy = super::server::compile(&View::new(&index, &mesh), "shop", "web-1", 8080).unwrap();
    match policy.protocol {
        ServerProtocol::Detect { rate_limit, .. } => rate_limit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_has_the_limit_that_names_it_and_of_several_the_first() {
    assert_eq!(limit_of(SERVER), None);
    let manifest = format!("{SERVER}{}{}", limit("b", 5), limit("a", 100));
    let limit = limit_of(&manifest).unwrap();
    assert_eq!((limit.metadata.name(), limit.total, limit.identity), ("a", Some(100), Some(10)));
    let clients = &limit.overrides[0].clients;
    let name = "batch.jobs.serviceaccount.identity.linkerd.cluster.local";
    assert_eq!(clients[0].as_str(), name);
    assert_eq!(limit.overrides[0].requests_per_second, 20);
}

fn egress(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
---
"
    )
}

/// The network's name, whether HTTP is refused, and whether bytes are.
fn out(manifest: &str, namespace: &str, to: &str) -> (String, bool, bool) {
    let policy = policy(&testing::index(manifest), namespace, to);
    let refuses = |filters: &[HttpFilter]| {
        filters.iter().any(|f| matches!(f, HttpFilter::Failure(f) if f.status == 403))
    };
    let last = &http(&policy).routes.last().unwrap().rules[0];
    let ClientProtocol::Detect { opaque, .. } = &policy.protocol else { panic!() };
    let bytes = opaque.routes[0].rules[0].filters.contains(&ConnectionFilter::Forbidden);
    (policy.parent.name().to_string(), refuses(&last.filters), bytes)
}

#[test]
fn what_leaves_the_cluster_goes_by_the_nearest_and_smallest_network() {
    let all = [
        egress("all", "linkerd-egress", "trafficPolicy: Deny"),
        egress("own", "shop", "trafficPolicy: Allow"),
        egress("small", "shop", "trafficPolicy: Deny, networks: [{cidr: 203.0.113.0/24}]"),
        egress("others", "other", "trafficPolicy: Deny"),
    ]
    .concat();
    let named = |name: &str, refused| (name.to_string(), refused, refused);
    assert_eq!(out(&all, "shop", "198.51.100.1:80"), named("own", false));
    assert_eq!(out(&all, "shop", "203.0.113.9:80"), named("small", true));
    assert_eq!(out(&all, "else", "198.51.100.1:80"), named("all", true));
    assert_eq!(out(&all, "shop", "10.9.9.9:80"), named("default", false), "in the cluster");
    assert_eq!(out("", "shop", "198.51.100.1:80"), named("default", false));
    let overlapping = egress("bad", "shop", "trafficPolicy: Deny, networks: [{cidr: 0.0.0.0/0}]");
    assert_eq!(out(&overlapping, "shop", "198.51.100.1:80"), named("default", false));
}

#[test]
fn a_network_that_refuses_lets_out_what_its_routes_are_for() {
    let manifest = format!(
        "{}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: some, namespace: shop}}
spec:
  parentRefs: [{{group: policy.linkerd.io, kind: EgressNetwork, name: own}}]
  hostnames: [example.com]
  rules: [{{backendRefs: [{{group: policy.linkerd.io, kind: EgressNetwork, name: own}}]}}]
",
        egress("own", "shop", "trafficPolicy: Deny")
    );
    let policy = policy(&testing::index(&manifest), "shop", "198.51.100.1:80");
    let routes = &http(&policy).routes;
    assert_eq!(routes.len(), 2);
    let Distribution::RandomAvailable(backends) = &routes[0].rules[0].backends else {
        panic!("{routes:?}")
    };
    let Dispatcher::Forward(endpoint) = &backends[0].backend.backend.dispatcher else {
        panic!("{backends:?}")
    };
    assert_eq!(endpoint.address, "198.51.100.1:80".parse().unwrap());
    assert_eq!(routes[1].metadata.name(), "http-egress-deny");
}
