//! What a request costs more where the proxies may be tapped and nobody does: counted in memory, on one
//! thread, so that nothing else is in it.

use std::{io, thread};

use crate::allocations::{self, Role};
use crate::mesh::in_memory::{InMemory, Taps};

/// Requests before those that are counted.
const WARM_UP: u64 = 300;

/// So often are so many requests counted. The median of these counts: what the programs of the path do now
/// and then, by the clock, is in few of them.
const COUNTS: usize = 15;
const COUNTED: u64 = 200;

/// Allocations per request of all programs of the path together, which are counted as the inbound proxy's:
/// no other thread may be its while this runs.
///
/// # Errors
/// As [`InMemory::start`]'s.
pub fn allocations_per_request(taps: Taps) -> io::Result<f64> {
    let counted = thread::spawn(move || {
        allocations::take_role(Role::Inbound);
        let mut path = InMemory::start(taps)?;
        let mut requests = |count| (0..count).try_for_each(|_| path.exchange("/"));
        requests(WARM_UP)?;
        let mut made = [0; COUNTS];
        for made in &mut made {
            let before = allocations::counts(Role::Inbound).allocations;
            requests(COUNTED)?;
            *made = allocations::counts(Role::Inbound).allocations - before;
        }
        made.sort_unstable();
        Ok(made[COUNTS / 2] as f64 / COUNTED as f64)
    });
    counted.join().unwrap_or_else(|_| Err(io::Error::other("the path in memory panicked")))
}

/// Sends so many requests and ends: what runs under valgrind.
///
/// # Errors
/// As [`InMemory::start`]'s.
pub fn drive(taps: Taps, requests: u64) -> io::Result<()> {
    let mut path = InMemory::start(taps)?;
    (0..requests).try_for_each(|_| path.exchange("/"))
}
