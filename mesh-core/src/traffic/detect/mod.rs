//! Finds out what a connection speaks from its first bytes. Knows no stream and no timeout: it is
//! given bytes as they arrive and says when it has seen enough; whoever drives it keeps the bytes
//! (`wire::sniff`) and applies the timeout.
//!
//! Law: a verdict depends on the bytes, not on how they were cut into segments. [`HttpDetector`]
//! states its one exception.

mod http;
mod tls;

pub use self::http::{HTTP_BYTES_MAX, HttpDetector, HttpFound, http};
pub use self::tls::{CLIENT_HELLO_BYTES_MAX, TlsDetector, TlsFound};

/// What a detector says of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// Undecided: push what comes next.
    More,
    /// Decided; later bytes change nothing.
    Done(T),
}

impl<T> Progress<T> {
    /// The verdict, where there is one.
    pub fn done(self) -> Option<T> {
        match self {
            Self::More => None,
            Self::Done(verdict) => Some(verdict),
        }
    }
}
