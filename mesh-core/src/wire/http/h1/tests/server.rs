//! Facts of a served connection.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Version};
use tokio::task::JoinHandle;

use super::super::codec::HeadDecoder;
use super::super::server;
use super::*;
use crate::runtime::testing::{runtime, settles};
use crate::wire::drain::{self, DrainSignal};
use crate::wire::http::Upgraded;
use crate::wire::http::server::ServerOptions;

struct Served {
    client: Peer,
    requests: mpsc::UnboundedReceiver<(Request, Answer)>,
    drain: DrainSignal,
    task: JoinHandle<Result<(), Error>>,
}

fn serve(options: ServerOptions) -> Served {
    let (client, io) = stream();
    let (sender, requests) = mpsc::unbounded_channel();
    let (drain, watch) = drain::channel();
    let task = tokio::spawn(async move {
        let service = Arc::new(ByHand(sender));
        server::serve(&runtime(), io, &options, service, watch).await
    });
    Served { client, requests, drain, task }
}

impl Served {
    fn new() -> Self {
        serve(ServerOptions::default())
    }

    async fn request(&mut self) -> (Request, Answer) {
        self.requests.recv().await.expect("a request comes")
    }

    async fn answer(&mut self, body: impl Into<Body>) -> Request {
        let (request, answer) = self.request().await;
        answer.send(response(body)).expect("somebody waits");
        request
    }

