//! What is written to an API server, and asked of it beside objects.

use std::time::Duration;

use http::{Method, StatusCode};
use mesh_core::resource::{Kind, ObjectRef};
use mesh_core::runtime::Cluster;
use mesh_core::runtime::cluster::{ClusterError, Event, Lease, Secret, WebhookKind};
use mesh_core::time::WallTime;
use runtime_real::kube::{ApiClient, KubeOptions};
use runtime_sim::cluster::TokenSpec;
use serde_json::{Value, json};

use super::front::Front;
use super::watching::{QUICK, Watching, cluster, object};

const LEASE: &str = "policy-controller-write";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/linkerd/leases";

fn lease(holder: &str) -> Lease {
    Lease {
        holder: holder.to_owned(),
        duration: Duration::from_secs(30),
        acquired: WallTime::from_unix_secs(1_700_000_000),
        renewed: WallTime::since_unix_epoch(Duration::from_micros(1_700_000_000_000_250)),
        ..Lease::default()
    }
}

#[tokio::test]
async fn a_lease_goes_from_one_control_plane_to_another() {
    let front = Front::start().await;
    let one = cluster(&front.kubeconfig(), QUICK).await;
    let two = cluster(&front.kubeconfig(), QUICK).await;
    assert_eq!(one.lease(LEASE).await, Ok(None));
    let made = one.write_lease(LEASE, lease("one")).await.expect("there was none");
    assert_eq!(Lease { version: None, ..made.clone() }, lease("one"));
    let refused = two.write_lease(LEASE, lease("two")).await;
    assert!(matches!(refused, Err(ClusterError::Conflict(_))), "{refused:?}");

    // What others wrote on it stays.
    front.keep(&format!("{LEASES}/{LEASE}"), {
        let mut kept = front.kept(&format!("{LEASES}/{LEASE}")).expect("made");
        kept["metadata"]["labels"] = json!({ "linkerd.io/control-plane-component": "destination" });
        kept
    });
    let seen = two.lease(LEASE).await.expect("read").expect("there");
    let empty = one.write_lease(LEASE, Lease { version: seen.version.clone(), ..lease("") }).await;
    let given_back = empty.expect("of the version that was read");
    assert_eq!(given_back.holder, "");
    let late = two.write_lease(LEASE, Lease { version: seen.version, ..lease("two") }).await;
    assert!(matches!(late, Err(ClusterError::Conflict(_))), "{late:?}");
    let taken = Lease { version: given_back.version, transitions: 1, ..lease("two") };
    two.write_lease(LEASE, taken).await.expect("of the latest version");
    let kept = front.kept(&format!("{LEASES}/{LEASE}")).expect("there");
    assert_eq!(kept["spec"]["holderIdentity"], "two");
    assert_eq!(kept["spec"]["leaseTransitions"], 1);
    assert!(kept["metadata"]["labels"].is_object(), "{kept}");
}

#[tokio::test]
async fn tokens_are_reviewed_for_their_audience_or_as_the_api_servers_own() {
    let front = Front::start().await;
    let cluster = cluster(&front.kubeconfig(), QUICK).await;
    let issue = |audience: &str| {
        front.server.issue(TokenSpec {
            namespace: "shop".to_owned(),
            account: "web".to_owned(),
            audience: audience.to_owned(),
            pod: Some("web-0".to_owned()),
            expires: None,
        })
    };
    let review = cluster.review_token(&issue("identity.l5d.io"), "identity.l5d.io").await;
    let review = review.expect("valid");
    assert_eq!(review.username, "system:serviceaccount:shop:web");
    assert_eq!(review.extra["authentication.kubernetes.io/pod-name"], ["web-0"]);
    let own = issue("https://kubernetes.default.svc.cluster.local");
    assert!(cluster.review_token(&own, "identity.l5d.io").await.is_ok());
    let foreign = cluster.review_token(&issue("vault"), "identity.l5d.io").await;
    assert!(matches!(foreign, Err(ClusterError::Denied(_))), "{foreign:?}");
}

