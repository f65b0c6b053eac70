//! `weft-sim explain` and `weft-sim trace`: one run, looked at closely.

use std::fs::File;
use std::io::{BufWriter, Write};

use runtime_sim::explain::explain;
use runtime_sim::pcap::{self, PACKETS_MAX, Packets};
use runtime_sim::world::run::{EngineKind, Keep, observe};

use crate::args;
use crate::files;
use crate::outcome::{Outcome, Trouble};

/// Tells a run as a story.
pub fn story(arguments: &args::Explain) -> Result<Outcome, Trouble> {
    let scenario = files::read(&arguments.file)?;
    let seed = arguments.seed.unwrap_or_else(|| first_seed(&scenario));
    let packets = Packets::default();
    let keep = Keep { log: true, capture: Some(packets.capture()), ..Keep::default() };
    let run = observe(&scenario, seed, EngineKind::Des, &keep)
        .map_err(|error| unplayable(arguments, error))?;
    let (packets, _) = packets.take();
    let text = explain(&run, &packets);
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Outcome::of(run.report.passed))
}

fn unplayable(arguments: &args::Explain, error: String) -> Trouble {
    Trouble::bad_scenario(format!("{}: {error}", arguments.file.display()))
}

fn first_seed(scenario: &runtime_sim::world::parse::Scenario) -> u64 {
    scenario.spec.seeds.pinned.first().copied().unwrap_or(1)
}

/// Writes a run's packets as a capture, or its events as text.
pub fn trace(arguments: &args::Trace) -> Result<Outcome, Trouble> {
    let scenario = files::read(&arguments.file)?;
    let seed = arguments.seed.unwrap_or_else(|| first_seed(&scenario));
    let packets = Packets::default();
    let lines = match arguments.pcap {
        Some(_) => 0..0,
        None => arguments.from..arguments.from.saturating_add(arguments.count),
    };
    let capture = arguments.pcap.as_ref().map(|_| packets.capture());
    let keep = Keep { lines, capture, ..Keep::default() };
    let run = observe(&scenario, seed, EngineKind::Des, &keep)
        .map_err(|error| Trouble::bad_scenario(format!("{}: {error}", arguments.file.display())))?;
    let report = &run.report;
    let Some(path) = &arguments.pcap else {
        let mut out = BufWriter::new(std::io::stdout().lock());
        for line in &report.trace_lines {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        eprintln!("{} events, {} bytes, trace {}", report.events, report.bytes, report.trace_hash);
        return Ok(Outcome::of(report.passed));
    };
    let (packets, left_out) = packets.take();
    let start = run.scenario.spec.start.map(|moment| moment.0);
    let file = File::create(path).map_err(|error| Trouble::unwritable(path, error))?;
    let mut file = BufWriter::new(file);
    let written = pcap::write(&packets, start, &mut file).and_then(|()| file.flush());
    written.map_err(|error| Trouble::unwritable(path, error))?;
    eprintln!("{} packets in {}", packets.len(), path.display());
    if left_out > 0 {
        eprintln!("{left_out} more were left out: a capture has at most {PACKETS_MAX}");
    }
    Ok(Outcome::of(report.passed))
}
