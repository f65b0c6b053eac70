//! What is refused, with its message, and what is not.

use serde_json::{Value, json};

use super::validate::{Checked, answer};
use crate::control::config::MeshConfig;
use crate::control::index::{Index, View};
use crate::control::testing;

const MESH: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: all, namespace: shop}
spec: {podSelector: {}, port: 9090}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}
";

fn asked(index: &Index, request: &Value) -> Value {
    let mesh = MeshConfig::default();
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": request});
    let checked = match request["object"]["kind"].as_str() {
        Some("ServiceProfile") => Checked::Profile,
        _ => Checked::Policy,
    };
    let answer = answer(review.to_string().as_bytes(), checked, &View::new(index, &mesh)).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"]["uid"], "u");
    answer["response"].clone()
}

/// What is said of a resource that is about to be created: `spec` is in YAML.
fn said(api_version: &str, kind: &str, spec: &str) -> String {
    let spec: Value = serde_yaml_ng::from_str(spec).unwrap();
    let name = if kind == "ServiceProfile" { "web.shop.svc.cluster.local" } else { "it" };
    let object = json!({"apiVersion": api_version, "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": "shop", "uid": "x", "generation": 1,
            "creationTimestamp": "2026-11-22T12:14:53Z", "managedFields": []}});
    let request = json!({"uid": "u", "namespace": "shop", "operation": "CREATE", "object": object});
    let response = asked(&testing::index(MESH), &request);
    let warnings = response["warnings"].as_array().into_iter().flatten();
    let warnings: Vec<_> =
        warnings.map(|text| format!("warning: {}", text.as_str().unwrap())).collect();
    match response["allowed"] == true {
        true if warnings.is_empty() => "allowed".to_string(),
        true => warnings.join("\n"),
        false => response["status"]["message"].as_str().unwrap().to_string(),
    }
}

