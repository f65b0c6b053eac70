//! Bytes through two proxies, and protocols in which the server speaks first.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::policies::{
    all_to, anybody, balance, detecting, meshed, meshed_clients, opaque_to, port, transparent,
    unmeshed,
};
use super::world::{APP, PATH, Pair, SERVER, SERVICE, echo, get, ok, read, text};
use crate::model::endpoint::{Endpoint, ProtocolHint};
use crate::model::profile::Profile;
use crate::model::server_policy::ServerProtocol;
use crate::runtime::BoxIo;
use crate::wire::tls::client as tls_client;

/// Greets, then echoes.
async fn greet(mut io: BoxIo) {
    if io.write_all(b"220 ready\r\n").await.is_ok() {
        echo(io).await;
    }
}

async fn ends(io: &mut BoxIo) {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(1), io.read_to_end(&mut rest));
    let _ = ended.await.expect("the connection ends");
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_and_close_by_halves() {
    let mesh = Pair::new().await;
    mesh.world.control.set_client_policy(SERVICE, opaque_to(balance(PATH)));
    mesh.world.keep(mesh.world.listen(APP, echo).await);
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    io.write_all(b"GET / not really HTTP").await.unwrap();
    io.shutdown().await.unwrap();
    let mut all = String::new();
    io.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "GET / not really HTTP");
    let opened = ["outbound_tcp_route_open_total"];
    assert_eq!(mesh.world.metric(&mesh.client, &opened).await, 1.0);
    let meshed = ["tcp_open_total", "peer=\"src\"", "client_id="];
    assert_eq!(mesh.world.metric(&mesh.server, &meshed).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_profiles_word_on_opaqueness_wins() {
    let mesh = Pair::new().await;
    let profile = Profile { opaque: true, ..Profile::default() };
    mesh.world.control.set_profile(SERVICE, profile);
    let opaque = Endpoint { protocol_hint: ProtocolHint::Opaque, ..meshed(APP, SERVER) };
    mesh.world.control.set_endpoints(PATH, vec![opaque]);
    mesh.world.keep(mesh.world.listen(APP, echo).await);
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    let request = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
    // Nobody reads it as HTTP on the way out; on the way in the session has no protocol.
    io.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read(&mut io, request.len()).await, request);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_speaks_first_is_heard_at_once() {
    for endpoint in [meshed(APP, SERVER), transparent(APP, SERVER)] {
        let mesh = Pair::new().await;
        mesh.world.control.set_endpoints(PATH, vec![endpoint]);
        mesh.world.keep(mesh.world.listen(APP, greet).await);
        // What is measured begins with all discovery done.
        mesh.world.sleep(100).await;
        let began = mesh.world.now();
        let mut io = mesh.world.dial(&mesh.client, SERVICE);
        assert_eq!(read(&mut io, 11).await, "220 ready\r\n");
        let took = mesh.world.now().since(began);
        assert!(took <= Duration::from_millis(110), "{took:?}");
        io.write_all(b"EHLO").await.unwrap();
        assert_eq!(read(&mut io, 4).await, "EHLO");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_speaks_first_is_heard_soon_without_a_mesh_on_either_side() {
    let mesh = Pair::new().await;
    // Into the server's proxy from a client without one.
    mesh.world.keep(mesh.world.listen(APP, greet).await);
    let began = mesh.world.now();
    let mut io = mesh.world.dial_from("10.0.0.7", APP).await;
    assert_eq!(read(&mut io, 11).await, "220 ready\r\n");
    // It might have been a proxy whose first packets were lost.
    let took = mesh.world.now().since(began);
    assert!((Duration::from_secs(1)..=Duration::from_millis(1_050)).contains(&took), "{took:?}");
    // Out of the client's proxy to a server without one.
    mesh.world.keep(mesh.world.listen("10.0.0.9:25", greet).await);
    let endpoints = vec![unmeshed("10.0.0.9:25")];
    mesh.world.control.set_endpoints(PATH, endpoints);
    let began = mesh.world.now();
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    assert_eq!(read(&mut io, 11).await, "220 ready\r\n");
    assert!(mesh.world.now().since(began) <= Duration::from_millis(100));
}

/// A proxy of the mesh whose ClientHello was lost at first, on the application's own port.
#[tokio::test(start_paused = true)]
async fn a_meshed_client_that_is_slow_with_its_hello_is_not_greeted_in_the_clear() {
    let mesh = Pair::new().await;
    mesh.world.keep(mesh.world.listen(APP, greet).await);
    let mut io = mesh.world.dial_from("10.0.0.7", APP).await;
    let silent = tokio::time::timeout(Duration::from_millis(950), io.read_u8()).await;
    assert!(silent.is_err(), "{silent:?}");
    let authority = mesh.world.control.authority.lock().unwrap().clone();
    let name = "late.test.serviceaccount.identity.linkerd.cluster.local";
    let credentials = authority.credentials(&mesh.world.runtime, name);
    let Some(server) = meshed(APP, SERVER).tls else { panic!("it has an identity") };
    let session = tls_client::connect(io, &credentials, &server, None).await;
    let mut io = session.expect("the handshake is not disturbed").io;
    assert_eq!(read(&mut io, 11).await, "220 ready\r\n");
}

#[tokio::test(start_paused = true)]
async fn where_the_race_is_off_no_client_is_greeted_in_the_clear() {
    let mesh = Pair::with(&[], &[("WEFT_INBOUND_RACE_SERVER_FIRST", "false")]).await;
    mesh.world.keep(mesh.world.listen(APP, greet).await);
    let mut io = mesh.world.dial_from("10.0.0.7", APP).await;
    let began = mesh.world.now();
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(mesh.world.now().since(began), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_to_speak_http_is_not_held_up_by_the_dial() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app("10.0.0.9:80", |_| ok("hello")).await;
    // HTTP goes to an endpoint, bytes to a backend without any.
    let http = super::policies::http_routes(super::policies::rule(balance(PATH)));
    let policy = super::policies::detect(http, balance("nothing.test:80"));
    mesh.world.control.set_client_policy(SERVICE, policy);
    mesh.world.control.set_endpoints(PATH, vec![unmeshed("10.0.0.9:80")]);
    mesh.world.control.set_endpoints("nothing.test:80", vec![]);
    let io = mesh.world.dial(&mesh.client, SERVICE);
    mesh.world.sleep(200).await;
    let began = mesh.world.now();
    let response = mesh.world.http1_over(io, get("/")).await;
    assert_eq!(text(response).await, "hello");
    let took = mesh.world.now().since(began);
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_of_a_silent_server_is_carried_as_bytes_after_the_timeout() {
    let mesh = Pair::new().await;
    mesh.world.keep(mesh.world.listen(APP, echo).await);
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    mesh.world.sleep(11_000).await;
    io.write_all(b"\x01\x02").await.unwrap();
    assert_eq!(read(&mut io, 2).await, "\x01\x02");
}

#[tokio::test(start_paused = true)]
async fn a_live_connection_ends_when_its_authorization_is_revoked() {
    let mesh = Pair::new().await;
    let control = &mesh.world.control;
    control.set_client_policy(SERVICE, opaque_to(balance(PATH)));
    control.set_server_policy(8080, port(ServerProtocol::Opaque, vec![meshed_clients()]));
    mesh.world.keep(mesh.world.listen(APP, echo).await);
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    io.write_all(b"ping").await.unwrap();
    assert_eq!(read(&mut io, 4).await, "ping");
    // Still allowed, though by another rule.
    control.set_server_policy(8080, port(ServerProtocol::Opaque, vec![anybody()]));
    mesh.world.sleep(10).await;
    io.write_all(b"ping").await.unwrap();
    assert_eq!(read(&mut io, 4).await, "ping");
    control.set_server_policy(8080, port(ServerProtocol::Opaque, vec![]));
    ends(&mut io).await;
    let ended = ["inbound_tcp_authz_terminate_total"];
    assert_eq!(mesh.world.metric(&mesh.server, &ended).await, 1.0);
    // And a new one is not let in.
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    io.write_all(b"ping").await.unwrap();
    ends(&mut io).await;
    let denied = ["inbound_tcp_authz_deny_total"];
    assert_eq!(mesh.world.metric(&mesh.server, &denied).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_may_not_enter_learns_nothing_of_the_server() {
    let mesh = Pair::new().await;
    let control = &mesh.world.control;
    control.set_server_policy(8080, port(detecting(), vec![meshed_clients()]));
    mesh.world.keep(mesh.world.listen(APP, greet).await);
    // The port's policy is known once it was asked for.
    drop(mesh.world.dial_from("10.0.0.7", APP).await);
    mesh.world.sleep(100).await;
    let mut io = mesh.world.dial_from("10.0.0.7", APP).await;
    io.write_all(b"\x01").await.unwrap();
    ends(&mut io).await;
}

#[tokio::test(start_paused = true)]
async fn meshed_traffic_is_never_in_the_clear_even_where_the_server_speaks_first() {
    let mesh = Pair::new().await;
    mesh.world.control.set_endpoints(PATH, vec![transparent(APP, "other.test")]);
    mesh.world.control.set_client_policy(SERVICE, all_to(balance(PATH)));
    mesh.world.keep(mesh.world.listen(APP, greet).await);
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    io.write_all(b"\x01").await.unwrap();
    let mut rest = Vec::new();
    let _ = io.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}
