//! Decisions about traffic, one a file: pure functions and sans-I/O machines.
//!
//! Time, chance and bytes are arguments; nothing here knows a clock, a socket or a task.

pub mod authorize;
pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod classify;
pub mod denial;
pub mod detect;
pub mod distribute;
pub mod filter;
pub mod rate_limit;
pub mod retry;
pub mod select;
pub mod tap;
pub mod timeout;
