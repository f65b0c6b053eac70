//! HTTP through two proxies.

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::policies::{all_to, balance, forward, transparent, unmeshed};
use super::world::{
    APP, CLIENT, PATH, Pair, SERVER, SERVICE, at, echo_tunnel, get, get2, grpc, ip, ok, read,
    read_head, text,
};
use crate::wire::http::{Body, Error, Response};

#[tokio::test(start_paused = true)]
async fn a_request_goes_through_both_proxies_and_says_who_asks() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut request = get("/a?b=c");
    let headers = request.headers_mut();
    headers.insert("l5d-client-id", "forged".parse().unwrap());
    headers.insert("l5d-dst-canonical", "forged".parse().unwrap());
    headers.insert("x-mine", "kept".parse().unwrap());
    let response = mesh.world.http1(&mesh.client, SERVICE, request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.version(), http::Version::HTTP_11);
    assert!(response.headers().keys().all(|name| !name.as_str().starts_with("l5d-")));
    assert_eq!(text(response).await, "hello");

    let seen = app.only_request();
    assert_eq!(seen.version(), http::Version::HTTP_11);
    assert_eq!(seen.uri(), "/a?b=c");
    assert_eq!(seen.headers()["host"], "web");
    assert_eq!(seen.headers()["l5d-client-id"], CLIENT);
    assert_eq!(seen.headers()["x-mine"], "kept");
    assert!(!seen.headers().contains_key("l5d-orig-proto"));
    assert!(!seen.headers().contains_key("l5d-dst-canonical"));
    // One connection between the proxies, to the port of transport headers.
    let between = mesh.world.wires.dialed(ip("10.0.0.1"));
    assert_eq!(between.iter().filter(|to| **to == at("10.0.0.2:4143")).count(), 1);
    assert!(!between.contains(&at(APP)));
}

