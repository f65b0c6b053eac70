//! A sample of the garbage that `.ci/run` sends a million streams of.

use fuzz::garbage::{self, heap::Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn garbage_does_no_harm_and_leaves_nothing() {
    println!("{}", garbage::run(3_000, 1));
}
