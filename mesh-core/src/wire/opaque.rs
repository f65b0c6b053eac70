//! Copies bytes between two streams until both directions have ended.
//!
//! Law: each byte read on one side is written on the other once and in order; the end of one
//! direction is passed on as a half-close and leaves the other direction open. The first error
//! ends both.
//!
//! Memory: an idle direction holds no buffer. Reads go to the stack until they fill it; a
//! direction that keeps filling its reads gets a heap buffer that doubles up to
//! [`BUFFER_BYTES_MAX`] and is given back when the reader has nothing more. The next one is as
//! large, and halves with each small read.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::runtime::BoxIo;

/// What a direction reads to the stack.
const STACK_BYTES: usize = 8 * 1024;

/// The largest buffer of one direction.
pub const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What one direction may move before the other, and other tasks, get their turn.
const TURN_BYTES: usize = 256 * 1024;

/// Why a copy ended early, and what it had copied by then.
#[derive(Debug, thiserror::Error)]
#[error("{side} side failed: {source}")]
pub struct CopyError {
    /// The side whose stream failed.
    pub side: Side,
    /// Bytes moved from the first stream to the second.
    pub from_first_bytes: u64,
    /// Bytes moved from the second stream to the first.
    pub from_second_bytes: u64,
    /// What its stream said.
    pub source: io::Error,
}

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first one given.
    First,
    /// The second one given.
    Second,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Second => "second",
        })
    }
}

/// Copies both ways until both have ended, then drops both streams. Returns the bytes moved from
/// the first to the second, and from the second to the first.
///
/// # Errors
/// [`CopyError`] with the side that failed.
pub async fn copy_bidirectional(first: BoxIo, second: BoxIo) -> Result<(u64, u64), CopyError> {
    let mut streams = (first, second);
    let mut forth = Direction::new();
    let mut back = Direction::new();
    std::future::poll_fn(|cx| {
        let (first, second) = (&mut streams.0, &mut streams.1);
        let forth_done = forth.poll(cx, first, second);
        let back_done = back.poll(cx, second, first);
        let (side, source) = match (forth_done, back_done) {
            (Poll::Ready(Err(End::Reader(error))), _) => (Side::First, error),
            (Poll::Ready(Err(End::Writer(error))), _) => (Side::Second, error),
            (_, Poll::Ready(Err(End::Reader(error)))) => (Side::Second, error),
            (_, Poll::Ready(Err(End::Writer(error)))) => (Side::First, error),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                return Poll::Ready(Ok((forth.moved_bytes, back.moved_bytes)));
            }
            _ => return Poll::Pending,
        };
        Poll::Ready(Err(CopyError {
            side,
            from_first_bytes: forth.moved_bytes,
            from_second_bytes: back.moved_bytes,
            source,
        }))
    })
    .await
}

/// Which end of a direction failed.
enum End {
    Reader(io::Error),
    Writer(io::Error),
}

/// One direction of a copy.
struct Direction {
    /// What waits to be written, from `written` on. Has capacity only while something waits or
    /// reads do not fit on the stack.
    buffer: Vec<u8>,
    written: usize,
    /// The capacity that the next buffer gets.
    next_bytes: usize,
    state: State,
    unflushed: bool,
    moved_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The reader has ended; the writer is to be told.
    Ending,
    Ended,
}

