//! The client's side of HTTP/2 on the h2 crate: a connection that is driven by a task of its own, and
//! requests that are driven by whoever waits for their responses.
//!
//! A request costs no task and no channel: its head is handed to h2 at once, its body is sent while
//! its response is waited for, and only a body that outlives the response's head gets a task.

mod driver;
mod exchange;
mod pulse;
mod received;
mod streams;
mod tunnel;
mod upload;

pub(super) use driver::Driver;
pub(super) use exchange::Exchange;
pub(super) use pulse::Pulse;
pub(super) use received::Received;
pub(super) use streams::{STREAMS_AT_FIRST, Slot, Streams};
