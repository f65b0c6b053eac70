//! The clock's door.

use std::future::Future;
use std::pin::Pin;

use crate::time::{Timestamp, WallTime};

/// A pending sleep. `Sync` because hyper's timer asks for it.
pub type BoxSleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Tells the time and sleeps.
pub trait Clock: Send + Sync {
    /// Monotonic time since this runtime started. Never goes back.
    fn now(&self) -> Timestamp;

    /// Wall-clock time. May jump either way.
    fn wall(&self) -> WallTime;

    /// Completes at `deadline`, at once where it has passed. Dropping the sleep cancels it.
    fn sleep_until(&self, deadline: Timestamp) -> BoxSleep;
}
