//! `garbage [--streams N] [--seed N]`: throws garbage at whole proxies and says how they took it.
//! Exit code 1 where a law is broken.

use std::process::ExitCode;

/// Memory that may come on top after the first quarter: buffers of the allocator, not of streams.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

fn main() -> ExitCode {
    let (mut streams, mut seed) = (100_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), number) {
            ("--streams", Some(number)) => streams = number,
            ("--seed", Some(number)) => seed = number,
            _ => {
                eprintln!("usage: garbage [--streams N] [--seed N]");
                return ExitCode::from(2);
            }
        }
    }
    let runtime = runtime_real::current_thread().expect("an epoll instance");
    let outcome = match runtime.block_on(fuzz::garbage::run(streams, seed)) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("garbage: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{outcome}");
    let grew = outcome.growth_bytes() > GROWTH_BYTES_MAX;
    let ok = outcome.panics == 0 && outcome.hung.is_empty() && outcome.fault.is_none() && !grew;
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
