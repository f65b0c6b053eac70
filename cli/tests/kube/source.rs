//! Lists and watches of a real client.

use mesh_core::resource::{Kind, ObjectRef};
use runtime_real::kube::Patience;
use runtime_sim::cluster::ApiFault;
use serde_json::json;

use super::front::Front;
use super::watching::{QUICK, Watching, cluster, object, objects};

fn space(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")
}

fn service(name: &str, port: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{ports: [{{port: {port}}}]}}}}"
    )
}

fn name(kind: Kind, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() }
}

#[tokio::test]
async fn a_list_comes_in_pages_and_its_changes_after_it() {
    let front = Front::start().await;
    for number in 0..5 {
        front.server.apply(object(&space(&format!("s{number}"))));
    }
    front.set_page_max(2);
    let mut watching = Watching::of(&cluster(&front.kubeconfig(), QUICK).await, Kind::Namespace);
    let listed = watching.take(7).await;
    assert_eq!(listed, ["init", "has s0", "has s1", "has s2", "has s3", "has s4", "done"]);
    assert_eq!(front.requests("GET /api/v1/namespaces?limit=500").len(), 3);

    front.server.apply(object(&space("s9")));
    assert_eq!(watching.next().await, "apply s9");
    front.server.delete(&name(Kind::Namespace, "", "s0"));
    assert_eq!(watching.next().await, "delete s0");
}

#[tokio::test]
async fn a_list_whose_pages_expire_begins_again() {
    let front = Front::start().await;
    for number in 0..3 {
        front.server.apply(object(&service(&format!("s{number}"), 80)));
    }
    front.set_page_max(2);
    let cluster = cluster(&front.kubeconfig(), QUICK).await;
    // The pages are forgotten as soon as the first has been asked for.
    let forgetting = async {
        front
            .until("the first page", |front| !front.requests("GET /api/v1/services").is_empty())
            .await;
        front.expire_pages();
        front.set_page_max(10);
    };
    let mut watching = Watching::of(&cluster, Kind::Service);
    let reading = async {
        let mut seen = Vec::new();
        while seen.last().map(String::as_str) != Some("done") {
            seen.push(watching.next_event().await);
        }
        seen
    };
    let (seen, ()) = tokio::join!(reading, forgetting);
    let last = seen.iter().rposition(|item| item == "init").expect("a list");
    assert_eq!(seen[last..], ["init", "has s0", "has s1", "has s2", "done"]);
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_where_it_was() {
    let mut front = Front::start().await;
    front.server.apply(object(&service("web", 80)));
    let mut watching = Watching::of(&cluster(&front.kubeconfig(), QUICK).await, Kind::Service);
    assert_eq!(watching.take(3).await, ["init", "has web", "done"]);
    front.cut();
    front.server.apply(object(&service("api", 80)));
    assert_eq!(watching.next_event().await, "apply api");
    assert_eq!(front.requests("GET /api/v1/services?limit").len(), 1, "it need not list again");

    front.down().await;
    let told = watching.next().await;
    assert!(told.starts_with("cluster unavailable: watch Service: "), "{told}");
    front.server.delete(&name(Kind::Service, "shop", "web"));
    front.up().await;
    assert_eq!(watching.next_event().await, "delete web");
}

#[tokio::test]
async fn a_bookmark_keeps_the_place_of_a_kind_that_does_not_change() {
    let front = Front::start().await;
    front.server.apply(object(&service("web", 80)));
    let mut watching = Watching::of(&cluster(&front.kubeconfig(), QUICK).await, Kind::Service);
    assert_eq!(watching.take(3).await, ["init", "has web", "done"]);
    let watches = "GET /api/v1/services?watch=true";
    front.until("a watch", |front| front.requests(watches).len() == 1).await;
    for number in 0..10 {
        front.server.apply(object(&space(&format!("s{number}"))));
    }
    assert!(watching.is_silent().await, "a bookmark is nothing to tell");
    front.server.disconnect(None);
    front.until("another watch", |front| front.requests(watches).len() == 2).await;
    let resumed = &front.requests(watches)[1];
    assert!(resumed.contains("resourceVersion=11&"), "{resumed}");
}

#[tokio::test]
async fn a_forgotten_history_is_listed_again() {
    let front = Front::start().await;
    front.server.apply(object(&service("web", 80)));
    front.server.apply(object(&service("api", 80)));
    let mut watching = Watching::of(&cluster(&front.kubeconfig(), QUICK).await, Kind::Service);
    assert_eq!(watching.take(4).await, ["init", "has api", "has web", "done"]);
    front.server.delete(&name(Kind::Service, "shop", "web"));
    assert_eq!(watching.next_event().await, "delete web");
    front.lose_history(&object(&service("more", 80)));
    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(watching.next_event().await);
    }
    assert_eq!(events, ["init", "has api", "has more", "done"]);
}

