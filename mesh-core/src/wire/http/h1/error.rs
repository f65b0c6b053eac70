//! How the codec's and the stream's errors become a message's error.

use std::io;

use super::codec::{EncodeError, Refusal};
use crate::wire::http::Error;

/// What ended a connection, in a form that both of its users can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What the peer sent was refused.
    Refused(Refusal),
    /// The peer closed amid a message.
    Closed,
    /// The stream failed.
    Io(io::ErrorKind),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refusal) => refusal.into(),
            Fault::Closed => Self::Closed,
            Fault::Io(kind) => io::Error::from(kind).into(),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            kind => Self::Io(kind),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::HeadTooLarge => Self::TooLarge("head"),
            Refusal::TooManyHeaders => Self::TooLarge("number of header fields"),
            refusal => Self::Invalid(refusal.to_string().into()),
        }
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::Invalid(error.to_string().into())
    }
}