#[tokio::test]
async fn a_status_is_written_where_nobody_wrote_before_and_nothing_else_is() {
    let front = Front::start().await;
    front.server.apply(object(
        "{apiVersion: policy.linkerd.io/v1alpha1, kind: HTTPLocalRateLimitPolicy, metadata: {name: \
         limit, namespace: shop}, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: \
         web}, total: {requestsPerSecond: 10}}}",
    ));
    let cluster = cluster(&front.kubeconfig(), QUICK).await;
    let name = ObjectRef {
        kind: Kind::HTTPLocalRateLimitPolicy,
        namespace: "shop".to_owned(),
        name: "limit".to_owned(),
    };
    let mut object = front.server.find(&name).expect("there");
    object.set_policy_status(
        serde_json::from_value(json!({ "conditions": [{
        "type": "Accepted", "status": "True", "reason": "", "message": "", "lastTransitionTime":
        "2026-01-01T00:00:00Z" }] }))
        .expect("a status"),
    );
    cluster.write_status(object.clone()).await.expect("of the latest version");
    let written = front.server.find(&name).expect("there");
    assert_eq!(written.policy_status(), object.policy_status());
    let late = cluster.write_status(object.clone()).await;
    assert!(matches!(late, Err(ClusterError::Conflict(_))), "{late:?}");
    front.server.delete(&name);
    let gone = cluster.write_status(object).await;
    assert!(matches!(gone, Err(ClusterError::NotFound(_))), "{gone:?}");
}

#[tokio::test]
async fn a_secret_is_made_once_and_replaced_whole() {
    let front = Front::start().await;
    let cluster = cluster(&front.kubeconfig(), QUICK).await;
    let write = |secret| cluster.write_secret("linkerd", "tls", secret);
    assert_eq!(cluster.secret("linkerd", "tls").await, Ok(None));
    let secret = |files: &[(&str, &str)], version: Option<String>| Secret {
        version,
        kind: "kubernetes.io/tls".to_owned(),
        data: files
            .iter()
            .map(|(name, text)| (name.to_string(), text.as_bytes().to_vec()))
            .collect(),
    };
    let made =
        write(secret(&[("tls.crt", "a"), ("old", "x")], None)).await.expect("none was there");
    let again = write(secret(&[("tls.crt", "b")], None)).await;
    assert!(matches!(again, Err(ClusterError::Conflict(_))), "{again:?}");
    let replaced = write(secret(&[("tls.crt", "b")], made.version.clone())).await.expect("known");
    let late = write(secret(&[("tls.crt", "c")], made.version)).await;
    assert!(matches!(late, Err(ClusterError::Conflict(_))), "{late:?}");
    let found = cluster.secret("linkerd", "tls").await.expect("read").expect("there");
    assert_eq!(found, replaced);
    assert_eq!(found.data.keys().collect::<Vec<_>>(), ["tls.crt"]);
}

#[tokio::test]
async fn a_ca_bundle_is_set_in_every_webhook_and_written_only_where_it_differs() {
    let front = Front::start().await;
    let cluster = cluster(&front.kubeconfig(), QUICK).await;
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/injector";
    let set = || cluster.write_ca_bundle(WebhookKind::Mutating, "injector", "PEM");
    assert!(matches!(set().await, Err(ClusterError::NotFound(_))));
    front.keep(
        path,
        json!({ "metadata": { "name": "injector" }, "webhooks": [
        { "name": "a", "clientConfig": { "service": { "name": "x" } } },
        { "name": "b", "clientConfig": { "caBundle": "T0xE" } },
    ] }),
    );
    set().await.expect("there");
    let kept = front.kept(path).expect("there");
    for webhook in kept["webhooks"].as_array().expect("webhooks") {
        assert_eq!(webhook["clientConfig"]["caBundle"], "UEVN");
    }
    assert_eq!(kept["webhooks"][0]["clientConfig"]["service"]["name"], "x");
    set().await.expect("nothing to do");
    assert_eq!(front.requests("PATCH ").len(), 1);
}

