//! Heads of requests and responses, decoded. A head is taken only whole; its names and values share
//! one allocation with it.

use bytes::{Buf, BytesMut};
use http::header::{EXPECT, HOST, HeaderMap};
use http::{Method, StatusCode, Uri, Version};

use super::lines::{self, Scan};
use super::{Framing, HEAD_BYTES_MAX, Reason, Refusal};
use crate::wire::http::hop_by_hop::{connection_names, is_upgrade};

/// A request's head and what follows from it.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target as it came (origin, absolute, authority or asterisk form), version, fields.
    pub parts: http::request::Parts,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the client may send another request on the connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether the client asks to leave HTTP: an `Upgrade` that `Connection` names, or `CONNECT`.
    pub upgrade: bool,
}

/// A response's head and what follows from it.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status, version, fields; an unusual reason phrase is the extension [`Reason`].
    pub parts: http::response::Parts,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the server takes another request on the connection, once the body has ended.
    pub keep_alive: bool,
}

/// Decodes one head, over any number of reads.
#[derive(Clone, Copy, Debug)]
pub struct HeadDecoder {
    scan: Scan,
    bytes_max: usize,
}

impl Default for HeadDecoder {
    fn default() -> Self {
        Self::new(HEAD_BYTES_MAX)
    }
}

impl HeadDecoder {
    /// For heads of at most so many bytes, with their first and last line.
    pub fn new(bytes_max: usize) -> Self {
        Self { scan: Scan::default(), bytes_max }
    }

    /// Takes a request's head off the front of `input`, and empty lines before it (RFC 9112,
    /// section 2.2). `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`Refusal`]; the connection's bytes have no meaning from there on.
    pub fn request(&mut self, input: &mut BytesMut) -> Result<Option<RequestHead>, Refusal> {
        while input.starts_with(b"\r\n") {
            input.advance(2);
        }
        if **input == *b"\r" {
            return Ok(None);
        }
        let Some(end) = self.scan.end(input, self.bytes_max)? else {
            return Ok(None);
        };
        let section = input.split_to(end).freeze();
        let mut slots = lines::slots();
        let mut parsed = httparse::Request::new(&mut []);
        parsed
            .parse_with_uninit_headers(&section, &mut slots)
            .map_err(|error| lines::refusal(&section, error, first_line(&section, error)))?;
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Refusal::RequestLine);
        };

        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::RequestLine)?;
        // The parser allows non-ASCII in targets; `Uri` checks for itself.
        let uri = Uri::from_maybe_shared(section.slice_ref(target.as_bytes()))
            .map_err(|_| Refusal::Target)?;
        check_target(&method, &uri, target)?;
        let version = version(minor);
        let headers = lines::header_map(&section, parsed.headers)?;
        check_host(version, &headers)?;
        let framing = Framing::of_request(&method, version, &headers)?;

        let (mut parts, ()) = http::Request::new(()).into_parts();
        let upgrade =
            method == Method::CONNECT || (version == Version::HTTP_11 && is_upgrade(&headers));
        parts.method = method;
        parts.uri = uri;
        parts.version = version;
        parts.headers = headers;
        Ok(Some(RequestHead {
            framing,
            keep_alive: keeps_alive(version, &parts.headers),
            expects_continue: expects_continue(version, &parts.headers)
                && !matches!(framing, Framing::None | Framing::Length(0)),
            upgrade,
            parts,
        }))
    }

    /// Takes the head of a response to a request with this method off the front of `input`. `None`:
    /// more bytes are needed.
    ///
    /// # Errors
    /// [`Refusal`]; the connection's bytes have no meaning from there on.
    pub fn response(
        &mut self,
        input: &mut BytesMut,
        method: &Method,
    ) -> Result<Option<ResponseHead>, Refusal> {
        let Some(end) = self.scan.end(input, self.bytes_max)? else {
            return Ok(None);
        };
        let section = input.split_to(end).freeze();
        let mut slots = lines::slots();
        let mut parsed = httparse::Response::new(&mut []);
        httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut parsed, &section, &mut slots)
            .map_err(|error| lines::refusal(&section, error, first_line(&section, error)))?;
        let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(Refusal::StatusLine);
        };

        let status = StatusCode::from_u16(code).map_err(|_| Refusal::StatusLine)?;
        let version = version(minor);
        let headers = lines::header_map(&section, parsed.headers)?;
        let framing = Framing::of_response(method, status, version, &headers)?;

        let (mut parts, ()) = http::Response::new(()).into_parts();
        let reason = parsed.reason.unwrap_or_default();
        if !reason.is_empty() && status.canonical_reason() != Some(reason) {
            let phrase = section.slice_ref(reason.as_bytes());
            parts.extensions.insert(Reason(phrase));
        }
        parts.status = status;
        parts.version = version;
        parts.headers = headers;
        Ok(Some(ResponseHead {
            framing,
            keep_alive: framing != Framing::UntilClose && keeps_alive(version, &parts.headers),
            parts,
        }))
    }
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Tells an unsupported version from a malformed first line.
fn first_line(section: &[u8], error: httparse::Error) -> Refusal {
    let line = section.split(|byte| *byte == b'\r').next().unwrap_or(section);
    if line.starts_with(b"HTTP/") {
        return match error {
            httparse::Error::Version => Refusal::Version,
            _ => Refusal::StatusLine,
        };
    }
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match last {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if error == httparse::Error::Version
                && major.is_ascii_digit()
                && minor.is_ascii_digit() =>
        {
            Refusal::Version
        }
        _ => Refusal::RequestLine,
    }
}

