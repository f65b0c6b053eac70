//! `weft-sim`: plays scenario files in the simulator and prints what came of them.
//!
//! Exit codes: 0 every scenario passed; 1 an expectation did not hold or a task panicked;
//! 64 wrong arguments; 65 a scenario file is wrong; 66 a file cannot be read.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use runtime_sim::world::parse::{self, Scenario};
use runtime_sim::world::run::{EngineKind, Report, run};

/// Books the heap on the simulated process that allocates, for the expectations on memory.
#[global_allocator]
static HEAP: runtime_sim::heap::Attributing<std::alloc::System> =
    runtime_sim::heap::Attributing(std::alloc::System);

const FAILED: u8 = 1;
const USAGE: u8 = 64;
const BAD_SCENARIO: u8 = 65;
const NO_INPUT: u8 = 66;

/// Plays scenarios of a whole mesh in virtual time.
#[derive(Parser)]
#[command(name = "weft-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the JSON schema of scenario files, for editors.
    Schema,
    /// Plays a scenario file, or every .yaml file under a directory.
    Run {
        /// The file or directory.
        path: PathBuf,
        /// Play with this seed instead of the scenario's own.
        #[arg(long)]
        seed: Option<u64>,
        /// The simulated network.
        #[arg(long, value_enum, default_value = "des")]
        engine: Engine,
        /// How to print the outcome.
        #[arg(short, long, value_enum, default_value = "human")]
        output: Output,
        /// Write the last events of each run to stderr.
        #[arg(long)]
        trace: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Engine {
    /// The discrete-event engine.
    Des,
    /// The turmoil crate.
    Turmoil,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    /// For people.
    Human,
    /// One JSON object a line and run.
    Json,
}

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
    let Command::Run { path, seed, engine, output, trace } = cli.command else {
        println!("{:#}", parse::schema());
        return ExitCode::SUCCESS;
    };
    let engine = match engine {
        Engine::Des => EngineKind::Des,
        Engine::Turmoil => EngineKind::Turmoil,
    };
    match play_all(&path, seed, engine, output, trace) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILED.into(),
        Err((code, message)) => {
            eprintln!("weft-sim: {message}");
            code.into()
        }
    }
}

fn play_all(
    path: &Path,
    seed: Option<u64>,
    engine: EngineKind,
    output: Output,
    trace: bool,
) -> Result<bool, (u8, String)> {
    let mut passed = true;
    // All are read first: a mistake in the last is told before the first has run.
    let mut scenarios = Vec::new();
    for file in files(path)? {
        scenarios.push((read(&file)?, file));
    }
    for (scenario, file) in scenarios {
        let seeds = seed.map_or_else(|| scenario.spec.seeds.pinned.clone(), |seed| vec![seed]);
        for seed in seeds {
            let report = run(&scenario, seed, engine, trace)
                .map_err(|error| (BAD_SCENARIO, format!("{}: {error}", file.display())))?;
            passed &= report.passed;
            print(&report, &file, output)
                .map_err(|error| (FAILED, format!("cannot write to stdout: {error}")))?;
            for line in &report.trace_lines {
                eprintln!("{line}");
            }
        }
    }
    Ok(passed)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, (u8, String)> {
    let fail = |path: &Path, error: std::io::Error| {
        (NO_INPUT, format!("cannot read {}: {error}", path.display()))
    };
    if path.metadata().map_err(|error| fail(path, error))?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in directory.read_dir().map_err(|error| fail(&directory, error))? {
            let path = entry.map_err(|error| fail(&directory, error))?.path();
            match path.extension() {
                _ if path.is_dir() => directories.push(path),
                Some(extension) if extension == "yaml" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    match found.is_empty() {
        true => Err((NO_INPUT, format!("no .yaml file under {}", path.display()))),
        false => Ok(found),
    }
}

fn read(file: &Path) -> Result<Scenario, (u8, String)> {
    if let Err(error) = file.metadata() {
        return Err((NO_INPUT, format!("cannot read {}: {error}", file.display())));
    }
    parse::load(file).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        (BAD_SCENARIO, problems.join("\nweft-sim: "))
    })
}

fn print(report: &Report, file: &Path, output: Output) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if output == Output::Json {
        let json = serde_json::to_string(report).map_err(std::io::Error::other)?;
        return writeln!(out, "{json}");
    }
    let verdict = if report.passed { "pass" } else { "FAIL" };
    let (name, seed, engine) = (&report.scenario, report.seed, report.engine);
    writeln!(out, "{verdict} {name} seed {seed} {engine:?} {}", report.trace_hash)?;
    for judged in &report.expectations {
        let mark = match &judged.relaxed {
            _ if judged.holds => "ok ",
            Some(_) => "let",
            None => "NOT",
        };
        writeln!(out, "  {mark} {}: {}", judged.expected, judged.found)?;
        if let Some(first) = &judged.first {
            writeln!(out, "      first {first}")?;
        }
        if let Some(because) = judged.relaxed.as_ref().filter(|_| !judged.holds) {
            writeln!(out, "      relaxed, because {because}")?;
        }
    }
    for (name, figures) in &report.workloads {
        let (all, succeeded) = (figures.requests, figures.succeeded);
        let (p50, p99) = (figures.p50_ms, figures.p99_ms);
        let text = format!("{succeeded} of {all} requests, p50 {p50} ms, p99 {p99} ms");
        writeln!(out, "  {name}: {text}")?;
    }
    for trouble in &report.troubles {
        writeln!(out, "  trouble: {trouble}")?;
    }
    if !report.passed {
        let file = file.display();
        writeln!(out, "  again: weft-sim run {file} --seed {seed}")?;
    }
    Ok(())
}
