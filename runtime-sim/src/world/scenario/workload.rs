//! Requests, and who sends them: plain data as a file says it. `world::load` carries it out.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// Requests from the pods of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Unique in the scenario.
    pub name: String,
    /// A Deployment of this file.
    #[schemars(extend("format" = "deployment"))]
    pub from: String,
    /// Which of its pods send; each of them all that `arrivals` says.
    #[serde(default)]
    pub senders: Senders,
    /// Host and port: `web.shop.svc.cluster.local:80`.
    pub to: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// When requests come.
    pub arrivals: Arrivals,
    /// What a request asks for, and how.
    #[serde(default)]
    pub request: RequestShape,
    /// How many messages a request has (`grpc`, `websocket`, `tcp`, `server-first-tcp`, `tls`).
    #[serde(default)]
    pub stream: StreamShape,
    /// Whether connections carry more than one request (`http1`, `h2`, `grpc`).
    #[serde(default)]
    pub connections: Connections,
    /// How often the client itself tries again.
    #[serde(default)]
    pub retries: Retries,
    /// How the client breaks the rules of its protocol; it does not, where nothing is said.
    pub misbehave: Option<Misbehaviour>,
    /// Requests at most, of each sender.
    pub requests: Option<u64>,
    /// When the first may come; after the mesh has started where nothing is said.
    #[serde(default = "after_start")]
    pub start: Span,
    /// When the last may come, and when streams that last end; the end of the scenario where nothing
    /// is said.
    pub stop: Option<Span>,
    /// How long one attempt may take, beyond what its stream is to last.
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
}

fn after_start() -> Span {
    Span(Duration::from_secs(2))
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

impl Workload {
    /// Whether what it says makes sense together.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        self.arrivals.check().map_err(|fault| ("arrivals", fault))?;
        self.request.check()?;
        if self.stream.messages == 0 {
            return Err(("stream.messages", "a request has at least one message".to_owned()));
        }
        if self.stream.lasts.is_some() && self.stream.interval.0.is_zero() {
            return Err(("stream.interval", "a stream that `lasts` has an interval".to_owned()));
        }
        let lines = [Protocol::Tcp, Protocol::ServerFirstTcp, Protocol::Tls];
        if self.stream.half_close && !lines.contains(&self.protocol) {
            return Err(("stream.half_close", "this is for protocols of lines".to_owned()));
        }
        if self.request.deadline.is_some() && self.protocol != Protocol::Grpc {
            return Err(("request.deadline", "`grpc` alone has deadlines".to_owned()));
        }
        let raw = matches!(
            self.misbehave,
            None | Some(Misbehaviour::Idle {} | Misbehaviour::Garbage { .. })
        );
        if !raw && self.protocol != Protocol::Http1 {
            return Err(("misbehave", "this is for the protocol `http1`".to_owned()));
        }
        if matches!(self.misbehave, Some(Misbehaviour::Garbage { bytes: MANY.. })) {
            return Err(("misbehave.garbage.bytes", format!("below {MANY}")));
        }
        Ok(())
    }
}

/// Requests, callers or bytes at once that no simulation is meant for.
const MANY: u32 = 10_000_000;

impl Arrivals {
    fn check(&self) -> Result<(), String> {
        let is_rate = |rate: f64| rate.is_finite() && (0.0..f64::from(MANY)).contains(&rate);
        match *self {
            Self::Constant { rate } | Self::Poisson { rate } if !is_rate(rate) || rate == 0.0 => {
                Err(format!("{rate} is no rate; it is above 0"))
            }
            Self::Ramp { from, to } if !is_rate(from) || !is_rate(to) || from + to == 0.0 => {
                Err(format!("from {from} to {to} is no ramp; one of them is above 0"))
            }
            Self::Burst { size: 0, .. } => Err("a burst has at least one request".to_owned()),
            Self::Burst { every: Span(Duration::ZERO), .. } => {
                Err("a burst comes `every` so often".to_owned())
            }
            Self::Closed { concurrency: 0 | MANY.., .. } => {
                Err(format!("callers are at least 1 and below {MANY}"))
            }
            _ => Ok(()),
        }
    }
}

impl RequestShape {
    fn check(&self) -> Result<(), (&'static str, String)> {
        if http::Method::from_bytes(self.method.as_bytes()).is_err() {
            return Err(("request.method", format!("`{}` is no method", self.method)));
        }
        if !self.path.starts_with('/') || self.path.parse::<http::Uri>().is_err() {
            return Err(("request.path", format!("`{}` is no path", self.path)));
        }
        for (name, value) in &self.headers {
            let good = name.parse::<http::HeaderName>().is_ok()
                && value.parse::<http::HeaderValue>().is_ok();
            if !good {
                return Err(("request.headers", format!("`{name}: {value}` is no field")));
            }
        }
        for (field, size) in [("request.body", self.body), ("request.response", self.response)] {
            let (from, to) = match size {
                Size::Fixed(bytes) => (bytes, bytes),
                Size::Uniform { from, to } => (from, to),
            };
            if from > to || to > BYTES_MAX {
                let fault = format!("{from} to {to} bytes; at most {BYTES_MAX}");
                return Err((field, fault));
            }
        }
        Ok(())
    }
}

/// Bytes of a body or message.
pub(crate) const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Which pods of a deployment send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Senders {
    /// The first.
    #[default]
    First,
    /// Every one.
    All,
}

