//! Routes of clients and of servers, compiled, as text.

use std::fmt::Write as _;

use crate::control::config::MeshConfig;
use crate::control::index::View;
use crate::control::testing;
use crate::model::client_policy::{
    ClientProtocol, Dispatcher, Distribution, HttpFilter, HttpRoute, RouteBackend,
};
use crate::model::server_policy::{ServerHttpFilter, ServerProtocol};
use crate::model::target::Target;

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, annotations: {timeout.linkerd.io/response: 5s}}
spec:
  clusterIP: 10.96.0.1
  ports: [{name: http, port: 80}, {name: other, port: 81}, {name: sql, port: 5432}]
---
apiVersion: v1
kind: Service
metadata: {name: web-v2, namespace: next}
spec: {clusterIP: 10.96.0.2, ports: [{port: 8080}]}
---
";

fn route(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    let version = match kind {
        "PolicyHTTPRoute" => "policy.linkerd.io/v1beta3",
        _ => "gateway.networking.k8s.io/v1",
    };
    let kind = kind.trim_start_matches("Policy");
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  parentRefs: [{{group: core, kind: Service, name: web, namespace: shop, \
         port: 80}}]\n{spec}\n---\n"
    )
}

fn client(manifest: &str, namespace: &str, port: u16) -> String {
    let (index, mesh) = (testing::index(&format!("{SERVICES}{manifest}")), MeshConfig::default());
    let view = View::new(&index, &mesh);
    let target = Target::Address(([10, 96, 0, 1], port).into());
    let policy = super::client::compile(&view, namespace, &target).unwrap();
    match &policy.protocol {
        ClientProtocol::Detect { http1, http2, .. } => {
            assert_eq!(http1, http2);
            format!("detect\n{}", http(&http1.routes))
        }
        ClientProtocol::Http1(routes) => format!("http1\n{}", http(&routes.routes)),
        ClientProtocol::Grpc(routes) => {
            let mut text = "grpc".to_string();
            for route in &routes.routes {
                for rule in &route.rules {
                    let _ = write!(
                        text,
                        "\n{}: {:?} {:?} -> {}",
                        route.metadata,
                        rule.matches,
                        rule.filters,
                        backends(&rule.backends)
                    );
                }
            }
            text
        }
        ClientProtocol::Opaque(_) => "opaque".to_string(),
        other => panic!("{other:?}"),
    }
}

fn http(routes: &[HttpRoute]) -> String {
    let mut lines = Vec::new();
    for route in routes {
        for rule in &route.rules {
            let paths: Vec<_> = rule.matches.iter().map(|m| format!("{:?}", m.path)).collect();
            let filters: Vec<_> = rule.filters.iter().map(filter).collect();
            lines.push(format!(
                "{} {:?} [{}] [{}] {:?} -> {}",
                route.metadata,
                route.hosts,
                paths.join(", "),
                filters.join(", "),
                (rule.timeouts.request, rule.timeouts.response),
                backends(&rule.backends)
            ));
        }
    }
    lines.join("\n")
}

fn filter(filter: &HttpFilter) -> String {
    match filter {
        HttpFilter::Failure(failure) => format!("{} {}", failure.status, failure.message),
        HttpFilter::RequestHeaders(_) => "request headers".to_string(),
        HttpFilter::ResponseHeaders(_) => "response headers".to_string(),
        HttpFilter::Redirect(redirect) => format!("redirect {:?}", redirect.status),
        HttpFilter::Unknown => "unknown".to_string(),
    }
}

