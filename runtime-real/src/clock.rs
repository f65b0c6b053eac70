//! The clock's door: the kernel's monotonic and wall clocks, tokio's timer.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mesh_core::runtime::clock::{BoxSleep, Clock};
use mesh_core::time::{Timestamp, WallTime};

/// The system's clocks. Monotonic time counts from when this was made.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    #[allow(clippy::new_without_default)] // Making one reads the clock; it is not a default value.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.start.elapsed()
    }

    fn wall(&self) -> WallTime {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        WallTime::from_unix_secs(0) + since_epoch.unwrap_or(Duration::ZERO)
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxSleep {
        let after = deadline.since(Timestamp::ZERO);
        match self.start.checked_add(after) {
            Some(at) => Box::pin(tokio::time::sleep_until(at.into())),
            None => Box::pin(std::future::pending()),
        }
    }
}
