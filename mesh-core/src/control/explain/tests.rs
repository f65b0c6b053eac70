//! Explanations of one small mesh, as text.

use std::fmt::Write as _;

use super::*;
use crate::control::config::MeshConfig;
use crate::control::index::Index;
use crate::control::testing;

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: next, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: web-1, namespace: shop}}
- {addresses: [10.1.0.2], conditions: {ready: false}, targetRef: {kind: Pod, name: web-2, namespace: shop}}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  labels: {app: web, linkerd.io/control-plane-ns: linkerd}
spec:
  serviceAccountName: web
  containers:
  - {name: web, ports: [{name: http, containerPort: 8080}]}
  - name: linkerd-proxy
    env: [{name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR, value: '0.0.0.0:4143'}]
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata:
  name: cart-1
  namespace: shop
  labels: {app: cart, linkerd.io/control-plane-ns: linkerd, pod-template-hash: abc}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: cart-abc, uid: u, controller: true}]
spec:
  serviceAccountName: cart
  containers:
  - name: linkerd-proxy
    env: [{name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR, value: '0.0.0.0:4143'}]
status: {podIP: 10.1.0.9}
---
apiVersion: v1
kind: Pod
metadata: {name: old, namespace: shop}
spec: {containers: [{name: old}]}
status: {podIP: 10.1.0.20}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop, generation: 3}
spec: {podSelector: {matchLabels: {app: web}}, port: http}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: shop, generation: 2}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: cart}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: broken, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: gone}]
---
";

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: shop, annotations: {retry.linkerd.io/http: 5xx}}
spec:
  parentRefs: [{group: core, kind: Service, name: web, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /api}}]
    timeouts: {request: 2s}
    backendRefs:
    - {name: web, port: 80, weight: 9}
    - {name: next, port: 80, weight: 1}
";

fn ask(index: &Index, from: &str, to: &str, request: Asked) -> Result<Explanation, ExplainError> {
    let mesh = MeshConfig::default();
    let (from, to) = (from.to_string(), to.to_string());
    let question = Question { from, to, namespace: Some("shop".to_string()), request };
    explain(&View::new(index, &mesh), &question)
}

fn get(path: &str) -> Asked {
    Asked { path: path.to_string(), ..Asked::default() }
}

fn text(explanation: &Explanation) -> String {
    shown(explanation, true)
}

/// With the ways on from the sender's side, or with their heads alone.
fn shown(explanation: &Explanation, with_ways: bool) -> String {
    let mut text = String::new();
    let Explanation { from, to, request, steps, ways, verdict } = explanation;
    writeln!(text, "{request}: {from} -> {to}").unwrap();
    let mut tell = |indent: &str, steps: &[Step]| {
        for step in steps {
            let mark = if step.outcome == Outcome::Refused { "x" } else { " " };
            writeln!(text, "{indent}{mark} {}: {}", step.name.title(), step.says).unwrap();
            for line in &step.because {
                writeln!(text, "{indent}    {line}").unwrap();
            }
            for Cited { kind, namespace, name, generation, .. } in &step.objects {
                let of = generation.map(|of| format!(" @{of}")).unwrap_or_default();
                writeln!(text, "{indent}    [{kind} {namespace}/{name}{of}]").unwrap();
            }
        }
    };
    tell("", steps);
    for way in ways {
        let head = format!("{} {} %", way.backend, way.percent);
        tell("", &[Step::new(StepName::Backends, head).because_of(way.endpoints.clone())]);
        if with_ways {
            tell("  ", &way.steps);
        }
    }
    writeln!(text, "= {:?} {:?} {}", verdict.outcome, verdict.status, verdict.says).unwrap();
    text
}

fn told(manifest: &str, from: &str, to: &str, request: Asked) -> String {
    text(&ask(&testing::index(manifest), from, to, request).unwrap())
}

