//! Clients and servers over a network in memory: HTTP/2, TLS and gRPC as they travel.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use http::Uri;
use linkerd2_proxy_api::inbound::inbound_server_policies_client::InboundServerPoliciesClient;
use linkerd2_proxy_api::outbound::outbound_policies_client::OutboundPoliciesClient;
use tokio::sync::mpsc;

use super::channel::Channel;
use super::client::{ApiError, ControlAddress, ControlClient};
use super::codec::Codec;
use super::identity::Certificate;
use super::request::{encode_port, encode_traffic};
use super::server::{Certifier, Discovery, Refusal, grpc_service, identity_service};
use super::workload::{ContextToken, Workload};
use crate::model::client_policy::{
    Backoff, ClientPolicy, ClientProtocol, FailureAccrual, HttpRoutes, OpaqueRoutes, Trip,
};
use crate::model::endpoint::{Endpoint, EndpointUpdate};
use crate::model::labels::Labels;
use crate::model::metadata::Metadata;
use crate::model::profile::Profile;
use crate::model::protocol::HttpVersion;
use crate::model::ratio::Ratio;
use crate::model::server_policy::{ServerPolicy, ServerProtocol};
use crate::model::target::{NameAddr, Target};
use crate::runtime::net::ListenOptions;
use crate::runtime::testing::net::MemoryNet;
use crate::runtime::{BoxFuture, BoxStream, Runtime, TaskGuard};
use crate::time::{Timestamp, WallTime};
use crate::wire::drain::{self, DrainWatch};
use crate::wire::http::Service;
use crate::wire::http::server::{ServerOptions, serve};
use crate::wire::tls::testing::{Authority, runtime as runtime_with_tls, server_tls};
use crate::wire::tls::{self, Credentials};

const WORKLOAD: &str = r#"{"ns":"emojivoto","pod":"web-1"}"#;
const CONTEXT: &str = r#"{"ns":"emojivoto","nodeName":"n1","pod":"web-1"}"#;
const HERE: &str = "127.0.0.1:8086";

/// Answers to one kind of question, in the order they will be given.
struct Answers<T>(Mutex<VecDeque<Result<BoxStream<T>, Refusal>>>);

impl<T: Send + 'static> Answers<T> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    /// The next question is answered with what is sent here.
    fn tell(&self) -> mpsc::Sender<T> {
        let (sender, received) = mpsc::channel(16);
        self.push(Ok(Box::pin(Received(received))));
        sender
    }

    fn push(&self, answer: Result<BoxStream<T>, Refusal>) {
        self.0.lock().unwrap().push_back(answer);
    }

    fn pop(&self) -> Result<BoxStream<T>, Refusal> {
        let told = self.0.lock().unwrap().pop_front();
        told.unwrap_or_else(|| Err(Refusal::Internal("nothing told".into())))
    }
}

struct Received<T>(mpsc::Receiver<T>);

impl<T> Stream for Received<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

/// A control plane that says what it is told to, and remembers what it was asked.
struct Fake {
    client_policies: Answers<ClientPolicy>,
    server_policies: Answers<ServerPolicy>,
    profiles: Answers<Profile>,
    endpoints: Answers<EndpointUpdate>,
    asked: Mutex<Vec<String>>,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            client_policies: Answers::new(),
            server_policies: Answers::new(),
            profiles: Answers::new(),
            endpoints: Answers::new(),
            asked: Mutex::default(),
        })
    }

    fn asked(&self, question: String) {
        self.asked.lock().unwrap().push(question);
    }
}

impl Discovery for Fake {
    fn client_policy(
        &self,
        workload: &Workload,
        target: &Target,
    ) -> Result<BoxStream<ClientPolicy>, Refusal> {
        self.asked(format!("{} to {target}", workload.name()));
        self.client_policies.pop()
    }

    fn server_policy(
        &self,
        workload: &Workload,
        port: NonZeroU16,
    ) -> Result<BoxStream<ServerPolicy>, Refusal> {
        self.asked(format!("{} at {port}", workload.name()));
        self.server_policies.pop()
    }

    fn profile(
        &self,
        path: &NameAddr,
        context: &ContextToken,
    ) -> Result<BoxStream<Profile>, Refusal> {
        self.asked(format!("profile {path} from {}", context.node));
        self.profiles.pop()
    }

    fn endpoints(
        &self,
        path: &NameAddr,
        context: &ContextToken,
    ) -> Result<BoxStream<EndpointUpdate>, Refusal> {
        self.asked(format!("endpoints {path} from {}", context.node));
        self.endpoints.pop()
    }
}

