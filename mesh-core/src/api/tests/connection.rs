//! How the one connection is made, kept and made again.

use super::world::{Fake, HERE, World, profile};
use crate::api::client::ApiError;
use crate::api::server::grpc_service;
use crate::runtime::net::ListenOptions;
use crate::time::Timestamp;
use crate::wire::drain::{self};
use std::net::IpAddr;
use std::time::Duration;

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
    assert!(matches!(profiles.next().await, Some(Err(ApiError::Unavailable(_)))));
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
    world.net.set_name("dst.test", &["10.0.0.1".parse().unwrap()]);
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
    world.net.set_name("dst.test", &["10.0.0.1".parse().unwrap()]);
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
    let _silent = world.runtime.net.listen(silent, ListenOptions::default()).await;
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
        asked.push(tokio::spawn(async move { client.watch_profile("web.ns", "").await.map(drop) }));
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
