//! Policies of one small mesh, as text.

use std::fmt::Write as _;

use crate::control::config::MeshConfig;
use crate::control::index::View;
use crate::control::testing;
use crate::model::client_policy::{ClientPolicy, ClientProtocol, Dispatcher, Distribution};
use crate::model::server_policy::{Authentication, ServerPolicy, ServerProtocol};
use crate::model::target::{NameAddr, Target};
use crate::resource::policy::DefaultPolicy;

const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {config.linkerd.io/default-inbound-policy: all-authenticated}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.1
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: h1, port: 81, appProtocol: http}
  - {name: h2, port: 82, appProtocol: kubernetes.io/h2c}
  - {name: grpc, port: 83, appProtocol: grpc}
  - {name: mysql, port: 3306}
  - {name: known, port: 5432, appProtocol: http}
  - {name: udp, port: 53, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop, annotations: {config.linkerd.io/opaque-ports: 'sql,9000-9010'}}
spec:
  clusterIP: None
  ports: [{name: sql, port: 5000}, {name: admin, port: 3306}, {name: range, port: 9005, appProtocol: http}]
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: shop}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  labels: {app: web, linkerd.io/control-plane-ns: linkerd}
  annotations: {config.linkerd.io/opaque-ports: sql}
spec:
  serviceAccountName: web
  containers:
  - name: web
    ports: [{name: http, containerPort: 8080}, {name: sql, containerPort: 5000}]
    livenessProbe: {httpGet: {path: '/live?full', port: http}}
  - name: linkerd-proxy
    env:
    - {name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR, value: '0.0.0.0:4143'}
    - {name: LINKERD2_PROXY_ADMIN_LISTEN_ADDR, value: '0.0.0.0:4191'}
status: {podIP: 10.1.0.1}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: batch, namespace: jobs, labels: {app: batch}}
spec: {addresses: [10.2.0.1], ports: [{name: http, port: 9090}], proxy: {inboundPort: 14143}}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web-http, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: http, proxyProtocol: HTTP/1}
---
apiVersion: policy.linkerd.io/v1beta1
kind: Server
metadata: {name: batch, namespace: jobs}
spec: {podSelector: {matchExpressions: [{key: app, operator: In, values: [batch]}]}, port: 9090}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: audited, namespace: shop}
spec: {podSelector: {}, port: 7000, proxyProtocol: opaque, accessPolicy: audit}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web-http}
  requiredAuthenticationRefs:
  - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: callers}
  - {group: policy.linkerd.io, kind: NetworkAuthentication, name: inside, namespace: jobs}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: everybody-in-namespace, namespace: shop}
spec:
  targetRef: {kind: Namespace, name: shop}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: prometheus, namespace: viz}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: refers-to-nothing, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web-http}
  requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: lost}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: open, namespace: jobs}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: batch}, requiredAuthenticationRefs: []}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: callers, namespace: shop}
spec:
  identities: ['*.prod.serviceaccount.identity.linkerd.cluster.local', web.example.com, 'spiffe://td/x']
  identityRefs: [{kind: ServiceAccount, name: cart}, {kind: Namespace, name: ops}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: inside, namespace: jobs}
spec: {networks: [{cidr: 10.0.0.0/8, except: [10.9.0.0/16, 10.8.0.1]}, {cidr: 'fd00::1'}]}
";

fn client(target: &str) -> String {
    let (index, mesh) = (testing::index(MESH), MeshConfig::default());
    let view = View::new(&index, &mesh);
    let target = match target.parse() {
        Ok(address) => Target::Address(address),
        Err(_) => Target::Name(NameAddr::with_default_port(target, 80).unwrap()),
    };
    match super::client::compile(&view, "shop", &target) {
        Ok(policy) => print_client(&policy),
        Err(refusal) => refusal.to_string(),
    }
}

