//! Copies bytes between two streams until both directions have ended.
//!
//! Law: each byte read on one side is written on the other once and in order; the end of one
//! direction is passed on as a half-close and leaves the other direction open. The first error
//! ends both.
//!
//! Memory: an idle direction holds no buffer. Reads go to the stack until they fill it; a
//! direction that keeps filling its reads gets a heap buffer that doubles up to
//! [`BUFFER_BYTES_MAX`] and is given back when the reader has nothing more. The next one is as
//! large, and halves with each small read. Beyond that a buffer grows only with what all copies of a
//! proxy share for it ([`Bulk`]): bytes in bulk cost less in large pieces, as both peers are woken
//! more seldom.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::runtime::BoxIo;

/// What a direction reads to the stack.
const STACK_BYTES: usize = 8 * 1024;

/// The largest buffer of one direction that shares nothing.
pub const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// The largest buffer of one direction.
pub const BULK_BUFFER_BYTES_MAX: usize = 512 * 1024;

/// What buffers beyond [`BUFFER_BYTES_MAX`] take in all.
pub const BULK_BYTES_MAX: usize = 1024 * 1024;

/// What the copies of a proxy share for buffers larger than [`BUFFER_BYTES_MAX`]. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Bulk(Arc<AtomicUsize>);

impl Bulk {
    /// False where others have so much that there is not enough left.
    fn take(&self, bytes: u32) -> bool {
        let taken = self.0.fetch_add(bytes as usize, Ordering::Relaxed);
        let is_enough = taken + bytes as usize <= BULK_BYTES_MAX;
        if !is_enough {
            self.give_back(bytes);
        }
        is_enough
    }

    fn give_back(&self, bytes: u32) {
        self.0.fetch_sub(bytes as usize, Ordering::Relaxed);
    }
}

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
/// the first to the second, and from the second to the first. `bulk`: for large buffers; none where
/// these are not worth having.
///
/// # Errors
/// [`CopyError`] with the side that failed.
pub async fn copy_bidirectional(
    first: BoxIo,
    second: BoxIo,
    bulk: Option<&Bulk>,
) -> Result<(u64, u64), CopyError> {
    let mut streams = (first, second);
    let mut forth = Direction::new();
    let mut back = Direction::new();
    std::future::poll_fn(|cx| {
        let (first, second) = (&mut streams.0, &mut streams.1);
        let forth_done = forth.poll(cx, bulk, first, second);
        let back_done = back.poll(cx, bulk, second, first);
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
    /// Whom a part of `buffer` is to be given back to, and how much.
    lender: Option<Bulk>,
    borrowed_bytes: u32,
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
            lender: None,
            borrowed_bytes: 0,
            state: State::Open,
            unflushed: false,
            moved_bytes: 0,
        }
    }

    /// Moves what can be moved. Ready when the end has been passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        bulk: Option<&Bulk>,
        reader: &mut BoxIo,
        writer: &mut BoxIo,
    ) -> Poll<Result<(), End>> {
        let turn_end = self.moved_bytes + TURN_BYTES as u64;
        loop {
            ready!(self.poll_write_waiting(cx, bulk, writer))?;
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
                self.poll_read_to_stack(cx, bulk, reader, writer)
            } else {
                self.poll_read_to_buffer(cx, reader)
            };
            if read.is_pending() {
                self.give_back();
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
        bulk: Option<&Bulk>,
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
            self.take_buffer(bulk);
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
            self.give_back();
        }
        Poll::Ready(Ok(()))
    }

    /// A buffer of the next size, or the largest to be had.
    fn take_buffer(&mut self, bulk: Option<&Bulk>) {
        self.give_back();
        let beyond = self.next_bytes.saturating_sub(BUFFER_BYTES_MAX) as u32;
        if beyond > 0 {
            self.lender = bulk.filter(|bulk| bulk.take(beyond)).cloned();
            match self.lender {
                Some(_) => self.borrowed_bytes = beyond,
                None => self.next_bytes = BUFFER_BYTES_MAX,
            }
        }
        self.buffer = Vec::with_capacity(self.next_bytes);
    }

    fn give_back(&mut self) {
        self.buffer = Vec::new();
        if let Some(lender) = self.lender.take() {
            lender.give_back(self.borrowed_bytes);
        }
    }

    /// Leaves the buffer empty: as it is, larger where the last read filled it.
    fn poll_write_waiting(
        &mut self,
        cx: &mut Context<'_>,
        bulk: Option<&Bulk>,
        writer: &mut BoxIo,
    ) -> Poll<Result<(), End>> {
        while self.written < self.buffer.len() {
            let waiting = &self.buffer[self.written..];
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, waiting));
            self.written += self.count(written)?;
        }
        let filled = !self.buffer.is_empty() && self.buffer.len() == self.buffer.capacity();
        let bytes_max = match bulk {
            Some(_) => BULK_BUFFER_BYTES_MAX,
            None => BUFFER_BYTES_MAX,
        };
        if filled && self.buffer.len() < bytes_max {
            self.next_bytes = 2 * self.buffer.len();
            self.take_buffer(bulk);
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

impl Drop for Direction {
    fn drop(&mut self) {
        self.give_back();
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
        let copy = tokio::spawn(async move {
            copy_bidirectional(Box::new(first), Box::new(second), None).await
        });
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
        let error = copy_bidirectional(Box::new(first), Box::new(second), None).await.unwrap_err();
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
            assert!(direction.poll(cx, None, &mut first, &mut second).is_pending());
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
        let copy = copy_bidirectional(Box::new(first), Box::new(second), None);
        assert!(size_of_val(&copy) <= 256);
    }

    #[tokio::test]
    async fn large_buffers_are_shared_for_and_given_back() {
        let bulk = Bulk::default();
        let mut directions: Vec<_> = (0..4).map(|_| Direction::new()).collect();
        for direction in &mut directions {
            direction.next_bytes = BULK_BUFFER_BYTES_MAX;
            direction.take_buffer(Some(&bulk));
        }
        let sizes: Vec<_> = directions.iter().map(|one| one.buffer.capacity()).collect();
        let (large, small) = (BULK_BUFFER_BYTES_MAX, BUFFER_BYTES_MAX);
        assert_eq!(sizes, [large, large, small, small]);
        directions[0].give_back();
        directions[3].next_bytes = large;
        directions[3].take_buffer(Some(&bulk));
        assert_eq!(directions[3].buffer.capacity(), large);
        drop(directions);
        assert_eq!(bulk.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn much_is_carried_in_large_pieces_and_whole() {
        let (near, first) = duplex(4 * BULK_BUFFER_BYTES_MAX);
        let (second, mut far) = duplex(4 * BULK_BUFFER_BYTES_MAX);
        let (mut read, mut write) = tokio::io::split(near);
        let bulk = Bulk::default();
        let copy = tokio::spawn(async move {
            copy_bidirectional(Box::new(first), Box::new(second), Some(&bulk)).await
        });
        let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
        let sending = sent.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&sending).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut far, &mut received).await.unwrap();
        assert!(received == sent);
        writer.await.unwrap();
        drop(far);
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut read, &mut rest).await.unwrap();
        assert_eq!(copy.await.unwrap().unwrap(), (8_000_000, 0));
    }
}
