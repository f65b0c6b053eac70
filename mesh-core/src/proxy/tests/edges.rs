//! The ways in beside redirects, the admin server and the access log.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::policies::{all_to, balance, forward, meshed, opaque_to, unmeshed};
use super::world::{
    APP, CLIENT, PATH, Pair, SERVER, SERVICE, World, at, echo, get, get2, ip, ok, read, read_head,
    text,
};
use crate::proxy::Process;
use crate::wire::http::Body;

const EXPLICIT: &str = "10.0.0.1:4150";

async fn explicit() -> Pair {
    let listen = [("WEFT_OUTBOUND_HTTP_PROXY_LISTEN_ADDRS", EXPLICIT)];
    let mesh = Pair::with(&listen, &[]).await;
    mesh.world.control.set_client_policy("web.test:80", all_to(balance(PATH)));
    mesh.world.control.set_client_policy("db.test:5432", opaque_to(balance("db.test:5432")));
    mesh
}

#[tokio::test(start_paused = true)]
async fn an_explicit_proxy_takes_the_destination_from_the_target_not_from_host() {
    let mesh = explicit().await;
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut io = mesh.world.dial_listener("10.0.0.1", EXPLICIT);
    let request =
        "GET http://web.test/a?b HTTP/1.1\r\nhost: other\r\nproxy-connection: keep-alive\r\n\r\n";
    io.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(read(&mut io, 5).await, "hello");
    let seen = app.only_request();
    assert_eq!(seen.uri(), "/a?b");
    assert_eq!(seen.headers()["host"], "web.test");
    assert!(!seen.headers().contains_key("proxy-connection"));

    io.write_all(b"GET /a HTTP/1.1\r\nhost: web.test\r\n\r\n").await.unwrap();
    let head = read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn a_peers_proxy_has_the_connections_of_an_explicit_proxys_clients_closed() {
    let mesh = explicit().await;
    // The application is away.
    let io = mesh.world.dial_listener("10.0.0.1", EXPLICIT);
    let connection = mesh.world.http2_over(io).await;
    let response = connection.send(&mut get2("http://web.test/")).await.unwrap();
    assert_eq!(response.status(), 502);
    connection.closed().await;

    let mut io = mesh.world.dial_listener("10.0.0.1", EXPLICIT);
    io.write_all(b"GET http://web.test/ HTTP/1.1\r\nhost: web.test\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_explicit_proxy_tunnels() {
    let mesh = explicit().await;
    let endpoints = vec![meshed("10.0.0.2:5432", SERVER)];
    mesh.world.control.set_endpoints("db.test:5432", endpoints);
    mesh.world.keep(mesh.world.listen("10.0.0.2:5432", echo).await);
    let mut io = mesh.world.dial_listener("10.0.0.1", EXPLICIT);
    let request = "CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\n";
    io.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    io.write_all(b"\x00\x01").await.unwrap();
    assert_eq!(read(&mut io, 2).await, "\x00\x01");

    // HTTP inside of a tunnel is HTTP.
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let mut io = mesh.world.dial_listener("10.0.0.1", EXPLICIT);
    io.write_all(b"CONNECT web.test:80 HTTP/1.1\r\nhost: web.test\r\n\r\n").await.unwrap();
    read_head(&mut io).await;
    let response = mesh.world.http1_over(io, get("/inside")).await;
    assert_eq!(text(response).await, "hello");
    assert_eq!(app.only_request().headers()["l5d-client-id"], CLIENT);
}

#[tokio::test(start_paused = true)]
async fn fixed_listeners_lead_to_one_destination_each_way() {
    let fixed = [("WEFT_OUTBOUND_LISTENERS", "10.0.0.1:9001=web.test:80")];
    let forward = [("WEFT_INBOUND_LISTENERS", "10.0.0.2:9002=10.0.0.2:8080")];
    let mesh = Pair::with(&fixed, &forward).await;
    mesh.world.control.set_client_policy("web.test:80", all_to(balance(PATH)));
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    let io = mesh.world.dial_listener("10.0.0.1", "10.0.0.1:9001");
    let response = mesh.world.http1_over(io, get("/")).await;
    assert_eq!(text(response).await, "hello");
    let io = mesh.world.dial_listener("10.0.0.7", "10.0.0.2:9002");
    let response = mesh.world.http1_over(io, get("/")).await;
    assert_eq!(text(response).await, "hello");
    assert_eq!(app.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_leads_back_to_the_proxy_itself_is_refused() {
    let fixed = [
        ("WEFT_OUTBOUND_LISTENERS", "10.0.0.1:9001=web.test:80"),
        ("WEFT_OUTBOUND_HTTP_PROXY_LISTEN_ADDRS", EXPLICIT),
    ];
    let mesh = Pair::with(&fixed, &[]).await;
    // By the name that it is for, by the target of a request, and by the port on the way in.
    for own in ["10.0.0.1:9001", EXPLICIT, "10.0.0.1:4143"] {
        mesh.world.control.set_client_policy("web.test:80", all_to(forward(unmeshed(own))));
        mesh.world.sleep(10).await;
        let io = mesh.world.dial_listener("10.0.0.1", "10.0.0.1:9001");
        let refused = mesh.world.http1_over(io, get("/")).await;
        assert_eq!(refused.status(), 502, "{own}");
        let why = refused.headers()["l5d-proxy-error"].to_str().unwrap();
        assert!(why.contains(&format!("loop: this proxy itself listens at {own}")), "{why}");
    }
    let mut io = mesh.world.dial_listener("10.0.0.1", EXPLICIT);
    let request = format!("GET http://{EXPLICIT}/ HTTP/1.1\r\nhost: x\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    // Bytes too.
    let policy = opaque_to(forward(unmeshed("10.0.0.1:9001")));
    mesh.world.control.set_client_policy("web.test:80", policy);
    mesh.world.sleep(10).await;
    let mut io = mesh.world.dial_listener("10.0.0.1", "10.0.0.1:9001");
    assert_eq!(io.read(&mut [0; 1]).await.unwrap(), 0);
    let dialed = mesh.world.wires.dialed(ip("10.0.0.1"));
    let own = ["10.0.0.1:9001", EXPLICIT, "10.0.0.1:4143"].map(at);
    assert!(!dialed.iter().any(|to| own.contains(to)), "{dialed:?}");
}

#[tokio::test(start_paused = true)]
async fn each_mode_opens_its_direction_alone() {
    let world = World::new().await;
    let outbound = world.proxy("10.0.0.1", CLIENT, &[("WEFT_MODE", "outbound")]).await;
    let inbound = world.proxy("10.0.0.2", SERVER, &[("WEFT_MODE", "inbound")]).await;
    let dial = |host: &str, port: u16| {
        let to = std::net::SocketAddr::new(ip(host), port);
        world.wires.net.dial(ip("10.0.0.7"), to, None).is_ok()
    };
    assert!(dial("10.0.0.1", 4140) && !dial("10.0.0.1", 4143));
    assert!(!dial("10.0.0.2", 4140) && dial("10.0.0.2", 4143));
    let mesh = Pair::of(world, outbound, inbound);
    let app = mesh.world.app(APP, |_| ok("hello")).await;
    assert_eq!(text(mesh.get("/").await).await, "hello");
    assert_eq!(app.only_request().headers()["l5d-client-id"], CLIENT);
}

#[tokio::test(start_paused = true)]
async fn the_admin_server_shows_strangers_metrics_and_probes_alone() {
    let world = World::new().await;
    let process =
        Process { environment: [("A".to_string(), "b".to_string())].into(), ..Process::default() };
    let shutdown = process.shutdown.clone();
    let enabled = [("LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED", "true")];
    let proxy = world.proxy_with("10.0.0.1", CLIENT, &enabled, process).await;
    for path in ["/metrics", "/ready", "/live"] {
        assert_eq!(world.admin_from(&proxy, "10.0.0.7", path).await.0, 200, "{path}");
    }
    for path in ["/env.json", "/proxy-log-level", "/shutdown"] {
        assert_eq!(world.admin_from(&proxy, "10.0.0.7", path).await.0, 403, "{path}");
    }
    let (status, env) = world.admin(&proxy, "/env.json").await;
    assert_eq!((status, env.as_str()), (200, r#"{"A":"b"}"#));
    assert_eq!(world.admin(&proxy, "/shutdown").await.0, 405);
    assert_eq!(world.admin(&proxy, "/nothing").await.0, 404);
    let post = http::Request::post("/shutdown").body(Body::empty()).unwrap();
    let io = world.dial_admin(&proxy, "127.0.0.1");
    assert_eq!(world.http1_over(io, post).await.status(), 200);
    shutdown.notified().await;
    // Over the mesh's own TLS, and compressed.
    let mut request = get("/metrics");
    request.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let io = world.dial_admin(&proxy, "10.0.0.7");
    let response = world.http1_over(io, request).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let body = response.into_body().read_to_end(1 << 20).await.unwrap();
    assert_eq!(&body[..2], [0x1f, 0x8b]);
}

#[tokio::test(start_paused = true)]
async fn every_request_that_comes_in_is_a_line_of_the_access_log() {
    let world = World::new().await;
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let sink = lines.clone();
    let process = Process {
        access_log: Some(Arc::new(move |line: &str| sink.lock().unwrap().push(line.into()))),
        ..Process::default()
    };
    let client = world.proxy("10.0.0.1", CLIENT, &[]).await;
    let variables = [
        ("LINKERD2_PROXY_ACCESS_LOG", "json"),
        ("LINKERD2_PROXY_INBOUND_DEFAULT_POLICY", "all-authenticated"),
    ];
    let server = world.proxy_with("10.0.0.2", SERVER, &variables, process).await;
    let mesh = Pair::of(world, client, server);
    let app = mesh
        .world
        .app(APP, |_| async {
            tokio::time::sleep(std::time::Duration::from_millis(7)).await;
            ok("hello").await
        })
        .await;
    assert_eq!(mesh.get("/a").await.status(), 200);
    drop(app);
    assert_eq!(mesh.get("/b").await.status(), 502);
    let io = mesh.world.dial_from("10.0.0.7", APP).await;
    assert_eq!(mesh.world.http1_over(io, get("/c")).await.status(), 403);
    let lines = lines.lock().unwrap();
    let has = |nth: usize, parts: &[&str]| {
        let line = &lines[nth];
        for part in parts {
            assert!(line.contains(part), "{part} in {line}");
        }
    };
    assert_eq!(lines.len(), 3, "{lines:?}");
    let id = format!(r#""client.id":"{CLIENT}""#);
    has(0, &[&id, r#""status":200"#, r#""uri":"/a""#, r#""host":"web""#]);
    has(0, &[r#""total_ns":"7000000""#, r#""processing_ns":"0""#, r#""response_bytes":"5""#]);
    has(1, &[&id, r#""status":502"#, r#""uri":"/b""#]);
    has(2, &[r#""client.id":"-""#, r#""status":403"#, r#""uri":"/c""#]);
}

#[tokio::test(start_paused = true)]
async fn frames_of_both_ways_are_counted_on_both_sides() {
    let mesh = Pair::new().await;
    let _app = mesh
        .world
        .app(APP, |request| async {
            let body = request.into_body().read_to_end(1000).await.unwrap();
            crate::wire::http::Response::new(Body::full(body))
        })
        .await;
    let request = http::Request::post("/").header("host", "web");
    let request = request.body(Body::full("0123456789")).unwrap();
    let response = mesh.world.http1(&mesh.client, SERVICE, request).await;
    assert_eq!(text(response).await, "0123456789");
    for (proxy, name) in [
        (&mesh.client, "outbound_http_route_request_frame_size_bytes_sum"),
        (&mesh.client, "outbound_http_route_backend_response_frame_size_bytes_sum"),
        (&mesh.server, "inbound_http_request_frame_size_bytes_sum"),
        (&mesh.server, "inbound_http_response_frame_size_bytes_sum"),
    ] {
        assert_eq!(mesh.world.metric(proxy, &[name]).await, 10.0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_talk_with_the_control_plane_and_the_cost_of_traffic_are_counted() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    assert_eq!(text(mesh.get("/").await).await, "hello");
    let metric = async |parts: &[&str]| mesh.world.metric(&mesh.client, parts).await;
    let at_control = |family: &'static str| [family, "addr=\"127.0.0.1:8086\""];
    assert!(metric(&at_control("control_request_total")).await > 3.0);
    // The certificate's answer is over; those of discovery go on.
    let answered = ["control_response_total", "grpc_status=\"0\"", "\"success\""];
    assert_eq!(metric(&answered).await, 1.0);
    for direction in ["direction=\"send\"", "direction=\"recv\""] {
        let cost = ["outbound_tcp_transfer_cost_bytes_total", direction, "\"unknown\""];
        assert!(metric(&cost).await > 100.0, "{direction}");
    }
    // A name of the control plane that leads nowhere.
    let named = [
        ("LINKERD2_PROXY_POLICY_SVC_ADDR", "nowhere.test:8090"),
        ("LINKERD2_PROXY_POLICY_SVC_NAME", "policy.test"),
    ];
    let proxy = mesh.world.proxy("10.0.0.3", CLIENT, &named).await;
    drop(mesh.world.dial(&proxy, SERVICE));
    mesh.world.sleep(1_000).await;
    let failed = ["control_dns_resolutions_total", "client=\"policy\"", "result=\"error\""];
    assert!(mesh.world.metric(&proxy, &failed).await >= 1.0);
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_connections_and_nothing_else() {
    let mesh = Pair::new().await;
    let _app = mesh.world.app(APP, |_| ok("hello")).await;
    let garbage: &[&[u8]] = &[
        b"\0\0\0\0",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    ];
    for bytes in garbage {
        for mut io in [
            mesh.world.dial(&mesh.client, SERVICE),
            mesh.world.dial_from("10.0.0.7", APP).await,
            mesh.world.dial_from("10.0.0.7", "10.0.0.2:4143").await,
        ] {
            let _ = io.write_all(bytes).await;
            let _ = io.shutdown().await;
            let mut answer = Vec::new();
            let _ = io.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
        }
    }
    assert_eq!(text(mesh.get("/").await).await, "hello");
}
