//! Reads what comes in bulk ahead of rustls, which asks for 4 kB at a time: a record of 16 kB would
//! cost five reads of a socket.
//!
//! Law: a reader sees the stream's bytes, each once and in order; writes pass through. A stream that
//! has nothing more to say at once holds no buffer.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::runtime::BoxIo;
use crate::wire::pass_writes::pass_writes;

/// What rustls asks for.
const ASKED_BYTES: usize = 4 * 1024;

/// What is read at once: four records of the largest size.
const BULK_BYTES: usize = 64 * 1024;

/// A stream below TLS.
pub(super) struct ReadAhead {
    io: BoxIo,
    /// What was read ahead, from `taken` on.
    ahead: Vec<u8>,
    taken: usize,
    /// The last read got as much as rustls asks for, or more.
    in_bulk: bool,
}

impl ReadAhead {
    pub(super) fn new(io: BoxIo) -> Self {
        Self { io, ahead: Vec::new(), taken: 0, in_bulk: false }
    }

    /// Reads ahead; afterwards there is something to take, or the stream has ended.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ahead.clear();
        self.taken = 0;
        self.ahead.reserve_exact(BULK_BYTES);
        let read = pin!(self.io.read_buf(&mut self.ahead)).poll(cx);
        match read {
            Poll::Ready(Ok(bytes)) => self.in_bulk = bytes >= ASKED_BYTES,
            _ => self.ahead = Vec::new(),
        }
        read.map_ok(drop)
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.taken == this.ahead.len() {
            if !this.in_bulk {
                this.ahead = Vec::new();
                this.taken = 0;
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
                this.in_bulk = buf.filled().len() - before >= ASKED_BYTES;
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_fill(cx))?;
        }
        let waiting = &this.ahead[this.taken..];
        let taken = waiting.len().min(buf.remaining());
        buf.put_slice(&waiting[..taken]);
        this.taken += taken;
        Poll::Ready(Ok(()))
    }
}

pass_writes!(ReadAhead);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWrite, AsyncWriteExt};

    use super::*;

    /// Reads of the stream below, of so many bytes each.
    struct Counting {
        io: tokio::io::DuplexStream,
        reads: std::sync::Arc<std::sync::Mutex<Vec<usize>>>,
    }

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            self.reads.lock().unwrap().push(buf.filled().len() - before);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.io).poll_write(cx, buf)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn bulk_is_read_in_few_reads_and_nothing_is_kept_afterwards() {
        let (near, mut far) = tokio::io::duplex(1024 * 1024);
        let reads = std::sync::Arc::default();
        let mut io = ReadAhead::new(Box::new(Counting { io: near, reads: Clone::clone(&reads) }));
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        far.write_all(&sent).await.unwrap();
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let mut chunk = [0; ASKED_BYTES];
            let bytes = io.read(&mut chunk).await.unwrap();
            received.extend_from_slice(&chunk[..bytes]);
        }
        assert_eq!(received, sent);
        let bulk = BULK_BYTES;
        let rest = sent.len() - ASKED_BYTES - 2 * bulk;
        assert_eq!(*reads.lock().unwrap(), [ASKED_BYTES, bulk, bulk, rest]);

        // A small message, the end: what follows is small again, and no buffer waits for it.
        far.write_all(b"small").await.unwrap();
        let mut chunk = [0; ASKED_BYTES];
        assert_eq!(io.read(&mut chunk).await.unwrap(), 5);
        drop(far);
        assert_eq!(io.read(&mut chunk).await.unwrap(), 0);
        assert_eq!((io.ahead.capacity(), io.in_bulk), (0, false));
    }
}
