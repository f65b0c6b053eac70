//! Taps of a world: the people who open them. They ask the first controller on its own host, over HTTP at
//! the address of loopback, as `weft tap` does; or, in a pod's name, the proxy itself.
//!
//! Law: everything that a tap tells is recorded, with the moment at which it was read, and what it says is
//! not believed.

use std::net::SocketAddr;
use std::sync::Arc;

use http_body::Frame;
use serde_json::Value;

use mesh_core::api::{Message as _, tap as api};
use mesh_core::model::tap::{self as model, Match, Observe};
use mesh_core::runtime::net::TcpOptions;
use mesh_core::runtime::{Runtime, TaskGuard};
use mesh_core::time::Timestamp;
use mesh_core::wire::grpc::{self, Messages};
use mesh_core::wire::http::client::{self, Http2ClientOptions};
use mesh_core::wire::http::h1::Connection;
use mesh_core::wire::http::{Body, Request};

use crate::topology::Role;

use super::record::{Record, TapEvent, TapMoment, TapSide};
use super::scenario::Tap;
use super::speech::NUMBER;
use super::{Simulator, World, mesh};

/// The process of who taps.
const PEOPLE: &str = "people";
/// Where proxies serve taps.
const TAP_PORT: u16 = 4190;
/// Longest event, and longest refusal.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// What a pod's program asks for in a second.
const PER_SECOND: u32 = 1_000;

impl<S: Simulator> World<S> {
    /// Opens a tap. It is open as long as what is given back lives.
    pub(super) fn open_tap(&self, tap: &Tap) -> Result<TaskGuard, String> {
        let log = Log { name: tap.name.as_str().into(), record: self.record.clone() };
        let read_from = tap.read_from.map(|from| Timestamp::ZERO + from.0);
        let Some(by) = &tap.by else {
            let runtime = self.simulator.start(self.controllers[0].host, PEOPLE, Role::Proxy);
            let path = path(tap);
            let asker = runtime.clone();
            return Ok(runtime.spawn_guarded("tap", async move {
                if let Err(error) = ask_controller(&asker, &log, &path, read_from).await {
                    log.say(&asker, format!("broken off: {error}"));
                }
            }));
        };
        let host = self.host(by).ok_or_else(|| format!("there is no pod `{by}`"))?;
        let tapped = tap.pod().and_then(|name| self.pods.get(name));
        let tapped = tapped.ok_or_else(|| format!("there is no pod of {}", tap.resource))?;
        let at = SocketAddr::new(tapped.plan.ip, TAP_PORT);
        let identity = mesh::facts(&tapped.plan).identity.unwrap_or_default();
        let pod = tapped.plan.name.clone();
        let runtime = self.simulator.start(host, PEOPLE, Role::App);
        let asker = runtime.clone();
        Ok(runtime.spawn_guarded("tap", async move {
            if let Err(error) = ask_proxy(&asker, &log, at, &identity, pod).await {
                log.say(&asker, format!("broken off: {error}"));
            }
        }))
    }
}

/// The address of the public API that says what is asked for.
fn path(tap: &Tap) -> String {
    let fixed = [
        ("resource", tap.resource.as_str()),
        ("namespace", &tap.namespace),
        ("extract_headers", "true"),
    ];
    let asked = tap.ask.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let all = fixed.into_iter().chain(asked);
    let pairs: Vec<_> = all.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    format!("/api/v1/tap?{}", pairs.join("&"))
}

fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

/// Where what a tap tells is written.
struct Log {
    name: Arc<str>,
    record: Record,
}

impl Log {
    fn say(&self, runtime: &Runtime, what: String) {
        let now = runtime.now();
        self.record.tap(&self.name, |log| log.said.push((now, what)));
    }

    fn refuse(&self, why: String) {
        self.record.tap(&self.name, |log| log.refused = Some(why));
    }

    fn lose(&self, pod: &str, lost: u64) {
        let pod = pod_of(pod);
        self.record.tap(&self.name, |log| *log.lost.entry(pod).or_default() += lost);
    }
}

/// The pod of a name with its namespace.
fn pod_of(name: &str) -> Arc<str> {
    name.rsplit('/').next().unwrap_or(name).into()
}

async fn ask_controller(
    runtime: &Runtime,
    log: &Log,
    path: &str,
    read_from: Option<Timestamp>,
) -> Result<(), String> {
    let connected = runtime.net.connect(mesh::VIZ, TcpOptions::default()).await;
    let io = connected.map_err(|error| error.to_string())?.io;
    let request = http::Request::get(path).header("host", "localhost").body(Body::empty());
    let mut request: Request = request.map_err(|error| error.to_string())?;
    let response = Connection::new(runtime, io).send(&mut request, None).await;
    let (head, mut body) = response.map_err(|error| error.to_string())?.into_parts();
    if head.status != http::StatusCode::OK {
        let said = body.read_to_end(EVENT_BYTES_MAX).await.map_err(|error| error.to_string())?;
        log.refuse(format!("{} {}", head.status.as_u16(), String::from_utf8_lossy(&said)));
        return Ok(());
    }
    if let Some(from) = read_from {
        runtime.clock.sleep_until(from).await;
    }
    let mut pending = String::new();
    while let Some(frame) = body.next_frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(data) = Frame::into_data(frame) else { continue };
        pending.push_str(&String::from_utf8_lossy(&data));
        while let Some(end) = pending.find("\n\n") {
            let event: String = pending.drain(..end + 2).collect();
            take(runtime, log, &event)?;
        }
        if pending.len() > EVENT_BYTES_MAX {
            return Err("an event without an end".to_owned());
        }
    }
    log.say(runtime, "the answer is over".to_owned());
    Ok(())
}