impl Certifier for Fake {
    fn certify(
        &self,
        identity: String,
        token: Vec<u8>,
        csr_der: Vec<u8>,
    ) -> BoxFuture<'static, Result<Certificate, Refusal>> {
        Box::pin(async move {
            if token != b"token" {
                return Err(Refusal::Denied(format!("{identity}: wrong token")));
            }
            Ok(Certificate {
                leaf_der: csr_der,
                intermediates_der: vec![b"issuer".to_vec()],
                valid_until: WallTime::from_unix_secs(1_800_000_000),
            })
        })
    }
}

/// A runtime on a network in memory, and credentials that nobody checks on loopback.
struct World {
    runtime: Runtime,
    net: MemoryNet,
    authority: Authority,
}

impl World {
    fn new() -> Self {
        let net = MemoryNet::default();
        let mut runtime = runtime_with_tls();
        runtime.net = Arc::new(net.clone());
        Self {
            runtime,
            net,
            authority: Authority::new("root"),
        }
    }

    fn client(&self, authority: &str) -> ControlClient {
        self.tls_client(authority, None)
    }

    fn tls_client(&self, authority: &str, server: Option<&str>) -> ControlClient {
        let address = ControlAddress {
            authority: authority.parse().unwrap(),
            tls: server.map(server_tls),
        };
        let credentials = self.authority.credentials(&self.runtime, "web.test");
        ControlClient::new(&self.runtime, address, credentials)
    }

    /// Serves until the guard is dropped, connections and all.
    async fn serve(
        &self,
        at: &str,
        service: Arc<dyn Service>,
        credentials: Option<Credentials>,
    ) -> TaskGuard {
        self.serve_until(at, service, credentials, DrainWatch::never())
            .await
    }

    async fn serve_until(
        &self,
        at: &str,
        service: Arc<dyn Service>,
        credentials: Option<Credentials>,
        drain: DrainWatch,
    ) -> TaskGuard {
        let runtime = self.runtime.clone();
        let at: SocketAddr = at.parse().unwrap();
        let listening = runtime.net.listen(at, ListenOptions::default());
        let listener = listening.await.unwrap();
        self.runtime.spawn_guarded("test server", async move {
            let mut connections = Vec::new();
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = drain.draining() => break,
                    accepted = listener.accept() => accepted.unwrap(),
                };
                let (runtime, service) = (runtime.clone(), service.clone());
                let (credentials, drain) = (credentials.clone(), drain.clone());
                let name = "test connection";
                connections.push(runtime.clone().spawn_guarded(name, async move {
                    let io = match credentials {
                        None => accepted.io,
                        Some(credentials) => {
                            match tls::server::accept(accepted.io, &credentials, &[]).await {
                                Ok(session) => session.io,
                                Err(_) => return,
                            }
                        }
                    };
                    let options = ServerOptions::default();
                    let version = HttpVersion::Http2;
                    let _ = serve(&runtime, io, version, &options, service, drain).await;
                }));
            }
            drop(listener);
            std::future::pending::<()>().await;
        })
    }

    async fn serve_fake(&self, fake: &Arc<Fake>) -> TaskGuard {
        self.serve(HERE, grpc_service(fake.clone(), Some(fake.clone())), None)
            .await
    }
}

fn client_policy(name: &str) -> ClientPolicy {
    ClientPolicy {
        parent: Metadata::new_default(name),
        protocol: ClientProtocol::Opaque(OpaqueRoutes::default()),
    }
}

fn server_policy(name: &str) -> ServerPolicy {
    ServerPolicy {
        server: Metadata::new_default(name),
        protocol: ServerProtocol::Opaque,
        authorizations: Vec::new(),
        labels: Labels::default(),
    }
}

fn profile(name: &str) -> Profile {
    Profile {
        fully_qualified_name: Some(name.to_string()),
        ..Profile::default()
    }
}