fn backends<F: std::fmt::Debug>(backends: &Distribution<F>) -> String {
    let one = |backend: &RouteBackend<F>| {
        let mut text = match &backend.backend.dispatcher {
            Dispatcher::Balance { path, .. } => path.clone(),
            Dispatcher::Fail => "fail".to_string(),
            Dispatcher::Forward(endpoint) => endpoint.address.to_string(),
        };
        if let Some(timeout) = backend.request_timeout {
            let _ = write!(text, " in {timeout:?}");
        }
        if !backend.filters.is_empty() {
            let _ = write!(text, " {:?}", backend.filters);
        }
        text
    };
    match backends {
        Distribution::Empty => "nothing".to_string(),
        Distribution::FirstAvailable(all) => all.iter().map(one).collect::<Vec<_>>().join(" or "),
        Distribution::RandomAvailable(all) => {
            let one = |w: &crate::model::client_policy::WeightedBackend<F>| {
                format!("{}x {}", w.weight, one(&w.backend))
            };
            all.iter().map(one).collect::<Vec<_>>().join(" + ")
        }
    }
}

#[test]
fn rules_lead_to_their_backends_by_weight_and_fail_where_there_is_none() {
    let manifest = route(
        "PolicyHTTPRoute",
        "split",
        "shop",
        "  hostnames: [web.example.com, '*.example.org']
  rules:
  - matches: [{path: {type: Exact, value: /a}}, {path: {value: /b}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: y}]}}]
    backendRefs:
    - {name: web-v2, namespace: next, port: 8080, weight: 3}
    - {name: lost, port: 80}
    - {name: web, port: 80, weight: 0}
    - {name: web, port: 9}
    timeouts: {request: 10s, backendRequest: 2s}
  - matches: [{path: {type: RegularExpression, value: /c.*}}]
    timeouts: {request: 0s}
  - backendRefs: [{name: web, port: 80, weight: 0}]",
    );
    insta::assert_snapshot!(client(&manifest, "shop", 80), @r#"
    detect
    HTTPRoute/shop/split [Exact("web.example.com"), Suffix(["org", "example"])] [Some(Exact("/a")), Some(Prefix("/b"))] [request headers] (Some(10s), Some(5s)) -> 3x web-v2.next.svc.cluster.local:8080 in 2s + 1x fail in 2s [Failure(HttpFailure { status: 500, message: "Service not found lost", share: Share { numerator: 1, denominator: 1 } })] + 1x fail in 2s [Failure(HttpFailure { status: 500, message: "Service web has no port 9", share: Share { numerator: 1, denominator: 1 } })]
    HTTPRoute/shop/split [Exact("web.example.com"), Suffix(["org", "example"])] [Some(Regex(//c.*/))] [] (None, Some(5s)) -> web.shop.svc.cluster.local:80
    HTTPRoute/shop/split [Exact("web.example.com"), Suffix(["org", "example"])] [] [] (None, Some(5s)) -> nothing
    "#);
    assert!(client(&manifest, "shop", 81).contains("default/http"), "another port is not its");
    assert_eq!(client(&manifest, "shop", 5432), "opaque");
}

#[test]
fn filters_of_gateway_api_are_compiled_and_those_that_the_mesh_does_not_do_fail_their_rule() {
    let manifest = route(
        "HTTPRoute",
        "filters",
        "shop",
        "  rules:
  - filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /x}}}]
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x]}}]
  - filters: [{type: URLRewrite, urlRewrite: {hostname: x}}]
  - backendRefs: [{name: web, port: 80, filters: [{type: RequestMirror, requestMirror: {}}]}]",
    );
    insta::assert_snapshot!(client(&manifest, "shop", 80), @r#"
    detect
    HTTPRoute/shop/filters [] [] [redirect Some(302)] (None, Some(5s)) -> web.shop.svc.cluster.local:80
    HTTPRoute/shop/filters [] [] [response headers] (None, Some(5s)) -> web.shop.svc.cluster.local:80
    HTTPRoute/shop/filters [] [] [500 Internal Server Error invalid filter URLRewrite] (None, Some(5s)) -> nothing
    HTTPRoute/shop/filters [] [] [] (None, Some(5s)) -> 1x fail [Failure(HttpFailure { status: 500, message: "invalid filter RequestMirror", share: Share { numerator: 1, denominator: 1 } })]
    "#);
}

