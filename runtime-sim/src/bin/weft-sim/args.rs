//! The arguments of `weft-sim`, in one place, with what their help says.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use runtime_sim::world::run::EngineKind;

const EXIT_CODES: &str = "\
Exit codes:
   0  everything passed
   1  an expectation did not hold, a task panicked, or a swarm found a failure
  64  wrong arguments
  65  a scenario is wrong, or the engine cannot play it
  66  a file cannot be read
  74  a file or the output cannot be written";

/// Plays scenarios of a whole mesh in virtual time: the shipped proxy and control plane in a simulated
/// cluster, the same from a seed, byte for byte.
#[derive(Parser)]
#[command(name = "weft-sim", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Play scenario files and judge them.
    Run(Run),
    /// Print the JSON schema of scenario files, for editors.
    Schema,
}

/// Plays scenario files and judges them. The runs are spread over the machine's cores; what they print
/// comes in the order of files and seeds. A failure prints its seed, the commit, the trace's hash, the
/// oracle, what was first wrong, and the command that plays it again.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct Run {
    /// Scenario files; of a directory every .yaml file below it.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,
    /// Play with this seed instead of the scenarios' own.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Which of the scenarios' own seeds to play.
    #[arg(long, value_enum, default_value = "pinned")]
    pub seeds: SeedSet,
    /// The simulated network.
    #[arg(long, value_enum, default_value = "des")]
    pub engine: Engine,
    /// How to print what came of it.
    #[arg(short, long, value_enum, default_value = "human")]
    pub output: Output,
    /// Runs at once; as many as there are cores where nothing is said.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
}

/// Which of a scenario's own seeds.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SeedSet {
    /// Those it names.
    Pinned,
    /// Those, and as many more as it says for every change.
    Ci,
    /// Those, and as many more as it says for every night.
    Nightly,
}

/// The simulated network.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The discrete-event engine.
    Des,
    /// The turmoil crate.
    Turmoil,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Human,
    /// One JSON object a line and run.
    Json,
}

impl From<Engine> for EngineKind {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Des => Self::Des,
            Engine::Turmoil => Self::Turmoil,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_make_sense_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_how_it_exits() {
        for command in Cli::command().get_subcommands().filter(|c| c.get_name() != "schema") {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            assert!(command.get_after_help().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {argument}", command.get_name());
            }
        }
    }
}
