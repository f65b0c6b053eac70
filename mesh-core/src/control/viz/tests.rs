//! Requests to the listener of people, over a network in memory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::VizConfig;
use crate::control::testing;
use crate::control::{ControlConfig, Controller, IdentityConfig, ListenConfig, Roles};
use crate::runtime::Runtime;
use crate::runtime::net::TcpOptions;
use crate::wire::drain::{self, DrainSignal};

struct Bench {
    runtime: Runtime,
    listen: SocketAddr,
    _stop: DrainSignal,
}

async fn start(token: Option<&str>) -> Bench {
    start_at([127, 0, 0, 1], token).await
}

async fn start_at(ip: [u8; 4], token: Option<&str>) -> Bench {
    let (runtime, ..) = testing::runtime();
    let listen = SocketAddr::from((ip, 8084));
    let config = ControlConfig {
        identity: IdentityConfig {
            state_directory: PathBuf::from("state"),
            ..IdentityConfig::default()
        },
        viz: Some(VizConfig { token: token.map(str::to_string), ..VizConfig::new(listen) }),
        ..ControlConfig::default()
    };
    let (stop, watch) = drain::channel();
    let controller = Controller::bind(runtime.clone(), config).await.unwrap();
    runtime.spawn("controller", controller.serve(watch));
    Bench { runtime, listen, _stop: stop }
}

impl Bench {
    /// What a GET with these further header lines is answered.
    async fn get(&self, path: &str, headers: &str) -> String {
        let connection = self.runtime.net.connect(self.listen, TcpOptions::default()).await;
        let mut io = connection.unwrap().io;
        let request = format!("GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn status(&self, path: &str, headers: &str) -> u16 {
        let answer = self.get(path, headers).await;
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }
}

#[tokio::test]
async fn an_answer_tells_browsers_to_keep_to_it() {
    let bench = start(None).await;
    let answer = bench.get("/api/v1/version", "host: localhost:8084\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for header in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "content-type: application/json",
    ] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    assert!(answer.contains(r#""control_namespace":"linkerd""#), "{answer}");
}

#[tokio::test]
async fn commands_of_pages_say_where_where_they_have_to() {
    let said = "<code>weft check --proxy</code>";
    let page = start(None).await.get("/health", "host: localhost:8084\r\n").await;
    assert!(page.contains(said), "{page}");
    let elsewhere = start_at([127, 9, 9, 1], None).await;
    let page = elsewhere.get("/health", "host: 127.9.9.1:8084\r\n").await;
    assert!(page.contains("<code>weft check --proxy --api-addr 127.9.9.1:8084</code>"), "{page}");
}

#[tokio::test]
async fn what_the_console_finds_out_is_answered_to_programs() {
    let bench = start(None).await;
    let answer = bench.get("/api/v1/check", "host: localhost:8084\r\n").await;
    assert!(answer.contains(r#"{"title":"Issuer","state":"good","text":"ends in "#), "{answer}");
    assert_eq!(bench.status("/api/v1/check?x=1", "host: localhost:8084\r\n").await, 400);
}

#[tokio::test]
async fn only_this_host_is_answered_and_only_for_itself() {
    let bench = start(None).await;
    let status = async |headers: &str| bench.status("/api/v1/version", headers).await;
    assert_eq!(status("host: 127.0.0.1:8084\r\n").await, 200);
    assert_eq!(status("host: evil.example\r\n").await, 403, "rebound");
    let from = |origin: &str| format!("host: localhost:8084\r\norigin: {origin}\r\n");
    assert_eq!(status(&from("http://localhost:8084")).await, 200);
    assert_eq!(status(&from("http://evil.example")).await, 403);
    assert_eq!(status(&from("null")).await, 403);
    let led = "host: localhost:8084\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: ";
    assert_eq!(status(&format!("{led}no-cors\r\n")).await, 403);
    assert_eq!(status(&format!("{led}navigate\r\n")).await, 200, "a link that was followed");
}

#[tokio::test]
async fn with_a_token_whoever_knows_it_is_answered() {
    let bench = start(Some("s3cret")).await;
    let status = async |headers: &str| {
        bench.status("/api/v1/version", &format!("host: mesh.example\r\n{headers}")).await
    };
    assert_eq!(status("").await, 401);
    assert_eq!(status("authorization: Bearer other\r\n").await, 401);
    assert_eq!(status("authorization: Bearer s3cret\r\n").await, 200);
    assert_eq!(status("cookie: a=b; weft-token=s3cret\r\n").await, 200);
    let opened = bench.get("/?token=s3cret", "host: mesh.example\r\n").await;
    assert!(opened.starts_with("HTTP/1.1 303 "), "{opened}");
    assert!(opened.contains("set-cookie: weft-token=s3cret; Path=/; HttpOnly; SameSite=Strict"));
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_not_there() {
    let bench = start(None).await;
    let host = "host: localhost\r\n";
    assert_eq!(bench.status("/api/v1/none", host).await, 404);
    assert_eq!(bench.status("/api/v1/version?x=y", host).await, 400);
    assert_eq!(bench.status("/none", host).await, 404);
}

#[tokio::test]
async fn what_cannot_be_explained_is_said_why() {
    let bench = start(None).await;
    let ask = async |query: &str| {
        bench.get(&format!("/api/v1/explain?{query}"), "host: localhost\r\n").await
    };
    let unknown = ask("from=web&to=cart").await;
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
    assert!(unknown.contains("web is not known"), "{unknown}");
    for wrong in ["form=web", "from=web", "from=web&to=cart&protocol=udp", "reference=x"] {
        let answer = ask(wrong).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{wrong}: {answer}");
    }
}

#[tokio::test]
async fn a_controller_for_people_alone_ends_as_soon_as_it_is_told() {
    let (runtime, ..) = testing::runtime();
    let config = ControlConfig {
        listen: ListenConfig {
            admin: SocketAddr::from(([127, 0, 0, 1], 9996)),
            ..ListenConfig::default()
        },
        serve: Roles { destination: false, identity: false, injector: false },
        viz: Some(VizConfig::new(SocketAddr::from(([127, 0, 0, 1], 8084)))),
        ..ControlConfig::default()
    };
    let (stop, watch) = drain::channel();
    let controller = Controller::bind(runtime.clone(), config).await.unwrap();
    let (began, serving) = (runtime.now(), controller.serve(watch));
    stop.start();
    serving.await;
    let took = runtime.now().since(began);
    assert!(took < Duration::from_secs(1), "nobody is connected, and it took {took:?}");
}