/// What a workload speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    H2,
    /// gRPC over HTTP/2; its result is the trailers' `grpc-status`.
    Grpc,
    /// A WebSocket, opened by HTTP/1.1: a ping and a text for each message, echoed.
    Websocket,
    /// A line each way for each message, the client first; a connection for each request.
    Tcp,
    /// As `tcp`, after the server's greeting.
    ServerFirstTcp,
    /// As `tcp`, in the application's own TLS, which the mesh passes through.
    Tls,
}

/// When requests come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// So many a second, whatever becomes of them.
    Constant {
        /// Requests per second.
        #[schemars(range(min = 0.000_001))]
        rate: f64,
    },
    /// So many a second on average, each independent of the others.
    Poisson {
        /// Requests per second.
        #[schemars(range(min = 0.000_001))]
        rate: f64,
    },
    /// So many callers, each of which sends the next when it has its answer.
    Closed {
        /// Callers.
        #[schemars(range(min = 1))]
        concurrency: u32,
        /// Between an answer and the next request.
        #[serde(default)]
        think: Span,
    },
    /// So many at once, again and again.
    Burst {
        /// Requests at once.
        #[schemars(range(min = 1))]
        size: u32,
        /// Between two bursts.
        every: Span,
    },
    /// A rate that grows or falls steadily from `start` to `stop`.
    Ramp {
        #[schemars(range(min = 0.0))]
        /// Requests per second at first.
        from: f64,
        #[schemars(range(min = 0.0))]
        /// Requests per second at last.
        to: f64,
    },
}

/// What a request asks for, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestShape {
    /// `http1`, `h2`: the method.
    pub method: String,
    /// `http1`, `h2`, `websocket`: the path and query.
    pub path: String,
    /// HTTP: fields beside those that the protocol needs.
    pub headers: BTreeMap<String, String>,
    /// Bytes of its body, or of each message; at least the few that carry its number.
    pub body: Size,
    /// How the end of its body is told (`http1`, `h2`).
    pub framing: Framing,
    /// Bytes of the answer's body, or of each message of the answer.
    pub response: Size,
    /// How the end of the answer's body is to be told (`http1`, `h2`).
    pub response_framing: Framing,
    /// `grpc`: the time it gives the server, as `grpc-timeout` says it; after it the client gives up.
    pub deadline: Option<Span>,
}

impl Default for RequestShape {
    fn default() -> Self {
        Self {
            method: "POST".to_owned(),
            path: "/work".to_owned(),
            headers: BTreeMap::new(),
            body: Size::default(),
            framing: Framing::default(),
            response: Size::default(),
            response_framing: Framing::default(),
            deadline: None,
        }
    }
}

/// So many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Size {
    /// Always so many.
    Fixed(u64),
    /// Any number from the first to the last, each as likely.
    Uniform {
        /// At least.
        from: u64,
        /// At most.
        to: u64,
    },
}

impl Default for Size {
    fn default() -> Self {
        Self::Fixed(0)
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// By its length beforehand.
    #[default]
    Length,
    /// As it comes: chunked in HTTP/1.1, without `content-length` in HTTP/2.
    Chunked,
}

/// The messages of one request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamShape {
    /// `grpc`: who sends how many.
    pub kind: Streaming,
    /// Messages each way, where both send any number.
    pub messages: u32,
    /// Between two messages.
    pub interval: Span,
    /// Instead of `messages`: it goes on for so long, but not beyond the workload's `stop`.
    pub lasts: Option<Span>,
    /// `tcp`, `server-first-tcp`, `tls`: the client ends its direction with its last message, before it
    /// reads the answer to it.
    pub half_close: bool,
}

impl Default for StreamShape {
    fn default() -> Self {
        let interval = Span(Duration::ZERO);
        Self { kind: Streaming::Unary, messages: 1, interval, lasts: None, half_close: false }
    }
}

/// Who sends how many messages of a gRPC call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Streaming {
    /// One each.
    #[default]
    Unary,
    /// The server any number.
    Server,
    /// The client any number.
    Client,
    /// Both, each message an echo.
    Bidirectional,
}

/// Whether connections carry more than one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Connections {
    /// They do: HTTP/1.1's are kept for the next, HTTP/2 has one for all.
    #[default]
    Pooled,
    /// Each request has its own; HTTP/1.1 says `connection: close`.
    PerRequest,
}

/// How often a client tries again what failed or was answered with a server's error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// Attempts beyond the first.
    pub times: u32,
    /// Before each of them.
    pub backoff: Span,
}

impl Default for Retries {
    fn default() -> Self {
        Self { times: 0, backoff: Span(Duration::ZERO) }
    }
}

/// How a client breaks the rules. Each request has a connection of its own; it ends as the other
/// side ends it, or with the class `timeout` when the client itself gives up after `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Misbehaviour {
    /// Sends an HTTP/1.1 request byte by byte.
    SlowLoris {
        /// Between two bytes.
        every: Span,
    },
    /// Asks for answers (`request.response` bytes each) and reads none of them.
    StopReading {
        /// Requests on one connection.
        requests: u32,
    },
    /// Sends half of a request and falls silent.
    HalfOpen {},
    /// Connects and says nothing.
    Idle {},
    /// Sends HTTP/1.1 requests at once and reads their answers afterwards.
    Pipelining {
        /// Requests on one connection.
        depth: u32,
    },
    /// Sends random bytes.
    Garbage {
        /// How many.
        bytes: u32,
    },
}
