//! Garbage into every port of the mesh: no panic, no hang, nothing kept.
//!
//! Whole proxies, a controller and applications run on the simulation's engine, with the real HTTP and
//! TLS, while clients send random bytes, damaged requests, frames, ClientHellos and transport
//! headers, in segments, with pauses, in plaintext and inside good mutual TLS, and an application
//! answers with garbage of its own. Laws, for each batch of streams once every timeout has passed on
//! the simulated clock:
//!
//! - no task has panicked, and a client that ended its side of a stream has seen the end of the other;
//! - honest requests in between, and after it all, were answered;
//!
//! and at the end every connection and every task of one is gone, and the heap is as it was after
//! the warm-up.
//!
//! `cargo test -p fuzz` sends a few thousand streams, the program `garbage` as many as it is told.

pub mod heap;
pub mod stream;
pub mod world;

use std::fmt;
use std::time::{Duration, Instant};

use crate::mutate::Draw;
use heap::Heap;
use stream::{Seeds, Stream};
use world::World;

/// Streams at once.
const BATCH: usize = 500;

/// Growth of the heap from warm-up to end that is not garbage kept: capacity of tables.
const GROWTH_BYTES_MAX: usize = 256 * 1024;

/// What a run took.
#[derive(Debug)]
pub struct Outcome {
    /// Streams that were sent after the warm-up.
    pub streams: usize,
    /// How long that took.
    pub took: Duration,
    /// How long it took in the simulation.
    pub simulated_secs: u64,
    /// The heap after the warm-up, and at the end.
    pub heap: (Heap, Heap),
    /// The most bytes that were on the heap at once.
    pub peak_bytes: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { streams, took, heap: (before, after), .. } = self;
        let seconds = took.as_secs_f64();
        let rate = *streams as f64 / seconds;
        writeln!(f, "{streams} streams in {seconds:.1} s, {rate:.0} streams/s")?;
        writeln!(f, "{} simulated seconds", self.simulated_secs)?;
        let kib = |bytes: usize| bytes / 1024;
        writeln!(f, "heap before: {} KiB in {} blocks", kib(before.bytes), before.blocks)?;
        writeln!(f, "heap after: {} KiB in {} blocks", kib(after.bytes), after.blocks)?;
        write!(f, "heap at most: {} KiB", kib(self.peak_bytes))
    }
}

/// Sends so many streams. The same seed sends the same. The heap is counted where the program's
/// allocator is [`heap::Counting`].
///
/// # Panics
/// Where a law is broken.
pub fn run(streams: usize, seed: u64) -> Outcome {
    let mut draw = Draw::new(seed);
    let seeds = Seeds::default();
    let world = World::default();

    // Tables reach their size, connections to the controller are made, lazy statics have values.
    let warm_up = (streams / 10).clamp(1_000, 50_000);
    send(&world, &seeds, &mut draw, warm_up);
    world.settle();
    let idle = world.census();
    let (before, secs_before) = (heap::now(), world.now_secs());

    let began = Instant::now();
    send(&world, &seeds, &mut draw, streams);
    let took = began.elapsed();
    world.send((0..10).map(|_| Stream::honest(&mut draw)).collect());
    world.settle();
    let after = heap::now();

    assert_eq!(world.census(), idle, "tasks and connections at the end");
    let outcome = Outcome {
        streams,
        took,
        simulated_secs: world.now_secs() - secs_before,
        heap: (before, after),
        peak_bytes: heap::peak_bytes(),
    };
    let grew = after.bytes.saturating_sub(before.bytes);
    assert!(grew <= GROWTH_BYTES_MAX, "the heap grew by {grew} bytes\n{outcome}");
    outcome
}

fn send(world: &World, seeds: &Seeds, draw: &mut Draw, streams: usize) {
    let mut left = streams;
    while left > 0 {
        let count = left.min(BATCH);
        left -= count;
        let batch = (0..count).map(|_| Stream::draw(seeds, draw)).collect();
        world.send(batch);
    }
}