#[test]
fn conditions_that_make_no_sense_match_nothing() {
    // Admission and files refuse this; a cluster may hold it all the same.
    let manifest = route(
        "HTTPRoute",
        "wrong",
        "shop",
        "  rules:
  - matches: [{path: {type: Exact, value: /a}}]
  - matches: [{path: {type: Exact, value: /b}}]",
    );
    let mut objects = testing::objects(&format!("{SERVICES}{manifest}"));
    let Some(crate::resource::Object::HTTPRoute(route)) = objects.last_mut() else { panic!() };
    let rules = std::sync::Arc::make_mut(route).spec.0.rules.as_mut().unwrap();
    let path = rules[0].matches.as_mut().unwrap()[0].path.as_mut().unwrap();
    path.type_ = Some(crate::resource::route::PathMatchType::RegularExpression);
    path.value = Some("(".to_string());
    let mut index = testing::index("");
    for object in objects {
        testing::put(&mut index, object);
    }
    let mesh = MeshConfig::default();
    let view = View::new(&index, &mesh);
    let target = Target::Address(([10, 96, 0, 1], 80).into());
    let policy = super::client::compile(&view, "shop", &target).unwrap();
    let ClientProtocol::Detect { http1, .. } = &policy.protocol else { panic!() };
    assert_eq!(http1.routes[0].rules.len(), 1);
}

#[test]
fn consumers_routes_are_for_their_namespace_and_hide_producers() {
    let manifest = route("HTTPRoute", "all", "shop", "  rules: [{}]")
        + &route("HTTPRoute", "mine", "team", "  rules: [{}]");
    let lines = |namespace| {
        let text = client(&manifest, namespace, 80);
        text.lines().skip(1).map(|l| l.split(' ').next().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(lines("shop"), ["HTTPRoute/shop/all"]);
    assert_eq!(lines("elsewhere"), ["HTTPRoute/shop/all"]);
    assert_eq!(lines("team"), ["HTTPRoute/team/mine"]);
}

#[test]
fn routes_are_in_order_of_age_and_then_of_name() {
    let aged = |name: &str, at: &str| {
        let text = route("HTTPRoute", name, "shop", "  rules: [{}]");
        match at {
            "" => text,
            at => text.replace(
                "namespace: shop}\nspec",
                &format!("namespace: shop, creationTimestamp: '{at}'}}\nspec"),
            ),
        }
    };
    let manifest = aged("d", "")
        + &aged("c", "2026-01-02T00:00:00Z")
        + &aged("b", "2026-01-01T00:00:00Z")
        + &aged("a", "2026-01-02T00:00:00Z")
        + &route("PolicyHTTPRoute", "b0", "shop", "  rules: [{}]");
    let text = client(&manifest, "shop", 80);
    let names: Vec<_> =
        text.lines().skip(1).map(|l| l.split(' ').next().unwrap().to_string()).collect();
    let names: Vec<_> = names.iter().map(|name| name.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["b", "a", "c", "b0", "d"]);
}

#[test]
fn grpc_routes_make_a_port_grpc() {
    let manifest = route(
        "GRPCRoute",
        "calls",
        "shop",
        "  rules:
  - matches: [{method: {service: shop.Cart, method: Add}}]
    backendRefs: [{name: web-v2, namespace: next, port: 8080}, {name: lost, port: 1}]
  - filters: [{type: RequestMirror, requestMirror: {}}]",
    ) + &route("HTTPRoute", "hidden", "shop", "  rules: [{}]");
    insta::assert_snapshot!(client(&manifest, "shop", 80), @r#"
    grpc
    GRPCRoute/shop/calls: [GrpcMatch { service: Some("shop.Cart"), method: Some("Add"), headers: [] }] [] -> 1x web-v2.next.svc.cluster.local:8080 + 1x fail [Failure(GrpcFailure { code: 13, message: "Service not found lost", share: Share { numerator: 1, denominator: 1 } })]
    GRPCRoute/shop/calls: [] [Failure(GrpcFailure { code: 13, message: "invalid filter RequestMirror", share: Share { numerator: 1, denominator: 1 } })] -> nothing
    "#);
}

const SERVER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, livenessProbe: {httpGet: {path: /live, port: 8080}}}]}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, port: 8080, proxyProtocol: PROTOCOL}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: admins, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: admin}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: admin}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: shop}
spec:
  targetRef: {group: gateway.networking.k8s.io, kind: GRPCRoute, name: calls}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: caller}]
