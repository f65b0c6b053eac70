//! Taps through both proxies: who may, what is told, and what is not.

use std::time::Duration;

use http::HeaderValue;

use super::policies::{all_to, forward, transparent};
use super::world::{APP, CLIENT, Pair, SERVER, SERVICE, at, get, get2, ip, ok, text};
use crate::api::{Message as _, tap as api};
use crate::model::tap::{
    Direction, End, Event, HeaderMatch, HttpMatch, Label, Match, Observe, StringMatch, TcpMatch,
    What,
};
use crate::wire::grpc::{self, Messages};
use crate::wire::http::client::Http2Connection;
use crate::wire::http::{Body, Request, Response};
use crate::wire::tls;
use crate::wire::tls::testing::server_tls;

const VIZ: &str = "viz.test.serviceaccount.identity.linkerd.cluster.local";

/// What a proxy needs to be tapped.
fn tappable(host: &'static str) -> Vec<(&'static str, &'static str)> {
    let listen = match host {
        "10.0.0.1" => "10.0.0.1:4190",
        _ => "10.0.0.2:4190",
    };
    vec![("LINKERD2_PROXY_CONTROL_LISTEN_ADDR", listen), ("LINKERD2_PROXY_TAP_SVC_NAME", VIZ)]
}

async fn tapped() -> Pair {
    Pair::with(&tappable("10.0.0.1"), &tappable("10.0.0.2")).await
}

/// A connection to a proxy's control port, by a client of this name.
async fn connect(mesh: &Pair, name: &str, port: &str, server: &str) -> Http2Connection {
    let world = &mesh.world;
    let authority = world.control.authority.lock().unwrap().clone();
    let credentials = authority.credentials(&world.runtime, name);
    let io = world.dial_listener("10.0.0.9", port);
    let tls = tls::client::connect(io, &credentials, &server_tls(server), None).await.unwrap();
    world.http2_over(tls.io).await
}

fn everything() -> Observe {
    Observe {
        limit: 100,
        matches: Match::All(Vec::new()),
        extract_headers: false,
        headers: Vec::new(),
        bodies: false,
        per_second: 0,
    }
}

struct Tap(Messages);

impl Tap {
    async fn of(mesh: &Pair, port: &str, server: &str, observe: &Observe) -> Self {
        let response = ask(mesh, VIZ, port, server, observe).await;
        assert_eq!(grpc::status(response.headers()), None);
        assert_eq!(response.headers()["weft-tap"], "1");
        Self(Messages::new(response.into_body(), 1 << 20))
    }

    async fn at_client(mesh: &Pair, observe: &Observe) -> Self {
        Self::of(mesh, "10.0.0.1:4190", CLIENT, observe).await
    }

    async fn at_server(mesh: &Pair, observe: &Observe) -> Self {
        Self::of(mesh, "10.0.0.2:4190", SERVER, observe).await
    }

    async fn next(&mut self) -> Event {
        Event::from_bytes(&self.0.next().await.unwrap().unwrap()).unwrap()
    }

    /// The path of the next request that is told of.
    async fn next_path(&mut self) -> String {
        loop {
            if let Some(What::RequestInit { path, .. }) = self.next().await.what {
                return path;
            }
        }
    }
}