fn add(ports: impl IntoIterator<Item = u16>) -> EndpointUpdate {
    let endpoint = |port| Endpoint::new(([10, 0, 0, 1], port).into());
    EndpointUpdate::Add {
        endpoints: ports.into_iter().map(endpoint).collect(),
        labels: Labels::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn all_five_questions_are_answered_and_followed() {
    let (world, fake) = (World::new(), Fake::new());
    let _server = world.serve_fake(&fake).await;
    let client = world.client(HERE);

    let tell = fake.client_policies.tell();
    tell.send(client_policy("a")).await.unwrap();
    let target = Target::Address("10.1.2.3:80".parse().unwrap());
    let mut policies = client.watch_client_policy(WORKLOAD, &target).await.unwrap();
    assert_eq!(policies.next().await, Some(Ok(client_policy("a"))));
    tell.send(client_policy("b")).await.unwrap();
    assert_eq!(policies.next().await, Some(Ok(client_policy("b"))));

    let tell = fake.server_policies.tell();
    tell.send(server_policy("a")).await.unwrap();
    let mut policies = client.watch_server_policy(WORKLOAD, 8080).await.unwrap();
    assert_eq!(policies.next().await, Some(Ok(server_policy("a"))));
    tell.send(server_policy("b")).await.unwrap();
    assert_eq!(policies.next().await, Some(Ok(server_policy("b"))));

    let tell = fake.profiles.tell();
    tell.send(profile("a")).await.unwrap();
    let mut profiles = client.watch_profile("10.1.2.3:80", CONTEXT).await.unwrap();
    assert_eq!(profiles.next().await, Some(Ok(profile("a"))));
    drop(tell);
    assert_eq!(profiles.next().await, None, "the server ended it");
    assert_eq!(profiles.next().await, None);

    let tell = fake.endpoints.tell();
    tell.send(add([1])).await.unwrap();
    let mut updates = client.watch_endpoints("web.ns:80", CONTEXT).await.unwrap();
    assert_eq!(updates.next().await, Some(Ok(add([1]))));
    let gone = EndpointUpdate::NoEndpoints { exists: true };
    tell.send(gone.clone()).await.unwrap();
    assert_eq!(updates.next().await, Some(Ok(gone)));

    let certified = client.certify("web", b"token".to_vec(), b"csr".to_vec());
    let certificate = certified.await.unwrap();
    assert_eq!(certificate.leaf_der, b"csr");
    assert_eq!(
        certificate.valid_until,
        WallTime::from_unix_secs(1_800_000_000)
    );

    assert_eq!(
        *fake.asked.lock().unwrap(),
        [
            "web-1 to 10.1.2.3:80",
            "web-1 at 8080",
            "profile 10.1.2.3:80 from n1",
            "endpoints web.ns:80 from n1",
        ]
    );
    assert_eq!(world.net.dialed().len(), 1, "one connection carries all");
}

#[tokio::test(start_paused = true)]
async fn those_who_do_not_watch_get_the_state_now() {
    let (world, fake) = (World::new(), Fake::new());
    let _server = world.serve_fake(&fake).await;
    let address = world.client(HERE).address().clone();
    let credentials = world.authority.credentials(&world.runtime, "cli.test");
    let channel = Channel::new(&world.runtime, address, credentials);
    let origin = Uri::from_static("http://127.0.0.1:8086");

    let tell = fake.client_policies.tell();
    tell.send(client_policy("a")).await.unwrap();
    let target = Target::Name("web.ns:80".parse().unwrap());
    let policy = OutboundPoliciesClient::with_origin(channel.clone(), origin.clone())
        .get(encode_traffic(WORKLOAD, &target))
        .await
        .unwrap();
    assert_eq!(
        ClientPolicy::decode(policy.into_inner()),
        Ok(client_policy("a"))
    );

    let mut ports = InboundServerPoliciesClient::with_origin(channel, origin);
    let tell = fake.server_policies.tell();
    tell.send(server_policy("a")).await.unwrap();
    let policy = ports.get_port(encode_port(WORKLOAD, 80)).await.unwrap();
    assert_eq!(
        ServerPolicy::decode(policy.into_inner()),
        Ok(server_policy("a"))
    );

    drop(fake.server_policies.tell());
    let ended = ports.get_port(encode_port(WORKLOAD, 80)).await.unwrap_err();
    assert_eq!(ended.code(), tonic::Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn refusals_keep_their_meaning() {
    let (world, fake) = (World::new(), Fake::new());
    let _server = world.serve_fake(&fake).await;
    let client = world.client(HERE);
    let text = || "why".to_string();
    let internal = ApiError::Other {
        code: "Internal".into(),
        message: text(),
    };
    for (refusal, error) in [
        (Refusal::NotFound(text()), ApiError::NotFound(text())),
        (
            Refusal::InvalidArgument(text()),
            ApiError::InvalidArgument(text()),
        ),
        (Refusal::Denied(text()), ApiError::Denied(text())),
        (Refusal::Unavailable(text()), ApiError::Unavailable(text())),
        (Refusal::Internal(text()), internal),
    ] {
        fake.profiles.push(Err(refusal));
        let refused = client.watch_profile("web.ns", "").await;
        assert_eq!(refused.unwrap_err(), error);
    }
    let denied = client.certify("web", b"stolen".to_vec(), Vec::new()).await;
    assert_eq!(
        denied.unwrap_err(),
        ApiError::Denied("web: wrong token".into())
    );
}

#[tokio::test(start_paused = true)]
async fn questions_without_sense_are_refused_before_they_are_asked() {
    let (world, fake) = (World::new(), Fake::new());
    let _server = world.serve_fake(&fake).await;
    let client = world.client(HERE);
    let refused = client.watch_server_policy("nobody", 80).await;
    assert_eq!(
        refused.unwrap_err(),
        ApiError::InvalidArgument(r#"workload: "nobody" is neither JSON nor ns:pod"#.into())
    );
    let refused = client.watch_endpoints("not a name", "").await;
    assert!(matches!(refused, Err(ApiError::InvalidArgument(_))));
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_server_does_not_offer_is_unimplemented() {
    let (world, fake) = (World::new(), Fake::new());
    let discovery = grpc_service(fake.clone(), None);
    let _discovery = world.serve(HERE, discovery, None).await;
    let client = world.client(HERE);
    let refused = client.certify("web", b"token".to_vec(), Vec::new()).await;
    assert!(matches!(refused, Err(ApiError::Unimplemented(_))));

    let identity = identity_service(fake.clone());
    let _identity = world.serve("127.0.0.1:8080", identity, None).await;
    let client = world.client("127.0.0.1:8080");
    let refused = client.watch_profile("web.ns", "").await;
    assert!(matches!(refused, Err(ApiError::Unimplemented(_))));
    let certified = client.certify("web", b"token".to_vec(), b"csr".to_vec());
    assert!(certified.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_is_told_and_does_not_end_the_stream() {
    let (world, fake) = (World::new(), Fake::new());
    let _server = world.serve_fake(&fake).await;
    let tell = fake.client_policies.tell();
    let backwards = Backoff {
        min: Duration::from_secs(2),
        max: Duration::from_secs(1),
        jitter: Ratio::default(),
        respect_retry_after: false,
    };
    let unreadable = ClientPolicy {
        parent: Metadata::new_default("a"),
        protocol: ClientProtocol::Http1(HttpRoutes {
            routes: Vec::new(),
            breaker: Some(FailureAccrual {
                trip: Some(Trip::Consecutive {
                    max_failures: 7,
                    backoff: backwards,
                }),
                min_ready_endpoints: None,
            }),
        }),
    };
    tell.send(unreadable).await.unwrap();
    tell.send(client_policy("b")).await.unwrap();
    let target = Target::Address("10.1.2.3:80".parse().unwrap());
    let client = world.client(HERE);
    let mut policies = client.watch_client_policy(WORKLOAD, &target).await.unwrap();
    let Some(Err(ApiError::Decode(error))) = policies.next().await else {
        panic!("not an error of decoding");
    };
    assert_eq!(
        error.path(),
        "protocol.http1.failure_accrual.consecutive_failures.backoff.max_backoff"
    );
    assert_eq!(policies.next().await, Some(Ok(client_policy("b"))));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_ends_the_answer() {
    let (world, fake) = (World::new(), Fake::new());
    let _server = world.serve_fake(&fake).await;
    let client = world.client(HERE);
    let tell = fake.profiles.tell();
    tell.send(profile("a")).await.unwrap();
    let mut profiles = client.watch_profile("web.ns", "").await.unwrap();
    assert!(profiles.next().await.is_some());
    assert!(!tell.is_closed());
    drop(profiles);
    tell.closed().await;
}

/// Large profiles without end, counted as they are asked for.
struct Flood(Arc<AtomicUsize>);

impl Stream for Flood {
    type Item = Profile;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Profile>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(profile(&"x".repeat(64 * 1024))))
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_asked_for_only_when_the_client_can_take_it() {
    let (world, fake) = (World::new(), Fake::new());
    let _server = world.serve_fake(&fake).await;
    let made = Arc::new(AtomicUsize::new(0));
    fake.profiles.push(Ok(Box::pin(Flood(made.clone()))));
    let client = world.client(HERE);
    let mut profiles = client.watch_profile("web.ns", "").await.unwrap();
    for read in [0, 30] {
        for _ in 0..read {
            assert!(matches!(profiles.next().await, Some(Ok(_))));
        }
        world.runtime.sleep(Duration::from_secs(1)).await;
        let ahead = made.load(Ordering::Relaxed) - read;
        assert!((1..=8).contains(&ahead), "{ahead} made and not read");
    }
}

#[tokio::test(start_paused = true)]
async fn many_endpoints_come_in_messages_that_linkerds_proxies_take() {
    let (world, fake) = (World::new(), Fake::new());
    let _server = world.serve_fake(&fake).await;
    let tell = fake.endpoints.tell();
    tell.send(add(1..=5_000)).await.unwrap();
    tell.send(add([6_000])).await.unwrap();
    let client = world.client(HERE);
    let mut updates = client.watch_endpoints("web.ns", "").await.unwrap();
    for expected in [add(1..=2_000), add(2_001..=4_000), add(4_001..=5_000)] {
        assert_eq!(updates.next().await, Some(Ok(expected)));
    }
    assert_eq!(updates.next().await, Some(Ok(add([6_000]))));
}

#[tokio::test(start_paused = true)]
async fn streams_end_with_their_connection_and_the_next_question_makes_another() {
    let (world, fake) = (World::new(), Fake::new());
    let server = world.serve_fake(&fake).await;
    let client = world.client(HERE);
    let tell = fake.profiles.tell();
    tell.send(profile("a")).await.unwrap();
    let mut profiles = client.watch_profile("web.ns", "").await.unwrap();
    assert_eq!(profiles.next().await, Some(Ok(profile("a"))));

    drop(server);
    assert!(matches!(
        profiles.next().await,
        Some(Err(ApiError::Unavailable(_)))
    ));
    assert_eq!(profiles.next().await, None);
    let refused = client.watch_profile("web.ns", "").await;
    assert!(matches!(refused, Err(ApiError::Unavailable(_))));

    let _server = world.serve_fake(&fake).await;
    let tell = fake.profiles.tell();
    tell.send(profile("b")).await.unwrap();
    let mut profiles = client.watch_profile("web.ns", "").await.unwrap();
    assert_eq!(profiles.next().await, Some(Ok(profile("b"))));
    assert_eq!(world.net.dialed().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drains_keeps_its_streams_while_new_questions_go_elsewhere() {
    let (world, fake) = (World::new(), Fake::new());
    let (signal, drain) = drain::channel();
    let service = grpc_service(fake.clone(), None);
    let draining = world.serve_until(HERE, service, None, drain).await;
    let client = world.client(HERE);
    let tell = fake.profiles.tell();
    tell.send(profile("a")).await.unwrap();
    let mut old = client.watch_profile("web.ns", "").await.unwrap();
    assert_eq!(old.next().await, Some(Ok(profile("a"))));

    signal.start();
    world.runtime.sleep(Duration::from_millis(1)).await;
    let _next = world.serve_fake(&fake).await;
    let asked = fake.profiles.tell();
    let mut new = client.watch_profile("web.ns", "").await.unwrap();
    asked.send(profile("b")).await.unwrap();
    assert_eq!(new.next().await, Some(Ok(profile("b"))));
    tell.send(profile("c")).await.unwrap();
    assert_eq!(old.next().await, Some(Ok(profile("c"))));
    assert_eq!(world.net.dialed().len(), 2);
    drop(draining);
}

#[tokio::test(start_paused = true)]
async fn every_address_of_a_name_is_tried() {
    let (world, fake) = (World::new(), Fake::new());
    let _server = world.serve_fake(&fake).await;
    let addresses = ["127.0.0.2", "127.0.0.1", "127.0.0.3"];
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    world.net.set_name("dst.test", &addresses);
    let mut first_dialed = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let before = world.net.dialed().len();
        let client = world.client("dst.test:8086");
        let _tell = fake.profiles.tell();
        assert!(client.watch_profile("web.ns", "").await.is_ok());
        first_dialed.insert(world.net.dialed()[before]);
    }
    assert_eq!(first_dialed.len(), 3, "the first one is any of them");
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_in_plaintext_to_another_host() {
    let world = World::new();
    world
        .net
        .set_name("dst.test", &["10.0.0.1".parse().unwrap()]);
    for authority in ["10.0.0.1:8086", "dst.test:8086"] {
        let refused = world.client(authority).watch_profile("web.ns", "").await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("not on this host"), "{error}");
    }
    assert!(world.net.dialed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn other_hosts_are_asked_over_mutual_tls_and_must_prove_who_they_are() {
    let (world, fake) = (World::new(), Fake::new());
    world
        .net
        .set_name("dst.test", &["10.0.0.1".parse().unwrap()]);
    let service = grpc_service(fake.clone(), None);
    let credentials = world.authority.credentials(&world.runtime, "dst.id.test");
    let at = "10.0.0.1:8086";
    let _server = world.serve(at, service, Some(credentials)).await;

    let tell = fake.profiles.tell();
    tell.send(profile("a")).await.unwrap();
    let client = world.tls_client("dst.test:8086", Some("dst.id.test"));
    let mut profiles = client.watch_profile("web.ns", "").await.unwrap();
    assert_eq!(profiles.next().await, Some(Ok(profile("a"))));

    let client = world.tls_client("dst.test:8086", Some("other.id.test"));
    let refused = client.watch_profile("web.ns", "").await;
    assert!(matches!(refused, Err(ApiError::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_dead_controller_is_noticed_by_pings() {
    let world = World::new();
    let at = HERE.parse().unwrap();
    let listening = world.runtime.net.listen(at, ListenOptions::default());
    let listener = listening.await.unwrap();
    let client = world.client(HERE);
    let started = world.runtime.now();
    let asked = tokio::spawn(async move { client.watch_profile("web.ns", "").await });
    let _held = listener.accept().await.unwrap();
    let refused = asked.await.unwrap();
    assert!(matches!(refused, Err(ApiError::Unavailable(_))));
    let took = world.runtime.now().since(started);
    let expected = Duration::from_secs(13)..Duration::from_secs(14);
    assert!(expected.contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_delays_the_next_by_three_seconds() {
    let (world, fake) = (World::new(), Fake::new());
    let service = grpc_service(fake.clone(), None);
    let credentials = world.authority.credentials(&world.runtime, "dst.id.test");
    let _server = world.serve("10.0.0.2:1", service, Some(credentials)).await;
    let silent = "10.0.0.1:1".parse().unwrap();
    let _silent = world
        .runtime
        .net
        .listen(silent, ListenOptions::default())
        .await;
    let addresses = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    world.net.set_name("dst.test", &addresses);
    let mut delays = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let _tell = fake.profiles.tell();
        let client = world.tls_client("dst.test:1", Some("dst.id.test"));
        let started = world.runtime.now();
        client.watch_profile("web.ns", "").await.unwrap();
        delays.insert(world.runtime.now().since(started).as_secs());
    }
    assert_eq!(Vec::from_iter(delays), [0, 3]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_shared_and_followed_by_growing_waits() {
    let world = World::new();
    let client = world.client(HERE);
    let mut asked = Vec::new();
    for _ in 0..100 {
        let client = client.clone();
        asked.push(tokio::spawn(async move {
            client.watch_profile("web.ns", "").await.map(drop)
        }));
    }
    for asked in asked {
        let refused = asked.await.unwrap();
        assert!(matches!(refused, Err(ApiError::Unavailable(_))));
    }
    assert_eq!(world.net.dialed().len(), 1, "all waited for one attempt");
    assert_eq!(world.runtime.now(), Timestamp::ZERO);

    let mut waits_millis = Vec::new();
    for _ in 0..8 {
        let before = world.runtime.now();
        assert!(client.watch_profile("web.ns", "").await.is_err());
        waits_millis.push(world.runtime.now().since(before).as_millis());
    }
    let least = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000];
    for (wait, least) in waits_millis.iter().zip(least) {
        let expected = least..=least * 5 / 4 + 1;
        assert!(expected.contains(wait), "{waits_millis:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_goes_on_when_the_one_who_asked_gives_up() {
    let (world, fake) = (World::new(), Fake::new());
    let client = world.client(HERE);
    assert!(client.watch_profile("web.ns", "").await.is_err());
    let _server = world.serve_fake(&fake).await;
    let short = Duration::from_millis(1);
    let asked = client.watch_profile("web.ns", "");
    assert!(world.runtime.timeout(short, asked).await.is_err());
    world.runtime.sleep(Duration::from_secs(1)).await;
    assert_eq!(world.net.dialed().len(), 2);
    let _tell = fake.profiles.tell();
    assert!(client.watch_profile("web.ns", "").await.is_ok());
    assert_eq!(world.net.dialed().len(), 2);
}
