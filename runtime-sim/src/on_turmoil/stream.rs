//! A turmoil stream that writes what arrives into the trace.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Shared;
use super::doors::now;
use crate::lock;
use crate::trace::Delivery;

/// Bytes of one message: turmoil takes any, and bounds their number.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

pub(super) struct Stream {
    pub(super) inner: turmoil::net::TcpStream,
    pub(super) shared: Arc<Shared>,
    pub(super) host: Arc<str>,
    pub(super) number: u64,
    /// The other end's, and this end's.
    pub(super) hosts: (IpAddr, IpAddr),
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let bytes = &buffer.filled()[before..];
        if polled.is_ready() && !bytes.is_empty() {
            let shared = &self.shared;
            shared.trace.bytes(now(shared), &self.host, self.number, 0, bytes);
            let tap = lock(&shared.tap).clone();
            if let Some(tap) = tap {
                let (at, (from, to)) = (now(shared), self.hosts);
                tap(&Delivery { at, from, to, stream: (self.number, 0), bytes });
            }
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_shutdown(context) {
            // Already shut down: the kernel does not mind.
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::NotConnected => {
                Poll::Ready(Ok(()))
            }
            polled => polled,
        }
    }
}