---
";

fn server_route(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    let parent = "{group: policy.linkerd.io, kind: Server, name: web, namespace: shop}";
    let text = route(kind, name, namespace, spec);
    let (head, rest) = text.split_once("parentRefs: ").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    format!("{head}parentRefs: [{parent}]\n{rest}")
}

fn server(protocol: &str, manifest: &str) -> String {
    let manifest = format!("{}{manifest}", SERVER.replace("PROTOCOL", protocol));
    let (index, mesh) = (testing::index(&manifest), MeshConfig::default());
    let view = View::new(&index, &mesh);
    let policy = super::server::compile(&view, "shop", "web-1", 8080).unwrap();
    let names = |all: &[crate::model::server_policy::Authorization]| {
        all.iter().map(|a| a.metadata.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut text = names(&policy.authorizations);
    match &policy.protocol {
        ServerProtocol::Http1(routes) => {
            for route in &routes.routes {
                let _ = write!(text, "\n{}: {}", route.metadata, names(&route.authorizations));
                for rule in &route.rules {
                    let fails = |f: &ServerHttpFilter| matches!(f, ServerHttpFilter::Failure(_));
                    let fails = if rule.filters.iter().any(fails) { " fails" } else { "" };
                    let paths = rule.matches.iter().map(|m| m.path.as_ref());
                    let _ = write!(text, "\n  {:?}{fails}", paths.collect::<Vec<_>>());
                }
            }
        }
        ServerProtocol::Grpc(routes) => {
            for route in routes {
                let _ = write!(text, "\n{}: {}", route.metadata, names(&route.authorizations));
            }
        }
        other => panic!("{other:?}"),
    }
    text
}

#[test]
fn a_policy_that_targets_a_route_grants_there_alone() {
    let manifest = server_route(
        "PolicyHTTPRoute",
        "admin",
        "shop",
        "  rules: [{matches: [{path: {value: /admin}}]}]",
    ) + &server_route(
        "HTTPRoute",
        "admin",
        "shop",
        "  rules:
  - matches: [{path: {value: /}}]
    filters: [{type: RequestMirror, requestMirror: {}}]",
    ) + &server_route("PolicyHTTPRoute", "stranger", "team", "  rules: [{}]");
    insta::assert_snapshot!(server("HTTP/1", &manifest), @r#"
    default/localhost
    HTTPRoute/shop/admin: authorizationpolicy/shop/admins
      [Some(Prefix("/admin"))]
    HTTPRoute/shop/admin: 
      [Some(Prefix("/"))] fails
    "#);
    insta::assert_snapshot!(server("HTTP/1", ""), @r#"
    default/localhost
    default/probe: default/probe
      [Some(Exact("/live"))]
    default/default: 
      [Some(Prefix("/"))]
    "#);
}

#[test]
fn grpc_servers_have_grpc_routes() {
    let manifest = server_route("GRPCRoute", "calls", "shop", "  rules: [{}]");
    insta::assert_snapshot!(server("gRPC", &manifest), @r#"
    default/localhost
    GRPCRoute/shop/calls: authorizationpolicy/shop/callers
    "#);
    insta::assert_snapshot!(server("gRPC", ""), @r#"
    default/localhost
    default/default:
    "#);
}
