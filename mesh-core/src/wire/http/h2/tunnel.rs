//! The stream of a CONNECT that was taken (RFC 9113, section 8.5), as bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::streams::Slot;

/// Most bytes taken with one write.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Both directions of a tunnel.
pub(super) struct Tunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// What was received and not yet read.
    waiting: Bytes,
    has_ended: bool,
    _slot: Slot,
}

impl Tunnel {
    pub(super) fn new(send: SendStream<Bytes>, receive: RecvStream, slot: Slot) -> Self {
        Self { send, receive, waiting: Bytes::new(), has_ended: false, _slot: slot }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.waiting.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => self.waiting = data,
                Some(Err(error)) => {
                    return Poll::Ready(match error.reason() {
                        Some(Reason::NO_ERROR | Reason::CANCEL) => Ok(()),
                        _ => Err(broken(error)),
                    });
                }
            }
        }
        let bytes = self.waiting.len().min(buf.remaining());
        buf.put_slice(&self.waiting[..bytes]);
        self.waiting.advance(bytes);
        // Fails only where more is given back than was taken.
        let _ = self.receive.flow_control().release_capacity(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(reason) = self.send.poll_reset(cx).map_err(broken)? {
            return Poll::Ready(Err(broken(reason.into())));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(buf.len().min(WRITE_BYTES_MAX));
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(capacity) => drop(capacity.map_err(broken)?),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let bytes = self.send.capacity().min(buf.len());
        self.send.send_data(Bytes::copy_from_slice(&buf[..bytes]), false).map_err(broken)?;
        Poll::Ready(Ok(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task sends what it has.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(error: ::h2::Error) -> io::Error {
    match error.get_io() {
        Some(io) => io::Error::new(io.kind(), io.to_string()),
        None => io::Error::new(io::ErrorKind::BrokenPipe, error),
    }
}
