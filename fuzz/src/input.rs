//! An input's bytes, cut and driven: segments of a stream as an input's first bytes say, a stream of
//! those segments, and a way to run futures that only ever wait for such streams.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use mesh_core::runtime::clock::BoxSleep;
use mesh_core::runtime::{BoxIo, Clock};
use mesh_core::time::{Timestamp, WallTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Takes what tells how to cut off the front of an input: a length, and as many bytes, each the
/// length of a segment. Returns the segments of the rest.
pub fn segments(input: &[u8]) -> (Vec<u8>, Vec<&[u8]>) {
    let [cuts, input @ ..] = input else {
        return (Vec::new(), Vec::new());
    };
    let (cuts, mut rest) = input.split_at(usize::from(cuts % 8).min(input.len()));
    let whole = rest.to_vec();
    let mut segments = Vec::new();
    for cut in cuts {
        let (segment, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        segments.push(segment);
        rest = after;
    }
    segments.push(rest);
    (whole, segments)
}

/// A stream that yields segments, each after one poll that yields nothing, and then ends. Takes what
/// is written to it and forgets it.
pub struct Stream {
    segments: VecDeque<Vec<u8>>,
    rested: bool,
}

impl Stream {
    /// Of these segments; empty ones are left out, since they would say that the stream ended.
    pub fn boxed(segments: &[&[u8]]) -> BoxIo {
        let segments = segments.iter().filter(|segment| !segment.is_empty());
        Box::new(Self {
            segments: segments.map(|segment| segment.to_vec()).collect(),
            rested: false,
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.rested = !self.rested;
        if self.rested {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(mut segment) = self.segments.pop_front() {
            let rest = segment.split_off(segment.len().min(buffer.remaining()));
            buffer.put_slice(&segment);
            if !rest.is_empty() {
                self.segments.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls a future until it is done.
///
/// # Panics
/// Where it waits for something that is not a [`Stream`].
pub fn run<F: Future>(future: F) -> F::Output {
    const POLLS_MAX: u32 = 1 << 20;
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("it hangs");
}

/// A clock that stands still.
pub struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn wall(&self) -> WallTime {
        NOW
    }

    fn sleep_until(&self, _: Timestamp) -> BoxSleep {
        Box::pin(std::future::pending())
    }
}

/// The wall clock's time wherever an input is judged by one: 2026-01-01T00:00:00Z.
pub const NOW: WallTime = WallTime::from_unix_secs(1_767_225_600);