#[tokio::test]
async fn an_event_that_happens_again_is_counted() {
    let front = Front::start().await;
    let cluster = cluster(&front.kubeconfig(), QUICK).await;
    let event = Event {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: None,
        is_warning: false,
        reason: "Injected".to_owned(),
        message: "Linkerd sidecar proxy injected".to_owned(),
        component: "linkerd-proxy-injector".to_owned(),
    };
    for _ in 0..3 {
        cluster.record_event(event.clone()).await.expect("recorded");
    }
    cluster.record_event(Event { reason: "Other".to_owned(), ..event }).await.expect("recorded");
    let kept = front.kept_below("/api/v1/namespaces/shop/events/");
    let mut counts: Vec<_> =
        kept.iter().map(|event| (event["reason"].as_str(), event["count"].as_u64())).collect();
    counts.sort();
    assert_eq!(counts, [(Some("Injected"), Some(3)), (Some("Other"), Some(1))]);
    assert_eq!(kept[0]["involvedObject"]["name"], "web");
}

#[tokio::test]
async fn a_server_that_is_away_is_told_of_in_time() {
    let mut front = Front::start().await;
    let cluster = cluster(&front.kubeconfig(), QUICK).await;
    front.down().await;
    let lease = cluster.lease(LEASE).await;
    assert!(matches!(lease, Err(ClusterError::Unavailable(_))), "{lease:?}");
}

#[tokio::test]
async fn what_is_made_applied_and_removed_over_the_api_is_watched() {
    let front = Front::start().await;
    let kubeconfig = Some(front.kubeconfig());
    let client = ApiClient::open(&KubeOptions { kubeconfig, ..KubeOptions::default() }).await;
    let client = client.expect("a kubeconfig");
    let call = async |method: Method, path: &str, form: &str, body: Value| {
        let path = format!("/api/v1/namespaces/shop/{path}");
        let answer = client.call(method, &path, form, body.to_string().into_bytes()).await;
        answer.map(|json| serde_json::from_slice::<Value>(&json).expect("JSON"))
    };
    const JSON: &str = "application/json";
    const APPLY: &str = "application/apply-patch+yaml";
    let service = |port: u16| {
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": { "ports": [{ "port": port }] } })
    };
    let mut watching = Watching::of(&cluster(&front.kubeconfig(), QUICK).await, Kind::Service);
    assert_eq!(watching.take(2).await, ["init", "done"]);

    let made = call(Method::POST, "services", JSON, service(80)).await.expect("made");
    assert_eq!(watching.next().await, "apply web");
    let again = call(Method::POST, "services", JSON, service(80)).await.expect_err("it exists");
    assert_eq!(again.status, Some(StatusCode::CONFLICT));
    let manager = "services/web?fieldManager=tests";
    let applied = call(Method::PATCH, manager, APPLY, service(81)).await.expect("applied");
    assert_eq!(applied["spec"]["ports"], json!([{ "port": 81 }]));
    assert_eq!(watching.next().await, "apply web");
    let late = call(Method::PUT, "services/web", JSON, made).await.expect_err("of an old version");
    assert_eq!(late.status, Some(StatusCode::CONFLICT));
    call(Method::DELETE, "services/web", JSON, Value::Null).await.expect("removed");
    assert_eq!(watching.next().await, "delete web");

    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "web" } });
    call(Method::POST, "serviceaccounts", JSON, account).await.expect("made");
    let request = json!({ "spec": { "audiences": ["identity.l5d.io"] } });
    let issued = call(Method::POST, "serviceaccounts/web/token", JSON, request).await;
    let issued = issued.expect("issued");
    let token = issued["status"]["token"].as_str().expect("a token");
    let cluster = cluster(&front.kubeconfig(), QUICK).await;
    let review = cluster.review_token(token, "identity.l5d.io").await.expect("valid");
    assert_eq!(review.username, "system:serviceaccount:shop:web");
}