#[tokio::test]
async fn a_list_older_than_what_was_told_is_refused_until_the_server_is_known_to_have_gone_back() {
    let front = Front::start().await;
    let patience = Patience { older: std::time::Duration::from_millis(300), ..QUICK };
    front.server.apply(object(&service("web", 80)));
    let mut watching = Watching::of(&cluster(&front.kubeconfig(), patience).await, Kind::Service);
    assert_eq!(watching.take(3).await, ["init", "has web", "done"]);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    front.server.delete(&name(Kind::Service, "shop", "web"));
    assert_eq!(watching.next().await, "delete web");
    front.server.set_fault(None, ApiFault::Stale(std::time::Duration::from_millis(20)));
    front.lose_history(&object(&service("api", 80)));
    let mut told = watching.next().await;
    while !told.contains("behind") {
        told = watching.next().await;
    }
    assert!(told.contains("its list is of version 1, and 2 was seen already"), "{told}");
    // As from a backup: it does not come to its senses.
    assert_eq!(watching.take(3).await, ["init", "has web", "done"]);
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_empty_until_it_is() {
    let front = Front::start().await;
    front.remove("httproutes.gateway.networking.k8s.io");
    let mut watching = Watching::of(&cluster(&front.kubeconfig(), QUICK).await, Kind::HTTPRoute);
    assert_eq!(watching.take(2).await, ["init", "done"]);
    front.server.apply(object(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, \
         namespace: shop}, spec: {parentRefs: [{name: web, kind: Service, group: core, port: 80}]}}",
    ));
    assert!(watching.is_silent().await, "told once");
    front.restore("httproutes.gateway.networking.k8s.io");
    assert_eq!(watching.take(3).await, ["init", "has r", "done"]);
}

