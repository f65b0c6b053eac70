//! What a tap asks of a proxy, and what the proxy tells it of each request (`tap.proto`).
//!
//! Beyond Linkerd's API: headers to match, bodies, a rate in place of a limit, and how much was
//! lost. A proxy that does not know these passes over them.

use std::net::SocketAddr;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderName, Method};
use ipnet::IpNet;

use super::labels::Labels;

/// Deepest nesting of a match, and most parts of one. A person's question has ten.
pub const MATCH_DEPTH_MAX: usize = 16;
/// See [`MATCH_DEPTH_MAX`].
pub const MATCH_PARTS_MAX: usize = 1_024;
/// Most headers that one tap matches.
pub const HEADER_MATCHES_MAX: usize = 16;

/// A question of a tap (`ObserveRequest`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    /// Requests told of at most; the answer ends with the last of them. Positive.
    pub limit: u32,
    /// Which requests.
    pub matches: Match,
    /// Tell headers and trailers too.
    pub extract_headers: bool,
    /// Ours: the request has all of these headers.
    pub headers: Vec<HeaderMatch>,
    /// Ours: tell the beginning of bodies, where the proxy may.
    pub bodies: bool,
    /// Ours: requests told of in a second at most, in place of `limit`; the answer does not end. 0:
    /// as `limit` says.
    pub per_second: u32,
}

/// Which requests (`ObserveRequest.Match`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Those that all of these match; all of none is every request.
    All(Vec<Match>),
    /// Those that one of these matches; any of none is no request.
    Any(Vec<Match>),
    /// Those that this does not match.
    Not(Box<Match>),
    /// By the client's address.
    Source(TcpMatch),
    /// By the server's address.
    Destination(TcpMatch),
    /// By the request's head.
    Http(HttpMatch),
    /// By a label of the endpoint.
    DestinationLabel(Label),
    /// By a label of the route.
    RouteLabel(Label),
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
}

/// A part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpMatch {
    /// The address is in this network.
    Net(IpNet),
    /// The port is one of these, both ends included.
    Ports {
        /// The lowest.
        min: u16,
        /// The highest.
        max: u16,
    },
}

/// A part of a request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpMatch {
    /// The target's scheme, where it has one.
    Scheme(Scheme),
    /// The method.
    Method(Method),
    /// The target's authority, or the `host` header.
    Authority(StringMatch),
    /// The path, without its query.
    Path(StringMatch),
}

/// A text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatch {
    /// Equal to this.
    Exact(String),
    /// Begins with this.
    Prefix(String),
}

/// A header, one of whose values is this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// The name.
    pub name: HeaderName,
    /// The value.
    pub value: StringMatch,
}

/// What happened (`TapEvent`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The client.
    pub source: Option<SocketAddr>,
    /// What is known of it.
    pub source_labels: Labels,
    /// The endpoint.
    pub destination: Option<SocketAddr>,
    /// What is known of it.
    pub destination_labels: Labels,
    /// Of the route.
    pub route_labels: Labels,
    /// Where the proxy stands.
    pub direction: Direction,
    /// What it is about; none where this only tells of a loss.
    pub what: Option<What>,
    /// Ours: matching requests and events that this tap was not told of so far.
    pub lost: u64,
}

/// Where a proxy stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// It did not say.
    #[default]
    Unknown,
    /// At the server.
    Inbound,
    /// At the client.
    Outbound,
}

/// One request of a proxy, as long as the proxy lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    /// The proxy, by a number of its own.
    pub base: u32,
    /// The request.
    pub stream: u64,
}

/// Names and values as they were sent; names may be those of HTTP/2 (`:path`).
pub type Headers = Vec<(String, Vec<u8>)>;

/// A moment of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its head has come.
    RequestInit {
        /// Which.
        id: StreamId,
        /// How.
        method: Method,
        /// The target's scheme, where it has one.
        scheme: Option<Scheme>,
        /// To whom.
        authority: String,
        /// What, without the query.
        path: String,
        /// Where asked for.
        headers: Headers,
    },
    /// The response's head has come.
    ResponseInit {
        /// Which.
        id: StreamId,
        /// How long it took.
        since_request: Duration,
        /// The status.
        status: u16,
        /// Where asked for.
        headers: Headers,
    },
    /// The response is over, or there will be none.
    ResponseEnd {
        /// Which.
        id: StreamId,
        /// How long all of it took.
        since_request: Duration,
        /// How long the body took; none where there was no head.
        since_response: Option<Duration>,
        /// Data of the response.
        bytes: u64,
        /// How it ended; none for a plain end.
        end: Option<End>,
        /// Where asked for.
        trailers: Headers,
        /// Ours, where asked for and permitted.
        request_body: Option<Captured>,
        /// Ours, where asked for and permitted.
        response_body: Option<Captured>,
    },
}

impl What {
    /// The request that this is about.
    pub fn id(&self) -> StreamId {
        match self {
            Self::RequestInit { id, .. }
            | Self::ResponseInit { id, .. }
            | Self::ResponseEnd { id, .. } => *id,
        }
    }

    /// The same of another request.
    pub fn set_id(&mut self, new: StreamId) {
        match self {
            Self::RequestInit { id, .. }
            | Self::ResponseInit { id, .. }
            | Self::ResponseEnd { id, .. } => *id = new,
        }
    }
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a status of gRPC.
    Grpc(u32),
    /// With an error code of HTTP/2.
    Reset(u32),
}

/// The beginning of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// What was kept, with secrets taken out.
    pub data: Vec<u8>,
    /// There was more.
    pub truncated: bool,
}
