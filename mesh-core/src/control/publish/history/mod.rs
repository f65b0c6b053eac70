//! Histories in which meshes have kept stale endpoints: each removal reaches every subscriber,
//! whatever came before it and in whichever order.

mod law;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use super::tests::{now, print, synced};
use super::{Publisher, Question};
use crate::api::server::Discovery;
use crate::api::workload::{ContextToken, Workload};
use crate::control::testing;
use crate::model::client_policy::ClientPolicy;
use crate::model::endpoint::{Endpoint, EndpointUpdate};
use crate::model::labels::Labels;
use crate::model::profile::Profile;
use crate::model::target::Target;
use crate::resource::{Kind, ObjectRef};
use crate::runtime::BoxStream;
use crate::runtime::cluster::WatchEvent;

const WEB: &str = "web.default.svc.cluster.local:80";

fn service(name: &str, ip: &str, target: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: {ip}, ports: [{{name: http, port: 80, targetPort: {target}}}]}}\n---\n"
    )
}

/// Endpoints are `HOST` or `HOST/POD`.
fn slice(name: &str, service: &str, port: &str, endpoints: &[&str]) -> String {
    let endpoint = |text: &&str| match text.split_once('/') {
        Some((host, pod)) => {
            format!("{{addresses: [10.1.0.{host}], targetRef: {{kind: Pod, name: {pod}}}}}")
        }
        None => format!("{{addresses: [10.1.0.{text}]}}"),
    };
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: \
         {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{port}]\n\
         endpoints: [{}]\n---\n",
        endpoints.join(", ")
    )
}

const HTTP: &str = "{name: http, port: 8080}";

fn pod(name: &str, host: u8, account: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: \
         {{linkerd.io/control-plane-ns: linkerd}}}}\n\
         spec: {{serviceAccountName: {account}, containers: [{{name: {name}}}]}}\n\
         status: {{podIP: 10.1.0.{host}}}\n---\n"
    )
}

/// Puts objects and tells subscribers, as one burst.
fn put(publisher: &Publisher, manifest: &str) {
    for object in testing::objects(manifest) {
        publisher.apply(object.kind(), WatchEvent::Apply(object));
    }
    publisher.refresh();
}

fn delete(publisher: &Publisher, kind: Kind, name: &str) {
    let (namespace, name) = ("default".to_string(), name.to_string());
    publisher.apply(kind, WatchEvent::Delete(ObjectRef { kind, namespace, name }));
    publisher.refresh();
}

/// A list in place of what a watch missed.
fn relist(publisher: &Publisher, kind: Kind, manifest: &str) {
    publisher.apply(kind, WatchEvent::Init);
    for object in testing::objects(manifest) {
        publisher.apply(kind, WatchEvent::InitApply(object));
    }
    publisher.apply(kind, WatchEvent::InitDone);
    publisher.refresh();
}

/// A subscriber: what it holds after everything that it was sent.
struct Client {
    stream: BoxStream<EndpointUpdate>,
    endpoints: BTreeMap<SocketAddr, (Endpoint, Labels)>,
    told: Vec<String>,
}

impl Client {
    fn of(publisher: &Publisher, path: &str) -> Self {
        let stream = publisher.endpoints(&path.parse().unwrap(), &ContextToken::default());
        Self { stream: stream.unwrap(), endpoints: BTreeMap::new(), told: Vec::new() }
    }

    /// Takes all there is; the addresses that are left, each with its identity's first label.
    async fn holds(&mut self) -> String {
        while let Some(update) = now(&mut self.stream).await {
            let update = update.expect("a stream of endpoints does not end");
            self.told.push(print(update.clone()));
            fold(&mut self.endpoints, update);
        }
        let identity = |endpoint: &Endpoint| {
            let tls = endpoint.tls.as_ref()?;
            tls.identity.as_str().split('.').next().map(|name| format!(" {name}"))
        };
        let all: Vec<_> = self
            .endpoints
            .values()
            .map(|(e, _)| format!("{}{}", e.address, identity(e).unwrap_or_default()))
            .collect();
        all.join(", ")
    }
}

