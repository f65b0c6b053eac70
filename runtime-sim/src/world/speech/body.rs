//! Bodies made while they are sent, and bodies read piece by piece.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use mesh_core::wire::http::{Body, Error};

use super::BODY_BYTES_MAX;

/// Frames that may wait for the connection.
const FRAMES_MAX: usize = 4;
/// Bytes of one piece of a body.
pub(crate) const PIECE_BYTES: usize = 16 * 1024;

/// The producer's end of a body. Dropped, the body is over.
pub(crate) type Frames = mpsc::Sender<Result<Frame<Bytes>, Error>>;

/// A body whose frames are sent while it is read. `length`: what it says of its size.
pub(crate) fn channel(length: Option<u64>) -> (Frames, Body) {
    let (sender, receiver) = mpsc::channel(FRAMES_MAX);
    (sender, Body::wrap(Channel { receiver, length }))
}

struct Channel {
    receiver: mpsc::Receiver<Result<Frame<Bytes>, Error>>,
    length: Option<u64>,
}

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = self.receiver.poll_recv(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some(left)) = (&polled, &mut self.length) {
            let sent = frame.data_ref().map_or(0, Bytes::len) as u64;
            *left = left.saturating_sub(sent);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A text filled up to so many bytes, the text last.
pub(crate) fn filled(text: &str, bytes: u64) -> Bytes {
    let fill = usize::try_from(bytes.min(BODY_BYTES_MAX)).unwrap_or(0).saturating_sub(text.len());
    let mut all = vec![b'.'; fill];
    all.extend_from_slice(text.as_bytes());
    all.into()
}

/// What was read of a body.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// How much.
    pub(crate) bytes: u64,
    /// The last bytes, as many as were asked for.
    pub(crate) tail: Vec<u8>,
}

/// Reads a body to its end and keeps the last `tail` bytes.
pub(crate) async fn read(mut body: Body, tail: usize) -> Result<Received, (Received, Error)> {
    let mut received = Received::default();
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => return Err((received, error)),
        };
        received.bytes += data.len() as u64;
        received.tail.extend_from_slice(&data);
        let excess = received.tail.len().saturating_sub(tail);
        received.tail.drain(..excess);
        if received.bytes > BODY_BYTES_MAX {
            return Err((received, Error::TooLarge("body")));
        }
    }
    Ok(received)
}
