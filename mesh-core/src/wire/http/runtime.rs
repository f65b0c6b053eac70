//! hyper on the runtime's doors: its executor, timer and streams.
//!
//! hyper's timer speaks `std::time::Instant`. Only differences between instants are ever seen, so
//! one arbitrary instant stands for the runtime's start; this is the one place that takes it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::PrefaceTimeout;
use crate::runtime::clock::BoxSleep;
use crate::runtime::{BoxIo, Clock, Tasks};
use crate::time::Timestamp;

/// Runs hyper's futures as tasks of one name.
#[derive(Clone)]
pub(super) struct Executor {
    pub(super) tasks: Arc<dyn Tasks>,
    pub(super) name: &'static str,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        self.tasks.spawn(self.name, Box::pin(future));
    }
}

/// hyper's timer over the runtime's clock.
pub(super) struct Timer(pub(super) Arc<dyn Clock>);

impl Timer {
    fn sleep_until(&self, deadline: Timestamp) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(self.0.sleep_until(deadline)))
    }
}

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(self.0.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let since_start = deadline.saturating_duration_since(start());
        self.sleep_until(Timestamp::ZERO + since_start)
    }

    fn now(&self) -> Instant {
        let since_start = self.0.now().since(Timestamp::ZERO);
        start().checked_add(since_start).unwrap_or(start())
    }
}

/// The instant that stands for the runtime's start.
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods)] // Arbitrary, and never seen: see above.
    *START.get_or_init(Instant::now)
}

struct Sleep(BoxSleep);

impl hyper::rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// A stream as hyper wants it. May hold the peer to a time for its first bytes.
pub(super) struct Stream {
    io: BoxIo,
    first_bytes: Option<FirstBytes>,
}

/// How many bytes must come before a deadline.
struct FirstBytes {
    missing: usize,
    deadline: BoxSleep,
}

impl Stream {
    /// Reads fail with [`PrefaceTimeout`] where the first `bytes` have not come by `deadline`.
    pub(super) fn with_first_bytes(io: BoxIo, bytes: usize, deadline: BoxSleep) -> Self {
        let first_bytes = Some(FirstBytes { missing: bytes, deadline });
        Self { io, first_bytes }
    }

    fn check_first_bytes(&mut self, cx: &mut Context<'_>, read: Option<usize>) -> io::Result<()> {
        let Some(first) = &mut self.first_bytes else {
            return Ok(());
        };
        first.missing = first.missing.saturating_sub(read.unwrap_or(0));
        if first.missing == 0 {
            self.first_bytes = None;
        } else if read.is_none() && first.deadline.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, PrefaceTimeout));
        }
        Ok(())
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        #[allow(unsafe_code)]
        // SAFETY: the uninitialised bytes are only handed to `ReadBuf`, which keeps track of what
        // is initialised and never makes an initialised byte uninitialised.
        let mut buf = ReadBuf::uninit(unsafe { cursor.as_mut() });
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut buf);
        let read = buf.filled().len();
        let ready = polled.is_ready();
        if self.first_bytes.is_some() {
            self.check_first_bytes(cx, ready.then_some(read))?;
        }
        ready!(polled)?;
        #[allow(unsafe_code)]
        // SAFETY: `ReadBuf` counts only bytes that are initialised as filled.
        unsafe {
            cursor.advance(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
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

/// A stream that hyper carries inside another (HTTP/2 CONNECT), as everybody else wants it.
pub(super) struct Tunnel(pub(super) hyper::upgrade::Upgraded);

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = hyper::rt::ReadBuf::new(buf.initialize_unfilled());
        ready!(hyper::rt::Read::poll_read(Pin::new(&mut self.0), cx, inner.unfilled()))?;
        let read = inner.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        hyper::rt::Write::poll_write(Pin::new(&mut self.0), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        hyper::rt::Write::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        hyper::rt::Write::poll_shutdown(Pin::new(&mut self.0), cx)
    }
}