fn fold(held: &mut BTreeMap<SocketAddr, (Endpoint, Labels)>, update: EndpointUpdate) {
    match update {
        EndpointUpdate::Add { endpoints, labels } => {
            held.extend(endpoints.into_iter().map(|e| (e.address, (e, labels.clone()))));
        }
        EndpointUpdate::Remove(gone) => held.retain(|address, _| !gone.contains(address)),
        EndpointUpdate::NoEndpoints { .. } => held.clear(),
    }
}

// A service that was deleted and made again.
#[tokio::test]
async fn a_service_that_is_made_again_is_followed_again() {
    let publisher =
        synced(&(service("web", "10.96.0.1", "8080") + &slice("a", "web", HTTP, &["1", "2"])));
    let (mut early, mut late) = (Client::of(&publisher, WEB), Client::of(&publisher, WEB));
    assert_eq!(early.holds().await, "10.1.0.1:8080, 10.1.0.2:8080");
    delete(&publisher, Kind::Service, "web");
    assert_eq!(early.holds().await, "");
    assert_eq!(early.told.last().unwrap(), "none, exists=false");
    delete(&publisher, Kind::EndpointSlice, "a");
    put(&publisher, &service("web", "10.96.0.2", "8080"));
    assert_eq!(early.holds().await, "");
    assert_eq!(early.told.last().unwrap(), "none, exists=true");
    put(&publisher, &slice("b", "web", HTTP, &["3"]));
    put(&publisher, &slice("b", "web", HTTP, &["4"]));
    assert_eq!(early.holds().await, "10.1.0.4:8080");
    // One that took nothing all the while skips what it missed.
    assert_eq!(late.holds().await, "10.1.0.4:8080");
    assert_eq!(late.told, ["add 10.1.0.4:8080"]);
}

#[tokio::test]
async fn a_client_policy_follows_its_service_to_another_address() {
    let publisher = synced(&service("web", "10.96.0.1", "8080"));
    let client = Workload::pod("default", "client");
    let watch = |ip: &str| {
        let target = Target::Address(format!("{ip}:80").parse().unwrap());
        publisher.client_policy(&client, &target).unwrap()
    };
    let (mut old, mut new) = (watch("10.96.0.1"), watch("10.96.0.2"));
    let kind = async |stream: &mut BoxStream<ClientPolicy>| {
        now(stream).await.unwrap().unwrap().parent.kind().to_string()
    };
    assert_eq!(kind(&mut old).await, "Service");
    assert_eq!(kind(&mut new).await, "default");
    delete(&publisher, Kind::Service, "web");
    put(&publisher, &service("web", "10.96.0.2", "8080"));
    assert_eq!(kind(&mut old).await, "default");
    assert_eq!(kind(&mut new).await, "Service");
}

// A slice whose label names another service.
#[tokio::test]
async fn a_slice_that_moves_takes_its_endpoints_along() {
    let publisher = synced(
        &(service("web", "10.96.0.1", "8080")
            + &service("db", "10.96.0.2", "8080")
            + &slice("a", "web", HTTP, &["1"])),
    );
    let mut web = Client::of(&publisher, WEB);
    let mut db = Client::of(&publisher, "db.default.svc.cluster.local:80");
    assert_eq!((web.holds().await, db.holds().await), ("10.1.0.1:8080".into(), String::new()));
    put(&publisher, &slice("a", "db", HTTP, &["1"]));
    assert_eq!((web.holds().await, db.holds().await), (String::new(), "10.1.0.1:8080".into()));
}

