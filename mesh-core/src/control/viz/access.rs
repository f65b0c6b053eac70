//! Who may ask: who is on this host, or knows the token.
//!
//! A browser of this host can be led here by any page (DNS rebinding, forms, images). So the name it
//! asks for must be the loopback's, and the page it asks from, where it says so, must be of here.

use ::http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::control::public_api::{ApiError, query::Query};
use crate::wire::http::{Body, Request, Response};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const COOKIE_NAME: &str = "weft-token";

/// Judges requests by their heads.
pub(super) struct Access {
    token: Option<String>,
}

impl Access {
    pub(super) fn new(token: Option<String>) -> Self {
        Self { token }
    }

    /// # Errors
    /// The answer, where the request is not one to be looked at.
    pub(super) fn judge(&self, request: &Request) -> Result<(), Response> {
        let headers = request.headers();
        let host = host(request).ok_or_else(|| {
            refused(StatusCode::BAD_REQUEST, "the request names no host", "send a Host header")
        })?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered", "use GET"));
        }
        if is_of_another_site(headers, host) {
            let why = "asked from a page of another site";
            return Err(refused(StatusCode::FORBIDDEN, why, "open this address itself"));
        }
        match &self.token {
            Some(token) => known(token, request),
            None if is_loopback(host) => Ok(()),
            None => Err(refused(
                StatusCode::FORBIDDEN,
                &format!("asked for by the name {host:?}"),
                "ask for localhost, 127.0.0.1 or [::1]; or let the controller take a token \
                 (--viz-token-file)",
            )),
        }
    }
}

/// The token is a header's, a cookie's, or the address's: then it becomes a cookie.
fn known(token: &str, request: &Request) -> Result<(), Response> {
    let headers = request.headers();
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|value| value.split("; "));
    let cookie = cookies.find_map(|pair| pair.strip_prefix(COOKIE_NAME)?.strip_prefix('='));
    if bearer.is_some_and(|given| is_same(given, token))
        || cookie.is_some_and(|given| is_same(given, token))
    {
        return Ok(());
    }
    let query = Query::of(request.uri());
    if query.value("token").is_some_and(|given| is_same(given, token)) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SEE_OTHER;
        let path = HeaderValue::from_str(request.uri().path());
        let cookie = format!("{COOKIE_NAME}={token}; Path=/; HttpOnly; SameSite=Strict");
        if let (Ok(path), Ok(cookie)) = (path, HeaderValue::from_str(&cookie)) {
            response.headers_mut().insert(LOCATION, path);
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        return Err(response);
    }
    let remedy = "send Authorization: Bearer TOKEN, or open /?token=TOKEN; the token is in the \
                  controller's --viz-token-file";
    Err(refused(StatusCode::UNAUTHORIZED, "the token is missing or wrong", remedy))
}

/// Takes as long wherever they differ.
fn is_same(given: &str, token: &str) -> bool {
    let differing = given.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == token.len() && differing == 0
}

fn host(request: &Request) -> Option<&str> {
    let of_uri = request.uri().authority().map(|authority| authority.as_str());
    of_uri.or_else(|| request.headers().get(HOST)?.to_str().ok())
}

fn is_of_another_site(headers: &HeaderMap, host: &str) -> bool {
    let is_elsewhere = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let (_, origin) = origin.split_once("://").unwrap_or_default();
        !origin.eq_ignore_ascii_case(host)
    };
    // An address that is opened by hand, or by a link, is of no site or of another: it is only read.
    let led = headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site")
        && headers.get("sec-fetch-mode").is_none_or(|mode| mode != "navigate");
    led || headers.get(ORIGIN).is_some_and(is_elsewhere)
}

/// Whether a name, with or without a port, can only be this host's.
fn is_loopback(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let (address, port) = address.split_once(']').unwrap_or_default();
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_number);
        return is_port && address.parse::<std::net::Ipv6Addr>().is_ok_and(|ip| ip.is_loopback());
    }
    let name = match host.split_once(':') {
        Some((name, port)) if is_number(port) => name,
        Some(_) => return false,
        None => host,
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_number(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn refused(status: StatusCode, why: &str, remedy: &str) -> Response {
    mark!("viz-request-refused");
    tracing::info!(%status, why, "a request to the console was refused");
    ApiError::new(status, why, remedy).response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_loopback_are_of_this_host() {
        for name in
            ["localhost", "LOCALHOST:8084", "127.0.0.1:1", "127.1.2.3", "[::1]", "[::1]:8084"]
        {
            assert!(is_loopback(name), "{name}");
        }
        for name in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com:8084",
            "10.0.0.1",
            "[::2]:8084",
            "::1",
            "localhost:port",
            "[::1",
            "[::1]x",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(name), "{name}");
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(is_same("abc", "abc"));
        for other in ["", "ab", "abcd", "abd"] {
            assert!(!is_same(other, "abc"), "{other}");
        }
    }
}
