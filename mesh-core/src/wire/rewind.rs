//! A stream with bytes put back in front of it: what detection read is read again by the protocol.
//!
//! Law: a reader sees the bytes put back, then the stream's, each once and in order. Writes pass
//! through. The buffer is given back when its last byte is read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};

use super::pass_writes::pass_writes;
use crate::runtime::BoxIo;

/// A stream whose first bytes have been read and put back.
pub struct Rewind {
    before: Bytes,
    io: BoxIo,
}

impl Rewind {
    /// Puts `before` in front of what `io` still yields.
    pub fn new(before: Bytes, io: BoxIo) -> Self {
        Self { before, io }
    }
}

/// Puts `before` in front of what `io` still yields; `io` itself where there is nothing to put.
pub fn rewind(before: impl Into<Bytes>, io: BoxIo) -> BoxIo {
    let before = before.into();
    if before.is_empty() { io } else { Box::new(Rewind::new(before, io)) }
}

impl AsyncRead for Rewind {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() || buf.remaining() == 0 {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let length = self.before.len().min(buf.remaining());
        buf.put_slice(&self.before[..length]);
        self.before.advance(length);
        if self.before.is_empty() {
            self.before = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

pass_writes!(Rewind);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_put_back_come_first_and_once() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut io = rewind(&b"first "[..], Box::new(near));
        far.write_all(b"then").await.unwrap();
        drop(far);
        let mut small = [0; 4];
        io.read_exact(&mut small).await.unwrap();
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        assert_eq!([&small[..], &rest].concat(), b"first then");
    }
}
