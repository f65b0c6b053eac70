//! Matches and filters of HTTP routes (Gateway API HTTPRoute, `http_route.proto`).

use std::num::NonZeroU16;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::model::pattern::Pattern;

/// A request matches where all parts do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpMatch {
    /// On the path; `None` matches every one.
    pub path: Option<PathMatch>,
    /// On headers; all must hold.
    pub headers: Vec<HeaderMatch>,
    /// On query parameters; all must hold.
    pub query_params: Vec<QueryParamMatch>,
    /// On the method; `None` matches every one.
    pub method: Option<Method>,
}

/// A condition on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Equal.
    Exact(String),
    /// Element-wise prefix: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(String),
    /// The whole path matches.
    Regex(Pattern),
}

/// A condition on a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderMatch {
    /// Equal to a value of it.
    Exact(HeaderName, HeaderValue),
    /// A whole value of it matches.
    Regex(HeaderName, Pattern),
}

/// A condition on a query parameter, percent-decoded; of several of its name one must hold, as in
/// Linkerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryParamMatch {
    /// Equal.
    Exact(String, String),
    /// The whole value matches.
    Regex(String, Pattern),
}

/// Changes headers: adds, then sets, then removes, as Linkerd does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderModifier {
    /// Appended.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Replaced.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Removed.
    pub remove: Vec<HeaderName>,
}

/// Answers with a redirect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// New scheme.
    pub scheme: Option<http::uri::Scheme>,
    /// New host.
    pub host: Option<String>,
    /// New path.
    pub path: Option<PathModifier>,
    /// New port.
    pub port: Option<NonZeroU16>,
    /// Status; 301 where none is given, as the API has it.
    pub status: Option<StatusCode>,
}

/// How a path is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// The whole path.
    Full(String),
    /// The matched prefix.
    Prefix(String),
}

/// Answers a share of requests with a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpFailure {
    /// Status.
    pub status: StatusCode,
    /// Text for logs and the informational header.
    pub message: String,
    /// Which share.
    pub share: Share,
}

/// A share of requests: `numerator / denominator`; a denominator of 0 means none given, all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Above.
    pub numerator: u32,
    /// Below.
    pub denominator: u32,
}

/// Time limits of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request's end to the response's end.
    pub response: Option<Duration>,
    /// The whole of both.
    pub request: Option<Duration>,
    /// Without a frame either way.
    pub idle: Option<Duration>,
}
