//! How long a message's body is, decided from its head alone (RFC 9112, section 6).

use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};

use super::Refusal;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk, after which trailers may follow.
    Chunked,
    /// When the connection does (responses only).
    UntilClose,
}

impl Framing {
    /// A request's.
    ///
    /// # Errors
    /// [`Refusal`] where the fields are ambiguous.
    pub fn of_request(
        method: &Method,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let framing = Self::declared(version, headers)?.unwrap_or(Self::None);
        match framing {
            Self::None | Self::Length(0) => Ok(framing),
            _ if method == Method::CONNECT => Err(Refusal::ConnectWithBody),
            _ => Ok(framing),
        }
    }

    /// A response's, to a request with this method.
    ///
    /// # Errors
    /// [`Refusal`] where the fields are ambiguous, even where there is no body.
    pub fn of_response(
        method: &Method,
        status: StatusCode,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let declared = Self::declared(version, headers)?;
        if has_no_body(method, status) {
            return Ok(Self::None);
        }
        Ok(declared.unwrap_or(Self::UntilClose))
    }

    fn declared(version: Version, headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let chunked = is_chunked(version, headers)?;
        let length = content_length(headers)?;
        match (chunked, length) {
            (true, Some(_)) => Err(Refusal::LengthAndCoding),
            (true, None) => Ok(Some(Self::Chunked)),
            (false, length) => Ok(length.map(Self::Length)),
        }
    }
}

/// Whether a response has no body whatever its fields say.
pub(super) fn has_no_body(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || (method == Method::CONNECT && status.is_success())
}

fn is_chunked(version: Version, headers: &HeaderMap) -> Result<bool, Refusal> {
    if !headers.contains_key(TRANSFER_ENCODING) {
        return Ok(false);
    }
    if version == Version::HTTP_10 {
        return Err(Refusal::CodingInHttp10);
    }
    let mut chunked = 0;
    for value in headers.get_all(TRANSFER_ENCODING) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            if !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::Coding);
            }
            chunked += 1;
        }
    }
    if chunked == 1 { Ok(true) } else { Err(Refusal::CodingRepeated) }
}

/// The one `Content-Length`.
///
/// # Errors
/// [`Refusal`] where there are more, or it is malformed.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::LengthRepeated);
    }
    let digits = value.as_bytes();
    if digits.is_empty() {
        return Err(Refusal::Length);
    }
    let mut length = 0_u64;
    for digit in digits {
        if *digit == b',' {
            return Err(Refusal::LengthRepeated);
        }
        if !digit.is_ascii_digit() {
            return Err(Refusal::Length);
        }
        length = length
            .checked_mul(10)
            .and_then(|length| length.checked_add(u64::from(digit - b'0')))
            .ok_or(Refusal::Length)?;
    }
    Ok(Some(length))
}
