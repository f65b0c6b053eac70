//! Endpoints and profiles of one small mesh, as text.

use proptest::prelude::*;

use super::endpoints::{self, EndpointSet};
use super::place::Place;
use super::profile;
use crate::control::config::MeshConfig;
use crate::control::index::View;
use crate::control::testing;
use crate::model::endpoint::{Endpoint, EndpointUpdate};
use crate::model::labels::Labels;
use crate::model::target::NameAddr;

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80, targetPort: http}, {name: db, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: db, port: 5432}]
endpoints:
- addresses: [10.1.0.1]
  targetRef: {kind: Pod, name: web-1, namespace: shop}
  zone: east
- addresses: [10.1.0.2]
  conditions: {ready: true}
  hostname: web-b
- addresses: [10.1.0.3]
  conditions: {ready: false, serving: true, terminating: true}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  labels: {app: web, linkerd.io/control-plane-ns: linkerd, pod-template-hash: 5d8f}
  annotations: {config.linkerd.io/skip-inbound-ports: '9999'}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d8f, uid: x, controller: true}]
spec:
  serviceAccountName: web
  containers:
  - name: linkerd-proxy
    env:
    - {name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR, value: '0.0.0.0:4143'}
    - {name: LINKERD2_PROXY_ADMIN_LISTEN_ADDR, value: '0.0.0.0:4191'}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: draining, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: draining-x, namespace: shop, labels: {kubernetes.io/service-name: draining}}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
- addresses: [10.1.0.4]
  conditions: {ready: false, serving: true, terminating: true}
- addresses: [10.1.0.5]
  conditions: {ready: false, serving: false, terminating: true}
---
apiVersion: v1
kind: Service
metadata: {name: host, namespace: plain}
spec: {ports: [{port: 80, targetPort: http}]}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: host-1, namespace: plain}
spec:
  addresses: [10.3.0.1]
  service: host
  ports: [{name: http, port: 8080}]
  proxy: {inboundPort: 14143}
  labels: {zone: attic}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: host-2, namespace: plain}
spec: {addresses: [10.3.0.1], service: host, ports: [{name: http, port: 8081}], serviceAccount: two}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: host-3, namespace: plain}
spec: {addresses: [10.3.0.3], service: host, ports: [{name: http, port: 8080}], ready: false}
";