#[tokio::test]
async fn the_newest_version_that_is_served_is_read() {
    let front = Front::start().await;
    for version in ["v1beta3", "v1beta2"] {
        front.remove(&format!("policy.linkerd.io/{version}/servers"));
    }
    front.server.apply(object(
        "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: web, namespace: \
         shop}, spec: {podSelector: {}, port: 80}}",
    ));
    let mut watching = Watching::of(&cluster(&front.kubeconfig(), QUICK).await, Kind::Server);
    assert_eq!(watching.take(3).await, ["init", "has web", "done"]);
    let watches = "GET /apis/policy.linkerd.io/v1beta1/servers?watch=true";
    front.until("a watch of it", |front| !front.requests(watches).is_empty()).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_what_it_was_stays() {
    let front = Front::start().await;
    let server = |name: &str, port: u16| {
        object(&format!(
            "{{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {{name: {name}, \
             namespace: shop}}, spec: {{podSelector: {{}}, port: {port}}}}}"
        ))
    };
    front.server.apply(server("api", 80));
    front.server.apply(server("web", 80));
    let mut watching = Watching::of(&cluster(&front.kubeconfig(), QUICK).await, Kind::Server);
    assert_eq!(watching.take(4).await, ["init", "has api", "has web", "done"]);
    let api = name(Kind::Server, "shop", "api");
    front.overlay(api.clone(), Some(json!({ "spec": { "port": { "number": 80 } } })));
    front.server.apply(server("api", 81));
    let told = watching.next().await;
    assert!(told.starts_with("Server/shop/api: spec.port: "), "{told}");
    front.server.apply(server("web", 81));
    assert_eq!(watching.next().await, "apply web");

    // A list has it still.
    front.lose_history(&server("more", 80));
    let mut listed = Vec::new();
    while listed.last().map(String::as_str) != Some("done") {
        listed.push(watching.next_event().await);
    }
    assert!(listed[1].starts_with("Server/shop/api: spec.port: "), "{listed:?}");
    assert_eq!(listed[2..], ["has api", "has more", "has web", "done"]);
    front.overlay(api, None);
    front.server.apply(server("api", 82));
    assert_eq!(watching.next_event().await, "apply api");
}

#[tokio::test]
async fn a_change_of_what_the_mesh_does_not_read_is_no_change() {
    let front = Front::start().await;
    let pod = |phase: &str, message: &str| {
        object(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop}}, spec: \
             {{containers: [{{name: app, image: x}}]}}, status: {{phase: {phase}, message: {message}}}}}"
        ))
    };
    front.server.apply(pod("Running", "a"));
    let mut watching = Watching::of(&cluster(&front.kubeconfig(), QUICK).await, Kind::Pod);
    assert_eq!(watching.take(3).await, ["init", "has web", "done"]);
    front.server.apply(pod("Running", "b"));
    assert!(watching.is_silent().await);
    front.server.apply(pod("Failed", "b"));
    assert_eq!(watching.next().await, "apply web");
}

#[tokio::test]
async fn only_metadata_is_asked_for_where_no_more_is_read() {
    let front = Front::start().await;
    for object in objects(
        "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web-1, namespace: shop, \
         ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: u, controller: \
         true}]}, spec: {replicas: 3, selector: {}}}",
    ) {
        front.server.apply(object);
    }
    let cluster = cluster(&front.kubeconfig(), QUICK).await;
    let mut watching = Watching::of(&cluster, Kind::ReplicaSet);
    assert_eq!(watching.take(3).await, ["init", "has web-1", "done"]);
}

#[tokio::test]
async fn what_is_not_allowed_is_told_with_the_right_that_is_missing() {
    let front = Front::start().await;
    front.server.set_fault(None, ApiFault::Forbidden);
    let cluster = cluster(&front.kubeconfig(), QUICK).await;
    let mut watching = Watching::of(&cluster, Kind::Server);
    let told = watching.next().await;
    assert!(told.starts_with("denied: list Server: "), "{told}");
    assert!(told.ends_with("let its role get, list and watch servers.policy.linkerd.io"), "{told}");
    front.server.clear_faults(None);
    assert_eq!(watching.take(2).await, ["init", "done"]);
}

#[tokio::test]
async fn credentials_that_are_not_known_are_told_of() {
    let front = Front::start().await;
    let cluster = cluster(&front.kubeconfig_with("wrong"), QUICK).await;
    let told = Watching::of(&cluster, Kind::Service).next().await;
    assert!(told.contains("does not know the credentials"), "{told}");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_spoken_to() {
    let (front, other) = (Front::start().await, Front::start().await);
    let config = std::fs::read_to_string(front.kubeconfig()).expect("a file");
    let (ours, others) = (front.port().to_string(), other.port().to_string());
    let mixed = front.kubeconfig().with_file_name("mixed");
    std::fs::write(&mixed, config.replace(&ours, &others)).expect("to write");
    let told = Watching::of(&cluster(&mixed, QUICK).await, Kind::Service).next().await;
    assert!(told.contains("certificate"), "{told}");
    assert_eq!(other.requests("").len(), 0);
}
