//! The body of a response, as its stream brings it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::{Reason, RecvStream};
use ::http::HeaderMap;
use ::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::streams::Slot;
use crate::wire::http::Error;

/// Stands for "not known".
const UNKNOWN: u64 = u64::MAX;

/// A body of a stream. Its window grows as it is read.
pub(in super::super) struct Received {
    stream: RecvStream,
    /// Bytes still to come, or [`UNKNOWN`].
    missing_bytes: u64,
    _slot: Slot,
}

impl Received {
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap, slot: Slot) -> Self {
        let missing_bytes = content_length(headers).unwrap_or(UNKNOWN);
        Self { stream, missing_bytes, _slot: slot }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // Fails only where more is given back than was taken.
                let _ = self.stream.flow_control().release_capacity(data.len());
                if self.missing_bytes != UNKNOWN {
                    self.missing_bytes = self.missing_bytes.saturating_sub(data.len() as u64);
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Some(Err(error)) => return Poll::Ready(failed(&error)),
            // Asked again it says the same.
            None => {}
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => failed(&error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.missing_bytes {
            UNKNOWN => SizeHint::default(),
            bytes => SizeHint::with_exact(bytes),
        }
    }
}

/// A reset that says that nothing is wrong is an early end (RFC 9113, section 8.1).
fn failed(error: &::h2::Error) -> Option<Result<Frame<Bytes>, Error>> {
    (error.reason() != Some(Reason::NO_ERROR)).then(|| Err(Error::from_h2(error)))
}

/// The length that a message claims, where it claims one.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let first = values.next()?;
    let is_one = values.all(|other| other == first);
    let length = first.to_str().ok()?.parse().ok()?;
    (is_one && length != UNKNOWN).then_some(length)
}