// An address that another pod has now must not be dialled with the old identity.
#[tokio::test]
async fn an_address_that_is_used_again_has_its_new_pods_identity() {
    let publisher = synced(
        &(service("web", "10.96.0.1", "8080")
            + &pod("old", 1, "red")
            + &slice("a", "web", HTTP, &["1/old"])),
    );
    let mut client = Client::of(&publisher, WEB);
    let mut profile =
        publisher.profile(&"10.1.0.1:8080".parse().unwrap(), &ContextToken::default()).unwrap();
    let mut identity = async || {
        let profile: Profile = now(&mut profile).await.unwrap().unwrap();
        profile.endpoint.unwrap().tls.map(|tls| tls.server_name.as_str().to_string())
    };
    assert_eq!(client.holds().await, "10.1.0.1:8080 red");
    assert!(identity().await.unwrap().starts_with("red."));
    // The pod goes, and the slice says so later.
    delete(&publisher, Kind::Pod, "old");
    assert_eq!(identity().await, None);
    put(&publisher, &pod("new", 1, "blue"));
    assert!(identity().await.unwrap().starts_with("blue."));
    put(&publisher, &slice("a", "web", HTTP, &["1/new"]));
    assert_eq!(client.holds().await, "10.1.0.1:8080 blue");
    // The other order: both pods are known for a while.
    put(&publisher, &pod("newer", 1, "green"));
    put(&publisher, &slice("a", "web", HTTP, &["1/newer"]));
    delete(&publisher, Kind::Pod, "new");
    assert_eq!(client.holds().await, "10.1.0.1:8080 green");
    assert!(identity().await.unwrap().starts_with("green."));
}

#[tokio::test]
async fn a_pod_that_has_ended_leaves_its_address_to_the_next() {
    // A job's pod is kept when it is done; its address is not.
    let done = pod("done", 1, "red").replace("status: {", "status: {phase: Succeeded, ");
    let publisher = synced(&(done + &pod("next", 1, "blue")));
    let path = "10.1.0.1:8080".parse().unwrap();
    let mut profile = publisher.profile(&path, &ContextToken::default()).unwrap();
    let mut name = async || {
        let profile = now(&mut profile).await.unwrap().unwrap();
        let tls = profile.endpoint.unwrap().tls.unwrap();
        tls.server_name.as_str().split('.').next().unwrap().to_string()
    };
    assert_eq!(name().await, "blue");
    // Of two that both seem to live, the newer has the address.
    let made = |pod: String, at| {
        pod.replace("metadata: {", &format!("metadata: {{creationTimestamp: '{at}', "))
    };
    put(&publisher, &made(pod("next", 1, "blue"), "2026-01-01T00:00:00Z"));
    put(&publisher, &made(pod("again", 1, "green"), "2026-01-02T00:00:00Z"));
    assert_eq!(name().await, "green");
}

#[tokio::test]
async fn a_slice_that_goes_before_its_replacement_comes_leaves_nothing_behind() {
    let publisher =
        synced(&(service("web", "10.96.0.1", "8080") + &slice("a", "web", HTTP, &["1", "2"])));
    let mut client = Client::of(&publisher, WEB);
    client.holds().await;
    delete(&publisher, Kind::EndpointSlice, "a");
    assert_eq!(client.holds().await, "");
    put(&publisher, &slice("b", "web", HTTP, &["2", "3"]));
    assert_eq!(client.holds().await, "10.1.0.2:8080, 10.1.0.3:8080");
}

// What was deleted while a watch was down is in no event.
#[tokio::test]
async fn a_relist_removes_what_its_watch_missed() {
    let publisher = synced(
        &(service("web", "10.96.0.1", "8080")
            + &slice("a", "web", HTTP, &["1"])
            + &slice("b", "web", HTTP, &["2"])),
    );
    let mut client = Client::of(&publisher, WEB);
    assert_eq!(client.holds().await, "10.1.0.1:8080, 10.1.0.2:8080");
    relist(&publisher, Kind::EndpointSlice, &slice("b", "web", HTTP, &["3"]));
    assert_eq!(client.holds().await, "10.1.0.3:8080");
    relist(&publisher, Kind::EndpointSlice, "");
    assert_eq!(client.holds().await, "");
    relist(&publisher, Kind::Service, "");
    assert_eq!(client.told.last().unwrap(), "none, exists=true");
    client.holds().await;
    assert_eq!(client.told.last().unwrap(), "none, exists=false");
}

// An endpoint that two slices name is there until neither does.
#[tokio::test]
async fn an_endpoint_of_two_slices_goes_with_the_second() {
    let publisher = synced(
        &(service("web", "10.96.0.1", "8080")
            + &slice("a", "web", HTTP, &["1", "2"])
            + &slice("b", "web", HTTP, &["1"])),
    );
    let mut client = Client::of(&publisher, WEB);
    assert_eq!(client.holds().await, "10.1.0.1:8080, 10.1.0.2:8080");
    delete(&publisher, Kind::EndpointSlice, "a");
    assert_eq!(client.holds().await, "10.1.0.1:8080");
    put(&publisher, &slice("b", "web", HTTP, &[]));
    assert_eq!(client.holds().await, "");
}