fn print_client(policy: &ClientPolicy) -> String {
    fn backend<F>(backends: &Distribution<F>) -> String {
        match backends {
            Distribution::FirstAvailable(all) => match &all[0].backend.dispatcher {
                Dispatcher::Balance { path, .. } => path.clone(),
                Dispatcher::Forward(endpoint) => {
                    let tls = endpoint.tls.as_ref().map(|tls| tls.identity.as_str());
                    format!("{} as {}", endpoint.address, tls.unwrap_or("nobody"))
                }
                Dispatcher::Fail => "fail".to_string(),
            },
            _ => "nothing".to_string(),
        }
    }
    let (kind, opaque, http) = match &policy.protocol {
        ClientProtocol::Detect { opaque, http1, .. } => ("detect", Some(opaque), Some(http1)),
        ClientProtocol::Opaque(opaque) => ("opaque", Some(opaque), None),
        ClientProtocol::Http1(http) => ("http1", None, Some(http)),
        ClientProtocol::Http2(http) => ("http2", None, Some(http)),
        _ => ("other", None, None),
    };
    let mut text = format!("{} {kind}", policy.parent);
    if let Some(routes) = http {
        let route = &routes.routes[0];
        let _ = write!(text, " | {}: {}", route.metadata, backend(&route.rules[0].backends));
    }
    if let Some(routes) = opaque {
        let (route, rule) = (&routes.routes[0], &routes.routes[0].rules[0]);
        let _ = write!(text, " | {}: {}", route.metadata, backend(&rule.backends));
        let _ = write!(text, " {:?}", rule.filters);
    }
    text
}

fn server(mesh: &MeshConfig, namespace: &str, name: &str, port: u16) -> String {
    let index = testing::index(MESH);
    let view = View::new(&index, mesh);
    match super::server::compile(&view, namespace, name, port) {
        Ok(policy) => print_server(&policy),
        Err(refusal) => refusal.to_string(),
    }
}

fn print_server(policy: &ServerPolicy) -> String {
    let (kind, routes) = match &policy.protocol {
        ServerProtocol::Detect { routes, .. } => ("detect", routes.as_slice()),
        ServerProtocol::Http1(http) => ("http1", http.routes.as_slice()),
        ServerProtocol::Opaque => ("opaque", [].as_slice()),
        _ => ("other", [].as_slice()),
    };
    let routes: Vec<_> = routes.iter().map(|route| route.metadata.name()).collect();
    let mut text = format!("{} {kind} {routes:?}", policy.server);
    for authorization in &policy.authorizations {
        let network = |network: &crate::model::server_policy::Network| {
            let except: Vec<_> = network.except.iter().map(ToString::to_string).collect();
            match except.as_slice() {
                [] => network.net.to_string(),
                except => format!("{} without {}", network.net, except.join(",")),
            }
        };
        let networks: Vec<_> = authorization.networks.iter().map(network).collect();
        let who = match &authorization.authentication {
            Authentication::Unauthenticated => "anybody".to_string(),
            Authentication::TlsUnauthenticated => "tls".to_string(),
            Authentication::TlsAuthenticated { identities, suffixes } => {
                let identities = identities.iter().map(ToString::to_string);
                let suffix = |suffix: &crate::model::server_policy::IdentitySuffix| {
                    format!("*.{}", suffix.parts.join("."))
                };
                let all: Vec<_> = identities.chain(suffixes.iter().map(suffix)).collect();
                all.join(", ")
            }
        };
        let metadata = &authorization.metadata;
        let _ = write!(text, "\n{metadata}: {who} from {}", networks.join(", "));
    }
    text
}

