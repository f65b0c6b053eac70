//! A stream that counts itself: open while it lives, its bytes as they pass, and how it broke.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::runtime::{BoxIo, Io};
use crate::telemetry::metrics::{OpenConnection, TransportMetrics};
use crate::wire::counted::Counted;

/// Counts a stream as a connection of its kind.
pub fn meter(io: impl Io, metrics: &Arc<TransportMetrics>) -> BoxIo {
    let io = Counted::new(io, metrics.read_bytes(), metrics.write_bytes());
    Box::new(Metered { io, open: metrics.opened() })
}

struct Metered<T> {
    io: Counted<T>,
    open: OpenConnection,
}

impl<T: Io> Metered<T> {
    fn noting<U>(&mut self, polled: Poll<io::Result<U>>) -> Poll<io::Result<U>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.open.failed(error);
        }
        polled
    }
}

impl<T: Io> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.noting(polled)
    }
}

impl<T: Io> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.noting(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.noting(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.noting(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.noting(polled)
    }
}
