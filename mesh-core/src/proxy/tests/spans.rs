//! Spans of requests through two proxies, as a collector gets them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, Full};

use super::world::{APP, App, PATH, Pair, SERVER, SERVICE, World, get, get2, grpc, ok, text};
use crate::api::otlp::testing::lines;
use crate::wire::http::{Body, Request, Response};

const COLLECTOR: &str = "127.0.0.1:4317";
const TO: (&str, &str) = ("LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR", COLLECTOR);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A collector, and the spans that it got.
struct Collector {
    spans: Arc<Mutex<Vec<String>>>,
    _app: App,
}

impl Collector {
    async fn of(world: &World) -> Self {
        let spans = Arc::<Mutex<Vec<String>>>::default();
        let kept = spans.clone();
        let app = world.app(COLLECTOR, move |request| {
            let kept = kept.clone();
            async move {
                let message = request.into_body().read_to_end(1 << 24).await.unwrap();
                kept.lock().unwrap().extend(lines(&message));
                taken()
            }
        });
        Self { spans, _app: app.await }
    }

    /// What came, in order of the text.
    fn sorted(&self) -> Vec<String> {
        let mut spans = self.spans.lock().unwrap().clone();
        spans.sort();
        spans
    }
}

/// An empty answer, with gRPC's status in trailers.
fn taken() -> Response {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(0))]);
    let body = Full::new(Bytes::from_static(&[0; 5]))
        .with_trailers(std::future::ready(Some(Ok(trailers))))
        .map_err(|never: std::convert::Infallible| match never {});
    let mut response = Response::new(Body::wrap(body));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    response
}

