//! A client and a server connection against each other, with a proxy between two pairs.

use http::{HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::super::{Connection, server};
use super::*;
use crate::runtime::testing::runtime;
use crate::wire::drain::DrainWatch;
use crate::wire::http::server::ServerOptions;

/// A client connection to a server with this service, over a stream that holds so many bytes.
fn connect(service: impl Service, buffer_bytes: usize) -> Connection {
    let (near, far) = tokio::io::duplex(buffer_bytes);
    tokio::spawn(async move {
        let (options, drain) = (ServerOptions::default(), DrainWatch::never());
        server::serve(&runtime(), Box::new(far), &options, Arc::new(service), drain).await
    });
    Connection::new(&runtime(), Box::new(near))
}

/// Answers with the request's body.
fn echo() -> impl Service {
    |request: Request| -> BoxFuture<'static, Response> {
        Box::pin(async move { response(request.into_body()) })
    }
}

/// Reads the request's body, then answers with it.
fn echo_late() -> impl Service {
    |request: Request| -> BoxFuture<'static, Response> {
        Box::pin(async move { response(text(request.into_body()).await) })
    }
}

/// Sends each request on over a connection of its own.
fn proxy<S: Service>(to: fn() -> S, buffer_bytes: usize) -> impl Service {
    move |mut request: Request| -> BoxFuture<'static, Response> {
        let upstream = connect(to(), buffer_bytes);
        Box::pin(async move { upstream.send(&mut request, None).await.expect("it is answered") })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_body_comes_back_as_it_went_through_buffers_of_any_size(
        pieces in prop::collection::vec(0_usize..9000, 0..6),
        known_length in any::<bool>(),
        trailers in any::<bool>(),
        buffer_bytes in 1_usize..3000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (feed, body) = Feed::body();
            let mut expected = String::new();
            for (at, length) in pieces.iter().enumerate() {
                let piece = char::from(b'a' + u8::try_from(at).expect("few")).to_string();
                feed.data(&piece.repeat(*length));
                expected += &piece.repeat(*length);
            }
            let mut request = http::Request::new(body);
            *request.method_mut() = Method::POST;
            if known_length {
                let length = HeaderValue::from(expected.len());
                request.headers_mut().insert("content-length", length);
            } else if trailers {
                feed.trailers("x-sum", "1");
                expected += "; x-sum: 1";
            }
            feed.end();
            let connection = connect(proxy(echo, buffer_bytes), buffer_bytes);
            let response = connection.send(&mut request, None).await.expect("it is answered");
            let found = text(response.into_body()).await;
            let end = |text: &str| text[text.len().saturating_sub(99)..].to_owned();
            assert_eq!((found.len(), end(&found)), (expected.len(), end(&expected)));
            assert!(found == expected, "the middle differs");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn early_hints_pass_end_to_end() {
    let hints = |request: Request| -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let (mut hint, ()) = http::Response::new(()).into_parts();
            hint.status = StatusCode::from_u16(103).expect("a status");
            let informational = request.body().informational();
            assert!(informational.expect("it is there").send(&hint));
            response(format!("done {}", text(request.into_body()).await))
        })
    };
    let through = move |mut request: Request| -> BoxFuture<'static, Response> {
        let upstream = connect(hints, 1024);
        // As proxies do who look at what passes.
        request.body_mut().wrap_in(|body| body);
        Box::pin(async move { upstream.send(&mut request, None).await.expect("it is answered") })
    };
    for (request, answer) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "content-length: 5\r\n\r\ndone "),
        (
            "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
            "content-length: 7\r\n\r\ndone hi",
        ),
    ] {
        let (mut client, io) = stream();
        tokio::spawn(async move {
            let (options, drain) = (ServerOptions::default(), DrainWatch::never());
            server::serve(&runtime(), io, &options, Arc::new(through), drain).await
        });
        client.send(request).await;
        client.expect("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n").await;
        client.expect(answer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn continue_passes_end_to_end() {
    let (mut client, io) = stream();
    tokio::spawn(async move {
        let (options, drain) = (ServerOptions::default(), DrainWatch::never());
        server::serve(&runtime(), io, &options, Arc::new(proxy(echo_late, 1024)), drain).await
    });
    let start = tokio::time::Instant::now();
    client
        .send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        .await;
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("hi").await;
    client.expect("HTTP/1.1 200 OK\r\n").await;
    assert_eq!(start.elapsed().as_millis(), 0, "nobody waited for a timeout");
}

/// A server that begins to answer before it has read, and refuses or not.
#[tokio::test(start_paused = true)]
async fn whoever_holds_a_body_back_behind_a_final_head_sends_it_or_is_closed() {
    for (status, continues) in [("200 OK", true), ("302 Found", false), ("503 Unavailable", false)]
    {
        let (mut server, upstream) = stream();
        let upstream = Connection::new(&runtime(), upstream);
        let upstream = std::sync::Mutex::new(Some(upstream));
        let through = move |mut request| -> BoxFuture<'static, Response> {
            let upstream = upstream.lock().expect("no panic").take().expect("one request");
            Box::pin(
                async move { upstream.send(&mut request, None).await.expect("it is answered") },
            )
        };
        let (mut client, io) = stream();
        tokio::spawn(async move {
            let (options, drain) = (ServerOptions::default(), DrainWatch::never());
            server::serve(&runtime(), io, &options, Arc::new(through), drain).await
        });
        let head = "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
        client.send(head).await;
        server.expect(head).await;
        server.send(&format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n")).await;
        if continues {
            client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
            client.send("hi").await;
            server.expect("hi").await;
            server.send("HI").await;
            client.expect("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nHI").await;
        } else {
            server.send("no").await;
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
            client.expect_last(&answer).await;
            server.expect_last("").await;
        }
    }
}
