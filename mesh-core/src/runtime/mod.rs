//! The doors: everything outside the process, as object-safe traits. Traits only; `runtime-real`
//! stands behind them with tokio and the kernel, `runtime-sim` with simulated networks.
//!
//! Law: nothing else in this crate reaches a clock, socket, thread, file, environment variable or
//! source of randomness. Every runtime passes the tests in `contract`.

pub mod clock;
pub mod cluster;
#[cfg(feature = "contract")]
pub mod contract;
pub mod crypto;
pub mod entropy;
pub mod files;
pub mod net;
pub mod tasks;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use pin_project_lite::pin_project;

use clock::BoxSleep;

use crate::time::Timestamp;

pub use clock::Clock;
pub use cluster::Cluster;
pub use crypto::Crypto;
pub use entropy::Entropy;
pub use files::Files;
pub use net::{BoxIo, Connection, Io, Listener, Net};
pub use tasks::{TaskGuard, Tasks};

/// A future behind a door.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The future that `make` makes, on the heap and made there. `Box::pin(make())` has it on the stack
/// first and copies all of it, most of which is the room of what it has not yet come to.
#[inline(always)]
pub fn pinned<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    // Taken before it is made, so that nothing can fail while it is on its way.
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, make()))
}

/// A stream behind a door.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// One handle on the outside, cheap to clone. Functions ask for the door they use
/// (`net: &dyn Net`); only those that need most of it take the whole.
#[derive(Clone)]
pub struct Runtime {
    /// Monotonic and wall-clock time, and sleeping.
    pub clock: Arc<dyn Clock>,
    /// TCP and name resolution.
    pub net: Arc<dyn Net>,
    /// Background tasks.
    pub tasks: Arc<dyn Tasks>,
    /// Random numbers.
    pub entropy: Arc<dyn Entropy>,
    /// TLS algorithms, keys and signatures.
    pub crypto: Arc<dyn Crypto>,
    /// Files: read, write, watch.
    pub files: Arc<dyn Files>,
    /// The cluster's objects: list and watch, write, leases, token review.
    pub cluster: Arc<dyn Cluster>,
}

impl Runtime {
    /// Monotonic time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Completes after `duration`.
    pub async fn sleep(&self, duration: Duration) {
        self.clock.sleep_until(self.clock.now() + duration).await;
    }

    /// Runs `future` for at most `duration`; dropped where it takes longer.
    ///
    /// # Errors
    /// [`Elapsed`] where the time ran out first.
    pub fn timeout<F: Future>(&self, duration: Duration, future: F) -> Timed<F> {
        self.deadline(self.clock.now() + duration, future)
    }

    /// Runs `future` until `deadline`; dropped where it takes longer. A future that is ready at
    /// the deadline wins.
    ///
    /// # Errors
    /// [`Elapsed`] where the deadline came first.
    pub fn deadline<F: Future>(&self, deadline: Timestamp, future: F) -> Timed<F> {
        Timed { future, sleep: self.clock.sleep_until(deadline) }
    }

    /// Starts a background task that ends by itself.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(name, Box::pin(task));
    }

    /// Starts a background task that ends when the guard is dropped.
    #[must_use = "dropping the guard ends the task"]
    pub fn spawn_guarded(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> TaskGuard {
        tasks::spawn_guarded(&*self.tasks, name, task)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

pin_project! {
    /// A future with a deadline. By hand, as an `async fn` would hold its argument twice.
    #[must_use = "futures do nothing unless polled"]
    pub struct Timed<F> {
        #[pin]
        future: F,
        sleep: BoxSleep,
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
    }
}

/// A deadline came before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline elapsed")]
pub struct Elapsed;
