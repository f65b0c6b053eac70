//! What can go wrong with a message or its connection.
//!
//! Law: a stream reset keeps its HTTP/2 code on its way through the proxy. hyper looks for an
//! `h2::Error` among the sources of a failed body and resets with its code, so [`Reset`] carries
//! one; the end of a whole connection does not, and becomes `INTERNAL_ERROR` on other connections.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// What [`Error::Timeout`] is of where a response is late.
pub const RESPONSE: &str = "response";
/// What [`Error::Timeout`] is of where nothing passes.
pub const IDLE: &str = "idle";

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream below failed.
    #[error("i/o error: {0}")]
    Io(#[source] io::Error),
    /// The peer closed the connection in the middle of a message.
    #[error("connection closed before the message was complete")]
    Closed,
    /// One of the two sides reset the HTTP/2 stream.
    #[error("stream reset: {0}")]
    Reset(#[source] Reset),
    /// The peer said GOAWAY. `unprocessed`: it will not have looked at the request.
    #[error("connection ended by peer: {}", Reset::new(*.code))]
    GoAway {
        /// The HTTP/2 error code.
        code: u32,
        /// Whether the request was surely not processed.
        unprocessed: bool,
    },
    /// What the peer sent is not HTTP, or is HTTP that must be refused.
    #[error("invalid message: {0}")]
    Invalid(Cow<'static, str>),
    /// Something is longer than its bound. The text says what.
    #[error("{0} too large")]
    TooLarge(&'static str),
    /// Something took longer than its bound. The text says what.
    #[error("{0} timed out")]
    Timeout(&'static str),
    /// The peer is a proxy of the mesh and could not reach its application: nothing was sent.
    #[error("the peer's proxy cannot reach its application")]
    Unreachable,
    /// This side gave up: the connection or the body's producer was dropped.
    #[error("canceled")]
    Canceled,
}

impl Error {
    /// A reset with an HTTP/2 error code.
    pub fn reset(code: u32) -> Self {
        Self::Reset(Reset::new(code))
    }

    /// The HTTP/2 code, where the stream was reset.
    pub fn reset_code(&self) -> Option<u32> {
        match self {
            Self::Reset(reset) => Some(reset.code()),
            _ => None,
        }
    }

    /// Whether the peer's application surely saw nothing of the request: safe to send again.
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Reset(reset) => reset.code() == Reset::REFUSED_STREAM,
            Self::GoAway { unprocessed, .. } => *unprocessed,
            _ => false,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<hyper::Error> for Error {
    fn from(error: hyper::Error) -> Self {
        if error.is_timeout() {
            return Self::Timeout("http/2 keep-alive");
        }
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            if let Some(h2) = cause.downcast_ref::<h2::Error>() {
                return Self::from_h2(h2);
            }
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                if io.get_ref().is_some_and(|inner| inner.is::<PrefaceTimeout>()) {
                    return Self::Timeout("http/2 preface");
                }
                return io::Error::new(io.kind(), io.to_string()).into();
            }
            source = cause.source();
        }
        if error.is_canceled() || error.is_user() {
            Self::Canceled
        } else if error.is_closed() {
            Self::Closed
        } else {
            Self::Invalid(error.to_string().into())
        }
    }
}

impl Error {
    pub(super) fn from_h2(error: &h2::Error) -> Self {
        let code = error.reason().map(u32::from);
        match code {
            // h2 fails a stream with the peer's GOAWAY only where its id is above the last one
            // that the peer processed, or was never sent.
            Some(code) if error.is_go_away() => {
                Self::GoAway { code, unprocessed: error.is_remote() }
            }
            Some(code) => Self::reset(code),
            None => match error.get_io() {
                Some(io) => io::Error::new(io.kind(), io.to_string()).into(),
                None => Self::Invalid(error.to_string().into()),
            },
        }
    }
}

/// A client did not send its whole preface in time; travels through hyper inside an I/O error.
#[derive(Debug, thiserror::Error)]
#[error("http/2 preface timed out")]
pub(super) struct PrefaceTimeout;

/// An HTTP/2 stream reset: its code (RFC 9113, section 7).
///
/// Put into a response's extensions it makes the server reset the stream instead of answering.
pub struct Reset(h2::Error);

impl Reset {
    /// Nothing is wrong.
    pub const NO_ERROR: u32 = 0x0;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u32 = 0x1;
    /// Something on this side failed.
    pub const INTERNAL_ERROR: u32 = 0x2;
    /// The stream was not processed at all.
    pub const REFUSED_STREAM: u32 = 0x7;
    /// The stream is no longer wanted.
    pub const CANCEL: u32 = 0x8;
    /// The peer may be generating too much load.
    pub const ENHANCE_YOUR_CALM: u32 = 0xb;

    /// A reset with `code`, which may be one the standard does not know.
    pub fn new(code: u32) -> Self {
        Self(h2::Reason::from(code).into())
    }

    /// The code.
    pub fn code(&self) -> u32 {
        self.0.reason().map_or(Self::INTERNAL_ERROR, u32::from)
    }

    /// The code's name in the standard, such as `REFUSED_STREAM`; `UNKNOWN` where it has none.
    pub fn name(&self) -> &'static str {
        match self.code() {
            0x0 => "NO_ERROR",
            0x1 => "PROTOCOL_ERROR",
            0x2 => "INTERNAL_ERROR",
            0x3 => "FLOW_CONTROL_ERROR",
            0x4 => "SETTINGS_TIMEOUT",
            0x5 => "STREAM_CLOSED",
            0x6 => "FRAME_SIZE_ERROR",
            0x7 => "REFUSED_STREAM",
            0x8 => "CANCEL",
            0x9 => "COMPRESSION_ERROR",
            0xa => "CONNECT_ERROR",
            0xb => "ENHANCE_YOUR_CALM",
            0xc => "INADEQUATE_SECURITY",
            0xd => "HTTP_1_1_REQUIRED",
            _ => "UNKNOWN",
        }
    }
}

impl Clone for Reset {
    fn clone(&self) -> Self {
        Self::new(self.code())
    }
}

impl PartialEq for Reset {
    fn eq(&self, other: &Self) -> bool {
        self.code() == other.code()
    }
}

impl Eq for Reset {}

impl fmt::Debug for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reset({self})")
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#x})", self.name(), self.code())
    }
}

impl std::error::Error for Reset {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
