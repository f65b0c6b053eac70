//! Balances requests over the endpoints of a backend: of two drawn at random the less loaded, where
//! load is measured latency times requests in flight, and failures weigh.
//!
//! [`set`] holds endpoints, [`p2c`] draws, [`peak_ewma`] measures. Knows no connection and no
//! stream of updates.

pub mod p2c;
pub mod peak_ewma;
pub mod set;

#[cfg(test)]
mod simulation;

pub use self::peak_ewma::{InFlight, PeakEwma};
pub use self::set::{Changed, Changes, EndpointSet, Member};