fn with_view<T>(read: impl FnOnce(&View<'_>) -> T) -> T {
    let (index, mesh) = (testing::index(MESH), MeshConfig::default());
    read(&View::new(&index, &mesh))
}

fn print(endpoint: &Endpoint) -> String {
    let labels: Vec<_> =
        endpoint.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let tls = endpoint.tls.as_ref().map(|tls| tls.identity.as_str());
    let port = endpoint.inbound_port.map_or(0, u16::from);
    let (address, hint) = (endpoint.address, endpoint.protocol_hint);
    format!("{address} {} {hint:?} via {port} {}", tls.unwrap_or("-"), labels.join(","))
}

fn endpoints_of(path: &str) -> String {
    with_view(|view| match endpoints::compile(view, &path.parse().unwrap()) {
        Ok(placed) => {
            let set = placed.seen_from(&Place::default());
            let lines: Vec<_> = set.endpoints.values().map(print).collect();
            format!("exists={}\n{}", set.exists, lines.join("\n"))
        }
        Err(refusal) => refusal.to_string(),
    })
}

#[test]
fn endpoints_come_from_slices_with_what_pods_say() {
    insta::assert_snapshot!(endpoints_of("web.shop.svc.cluster.local:80"), @r#"
exists=true
10.1.0.1:8080 web.shop.serviceaccount.identity.linkerd.cluster.local Http2 via 4143 control_plane_ns=linkerd,deployment=web,namespace=shop,pod=web-1,pod_template_hash=5d8f,serviceaccount=web,zone=east,zone_locality=unknown
10.1.0.2:8080 - Unknown via 0
"#);
    insta::assert_snapshot!(endpoints_of("web.shop.svc.cluster.local:5432"), @r#"
exists=true
10.1.0.1:5432 web.shop.serviceaccount.identity.linkerd.cluster.local Opaque via 4143 control_plane_ns=linkerd,deployment=web,namespace=shop,pod=web-1,pod_template_hash=5d8f,serviceaccount=web,zone=east,zone_locality=unknown
10.1.0.2:5432 - Unknown via 0
"#);
    insta::assert_snapshot!(endpoints_of("web-b.web.shop.svc.cluster.local:80"), @r#"
exists=true
10.1.0.2:8080 - Unknown via 0
"#);
}

#[test]
fn while_none_is_ready_those_that_end_and_serve_are_used() {
    insta::assert_snapshot!(endpoints_of("draining.shop.svc.cluster.local:80"), @r#"
exists=true
10.1.0.4:8080 - Unknown via 0
"#);
}

#[test]
fn endpoints_come_from_workloads_on_plain_hosts() {
    insta::assert_snapshot!(endpoints_of("host.plain.svc.cluster.local:80"), @r#"
exists=true
10.3.0.1:8080 default.plain.serviceaccount.identity.linkerd.cluster.local Http2 via 14143 control_plane_ns=linkerd,deployment=host,namespace=plain,pod=host-1,serviceaccount=default,zone=attic
10.3.0.1:8081 - Unknown via 0 deployment=host,namespace=plain,pod=host-2,serviceaccount=two
"#);
}

#[test]
fn names_that_are_not_the_clusters_are_refused_and_services_that_are_not_there_are_awaited() {
    insta::assert_snapshot!(endpoints_of("new.shop.svc.cluster.local:80"), @"exists=false");
    insta::assert_snapshot!(endpoints_of("www.example.com:80"), @"not found: www.example.com is not a service of this cluster");
    insta::assert_snapshot!(endpoints_of("10.96.0.1:80"), @"invalid argument: 10.96.0.1:80 is an address, which has no endpoints");
}

#[test]
fn profiles_tell_services_from_instances_and_strangers() {
    let profile = |path: &str| {
        with_view(|view| {
            let path: NameAddr = path.parse().unwrap();
            match profile::compile(view, "shop", &path) {
                Ok(profile) => {
                    let name = profile.fully_qualified_name.unwrap_or_default();
                    let endpoint = profile.endpoint.as_ref().map(print).unwrap_or_default();
                    format!("{path}: {name} opaque={} {endpoint}", profile.opaque)
                }
                Err(refusal) => format!("{path}: {refusal}"),
            }
        })
    };
    let paths = [
        "10.96.0.1:80",
        "10.96.0.1:5432",
        "web.shop.svc.cluster.local:80",
        "10.1.0.1:8080",
        "10.1.0.1:4191",
        "10.1.0.1:9999",
        "10.3.0.1:8081",
        "10.3.0.1:14143",
        "192.0.2.1:3306",
        "www.example.com:80",
    ];
    insta::assert_snapshot!(paths.map(profile).join("\n"), @r#"
10.96.0.1:80: web.shop.svc.cluster.local opaque=false 
10.96.0.1:5432: web.shop.svc.cluster.local opaque=true 
web.shop.svc.cluster.local:80: web.shop.svc.cluster.local opaque=false 
10.1.0.1:8080:  opaque=false 10.1.0.1:8080 web.shop.serviceaccount.identity.linkerd.cluster.local Http2 via 4143 control_plane_ns=linkerd,deployment=web,namespace=shop,pod=web-1,pod_template_hash=5d8f,serviceaccount=web
10.1.0.1:4191:  opaque=false 10.1.0.1:4191 web.shop.serviceaccount.identity.linkerd.cluster.local Http2 via 0 control_plane_ns=linkerd,deployment=web,namespace=shop,pod=web-1,pod_template_hash=5d8f,serviceaccount=web
10.1.0.1:9999:  opaque=false 10.1.0.1:9999 - Unknown via 0 control_plane_ns=linkerd,deployment=web,namespace=shop,pod=web-1,pod_template_hash=5d8f,serviceaccount=web
10.3.0.1:8081:  opaque=false 10.3.0.1:8081 - Unknown via 0 deployment=host,namespace=plain,pod=host-2,serviceaccount=two
10.3.0.1:14143:  opaque=false 10.3.0.1:14143 - Unknown via 0 
192.0.2.1:3306:  opaque=true 192.0.2.1:3306 - Unknown via 0 
www.example.com:80: invalid argument: www.example.com is not a service
"#);
}

/// Pods with addresses of both families, behind ports of their hosts, and made by Jobs.
const PLACES: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: east}}
---
apiVersion: v1
kind: Service
metadata: {name: dual, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dual-4, namespace: shop, labels: {kubernetes.io/service-name: dual}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.1.0.7], targetRef: {kind: Pod, name: dual-1, namespace: shop}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dual-6, namespace: shop, labels: {kubernetes.io/service-name: dual}}
addressType: IPv6
ports: [{port: 8080}]
endpoints:
- {addresses: ['fd00::7'], targetRef: {kind: Pod, name: dual-1, namespace: shop}}
- {addresses: ['fd00::8']}
---
apiVersion: v1
kind: Pod
metadata:
  name: dual-1
  namespace: shop
  labels: {linkerd.io/control-plane-ns: linkerd}
  ownerReferences: [{apiVersion: batch/v1, kind: Job, name: nightly-28, uid: x, controller: true}]
spec:
  nodeName: n1
  containers:
  - name: web
    ports: [{containerPort: 8080, hostPort: 80}, {containerPort: 53, hostPort: 53, protocol: UDP}]
  - name: linkerd-proxy
    env: [{name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR, value: '0.0.0.0:4143'}]
status: {podIP: 10.1.0.7, podIPs: [{ip: 10.1.0.7}, {ip: 'fd00::7'}], hostIP: 192.0.2.10}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: nightly-28
  namespace: shop
  ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: nightly, uid: x, controller: true}]
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop}
spec: {hostNetwork: true, containers: [{name: agent, ports: [{containerPort: 9100}]}]}
status: {podIP: 192.0.2.10, hostIP: 192.0.2.10}
";

#[test]
fn a_pod_of_both_families_is_one_endpoint_and_its_job_is_named_by_what_made_that() {
    let of = |prefer_ipv6| {
        let mesh = MeshConfig { prefer_ipv6, ..MeshConfig::default() };
        let index = testing::index(PLACES);
        let path = "dual.shop.svc.cluster.local:80".parse().unwrap();
        let placed = endpoints::compile(&View::new(&index, &mesh), &path).unwrap();
        let set = placed.seen_from(&Place::default());
        set.endpoints.values().map(print).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(of(false), @r#"
10.1.0.7:8080 default.shop.serviceaccount.identity.linkerd.cluster.local Http2 via 4143 control_plane_ns=linkerd,cronjob=nightly,namespace=shop,pod=dual-1,serviceaccount=default
[fd00::8]:8080 - Unknown via 0
"#);
    insta::assert_snapshot!(of(true), @r#"
[fd00::7]:8080 default.shop.serviceaccount.identity.linkerd.cluster.local Http2 via 4143 control_plane_ns=linkerd,cronjob=nightly,namespace=shop,pod=dual-1,serviceaccount=default
[fd00::8]:8080 - Unknown via 0
"#);
}

#[test]
fn a_port_of_a_host_leads_to_the_pod_behind_it_and_not_to_its_proxy() {
    let (index, mesh) = (testing::index(PLACES), MeshConfig::default());
    let of = |address: &str| {
        let profile =
            profile::compile(&View::new(&index, &mesh), "shop", &address.parse().unwrap());
        print(&profile.unwrap().endpoint.unwrap())
    };
    let addresses = ["192.0.2.10:80", "192.0.2.10:53", "192.0.2.10:9100", "10.1.0.7:8080"];
    insta::assert_snapshot!(addresses.map(of).join("\n"), @r#"
192.0.2.10:80 default.shop.serviceaccount.identity.linkerd.cluster.local Http2 via 0 control_plane_ns=linkerd,cronjob=nightly,namespace=shop,pod=dual-1,serviceaccount=default
192.0.2.10:53 - Unknown via 0 
192.0.2.10:9100 - Unknown via 0 namespace=shop,pod=agent,serviceaccount=default
10.1.0.7:8080 default.shop.serviceaccount.identity.linkerd.cluster.local Http2 via 4143 control_plane_ns=linkerd,cronjob=nightly,namespace=shop,pod=dual-1,serviceaccount=default
"#);
}

fn any_set() -> impl Strategy<Value = EndpointSet> {
    let endpoint = (0..6_u8, 0..2_u32).prop_map(|(host, weight)| Endpoint {
        weight,
        ..Endpoint::new(([10, 0, 0, host], 80).into())
    });
    (prop::collection::vec(endpoint, 0..6), any::<bool>(), any::<bool>()).prop_map(
        |(endpoints, exists, label)| EndpointSet {
            labels: label.then_some(("service", "web")).into_iter().collect(),
            exists: exists || !endpoints.is_empty(),
            endpoints: endpoints.into_iter().map(|e| (e.address, e)).collect(),
        },
    )
}

/// A set as a client has it: each endpoint with the set's labels as they came with it.
fn received(set: &EndpointSet) -> Vec<(Endpoint, Labels)> {
    let endpoints = set.endpoints.values().cloned();
    endpoints.map(|endpoint| (endpoint, set.labels.clone())).collect()
}

proptest! {
    #[test]
    fn updates_turn_what_was_sent_into_what_is(before in any_set(), after in any_set()) {
        prop_assert!(!before.updates_since(None).is_empty());
        prop_assert!(before.updates_since(Some(&before)).is_empty());
        let mut client: std::collections::BTreeMap<_, _> = received(&before)
            .into_iter()
            .map(|(endpoint, labels)| (endpoint.address, (endpoint, labels)))
            .collect();
        for update in after.updates_since(Some(&before)) {
            match update {
                EndpointUpdate::Add { endpoints, labels } => client.extend(
                    endpoints.into_iter().map(|e| (e.address, (e, labels.clone()))),
                ),
                EndpointUpdate::Remove(gone) => {
                    client.retain(|address, _| !gone.contains(address));
                }
                EndpointUpdate::NoEndpoints { exists } => {
                    prop_assert_eq!(exists, after.exists);
                    client.clear();
                }
            }
        }
        prop_assert_eq!(client.into_values().collect::<Vec<_>>(), received(&after));
    }
}
