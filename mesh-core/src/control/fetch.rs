//! One request over HTTP/1.1 from the control plane to somebody else: connect, ask, read, close. No
//! pool and no TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ::http::StatusCode;
use bytes::Bytes;

use crate::runtime::Runtime;
use crate::runtime::net::TcpOptions;
use crate::wire::http::h1::Connection;
use crate::wire::http::{Error, Request};

/// What an answer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// From the first packet to the last.
    pub(super) timeout: Duration,
    /// Of its body.
    pub(super) bytes_max: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Nobody can be reached there.
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    /// It takes too long.
    #[error("no whole answer within {0:?}")]
    TimedOut(Duration),
    /// What came is no HTTP, or too much, or broke off.
    #[error("the answer cannot be read: {0}")]
    Broken(Error),
}

/// Sends a request with the headers that it has, and reads the answer.
///
/// # Errors
/// [`FetchError`]; a status that is no success is none.
pub(super) async fn fetch(
    runtime: &Runtime,
    to: SocketAddr,
    mut request: Request,
    patience: Patience,
) -> Result<(StatusCode, Bytes), FetchError> {
    let Patience { timeout, bytes_max } = patience;
    let fetched = runtime.timeout(timeout, async {
        let connection = runtime.net.connect(to, TcpOptions::default()).await;
        let io = connection.map_err(FetchError::Unreachable)?.io;
        let response = Connection::new(runtime, io).send(&mut request, None).await;
        let response = response.map_err(|error| FetchError::Broken(error.into_error()))?;
        let (head, body) = response.into_parts();
        let body = body.read_to_end(bytes_max).await.map_err(FetchError::Broken)?;
        Ok((head.status, body))
    });
    fetched.await.unwrap_or(Err(FetchError::TimedOut(timeout)))
}
