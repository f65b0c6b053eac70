//! Facts of a client connection.

use std::sync::Mutex;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Version};
use http_body::Body as _;

use super::super::{Connection, Recycle};
use super::*;
use crate::runtime::testing::{runtime, settles};
use crate::wire::http::{SendError, Upgraded};

/// Where connections come back to.
type Pool = Arc<Mutex<Vec<Connection>>>;

struct Opened {
    server: Peer,
    connection: Connection,
    pool: Pool,
}

fn open() -> Opened {
    let (server, io) = stream();
    Opened { server, connection: Connection::new(&runtime(), io), pool: Pool::default() }
}

fn recycle(pool: &Pool) -> Option<Arc<dyn Recycle>> {
    let pool = pool.clone();
    Some(Arc::new(move |connection| {
        pool.lock().expect("no holder panics").push(connection);
    }))
}

fn pop(pool: &Pool) -> Option<Connection> {
    pool.lock().expect("no holder panics").pop()
}

fn request(method: Method, body: impl Into<Body>) -> Request {
    let mut request = http::Request::new(body.into());
    *request.method_mut() = method;
    request.headers_mut().insert("host", HeaderValue::from_static("a"));
    request
}

fn get() -> Request {
    request(Method::GET, Body::empty())
}

type Sending = tokio::task::JoinHandle<Result<Response, SendError>>;