#[tokio::test(start_paused = true)]
async fn many_http1_clients_share_one_connection_between_proxies() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    for _ in 0..20 {
        assert_eq!(text(mesh.get("/").await).await, "hello");
    }
    assert_eq!(app.count(), 20);
    // And what is idle is used again towards the application.
    assert_eq!(app.connections(), 1);
    let between = mesh.world.wires.dialed(ip("10.0.0.1"));
    assert_eq!(between.iter().filter(|to| **to == at("10.0.0.2:4143")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn redirected_peers_are_meshed_too() {
    let mesh = Pair::new().await;
    let endpoints = vec![transparent(APP, SERVER)];
    mesh.world.control.set_endpoints(PATH, endpoints);
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    assert_eq!(text(mesh.get("/").await).await, "hello");
    assert_eq!(app.only_request().headers()["l5d-client-id"], CLIENT);
    assert!(mesh.world.wires.dialed(ip("10.0.0.1")).contains(&at(APP)));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_without_proxy_is_reached_in_plaintext() {
    let mesh = Pair::new().await;
    let app = mesh.world.app("10.0.0.9:8080", |_| ok("plain")).await;
    let endpoints = vec![unmeshed("10.0.0.9:8080")];
    mesh.world.control.set_endpoints(PATH, endpoints);
    let mut request = get("/");
    request.headers_mut().insert("l5d-require-id", SERVER.parse().unwrap());
    let refused = mesh.world.http1(&mesh.client, SERVICE, request).await;
    assert_eq!(refused.status(), 502);
    assert_eq!(text(mesh.get("/").await).await, "plain");
    let seen = app.only_request();
    assert!(!seen.headers().contains_key("l5d-client-id"));
    assert_eq!(seen.headers()["host"], "web");
}

#[tokio::test(start_paused = true)]
async fn whoever_requires_an_identity_gets_it_or_502() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    for (required, status) in [(SERVER, 200), ("other.test", 502)] {
        let mut request = get("/");
        let value = required.parse().unwrap();
        request.headers_mut().insert("l5d-require-id", value);
        let response = mesh.world.http1(&mesh.client, SERVICE, request).await;
        assert_eq!(response.status(), status, "{required}");
    }
    assert!(!app.only_request().headers().contains_key("l5d-require-id"));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_not_who_discovery_says_gets_nothing() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let endpoints = vec![super::policies::meshed(APP, "other.test")];
    mesh.world.control.set_endpoints(PATH, endpoints);
    assert_eq!(mesh.get("/").await.status(), 502);
    assert_eq!(app.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn http1_bodies_and_trailers_pass() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |request| async { Response::new(request.into_body()) }).await;
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    let request = "POST /echo HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\
                   connection: close, x-hop\r\nx-hop: 1\r\ntrailer: x-sum\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n";
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("abc"), "{answer}");
    assert!(answer.contains("x-sum: 5"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn trailers_that_http2_cannot_carry_end_the_request() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |request| async { Response::new(request.into_body()) }).await;
    for name in ["upgrade", "keep-alive", "proxy-connection", "connection", "te"] {
        let mut io = mesh.world.dial(&mesh.client, SERVICE);
        let request = format!(
            "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\n{name}: a\r\n\r\n"
        );
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let reading = io.read_to_string(&mut answer);
        let read = tokio::time::timeout(std::time::Duration::from_secs(60), reading).await;
        assert!(read.is_ok(), "{name}: no end after {answer:?}");
        assert!(!answer.contains("abc\r\n0\r\n"), "{name}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn http2_passes_with_trailers() {
    struct Answer(u8);
    impl http_body::Body for Answer {
        type Data = Bytes;
        type Error = Error;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Error>>> {
            self.0 += 1;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "7".parse().unwrap());
            std::task::Poll::Ready(match self.0 {
                1 => Some(Ok(Frame::data(Bytes::from_static(b"data")))),
                2 => Some(Ok(Frame::trailers(trailers))),
                _ => None,
            })
        }
    }
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |_| async { Response::new(Body::wrap(Answer(0))) }).await;
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let mut request = grpc("http://web/pkg.Service/Method");
    let value = "en".parse().unwrap();
    request.headers_mut().insert("accept-language", value);
    let response = connection.send(&mut request).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    let mut body = response.into_body();
    let mut frames = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
    {
        frames.push(frame.unwrap());
    }
    assert_eq!(frames[0].data_ref().unwrap(), "data");
    assert_eq!(frames[1].trailers_ref().unwrap()["grpc-status"], "7");
    let seen = app.only_request();
    assert_eq!(seen.version(), http::Version::HTTP_2);
    assert_eq!(seen.headers()["te"], "trailers");
    assert_eq!(seen.uri().authority().unwrap(), "web");

    let status = ["grpc_status=\"7\"", "response_total", "direction="];
    assert_eq!(mesh.world.metric(&mesh.client, &status).await, 1.0);
    assert_eq!(mesh.world.metric(&mesh.server, &status).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_http10_client_without_host_is_served() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    io.write_all(b"GET /old HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(app.only_request().version(), http::Version::HTTP_10);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_becomes_a_pipe() {
    let mesh = Pair::new().await;
    let runtime = mesh.world.runtime.clone();
    let app = mesh
        .world
        .app(APP, move |_| {
            let mut response = echo_tunnel(&runtime, 101);
            let headers = response.headers_mut();
            headers.insert("upgrade", "websocket".parse().unwrap());
            headers.insert("connection", "upgrade".parse().unwrap());
            async { response }
        })
        .await;
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    let request = "GET /ws HTTP/1.1\r\nhost: web\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-key: x\r\n\r\n";
    io.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_lowercase().contains("upgrade: websocket"), "{head}");
    io.write_all(b"ping").await.unwrap();
    assert_eq!(read(&mut io, 4).await, "ping");
    let seen = app.only_request();
    assert_eq!(seen.headers()["l5d-client-id"], CLIENT);
    assert_eq!(seen.headers()["sec-websocket-key"], "x");
    io.shutdown().await.unwrap();
    let mut rest = String::new();
    io.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "");
}

#[tokio::test(start_paused = true)]
async fn a_connect_becomes_a_pipe() {
    let mesh = Pair::new().await;
    let runtime = mesh.world.runtime.clone();
    let app = mesh
        .world
        .app(APP, move |_| {
            let response = echo_tunnel(&runtime, 200);
            async { response }
        })
        .await;
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    let request = "CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\n";
    io.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    io.write_all(b"ping").await.unwrap();
    assert_eq!(read(&mut io, 4).await, "ping");
    assert_eq!(app.only_request().method(), http::Method::CONNECT);
}

async fn hello_and_close() -> Response {
    let mut response = ok("hello").await;
    let headers = response.headers_mut();
    headers.insert("l5d-proxy-connection", "close".parse().unwrap());
    headers.insert("l5d-proxy-error", "x".parse().unwrap());
    response
}

#[tokio::test(start_paused = true)]
async fn a_peers_proxy_has_the_clients_connection_closed() {
    let mesh = Pair::new().await;
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    // The application is away.
    let request = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n";
    io.write_all(request).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(!answer.contains("l5d-proxy-connection"), "{answer}");

    // HTTP/2 clients are told by GOAWAY.
    let too_large = || {
        let mut request = get2("http://web/");
        *request.body_mut() = Body::full(vec![b'a'; 20_000]);
        request
    };
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let response = connection.send(&mut too_large()).await.unwrap();
    assert_eq!(response.status(), 502);
    assert!(!response.headers().contains_key("connection"));
    connection.closed().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_application_says_in_a_proxys_name_goes_no_further_than_its_own() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| hello_and_close()).await;
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    for _ in 0..2 {
        io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        let head = read_head(&mut io).await;
        assert!(!head.contains("l5d-") && !head.contains("close"), "{head}");
        assert_eq!(read(&mut io, 5).await, "hello");
    }
    // A client without a proxy gets it as it is.
    let io = mesh.world.dial_from("10.0.0.7", APP).await;
    let response = mesh.world.http1_over(io, get("/")).await;
    assert_eq!(response.headers()["l5d-proxy-connection"], "close");
    assert_eq!(response.headers()["l5d-proxy-error"], "x");
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_away_is_502() {
    let mesh = Pair::new().await;
    let refused = mesh.get("/").await;
    assert_eq!(refused.status(), 502);
    assert!(!refused.headers().contains_key("weft-unsent"));
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let refused = connection.send(&mut grpc("http://web/a.B/C")).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "14");
    // Where another endpoint has its application, that is asked.
    let _app = mesh.world.app("10.0.0.9:80", |_| ok("other")).await;
    let endpoints = vec![super::policies::meshed(APP, SERVER), unmeshed("10.0.0.9:80")];
    mesh.world.control.set_endpoints(PATH, endpoints);
    mesh.world.sleep(1).await;
    for _ in 0..20 {
        assert_eq!(text(mesh.get("/").await).await, "other");
    }
    // So it is with a body, while that is small.
    for (bytes, often) in [(100, 20), (16 * 1024, 20)] {
        let mut elsewhere = 0;
        for _ in 0..20 {
            let mut request = get("/");
            *request.method_mut() = http::Method::POST;
            *request.body_mut() = Body::full(vec![b'a'; bytes]);
            let response = mesh.world.http1(&mesh.client, SERVICE, request).await;
            elsewhere += usize::from(response.status() == 200);
        }
        assert!(elsewhere >= often, "{elsewhere} of 20 with {bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn the_word_to_close_is_not_taken_from_an_application() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app("10.0.0.9:80", |_| hello_and_close()).await;
    let policy = all_to(forward(unmeshed("10.0.0.9:80")));
    mesh.world.control.set_client_policy("10.0.0.9:80", policy);
    let mut io = mesh.world.dial(&mesh.client, "10.0.0.9:80");
    for _ in 0..2 {
        io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        let head = read_head(&mut io).await;
        assert!(!head.contains("l5d-proxy-connection"), "{head}");
        assert_eq!(read(&mut io, 5).await, "hello");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_off_response_breaks_off_the_clients() {
    let mesh = Pair::new().await;
    let serving = mesh
        .world
        .listen(APP, |mut io| async move {
            let _ = read_head(&mut io).await;
            let _ = io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        })
        .await;
    mesh.world.keep(serving);
    let response = mesh.get("/").await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().read_to_end(100).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_l5d_orig_proto_of_an_http1_client_changes_nothing() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut io = mesh.world.dial_from("10.0.0.7", APP).await;
    let request = "GET /x HTTP/1.1\r\nhost: web\r\nl5d-orig-proto: HTTP/1.0\r\n\r\n";
    io.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(app.only_request().version(), http::Version::HTTP_11);
}

#[tokio::test(start_paused = true)]
async fn a_new_backend_is_found_with_its_name_alone() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let policy = all_to(balance("unknown.test.svc.cluster.local:80"));
    mesh.world.control.set_client_policy("10.96.0.2:80", policy);
    let refused = mesh.world.http1(&mesh.client, "10.96.0.2:80", get("/")).await;
    assert_eq!(refused.status(), 504);
    assert_eq!(refused.headers()["l5d-proxy-error"], "service in fail-fast");
}
