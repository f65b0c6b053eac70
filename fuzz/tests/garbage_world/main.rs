//! Garbage into every port of the mesh: no panic, no hang, nothing kept.
//!
//! Whole proxies, a controller and applications run on the simulation's engine, with the real HTTP and
//! TLS, while clients send random bytes, damaged requests, frames, ClientHellos and transport
//! headers, in segments, with pauses, in plaintext and inside good mutual TLS. Then, per batch, once
//! every timeout has passed on the simulated clock:
//!
//! - no task has panicked, and a client that ended its side of a stream has seen the end of the other;
//! - honest requests in between were answered;
//!
//! and at the end every connection and every task of one is gone, and the heap is as it was after
//! the warm-up.
//!
//! `cargo test -p fuzz` sends a few thousand streams. All of them:
//!
//! ```text
//! WEFT_GARBAGE_STREAMS=1000000 cargo test --release -p fuzz --test garbage_world -- --nocapture
//! ```
//!
//! `WEFT_GARBAGE_SEED` sends others.

mod heap;
mod streams;
mod world;

use std::time::Instant;

use fuzz::mutate::Draw;
use streams::{Seeds, Stream};
use world::World;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// Streams at once.
const BATCH: usize = 500;

/// Growth of the heap from warm-up to end that is not garbage kept: capacity of tables.
const GROWTH_BYTES_MAX: usize = 256 * 1024;

fn from_environment(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable);
    value.map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn garbage_does_no_harm_and_leaves_nothing() {
    let streams = from_environment("WEFT_GARBAGE_STREAMS", 3_000) as usize;
    let mut draw = Draw::new(from_environment("WEFT_GARBAGE_SEED", 1));
    let seeds = Seeds::new();
    let world = World::new();

    // Tables reach their size, connections to the controller are made, lazy statics have values.
    let warm_up = (streams / 10).max(1_000);
    send(&world, &seeds, &mut draw, warm_up);
    world.settle();
    let idle = world.census();
    let before = heap::now();

    let began = Instant::now();
    send(&world, &seeds, &mut draw, streams);
    let took = began.elapsed();
    world.settle();
    let after = heap::now();

    println!(
        "{streams} streams in {:.1} s, {:.0} streams/s; heap {} KiB in {} blocks before, {} KiB in {} \
         blocks after, {} KiB at most; {} simulated seconds",
        took.as_secs_f64(),
        streams as f64 / took.as_secs_f64(),
        before.bytes / 1024,
        before.blocks,
        after.bytes / 1024,
        after.blocks,
        heap::peak_bytes() / 1024,
        world.now_secs(),
    );
    assert_eq!(world.census(), idle, "tasks at the end");
    assert!(
        after.bytes <= before.bytes + GROWTH_BYTES_MAX,
        "the heap grew by {} bytes",
        after.bytes - before.bytes
    );
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