#[test]
fn servers() {
    let said = |spec: &str| said("policy.linkerd.io/v1beta3", "Server", spec);
    insta::assert_snapshot!([
        said("{podSelector: {matchLabels: {app: web}}, port: http, proxyProtocol: HTTP/2}"),
        said("{podSelector: {}, port: 9090}"),
        said("{podSelector: {matchLabels: {app: web}}, port: 9090}"),
        said("{podSelector: {}, port: 70000}"),
        said("{podSelector: {}, port: http, proxyProtocol: HTTP/3}"),
        said("{podSelector: {}, externalWorkloadSelector: {}, port: http}"),
        said("{podSelector: {matchExpressions: [{key: app, operator: Is}]}, port: http}"),
        said("{podSelector: {}, port: http, accessPolicy: everybody}"),
        said("{podSelector: {}}"),
        said("{podSelector: {}, port: http, prot: 1}"),
    ].join("\n"), @r#"
    allowed
    spec.port: the Server shop/all is for port 9090 of pods that this one selects too; give another port, or a selector that selects other pods
    spec.port: the Server shop/all is for port 9090 of pods that this one selects too; give another port, or a selector that selects other pods
    spec.port: "70000" is not valid; use a port from 1 to 65535
    spec.proxyProtocol: unknown variant `HTTP/3`, expected one of `unknown`, `HTTP/1`, `HTTP/2`, `gRPC`, `opaque`, `TLS`; correct or remove it
    spec: needs either podSelector or externalWorkloadSelector; give one of them; `podSelector: {}` selects all
    spec.podSelector.matchExpressions[0]: "Is" is not valid; use In or NotIn with values, or Exists or DoesNotExist without
    spec.accessPolicy: "everybody" is not a policy; use all-unauthenticated, all-authenticated, cluster-unauthenticated, cluster-authenticated, deny or audit; use one of these
    spec: missing field `port`; correct or remove it
    spec.prot: unknown field `prot`, expected one of `podSelector`, `externalWorkloadSelector`, `port`, `proxyProtocol`, `accessPolicy`; correct or remove it
    "#);
}

#[test]
fn authorizations() {
    let policy = |spec: &str| said("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", spec);
    let mesh = |spec: &str| said("policy.linkerd.io/v1alpha1", "MeshTLSAuthentication", spec);
    let network = |spec: &str| said("policy.linkerd.io/v1alpha1", "NetworkAuthentication", spec);
    let server = "targetRef: {group: policy.linkerd.io, kind: Server, name: all}";
    let tls = "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: a}";
    insta::assert_snapshot!([
        policy(&format!("{{{server}, requiredAuthenticationRefs: [{tls}]}}")),
        policy("{targetRef: {kind: Namespace, name: other}, requiredAuthenticationRefs: []}"),
        policy("{targetRef: {kind: Pod, name: a}, requiredAuthenticationRefs: []}"),
        policy(&format!("{{{server}, requiredAuthenticationRefs: [{{kind: Secret, name: a}}]}}")),
        policy(&format!(
            "{{{server}, requiredAuthenticationRefs: [{tls}, {{kind: ServiceAccount, name: a}}]}}"
        )),
        mesh("{identities: ['*', '*.shop.serviceaccount.identity.linkerd.cluster.local']}"),
        mesh("{identities: []}"),
        mesh("{identities: ['web*']}"),
        mesh("{identityRefs: [{kind: Namespace, name: shop, namespace: shop}]}"),
        network("{networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]}"),
        network("{networks: []}"),
        network("{networks: [{cidr: 10.0.0.0/33}]}"),
        network("{networks: [{cidr: 10.0.0.0/8, except: [192.168.0.0/16]}]}"),
        network("{networks: [{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}]}"),
    ].join("\n"), @r#"
    allowed
    spec.targetRef.name: "other" is another namespace; target the policy's own namespace
    spec.targetRef: "/Pod" is not valid; target a Server or HTTPRoute of policy.linkerd.io, or a Namespace of core
    spec.requiredAuthenticationRefs[0].kind: "Secret" is no authentication; refer to a MeshTLSAuthentication or NetworkAuthentication of policy.linkerd.io, or to a ServiceAccount
    spec.requiredAuthenticationRefs: holds two of a kind, which no client satisfies in general; merge them into one MeshTLSAuthentication and one NetworkAuthentication
    allowed
    spec: allows nobody; list identities or identityRefs; "*" is every meshed client
    spec.identities[0]: "web*" is not valid; use a whole name, *.SUFFIX, * or spiffe://…
    spec.identityRefs[0].namespace: a Namespace is in no namespace; leave it out
    allowed
    spec.networks: is empty; list a network; 0.0.0.0/0 is all of IPv4
    spec.networks[0].cidr: "10.0.0.0/33" is not valid; use an address or a network such as 10.0.0.0/8
    spec.networks[0].except[0]: "192.168.0.0/16" is not a part of "10.0.0.0/8"; except only parts of the network
    spec.networks[0].except[0]: "0.0.0.0/0" leaves nothing of "10.0.0.0/8"; except only parts of the network
    "#);
}

#[test]
fn server_authorizations() {
    let said = |spec: &str| said("policy.linkerd.io/v1beta1", "ServerAuthorization", spec);
    insta::assert_snapshot!([
        said("{server: {name: all}, client: {meshTLS: {identities: ['*.shop']}}}"),
        said("{server: {selector: {}}, client: {unauthenticated: true, networks: [{cidr: 10.0.0.0/8}]}}"),
        said("{server: {name: all, selector: {}}, client: {unauthenticated: true}}"),
        said("{server: {name: all}, client: {}}"),
        said("{server: {name: all}, client: {meshTLS: {}}}"),
        said("{server: {name: all}, client: {unauthenticated: true, meshTLS: {unauthenticatedTLS: true}}}"),
        said("{server: {name: all}, client: {meshTLS: {unauthenticatedTLS: true, identities: ['*']}}}"),
        said("{server: {name: all}, client: {meshTLS: {identities: ['a*']}}}"),
        said("{server: {name: all}, client: {unauthenticated: true, networks: [{cidr: x}]}}"),
    ].join("\n"), @r#"
    allowed
    allowed
    spec.server: needs either name or selector; give one of them; `selector: {}` selects every Server of the namespace
    spec.client: allows nobody; give meshTLS, or `unauthenticated: true` for everybody
    spec.client.meshTLS: allows nobody; list identities or serviceAccounts; "*" is every meshed client
    spec.client.unauthenticated: allows everybody, beside meshTLS; give meshTLS or unauthenticated, not both
    spec.client.meshTLS: allows everybody who speaks TLS, beside some by name; give unauthenticatedTLS, or identities and serviceAccounts, not both
    spec.client.meshTLS.identities[0]: "a*" is not valid; use a whole name, *.SUFFIX, * or spiffe://…
    spec.client.networks[0].cidr: "x" is not valid; use an address or a network such as 10.0.0.0/8
    "#);
}

#[test]
fn limits_and_networks() {
    let limit = |spec: &str| said("policy.linkerd.io/v1alpha1", "HTTPLocalRateLimitPolicy", spec);
    let egress = |spec: &str| said("policy.linkerd.io/v1alpha1", "EgressNetwork", spec);
    let server = "targetRef: {group: policy.linkerd.io, kind: Server, name: all}";
    insta::assert_snapshot!([
        limit(&format!("{{{server}, total: {{requestsPerSecond: 10}}}}")),
        limit(&format!("{{{server}, total: {{requestsPerSecond: 0}}}}")),
        limit(&format!(
            "{{{server}, total: {{requestsPerSecond: 1}}, identity: {{requestsPerSecond: 2}}}}"
        )),
        limit("{targetRef: {kind: Pod, name: a}, total: {requestsPerSecond: 1}}"),
        egress("{trafficPolicy: Allow}"),
        egress("{trafficPolicy: Maybe}"),
        egress("{trafficPolicy: Deny, networks: []}"),
    ].join("\n"), @r#"
    allowed
    spec.total.requestsPerSecond: "0" is not valid; use a number above 0
    spec.identity.requestsPerSecond: 2 is more than the total of 1; use a number up to the total
    spec.targetRef.kind: "Pod" is not valid; refer to a Server of policy.linkerd.io
    allowed
    spec.trafficPolicy: unknown variant `Maybe`, expected `Allow` or `Deny`; correct or remove it
    spec.networks: is empty; list a network; 0.0.0.0/0 is all of IPv4
    "#);
}

#[test]
fn routes() {
    let ours = |spec: &str| said("policy.linkerd.io/v1beta3", "HTTPRoute", spec);
    let of_web = |kind: &str, spec: &str| {
        let parents = "{parentRefs: [{kind: Service, group: '', name: web, port: 80}], ";
        said("gateway.networking.k8s.io/v1", kind, &spec.replacen('{', parents, 1))
    };
    let theirs = |spec: &str| of_web("HTTPRoute", spec);
    let grpc = |spec: &str| of_web("GRPCRoute", spec);
    // Somebody else's to judge, whatever it says.
    let spec = "{parentRefs: [{name: edge}], rules: [{matches: [{path: {value: api}}], new: 1}]}";
    let of_a_gateway = said("gateway.networking.k8s.io/v1", "HTTPRoute", spec);
    let redirect = |path: &str| {
        ours(&format!(
            "rules: [{{filters: [{{type: RequestRedirect, requestRedirect: \
             {{path: {{type: ReplaceFullPath, replaceFullPath: {path}}}}}}}]}}]"
        ))
    };
    insta::assert_snapshot!([
        ours("{rules: [{matches: [{path: {type: PathPrefix, value: /api}}]}]}"),
        ours("{rules: [{matches: [{path: {value: api}}]}]}"),
        ours("{rules: [{matches: [{path: {type: RegularExpression, value: '['}}]}]}"),
        ours("{rules: [{filters: [{type: URLRewrite}]}]}"),
        redirect("/new"),
        redirect("new"),
        ours("{rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}"),
        ours("{parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: all}]}"),
        theirs("{rules: [{backendRefs: [{name: db, port: 80}]}]}"),
        theirs("{rules: [{backendRefs: [{name: db}]}]}"),
        theirs("{rules: [{sessionPersistence: {type: Cookie}}]}"),
        theirs("{rules: [{filters: [{type: URLRewrite, urlRewrite: {hostname: a}}]}]}"),
        grpc("{rules: [{matches: [{method: {service: a.B}}]}]}"),
        grpc("{rules: [{matches: [{method: {service: ''}}]}]}"),
        of_a_gateway,
        said("gateway.networking.k8s.io/v1alpha2", "TLSRoute", "{rules: []}"),
    ].join("\n"), @r#"
    allowed
    spec.rules[0].matches[0].path.value: "api" is not valid; begin it with /
    spec.rules[0].matches[0].path.value: "[" is not valid; use a regular expression without look-around
    spec.rules[0].filters[0].type: "URLRewrite" is not supported; use RequestHeaderModifier, ResponseHeaderModifier or RequestRedirect
    allowed
    spec.rules[0].filters[0].requestRedirect.path.replaceFullPath: "new" is not valid; begin it with /
    spec.rules[0].timeouts.backendRequest: is longer than the request may take; use less
    spec.parentRefs[0].port: is missing; say which port; an EgressNetwork has none of its own
    allowed
    spec.rules[0].backendRefs[0].port: is missing; say which port of the Service
    warning: spec.rules: unknown field `sessionPersistence`, expected one of `name`, `matches`, `filters`, `backendRefs`, `timeouts`; the mesh passes this HTTPRoute over
    warning: spec.rules[0].filters[0].type: "URLRewrite" is not supported here; requests that it is for are answered with 500
    allowed
    spec.rules[0].matches[0].method: matches nothing; name a service, a method or both
    allowed
    warning: gateway.networking.k8s.io/v1alpha2 TLSRoute is not read by this mesh
    "#);
}

#[test]
fn profiles() {
    let profile = |spec: &str| said("linkerd.io/v1alpha2", "ServiceProfile", spec);
    let named = |name: &str| {
        let object = json!({"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"routes": []}});
        let request = json!({"uid": "u", "operation": "CREATE", "object": object});
        asked(&Index::default(), &request)["status"]["message"].to_string()
    };
    insta::assert_snapshot!([
        profile("{routes: [{name: a, condition: {method: GET, pathRegex: /a}}]}"),
        profile("{routes: [{name: a, condition: {}}]}"),
        profile("{routes: [{name: a, condition: {pathRegex: '('}}]}"),
        profile("{routes: [{name: a}]}"),
        profile("{routes: [], retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 1, ttl: x}}"),
        profile("{routes: [], rotues: []}"),
        named("web"),
    ].join("\n"), @r#"
    allowed
    spec.routes[0].condition: is empty; give pathRegex, method, all, any or not
    spec.routes[0].condition.pathRegex: "(" is not valid; use a regular expression without look-around
    spec.routes: missing field `condition`; correct or remove it
    spec.retryBudget.ttl: "x" is not valid; use a duration such as 10s or 1m30s
    spec.rotues: unknown field `rotues`, expected one of `routes`, `retryBudget`, `dstOverrides`, `opaquePorts`; correct or remove it
    "metadata.name: \"web\" is not valid; use the whole name that clients use, such as web.shop.svc.cluster.local"
    "#);
}

#[test]
fn what_goes_or_stays_as_it_is_may_be_as_wrong_as_it_was() {
    let wrong = json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
        "metadata": {"name": "it", "namespace": "shop", "finalizers": ["a"]},
        "spec": {"podSelector": {}, "port": 9090}});
    let index = testing::index(MESH);
    let allowed = |request: Value| asked(&index, &request)["allowed"] == true;
    assert!(!allowed(json!({"uid": "u", "namespace": "shop", "operation": "CREATE",
        "object": wrong})));
    assert!(allowed(json!({"uid": "u", "operation": "DELETE", "object": null,
        "oldObject": wrong})));
    let mut changed = wrong.clone();
    changed["metadata"]["finalizers"] = json!([]);
    assert!(allowed(json!({"uid": "u", "namespace": "shop", "operation": "UPDATE",
        "object": changed, "oldObject": wrong})));
    changed["spec"]["accessPolicy"] = "deny".into();
    assert!(!allowed(json!({"uid": "u", "namespace": "shop", "operation": "UPDATE",
        "object": changed, "oldObject": wrong})));
    changed["metadata"]["deletionTimestamp"] = "2026-11-22T12:14:53Z".into();
    assert!(allowed(json!({"uid": "u", "namespace": "shop", "operation": "UPDATE",
        "object": changed, "oldObject": wrong})));
}