    async fn result(self) -> String {
        match self.task.await.expect("it does not panic") {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn requests_are_answered_one_after_the_other_each_with_one_write() {
    let mut served = Served::new();
    for _ in 0..2 {
        served.client.send(GET).await;
        let request = served.answer("hello").await;
        assert_eq!(request.uri(), "/");
        let expected = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        served.client.expect(expected).await;
    }
    assert_eq!(served.client.writes.load(Ordering::Relaxed), 2);
    served.client.finish().await;
    assert_eq!(served.result().await, "ok");
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order_even_to_a_client_that_sends_no_more() {
    let mut served = Served::new();
    let one = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n";
    let two = "POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
    let three = "GET /3 HTTP/1.1\r\nhost: a\r\n\r\n";
    served.client.send(&[one, two, three].concat()).await;
    served.client.finish().await;
    for path in ["/1", "/2", "/3"] {
        let request = served.answer(path).await;
        assert_eq!(request.uri().path(), path);
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
    served.client.expect_last(&format!("{head}/1{head}/2{head}/3")).await;
    assert_eq!(served.result().await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_resets_the_connection_cancels_the_service() {
    let mut served = Served::new();
    served.client.send(GET).await;
    let (_request, mut answer) = served.request().await;
    served.client.reset();
    answer.closed().await;
    assert!(served.task.await.expect("no panic").is_err());
}

#[tokio::test(start_paused = true)]
async fn so_does_one_that_resets_it_amid_a_body_that_nobody_reads_yet() {
    let mut served = Served::new();
    served.client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await;
    let (request, mut answer) = served.request().await;
    served.client.expect_nothing().await;
    served.client.reset();
    answer.closed().await;
    assert_eq!(text(request.into_body()).await, "! canceled");
}

#[tokio::test(start_paused = true)]
async fn and_one_that_resets_it_after_its_body_was_dropped() {
    let mut served = Served::new();
    served.client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await;
    let (request, mut answer) = served.request().await;
    drop(request);
    served.client.send("def").await;
    served.client.expect_nothing().await;
    served.client.reset();
    answer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_sends_no_more_gets_its_answer() {
    let mut served = Served::new();
    served.client.send(GET).await;
    let (_request, answer) = served.request().await;
    served.client.finish().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    answer.send(response("late")).expect("somebody waits");
    served.client.expect_last("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await;
}

#[tokio::test(start_paused = true)]
async fn http_1_0_is_answered_in_kind() {
    let mut served = Served::new();
    served.client.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
    let request = served.answer("hello").await;
    assert_eq!(request.version(), Version::HTTP_10);
    served
        .client
        .expect("HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\nhello")
        .await;
    served.client.send("GET / HTTP/1.0\r\n\r\n").await;
    let (feed, body) = Feed::body();
    feed.data("to the end");
    feed.trailers("x-lost", "1");
    feed.end();
    served.answer(body).await;
    served.client.expect_last("HTTP/1.0 200 OK\r\n\r\nto the end").await;
    assert_eq!(served.result().await, "ok");
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_head_tells_a_length_and_has_no_body() {
    let mut served = Served::new();
    served.client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (_, answer) = served.request().await;
    let mut long = response(Body::empty());
    long.headers_mut().insert("content-length", HeaderValue::from_static("1000"));
    answer.send(long).expect("somebody waits");
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
    served.client.send(GET).await;
    let (_, answer) = served.request().await;
    let mut nothing = response(Body::empty());
    *nothing.status_mut() = StatusCode::NO_CONTENT;
    answer.send(nothing).expect("somebody waits");
    served.client.expect("HTTP/1.1 204 No Content\r\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_is_chunked_with_its_trailers() {
    let mut served = Served::new();
    served.client.send(GET).await;
    let (feed, body) = Feed::body();
    feed.data("hello");
    served.answer(body).await;
    served
        .client
        .expect("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    feed.data("0123456789abcdef");
    served.client.expect("10\r\n0123456789abcdef\r\n").await;
    feed.trailers("x-sum", "1");
    served.client.expect("0\r\nx-sum: 1\r\n\r\n").await;
    feed.end();
    served.client.send(GET).await;
    served.answer("next").await;
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext").await;
}

#[tokio::test(start_paused = true)]
async fn a_requests_body_can_be_its_responses() {
    let mut served = Served::new();
    served.client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let (request, answer) = served.request().await;
    answer.send(response(request.into_body())).expect("somebody waits");
    served.client.expect("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
    served.client.send("3\r\nabc\r\n").await;
    served.client.expect("3\r\nabc\r\n").await;
    served.client.send("2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n").await;
    served.client.expect("2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n").await;
    served.client.send(GET).await;
    served.answer("").await;
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
}

const EXPECTING: &str =
    "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn continue_is_sent_when_the_body_is_wanted_and_not_before() {
    let mut served = Served::new();
    served.client.send(EXPECTING).await;
    let (request, answer) = served.request().await;
    served.client.expect_nothing().await;
    let reading = tokio::spawn(text(request.into_body()));
    served.client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    served.client.send("hello").await;
    assert_eq!(reading.await.expect("no panic"), "hello");
    answer.send(response("")).expect("somebody waits");
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn who_was_never_told_to_continue_is_told_to_close() {
    let mut served = Served::new();
    served.client.send(EXPECTING).await;
    let (request, answer) = served.request().await;
    answer.send(response("no")).expect("somebody waits");
    served
        .client
        .expect("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
        .await;
    let late = tokio::spawn(text(request.into_body()));
    served.client.expect_last("").await;
    assert!(late.await.expect("no panic").starts_with('!'));
    assert_eq!(served.result().await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_little_unread_body_is_skipped_and_a_large_one_ends_the_connection() {
    let mut served = Served::new();
    served.client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n").await;
    served.answer("1").await;
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1").await;
    served.client.send("hello").await;
    served.client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await;
    served.answer("2").await;
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2").await;
    let rest = "x".repeat(1_000_000);
    // The server stops reading somewhere.
    let _ = served.client.io.write_all(rest.as_bytes()).await;
    assert_eq!(served.result().await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_still_read_after_the_response_is_read_to_its_end() {
    let mut served = Served::new();
    served.client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n").await;
    let (request, answer) = served.request().await;
    let reading = tokio::spawn(text(request.into_body()));
    answer.send(response("early")).expect("somebody waits");
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").await;
    served.client.send("01234").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    served.client.send("56789").await;
    assert_eq!(reading.await.expect("no panic"), "0123456789");
    served.client.send(GET).await;
    served.answer("").await;
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_an_idle_connection_at_once() {
    let mut served = Served::new();
    served.client.send(GET).await;
    served.answer("").await;
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    served.drain.start();
    served.client.expect_last("").await;
    assert_eq!(served.result().await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_the_request_in_flight() {
    let mut served = Served::new();
    served.client.send(GET).await;
    let (_, answer) = served.request().await;
    served.drain.start();
    served.client.expect_nothing().await;
    answer.send(response("last")).expect("somebody waits");
    served
        .client
        .expect_last("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlast")
        .await;
    served.drain.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_dribbles_in_is_given_its_time_and_no_more() {
    let mut served = Served::new();
    for byte in "GET / HTTP/1.1\r\nx: ".chars() {
        served.client.send(&byte.to_string()).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for _ in 0..10 {
        if served.client.io.write_all(b"a").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    served
        .client
        .expect("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!(served.result().await, "request head timed out");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_its_time_silently() {
    let mut served = serve(ServerOptions {
        idle_timeout: Some(Duration::from_secs(60)),
        ..ServerOptions::default()
    });
    tokio::time::sleep(Duration::from_secs(59)).await;
    served.client.send(GET).await;
    served.answer("").await;
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let start = tokio::time::Instant::now();
    served.client.expect_last("").await;
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_eq!(served.result().await, "ok");
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_refused_head_is_never_served() {
    let mut served = Served::new();
    let bad = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello";
    served.client.send(&[bad, GET, GET].concat()).await;
    served.client.finish().await;
    served
        .client
        .expect_last("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .await;
    assert!(served.requests.recv().await.is_none());
    assert_eq!(served.result().await, "invalid message: more than one content-length");
}

#[tokio::test(start_paused = true)]
async fn a_refused_chunk_cancels_the_service_and_is_answered() {
    let mut served = Served::new();
    served
        .client
        .send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n+2\r\n")
        .await;
    let (request, mut answer) = served.request().await;
    let read = text(request.into_body()).await;
    assert_eq!(read, "abc! invalid message: malformed chunk size");
    answer.closed().await;
    served.client.finish().await;
    served
        .client
        .expect_last("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!(served.result().await, "invalid message: malformed chunk size");
}

#[tokio::test(start_paused = true)]
async fn a_request_cut_off_midway_fails_its_body() {
    let mut served = Served::new();
    served.client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabc").await;
    let (request, _answer) = served.request().await;
    served.client.finish().await;
    assert_eq!(
        text(request.into_body()).await,
        "abc! connection closed before the message was complete"
    );
    served.client.expect_last("").await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_midway_is_not_ended_but_cut_off() {
    for (length, head) in [
        (None, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        (Some("5"), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc"),
    ] {
        let mut served = Served::new();
        served.client.send(GET).await;
        let (feed, body) = Feed::body();
        feed.data("abc");
        drop(feed);
        let (_, answer) = served.request().await;
        let mut broken = response(body);
        if let Some(length) = length {
            broken.headers_mut().insert("content-length", HeaderValue::from_static(length));
        }
        answer.send(broken).expect("somebody waits");
        served.client.expect_last(head).await;
        assert_eq!(served.result().await, "canceled");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_must_fit_its_length() {
    for text in ["four", "sixsix"] {
        let mut served = Served::new();
        served.client.send(GET).await;
        let (_, answer) = served.request().await;
        let mut wrong = response(text);
        wrong.headers_mut().insert("content-length", HeaderValue::from_static("5"));
        answer.send(wrong).expect("somebody waits");
        assert!(served.result().await.contains("than its content-length"));
    }
}

#[tokio::test(start_paused = true)]
async fn informational_responses_go_before_the_final_one_and_are_bounded() {
    let mut served = Served::new();
    served.client.send(GET).await;
    let (request, answer) = served.request().await;
    let informational = request.body().informational().expect("the server puts it there").clone();
    let (mut hint, ()) = http::Response::new(()).into_parts();
    hint.status = StatusCode::from_u16(103).expect("a status");
    hint.headers.insert("link", HeaderValue::from_static("</a.css>"));
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
    assert!(informational.send(&hint));
    served.client.expect(early).await;
    let more = (0..100).filter(|_| informational.send(&hint)).count();
    assert_eq!(more, usize::from(super::super::INFORMATIONAL_MAX) - 1);
    for _ in 0..more {
        served.client.expect(early).await;
    }
    answer.send(response("x")).expect("somebody waits");
    served.client.expect("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await;
    assert!(!informational.send(&hint));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_joins_both_streams_with_what_was_read_ahead() {
    let mut served = Served::new();
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    served.client.send(&[upgrade, "ahead"].concat()).await;
    let (_, answer) = served.request().await;
    let (mut far, near) = tokio::io::duplex(1024);
    let mut switching = response(Body::empty());
    *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    switching.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
    switching.extensions_mut().insert(Upgraded::new(Box::new(near)));
    answer.send(switching).expect("somebody waits");
    served
        .client
        .expect("HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n")
        .await;
    let mut read = [0; 5];
    far.read_exact(&mut read).await.expect("reads");
    assert_eq!(&read, b"ahead");
    far.write_all(b"back").await.expect("writes");
    served.client.expect("back").await;
    served.client.finish().await;
    assert_eq!(far.read(&mut read).await.expect("reads"), 0);
    far.shutdown().await.expect("shuts down");
    served.client.expect_last("").await;
    assert_eq!(served.result().await, "ok");
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_was_not_asked_for_is_a_bad_gateway() {
    let mut served = Served::new();
    served.client.send(GET).await;
    let (_, answer) = served.request().await;
    let mut switching = response(Body::empty());
    *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.send(switching).expect("somebody waits");
    served.client.expect("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_stops_the_response_and_not_the_server() {
    let mut served = Served::new();
    served.client.send(GET).await;
    let (feed, body) = Feed::body();
    for _ in 0..100 {
        feed.data(&"x".repeat(10_000));
    }
    served.answer(body).await;
    let start = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(feed.is_wanted() && start.elapsed().as_secs() == 1);
    feed.end();
    let mut found = vec![0; 1_000_000];
    served.client.io.read_exact(&mut found).await.expect("reads");
    let start = tokio::time::Instant::now();
    served.client.io.read_exact(&mut found[..100]).await.expect("reads");
    assert_eq!(start.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_futures_are_small() {
    let options = ServerOptions::default();
    let (_peer, io) = stream();
    let service = Arc::new(ByHand(mpsc::unbounded_channel().0));
    let runtime = runtime();
    let mut serve =
        Box::pin(server::serve(&runtime, io, &options, service, drain::DrainWatch::never()));
    let bytes = size_of_val(&*serve);
    println!("server::serve: {bytes} bytes");
    assert!(bytes <= 1000, "{bytes} bytes");
    assert!(settles(&mut serve).await.is_none());
    println!("HeadDecoder: {} bytes", size_of::<HeadDecoder>());
    assert_eq!(Method::GET, Method::default());
}