/// Writes down a server-sent event.
fn take(runtime: &Runtime, log: &Log, text: &str) -> Result<(), String> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    // Without data it is there to keep the connection open.
    let Some(data) = field("data: ") else { return Ok(()) };
    let data: Value = serde_json::from_str(data).map_err(|error| error.to_string())?;
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    match field("event: ") {
        Some("start") => log.record.tap(&log.name, |log| {
            let pods = data["pods"].as_array().into_iter().flatten();
            log.pods = pods.filter_map(Value::as_str).map(pod_of).collect();
        }),
        Some("missing") => {
            let is_final = if data["is_final"] == true { ", for good" } else { "" };
            let what = format!("missing {}: {}{is_final}", text("pod"), text("reason"));
            log.say(runtime, what);
        }
        Some("lost") => log.lose(text("pod"), data["lost"].as_u64().unwrap_or_default()),
        Some(other) => log.say(runtime, format!("{other}: {}", text("reason"))),
        None => {
            let now = runtime.now();
            let event = |log: &super::record::TapLog| read(&data, &log.pods, now);
            log.record.tap(&log.name, |log| match event(log) {
                Some(event) => log.events.push(event),
                None => log.said.push((now, format!("no event: {data}"))),
            });
        }
    }
    Ok(())
}

/// An event as `weft tap -o json` writes it.
fn read(data: &Value, pods: &[Arc<str>], at: Timestamp) -> Option<TapEvent> {
    let names = ["requestInitEvent", "responseInitEvent", "responseEndEvent"];
    let (name, what) = names.iter().find_map(|name| Some((*name, data.get(name)?)))?;
    let number = || {
        let mut headers = what["headers"].as_array().into_iter().flatten();
        let header = headers.find(|header| header["name"] == NUMBER)?;
        header["valueStr"].as_str()?.parse().ok()
    };
    let moment = match name {
        "requestInitEvent" => TapMoment::Request(number()),
        "responseInitEvent" => TapMoment::Response,
        _ => TapMoment::End,
    };
    let side = match data["proxyDirection"].as_str()? {
        "INBOUND" => Some(TapSide::Inbound),
        "OUTBOUND" => Some(TapSide::Outbound),
        _ => None,
    };
    let base = usize::try_from(what["id"]["base"].as_u64()?).ok()?;
    let pod = pods.get(base.checked_sub(1)?)?.clone();
    Some(TapEvent { at, pod, side, stream: what["id"]["stream"].as_u64()?, moment })
}

/// Asks a proxy itself, through the sidecar beside the asker, which is told whom to expect.
async fn ask_proxy(
    runtime: &Runtime,
    log: &Log,
    at: SocketAddr,
    identity: &str,
    pod: Arc<str>,
) -> Result<(), String> {
    let connected = runtime.net.connect(at, TcpOptions::default()).await;
    let io = connected.map_err(|error| error.to_string())?.io;
    let connection = client::connect(runtime, io, &Http2ClientOptions::default()).await;
    let connection = connection.map_err(|error| error.to_string())?;
    let observe = Observe {
        limit: PER_SECOND,
        matches: Match::All(Vec::new()),
        extract_headers: true,
        headers: Vec::new(),
        bodies: false,
        per_second: PER_SECOND,
    };
    let mut call = api::call(&at.to_string(), &observe).map_err(|error| error.to_string())?;
    let identity = identity.parse().map_err(|_| "an identity that is no header".to_owned())?;
    call.headers_mut().insert("l5d-require-id", identity);
    let response = connection.send(&mut call).await.map_err(|error| error.error().to_string())?;
    if let Some((code, why)) = grpc::status(response.headers()).filter(|(code, _)| *code != 0) {
        log.refuse(format!("status {code} of gRPC: {why}"));
        return Ok(());
    }
    if response.status() != http::StatusCode::OK {
        log.refuse(format!("it answers {}", response.status()));
        return Ok(());
    }
    log.record.tap(&log.name, |log| log.pods = vec![pod.clone()]);
    let mut messages = Messages::new(response.into_body(), EVENT_BYTES_MAX);
    while let Some(message) = messages.next().await.map_err(|error| error.to_string())? {
        let event = model::Event::from_bytes(&message).map_err(|error| error.to_string())?;
        let (now, pod) = (runtime.now(), pod.clone());
        log.record.tap(&log.name, |log| log.events.extend(told(&event, pod, now)));
    }
    log.say(runtime, "the answer is over".to_owned());
    Ok(())
}

/// An event as a proxy tells it; none where it tells of nothing but a loss.
fn told(event: &model::Event, pod: Arc<str>, at: Timestamp) -> Option<TapEvent> {
    let side = match event.direction {
        model::Direction::Inbound => Some(TapSide::Inbound),
        model::Direction::Outbound => Some(TapSide::Outbound),
        model::Direction::Unknown => None,
    };
    let what = event.what.as_ref()?;
    let moment = match what {
        model::What::RequestInit { headers, .. } => {
            let number = headers.iter().find(|(name, _)| name == NUMBER);
            let number =
                number.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
            TapMoment::Request(number)
        }
        model::What::ResponseInit { .. } => TapMoment::Response,
        model::What::ResponseEnd { .. } => TapMoment::End,
    };
    Some(TapEvent { at, pod, side, stream: what.id().stream, moment })
}
