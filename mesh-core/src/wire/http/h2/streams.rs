//! How many streams a connection may have: what the peer allows, and who waits for one.
//!
//! Law: no more requests are handed to h2 than the peer allows at once, so that one which waits here
//! was surely not sent. Where the peer lowers its limit, streams that are open stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{AcquireError, Semaphore};

/// What h2 takes before the peer has said how much it allows.
pub(in super::super) const STREAMS_AT_FIRST: usize = 100;

/// The streams of one connection.
pub(in super::super) struct Streams {
    free: Arc<Semaphore>,
    allowed: AtomicUsize,
    is_timed_out: AtomicBool,
}

/// The right to one stream, until it is dropped.
pub(in super::super) struct Slot(Arc<Semaphore>);

impl Streams {
    pub(in super::super) fn new() -> Self {
        Self {
            free: Arc::new(Semaphore::new(STREAMS_AT_FIRST)),
            allowed: AtomicUsize::new(STREAMS_AT_FIRST),
            is_timed_out: AtomicBool::new(false),
        }
    }

    /// The right to a stream; `None` where as many are open as the peer allows.
    pub(in super::super) fn try_enter(&self) -> Option<Slot> {
        let permit = self.free.try_acquire().ok()?;
        permit.forget();
        Some(Slot(self.free.clone()))
    }

    /// The right to a stream, as soon as there is one.
    ///
    /// # Errors
    /// Where the connection ends before.
    pub(in super::super) async fn enter(&self) -> Result<Slot, AcquireError> {
        let permit = self.free.acquire().await?;
        permit.forget();
        Ok(Slot(self.free.clone()))
    }

    /// What the peer allows now.
    pub(super) fn allow(&self, streams: usize) {
        let wanted = streams.min(Semaphore::MAX_PERMITS);
        let allowed = self.allowed.load(Ordering::Relaxed);
        let allowed_now = match wanted.checked_sub(allowed) {
            Some(0) => return,
            Some(more) => {
                self.free.add_permits(more);
                wanted
            }
            // Those that are in use are taken away when they are free, the next time.
            None => allowed - self.free.forget_permits(allowed - wanted),
        };
        self.allowed.store(allowed_now, Ordering::Relaxed);
    }

    /// Whether no stream is open.
    pub(super) fn is_idle(&self) -> bool {
        self.free.available_permits() >= self.allowed.load(Ordering::Relaxed)
    }

    /// Who waits for a stream need not wait any longer.
    pub(super) fn close(&self) {
        self.free.close();
    }

    pub(super) fn time_out(&self) {
        self.is_timed_out.store(true, Ordering::Relaxed);
    }

    /// Whether the connection ended because its peer answered no ping.
    pub(in super::super) fn is_timed_out(&self) -> bool {
        self.is_timed_out.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_streams_are_open_than_the_peer_allows() {
        let streams = Streams::new();
        streams.allow(2);
        let first = streams.try_enter().unwrap();
        let second = streams.try_enter().unwrap();
        assert!(streams.try_enter().is_none() && !streams.is_idle());
        // A lower limit is reached as streams end.
        streams.allow(1);
        drop(first);
        streams.allow(1);
        assert!(streams.try_enter().is_none());
        drop(second);
        assert!(streams.is_idle());
        let third = streams.try_enter().unwrap();
        assert!(streams.try_enter().is_none());
        streams.allow(usize::MAX);
        assert!(streams.try_enter().is_some());
        drop(third);
        assert!(streams.is_idle());
    }

    #[tokio::test]
    async fn who_waits_is_told_that_the_connection_ended() {
        let streams = Streams::new();
        streams.allow(1);
        let _only = streams.try_enter().unwrap();
        let (entered, ()) = tokio::join!(streams.enter(), async { streams.close() });
        assert!(entered.is_err());
    }
}
