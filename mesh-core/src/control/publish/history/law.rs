//! The law of every history: what a subscriber was sent, folded, is what a new one would be sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::EnvVar;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use proptest::prelude::*;

use super::super::Publisher;
use super::super::tests::{now, synced};
use super::{HTTP, WEB, fold, pod, service, slice};
use crate::api::server::Discovery;
use crate::api::workload::{ContextToken, Workload};
use crate::control::testing;
use crate::model::client_policy::ClientPolicy;
use crate::model::endpoint::{Endpoint, EndpointUpdate};
use crate::model::labels::Labels;
use crate::model::profile::Profile;
use crate::model::server_policy::ServerPolicy;
use crate::model::target::Target;
use crate::resource::Object;
use crate::runtime::BoxStream;
use crate::runtime::cluster::WatchEvent;

fn any_manifest() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b"]);
    let of = || prop::sample::select(vec!["web", "db"]);
    let hosts = prop::sample::subsequence(vec!["1/a", "2/b", "3"], 0..=3);
    let port = prop::sample::select(vec![HTTP, "{name: http, port: 9090}", "{name: x, port: 1}"]);
    let account = prop::sample::select(vec!["red", "blue"]);
    prop_oneof![
        (of(), prop::sample::select(vec!["10.96.0.1", "10.96.0.2"]))
            .prop_map(|(name, ip)| service(name, ip, "http")),
        (name(), of(), port, hosts)
            .prop_map(|(name, service, port, hosts)| slice(name, service, port, &hosts)),
        (name(), 1..4_u8, account).prop_map(|(name, host, account)| pod(name, host, account)),
        (name(), of(), prop::sample::select(vec!["web", "db"]), 80..82_u16).prop_map(
            |(name, parent, to, port)| format!(
                "apiVersion: policy.linkerd.io/v1beta3\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
                 spec:\n  parentRefs: [{{group: core, kind: Service, name: {parent}}}, {{group: \
                 policy.linkerd.io, kind: Server, name: s}}]\n  rules: [{{backendRefs: [{{name: \
                 {to}, port: {port}}}]}}]"
            )
        ),
        (name(), prop::sample::select(vec!["unknown", "opaque", "HTTP/1"])).prop_map(
            |(_, protocol)| format!(
                "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{name: s}}\n\
                 spec: {{podSelector: {{}}, port: 8080, proxyProtocol: {protocol}}}"
            )
        ),
        name().prop_map(|route| format!(
            "apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: \
             p}}\nspec: {{targetRef: {{group: policy.linkerd.io, kind: HTTPRoute, name: {route}}}, \
             requiredAuthenticationRefs: [{{kind: ServiceAccount, name: red}}]}}"
        )),
        prop::sample::select(vec!["x", "y"]).prop_map(|route| format!(
            "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {{name: \
             web.default.svc.cluster.local}}\nspec: {{routes: [{{name: {route}, condition: \
             {{method: GET}}}}]}}"
        )),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Apply(String),
    Delete(String),
    Relist(Vec<String>),
    /// Changes are told.
    Refresh,
    /// Subscribers take what there is: until then they skip states.
    Take,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any_manifest().prop_map(Step::Apply),
        3 => any_manifest().prop_map(Step::Delete),
        1 => prop::collection::vec(any_manifest(), 1..4).prop_map(Step::Relist),
        4 => Just(Step::Refresh),
        2 => Just(Step::Take),
    ]
}

/// One subscription of each kind, and what it holds.
#[derive(Default)]
struct Held {
    endpoints: BTreeMap<SocketAddr, (Endpoint, Labels)>,
    profile: Option<Profile>,
    client_policy: Option<ClientPolicy>,
    server_policy: Option<ServerPolicy>,
}

struct Subscriber {
    endpoints: BoxStream<EndpointUpdate>,
    profile: BoxStream<Profile>,
    client_policy: BoxStream<ClientPolicy>,
    /// Ends with its pod; then it is asked for again.
    server_policy: Option<BoxStream<ServerPolicy>>,
    held: Held,
}

impl Subscriber {
    fn new(publisher: &Publisher) -> Self {
        let context = ContextToken { namespace: "default".to_string(), ..ContextToken::default() };
        let address: SocketAddr = "10.96.0.1:80".parse().unwrap();
        let workload = Workload::pod("default", "a");
        Self {
            endpoints: publisher.endpoints(&WEB.parse().unwrap(), &context).unwrap(),
            profile: publisher.profile(&address.into(), &context).unwrap(),
            client_policy: publisher.client_policy(&workload, &Target::Address(address)).unwrap(),
            server_policy: None,
            held: Held::default(),
        }
    }

