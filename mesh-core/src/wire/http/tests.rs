//! Facts of HTTP/2 connections, client to server over in-memory streams.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::{mpsc, oneshot};

use super::client::{Http2ClientOptions, Http2Connection, SendError, connect};
use super::drain::{self, DrainSignal, DrainWatch};
use super::server::{ServerOptions, serve};
use super::{Body, Error, Request, Reset, Response, Service, Upgraded};
use crate::model::protocol::{HttpVersion, KeepAlive};
use crate::runtime::testing::{runtime, settles};
use crate::runtime::{BoxFuture, Runtime};

/// A body fed by a test.
struct Fed(mpsc::Receiver<Result<Frame<Bytes>, Error>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(cx)
    }
}

type Feed = mpsc::Sender<Result<Frame<Bytes>, Error>>;

fn fed() -> (Feed, Body) {
    let (feed, receiver) = mpsc::channel(8);
    (feed, Body::wrap(Fed(receiver)))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn trailers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        ::http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(value),
    )])
}

fn get(body: Body) -> Request {
    ::http::Request::builder()
        .uri("http://weft.example/path")
        .header("l5d-test", "kept")
        .extension(7_u8)
        .body(body)
        .unwrap()
}

fn service<F: Future<Output = Response> + Send + 'static>(
    answer: impl Fn(Request) -> F + Send + Sync + 'static,
) -> Arc<dyn Service> {
    Arc::new(move |request| -> BoxFuture<'static, Response> { Box::pin(answer(request)) })
}

/// A connection to `service`, and how serving it ended.
async fn connected(
    runtime: &Runtime,
    service: Arc<dyn Service>,
    drain: DrainWatch,
) -> (Http2Connection, oneshot::Receiver<Result<(), Error>>) {
    connected_with(runtime, service, drain, &Http2ClientOptions::default()).await
}

async fn connected_with(
    runtime: &Runtime,
    service: Arc<dyn Service>,
    drain: DrainWatch,
    options: &Http2ClientOptions,
) -> (Http2Connection, oneshot::Receiver<Result<(), Error>>) {
    let (near, far) = duplex(1 << 16);
    let (ended, end) = oneshot::channel();
    let server = runtime.clone();
    runtime.spawn("server", async move {
        let io = Box::new(far);
        let options = ServerOptions::default();
        let result = serve(&server, io, HttpVersion::Http2, &options, service, drain).await;
        let _ = ended.send(result);
    });
    let connection = connect(runtime, Box::new(near), options).await.unwrap();
    (connection, end)
}

async fn to(service: Arc<dyn Service>) -> Http2Connection {
    connected(&runtime(), service, DrainWatch::never()).await.0
}

/// A service that sends every request on.
fn proxy(upstream: Http2Connection) -> Arc<dyn Service> {
    service(move |request| {
        let (upstream, mut request) = (upstream.clone(), request);
        async move {
            match upstream.send(&mut request).await {
                Ok(response) => response,
                Err(error) => {
                    let mut response = Response::new(Body::empty());
                    match error.into_error() {
                        Error::Reset(reset) => drop(response.extensions_mut().insert(reset)),
                        _ => *response.status_mut() = StatusCode::BAD_GATEWAY,
                    }
                    response
                }
            }
        }
    })
}

#[tokio::test]
async fn data_and_trailers_pass_both_ways() {
    let echo = service(|request| async move {
        let asked = request.into_body().collect().await.unwrap();
        let status = asked.trailers().unwrap()["grpc-status"].clone();
        let (feed, body) = fed();
        feed.send(Ok(Frame::data(asked.to_bytes()))).await.unwrap();
        feed.send(Ok(Frame::trailers(trailers("0")))).await.unwrap();
        let mut response = Response::new(body);
        response.headers_mut().insert("asked-status", status);
        response
    });
    let connection = to(proxy(to(echo).await)).await;
    let (feed, body) = fed();
    feed.send(data("over ")).await.unwrap();
    feed.send(data("and out")).await.unwrap();
    feed.send(Ok(Frame::trailers(trailers("9")))).await.unwrap();
    let response = connection.send(&mut get(body)).await.unwrap();
    assert_eq!(response.headers()["asked-status"], "9");
    assert!(!response.headers().contains_key("date"));
    let answered = response.into_body().collect().await.unwrap();
    assert_eq!(answered.trailers(), Some(&trailers("0")));
    assert_eq!(answered.to_bytes(), "over and out");
}

#[tokio::test]
async fn a_reset_instead_of_a_response_keeps_its_code() {
    for code in [Reset::CANCEL, Reset::INTERNAL_ERROR, Reset::ENHANCE_YOUR_CALM, 0xd] {
        let resets = service(move |_| async move {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(Reset::new(code));
            response
        });
        let error = to(proxy(to(resets).await)).await.send(&mut get(Body::empty())).await;
        match error.unwrap_err() {
            SendError::Failed(error) => assert_eq!(error.reset_code(), Some(code)),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_reset_amid_a_response_keeps_its_code() {
    let (feed, body) = fed();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let breaks_off = service(move |_| {
        let body = body.lock().unwrap().take();
        async move { Response::new(body.unwrap()) }
    });
    let connection = to(proxy(to(breaks_off).await)).await;
    feed.send(data("so far so ")).await.unwrap();
    let mut response = connection.send(&mut get(Body::empty())).await.unwrap();
    let frame = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "so far so ");
    feed.send(Err(Error::reset(Reset::ENHANCE_YOUR_CALM))).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert_eq!(error.reset_code(), Some(Reset::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_reset_amid_a_request_keeps_its_code() {
    let (seen, mut seen_by) = mpsc::channel(1);
    let listens = service(move |request| {
        let seen = seen.clone();
        async move {
            tokio::spawn(async move {
                let error = request.into_body().collect().await.unwrap_err();
                seen.send(error.reset_code()).await.unwrap();
            });
            std::future::pending().await
        }
    });
    let connection = to(listens).await;
    let (feed, body) = fed();
    feed.send(data("as I was ")).await.unwrap();
    let mut request = get(body);
    let mut answer = Box::pin(connection.send(&mut request));
    assert!(settles(&mut answer).await.is_none());
    feed.send(Err(Error::reset(Reset::ENHANCE_YOUR_CALM))).await.unwrap();
    assert!(answer.await.is_err());
    assert_eq!(seen_by.recv().await, Some(Some(Reset::ENHANCE_YOUR_CALM)));
}

#[tokio::test]
async fn giving_up_on_a_response_cancels_the_work_behind_it() {
    struct OnDrop(Arc<AtomicUsize>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let counts = dropped.clone();
    let never = service(move |_| {
        let on_drop = OnDrop(counts.clone());
        async move {
            let _on_drop = on_drop;
            std::future::pending().await
        }
    });
    let connection = to(proxy(to(never).await)).await;
    let mut request = get(Body::empty());
    let mut answer = Box::pin(connection.send(&mut request));
    assert!(settles(&mut answer).await.is_none());
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    drop(answer);
    settles(&mut Box::pin(std::future::pending::<()>())).await;
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_refused_request_comes_back_whole_unless_too_much_of_its_body_was_read() {
    let refuses = service(|_| async move {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Reset::new(Reset::REFUSED_STREAM));
        response
    });
    let connection = to(refuses).await;
    let (feed, waiting) = fed();
    let mut feed = Some(feed);
    for (body, expected) in
        [(Body::empty(), ""), (Body::full("all of it"), "all of it"), (waiting, "later")]
    {
        let mut request = get(body);
        let error = connection.send(&mut request).await.unwrap_err();
        let SendError::Unsent(error) = error else {
            panic!("{error}");
        };
        assert!(error.is_unprocessed());
        assert_eq!(request.headers()["l5d-test"], "kept");
        assert_eq!(request.extensions().get(), Some(&7_u8));
        if expected == "later" {
            let feed = feed.take().unwrap();
            feed.send(data("later")).await.unwrap();
        }
        let body = request.into_body().read_to_end(99).await.unwrap();
        assert_eq!(body, expected);
    }
    let (feed, read) = fed();
    feed.send(data("read, ")).await.unwrap();
    let mut request = get(read);
    let error = connection.send(&mut request).await.unwrap_err();
    assert!(matches!(error, SendError::Unsent(_)), "{error}");
    feed.send(data("and unread")).await.unwrap();
    drop(feed);
    let body = request.into_body().read_to_end(99).await.unwrap();
    assert_eq!(body, "read, and unread");

    let (feed, read) = fed();
    feed.send(Ok(Frame::data(vec![b'a'; super::loan::KEPT_BYTES_MAX + 1].into()))).await.unwrap();
    let error = connection.send(&mut get(read)).await.unwrap_err();
    assert!(matches!(&error, SendError::Failed(error) if error.is_unprocessed()), "{error}");
}

#[tokio::test]
async fn what_a_proxy_says_it_did_not_send_comes_back_where_that_is_heeded() {
    let unsent = || {
        service(|_| async {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            let mark = HeaderValue::from_static("true");
            response.headers_mut().insert(super::client::UNSENT, mark);
            response
        })
    };
    let runtime = runtime();
    let heeding = |heed_unsent| Http2ClientOptions { heed_unsent, ..Http2ClientOptions::default() };
    let (connection, _serving) =
        connected_with(&runtime, unsent(), DrainWatch::never(), &heeding(true)).await;
    let mut request = get(Body::empty());
    let error = connection.send(&mut request).await.unwrap_err();
    let SendError::Unsent(error) = error else { panic!("{error}") };
    assert!(matches!(error, Error::Unreachable));
    assert_eq!(request.headers()["l5d-test"], "kept");
    assert_eq!(request.extensions().get::<u8>(), Some(&7));

    // A small body comes back too; one that is not leaves the response to be heard.
    for (bytes, comes_back) in [(300, true), (40_000, false)] {
        let (feed, body) = fed();
        feed.send(Ok(Frame::data(vec![b'a'; bytes].into()))).await.unwrap();
        drop(feed);
        let mut request = get(body);
        match (connection.send(&mut request).await, comes_back) {
            (Err(SendError::Unsent(_)), true) => {
                assert_eq!(request.into_body().read_to_end(bytes).await.unwrap().len(), bytes);
            }
            (Ok(response), false) => assert_eq!(response.status(), 502),
            (other, _) => panic!("{bytes}: {other:?}"),
        }
    }

    // An application may say what it likes.
    let (connection, _serving) =
        connected_with(&runtime, unsent(), DrainWatch::never(), &heeding(false)).await;
    let response = connection.send(&mut get(Body::empty())).await.unwrap();
    assert_eq!(response.status(), 502);
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_takes_nothing_more() {
    let runtime = runtime();
    let (signal, watch): (DrainSignal, _) = drain::channel();
    let (feed, body) = fed();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let streams = service(move |_| {
        let body = body.lock().unwrap().take();
        async move { Response::new(body.unwrap()) }
    });
    let (connection, end) = connected(&runtime, streams, watch).await;
    let response = connection.send(&mut get(Body::empty())).await.unwrap();
    signal.start();
    settles(&mut Box::pin(std::future::pending::<()>())).await;
    let mut request = get(Body::full("next"));
    let unsent = connection.send(&mut request).await.unwrap_err();
    assert!(matches!(unsent, SendError::Unsent(_)), "{unsent}");
    assert_eq!(request.into_body().read_to_end(9).await.unwrap(), "next");
    feed.send(data("to the ")).await.unwrap();
    feed.send(data("end")).await.unwrap();
    drop(feed);
    assert_eq!(response.into_body().read_to_end(99).await.unwrap(), "to the end");
    connection.closed().await;
    assert!(connection.is_closed() && !connection.is_ready());
    end.await.unwrap().unwrap();
    signal.drained().await;
}

#[tokio::test]
async fn a_broken_connection_fails_what_was_sent_and_returns_what_was_not() {
    let runtime = runtime();
    let (near, mut far) = duplex(1 << 16);
    let options = Http2ClientOptions::default();
    let connection = connect(&runtime, Box::new(near), &options).await.unwrap();
    let mut request = get(Body::empty());
    let mut sent = Box::pin(connection.send(&mut request));
    assert!(settles(&mut sent).await.is_none());
    let mut bytes = [0; 24];
    far.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    drop(far);
    assert!(matches!(sent.await.unwrap_err(), SendError::Failed(_)));
    connection.closed().await;
    let unsent = connection.send(&mut get(Body::empty())).await.unwrap_err();
    assert!(matches!(unsent, SendError::Unsent(_)), "{unsent}");
}

#[tokio::test]
async fn a_request_behind_the_last_stream_of_a_goaway_comes_back() {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let runtime = runtime();
    let (near, mut far) = duplex(1 << 16);
    let options = Http2ClientOptions::default();
    let connection = connect(&runtime, Box::new(near), &options).await.unwrap();
    let mut request = get(Body::full("unread"));
    let mut sent = Box::pin(connection.send(&mut request));
    assert!(settles(&mut sent).await.is_none());
    far.write_all(&[SETTINGS, GOAWAY].concat()).await.unwrap();
    let SendError::Unsent(error) = sent.await.unwrap_err() else {
        panic!("the peer did not process it");
    };
    assert!(matches!(error, Error::GoAway { code: 0, .. }));
    let body = request.into_body().read_to_end(99).await.unwrap();
    assert_eq!(body, "unread");
}

#[tokio::test]
async fn dropping_a_response_amid_its_body_cancels_its_producer() {
    let (feed, body) = fed();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let streams = service(move |_| {
        let body = body.lock().unwrap().take();
        async move { Response::new(body.unwrap()) }
    });
    let connection = to(proxy(to(streams).await)).await;
    let response = connection.send(&mut get(Body::empty())).await.unwrap();
    settles(&mut Box::pin(std::future::pending::<()>())).await;
    assert!(!feed.is_closed());
    drop(response);
    feed.closed().await;
}

#[tokio::test]
async fn a_request_in_flight_stays_within_its_size() {
    let nobody = service(|_| async { Response::new(Body::empty()) });
    let connection = to(nobody).await;
    let bytes = size_of_val(&connection.send(&mut get(Body::empty())));
    assert!(bytes <= 576, "{bytes} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_given_up() {
    let runtime = runtime();
    let (near, _silent) = duplex(1 << 16);
    let options = Http2ClientOptions {
        keep_alive: Some(KeepAlive {
            interval: Some(Duration::from_secs(10)),
            timeout: Some(Duration::from_secs(3)),
            while_idle: true,
        }),
        ..Http2ClientOptions::default()
    };
    let connection = connect(&runtime, Box::new(near), &options).await.unwrap();
    let before = runtime.now();
    connection.closed().await;
    assert_eq!(runtime.now().since(before), Duration::from_secs(13));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_preface_is_given_up() {
    let runtime = runtime();
    let (mut near, far) = duplex(1 << 16);
    near.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
    let nobody = service(|_| async { Response::new(Body::empty()) });
    let options = ServerOptions::default();
    let (io, drain) = (Box::new(far), DrainWatch::never());
    let result = serve(&runtime, io, HttpVersion::Http2, &options, nobody, drain).await;
    assert!(matches!(result.unwrap_err(), Error::Timeout(_)));
    assert_eq!(runtime.now().since(crate::time::Timestamp::ZERO), options.header_timeout);
}

#[tokio::test]
async fn a_tunnel_is_joined_with_the_upstreams_stream() {
    let (near, mut far) = duplex(64);
    let near = Arc::new(std::sync::Mutex::new(Some(near)));
    let tunnels = service(move |request| {
        assert_eq!(*request.method(), Method::CONNECT);
        let near = near.lock().unwrap().take().unwrap();
        async move {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(Upgraded::new(Box::new(near)));
            response
        }
    });
    let connection = to(proxy(to(tunnels).await)).await;
    let request = ::http::Request::connect("weft.example:443").body(Body::empty());
    let response = connection.send(&mut request.unwrap()).await.unwrap();
    let mut tunnel = response.extensions().get::<Upgraded>().unwrap().take().unwrap();
    tunnel.write_all(b"ping").await.unwrap();
    tunnel.flush().await.unwrap();
    let mut heard = [0; 4];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ping");
    far.write_all(b"pong").await.unwrap();
    drop(far);
    let mut answered = Vec::new();
    tunnel.read_to_end(&mut answered).await.unwrap();
    assert_eq!(answered, b"pong");
}

#[tokio::test]
async fn a_body_is_read_up_to_its_bound() {
    let (feed, body) = fed();
    feed.send(data("1234")).await.unwrap();
    feed.send(data("5678")).await.unwrap();
    let error = body.read_to_end(7).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge("body")));
}
