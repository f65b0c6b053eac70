//! Outages of the control plane, certificates, trust anchors, and the end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::policies::{balance, opaque_to, unmeshed};
use super::world::{
    APP, CLIENT, PATH, Pair, SERVER, SERVICE, World, all, at, echo, get2, ok, read, read_head, text,
};
use crate::wire::http::Response;
use crate::wire::tls::testing::Authority;

const A: &str = "10.0.0.8:80";
const B: &str = "10.0.0.9:80";

#[tokio::test(start_paused = true)]
async fn traffic_goes_on_without_a_control_plane_and_state_is_made_good_after() {
    let mesh = Pair::new().await;
    let a = mesh.world.app(A, |_| takes_a_second()).await;
    let b = mesh.world.app(B, |_| takes_a_second()).await;
    let control = &mesh.world.control;
    control.set_endpoints(PATH, vec![unmeshed(A), unmeshed(B)]);
    assert_eq!(mesh.get("/").await.status(), 200);
    mesh.world.control_goes().await;
    for _ in 0..40 {
        mesh.world.sleep(1_000).await;
        let statuses = all((0..4).map(async |_: u64| mesh.get("/").await.status())).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
    assert!(a.count() > 50 && b.count() > 50);
    // B leaves while nobody can tell.
    control.set_endpoints(PATH, vec![unmeshed(A)]);
    mesh.world.control_comes().await;
    mesh.world.sleep(15_000).await;
    let before = b.count();
    for _ in 0..40 {
        assert_eq!(mesh.get("/").await.status(), 200);
    }
    assert_eq!(b.count(), before);
    // And news are heard again.
    control.set_endpoints(PATH, vec![unmeshed(B)]);
    mesh.world.sleep(10).await;
    assert_eq!(mesh.get("/").await.status(), 200);
    assert_eq!(b.count(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_one_stream_said_outlives_its_outage_whatever_others_say() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(A, |_| ok("hello")).await;
    let control = &mesh.world.control;
    control.set_endpoints(PATH, vec![unmeshed(A)]);
    assert_eq!(mesh.get("/").await.status(), 200);
    let question = format!("endpoints {PATH}");
    control.cut(&question, true);
    // Long idle, while another destination's streams are alive and say something.
    for _ in 0..30 {
        control.set_client_policy("10.96.0.9:80", opaque_to(balance("other.test:80")));
        mesh.world.http2(&mesh.client, "10.96.0.9:80").await;
        mesh.world.sleep(1_000).await;
    }
    assert_eq!(mesh.get("/").await.status(), 200);
    assert_eq!(app.count(), 2);
    // Heard again, it goes with the rest.
    control.cut(&question, false);
    mesh.world.sleep(60_000).await;
    assert_eq!(control.open(&question), 0);
}

#[tokio::test(start_paused = true)]
async fn a_destination_first_asked_for_in_an_outage_is_served_when_it_ends() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    mesh.world.control_goes().await;
    let request = mesh.get("/");
    let comes = async {
        mesh.world.sleep(2_000).await;
        mesh.world.control_comes().await;
    };
    let (response, ()) = tokio::join!(request, comes);
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn certificates_are_renewed_at_70_percent_and_connections_live_on() {
    let world = World::new().await;
    *world.control.certificate_lifetime.lock().unwrap() = Duration::from_secs(100);
    let mesh = Pair::on(world, &[], &[]).await;
    mesh.world.control.set_client_policy(SERVICE, opaque_to(balance(PATH)));
    mesh.world.keep(mesh.world.listen(APP, echo).await);
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    let certified = || mesh.world.control.certified.load(Ordering::Relaxed);
    assert_eq!(certified(), 2);
    mesh.world.sleep(69_000).await;
    assert_eq!(certified(), 2);
    mesh.world.sleep(2_000).await;
    assert_eq!(certified(), 4);
    mesh.world.sleep(250_000).await;
    assert_eq!(certified(), 10);
    // The connection of the first certificates, and a new one.
    for _ in 0..2 {
        io.write_all(b"ping").await.unwrap();
        assert_eq!(read(&mut io, 4).await, "ping");
        io = mesh.world.dial(&mesh.client, SERVICE);
    }
    let renewals = ["identity_cert_refreshes_total", "ok"];
    assert_eq!(mesh.world.metric(&mesh.client, &renewals).await, 5.0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_keeps_the_certificate_and_is_tried_again() {
    let world = World::new().await;
    *world.control.certificate_lifetime.lock().unwrap() = Duration::from_secs(100);
    let mesh = Pair::on(world, &[], &[]).await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    assert_eq!(mesh.get("/").await.status(), 200);
    mesh.world.control_goes().await;
    mesh.world.sleep(80_000).await;
    assert_eq!(mesh.get("/").await.status(), 200);
    assert!(
        mesh.world.metric(&mesh.client, &["identity_cert_refreshes_total", "error"]).await > 0.0
    );
    mesh.world.control_comes().await;
    mesh.world.sleep(15_000).await;
    assert_eq!(mesh.world.control.certified.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn trust_anchors_are_read_again_when_their_file_changes() {
    let world = World::new().await;
    let old = world.control.authority.lock().unwrap().pem().to_string();
    let new = Authority::new("new root");
    let both = format!("{old}{}", new.pem());
    world.files.put("/anchors", &old);
    // The client is certified by the old root, the server by the new.
    let file = [("WEFT_IDENTITY_TRUST_ANCHORS_FILE", "/anchors")];
    let client = world.proxy("10.0.0.1", CLIENT, &file).await;
    *world.control.authority.lock().unwrap() = std::sync::Arc::new(new);
    let anchors = [("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", both.as_str())];
    let server = world.proxy("10.0.0.2", SERVER, &anchors).await;
    let mesh = Pair::of(world, client, server);
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    assert_eq!(mesh.get("/").await.status(), 502);
    mesh.world.files.put("/anchors", "no certificate");
    mesh.world.sleep(10).await;
    assert_eq!(mesh.get("/").await.status(), 502);
    mesh.world.files.put("/anchors", &both);
    mesh.world.sleep(10_000).await;
    assert_eq!(mesh.get("/").await.status(), 200);
}

async fn takes_a_second() -> Response {
    tokio::time::sleep(Duration::from_secs(1)).await;
    ok("hello").await
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_in_flight_and_takes_nothing_new() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| takes_a_second()).await;
    let idle = mesh.world.http2(&mesh.client, SERVICE).await;
    let busy = mesh.world.http2(&mesh.client, SERVICE).await;
    let mut http1 = mesh.world.dial(&mesh.client, SERVICE);
    http1.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    let mut request = get2("http://web/");
    let response = busy.send(&mut request);
    let drain = async {
        mesh.world.sleep(100).await;
        mesh.client.drain.start();
        mesh.world.sleep(1).await;
        assert!(idle.is_closed());
    };
    let (response, ()) = tokio::join!(response, drain);
    let response = response.unwrap();
    assert_eq!(text(response).await, "hello");
    let head = read_head(&mut http1).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(read(&mut http1, 5).await, "hello");
    assert!(http1.read_u8().await.is_err());
    busy.closed().await;
    let began = mesh.world.now();
    mesh.client.end.await.unwrap().unwrap();
    assert!(mesh.world.now().since(began) < Duration::from_secs(5));
    let again =
        mesh.world.wires.net.dial(mesh.client.host, mesh.client.outbound, Some(at(SERVICE)));
    assert!(again.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_servers_drain_fails_no_request() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| takes_a_second()).await;
    let _other = mesh.world.app(A, |_| takes_a_second()).await;
    let request = async |nth: u64| {
        mesh.world.sleep(nth * 20).await;
        mesh.get("/").await.status().as_u16()
    };
    let drain = async {
        mesh.world.sleep(500).await;
        let control = &mesh.world.control;
        control.set_endpoints(PATH, vec![unmeshed(A)]);
        mesh.world.sleep(10).await;
        mesh.server.drain.start();
    };
    let (statuses, ()) = tokio::join!(all((0..50).map(request)), drain);
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    mesh.server.end.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_grace_period_ends_a_drain() {
    let grace = [("LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD", "5s")];
    let mesh = Pair::with(&grace, &[]).await;
    mesh.world.control.set_client_policy(SERVICE, opaque_to(balance(PATH)));
    mesh.world.keep(mesh.world.listen(APP, echo).await);
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    io.write_all(b"ping").await.unwrap();
    assert_eq!(read(&mut io, 4).await, "ping");
    let began = mesh.world.now();
    mesh.client.drain.start();
    mesh.world.sleep(4_000).await;
    io.write_all(b"ping").await.unwrap();
    assert_eq!(read(&mut io, 4).await, "ping");
    mesh.client.end.await.unwrap().unwrap();
    assert_eq!(mesh.world.now().since(began).as_millis() / 100, 50);
}

#[tokio::test(start_paused = true)]
async fn a_drain_before_the_first_certificate_ends_at_once() {
    let world = World::new().await;
    world.control_goes().await;
    let proxy = world.proxy("10.0.0.1", CLIENT, &[]).await;
    assert_eq!(world.admin(&proxy, "/ready").await.0, 503);
    assert_eq!(world.admin(&proxy, "/live").await.0, 200);
    world.control_comes().await;
    world.sleep(30_000).await;
    assert_eq!(world.admin(&proxy, "/ready").await.0, 200);

    world.control_goes().await;
    let proxy = world.proxy("10.0.0.3", CLIENT, &[]).await;
    proxy.drain.start();
    proxy.end.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_is_told_at_once() {
    let world = World::new().await;
    let first = world.proxy("10.0.0.1", CLIENT, &[]).await;
    let second = world.proxy("10.0.0.1", CLIENT, &[]).await;
    let error = second.end.await.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on 10.0.0.1:4140 (outbound)"), "{error}");
    assert_eq!(world.admin(&first, "/ready").await.0, 200);
}
