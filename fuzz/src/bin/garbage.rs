//! `garbage [--streams N] [--seed N]`: throws garbage at a whole mesh and says how it took it. Panics
//! where a law is broken.

use std::process::ExitCode;

use fuzz::garbage::{self, heap::Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let (mut streams, mut seed) = (100_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number: Option<u32> = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), number) {
            ("--streams", Some(number)) => streams = number as usize,
            ("--seed", Some(number)) => seed = u64::from(number),
            _ => {
                eprintln!("usage: garbage [--streams N] [--seed N]");
                return ExitCode::from(2);
            }
        }
    }
    println!("{}", garbage::run(streams, seed));
    ExitCode::SUCCESS
}
