//! A byte stream with what was read ahead and what is to be written. Knows no HTTP.
//!
//! Law: it holds memory only for bytes that are there. Reads go to the stack first, and both buffers
//! are given back when they are empty between messages.

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::runtime::BoxIo;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Data up to this length is copied behind what goes before it, so that one write without a
/// gather list carries both; longer data is written from where it lies.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// Small pieces are gathered up to about this many bytes before they are written.
const GATHER_BYTES: usize = 8 * 1024;

/// The stream and its buffers.
pub(super) struct Transport {
    io: BoxIo,
    /// Read, and not yet understood.
    pub(super) input: BytesMut,
    /// The peer sends no more.
    pub(super) read_closed: bool,
    /// The stream took some byte of the current message.
    has_written: bool,
    /// Something was written since the last flush.
    unflushed: bool,
    /// To write first: heads, chunk sizes, small data.
    first: Vec<u8>,
    /// How much of `first` is written.
    first_written: usize,
    /// To write then: one large piece of data.
    data: Bytes,
    /// To write last: what ends that piece.
    last: &'static [u8],
}

impl Transport {
    pub(super) fn new(io: BoxIo) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            read_closed: false,
            has_written: false,
            unflushed: false,
            first: Vec::new(),
            first_written: 0,
            data: Bytes::new(),
            last: b"",
        }
    }

    /// Reads once and appends to `input`; 0 at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read_closed {
            return Poll::Ready(Ok(0));
        }
        let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        let bytes = read.filled();
        if bytes.is_empty() {
            self.read_closed = true;
        } else if self.input.is_empty() {
            // A buffer of the right size, and none shared with data given away before.
            self.input = BytesMut::from(bytes);
        } else {
            self.input.extend_from_slice(bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// Where heads and ends are encoded to. Only while [`Self::is_full`] is false.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.last.is_empty() && self.data.is_empty(), "out of order");
        &mut self.first
    }

    /// Queues data and what goes after it; what goes before it was written to [`Self::out`].
    pub(super) fn push(&mut self, data: Bytes, after: &'static [u8]) {
        debug_assert!(self.last.is_empty() && self.data.is_empty(), "out of order");
        if data.len() <= COPY_BYTES_MAX {
            self.first.extend_from_slice(&data);
            self.first.extend_from_slice(after);
        } else {
            self.data = data;
            self.last = after;
        }
    }

    /// Whether to write before more is queued.
    pub(super) fn is_full(&self) -> bool {
        !self.data.is_empty() || !self.last.is_empty() || self.first.len() >= GATHER_BYTES
    }

    /// Whether everything queued is written and flushed.
    pub(super) fn is_written(&self) -> bool {
        self.queued() == 0 && !self.unflushed
    }

    /// Whether the stream took some byte since [`Self::next_message`].
    pub(super) fn has_written(&self) -> bool {
        self.has_written
    }

    fn queued(&self) -> usize {
        // `last` is written with the data or right after it, and emptied then.
        self.first.len() - self.first_written + self.data.len() + self.last.len()
    }

    /// Writes everything queued, without a flush.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.queued() > 0 {
            let first = &self.first[self.first_written..];
            let written = if self.data.is_empty() && self.last.is_empty() {
                ready!(Pin::new(&mut self.io).poll_write(cx, first))?
            } else {
                let slices =
                    [IoSlice::new(first), IoSlice::new(&self.data), IoSlice::new(self.last)];
                let skip = slices.iter().take_while(|slice| slice.is_empty()).count();
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[skip..]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.has_written = true;
            self.unflushed = true;
            self.wrote(written);
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, mut written: usize) {
        let first = written.min(self.first.len() - self.first_written);
        self.first_written += first;
        written -= first;
        if self.first_written == self.first.len() {
            self.first.clear();
            self.first_written = 0;
        }
        let data = written.min(self.data.len());
        self.data.advance(data);
        if self.data.is_empty() {
            // Gives the memory back.
            self.data = Bytes::new();
        }
        self.last = &self.last[written - data..];
    }

    /// Writes everything queued and flushes it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Says that no more will be written.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Between two messages: gives back the memory of empty buffers.
    pub(super) fn next_message(&mut self) {
        self.has_written = false;
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.queued() == 0 {
            self.first = Vec::new();
            self.first_written = 0;
        }
    }

    /// Bytes of buffers held.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.input.capacity() + self.first.capacity() + self.data.len()
    }

    /// The stream, and what was read ahead of it.
    pub(super) fn into_parts(mut self) -> (BoxIo, Bytes) {
        (self.io, mem::take(&mut self.input).freeze())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn buffers_are_as_large_as_what_is_in_them_and_given_back_between_messages() {
        let (mut far, near) = tokio::io::duplex(1024);
        let mut transport = Transport::new(Box::new(near));
        assert_eq!(transport.held_bytes(), 0);
        far.write_all(b"0123456789").await.expect("writes");
        poll_fn(|cx| transport.poll_fill(cx)).await.expect("reads");
        assert!((10..64).contains(&transport.held_bytes()));
        drop(transport.input.split_to(10));
        transport.out().extend_from_slice(b"head ");
        transport.push(Bytes::from_static(b"data"), b" end");
        poll_fn(|cx| transport.poll_flush(cx)).await.expect("writes");
        transport.next_message();
        assert_eq!(transport.held_bytes(), 0);
        let mut read = [0; 13];
        far.read_exact(&mut read).await.expect("reads");
        assert_eq!(&read, b"head data end");
    }
}
