//! The doors on simulated networks, and the worlds that run in them: our discrete-event
//! [`engine`] (the default), and [`on_turmoil`], an adapter on the turmoil crate, its peer.
//!
//! Law: a run is a function of its seed. Nothing here reads a clock, the environment or the
//! system's randomness; whatever has an order has it by key or by the seed's draw.

pub mod cluster;
pub mod crypto;
pub mod engine;
pub mod explain;
pub mod files;
pub mod heap;
pub mod link;
pub mod log;
pub mod on_turmoil;
mod outfit;
pub mod pcap;
pub mod random;
pub mod shrink;
pub mod swarm;
pub mod system_clock;
pub mod system_random;
pub mod timeline;
pub mod topology;
pub mod trace;
pub mod usage;
pub mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic while it was locked: a simulated task's panic ends that task alone.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
