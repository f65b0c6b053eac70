//! Retries, circuit breaking and rate limits, over real proxies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use http_body::Frame;

use super::policies::{anybody, balance, detect, http_routes, port, rule, unmeshed};
use super::world::{APP, PATH, Pair, SERVICE, all, get, get2, grpc, ok, text};
use crate::model::client_policy::{
    Backoff, FailureAccrual, GrpcRetryConditions, GrpcRoute, GrpcRoutes, HttpRetryConditions,
    Retry, Rule, Trip,
};
use crate::model::client_policy::{ClientPolicy, ClientProtocol};
use crate::model::metadata::Metadata;
use crate::model::ratio::Ratio;
use crate::model::route::grpc::GrpcMatch;
use crate::model::server_policy::{RateLimit, ServerProtocol};
use crate::wire::http::{Body, Request, Response};

const A: &str = "10.0.0.8:80";
const B: &str = "10.0.0.9:80";

const BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(25),
    max: Duration::from_millis(250),
    jitter: Ratio::from_millionths(1_000_000),
    respect_retry_after: false,
};

fn retry<C>(max_retries: u16, conditions: C) -> Option<Retry<C>> {
    Some(Retry {
        max_retries,
        max_request_bytes: 64 * 1024,
        conditions,
        timeout: None,
        backoff: Some(BACKOFF),
    })
}

fn server_errors() -> HttpRetryConditions {
    HttpRetryConditions { statuses: vec![(500, 599)] }
}

/// Fails the first requests, as many as are given, then echoes.
fn flaky(failures: usize) -> impl Fn(Request) -> crate::runtime::BoxFuture<'static, Response> {
    let seen = Arc::new(AtomicUsize::new(0));
    move |request: Request| {
        let fails = seen.fetch_add(1, Ordering::Relaxed) < failures;
        Box::pin(async move {
            let body = request.into_body().read_to_end(1 << 20).await.unwrap();
            let mut response = Response::new(Body::full(body));
            if fails {
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        })
    }
}

fn post(bytes: usize) -> Request {
    let request = http::Request::post("/").header("host", "web");
    request.body(Body::full("x".repeat(bytes))).unwrap()
}

