//! The arguments of `weft-sim`, in one place, with what their help says.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use runtime_sim::world::run::EngineKind;
use runtime_sim::world::scenario::Span;

const EXIT_CODES: &str = "\
Exit codes:
   0  everything passed
   1  an expectation did not hold, a task panicked, a swarm found a failure, or a
      planted bug was not found
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
    /// Tell a run as a story: what went wrong, what the mesh did, the first request that failed.
    Explain(Explain),
    /// Write a run's packets as a capture for Wireshark, or its events as text.
    Trace(Trace),
    /// Draw random scenarios and play them until the time is over; write out and shrink what fails.
    Swarm(Swarm),
    /// Make a failing scenario smaller for as long as it fails in the same way.
    Shrink(Shrink),
    /// Plant bugs into the mesh, one after another: the scenarios must find each.
    Planted(Planted),
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
    /// Write a picture of each run into this directory: NAME-SEED.svg.
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
    /// Runs at once; as many as there are cores where nothing is said.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
}

/// Tells a run as a story: faults, endpoints that come and go, what programs log; then the first
/// request that failed, with its way through the proxies and what was decided on it. On the
/// discrete-event engine.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct Explain {
    /// The scenario file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The seed; the scenario's first where nothing is said.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Writes what happened in a run: every packet as a pcap file, which Wireshark opens, or its events as
/// text on stdout, by their numbers, the first being 0. On the discrete-event engine.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct Trace {
    /// The scenario file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The seed; the scenario's first where nothing is said.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Write the packets to this file, and no events.
    #[arg(long, value_name = "OUT")]
    pub pcap: Option<PathBuf>,
    /// The first event to print.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub from: u64,
    /// How many events to print; of more than 100000 the last are printed.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub count: u64,
}

/// Draws random scenarios and plays them: topologies, workloads and a random subset of the faults there
/// are. After the last fault the mesh must come to itself and every request succeed. One run in
/// eight is played twice and must be the same. A failure is written out as a scenario file, made
/// smaller, and printed with the command that plays it again.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct Swarm {
    /// How long: 90s, 10m, 2h. What is under way then is finished.
    #[arg(long = "for", value_name = "TIME", value_parser = Span::read, default_value = "10m")]
    pub lasts: Span,
    /// The first run's seed, each later run's is one more; from the clock where nothing is said.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// At most so many runs.
    #[arg(long, value_name = "N")]
    pub runs: Option<u64>,
    /// Where failures are written.
    #[arg(long, value_name = "DIR", default_value = "swarm")]
    pub out: PathBuf,
    /// The simulated network.
    #[arg(long, value_enum, default_value = "des")]
    pub engine: Engine,
    /// Runs that making a failure smaller may take; 0 leaves it as it is.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub shrink_runs: usize,
    /// Runs at once; as many as there are cores where nothing is said.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
}

/// Makes a failing scenario smaller for as long as the same expectation fails: fewer faults, then fewer
/// workloads, apps and replicas, then shorter times. Prints each step, and writes a scenario file.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct Shrink {
    /// The scenario file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The seed it fails with; the scenario's first where nothing is said.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Where to write what is left; FILE-shrunk.yaml where nothing is said.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The simulated network.
    #[arg(long, value_enum, default_value = "des")]
    pub engine: Engine,
    /// Runs that it may take.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub runs: usize,
}

/// Plants bugs into the mesh, one after another, and plays the scenario that must find each until its
/// oracle fails. Fails where a bug survives its seeds, is found by another oracle alone, or where a
/// scenario fails with nothing planted. Needs the feature `planted`.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct Planted {
    /// Where the scenarios are.
    #[arg(value_name = "DIR", default_value = "scenarios/planted")]
    pub directory: PathBuf,
    /// Only this one; may be given several times.
    #[arg(long = "bug", value_name = "NAME")]
    pub bugs: Vec<String>,
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
