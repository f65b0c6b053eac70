//! `weft-sim`: plays scenario files in the simulator, explains runs, and looks for failures.
//!
//! This maps what a command comes to to an exit code; each command has a module, `args` has their
//! arguments.

mod args;
mod explain;
mod files;
mod outcome;
mod planted;
mod play;
mod pool;
mod print;
mod progress;
mod shrink;
mod swarm;

use std::process::ExitCode;

use clap::Parser;

use runtime_sim::world::parse;

use args::{Cli, Command};
use outcome::{Outcome, USAGE};

/// Books the heap on the simulated process that allocates, for the expectations on memory.
#[global_allocator]
static HEAP: runtime_sim::heap::Attributing<std::alloc::System> =
    runtime_sim::heap::Attributing(std::alloc::System);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked = !error.use_stderr();
            // Nobody is left to tell where even this cannot be printed.
            let _ = error.print();
            return if asked { ExitCode::SUCCESS } else { USAGE.into() };
        }
    };
    let outcome = match cli.command {
        Command::Run(arguments) => play::run(&arguments),
        Command::Explain(arguments) => explain::story(&arguments),
        Command::Trace(arguments) => explain::trace(&arguments),
        Command::Swarm(arguments) => swarm::swarm(&arguments),
        Command::Shrink(arguments) => shrink::one(&arguments),
        Command::Planted(arguments) => planted::hunt_all(&arguments),
        Command::Schema => print::line(&format!("{:#}", parse::schema())),
    };
    match outcome {
        Ok(passed) => passed.into(),
        Err(trouble) => {
            eprintln!("weft-sim: {}", trouble.message);
            trouble.code.into()
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Passed => Self::SUCCESS,
            Outcome::Failed => outcome::FAILED.into(),
        }
    }
}
