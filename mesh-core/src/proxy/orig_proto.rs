//! HTTP/1 carried over HTTP/2 between proxies: `l5d-orig-proto` names what a message was, so that
//! the other side makes it so again.
//!
//! Law: a request that is carried over and turned back is the request that was sent, hop-by-hop
//! headers aside.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Version};

use crate::wire::http::hop_by_hop::strip_hop_by_hop;
use crate::wire::http::{Request, Response};

/// Names the version and form of a request that HTTP/2 carries, and the version of its response.
pub const L5D_ORIG_PROTO: HeaderName = HeaderName::from_static("l5d-orig-proto");

const ABSOLUTE_FORM: &str = "; absolute-form";

/// A request that cannot be carried: it names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAuthority;

/// Whether HTTP/2 can carry this HTTP/1 request: not an upgrade, not CONNECT.
pub fn can_carry<B>(request: &http::Request<B>) -> bool {
    request.version() != Version::HTTP_2
        && request.method() != Method::CONNECT
        && (planted!("upgrade-carried") || !request.headers().contains_key(header::UPGRADE))
}

/// Makes an HTTP/1 request one that HTTP/2 carries. `fallback` makes its host where it names none
/// (HTTP/1.0).
///
/// # Errors
/// [`NoAuthority`] where there is no host at all; the request is as it was.
pub fn carry(request: &mut Request, fallback: impl FnOnce() -> String) -> Result<(), NoAuthority> {
    let absolute_form = request.uri().authority().is_some();
    let authority = authority_of(request, fallback).ok_or(NoAuthority)?;
    let proto = match (request.version(), absolute_form) {
        (Version::HTTP_10, false) => "HTTP/1.0",
        (Version::HTTP_10, true) => "HTTP/1.0; absolute-form",
        (_, false) => "HTTP/1.1",
        (_, true) => "HTTP/1.1; absolute-form",
    };
    set_absolute(request, authority);
    let headers = request.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(header::HOST);
    headers.insert(L5D_ORIG_PROTO, HeaderValue::from_static(proto));
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}

/// Makes a carried request what it was. False where it was none, and nothing was changed: only
/// HTTP/2 carries.
pub fn restore(request: &mut Request) -> bool {
    if request.version() != Version::HTTP_2 {
        return false;
    }
    let Some(proto) = request.headers_mut().remove(L5D_ORIG_PROTO) else {
        return false;
    };
    let text = proto.to_str().unwrap_or_default();
    let version = if text.starts_with("HTTP/1.0") { Version::HTTP_10 } else { Version::HTTP_11 };
    *request.version_mut() = version;
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str());
        if let Ok(host) = host {
            request.headers_mut().insert(header::HOST, host);
        }
    }
    if !text.ends_with(ABSOLUTE_FORM) {
        set_origin_form(request);
    }
    true
}

/// Marks the response to a request that was carried, for the other side to restore.
pub fn mark_response(response: &mut Response) {
    let version = if response.version() == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let headers = response.headers_mut();
    strip_hop_by_hop(headers);
    headers.insert(L5D_ORIG_PROTO, HeaderValue::from_static(version));
    *response.version_mut() = Version::HTTP_2;
}

/// Makes the response to a carried request what it was, for a client of `version`.
pub fn restore_response(response: &mut Response, version: Version) {
    let proto = response.headers_mut().remove(L5D_ORIG_PROTO);
    let http10 = proto.is_some_and(|proto| proto.as_bytes().starts_with(b"HTTP/1.0"));
    *response.version_mut() =
        if http10 || version == Version::HTTP_10 { Version::HTTP_10 } else { Version::HTTP_11 };
}

/// The host a request is for: of its target, else of its Host header, else what `fallback` makes.
pub fn authority_of<B>(
    request: &http::Request<B>,
    fallback: impl FnOnce() -> String,
) -> Option<Authority> {
    request
        .uri()
        .authority()
        .cloned()
        .or_else(|| host_header(request.headers()))
        .or_else(|| Authority::from_maybe_shared(fallback()).ok())
}

fn host_header(headers: &HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

/// Gives the target scheme and host, as HTTP/2 wants them.
pub fn set_absolute(request: &mut Request, authority: Authority) {
    let uri = std::mem::take(request.uri_mut());
    let mut parts = uri.into_parts();
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path are there");
}

/// Leaves path and query of the target alone, as HTTP/1 servers want them.
pub fn set_origin_form(request: &mut Request) {
    let uri = std::mem::take(request.uri_mut());
    let path = uri.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::Body;

    fn request(version: Version, uri: &str, host: Option<&str>) -> Request {
        let mut request = http::Request::new(Body::empty());
        *request.uri_mut() = uri.parse().unwrap();
        *request.version_mut() = version;
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, host.parse().unwrap());
        }
        request
    }

    #[test]
    fn a_carried_request_is_restored() {
        for (version, uri, host) in [
            (Version::HTTP_11, "/a?b=c", Some("web:80")),
            (Version::HTTP_10, "/", Some("web")),
            (Version::HTTP_11, "http://web:80/a", Some("web:80")),
            (Version::HTTP_11, "*", Some("web")),
        ] {
            let mut carried = request(version, uri, host);
            carry(&mut carried, String::new).unwrap();
            assert_eq!(carried.version(), Version::HTTP_2);
            assert!(carried.headers().get(header::HOST).is_none());
            assert!(restore(&mut carried));
            assert_eq!(carried.version(), version);
            assert_eq!(carried.uri().to_string(), uri);
            assert_eq!(carried.headers()[header::HOST], host.unwrap());
            assert!(!carried.headers().contains_key(L5D_ORIG_PROTO));
        }
    }

    #[test]
    fn a_request_without_host_takes_the_fallback() {
        let mut carried = request(Version::HTTP_10, "/", None);
        assert_eq!(carry(&mut carried, String::new), Err(NoAuthority));
        carry(&mut carried, || "10.0.0.1:80".to_string()).unwrap();
        assert_eq!(carried.uri(), "http://10.0.0.1:80/");
    }

    #[test]
    fn upgrades_and_connect_are_not_carried() {
        let mut upgrade = request(Version::HTTP_11, "/", Some("web"));
        assert!(can_carry(&upgrade));
        upgrade.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        assert!(!can_carry(&upgrade));
        let mut connect = request(Version::HTTP_11, "web:80", None);
        *connect.method_mut() = Method::CONNECT;
        assert!(!can_carry(&connect));
        assert!(!can_carry(&request(Version::HTTP_2, "/", None)));
    }

    #[test]
    fn a_response_is_marked_and_restored() {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(header::TRANSFER_ENCODING, "chunked".parse().unwrap());
        mark_response(&mut response);
        assert_eq!(response.headers()[L5D_ORIG_PROTO], "HTTP/1.1");
        assert!(!response.headers().contains_key(header::TRANSFER_ENCODING));
        restore_response(&mut response, Version::HTTP_11);
        assert_eq!(response.version(), Version::HTTP_11);
        assert!(response.headers().is_empty());
    }
}
