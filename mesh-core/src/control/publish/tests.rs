//! What streams tell and when; bounds; the law that what was published is what compiles.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use proptest::prelude::*;

use super::{Answer, Publisher, Question, compile};
use crate::api::server::{Discovery, Refusal};
use crate::api::workload::{ContextToken, Workload};
use crate::control::config::MeshConfig;
use crate::control::metrics::ControlMetrics;
use crate::control::testing;
use crate::model::client_policy::ClientProtocol;
use crate::model::endpoint::EndpointUpdate;
use crate::model::target::Target;
use crate::resource::{Kind, Object};
use crate::runtime::BoxStream;
use crate::runtime::cluster::WatchEvent;

const WEB: &str = "web.default.svc.cluster.local:80";

fn publisher(questions_max: usize) -> Publisher {
    let metrics = Arc::new(ControlMetrics::default());
    Publisher::new(MeshConfig::default(), questions_max, metrics)
}

pub(super) fn synced(manifest: &str) -> Publisher {
    let publisher = publisher(100);
    sync(&publisher, manifest);
    publisher
}

fn sync(publisher: &Publisher, manifest: &str) {
    for kind in Kind::ALL {
        publisher.apply(*kind, WatchEvent::Init);
        for object in testing::objects(manifest) {
            if object.kind() == *kind {
                publisher.apply(*kind, WatchEvent::InitApply(object));
            }
        }
        publisher.apply(*kind, WatchEvent::InitDone);
    }
    publisher.refresh();
}

fn put(publisher: &Publisher, manifest: &str) {
    for object in testing::objects(manifest) {
        publisher.apply(object.kind(), WatchEvent::Apply(object));
    }
}

fn service(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, annotations: {{{annotations}}}}}\n\
         spec: {{clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}\n---\n"
    )
}

fn workload(name: &str, host: u8, ready: bool) -> String {
    format!(
        "apiVersion: workload.weft.sh/v1alpha1\nkind: Workload\nmetadata: {{name: {name}}}\n\
         spec: {{addresses: [10.0.0.{host}], service: web, ready: {ready}, proxy: {{}}}}\n---\n"
    )
}

fn endpoints(publisher: &Publisher) -> BoxStream<EndpointUpdate> {
    publisher.endpoints(&WEB.parse().unwrap(), &ContextToken::default()).unwrap()
}

