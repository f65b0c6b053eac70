//! How well a request is matched: by path, method, headers and query, or by gRPC service and
//! method.

use std::borrow::Cow;

use http::{HeaderMap, Method};

use super::Request;
use crate::model::pattern::Pattern;
use crate::model::route::grpc::GrpcMatch;
use crate::model::route::http::{HeaderMatch, HttpMatch, PathMatch, QueryParamMatch};

/// How specific a match of an HTTP request is; the greater wins, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HttpRank {
    path_bytes: usize,
    path_exact: bool,
    method: bool,
    headers: usize,
    query_params: usize,
}

impl HttpRank {
    /// A rule without matches: as if it had the prefix `/`.
    pub(super) const ALL: Self =
        Self { path_bytes: 1, path_exact: false, method: false, headers: 0, query_params: 0 };

    pub(super) fn of(wanted: &HttpMatch, request: Request<'_>) -> Option<Self> {
        if wanted.method.as_ref().is_some_and(|m| m != request.method) {
            return None;
        }
        let path_bytes = match &wanted.path {
            Some(path) => path_bytes(path, request.uri.path())?,
            None => Self::ALL.path_bytes,
        };
        let matches = wanted.headers.iter().all(|h| header(h, request.headers))
            && wanted.query_params.iter().all(|q| query_param(q, request.uri.query()));
        matches.then_some(Self {
            path_bytes,
            path_exact: matches!(wanted.path, Some(PathMatch::Exact(_))),
            method: wanted.method.is_some(),
            headers: wanted.headers.len(),
            query_params: wanted.query_params.len(),
        })
    }
}

/// How specific a match of a gRPC request is; the greater wins, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GrpcRank {
    service_bytes: usize,
    method_bytes: usize,
    headers: usize,
}

impl GrpcRank {
    /// A rule without matches.
    pub(super) const ALL: Self = Self { service_bytes: 0, method_bytes: 0, headers: 0 };

    pub(super) fn of(wanted: &GrpcMatch, request: Request<'_>) -> Option<Self> {
        if request.method != Method::POST {
            return None;
        }
        // `/package.Service/Method`; what follows another slash is not looked at.
        let mut segments = request.uri.path().strip_prefix('/')?.split('/');
        let (service, method) = (segments.next()?, segments.next()?);
        let bytes = |wanted: &Option<String>, found: &str| match wanted {
            Some(wanted) => (wanted == found).then_some(wanted.len()),
            None => Some(0),
        };
        let rank = Self {
            service_bytes: bytes(&wanted.service, service)?,
            method_bytes: bytes(&wanted.method, method)?,
            headers: wanted.headers.len(),
        };
        let matches = wanted.headers.iter().all(|h| header(h, request.headers));
        matches.then_some(rank)
    }
}

/// How many bytes of the path are matched.
fn path_bytes(wanted: &PathMatch, path: &str) -> Option<usize> {
    match wanted {
        PathMatch::Exact(exact) => (exact == path).then_some(path.len()),
        PathMatch::Regex(pattern) => pattern.matches(path).then_some(path.len()),
        PathMatch::Prefix(prefix) if prefix == "/" => Some(1),
        PathMatch::Prefix(prefix) => {
            let prefix = prefix.trim_end_matches('/');
            let rest = path.trim_end_matches('/').strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
        }
    }
}

fn header(wanted: &HeaderMatch, headers: &HeaderMap) -> bool {
    match wanted {
        HeaderMatch::Exact(name, value) => headers.get_all(name).iter().any(|v| v == value),
        HeaderMatch::Regex(name, pattern) => {
            headers.get_all(name).iter().any(|v| v.to_str().is_ok_and(|v| pattern.matches(v)))
        }
    }
}

/// Whether a parameter of that name and value is there, among others of the same name too.
fn query_param(wanted: &QueryParamMatch, query: Option<&str>) -> bool {
    let pairs = query.unwrap_or_default().split('&').filter(|p| !p.is_empty());
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    match wanted {
        QueryParamMatch::Exact(name, exact) => {
            pairs.any(|(n, v)| is_encoding_of(n, name) && is_encoding_of(v, exact))
        }
        QueryParamMatch::Regex(name, pattern) => {
            pairs.any(|(n, v)| is_encoding_of(n, name) && encoding_matches(v, pattern))
        }
    }
}

fn encoding_matches(encoded: &str, pattern: &Pattern) -> bool {
    let decoded = if encoded.bytes().any(|b| matches!(b, b'%' | b'+')) {
        let bytes: Vec<u8> = Decoded(encoded.as_bytes()).collect();
        Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
    } else {
        Cow::Borrowed(encoded)
    };
    pattern.matches(&decoded)
}

fn is_encoding_of(encoded: &str, text: &str) -> bool {
    Decoded(encoded.as_bytes()).eq(text.bytes())
}

/// The bytes of a form-encoded text: `+` is a space, `%41` an `A`; a `%` without two digits is
/// itself.
struct Decoded<'t>(&'t [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let digit = |at: usize| self.0.get(at).and_then(|&b| char::from(b).to_digit(16));
        let (byte, width) = match (*self.0.first()?, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => ((high << 4 | low) as u8, 3),
            (b'+', ..) => (b' ', 1),
            (byte, ..) => (byte, 1),
        };
        self.0 = &self.0[width..];
        Some(byte)
    }
}
