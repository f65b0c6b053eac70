//! A stream that counts the bytes read from it and written to it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::runtime::Io;

/// A stream that adds to two counters as bytes pass.
pub struct Counted<T> {
    io: T,
    read_bytes: Arc<AtomicU64>,
    written_bytes: Arc<AtomicU64>,
}

impl<T: Io> Counted<T> {
    /// Counts what is read from `io` and what is written to it.
    pub fn new(io: T, read_bytes: Arc<AtomicU64>, written_bytes: Arc<AtomicU64>) -> Self {
        Self { io, read_bytes, written_bytes }
    }
}

impl<T: Io> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        let read = buf.filled().len() - before;
        self.read_bytes.fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(result)
    }
}

impl<T: Io> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.written_bytes.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.written_bytes.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn both_directions_are_counted() {
        let (near, mut far) = tokio::io::duplex(64);
        let (read, written) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let mut io = Counted::new(near, read.clone(), written.clone());
        io.write_all(b"hello").await.unwrap();
        far.write_all(b"hi").await.unwrap();
        drop(far);
        io.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(read.load(Ordering::Relaxed), 2);
        assert_eq!(written.load(Ordering::Relaxed), 5);
    }
}