// A rollout that changes the number behind a named port.
#[tokio::test]
async fn a_named_port_that_changes_takes_its_old_endpoints_away() {
    let publisher =
        synced(&(service("web", "10.96.0.1", "http") + &slice("a", "web", HTTP, &["1"])));
    let mut client = Client::of(&publisher, WEB);
    assert_eq!(client.holds().await, "10.1.0.1:8080");
    put(&publisher, &slice("a", "web", "{name: http, port: 9090}", &["1"]));
    assert_eq!(client.holds().await, "10.1.0.1:9090");
    // Both versions at once, as in a rollout, and then the new one alone.
    put(&publisher, &slice("b", "web", HTTP, &["2"]));
    assert_eq!(client.holds().await, "10.1.0.1:9090, 10.1.0.2:8080");
    put(&publisher, &slice("a", "web", "{name: http, port: 9090}", &["1", "2"]));
    delete(&publisher, Kind::EndpointSlice, "b");
    assert_eq!(client.holds().await, "10.1.0.1:9090, 10.1.0.2:9090");
    // The service's port has another name now: no slice serves it.
    put(&publisher, &service("web", "10.96.0.1", "http").replace("name: http", "name: grpc"));
    assert_eq!(client.holds().await, "");
    put(&publisher, &slice("a", "web", "{name: grpc, port: 9090}", &["1"]));
    assert_eq!(client.holds().await, "10.1.0.1:9090");
}

#[tokio::test]
async fn an_external_workload_is_served_with_its_own_identity_while_it_is_ready() {
    let selecting =
        service("web", "10.96.0.1", "http").replace("spec: {", "spec: {selector: {app: web}, ");
    let external = |labels: &str, ready: &str| {
        format!(
            "apiVersion: workload.linkerd.io/v1beta1\nkind: ExternalWorkload\n\
             metadata: {{name: vm-1, labels: {{{labels}}}}}\nspec:\n  meshTLS: {{identity: \
             'spiffe://root.linkerd.cluster.local/vm-1', serverName: vm-1.example}}\n  \
             workloadIPs: [{{ip: 10.1.0.9}}]\n  ports: [{{name: http, port: 8080}}]\n\
             status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}\n---\n"
        )
    };
    let publisher = synced(&(selecting + &external("app: web", "True")));
    let mut client = Client::of(&publisher, WEB);
    assert_eq!(client.holds().await, "10.1.0.9:8080 spiffe://root");
    let (endpoint, _) = client.endpoints.values().next().unwrap().clone();
    assert_eq!(endpoint.tls.unwrap().server_name.as_str(), "vm-1.example");
    assert_eq!(endpoint.inbound_port, NonZeroU16::new(4143));
    let labels: Vec<_> = endpoint.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert!(labels.contains(&"external_workload=vm-1".to_string()), "{labels:?}");
    put(&publisher, &external("app: web", "False"));
    assert_eq!(client.holds().await, "");
    put(&publisher, &external("app: web", "True"));
    assert_eq!(client.holds().await, "10.1.0.9:8080 spiffe://root");
    put(&publisher, &external("app: db", "True"));
    assert_eq!(client.holds().await, "");

    // Its own proxy asks for its policy, and Servers select it by their selector for such.
    let workload = Workload {
        namespace: "default".to_string(),
        kind: crate::api::workload::WorkloadKind::External("vm-1".to_string()),
    };
    let mut policy = publisher.server_policy(&workload, 8080.try_into().unwrap()).unwrap();
    assert_eq!(now(&mut policy).await.unwrap().unwrap().server.kind(), "default");
    put(
        &publisher,
        "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: vms}\n\
         spec: {externalWorkloadSelector: {}, port: http}",
    );
    assert_eq!(now(&mut policy).await.unwrap().unwrap().server.name(), "vms");
}

