//! What is asked and what is answered.

use super::world::{
    CONTEXT, Fake, HERE, WORKLOAD, World, add, client_policy, profile, server_policy,
};
use crate::api::channel::Channel;
use crate::api::client::ApiError;
use crate::api::codec::Codec;
use crate::api::request::{encode_port, encode_traffic};
use crate::api::server::{Refusal, grpc_service, identity_service};
use crate::model::client_policy::{
    Backoff, ClientPolicy, ClientProtocol, FailureAccrual, HttpRoutes, Trip,
};
use crate::model::endpoint::EndpointUpdate;
use crate::model::metadata::Metadata;
use crate::model::profile::Profile;
use crate::model::ratio::Ratio;
use crate::model::server_policy::ServerPolicy;
use crate::model::target::Target;
use crate::time::WallTime;
use futures_core::Stream;
use http::Uri;
use linkerd2_proxy_api::inbound::inbound_server_policies_client::InboundServerPoliciesClient;
use linkerd2_proxy_api::outbound::outbound_policies_client::OutboundPoliciesClient;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

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
    assert_eq!(certificate.valid_until, WallTime::from_unix_secs(1_800_000_000));

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
    let channel = Channel::new(&world.runtime, address, credentials, None);
    let origin = Uri::from_static("http://127.0.0.1:8086");

    let tell = fake.client_policies.tell();
    tell.send(client_policy("a")).await.unwrap();
    let target = Target::Name("web.ns:80".parse().unwrap());
    let policy = OutboundPoliciesClient::with_origin(channel.clone(), origin.clone())
        .get(encode_traffic(WORKLOAD, &target))
        .await
        .unwrap();
    assert_eq!(ClientPolicy::decode(policy.into_inner()), Ok(client_policy("a")));

    let mut ports = InboundServerPoliciesClient::with_origin(channel, origin);
    let tell = fake.server_policies.tell();
    tell.send(server_policy("a")).await.unwrap();
    let policy = ports.get_port(encode_port(WORKLOAD, 80)).await.unwrap();
    assert_eq!(ServerPolicy::decode(policy.into_inner()), Ok(server_policy("a")));

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
    let internal = ApiError::Other { code: "Internal".into(), message: text() };
    for (refusal, error) in [
        (Refusal::NotFound(text()), ApiError::NotFound(text())),
        (Refusal::InvalidArgument(text()), ApiError::InvalidArgument(text())),
        (Refusal::Denied(text()), ApiError::Denied(text())),
        (Refusal::Unavailable(text()), ApiError::Unavailable(text())),
        (Refusal::Internal(text()), internal),
    ] {
        fake.profiles.push(Err(refusal));
        let refused = client.watch_profile("web.ns", "").await;
        assert_eq!(refused.unwrap_err(), error);
    }
    let denied = client.certify("web", b"stolen".to_vec(), Vec::new()).await;
    assert_eq!(denied.unwrap_err(), ApiError::Denied("web: wrong token".into()));
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
                trip: Some(Trip::Consecutive { max_failures: 7, backoff: backwards }),
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