async fn ask(mesh: &Pair, name: &str, port: &str, server: &str, observe: &Observe) -> Response {
    let connection = connect(mesh, name, port, server).await;
    // The connection lives as long as what is read from it.
    connection.send(&mut api::call(port, observe).unwrap()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn both_proxies_tell_of_a_request_from_its_head_to_its_end() {
    let mesh = tapped().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut out = Tap::at_client(&mesh, &everything()).await;
    let mut within = Tap::at_server(&mesh, &everything()).await;
    assert_eq!(text(mesh.get("/a?secret=1").await).await, "hello");

    for (tap, direction) in [(&mut out, Direction::Outbound), (&mut within, Direction::Inbound)] {
        let events = [tap.next().await, tap.next().await, tap.next().await];
        assert!(events.iter().all(|event| event.direction == direction && event.lost == 0));
        assert!(events.iter().all(|event| event.destination == Some(at(APP))));
        assert_eq!(events[0].source.unwrap().ip(), ip("10.0.0.1"));
        let ids: Vec<_> = events.iter().map(|event| event.what.as_ref().unwrap().id()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]));
        let What::RequestInit { method, authority, path, scheme, headers, .. } =
            events[0].what.clone().unwrap()
        else {
            panic!("{:?}", events[0]);
        };
        assert_eq!((method.as_str(), authority.as_str(), path.as_str()), ("GET", "web", "/a"));
        assert_eq!((scheme, headers), (None, Vec::new()));
        assert!(matches!(events[1].what, Some(What::ResponseInit { status: 200, .. })));
        let Some(What::ResponseEnd { bytes, end, since_response, .. }) = &events[2].what else {
            panic!("{:?}", events[2]);
        };
        assert_eq!((*bytes, *end, since_response.is_some()), (5, None, true));
        let label = |labels: &crate::model::labels::Labels, name: &str| {
            labels.value(name).unwrap_or_default().to_string()
        };
        let (source, destination) = (&events[0].source_labels, &events[0].destination_labels);
        let tls = [label(source, "tls"), label(destination, "tls")];
        let ids = [label(source, "client_id"), label(destination, "server_id")];
        match direction {
            Direction::Outbound => {
                assert_eq!(tls, ["loopback", "true"]);
                assert_eq!(ids, ["", SERVER]);
            }
            _ => {
                assert_eq!(tls, ["true", ""]);
                assert_eq!(ids, [CLIENT, ""]);
            }
        }
        assert!(events[0].route_labels.value("route").is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_tap_services_identity_may_tap() {
    let mesh = tapped().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    for name in [CLIENT, SERVER, "viz.other.serviceaccount.identity.linkerd.cluster.local"] {
        let response = ask(&mesh, name, "10.0.0.2:4190", SERVER, &everything()).await;
        let (status, message) = grpc::status(response.headers()).unwrap();
        assert_eq!(status, grpc::PERMISSION_DENIED);
        assert_eq!(message, format!("only {VIZ} may tap here"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_tap_service_may_ask_through_the_sidecar_beside_it() {
    let mesh = tapped().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let beside = mesh.world.proxy("10.0.0.3", VIZ, &[]).await;
    let port = "10.0.0.2:4190";
    mesh.world.control.set_client_policy(port, all_to(forward(transparent(port, SERVER))));
    let connection = mesh.world.http2(&beside, port).await;
    let required = |identity: &str| {
        let mut call = api::call(port, &everything()).unwrap();
        call.headers_mut().insert("l5d-require-id", identity.parse().unwrap());
        call
    };
    let response = connection.send(&mut required(SERVER)).await.unwrap();
    assert_eq!(grpc::status(response.headers()), None);
    let mut tap = Tap(Messages::new(response.into_body(), 1 << 20));
    mesh.get("/a").await;
    assert_eq!(tap.next_path().await, "/a");

    let response = connection.send(&mut required(CLIENT)).await.unwrap();
    assert!(grpc::status(response.headers()).is_some_and(|(status, _)| status != grpc::OK));
}

#[tokio::test(start_paused = true)]
async fn plaintext_is_closed_without_an_answer() {
    let mesh = tapped().await;
    let io = mesh.world.dial_listener("10.0.0.9", "10.0.0.2:4190");
    let connection = mesh.world.http2_over(io).await;
    let mut call = api::call("10.0.0.2:4190", &everything()).unwrap();
    assert!(connection.send(&mut call).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn without_a_tap_service_nothing_listens() {
    let listen = [("LINKERD2_PROXY_CONTROL_LISTEN_ADDR", "10.0.0.2:4190")];
    let mesh = Pair::with(&[], &listen).await;
    assert!(mesh.world.wires.net.dial(ip("10.0.0.9"), at("10.0.0.2:4190"), None).is_err());
}

#[tokio::test(start_paused = true)]
async fn only_what_matches_is_told() {
    let mesh = tapped().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let path = |prefix: &str| Match::Http(HttpMatch::Path(StringMatch::Prefix(prefix.into())));
    let label = Label { key: "pod".into(), value: "none-has-this".into() };
    let matches = Match::All(vec![
        path("/api"),
        Match::Not(Box::new(path("/api/secret"))),
        Match::Not(Box::new(Match::DestinationLabel(label))),
        Match::Destination(TcpMatch::Ports { min: 8080, max: 8080 }),
    ]);
    let mut tap = Tap::at_client(&mesh, &Observe { matches, ..everything() }).await;
    for path in ["/", "/api/secret", "/api/one", "/other", "/api/two"] {
        mesh.get(path).await;
    }
    assert_eq!(tap.next_path().await, "/api/one");
    assert_eq!(tap.next_path().await, "/api/two");
}

#[tokio::test(start_paused = true)]
async fn headers_are_matched_and_secret_ones_neither_shown_nor_matched() {
    let mesh = tapped().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let wanted = |name: &str| HeaderMatch {
        name: name.parse().unwrap(),
        value: StringMatch::Exact("7".into()),
    };
    let observe =
        Observe { headers: vec![wanted("x-user")], extract_headers: true, ..everything() };
    let mut tap = Tap::at_server(&mesh, &observe).await;
    let with = |user: &str| {
        let mut request = get(&format!("/{user}"));
        request.headers_mut().insert("x-user", user.parse().unwrap());
        request.headers_mut().insert("authorization", "Bearer mine".parse().unwrap());
        request
    };
    for user in ["6", "7"] {
        mesh.world.http1(&mesh.client, SERVICE, with(user)).await;
    }
    let event = tap.next().await;
    let Some(What::RequestInit { path, headers, .. }) = event.what else { panic!("{event:?}") };
    assert_eq!(path, "/7");
    let value = |name: &str| {
        let found = headers.iter().find(|(told, _)| told == name);
        found.map(|(_, value)| String::from_utf8(value.clone()).unwrap())
    };
    assert_eq!(value("x-user").as_deref(), Some("7"));
    assert_eq!(value(":path").as_deref(), Some("/7"));
    assert_eq!(value("authorization").as_deref(), Some("***"));
    assert_eq!(value("l5d-client-id").as_deref(), Some(CLIENT));

    let observe = Observe { headers: vec![wanted("cookie")], ..everything() };
    let response = ask(&mesh, VIZ, "10.0.0.2:4190", SERVER, &observe).await;
    let (status, message) = grpc::status(response.headers()).unwrap();
    assert_eq!(status, grpc::INVALID_ARGUMENT);
    assert_eq!(message, "header cookie is redacted here, so it cannot be matched");
}

fn post(content_type: &str, body: &'static str) -> Request {
    let request = http::Request::post("/").header("host", "web");
    request.header("content-type", content_type).body(Body::full(body)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn bodies_are_told_where_that_is_permitted_cut_and_without_their_secrets() {
    let mut server = tappable("10.0.0.2");
    server.push(("WEFT_TAP_BODY_BYTES", "40"));
    let mesh = Pair::with(&tappable("10.0.0.1"), &server).await;
    let answer = |_| async {
        let mut response = Response::new(Body::full(r#"{"ok":true,"token":"t"}"#));
        let json = "application/json".parse().unwrap();
        response.headers_mut().insert("content-type", json);
        response
    };
    let _app = mesh.world.app(APP, answer).await;
    let observe = Observe { bodies: true, ..everything() };
    let mut permitted = Tap::at_server(&mesh, &observe).await;
    let mut not = Tap::at_client(&mesh, &observe).await;
    let body = r#"{"password":"hunter2","comment":"a long one indeed"}"#;
    for content_type in ["application/json", "image/png"] {
        let response = mesh.world.http1(&mesh.client, SERVICE, post(content_type, body)).await;
        assert_eq!(text(response).await, r#"{"ok":true,"token":"t"}"#);
        let mut told = Vec::new();
        for tap in [&mut permitted, &mut not] {
            tap.next().await;
            tap.next().await;
            let event = tap.next().await;
            let Some(What::ResponseEnd { request_body, response_body, .. }) = event.what else {
                panic!("{event:?}");
            };
            let text = |body: crate::model::tap::Captured| {
                (String::from_utf8(body.data).unwrap(), body.truncated)
            };
            told.push((request_body.map(text), response_body.map(text)));
        }
        let response = (r#"{"ok":true,"token":***}"#.to_string(), false);
        let request = (r#"{"password":***,"comment":"a long "#.to_string(), true);
        let request = (content_type == "application/json").then_some(request);
        assert_eq!(told, [(request, Some(response)), (None, None)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tap_ends_with_the_last_request_of_its_limit() {
    let mesh = tapped().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut tap = Tap::at_client(&mesh, &Observe { limit: 2, ..everything() }).await;
    for path in ["/1", "/2", "/3"] {
        text(mesh.get(path).await).await;
    }
    let mut paths = Vec::new();
    while let Some(message) = tap.0.next().await.unwrap() {
        if let Some(What::RequestInit { path, .. }) = Event::from_bytes(&message).unwrap().what {
            paths.push(path);
        }
    }
    assert_eq!(paths, ["/1", "/2"]);
    assert_eq!(grpc::status(tap.0.trailers().unwrap()), Some((0, String::new())));
}

#[tokio::test(start_paused = true)]
async fn a_rate_goes_on_in_the_next_second_and_tells_what_it_left_out() {
    let mesh = tapped().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let observe = Observe { per_second: 2, ..everything() };
    let mut tap = Tap::at_client(&mesh, &observe).await;
    for path in ["/1", "/2", "/3", "/4"] {
        text(mesh.get(path).await).await;
    }
    mesh.world.sleep(1_000).await;
    text(mesh.get("/5").await).await;
    assert_eq!(tap.next_path().await, "/1");
    assert_eq!(tap.next_path().await, "/2");
    let mut lost = 0;
    let last = loop {
        let event = tap.next().await;
        lost = lost.max(event.lost);
        if let Some(What::RequestInit { path, .. }) = event.what {
            break path;
        }
    };
    assert_eq!((last.as_str(), lost), ("/5", 2));
}

#[tokio::test(start_paused = true)]
async fn taps_are_bounded_and_one_that_is_gone_makes_room() {
    let mesh = tapped().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut taps = Vec::new();
    for _ in 0..crate::proxy::tap::TAPS_MAX {
        taps.push(Tap::at_client(&mesh, &everything()).await);
    }
    let response = ask(&mesh, VIZ, "10.0.0.1:4190", CLIENT, &everything()).await;
    assert_eq!(grpc::status(response.headers()).unwrap().0, grpc::RESOURCE_EXHAUSTED);
    taps.pop();
    mesh.world.sleep(10).await;
    let mut tap = Tap::at_client(&mesh, &everything()).await;
    mesh.get("/a").await;
    assert_eq!(tap.next_path().await, "/a");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_or_is_given_up_ends_with_a_reset() {
    let mesh = tapped().await;
    let app = mesh
        .world
        .app(APP, |_| async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            ok("late").await
        })
        .await;
    let mut tap = Tap::at_server(&mesh, &everything()).await;
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let mut request = get2("http://web/slow");
    let sending = connection.send(&mut request);
    assert!(tokio::time::timeout(Duration::from_secs(1), sending).await.is_err());
    assert_eq!(app.count(), 1);
    assert_eq!(tap.next_path().await, "/slow");
    let event = tap.next().await;
    let Some(What::ResponseEnd { end, since_response, .. }) = event.what else {
        panic!("{event:?}");
    };
    assert_eq!((end, since_response), (Some(End::Reset(8)), None));
}

#[tokio::test(start_paused = true)]
async fn a_status_of_grpc_is_told_from_the_trailers() {
    let mesh = tapped().await;
    let answer = |_| async {
        let status = (http::HeaderName::from_static("grpc-status"), HeaderValue::from(14));
        let trailers = http::HeaderMap::from_iter([status]);
        let body = Body::empty().after(Ok(http_body::Frame::trailers(trailers)));
        let mut response = Response::new(body.after(Ok(http_body::Frame::data("x".into()))));
        response.headers_mut().insert("content-type", grpc::APPLICATION_GRPC);
        response
    };
    let _app = mesh.world.app(APP, answer).await;
    let mut tap = Tap::at_server(&mesh, &everything()).await;
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let response = connection.send(&mut super::world::grpc("http://web/a.B/C")).await.unwrap();
    let _ = response.into_body().read_to_end(100).await;
    let mut end = None;
    while end.is_none() {
        if let Some(What::ResponseEnd { end: how, .. }) = tap.next().await.what {
            end = Some(how);
        }
    }
    assert_eq!(end, Some(Some(End::Grpc(14))));
}