/// Each method with its forms of target (RFC 9112, section 3.2). A fragment is refused: the parser
/// would drop it, and the next hop would see another target.
fn check_target(method: &Method, uri: &Uri, target: &str) -> Result<(), Refusal> {
    let authority_form = uri.scheme().is_none() && uri.authority().is_some();
    let good = if method == Method::CONNECT {
        authority_form && uri.path_and_query().is_none() && uri.port().is_some()
    } else if target == "*" {
        method == Method::OPTIONS
    } else {
        target.starts_with('/') || (uri.scheme().is_some() && uri.authority().is_some())
    };
    if good && !target.contains('#') { Ok(()) } else { Err(Refusal::Target) }
}

/// RFC 9112, section 3.2: exactly one good `Host` in HTTP/1.1, at most one in HTTP/1.0.
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return match version {
            Version::HTTP_10 => Ok(()),
            _ => Err(Refusal::HostMissing),
        };
    };
    if hosts.next().is_some() {
        return Err(Refusal::HostRepeated);
    }
    if is_host(host.as_bytes()) { Ok(()) } else { Err(Refusal::Host) }
}

/// `uri-host [":" port]` of RFC 9110, section 7.2, where the host may be empty.
fn is_host(host: &[u8]) -> bool {
    let (name, rest) = match host {
        [b'[', ..] => match host.iter().position(|byte| *byte == b']') {
            Some(end) => (&host[1..end], &host[end + 1..]),
            None => return false,
        },
        _ => {
            let end = host.iter().position(|byte| *byte == b':');
            host.split_at(end.unwrap_or(host.len()))
        }
    };
    let literal = host.starts_with(b"[");
    let name_good = name.iter().all(|byte| match byte {
        b':' => literal,
        b'-' | b'.' | b'_' | b'~' | b'%' => true,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
        _ => byte.is_ascii_alphanumeric(),
    });
    let port_good = match rest {
        [] => true,
        [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    name_good && port_good && (!literal || !name.is_empty())
}

fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    if connection_names(headers, "close") {
        return false;
    }
    version == Version::HTTP_11 || connection_names(headers, "keep-alive")
}

/// RFC 9110, section 10.1.1: an HTTP/1.0 request cannot expect it.
fn expects_continue(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && headers
            .get_all(EXPECT)
            .iter()
            .any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