/// Sends a request in a task of its own, which sees that one that was not sent is whole.
fn send(
    connection: Connection,
    mut request: Request,
    recycle: Option<Arc<dyn Recycle>>,
) -> Sending {
    tokio::spawn(async move {
        let had_body = !request.body().is_end_stream();
        let sent = connection.send(&mut request, recycle).await;
        if let Err(SendError::Unsent(_)) = &sent {
            assert_eq!(request.headers()["host"], "a");
            assert_eq!(!request.body().is_end_stream(), had_body, "the body came back");
        }
        sent
    })
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A connection that has carried one request, with its other end.
async fn used() -> Opened {
    let mut opened = open();
    let sent = send(opened.connection, get(), recycle(&opened.pool));
    opened.server.expect(GET).await;
    opened.server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    sent.await.expect("no panic").expect("it is answered");
    opened.connection = pop(&opened.pool).expect("it came back");
    opened
}

#[tokio::test(start_paused = true)]
async fn a_connection_comes_back_when_the_response_has_ended_and_holds_no_buffer() {
    let mut opened = open();
    let sent = send(opened.connection, get(), recycle(&opened.pool));
    opened.server.expect(GET).await;
    opened.server.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel").await;
    let response = sent.await.expect("no panic").expect("it is answered");
    assert!(pop(&opened.pool).is_none());
    opened.server.send("lo").await;
    assert_eq!(text(response.into_body()).await, "hello");
    let connection = pop(&opened.pool).expect("it came back");
    assert!(connection.is_reused());
    assert_eq!(connection.0.transport.held_bytes(), 0);
    let sent = send(connection, get(), recycle(&opened.pool));
    opened.server.expect(GET).await;
    opened
        .server
        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\na: b\r\n\r\n")
        .await;
    let response = sent.await.expect("no panic").expect("it is answered");
    assert_eq!(text(response.into_body()).await, "hi; a: b");
    assert!(pop(&opened.pool).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_used_again_does_not_come_back() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi and more",
        "HTTP/1.1 200 OK\r\n\r\nhi",
    ] {
        let mut opened = open();
        let sent = send(opened.connection, get(), recycle(&opened.pool));
        opened.server.expect(GET).await;
        opened.server.send(answer).await;
        opened.server.finish().await;
        let response = sent.await.expect("no panic").expect("it is answered");
        assert_eq!(text(response.into_body()).await, "hi");
        assert!(pop(&opened.pool).is_none(), "{answer}");
        opened.server.expect_last("").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_cut_off_midway_fails_its_body() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n",
    ] {
        let mut opened = open();
        let sent = send(opened.connection, get(), None);
        opened.server.expect(GET).await;
        opened.server.send(answer).await;
        opened.server.finish().await;
        let response = sent.await.expect("no panic").expect("it is answered");
        assert_eq!(
            text(response.into_body()).await,
            "hel! connection closed before the message was complete"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn head_and_a_small_body_go_in_one_write() {
    let mut opened = open();
    let put = request(Method::PUT, "hello");
    let _sent = send(opened.connection, put, None);
    opened.server.expect("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
    assert_eq!(opened.server.writes.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_upload_goes_on_while_the_response_is_read_and_after_it() {
    let mut opened = open();
    let (feed, body) = Feed::body();
    let sent = send(opened.connection, request(Method::POST, body), recycle(&opened.pool));
    opened.server.expect("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    opened.server.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await;
    let response = sent.await.expect("no panic").expect("it is answered");
    let reading = tokio::spawn(text(response.into_body()));
    feed.data("abc");
    opened.server.expect("3\r\nabc\r\n").await;
    opened.server.send("llo").await;
    assert_eq!(reading.await.expect("no panic"), "hello");
    assert!(pop(&opened.pool).is_none());
    feed.data("de");
    opened.server.expect("2\r\nde\r\n").await;
    feed.trailers("x-sum", "1");
    opened.server.expect("0\r\nx-sum: 1\r\n\r\n").await;
    opened.server.expect_nothing().await;
    assert!(pop(&opened.pool).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_fails_is_cut_off() {
    let mut opened = open();
    let (feed, body) = Feed::body();
    let sent = send(opened.connection, request(Method::POST, body), None);
    feed.data("abc");
    drop(feed);
    let error = sent.await.expect("no panic").expect_err("it fails");
    assert!(matches!(error, SendError::Failed(Error::Canceled)), "{error}");
    // Nothing tells the server that the body was whole.
    let mut found = String::new();
    opened.server.io.read_to_string(&mut found).await.expect("reads");
    assert!(!found.ends_with("0\r\n\r\n"), "{found}");
}

fn expecting(body: Body) -> Request {
    let mut request = request(Method::PUT, body);
    request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
    request
}

const EXPECTING: &str =
    "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_body_waits_for_continue() {
    let mut opened = open();
    let sent = send(opened.connection, expecting("hello".into()), recycle(&opened.pool));
    opened.server.expect(EXPECTING).await;
    opened.server.expect_nothing().await;
    opened.server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    opened.server.expect("hello").await;
    opened.server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    sent.await.expect("no panic").expect("it is answered");
    assert!(pop(&opened.pool).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_body_waits_a_second_and_no_longer() {
    let mut opened = open();
    let start = tokio::time::Instant::now();
    let _sent = send(opened.connection, expecting("hello".into()), None);
    opened.server.expect(EXPECTING).await;
    opened.server.expect("hello").await;
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_not_wanted_is_not_asked_for() {
    let mut opened = open();
    let (feed, body) = Feed::body();
    let sent = send(opened.connection, expecting(body), recycle(&opened.pool));
    feed.data("never");
    opened
        .server
        .expect(
            "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\
             transfer-encoding: chunked\r\n\r\n",
        )
        .await;
    opened.server.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n").await;
    let response = sent.await.expect("no panic").expect("it is answered");
    assert_eq!(response.status(), StatusCode::EXPECTATION_FAILED);
    opened.server.expect_last("").await;
    assert!(pop(&opened.pool).is_none());
}

/// A server that answers as it reads waits for the body, and its client for the answer's.
#[tokio::test(start_paused = true)]
async fn a_body_goes_out_once_the_server_has_begun_to_answer_well() {
    let mut opened = open();
    let sent = send(opened.connection, expecting("hello".into()), None);
    opened.server.expect(EXPECTING).await;
    opened.server.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
    let response = sent.await.expect("no panic").expect("it is answered");
    let reading = tokio::spawn(response.into_body().read_to_end(9));
    let received = opened.server.expect("hello");
    let received = tokio::time::timeout(Duration::from_secs(60), received).await;
    received.expect("it comes");
    opened.server.send("HELLO").await;
    assert_eq!(reading.await.expect("no panic").expect("whole"), "HELLO");
}

/// A server that refuses and reads the body all the same, before it says why.
#[tokio::test(start_paused = true)]
async fn a_body_goes_out_to_a_server_that_does_not_end_its_refusal_without_it() {
    let mut opened = open();
    let sent = send(opened.connection, expecting("hello".into()), recycle(&opened.pool));
    opened.server.expect(EXPECTING).await;
    opened.server.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 3\r\n\r\n").await;
    let response = sent.await.expect("no panic").expect("it is answered");
    opened.server.expect_nothing().await;
    let reading = tokio::spawn(response.into_body().read_to_end(9));
    let start = tokio::time::Instant::now();
    opened.server.expect("hello").await;
    assert!(start.elapsed() <= Duration::from_secs(1));
    opened.server.send("why").await;
    assert_eq!(reading.await.expect("no panic").expect("whole"), "why");
    opened.server.expect_last("").await;
    assert!(pop(&opened.pool).is_none());
}

async fn outcome(sent: Sending) -> &'static str {
    match sent.await.expect("no panic") {
        Ok(_) => "answered",
        Err(SendError::Unsent(_)) => "unsent",
        Err(SendError::Failed(_)) => "failed",
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_on_a_connection_closed_while_idle_was_not_sent() {
    let mut opened = used().await;
    assert!(opened.connection.is_alive());
    opened.server.finish().await;
    let (feed, body) = Feed::body();
    feed.data("abc");
    let sent = send(opened.connection, request(Method::POST, body), None);
    assert_eq!(outcome(sent).await, "unsent");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_met_the_close_of_a_used_connection_is_unsent_if_idempotent() {
    for (method, body, expected) in [
        (Method::GET, "", "unsent"),
        (Method::DELETE, "", "unsent"),
        (Method::POST, "", "failed"),
        (Method::PUT, "touched", "failed"),
    ] {
        let mut opened = used().await;
        let sent = send(opened.connection, request(method.clone(), body), None);
        opened.server.expect(method.as_str()).await;
        drop(opened.server);
        assert_eq!(outcome(sent).await, expected, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_met_a_reset_of_a_used_connection_is_unsent() {
    let mut opened = used().await;
    let sent = send(opened.connection, get(), None);
    opened.server.expect(GET).await;
    opened.server.reset();
    assert_eq!(outcome(sent).await, "unsent");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_not_unsent_where_the_server_may_have_seen_it() {
    // The first request of a connection.
    let mut opened = open();
    let sent = send(opened.connection, get(), None);
    opened.server.expect(GET).await;
    drop(opened.server);
    assert_eq!(outcome(sent).await, "failed");
    // A response that began.
    let mut opened = used().await;
    let sent = send(opened.connection, get(), None);
    opened.server.expect(GET).await;
    opened.server.send("H").await;
    drop(opened.server);
    assert_eq!(outcome(sent).await, "failed");
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_server_stopped_reading_is_read() {
    let mut opened = open();
    let (feed, body) = Feed::body();
    let sent = send(opened.connection, request(Method::POST, body), None);
    opened.server.expect("POST").await;
    opened
        .server
        .send("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .await;
    drop(opened.server);
    feed.data("much");
    let response = sent.await.expect("no panic").expect("it is answered");
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_notices_its_end_and_what_nobody_asked_for() {
    let mut opened = used().await;
    let mut closed = Box::pin(opened.connection.closed());
    assert!(settles(&mut closed).await.is_none());
    opened.server.send("HTTP/1.1 408 Request Timeout\r\n\r\n").await;
    closed.await;
    assert!(!opened.connection.is_alive());
    let mut opened = used().await;
    opened.server.finish().await;
    opened.connection.closed().await;
    assert!(!opened.connection.is_alive());
}

#[tokio::test(start_paused = true)]
async fn endless_informational_responses_are_refused() {
    let mut opened = open();
    let sent = send(opened.connection, get(), None);
    opened.server.expect(GET).await;
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
    opened.server.send(&hints).await;
    let error = sent.await.expect("no panic").expect_err("it fails");
    assert_eq!(
        error.to_string(),
        "request failed: invalid message: too many informational responses"
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_that_two_hops_could_read_differently_fails() {
    let mut opened = open();
    let sent = send(opened.connection, get(), None);
    opened.server.expect(GET).await;
    opened
        .server
        .send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let error = sent.await.expect("no panic").expect_err("it fails");
    assert_eq!(
        error.to_string(),
        "request failed: invalid message: content-length together with transfer-encoding"
    );
}

#[tokio::test(start_paused = true)]
async fn connect_and_upgrades_yield_the_stream_with_what_was_read_ahead() {
    let mut connect = request(Method::CONNECT, Body::empty());
    *connect.uri_mut() = "a:443".parse().expect("an authority");
    let mut websocket = get();
    let headers = websocket.headers_mut();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    for (request, head, answer) in [
        (connect, "CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nahead"),
        (
            websocket,
            "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\n\r\nahead",
        ),
    ] {
        let mut opened = open();
        let sent = send(opened.connection, request, recycle(&opened.pool));
        opened.server.expect(head).await;
        opened.server.send(answer).await;
        let response = sent.await.expect("no panic").expect("it is answered");
        let upgraded = response.extensions().get::<Upgraded>().expect("it is there");
        let mut io = upgraded.take().expect("nobody took it");
        let mut read = [0; 5];
        io.read_exact(&mut read).await.expect("reads");
        assert_eq!(&read, b"ahead");
        io.write_all(b"back").await.expect("writes");
        opened.server.expect("back").await;
        assert!(pop(&opened.pool).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn the_target_is_written_as_it_is_but_for_http_2s() {
    for (uri, version, line) in [
        ("/a?b", Version::HTTP_11, "GET /a?b HTTP/1.1\r\n"),
        ("http://b/a?b", Version::HTTP_11, "GET http://b/a?b HTTP/1.1\r\n"),
        ("http://b/a?b", Version::HTTP_2, "GET /a?b HTTP/1.1\r\nhost: b\r\n"),
        ("/", Version::HTTP_10, "GET / HTTP/1.0\r\n"),
    ] {
        let mut opened = open();
        let mut request = http::Request::new(Body::empty());
        *request.uri_mut() = uri.parse().expect("a target");
        *request.version_mut() = version;
        let _sent = send(opened.connection, request, None);
        opened.server.expect(line).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_futures_are_small() {
    let opened = open();
    let mut request = get();
    let send = opened.connection.send(&mut request, None);
    let (send, link) = (size_of_val(&send), size_of::<super::super::client::Link>());
    println!("Connection::send: {send} bytes; an idle connection: {link} bytes");
    assert!(send <= 800, "{send} bytes");
    assert!(link <= 256, "{link} bytes");
}