#[test]
fn who_is_allowed_is_told_by_which_rule() {
    insta::assert_snapshot!(told(MESH, "deploy/cart", "web", get("/")), @r#"
    GET / over HTTP/1: Pod shop/cart-1 -> Service shop/web:80
      source: Pod shop/cart-1 at 10.1.0.9 is meshed, and shows cart.shop.serviceaccount.identity.linkerd.cluster.local
        [Pod shop/cart-1]
      discovery: 10.96.0.1:80 is port 80 of Service shop/web
        web.shop.svc.cluster.local is the cluster address 10.96.0.1
        [Service shop/web]
      protocol: detected from the first bytes, of which it waits 10s at most: HTTP/1
      route: no route is for it: the default http holds
      backends: Service shop/web:80
        [Service shop/web]
      backends: Service shop/web:80 100 %
        10.1.0.1:8080 (Pod shop/web-1)
        endpoints: 1 ready endpoint, 1 meshed
          1 other endpoint not ready
          [Service shop/web]
        identity: mutual TLS: the server must be web.shop.serviceaccount.identity.linkerd.cluster.local
          to its proxy's port 4143, with a header that says which port is meant, and what is carried
          HTTP/1 is carried over HTTP/2 between the proxies
        server: Server shop/web selects port 8080
          what nothing allows follows its accessPolicy: deny
          [Server shop/web @3]
        server protocol: HTTP/1, as it is told
        server route: all requests go one way: the port has no routes
        authorization: AuthorizationPolicy shop/callers allows it
          the default localhost allows anybody from 127.0.0.0/8, ::1/128: 10.1.0.9 is in none of the networks
          AuthorizationPolicy shop/callers allows cart.shop.serviceaccount.identity.linkerd.cluster.local from anywhere: that is it
          AuthorizationPolicy shop/broken is left out: there is no MeshTLSAuthentication shop/gone
          [AuthorizationPolicy shop/callers @2]
          [AuthorizationPolicy shop/broken]
        application: the request is handed to the application
    = Allowed None allowed: the application answers
    "#);
}

#[test]
fn who_is_denied_is_told_of_every_rule_why() {
    insta::assert_snapshot!(told(MESH, "pod/old", "svc/web:80", get("/")), @r#"
    GET / over HTTP/1: Pod shop/old -> Service shop/web:80
      source: Pod shop/old at 10.1.0.20 has no proxy: it sends in plaintext
        [Pod shop/old]
      discovery: 10.96.0.1:80 is port 80 of Service shop/web, which the cluster balances
        web.shop.svc.cluster.local is the cluster address 10.96.0.1
        [Service shop/web]
      backends: Service shop/web 100 %
        10.1.0.1:8080 (Pod shop/web-1)
        endpoints: 1 ready endpoint, 1 meshed
          1 other endpoint not ready
        identity: plaintext: the sender's side has no proxy on the way
        server: Server shop/web selects port 8080
          what nothing allows follows its accessPolicy: deny
          [Server shop/web @3]
        server protocol: detected within 10s: HTTP/1
        server route: all requests go one way: the port has no routes
      x authorization: denied: mesh TLS is required
          the default localhost allows anybody from 127.0.0.0/8, ::1/128: 10.1.0.20 is in none of the networks
          AuthorizationPolicy shop/callers allows cart.shop.serviceaccount.identity.linkerd.cluster.local from anywhere: it comes without mesh TLS
          AuthorizationPolicy shop/broken is left out: there is no MeshTLSAuthentication shop/gone
          [AuthorizationPolicy shop/callers @2]
          [AuthorizationPolicy shop/broken]
    = Refused Some(403) refused with 403: mesh TLS is required
    "#);
}

#[test]
fn routes_split_and_retry() {
    let index = testing::index(&[MESH, ROUTE].concat());
    let routed = |path: &str| ask(&index, "shop/cart", "web.shop:80", get(path)).unwrap();
    let (split, other) = (routed("/api/x"), routed("/other"));
    insta::assert_snapshot!(shown(&split, false), @r"
    GET /api/x over HTTP/1: Pod shop/cart-1 -> Service shop/web:80
      source: Pod shop/cart-1 at 10.1.0.9 is meshed, and shows cart.shop.serviceaccount.identity.linkerd.cluster.local
        [Pod shop/cart-1]
      discovery: 10.96.0.1:80 is port 80 of Service shop/web
        web.shop.svc.cluster.local is the cluster address 10.96.0.1
        [Service shop/web]
      protocol: detected from the first bytes, of which it waits 10s at most: HTTP/1
      route: HTTPRoute shop/split, rules[0]: path below /api
        [HTTPRoute shop/split]
      timeouts: 2s for the whole of it
      retries: sent again 1 time at most, after status 500-599
      backends: Service shop/web:80 gets 100 %, Service shop/next:80 has no endpoint, and gets nothing meanwhile
        [Service shop/web]
        [Service shop/next]
      backends: Service shop/web:80 100 %
        10.1.0.1:8080 (Pod shop/web-1)
    = Allowed None allowed: the application answers
    ");
    let plain = ask(&testing::index(MESH), "shop/cart", "web", get("/")).unwrap();
    assert_eq!(split.ways[0].steps, plain.ways[0].steps, "its server does not know of the route");
    // Both begin alike.
    let begins = split.steps.iter().position(|step| step.name == StepName::Route).unwrap();
    assert_eq!(split.steps[..begins], other.steps[..begins]);
    let rest = Explanation { steps: other.steps[begins..].to_vec(), ..other };
    insta::assert_snapshot!(text(&rest), @r"
    GET /other over HTTP/1: Pod shop/cart-1 -> Service shop/web:80
    x route: no route matches GET /other over HTTP/1
        HTTPRoute shop/split does not match
        [HTTPRoute shop/split]
    = Refused Some(404) refused with 404: no route is for the request
    ");
}

#[test]
fn ports_that_a_service_lacks_are_refused() {
    insta::assert_snapshot!(told(MESH, "cart-1", "web:81", get("/")), @r#"
    GET / over HTTP/1: Pod shop/cart-1 -> Service shop/web:81
      source: Pod shop/cart-1 at 10.1.0.9 is meshed, and shows cart.shop.serviceaccount.identity.linkerd.cluster.local
        [Pod shop/cart-1]
      discovery: 10.96.0.1:81 is Service shop/web, which has no TCP port 81
        web.shop.svc.cluster.local is the cluster address 10.96.0.1
        [Service shop/web]
      protocol: opaque: bytes, whatever they are
      route: bytes go by the default undefined-port
    x filters: the route is forbidden
    = Refused None the connection is closed: its route refuses it
    "#);
}

#[test]
fn grpc_is_refused_in_its_own_way() {
    let request = Asked { speaks: Speaks::Grpc, path: "/p.S/M".into(), ..Asked::default() };
    let found = ask(&testing::index(MESH), "10.1.0.9", "10.1.0.1:9090", request.clone()).unwrap();
    assert_eq!(found.verdict.outcome, Outcome::Allowed, "{found:#?}");
    let found = ask(&testing::index(MESH), "192.0.2.1", "pod/web-1", request).unwrap();
    assert_eq!((found.verdict.status, found.verdict.grpc_status), (Some(200), Some(7)));
}

#[test]
fn unknown_names_are_told_what_there_is() {
    let index = testing::index(MESH);
    let error = |from: &str, to: &str| ask(&index, from, to, get("/")).unwrap_err().to_string();
    insta::assert_snapshot!(
        [
            error("deploy/crat", "web"),
            error("cart-1", "wbe:80"),
            error("cart-1", "pod/web-1:x"),
            error("shpo/cart", "web"),
            error("svc/web", "web"),
            error("a/b/c/d", "web"),
            error("cart-1", "old"),
            error("cart-1", "10.1.0.1"),
        ]
        .join("\n"),
        @r#"
    deploy/crat is not known; did you mean deployment/cart or sa/cart?
    wbe is not known; did you mean svc/web?
    "pod/web-1:x": give a port from 1 to 65535 after the colon
    shpo/cart is not known; there are namespace shop
    svc/web: a service sends nothing; give what runs, or an account
    "a/b/c/d": it has too many parts; give KIND/NAME, NAMESPACE/KIND/NAME, NAMESPACE/NAME or NAME
    Pod shop/old: say which port, after a colon
    10.1.0.1: say which port, after a colon
    "#
    );
}

#[test]
fn a_denial_is_explained_by_its_reference() {
    use crate::model::metadata::Metadata;
    use crate::traffic::authorize::{Client, ClientTls, Denied};
    let client = Client { ip: "10.1.0.20".parse().unwrap(), tls: ClientTls::None };
    let target = "10.1.0.1:8080".parse().unwrap();
    let route = Metadata::new_default("default");
    let id = DenialId::new(client, target, Some(&route), Denied::NoTls);
    let explained = |manifest: &str| {
        explain_denial(&View::new(&testing::index(manifest), &MeshConfig::default()), id)
    };
    let found = explained(MESH).unwrap();
    let before = found.steps.len() - 1;
    let head = Explanation { steps: found.steps[..before].to_vec(), ..found.clone() };
    insta::assert_snapshot!(text(&head), @r#"
    a request: Pod shop/old -> Pod shop/web-1:8080
    x denial: 2a3y80m0802g5020010008vb4w: a request of 10.1.0.20 to 10.1.0.1:8080 was denied: mesh TLS is required
      source: Pod shop/old at 10.1.0.20 came without an identity
        [Pod shop/old]
      server: Server shop/web selects port 8080
        what nothing allows follows its accessPolicy: deny
        [Server shop/web @3]
      server route: all requests go one way: the port has no routes
    = Refused Some(403) refused with 403: then and now: mesh TLS is required
    "#);
    let request = ask(&testing::index(MESH), "pod/old", "web", get("/")).unwrap();
    let of_request = request.ways[0].steps.last();
    assert_eq!(found.steps.last(), of_request, "then and now it is denied by the same");
    let error = explained("").unwrap_err();
    assert!(error.to_string().contains("10.1.0.1:8080"), "{error}");
}

#[test]
fn it_has_one_form_in_json() {
    let found = ask(&testing::index(MESH), "pod/old", "web", get("/")).unwrap();
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["verdict"]["outcome"], "refused");
    let last = json["ways"][0]["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(last["name"], "authorization");
    assert_eq!(last["objects"][0]["generation"], 2);
}
