//! Endpoints that come, go, refuse, hang and fail, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::policies::{
    all_to, balance, detect, forward, http_routes, meshed, rule, unmeshed, weighted_rule,
};
use super::world::{
    APP, PATH, Pair, SERVER, SERVICE, all, at, get, get2, grpc, ip, ok, read_head, text,
};
use crate::model::client_policy::{Backend, Dispatcher};
use crate::wire::http::Response;

const A: &str = "10.0.0.8:80";
const B: &str = "10.0.0.9:80";

async fn slow() -> Response {
    tokio::time::sleep(Duration::from_millis(20)).await;
    ok("slow").await
}

#[tokio::test(start_paused = true)]
async fn a_removed_endpoint_fails_no_request_and_gets_no_new_one() {
    let mesh = Pair::new().await;
    let a = mesh.world.app(A, |_| slow()).await;
    let b = mesh.world.app(B, |_| slow()).await;
    let control = &mesh.world.control;
    control.set_endpoints(PATH, vec![unmeshed(A), unmeshed(B)]);
    let request = async |nth: u64| {
        mesh.world.sleep(2 * nth).await;
        mesh.get("/").await.status().as_u16()
    };
    let remove = async {
        mesh.world.sleep(200).await;
        control.set_endpoints(PATH, vec![unmeshed(A)]);
        mesh.world.sleep(1).await;
        b.count()
    };
    let (statuses, at_removal) = tokio::join!(all((0..200).map(request)), remove);
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(at_removal > 20, "{at_removal} of the first 100");
    assert_eq!(b.count(), at_removal);
    assert_eq!(a.count() + b.count(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_refuses_connections_costs_no_request() {
    let mesh = Pair::new().await;
    let a = mesh.world.app(A, |_| slow()).await;
    let control = &mesh.world.control;
    control.set_endpoints(PATH, vec![unmeshed(A), unmeshed(B)]);
    for _ in 0..50 {
        assert_eq!(mesh.get("/").await.status(), 200);
    }
    assert_eq!(a.count(), 50);
    let tried = mesh.world.wires.dialed(ip("10.0.0.1"));
    let tried = tried.iter().filter(|to| **to == at(B)).count();
    assert!((1..10).contains(&tried), "{tried}");
    let pending = ["outbound_http_balancer_endpoints", "\"pending\""];
    assert_eq!(mesh.world.metric(&mesh.client, &pending).await, 1.0);
    // It comes back, and gets its share again.
    let b = mesh.world.app(B, |_| slow()).await;
    mesh.world.sleep(5_000).await;
    assert_eq!(mesh.world.metric(&mesh.client, &pending).await, 0.0);
    let statuses = all((0..50).map(async |_: u64| mesh.get("/").await.status())).await;
    assert!(statuses.iter().all(|status| *status == 200));
    assert!(b.count() > 10, "{}", b.count());
}

#[tokio::test(start_paused = true)]
async fn a_killed_endpoint_still_in_discovery_costs_what_was_in_flight_at_most() {
    let mesh = Pair::new().await;
    let _a = mesh.world.app(A, |_| slow()).await;
    let b = mesh.world.app(B, |_| slow()).await;
    mesh.world.control.set_endpoints(PATH, vec![unmeshed(A), unmeshed(B)]);
    let request = async |nth: u64| {
        mesh.world.sleep(2 * nth).await;
        mesh.get("/").await.status() == 200
    };
    let kill = async {
        mesh.world.sleep(200).await;
        drop(b);
    };
    let (succeeded, ()) = tokio::join!(all((0..300).map(request)), kill);
    let failed = succeeded.iter().filter(|succeeded| !**succeeded).count();
    assert!(failed <= 12, "{failed}");
    assert!(succeeded[150..].iter().all(|succeeded| *succeeded));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_connection_shares_the_attempt() {
    let mesh = Pair::new().await;
    mesh.world.wires.delay(at("10.0.0.2:4143"), Duration::MAX);
    let began = mesh.world.now();
    let statuses = all((0..20).map(async |_: u64| mesh.get("/").await.status())).await;
    let took = mesh.world.now().since(began);
    assert!(statuses.iter().all(|status| *status == 504), "{statuses:?}");
    assert!(took <= Duration::from_millis(4_500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_to_connect_outlives_the_request_that_began_it() {
    let mesh = Pair::new().await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut timed = rule(balance(PATH));
    timed.timeouts.request = Some(Duration::from_millis(300));
    let policy = detect(http_routes(timed), balance(PATH));
    mesh.world.control.set_client_policy(SERVICE, policy);
    let proxy = at("10.0.0.2:4143");
    mesh.world.wires.delay(proxy, Duration::from_millis(500));
    assert_eq!(mesh.get("/").await.status(), 504);
    assert_eq!(mesh.get("/").await.status(), 200);
    assert_eq!(app.count(), 1);
    let dialed = mesh.world.wires.dialed(ip("10.0.0.1"));
    assert_eq!(dialed.iter().filter(|to| **to == proxy).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_endpoints_requests_wait_then_fail_at_once_and_recover() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    mesh.world.control.set_endpoints(PATH, vec![]);
    let took = async |request| {
        let began = mesh.world.now();
        let response = mesh.world.http1(&mesh.client, SERVICE, request).await;
        (response, mesh.world.now().since(began).as_millis())
    };
    let (response, millis) = took(get("/")).await;
    assert_eq!((response.status().as_u16(), millis / 100), (504, 30));
    assert_eq!(response.headers()["l5d-proxy-error"], "service in fail-fast");
    let (response, millis) = took(get("/")).await;
    assert_eq!((response.status().as_u16(), millis), (504, 0));
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let response = connection.send(&mut grpc("http://web/pkg.Service/Method")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "14");
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let shut = ["outbound_http_balancer_queue_gate_shut_total"];
    assert_eq!(mesh.world.metric(&mesh.client, &shut).await, 1.0);

    mesh.world.control.set_endpoints(PATH, vec![meshed(APP, SERVER)]);
    mesh.world.sleep(1).await;
    assert_eq!(mesh.get("/").await.status(), 200);
    let open = ["outbound_http_balancer_queue_gate_open_total"];
    assert_eq!(mesh.world.metric(&mesh.client, &open).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_goes_on_when_an_endpoint_comes() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    mesh.world.control.set_endpoints(PATH, vec![]);
    mesh.world.sleep(10).await;
    let came = async {
        mesh.world.sleep(1_000).await;
        mesh.world.control.set_endpoints(PATH, vec![meshed(APP, SERVER)]);
    };
    let began = mesh.world.now();
    let (response, ()) = tokio::join!(mesh.get("/"), came);
    assert_eq!(response.status(), 200);
    assert!(mesh.world.now().since(began) < Duration::from_millis(1_100));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_sheds() {
    let capacity = [("LINKERD2_PROXY_OUTBOUND_HTTP_QUEUE_CAPACITY", "1")];
    let mesh = Pair::with(&capacity, &[]).await;
    mesh.world.control.set_endpoints(PATH, vec![]);
    let mut statuses = all((0..3).map(async |_: u64| mesh.get("/").await.status().as_u16())).await;
    statuses.sort();
    assert_eq!(statuses, [503, 503, 504]);
    let shed = ["outbound_http_errors_total", "loadshed"];
    assert_eq!(mesh.world.metric(&mesh.client, &shed).await, 2.0);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_in_flight_is_shed_on_either_side() {
    for (client, server) in [("1", "9"), ("9", "1")] {
        let client = [("LINKERD2_PROXY_OUTBOUND_MAX_IN_FLIGHT", client)];
        let server = [("LINKERD2_PROXY_INBOUND_MAX_IN_FLIGHT", server)];
        let mesh = Pair::with(&client, &server).await;
        let _app = mesh.world.app(APP, |_| slow()).await;
        let statuses = all((0..2).map(async |_: u64| mesh.get("/").await.status().as_u16()));
        let mut statuses = statuses.await;
        statuses.sort();
        assert_eq!(statuses, [200, 503]);
        assert_eq!(mesh.get("/").await.status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_504_and_the_connection_lives() {
    let mesh = Pair::new().await;
    let nth = Arc::new(AtomicUsize::new(0));
    let _app = mesh
        .world
        .app(APP, move |_| {
            let first = nth.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if first {
                    std::future::pending::<()>().await;
                }
                ok("hello").await
            }
        })
        .await;
    let mut timed = rule(balance(PATH));
    timed.timeouts.request = Some(Duration::from_millis(500));
    let policy = detect(http_routes(timed), balance(PATH));
    mesh.world.control.set_client_policy(SERVICE, policy);
    let mut io = mesh.world.dial(&mesh.client, SERVICE);
    let began = mesh.world.now();
    io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    let head = read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 504"), "{head}");
    assert_eq!(mesh.world.now().since(began).as_millis() / 10, 50);
    io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    let head = read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let timeouts = ["outbound_http_route_request_statuses_total", "REQUEST_TIMEOUT"];
    assert_eq!(mesh.world.metric(&mesh.client, &timeouts).await, 1.0);
    // The endpoint has failed a request, as its own figures tell.
    let failed = ["response_total", "direction=\"outbound\"", "classification=\"failure\""];
    assert_eq!(mesh.world.metric(&mesh.client, &failed).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_takes_too_long_is_broken_off() {
    let mesh = Pair::new().await;
    let serving = mesh
        .world
        .listen(APP, |mut io| async move {
            let _ = read_head(&mut io).await;
            let _ = io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            std::future::pending::<()>().await;
        })
        .await;
    mesh.world.keep(serving);
    let mut timed = rule(balance(PATH));
    timed.timeouts.request = Some(Duration::from_millis(500));
    let policy = detect(http_routes(timed), balance(PATH));
    mesh.world.control.set_client_policy(SERVICE, policy);
    let began = mesh.world.now();
    let response = mesh.get("/").await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().read_to_end(100).await.is_err());
    assert_eq!(mesh.world.now().since(began).as_millis() / 10, 50);
}

#[tokio::test(start_paused = true)]
async fn requests_are_split_by_weight_among_what_is_available() {
    let mesh = Pair::new().await;
    let a = mesh.world.app(A, |_| ok("a")).await;
    let b = mesh.world.app(B, |_| ok("b")).await;
    let control = &mesh.world.control;
    control.set_endpoints("a.test:80", vec![unmeshed(A)]);
    control.set_endpoints("b.test:80", vec![unmeshed(B)]);
    let split = weighted_rule(vec![(3, balance("a.test:80")), (1, balance("b.test:80"))]);
    let policy = detect(http_routes(split), balance("a.test:80"));
    control.set_client_policy(SERVICE, policy);
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    for _ in 0..400 {
        let response = connection.send(&mut get2("http://web/")).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert!((70..130).contains(&b.count()), "{}", b.count());
    assert_eq!(a.count() + b.count(), 400);

    control.set_endpoints("b.test:80", vec![]);
    mesh.world.sleep(10).await;
    let before = b.count();
    for _ in 0..20 {
        let response = connection.send(&mut get2("http://web/")).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert_eq!(b.count(), before);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_can_only_fail_fails_its_share() {
    let mesh = Pair::new().await;
    let a = mesh.world.app(A, |_| ok("a")).await;
    let control = &mesh.world.control;
    control.set_endpoints("a.test:80", vec![unmeshed(A)]);
    let failing = Backend { dispatcher: Dispatcher::Fail, ..balance("failing") };
    let split = weighted_rule(vec![(1, balance("a.test:80")), (1, failing)]);
    control.set_client_policy(SERVICE, detect(http_routes(split), balance("a.test:80")));
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let mut failed = 0;
    for _ in 0..200 {
        let response = connection.send(&mut get2("http://web/")).await.unwrap();
        assert!(matches!(response.status().as_u16(), 200 | 500));
        failed += usize::from(response.status() == 500);
    }
    assert!((70..130).contains(&failed), "{failed}");
    assert_eq!(a.count() + failed, 200);
}

#[tokio::test(start_paused = true)]
async fn a_split_shifts_away_from_a_backend_that_is_down_and_back() {
    let mesh = Pair::new().await;
    let _a = mesh.world.app(A, |_| ok("a")).await;
    let control = &mesh.world.control;
    control.set_endpoints("a.test:80", vec![unmeshed(A)]);
    control.set_endpoints("b.test:80", vec![unmeshed(B)]);
    let split = weighted_rule(vec![(1, balance("a.test:80")), (1, balance("b.test:80"))]);
    control.set_client_policy(SERVICE, detect(http_routes(split), balance("a.test:80")));
    let mut failed = 0;
    for _ in 0..50 {
        failed += usize::from(mesh.get("/").await.status() != 200);
    }
    assert!(failed <= 1, "only the request that finds it out: {failed}");
    let b = mesh.world.app(B, |_| ok("b")).await;
    mesh.world.sleep(10_000).await;
    for _ in 0..50 {
        assert_eq!(mesh.get("/").await.status(), 200);
    }
    assert!(b.count() > 10, "{}", b.count());
}

/// Speaks just enough HTTP/2 to answer one request and to refuse the second unread.
async fn one_request_then_goaway(mut io: crate::runtime::BoxIo) {
    let mut preface = [0; 24];
    io.read_exact(&mut preface).await.unwrap();
    io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut answered = false;
    loop {
        let mut head = [0; 9];
        if io.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        io.read_exact(&mut payload).await.unwrap();
        match head[3] {
            // HEADERS: `:status: 200`, with the stream's end.
            1 if !answered => {
                answered = true;
                let answer = [0, 0, 1, 1, 5, head[5], head[6], head[7], head[8], 0x88];
                io.write_all(&answer).await.unwrap();
            }
            1 => {
                let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
                io.write_all(&goaway).await.unwrap();
                return;
            }
            4 if head[4] == 0 => io.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap(),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_an_old_connection_refused_unread_goes_over_a_new_one() {
    let mesh = Pair::new().await;
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = accepted.clone();
    let serving = mesh
        .world
        .listen(APP, move |io| {
            counted.fetch_add(1, Ordering::Relaxed);
            one_request_then_goaway(io)
        })
        .await;
    mesh.world.keep(serving);
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    for nth in 0..4 {
        let response = connection.send(&mut get2("http://web/")).await.unwrap();
        assert_eq!(response.status(), 200, "request {nth}");
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_carried_a_burst_is_replaced_after_it() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| slow()).await;
    let opened = async || {
        let labels = ["tcp_open_total", "direction=\"outbound\"", "peer=\"dst\""];
        mesh.world.metric(&mesh.client, &labels).await
    };
    let burst = async |requests: u64| {
        let statuses = all((0..requests).map(async |_| mesh.get("/").await.status().as_u16()));
        assert!(statuses.await.iter().all(|status| *status == 200));
    };
    burst(100).await;
    mesh.world.sleep(5_000).await;
    assert_eq!(opened().await, 1.0, "that was none");
    burst(300).await;
    mesh.world.sleep(1_000).await;
    burst(100).await;
    mesh.world.sleep(1_500).await;
    assert_eq!(opened().await, 1.0, "it goes on");
    mesh.world.sleep(2_000).await;
    assert_eq!(opened().await, 2.0);
    burst(1).await;
    assert_eq!(opened().await, 2.0, "the new one is used");
}

#[tokio::test(start_paused = true)]
async fn a_fixed_endpoint_is_tried_once() {
    let mesh = Pair::new().await;
    let policy = all_to(forward(unmeshed(A)));
    mesh.world.control.set_client_policy(A, policy);
    let began = mesh.world.now();
    let response = mesh.world.http1(&mesh.client, A, get("/")).await;
    assert_eq!(response.status(), 502);
    assert_eq!(mesh.world.now(), began);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_up_is_counted_as_such() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| std::future::pending()).await;
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let mut request = get2("http://web/");
    tokio::select! {
        biased;
        _ = connection.send(&mut request) => panic!("nobody answers"),
        () = mesh.world.sleep(100) => {}
    }
    mesh.world.sleep(100).await;
    let canceled = ["outbound_http_route_backend_response_statuses_total", "CANCEL"];
    assert_eq!(mesh.world.metric(&mesh.client, &canceled).await, 1.0);
    let canceled = ["inbound_http_statuses_total", "CANCEL"];
    assert_eq!(mesh.world.metric(&mesh.server, &canceled).await, 1.0);
    let in_flight = ["request_total", "direction=\"outbound\""];
    assert_eq!(mesh.world.metric(&mesh.client, &in_flight).await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn idle_discovery_is_dropped() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let open = |question: &str| mesh.world.control.open(question);
    assert_eq!(text(mesh.get("/").await).await, "hello");
    let (policy, endpoints) = (format!("policy {SERVICE}"), format!("endpoints {PATH}"));
    assert_eq!((open(&policy), open(&endpoints)), (1, 1));
    // Held by a connection, it stays.
    let connection = mesh.world.http2(&mesh.client, SERVICE).await;
    let response = connection.send(&mut get2("http://web/")).await.unwrap();
    assert_eq!(response.status(), 200);
    mesh.world.sleep(60_000).await;
    assert_eq!((open(&policy), open(&endpoints)), (1, 1));
    drop((connection, response));
    mesh.world.sleep(20_000).await;
    assert_eq!((open(&policy), open(&endpoints)), (0, 0));
    assert_eq!(text(mesh.get("/").await).await, "hello");
}
