//! Heads and bodies, encoded. Framing fields are written here alone: those of the map are replaced.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING};
use http::{Method, StatusCode, Uri, Version};

use super::body::FORBIDDEN;
use super::framing::{content_length, has_no_body};
use super::{Framing, Reason};

/// The `Connection` field to write. The map's own is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionField {
    /// None.
    Absent,
    /// `close`.
    Close,
    /// `keep-alive`, for HTTP/1.0.
    KeepAlive,
    /// `upgrade`.
    Upgrade,
}

/// Why a body does not fit its head. The connection must end: its peer would wait, or take the
/// rest for another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More data than the head said.
    #[error("body longer than its content-length")]
    TooLong,
    /// Less data than the head said.
    #[error("body shorter than its content-length")]
    TooShort,
}

impl Framing {
    /// How to send a request's body: as its `Content-Length` says, else by what is known of it
    /// (`size`: its exact bytes), else chunked.
    pub fn to_send_request(method: &Method, headers: &HeaderMap, size: Option<u64>) -> Self {
        if method == Method::CONNECT {
            return Self::None;
        }
        if let Ok(Some(length)) = content_length(headers) {
            return Self::Length(length);
        }
        match size {
            // RFC 9110, section 8.6: where the method would have a body, tell that there is none.
            Some(0) if [Method::POST, Method::PUT, Method::PATCH].contains(method) => {
                Self::Length(0)
            }
            Some(0) => Self::None,
            Some(length) => Self::Length(length),
            None => Self::Chunked,
        }
    }

    /// How to send a response's body to a client of this version, for a request of this method.
    pub fn to_send_response(
        method: &Method,
        client: Version,
        status: StatusCode,
        headers: &HeaderMap,
        size: Option<u64>,
    ) -> Self {
        if has_no_body(method, status) {
            return Self::None;
        }
        // A malformed or repeated length can come from an HTTP/2 server; it is not passed on.
        if let Ok(Some(length)) = content_length(headers) {
            return Self::Length(length);
        }
        match size {
            Some(length) => Self::Length(length),
            None if client == Version::HTTP_11 => Self::Chunked,
            None => Self::UntilClose,
        }
    }
}