#[tokio::test]
async fn a_service_profile_is_told_and_withdrawn_the_clients_own_before_the_services() {
    let profile = |namespace: &str, route: &str| {
        format!(
            "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: \
             {{name: web.default.svc.cluster.local, namespace: {namespace}}}\nspec:\n  \
             retryBudget: {{retryRatio: 0.5, minRetriesPerSecond: 3, ttl: 5s}}\n  dstOverrides: \
             [{{authority: v2.default.svc.cluster.local, weight: 500m}}, {{authority: \
             'v1.default.svc.cluster.local:81', weight: 1}}]\n  routes:\n  - name: {route}\n    \
             condition: {{method: GET, pathRegex: '/a/.*'}}\n    isRetryable: true\n    timeout: \
             300ms\n    responseClasses: [{{condition: {{status: {{min: 500, max: 599}}}}, \
             isFailure: true}}]\n  - name: {route}-rest\n    condition: {{pathRegex: '.*'}}\n---\n"
        )
    };
    let publisher = synced(&(service("web", "10.96.0.1", "8080") + &profile("default", "all")));
    let watch = |namespace: &str| {
        let context = ContextToken { namespace: namespace.to_string(), ..ContextToken::default() };
        publisher.profile(&"10.96.0.1:80".parse().unwrap(), &context).unwrap()
    };
    let (mut own, mut other) = (watch("team"), watch(""));
    let first = async |stream: &mut BoxStream<Profile>| now(stream).await.unwrap().unwrap();
    let told = first(&mut own).await;
    insta::assert_debug_snapshot!((&told.routes, &told.retry_budget), @r#"
    (
        [
            ProfileRoute {
                condition: All(
                    [
                        Method(
                            GET,
                        ),
                        Path(
                            //a/.*/,
                        ),
                    ],
                ),
                response_classes: [
                    ResponseClass {
                        condition: Status {
                            min: 500,
                            max: 599,
                        },
                        is_failure: true,
                    },
                ],
                labels: Labels(
                    {
                        "route": "all",
                    },
                ),
                retryable: true,
                timeout: Some(
                    300ms,
                ),
            },
            ProfileRoute {
                condition: Path(
                    /.*/,
                ),
                response_classes: [],
                labels: Labels(
                    {
                        "route": "all-rest",
                    },
                ),
                retryable: false,
                timeout: Some(
                    10s,
                ),
            },
        ],
        Some(
            RetryBudget {
                retry_ratio: Ratio {
                    millionths: 500000,
                },
                min_retries_per_second: 3,
                ttl: 5s,
            },
        ),
    )
    "#);
    let overrides: Vec<_> =
        told.dst_overrides.iter().map(|to| format!("{} {}", to.authority, to.weight)).collect();
    let expected = ["v2.default.svc.cluster.local:80 500", "v1.default.svc.cluster.local:81 1000"];
    assert_eq!(overrides, expected);
    assert_eq!(first(&mut other).await, told);

    put(&publisher, &profile("team", "mine"));
    assert_eq!(first(&mut own).await.routes[0].labels.value("route"), Some("mine"));
    assert!(now(&mut other).await.is_none(), "it is another namespace's");
    let name = |namespace: &str| ObjectRef {
        kind: Kind::ServiceProfile,
        namespace: namespace.to_string(),
        name: "web.default.svc.cluster.local".to_string(),
    };
    publisher.apply(Kind::ServiceProfile, WatchEvent::Delete(name("team")));
    publisher.apply(Kind::ServiceProfile, WatchEvent::Delete(name("default")));
    publisher.refresh();
    let told = first(&mut own).await;
    assert!(told.routes.is_empty() && told.dst_overrides.is_empty() && told.profile.is_none());
}

#[test]
fn questions_that_nobody_asks_leave_no_facts_behind() {
    let publisher = synced(&service("web", "10.96.0.1", "8080"));
    drop(Client::of(&publisher, WEB));
    let question = Question::Endpoints { path: WEB.parse().unwrap() };
    assert!(publisher.state().questions.contains_key(&question));
    put(&publisher, &slice("a", "web", HTTP, &["1"]));
    assert!(publisher.state().questions.is_empty() && publisher.state().by_fact.is_empty());
}
