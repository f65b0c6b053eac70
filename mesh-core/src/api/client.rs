//! What the proxy asks of a control plane: streams of policy, profiles and endpoints, and
//! certificates.

use std::fmt;
use std::future::poll_fn;

use super::codec::DecodeError;
use crate::model::identity::ServerTls;
use crate::model::target::NameAddr;
use crate::runtime::BoxStream;

/// Where a control plane's service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlAddress {
    /// Name or address, and port.
    pub authority: NameAddr,
    /// Whom to expect there. `None` only for loopback addresses, which are asked in plaintext.
    pub tls: Option<ServerTls>,
}

/// Answers to one question, in order, until the server or the connection ends. Dropping it tells
/// the server.
pub struct ApiStream<T> {
    pub(super) answers: BoxStream<Result<T, ApiError>>,
}

impl<T> ApiStream<T> {
    /// The next answer. `None` where the server ended the stream: ask again. After
    /// [`ApiError::Decode`] more answers may follow; after any other error there are none.
    pub async fn next(&mut self) -> Option<Result<T, ApiError>> {
        poll_fn(|context| self.answers.as_mut().poll_next(context)).await
    }
}

impl<T> fmt::Debug for ApiStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiStream")
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The control plane cannot be reached, or broke off: ask again later.
    #[error("control plane unavailable: {0}")]
    Unavailable(String),
    /// It knows no such thing.
    #[error("not found: {0}")]
    NotFound(String),
    /// It holds the question for wrong; asking again changes nothing.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// It does not offer this: an older control plane.
    #[error("unimplemented: {0}")]
    Unimplemented(String),
    /// It does not answer us.
    #[error("denied: {0}")]
    Denied(String),
    /// Its answer makes no sense; what was known before stays good.
    #[error("invalid answer: {0}")]
    Decode(#[from] DecodeError),
    /// It failed in another way.
    #[error("{code}: {message}")]
    Other {
        /// gRPC status.
        code: String,
        /// Text.
        message: String,
    },
}
