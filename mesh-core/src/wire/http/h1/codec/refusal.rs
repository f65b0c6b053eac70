//! Every reason to refuse a message as HTTP/1, and what a server answers to it.

use http::StatusCode;

/// Why a message is refused. Each is a way in which two implementations could read the same bytes
/// differently, or a limit. Nothing after a refused message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request line is not `METHOD SP TARGET SP VERSION`.
    #[error("malformed request line")]
    RequestLine,
    /// The status line is not `VERSION SP CODE SP [REASON]`.
    #[error("malformed status line")]
    StatusLine,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("unsupported HTTP version")]
    Version,
    /// The request's target is not one, or not one for its method.
    #[error("invalid request target")]
    Target,
    /// The head, or the trailer section, is larger than allowed.
    #[error("head too large")]
    HeadTooLarge,
    /// More header fields than allowed.
    #[error("too many header fields")]
    TooManyHeaders,
    /// A field name with an invalid character, or none.
    #[error("invalid header name")]
    HeaderName,
    /// Whitespace between a field's name and its colon.
    #[error("whitespace before the colon of a header")]
    WhitespaceBeforeColon,
    /// A field line that begins with whitespace.
    #[error("folded header line")]
    ObsFold,
    /// A control character other than a horizontal tab, NUL among them.
    #[error("control character 0x{0:02x}")]
    Control(u8),
    /// A carriage return with no line feed after it.
    #[error("carriage return without line feed")]
    BareCr,
    /// A line feed with no carriage return before it.
    #[error("line feed without carriage return")]
    BareLf,
    /// An HTTP/1.1 request without `Host`.
    #[error("no host header")]
    HostMissing,
    /// More than one `Host`.
    #[error("more than one host header")]
    HostRepeated,
    /// A `Host` that is no host with an optional port.
    #[error("invalid host header")]
    Host,
    /// A `Content-Length` that is not a decimal number below 2^64.
    #[error("malformed content-length")]
    Length,
    /// More than one `Content-Length`, even where they agree.
    #[error("more than one content-length")]
    LengthRepeated,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("content-length together with transfer-encoding")]
    LengthAndCoding,
    /// A transfer coding other than `chunked`.
    #[error("unknown transfer coding")]
    Coding,
    /// `chunked` more than once.
    #[error("transfer coding chunked more than once")]
    CodingRepeated,
    /// `Transfer-Encoding` in an HTTP/1.0 message.
    #[error("transfer-encoding in HTTP/1.0")]
    CodingInHttp10,
    /// A `CONNECT` request with a body.
    #[error("connect request with a body")]
    ConnectWithBody,
    /// A chunk's size is not a hexadecimal number.
    #[error("malformed chunk size")]
    ChunkSize,
    /// A chunk's size has more than 16 digits.
    #[error("chunk size overflow")]
    ChunkSizeOverflow,
    /// Chunk extensions are larger than allowed.
    #[error("chunk extensions too large")]
    ChunkExtensions,
    /// A chunk's data is not followed by an end of line.
    #[error("chunk data not terminated")]
    ChunkEnd,
    /// A trailer field that frames or routes, such as `Content-Length`.
    #[error("forbidden trailer field")]
    Trailer,
    /// More informational responses than allowed before the final one.
    #[error("too many informational responses")]
    TooManyInformational,
}

impl Refusal {
    /// What a server answers, closing the connection.
    pub fn status(self) -> StatusCode {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