#[test]
fn services_are_balanced_and_what_is_said_of_their_ports_is_heeded() {
    let targets = [
        "10.96.0.1:80",
        "10.96.0.1:81",
        "10.96.0.1:82",
        "10.96.0.1:83",
        "10.96.0.1:3306",
        "10.96.0.1:5432",
        "10.96.0.1:53",
        "10.96.0.1:9999",
        "web.shop.svc.cluster.local:80",
        "web:80",
        "web.shop:80",
        "db:5000",
        "db:3306",
        "db:9005",
        "db-0.db.shop.svc.cluster.local:5000",
        "web.other:80",
        "elsewhere:80",
        "example.com:443",
    ];
    let all = targets.map(|target| format!("{target} -> {}", client(target)));
    insta::assert_snapshot!(all.join("\n"), @r#"
10.96.0.1:80 -> Service/shop/web detect | default/http: web.shop.svc.cluster.local:80 | default/opaq: web.shop.svc.cluster.local:80 []
10.96.0.1:81 -> Service/shop/web http1 | default/http: web.shop.svc.cluster.local:81
10.96.0.1:82 -> Service/shop/web http2 | default/http: web.shop.svc.cluster.local:82
10.96.0.1:83 -> Service/shop/web opaque | default/opaq: web.shop.svc.cluster.local:83 []
10.96.0.1:3306 -> Service/shop/web opaque | default/opaq: web.shop.svc.cluster.local:3306 []
10.96.0.1:5432 -> Service/shop/web http1 | default/http: web.shop.svc.cluster.local:5432
10.96.0.1:53 -> Service/shop/web opaque | default/undefined-port: nothing [Forbidden]
10.96.0.1:9999 -> Service/shop/web opaque | default/undefined-port: nothing [Forbidden]
web.shop.svc.cluster.local:80 -> Service/shop/web detect | default/http: web.shop.svc.cluster.local:80 | default/opaq: web.shop.svc.cluster.local:80 []
web:80 -> Service/shop/web detect | default/http: web.shop.svc.cluster.local:80 | default/opaq: web.shop.svc.cluster.local:80 []
web.shop:80 -> Service/shop/web detect | default/http: web.shop.svc.cluster.local:80 | default/opaq: web.shop.svc.cluster.local:80 []
db:5000 -> Service/shop/db opaque | default/opaq: db.shop.svc.cluster.local:5000 []
db:3306 -> Service/shop/db detect | default/http: db.shop.svc.cluster.local:3306 | default/opaq: db.shop.svc.cluster.local:3306 []
db:9005 -> Service/shop/db opaque | default/opaq: db.shop.svc.cluster.local:9005 []
db-0.db.shop.svc.cluster.local:5000 -> Service/shop/db opaque | default/opaq: db-0.db.shop.svc.cluster.local:5000 []
web.other:80 -> not found: web.other is not a service
elsewhere:80 -> not found: elsewhere is not a service
example.com:443 -> not found: example.com is not a service
"#);
}

#[test]
fn instances_and_unknown_addresses_are_forwarded_to() {
    let targets = [
        "10.1.0.1:8080",
        "10.1.0.1:5000",
        "10.2.0.1:9090",
        "10.2.0.1:22",
        "[::ffff:10.1.0.1]:8080",
        "192.0.2.1:443",
        "192.0.2.1:25",
    ];
    let all = targets.map(|target| format!("{target} -> {}", client(target)));
    insta::assert_snapshot!(all.join("\n"), @r#"
10.1.0.1:8080 -> default/default detect | default/default: 10.1.0.1:8080 as web.shop.serviceaccount.identity.linkerd.cluster.local | default/default: 10.1.0.1:8080 as web.shop.serviceaccount.identity.linkerd.cluster.local []
10.1.0.1:5000 -> default/default opaque | default/default: 10.1.0.1:5000 as web.shop.serviceaccount.identity.linkerd.cluster.local []
10.2.0.1:9090 -> default/default detect | default/default: 10.2.0.1:9090 as default.jobs.serviceaccount.identity.linkerd.cluster.local | default/default: 10.2.0.1:9090 as default.jobs.serviceaccount.identity.linkerd.cluster.local []
10.2.0.1:22 -> default/default detect | default/default: 10.2.0.1:22 as nobody | default/default: 10.2.0.1:22 as nobody []
[::ffff:10.1.0.1]:8080 -> default/default detect | default/default: [::ffff:10.1.0.1]:8080 as web.shop.serviceaccount.identity.linkerd.cluster.local | default/default: [::ffff:10.1.0.1]:8080 as web.shop.serviceaccount.identity.linkerd.cluster.local []
192.0.2.1:443 -> default/default detect | default/default: 192.0.2.1:443 as nobody | default/default: 192.0.2.1:443 as nobody []
192.0.2.1:25 -> default/default opaque | default/default: 192.0.2.1:25 as nobody []
"#);
}

#[test]
fn servers_allow_whom_policies_name() {
    let mesh = MeshConfig::default();
    insta::assert_snapshot!(server(&mesh, "shop", "web-1", 8080), @r#"
server//web-http http1 ["probe", "default"]
default/localhost: anybody from 127.0.0.0/8, ::1/128
authorizationpolicy/shop/callers: web.example.com, spiffe://td/x, cart.shop.serviceaccount.identity.linkerd.cluster.local, *.prod.serviceaccount.identity.linkerd.cluster.local, *.ops.serviceaccount.identity.linkerd.cluster.local from 10.0.0.0/8 without 10.9.0.0/16,10.8.0.1/32, fd00::1/128
authorizationpolicy/shop/everybody-in-namespace: prometheus.viz.serviceaccount.identity.linkerd.cluster.local from 0.0.0.0/0, ::/0
"#);
    insta::assert_snapshot!(server(&mesh, "jobs", "batch", 9090), @r#"
server//batch detect ["default"]
default/localhost: anybody from 127.0.0.0/8, ::1/128
authorizationpolicy/jobs/open: anybody from 0.0.0.0/0, ::/0
"#);
    insta::assert_snapshot!(server(&mesh, "shop", "web-1", 7000), @r#"
server//audited opaque []
default/localhost: anybody from 127.0.0.0/8, ::1/128
authorizationpolicy/shop/everybody-in-namespace: prometheus.viz.serviceaccount.identity.linkerd.cluster.local from 0.0.0.0/0, ::/0
default/audit: anybody from 0.0.0.0/0, ::/0
"#);
}

#[test]
fn ports_without_a_server_follow_the_default_of_their_namespace() {
    let mesh = MeshConfig::default();
    insta::assert_snapshot!(server(&mesh, "shop", "web-1", 5000), @r#"
default/all-authenticated opaque []
default/localhost: anybody from 127.0.0.0/8, ::1/128
default/all-authenticated: *. from 0.0.0.0/0, ::/0
"#);
    insta::assert_snapshot!(server(&mesh, "jobs", "batch", 3306), @r#"
default/all-unauthenticated opaque []
default/localhost: anybody from 127.0.0.0/8, ::1/128
default/all-unauthenticated: anybody from 0.0.0.0/0, ::/0
"#);
    insta::assert_snapshot!(server(&mesh, "jobs", "nobody", 80), @"not found: there is no pod or workload jobs/nobody");
}

#[test]
fn each_default_policy_allows_what_its_name_says() {
    let all = DefaultPolicy::ALL.map(|policy| {
        let mesh = MeshConfig { default_inbound_policy: policy, ..MeshConfig::default() };
        server(&mesh, "jobs", "batch", 80)
    });
    insta::assert_snapshot!(all.join("\n"), @r#"
default/all-unauthenticated detect ["default"]
default/localhost: anybody from 127.0.0.0/8, ::1/128
default/all-unauthenticated: anybody from 0.0.0.0/0, ::/0
default/all-authenticated detect ["default"]
default/localhost: anybody from 127.0.0.0/8, ::1/128
default/all-authenticated: *. from 0.0.0.0/0, ::/0
default/cluster-unauthenticated detect ["default"]
default/localhost: anybody from 127.0.0.0/8, ::1/128
default/cluster-unauthenticated: anybody from 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16, fd00::/8
default/cluster-authenticated detect ["default"]
default/localhost: anybody from 127.0.0.0/8, ::1/128
default/cluster-authenticated: *. from 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16, fd00::/8
default/deny detect ["default"]
default/localhost: anybody from 127.0.0.0/8, ::1/128
default/audit detect ["default"]
default/localhost: anybody from 127.0.0.0/8, ::1/128
default/audit: anybody from 0.0.0.0/0, ::/0
"#);
}