/// Writes a request's head. The target is written in the form that `uri` has, but that of an HTTP/2
/// request (always absolute) in origin form. A request that has no `Host` gets the target's
/// authority for one. HTTP/1.0 cannot say `chunked`, so that such a request goes as HTTP/1.1.
pub fn request_head<B>(
    request: &http::Request<B>,
    framing: Framing,
    connection: ConnectionField,
    out: &mut Vec<u8>,
) {
    out.reserve(256);
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    let origin_form = request.version() == Version::HTTP_2 && *request.method() != Method::CONNECT;
    target(request.uri(), origin_form, out);
    out.push(b' ');
    let http10 = request.version() == Version::HTTP_10 && framing != Framing::Chunked;
    out.extend_from_slice(if http10 { b"HTTP/1.0" } else { b"HTTP/1.1" });
    out.extend_from_slice(b"\r\n");
    if !request.headers().contains_key(HOST) && !http10 {
        let authority = request.uri().authority().map_or("", |found| found.as_str());
        // User information is not part of `Host`.
        let host = authority.rsplit('@').next().unwrap_or_default();
        field(b"host", host.as_bytes(), out);
    }
    fields(request.headers(), out);
    framing_fields(framing, out);
    connection_field(connection, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes a response's head for a client of this version, to a request of this method.
pub fn response_head(
    parts: &http::response::Parts,
    method: &Method,
    client: Version,
    framing: Framing,
    connection: ConnectionField,
    out: &mut Vec<u8>,
) {
    out.reserve(256);
    let http10 = client == Version::HTTP_10;
    out.extend_from_slice(if http10 { b"HTTP/1.0" } else { b"HTTP/1.1" });
    out.push(b' ');
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    match parts.extensions.get::<Reason>() {
        Some(reason) => out.extend_from_slice(reason.as_bytes()),
        None => {
            let reason = parts.status.canonical_reason().unwrap_or_default();
            out.extend_from_slice(reason.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    fields(&parts.headers, out);
    // What the body of a GET would have been is told without sending it.
    if method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED {
        if let Ok(Some(length)) = content_length(&parts.headers) {
            framing_fields(Framing::Length(length), out);
        }
    } else {
        framing_fields(framing, out);
    }
    connection_field(connection, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes an informational response's head.
pub fn informational_head(parts: &http::response::Parts, out: &mut Vec<u8>) {
    response_head(
        parts,
        &Method::GET,
        Version::HTTP_11,
        Framing::None,
        ConnectionField::Absent,
        out,
    );
}

/// Encodes one body: what goes around each piece of data, and what ends it.
#[derive(Clone, Copy, Debug)]
pub struct BodyEncoder {
    framing: Framing,
    ended: bool,
}

impl BodyEncoder {
    /// For a body whose head said so.
    pub fn new(framing: Framing) -> Self {
        Self { framing, ended: matches!(framing, Framing::None | Framing::Length(0)) }
    }

    /// Whether everything that belongs to the body has been written, so that there is no need to
    /// ask for more.
    pub fn is_end(&self) -> bool {
        self.ended
    }

    /// Writes what goes before `length` bytes of data, and returns what goes after them. `last`:
    /// the body ends with them, so that [`Self::end`] has nothing more to write.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn data(
        &mut self,
        length: usize,
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<&'static [u8], EncodeError> {
        if length == 0 {
            if last {
                self.end(None, out)?;
            }
            return Ok(b"");
        }
        match &mut self.framing {
            Framing::None => Err(EncodeError::TooLong),
            Framing::Length(left) => {
                *left = left.checked_sub(length as u64).ok_or(EncodeError::TooLong)?;
                if last && *left > 0 {
                    return Err(EncodeError::TooShort);
                }
                self.ended = *left == 0;
                Ok(b"")
            }
            Framing::Chunked => {
                hexadecimal(length as u64, out);
                out.extend_from_slice(b"\r\n");
                self.ended = last;
                Ok(if last { b"\r\n0\r\n\r\n" } else { b"\r\n" })
            }
            Framing::UntilClose => {
                self.ended = last;
                Ok(b"")
            }
        }
    }

    /// Writes the end, with the trailers where the framing can carry them. Fields that have no
    /// place in trailers are left out.
    ///
    /// # Errors
    /// [`EncodeError::TooShort`].
    pub fn end(
        &mut self,
        trailers: Option<&HeaderMap>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if self.ended {
            return Ok(());
        }
        if let Framing::Length(_) = self.framing {
            return Err(EncodeError::TooShort);
        }
        if self.framing == Framing::Chunked {
            out.extend_from_slice(b"0\r\n");
            for (name, value) in trailers.into_iter().flatten() {
                if !FORBIDDEN.contains(name) {
                    field(name.as_str().as_bytes(), value.as_bytes(), out);
                }
            }
            out.extend_from_slice(b"\r\n");
        }
        self.ended = true;
        Ok(())
    }
}

fn target(uri: &Uri, origin_form: bool, out: &mut Vec<u8>) {
    let authority = uri.authority().filter(|_| !origin_form);
    if let Some(scheme) = uri.scheme_str().filter(|_| !origin_form) {
        out.extend_from_slice(scheme.as_bytes());
        out.extend_from_slice(b"://");
    }
    if let Some(authority) = authority {
        out.extend_from_slice(authority.as_str().as_bytes());
    }
    match uri.path_and_query() {
        Some(path) => out.extend_from_slice(path.as_str().as_bytes()),
        None if authority.is_none() => out.push(b'/'),
        None => {}
    }
}

fn fields(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        if name != CONNECTION && name != TRANSFER_ENCODING && name != CONTENT_LENGTH {
            field(name.as_str().as_bytes(), value.as_bytes(), out);
        }
    }
}

fn framing_fields(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(length, out);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => field(b"transfer-encoding", b"chunked", out),
    }
}

fn connection_field(connection: ConnectionField, out: &mut Vec<u8>) {
    match connection {
        ConnectionField::Absent => {}
        ConnectionField::Close => field(b"connection", b"close", out),
        ConnectionField::KeepAlive => field(b"connection", b"keep-alive", out),
        ConnectionField::Upgrade => field(b"connection", b"upgrade", out),
    }
}

fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn decimal(number: u64, out: &mut Vec<u8>) {
    digits(number, 10, out);
}

fn hexadecimal(number: u64, out: &mut Vec<u8>) {
    digits(number, 16, out);
}

fn digits(mut number: u64, radix: u64, out: &mut Vec<u8>) {
    // 2^64 has 20 decimal digits.
    let mut text = [b'0'; 20];
    let mut at = text.len() - 1;
    loop {
        text[at] = b"0123456789abcdef"[(number % radix) as usize];
        number /= radix;
        if number == 0 {
            break;
        }
        at -= 1;
    }
    out.extend_from_slice(&text[at..]);
}