async fn retrying(mesh: &Pair, max_retries: u16) {
    let mut retried = rule(balance(PATH));
    retried.retry = retry(max_retries, server_errors());
    let policy = detect(http_routes(retried), balance(PATH));
    mesh.world.control.set_client_policy(SERVICE, policy);
    mesh.world.sleep(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_again_whole_until_it_is_answered_well() {
    let mesh = Pair::new().await;
    retrying(&mesh, 3).await;
    let app = mesh.world.app(APP, flaky(2)).await;
    let response = mesh.world.http1(&mesh.client, SERVICE, post(40_000)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await.len(), 40_000);
    assert_eq!(app.count(), 3);
    let count = async |name: &str| mesh.world.metric(&mesh.client, &[name]).await;
    assert_eq!(count("outbound_http_route_retry_requests_total").await, 2.0);
    assert_eq!(count("outbound_http_route_retry_successes_total").await, 1.0);
    assert_eq!(count("outbound_http_route_backend_requests_total").await, 3.0);
    let statuses = ["outbound_http_route_request_statuses_total", "\"200\""];
    assert_eq!(mesh.world.metric(&mesh.client, &statuses).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn attempts_end_and_what_is_too_large_is_sent_once() {
    let mesh = Pair::new().await;
    retrying(&mesh, 2).await;
    let app = mesh.world.app(APP, flaky(100)).await;
    assert_eq!(mesh.get("/").await.status(), 503);
    assert_eq!(app.count(), 3);
    let limit = ["outbound_http_route_retry_limit_exceeded_total"];
    assert_eq!(mesh.world.metric(&mesh.client, &limit).await, 1.0);
    let response = mesh.world.http1(&mesh.client, SERVICE, post(100_000)).await;
    assert_eq!(response.status(), 503);
    assert_eq!(app.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_given_up_for_another() {
    let mesh = Pair::new().await;
    let mut retried = rule(balance(PATH));
    retried.retry = retry(1, server_errors());
    if let Some(retry) = &mut retried.retry {
        retry.timeout = Some(Duration::from_millis(100));
    }
    let policy = detect(http_routes(retried), balance(PATH));
    mesh.world.control.set_client_policy(SERVICE, policy);
    let first = Arc::new(AtomicUsize::new(0));
    let app = mesh.world.app(APP, move |_| {
        let is_first = first.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_first {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            ok("hello").await
        }
    });
    let app = app.await;
    let began = mesh.world.now();
    assert_eq!(mesh.get("/").await.status(), 200);
    assert!(mesh.world.now().since(began) < Duration::from_millis(500));
    assert_eq!(app.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_grpc_is_retried_by_the_status_in_its_trailers() {
    let mesh = Pair::new().await;
    let unavailable = GrpcRetryConditions { unavailable: true, ..Default::default() };
    let http = rule(balance(PATH));
    let rule = Rule {
        matches: vec![GrpcMatch::default()],
        filters: vec![],
        backends: match http.backends {
            crate::model::client_policy::Distribution::RandomAvailable(all) => {
                let backend = all[0].backend.backend.clone();
                crate::model::client_policy::Distribution::FirstAvailable(vec![
                    crate::model::client_policy::RouteBackend {
                        backend,
                        filters: vec![],
                        request_timeout: None,
                    },
                ])
            }
            other => panic!("{other:?}"),
        },
        timeouts: http.timeouts,
        retry: retry(2, unavailable),
        allow_l5d_request_headers: false,
    };
    let route =
        GrpcRoute { metadata: Metadata::new_default("calls"), hosts: vec![], rules: vec![rule] };
    let protocol = ClientProtocol::Grpc(GrpcRoutes { routes: vec![route], breaker: None });
    let policy = ClientPolicy { parent: Metadata::new_default("web"), protocol };
    mesh.world.control.set_client_policy(SERVICE, policy);
    let seen = Arc::new(AtomicUsize::new(0));
    let app = mesh.world.app(APP, move |_| {
        let nth = seen.fetch_add(1, Ordering::Relaxed);
        async move {
            let status = if nth == 0 { "14" } else { "0" };
            let trailers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static(status),
            )]);
            // Head and trailers are apart, with nothing between them the first time.
            let body = Body::empty().after(Ok(Frame::trailers(trailers)));
            let body = if nth == 0 { body } else { body.after(Ok(Frame::data("x".into()))) };
            let mut response = Response::new(body);
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", grpc);
            response
        }
    });
    let app = app.await;
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let mut response = connection.send(&mut grpc("http://web/pkg.Service/Method")).await.unwrap();
    let data = response.body_mut().next_frame().await.unwrap().unwrap();
    assert_eq!(data.into_data().unwrap(), "x");
    let trailers = response.body_mut().next_frame().await.unwrap().unwrap();
    assert_eq!(trailers.trailers_ref().unwrap()["grpc-status"], "0");
    assert_eq!(app.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_its_reader_leaves_is_no_failure_and_one_that_breaks_is() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |request: Request| async move {
        let (sender, receiver) = tokio::sync::mpsc::channel::<&'static str>(1);
        let breaks = request.uri().path() == "/breaks";
        tokio::spawn(async move {
            let _ = sender.send("x").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            if breaks {
                let _ = sender.send(BREAK).await;
            }
            sender.closed().await;
        });
        Response::new(Body::wrap(Slow(receiver)))
    });
    let _app = app.await;
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    for path in ["watch", "breaks"] {
        let mut response = connection.send(&mut get2(&format!("http://web/{path}"))).await.unwrap();
        assert_eq!(response.status(), 200);
        response.body_mut().next_frame().await.unwrap().unwrap();
        if path == "breaks" {
            assert!(response.into_body().read_to_end(99).await.is_err());
        }
    }
    mesh.world.sleep(100).await;
    for (proxy, direction) in [(&mesh.client, "outbound"), (&mesh.server, "inbound")] {
        let direction = format!("direction=\"{direction}\"");
        for classification in ["success", "failure"] {
            let class = format!("classification=\"{classification}\"");
            let one = ["response_total", "status_code=\"200\"", &direction, &class];
            assert_eq!(mesh.world.metric(proxy, &one).await, 1.0, "{direction} {classification}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_late_and_one_that_stalls_are_given_up() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |request: Request| async move {
        let path = request.uri().path().to_string();
        if path == "/late" {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let (sender, receiver) = tokio::sync::mpsc::channel::<&'static str>(1);
        tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(400)).await;
                let _ = sender.send("x").await;
            }
            if path == "/stalls" {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        });
        Response::new(Body::wrap(Slow(receiver)))
    });
    let _app = app.await;
    let timed = async |response: Option<u64>, idle: Option<u64>| {
        let mut timed = rule(balance(PATH));
        timed.timeouts.response = response.map(Duration::from_millis);
        timed.timeouts.idle = idle.map(Duration::from_millis);
        let policy = detect(http_routes(timed), balance(PATH));
        mesh.world.control.set_client_policy(SERVICE, policy);
        mesh.world.sleep(1).await;
    };
    timed(Some(1_000), None).await;
    let late = mesh.get("/late").await;
    assert_eq!(
        (late.status().as_u16(), late.headers()["l5d-proxy-error"].to_str().unwrap()),
        (504, "response timed out")
    );
    assert!(mesh.get("/").await.into_body().read_to_end(99).await.is_err(), "two seconds long");
    timed(Some(3_000), None).await;
    assert_eq!(text(mesh.get("/").await).await, "xxxxx");
    timed(None, Some(1_000)).await;
    assert_eq!(mesh.get("/late").await.status(), 504);
    assert_eq!(text(mesh.get("/").await).await, "xxxxx", "it moves");
    assert!(mesh.get("/stalls").await.into_body().read_to_end(99).await.is_err());
    let counted = async |error: &str| {
        let of = ["outbound_http_route_request_statuses_total", error];
        mesh.world.metric(&mesh.client, &of).await
    };
    assert_eq!(counted("RESPONSE_HEADERS_TIMEOUT").await, 1.0);
    assert_eq!(counted("RESPONSE_STREAM_TIMEOUT").await, 1.0);
    assert_eq!(counted("IDLE_TIMEOUT").await, 2.0);
}

/// Ends a body with an error.
const BREAK: &str = "";

/// Pieces as they come.
struct Slow(tokio::sync::mpsc::Receiver<&'static str>);

impl http_body::Body for Slow {
    type Data = bytes::Bytes;
    type Error = crate::wire::http::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<bytes::Bytes>, Self::Error>>> {
        let frame = |piece| match piece {
            BREAK => Err(crate::wire::http::Error::Closed),
            piece => Ok(Frame::data(piece.into())),
        };
        self.0.poll_recv(cx).map(|piece| piece.map(frame))
    }
}

fn breaking(max_failures: u32) -> ClientPolicy {
    let backoff = Backoff {
        min: Duration::from_secs(1),
        max: Duration::from_secs(8),
        jitter: Ratio::from_millionths(0),
        respect_retry_after: false,
    };
    let trip = Some(Trip::Consecutive { max_failures, backoff });
    let mut routes = http_routes(rule(balance(PATH)));
    routes.breaker = Some(FailureAccrual { trip, min_ready_endpoints: None });
    detect(routes, balance(PATH))
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_keeps_failing_gets_nothing_but_probes_until_it_is_well() {
    let mesh = Pair::new().await;
    let _a = mesh.world.app(A, |_| ok("a")).await;
    let fails = Arc::new(AtomicUsize::new(1));
    let failing = fails.clone();
    let b = mesh.world.app(B, move |_| {
        let fails = failing.load(Ordering::Relaxed) == 1;
        async move {
            let mut response = ok("b").await;
            if fails {
                *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        }
    });
    let b = b.await;
    let control = &mesh.world.control;
    control.set_endpoints(PATH, vec![unmeshed(B)]);
    control.set_client_policy(SERVICE, breaking(3));
    for _ in 0..3 {
        assert_eq!(mesh.get("/").await.status(), 500);
    }
    control.set_endpoints(PATH, vec![unmeshed(A), unmeshed(B)]);
    mesh.world.sleep(1).await;
    let send = async |count: u64| all((0..count).map(async |_| mesh.get("/").await.status())).await;
    assert!(send(50).await.iter().all(|status| *status == 200));
    assert_eq!(b.count(), 3);
    let pending = ["outbound_http_balancer_endpoints", "\"pending\""];
    assert_eq!(mesh.world.metric(&mesh.client, &pending).await, 1.0);
    // One probe after each penalty.
    mesh.world.sleep(1_000).await;
    let failed = send(50).await.iter().filter(|status| **status != 200).count();
    assert!(failed <= 1 && b.count() == 3 + failed, "{failed}, {}", b.count());
    fails.store(0, Ordering::Relaxed);
    mesh.world.sleep(8_000).await;
    let before = b.count();
    for _ in 0..10 {
        assert!(send(20).await.iter().all(|status| *status == 200));
        mesh.world.sleep(100).await;
    }
    assert!(b.count() - before > 20, "{}", b.count() - before);
    assert_eq!(mesh.world.metric(&mesh.client, &pending).await, 0.0);
}

#[tokio::test(start_paused = true)]
async fn where_every_endpoint_is_taken_out_requests_wait_and_then_fail_fast() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(A, |_| async {
        let mut response = ok("a").await;
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let app = app.await;
    mesh.world.control.set_endpoints(PATH, vec![unmeshed(A)]);
    mesh.world.control.set_client_policy(SERVICE, breaking(2));
    assert_eq!(mesh.get("/").await.status(), 500);
    assert_eq!(mesh.get("/").await.status(), 500);
    // It waits for the penalty's end, and is the probe.
    let began = mesh.world.now();
    assert_eq!(mesh.get("/").await.status(), 500);
    let took = mesh.world.now().since(began);
    assert!((900..1_300).contains(&took.as_millis()), "{took:?}");
    assert_eq!(mesh.get("/").await.status(), 500, "after two seconds more");
    // The next penalty is longer than anybody waits.
    assert_eq!(mesh.get("/").await.status(), 504);
    let began = mesh.world.now();
    assert_eq!(mesh.get("/").await.status(), 504);
    assert!(mesh.world.now().since(began) < Duration::from_millis(100), "at once");
    assert_eq!(app.count(), 4);
    mesh.world.sleep(4_000).await;
    assert_eq!(mesh.get("/").await.status(), 500, "it is tried again");
}

#[tokio::test(start_paused = true)]
async fn requests_above_a_ports_limit_are_429() {
    let mesh = Pair::with(&[], &[("LINKERD2_PROXY_INBOUND_PORTS", "8080")]).await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let limit = RateLimit {
        metadata: Metadata::new_default("limit"),
        total: Some(100),
        identity: Some(5),
        overrides: vec![],
    };
    let protocol = ServerProtocol::Detect {
        timeout: Duration::from_secs(10),
        routes: vec![],
        rate_limit: Some(limit),
    };
    mesh.world.control.set_server_policy(8080, port(protocol, vec![anybody()]));
    mesh.world.sleep(20_000).await;
    let statuses = all((0..8).map(async |_: u64| mesh.get("/").await.status().as_u16())).await;
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((admitted, app.count()), (5, 5), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)));
    // Whoever has no identity shares another.
    let io = mesh.world.dial_from("10.0.0.7", APP).await;
    assert_eq!(mesh.world.http1_over(io, get("/")).await.status(), 200);
    mesh.world.sleep(1_000).await;
    assert_eq!(mesh.get("/").await.status(), 200);
}