/// What a stream has now: `None` where nothing, `Some(None)` where it ended.
pub(super) async fn now<T>(stream: &mut BoxStream<T>) -> Option<Option<T>> {
    poll_fn(|context| match stream.as_mut().poll_next(context) {
        Poll::Ready(item) => Poll::Ready(Some(item)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

pub(super) fn print(update: EndpointUpdate) -> String {
    match update {
        EndpointUpdate::Add { endpoints, .. } => {
            let all: Vec<_> = endpoints.iter().map(|e| e.address.to_string()).collect();
            format!("add {}", all.join(" "))
        }
        EndpointUpdate::Remove(gone) => format!("remove {gone:?}"),
        EndpointUpdate::NoEndpoints { exists } => format!("none, exists={exists}"),
    }
}

#[tokio::test]
async fn a_stream_tells_the_state_and_then_its_changes() {
    let publisher = synced(&(service("") + &workload("a", 1, true)));
    let mut stream = endpoints(&publisher);
    let mut next = async || now(&mut stream).await.map(|update| update.map(print));
    assert_eq!(next().await.unwrap().unwrap(), "add 10.0.0.1:80");
    assert_eq!(next().await, None);

    put(&publisher, &workload("b", 2, true));
    assert_eq!(next().await, None, "nothing is sent before the burst is over");
    put(&publisher, &workload("a", 1, false));
    publisher.refresh();
    assert_eq!(next().await.unwrap().unwrap(), "add 10.0.0.2:80");
    assert_eq!(next().await.unwrap().unwrap(), "remove [10.0.0.1:80]");
    assert_eq!(next().await, None);

    put(&publisher, &workload("b", 2, false));
    publisher.refresh();
    assert_eq!(next().await.unwrap().unwrap(), "none, exists=true");
}

#[tokio::test]
async fn a_client_is_told_how_near_endpoints_are_as_soon_as_its_node_is_known() {
    let slice = "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.1.0.1], zone: east}]
";
    let publisher = synced(&(service("") + slice));
    let context = ContextToken { node: "n1".to_string(), ..ContextToken::default() };
    let mut stream = publisher.endpoints(&WEB.parse().unwrap(), &context).unwrap();
    let mut next = async || match now(&mut stream).await {
        Some(Some(EndpointUpdate::Add { endpoints, .. })) => {
            endpoints[0].labels.value("zone_locality").map(String::from)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(next().await.as_deref(), Some("unknown"));
    for (zone, locality) in [("east", "local"), ("west", "remote")] {
        let labels = format!("{{topology.kubernetes.io/zone: {zone}}}");
        let node =
            format!("apiVersion: v1\nkind: Node\nmetadata: {{name: n1, labels: {labels}}}\n");
        put(&publisher, &node);
        publisher.refresh();
        assert_eq!(next().await.as_deref(), Some(locality));
    }
}

#[tokio::test]
async fn a_slow_client_skips_states_that_it_did_not_take() {
    let publisher = synced(&(service("") + &workload("a", 1, true)));
    let mut stream = endpoints(&publisher);
    now(&mut stream).await;
    for host in 2..50 {
        put(&publisher, &workload("a", host, true));
        publisher.refresh();
    }
    assert_eq!(print(now(&mut stream).await.unwrap().unwrap()), "add 10.0.0.49:80");
    let gone = print(now(&mut stream).await.unwrap().unwrap());
    assert_eq!(gone, "remove [10.0.0.1:80]");
    assert!(now(&mut stream).await.is_none());
}

#[tokio::test]
async fn what_does_not_change_the_answer_is_not_sent() {
    let publisher = synced(&(service("") + &workload("a", 1, true)));
    let mut stream = endpoints(&publisher);
    now(&mut stream).await;
    put(&publisher, &service("note: changed"));
    put(&publisher, "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}");
    put(&publisher, "apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {}");
    publisher.refresh();
    assert!(now(&mut stream).await.is_none());
    assert_eq!(publisher.0.metrics.updates.value(), 0);
}

#[tokio::test]
async fn questions_asked_early_are_answered_once_everything_is_listed() {
    let publisher = publisher(100);
    let mut stream = endpoints(&publisher);
    put(&publisher, &service(""));
    publisher.refresh();
    assert!(now(&mut stream).await.is_none());
    sync(&publisher, &(service("") + &workload("a", 1, true)));
    assert_eq!(print(now(&mut stream).await.unwrap().unwrap()), "add 10.0.0.1:80");
}

#[tokio::test]
async fn a_policy_whose_subject_is_gone_ends_its_stream() {
    let publisher = synced(&workload("a", 1, true));
    let a = Workload::pod("default", "a");
    let port = 80.try_into().unwrap();
    let mut stream = publisher.server_policy(&a, port).unwrap();
    assert!(now(&mut stream).await.unwrap().is_some());
    let name = testing::objects(&workload("a", 1, true))[0].object_ref();
    publisher.apply(Kind::Workload, WatchEvent::Delete(name));
    publisher.refresh();
    assert!(now(&mut stream).await.unwrap().is_none());
    let refused = publisher.server_policy(&a, port).err();
    assert!(matches!(refused, Some(Refusal::NotFound(_))));
    assert!(publisher.state().questions.is_empty());
}

#[tokio::test]
async fn an_address_becomes_a_service_when_the_service_comes() {
    let publisher = synced("");
    let a = Workload::pod("default", "a");
    let target = Target::Address("10.96.0.1:80".parse().unwrap());
    let mut stream = publisher.client_policy(&a, &target).unwrap();
    assert_eq!(now(&mut stream).await.unwrap().unwrap().parent.kind(), "default");
    put(&publisher, &service("config.linkerd.io/opaque-ports: '80'"));
    publisher.refresh();
    let policy = now(&mut stream).await.unwrap().unwrap();
    assert_eq!(policy.parent.name(), "web");
    assert!(matches!(policy.protocol, ClientProtocol::Opaque(_)));
}

#[tokio::test]
async fn streams_are_bounded_and_those_nobody_reads_any_more_make_room() {
    let publisher = publisher(2);
    sync(&publisher, &service(""));
    let first = endpoints(&publisher);
    // The same question has the same answer, however many ask it.
    let second = endpoints(&publisher);
    assert_eq!(publisher.state().questions.len(), 1);
    assert_eq!(publisher.0.metrics.streams.value(), 2);
    let profile = |path: &str| publisher.profile(&path.parse().unwrap(), &ContextToken::default());
    assert!(matches!(profile(WEB).err(), Some(Refusal::Unavailable(_))));
    drop((first, second));
    for port in 1..100 {
        assert!(profile(&format!("10.0.0.1:{port}")).is_ok());
        assert!(publisher.state().questions.len() <= 2);
    }
    assert_eq!(publisher.0.metrics.streams.value(), 0);
}

#[tokio::test]
async fn a_drain_ends_streams_and_takes_no_more() {
    let publisher = synced(&service(""));
    let mut stream = endpoints(&publisher);
    now(&mut stream).await;
    publisher.drain();
    assert!(now(&mut stream).await.unwrap().is_none());
    let refused = publisher.profile(&WEB.parse().unwrap(), &ContextToken::default());
    assert!(matches!(refused.err(), Some(Refusal::Unavailable(_))));
}

fn any_manifest() -> impl Strategy<Value = String> {
    let opaque = prop::sample::select(vec!["", "config.linkerd.io/opaque-ports: '80'"]);
    let name = prop::sample::select(vec!["a", "b"]);
    prop_oneof![
        opaque.clone().prop_map(service),
        (name, 1..4_u8, any::<bool>()).prop_map(|(name, host, ready)| workload(name, host, ready)),
        opaque.prop_map(|opaque| format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: default, annotations: {{{opaque}}}}}"
        )),
        prop::sample::select(vec!["opaque", "HTTP/1"]).prop_map(|protocol| format!(
            "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{name: s}}\n\
             spec: {{podSelector: {{}}, port: 80, proxyProtocol: {protocol}}}"
        )),
        Just(
            "apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\n\
             metadata: {name: p}\nspec: {targetRef: {group: policy.linkerd.io, kind: Server, \
             name: s}, requiredAuthenticationRefs: []}"
                .to_string()
        ),
    ]
}

fn questions() -> Vec<Question> {
    let addresses = ["10.96.0.1:80", "10.0.0.1:80", "10.0.0.2:80"];
    let mut all: Vec<_> = addresses
        .iter()
        .map(|address| Question::ClientPolicy {
            namespace: "default".to_string(),
            target: Target::Address(address.parse().unwrap()),
        })
        .collect();
    all.extend(addresses.iter().map(|address| Question::Profile {
        namespace: "default".to_string(),
        path: address.parse().unwrap(),
    }));
    all.push(Question::Endpoints { path: WEB.parse().unwrap() });
    all.extend(
        ["a", "b"].map(|name| Question::ServerPolicy {
            workload: Workload::pod("default", name),
            port: 80,
        }),
    );
    all
}

proptest! {
    #[test]
    fn what_was_published_last_is_what_the_index_compiles_to(
        steps in prop::collection::vec((any_manifest(), any::<bool>(), any::<bool>()), 1..30),
    ) {
        let publisher = synced("");
        let mut followed = BTreeMap::new();
        for (manifest, is_delete, is_burst) in steps {
            // Asked at any time, and again where the answer was that there is none.
            for question in questions() {
                if let Ok(answers) = publisher.follow(question.clone()) {
                    followed.entry(question).or_insert(answers);
                }
            }
            let object: Object = testing::objects(&manifest).remove(0);
            let kind = object.kind();
            publisher.apply(kind, match is_delete {
                true => WatchEvent::Delete(object.object_ref()),
                false => WatchEvent::Apply(object),
            });
            if is_burst {
                continue;
            }
            publisher.refresh();
            let state = publisher.state();
            followed.retain(|question, answers| {
                let (compiled, _) = compile(&state.index, &publisher.0.mesh, question);
                let published = answers.borrow().clone();
                assert_eq!(published, compiled, "{question:?}");
                !matches!(published, Answer::Gone(_))
            });
        }
    }
}