impl Direction {
    const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            written: 0,
            next_bytes: 2 * STACK_BYTES,
            state: State::Open,
            unflushed: false,
            moved_bytes: 0,
        }
    }

    /// Moves what can be moved. Ready when the end has been passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut BoxIo,
        writer: &mut BoxIo,
    ) -> Poll<Result<(), End>> {
        let turn_end = self.moved_bytes + TURN_BYTES as u64;
        loop {
            ready!(self.poll_write_waiting(cx, writer))?;
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending => return self.poll_end(cx, writer),
                State::Open if self.moved_bytes >= turn_end => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Open => {}
            }
            let read = if self.buffer.capacity() == 0 {
                self.poll_read_to_stack(cx, reader, writer)
            } else {
                self.poll_read_to_buffer(cx, reader)
            };
            if read.is_pending() {
                self.buffer = Vec::new();
                if self.unflushed {
                    ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(End::Writer)?;
                    self.unflushed = false;
                }
            }
            ready!(read)?;
        }
    }

    /// Reads to the stack and writes from there; only what the writer does not take is kept.
    #[inline(never)]
    fn poll_read_to_stack(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut BoxIo,
        writer: &mut BoxIo,
    ) -> Poll<Result<(), End>> {
        let mut stack = [const { MaybeUninit::<u8>::uninit() }; STACK_BYTES];
        let mut buf = ReadBuf::uninit(&mut stack);
        ready!(Pin::new(reader).poll_read(cx, &mut buf)).map_err(End::Reader)?;
        let mut data: &[u8] = buf.filled();
        if data.is_empty() {
            self.state = State::Ending;
            return Poll::Ready(Ok(()));
        }
        let full = data.len() == STACK_BYTES;
        while !data.is_empty() {
            match Pin::new(&mut *writer).poll_write(cx, data) {
                Poll::Pending => {
                    mark!("copy-waits-for-its-reader");
                    break;
                }
                Poll::Ready(written) => {
                    let written = self.count(written)?;
                    data = &data[written..];
                }
            }
        }
        if !full {
            self.next_bytes = (self.next_bytes / 2).max(2 * STACK_BYTES);
        }
        if full || !data.is_empty() {
            self.buffer = Vec::with_capacity(self.next_bytes);
            self.buffer.extend_from_slice(data);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_to_buffer(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut BoxIo,
    ) -> Poll<Result<(), End>> {
        let read = ready!(pin!(reader.read_buf(&mut self.buffer)).poll(cx));
        if read.map_err(End::Reader)? == 0 {
            self.state = State::Ending;
            self.buffer = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Leaves the buffer empty: as it is, larger where the last read filled it.
    fn poll_write_waiting(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut BoxIo,
    ) -> Poll<Result<(), End>> {
        while self.written < self.buffer.len() {
            let waiting = &self.buffer[self.written..];
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, waiting));
            self.written += self.count(written)?;
        }
        let filled = !self.buffer.is_empty() && self.buffer.len() == self.buffer.capacity();
        if filled && self.buffer.len() < BUFFER_BYTES_MAX {
            self.next_bytes = 2 * self.buffer.len();
            self.buffer = Vec::with_capacity(self.next_bytes);
        }
        self.buffer.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn count(&mut self, written: io::Result<usize>) -> Result<usize, End> {
        match written {
            Ok(0) => Err(End::Writer(io::ErrorKind::WriteZero.into())),
            Ok(written) => {
                self.moved_bytes += written as u64;
                self.unflushed = true;
                Ok(written)
            }
            Err(error) => Err(End::Writer(error)),
        }
    }

    /// Half-close: the peer may still have much to say the other way.
    fn poll_end(&mut self, cx: &mut Context<'_>, writer: &mut BoxIo) -> Poll<Result<(), End>> {
        if planted!("half-close-forgotten") {
            self.state = State::Ended;
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(writer).poll_shutdown(cx)) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                Poll::Ready(Err(End::Writer(error)))
            }
            _ => {
                self.state = State::Ended;
                Poll::Ready(Ok(()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    type Copy = tokio::task::JoinHandle<Result<(u64, u64), CopyError>>;

    fn joined(pipe_bytes: usize) -> (DuplexStream, DuplexStream, Copy) {
        let (client, first) = duplex(pipe_bytes);
        let (second, server) = duplex(pipe_bytes);
        let copy = tokio::spawn(copy_bidirectional(Box::new(first), Box::new(second)));
        (client, server, copy)
    }

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let (mut client, mut server, copy) = joined(64);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        server.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, b"question");
        server.write_all(b"the answer").await.unwrap();
        drop(server);
        let mut answered = Vec::new();
        client.read_to_end(&mut answered).await.unwrap();
        assert_eq!(answered, b"the answer");
        assert_eq!(copy.await.unwrap().unwrap(), (8, 10));
    }

    #[tokio::test]
    async fn bulk_arrives_whole_through_pipes_of_any_size() {
        for pipe_bytes in [1 << 10, 9_000, 100_000, 1 << 20] {
            let (mut client, mut server, copy) = joined(pipe_bytes);
            let data: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
            let sent = data.clone();
            let send = async move {
                client.write_all(&sent).await.unwrap();
                client.shutdown().await.unwrap();
                client
            };
            let mut received = Vec::new();
            let (client, _) = tokio::join!(send, server.read_to_end(&mut received));
            assert!(received == data, "pipes of {pipe_bytes} bytes");
            drop((client, server));
            assert_eq!(copy.await.unwrap().unwrap(), (1_000_000, 0));
        }
    }

    #[tokio::test]
    async fn a_failing_side_is_named() {
        let (client, first) = duplex(64);
        let (second, server) = duplex(64);
        drop(server);
        let mut client = client;
        client.write_all(b"to nobody").await.unwrap();
        let error = copy_bidirectional(Box::new(first), Box::new(second)).await.unwrap_err();
        assert_eq!((error.side, error.from_first_bytes), (Side::Second, 0));
    }

    #[tokio::test]
    async fn a_buffer_is_given_back_when_the_reader_has_nothing_more() {
        let (mut client, first) = duplex(1 << 20);
        let (second, mut server) = duplex(1 << 20);
        let (mut first, mut second): (BoxIo, BoxIo) = (Box::new(first), Box::new(second));
        let mut direction = Direction::new();
        client.write_all(&[7; 200_000]).await.unwrap();
        std::future::poll_fn(|cx| {
            assert!(direction.poll(cx, &mut first, &mut second).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(direction.moved_bytes, 200_000);
        assert_eq!(direction.next_bytes, BUFFER_BYTES_MAX);
        assert_eq!(direction.buffer.capacity(), 0);
        server.read_exact(&mut vec![0; 200_000]).await.unwrap();
    }

    #[test]
    fn an_idle_copy_is_small() {
        let (first, second) = duplex(64);
        let copy = copy_bidirectional(Box::new(first), Box::new(second));
        assert!(size_of_val(&copy) <= 256);
    }
}