async fn traced() -> (Pair, Collector) {
    let world = World::new().await;
    let collector = Collector::of(&world).await;
    let client = [
        TO,
        ("LINKERD2_PROXY_TRACE_SERVICE_NAME", "of-client"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b"),
    ];
    let server = [TO, ("LINKERD2_PROXY_TRACE_SERVICE_NAME", "of-server")];
    (Pair::on(world, &client, &server).await, collector)
}

fn sampled(mut request: Request, flags: &str) -> Request {
    let value = format!("00-{TRACE}-{PARENT}-{flags}").parse().unwrap();
    request.headers_mut().insert("traceparent", value);
    request
}

/// Without the identities that chance gave.
fn legible(spans: &[String]) -> String {
    let without = |line: &String| match line.split_once(&format!("{TRACE}/")) {
        Some((before, after)) => {
            let (ids, after) = after.split_once(' ').unwrap();
            let parent = if ids.ends_with(PARENT) { "caller" } else { "proxy" };
            format!("{before}of {parent} {after}")
        }
        None => panic!("of another trace: {line}"),
    };
    let mut lines: Vec<_> = spans.iter().map(without).collect();
    lines.sort();
    lines.join("\n")
}

#[tokio::test(start_paused = true)]
async fn a_request_of_a_recorded_trace_is_told_of_by_both_proxies() {
    let (mesh, collector) = traced().await;
    let world = &mesh.world;
    let app = world.app(APP, |_| async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        ok("hello").await
    });
    let app = app.await;
    let request = sampled(get("/a?token=hidden"), "01");
    let response = world.http1(&mesh.client, SERVICE, request).await;
    assert_eq!(text(response).await, "hello");
    assert!(collector.sorted().is_empty(), "spans wait to be sent together");
    world.sleep(11_000).await;
    let spans = collector.sorted();
    insta::assert_snapshot!(legible(&spans), @r"
    service.name=of-client a=b | client GET of caller 250ms | http.request.method=GET url.full=http://web/a?token=REDACTED network.transport=tcp network.protocol.name=http network.protocol.version=1.1 server.address=web http.response.status_code=200
    service.name=of-server | server GET of proxy 250ms | http.request.method=GET url.full=http://web/a?token=REDACTED network.transport=tcp network.protocol.name=http network.protocol.version=1.1 server.address=web client.address=10.0.0.1 http.response.status_code=200
    ");
    // The application goes on from the server's proxy, which goes on from the client's.
    let traceparent = app.only_request().headers()["traceparent"].to_str().unwrap().to_string();
    let ids = |line: &String| line.split(&format!("{TRACE}/")).nth(1).unwrap()[..34].to_string();
    let (of_client, of_server) = (ids(&spans[0]), ids(&spans[1]));
    assert_eq!(of_client[18..], *PARENT);
    assert_eq!(of_server[18..], of_client[..16]);
    assert_eq!(traceparent, format!("00-{TRACE}-{}-01", &of_server[..16]));
    for (proxy, name) in [(&mesh.client, "client"), (&mesh.server, "server")] {
        let exported = world.metric(proxy, &["opentelemetry_span_exports_total"]).await;
        assert_eq!(exported, 1.0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_and_refusals_are_told_of() {
    let (mesh, collector) = traced().await;
    let world = &mesh.world;
    let app = world.app(APP, |request| async move {
        let mut response = Response::new(Body::empty());
        match request.uri().path() {
            "/missing" => *response.status_mut() = http::StatusCode::NOT_FOUND,
            "/late" => std::future::pending().await,
            _ => {
                response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                response.headers_mut().insert("grpc-status", "14".parse().unwrap());
            }
        }
        response
    });
    let _app = app.await;
    world.http1(&mesh.client, SERVICE, sampled(get("/missing"), "01")).await;
    let http2 = world.http2(&mesh.client, SERVICE).await;
    let mut request = sampled(get2("http://web/late"), "01");
    let late = http2.send(&mut request);
    let _ = world.runtime.timeout(Duration::from_secs(1), late).await;
    let mut call = sampled(grpc("http://web/pkg.Service/Method"), "01");
    text(http2.send(&mut call).await.unwrap()).await;
    let mut stranger = sampled(get2("http://web/"), "01");
    stranger.headers_mut().insert("l5d-require-id", "stranger".parse().unwrap());
    http2.send(&mut stranger).await.unwrap();
    world.sleep(11_000).await;
    insta::assert_snapshot!(legible(&collector.sorted()), @r"
    service.name=of-client a=b | client GET of caller 0ms failed | http.request.method=GET url.full=http://web/ network.transport=tcp network.protocol.name=http network.protocol.version=2 server.address=web http.response.status_code=502 error.type=UNKNOWN
    service.name=of-client a=b | client GET of caller 0ms failed | http.request.method=GET url.full=http://web/missing network.transport=tcp network.protocol.name=http network.protocol.version=1.1 server.address=web http.response.status_code=404 error.type=404
    service.name=of-client a=b | client GET of caller 1000ms failed | http.request.method=GET url.full=http://web/late network.transport=tcp network.protocol.name=http network.protocol.version=2 server.address=web error.type=CANCEL
    service.name=of-client a=b | client pkg.Service/Method of caller 0ms failed | http.request.method=POST url.full=http://web/pkg.Service/Method network.transport=tcp network.protocol.name=http network.protocol.version=2 server.address=web http.response.status_code=200 rpc.grpc.status_code=14 error.type=14
    service.name=of-server | server GET of proxy 0ms | http.request.method=GET url.full=http://web/missing network.transport=tcp network.protocol.name=http network.protocol.version=1.1 server.address=web client.address=10.0.0.1 http.response.status_code=404
    service.name=of-server | server GET of proxy 1000ms failed | http.request.method=GET url.full=http://web/late network.transport=tcp network.protocol.name=http network.protocol.version=2 server.address=web client.address=10.0.0.1 error.type=CANCEL
    service.name=of-server | server pkg.Service/Method of proxy 0ms failed | http.request.method=POST url.full=http://web/pkg.Service/Method network.transport=tcp network.protocol.name=http network.protocol.version=2 server.address=web client.address=10.0.0.1 http.response.status_code=200 rpc.grpc.status_code=14 error.type=14
    ");
}

#[tokio::test(start_paused = true)]
async fn traces_that_are_not_recorded_pass_untouched() {
    let (mesh, collector) = traced().await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    mesh.world.http1(&mesh.client, SERVICE, sampled(get("/"), "00")).await;
    mesh.get("/").await;
    mesh.world.sleep(30_000).await;
    assert!(collector.sorted().is_empty());
    let [first, second] = app.requests().try_into().unwrap();
    assert_eq!(first.headers()["traceparent"], format!("00-{TRACE}-{PARENT}-00"));
    assert!(!second.headers().contains_key("traceparent"));
}

#[tokio::test(start_paused = true)]
async fn traces_begin_here_where_that_is_asked_for_and_are_decided_on_once() {
    let world = World::new().await;
    let collector = Collector::of(&world).await;
    let roots = [TO, ("WEFT_TRACE_ROOT_RATIO", "0.5")];
    let mesh = Pair::on(world, &roots, &roots).await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    for _ in 0..100 {
        mesh.get("/").await;
    }
    mesh.world.sleep(11_000).await;
    let spans = collector.sorted();
    let of = |side: &str| spans.iter().filter(|line| line.contains(side)).count();
    assert!((25..75).contains(&of("| client")), "{}", of("| client"));
    assert_eq!(of("| client"), of("| server"), "one decision for both");
    let seen = app.requests();
    assert!(seen.iter().all(|request| request.headers().contains_key("traceparent")));
    let sampled = |request: &&http::Request<()>| {
        request.headers()["traceparent"].as_bytes().ends_with(b"-01")
    };
    assert_eq!(seen.iter().filter(sampled).count(), of("| client"));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let (mesh, collector) = traced().await;
    drop(collector);
    let world = &mesh.world;
    let _app = world.app(APP, |_| ok("hello")).await;
    for _ in 0..5 {
        let response = world.http1(&mesh.client, SERVICE, sampled(get("/"), "01")).await;
        assert_eq!(text(response).await, "hello");
    }
    world.sleep(60_000).await;
    let lost = ["weft_spans_dropped_total", "reason=\"unreachable\""];
    assert_eq!(world.metric(&mesh.client, &lost).await, 5.0);
    let collector = Collector::of(world).await;
    world.http1(&mesh.client, SERVICE, sampled(get("/"), "01")).await;
    world.sleep(20_000).await;
    assert_eq!(collector.sorted().len(), 2);
    // Endpoints are asked for as before.
    mesh.world.control.set_endpoints(PATH, vec![super::policies::meshed(APP, SERVER)]);
}

#[tokio::test(start_paused = true)]
async fn the_last_spans_are_sent_before_the_end() {
    let (mesh, collector) = traced().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    mesh.world.http1(&mesh.client, SERVICE, sampled(get("/"), "01")).await;
    mesh.client.drain.start();
    mesh.client.end.await.unwrap().unwrap();
    assert_eq!(collector.sorted().len(), 1);
}