    async fn take(&mut self, publisher: &Publisher) {
        let held = &mut self.held;
        while let Some(update) = now(&mut self.endpoints).await {
            fold(&mut held.endpoints, update.expect("it does not end"));
        }
        while let Some(profile) = now(&mut self.profile).await {
            held.profile = Some(profile.expect("it does not end"));
        }
        while let Some(policy) = now(&mut self.client_policy).await {
            held.client_policy = Some(policy.expect("it does not end"));
        }
        loop {
            let Some(stream) = &mut self.server_policy else {
                let workload = Workload::pod("default", "a");
                let port = 8080.try_into().unwrap();
                self.server_policy = publisher.server_policy(&workload, port).ok();
                if self.server_policy.is_none() {
                    break;
                }
                continue;
            };
            match now(stream).await {
                Some(Some(policy)) => held.server_policy = Some(policy),
                Some(None) => (self.server_policy, held.server_policy) = (None, None),
                None => break,
            }
        }
    }
}

fn apply(publisher: &Publisher, step: &Step) {
    match step {
        Step::Apply(manifest) => {
            let object = testing::objects(manifest).remove(0);
            publisher.apply(object.kind(), WatchEvent::Apply(object));
        }
        Step::Delete(manifest) => {
            let object = testing::objects(manifest).remove(0);
            publisher.apply(object.kind(), WatchEvent::Delete(object.object_ref()));
        }
        Step::Relist(manifests) => {
            let objects: Vec<_> =
                manifests.iter().map(|text| testing::objects(text).remove(0)).collect();
            let kind = objects[0].kind();
            publisher.apply(kind, WatchEvent::Init);
            for object in objects.into_iter().filter(|object| object.kind() == kind) {
                publisher.apply(kind, WatchEvent::InitApply(object));
            }
            publisher.apply(kind, WatchEvent::InitDone);
        }
        Step::Refresh => publisher.refresh(),
        Step::Take => {}
    }
}

/// What a cluster adds to objects, and the mesh never reads.
fn with_noise(mut object: Object, noise: u8) -> Object {
    let meta = object.meta_mut();
    let text = noise.to_string();
    meta.resource_version = Some(text.clone());
    meta.managed_fields = Some(vec![ManagedFieldsEntry::default()]);
    let last_applied = "kubectl.kubernetes.io/last-applied-configuration".to_string();
    meta.annotations.get_or_insert_default().insert(last_applied, text.clone());
    match &mut object {
        Object::Pod(pod) => {
            let pod = Arc::make_mut(pod);
            let spec = pod.spec.get_or_insert_default();
            spec.priority = Some(i32::from(noise));
            for container in &mut spec.containers {
                container.image = Some(text.clone());
                container.env = Some(vec![EnvVar { name: text.clone(), ..EnvVar::default() }]);
            }
            pod.status.get_or_insert_default().message = Some(text);
        }
        Object::Service(service) => {
            let spec = Arc::make_mut(service).spec.get_or_insert_default();
            spec.health_check_node_port = Some(i32::from(noise));
        }
        _ => {}
    }
    object
}

proptest! {
    /// What is not read makes no difference, and is not kept.
    #[test]
    fn projected_objects_compile_to_the_same_as_whole_ones(
        manifests in prop::collection::vec((any_manifest(), any::<u8>()), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (whole, projected) = (synced(""), synced(""));
            for (manifest, noise) in &manifests {
                let object = testing::whole_objects(manifest).remove(0);
                let mut cut = object.clone();
                cut.project();
                let object = with_noise(object, *noise);
                let mut of_noise = object.clone();
                of_noise.project();
                if !object.kind().has_status() {
                    assert_eq!(of_noise, cut);
                }
                let mut twice = of_noise.clone();
                twice.project();
                assert_eq!(twice, of_noise);
                whole.apply(object.kind(), WatchEvent::Apply(object));
                projected.apply(of_noise.kind(), WatchEvent::Apply(of_noise));
            }
            whole.refresh();
            projected.refresh();
            let (mut of_whole, mut of_projected) =
                (Subscriber::new(&whole), Subscriber::new(&projected));
            of_whole.take(&whole).await;
            of_projected.take(&projected).await;
            assert_eq!(of_whole.held.endpoints, of_projected.held.endpoints);
            assert_eq!(of_whole.held.profile, of_projected.held.profile);
            assert_eq!(of_whole.held.client_policy, of_projected.held.client_policy);
            assert_eq!(of_whole.held.server_policy, of_projected.held.server_policy);
        });
    }

    #[test]
    fn what_a_subscriber_was_sent_is_what_a_new_one_would_be_sent(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let publisher = synced("");
            let mut old = Subscriber::new(&publisher);
            for step in &steps {
                apply(&publisher, step);
                if matches!(step, Step::Take) {
                    old.take(&publisher).await;
                }
            }
            publisher.refresh();
            old.take(&publisher).await;
            // Its own questions, so that nothing of the first subscriber's is shared.
            publisher.state().questions.clear();
            publisher.state().by_fact.clear();
            let mut new = Subscriber::new(&publisher);
            new.take(&publisher).await;
            assert_eq!(old.held.endpoints, new.held.endpoints);
            assert_eq!(old.held.profile, new.held.profile);
            assert_eq!(old.held.client_policy, new.held.client_policy);
            assert_eq!(old.held.server_policy, new.held.server_policy);
        });
    }
}
