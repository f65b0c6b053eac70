//! `weft-sim planted`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use runtime_sim::world::parse::Scenario;
use runtime_sim::world::planted::{self, Bug, Hunt};
use runtime_sim::world::run::Report;

use crate::args::{self, Output};
use crate::outcome::{Outcome, Trouble, USAGE};
use crate::{files, pool, print};

/// Plays every scenario with nothing planted, then hunts the bugs, and prints a table.
pub fn hunt_all(arguments: &args::Planted) -> Result<Outcome, Trouble> {
    let chosen = planted::chosen(&arguments.bugs);
    let bugs = chosen.map_err(|message| Trouble { code: USAGE, message })?;
    let mut scenarios: BTreeMap<&str, (PathBuf, Scenario, u64)> = BTreeMap::new();
    for bug in &bugs {
        let file = arguments.directory.join(bug.scenario).with_extension("yaml");
        let scenario = files::read(&file)?;
        let (_, _, seeds) = scenarios.entry(bug.scenario).or_insert((file, scenario, 0));
        *seeds = bug.seeds.max(*seeds);
    }
    let sound = scenarios.values().flat_map(|(file, scenario, seeds)| {
        (1..=*seeds).map(move |seed| Task::Sound { file, scenario, seed })
    });
    let planted = bugs.iter().map(|bug| Task::Hunt { bug, scenario: &scenarios[bug.scenario].1 });
    let mut outcome = Ok(Outcome::Passed);
    pool::in_order(pool::jobs(arguments.jobs), sound.chain(planted), Task::play, |played| {
        match played.and_then(|played| played.tell(arguments.output)) {
            Ok(Outcome::Passed) => ControlFlow::Continue(()),
            Ok(Outcome::Failed) => {
                outcome = Ok(Outcome::Failed);
                ControlFlow::Continue(())
            }
            Err(trouble) => {
                outcome = Err(trouble);
                ControlFlow::Break(())
            }
        }
    });
    outcome
}

enum Task<'a> {
    /// Play it with nothing planted.
    Sound { file: &'a PathBuf, scenario: &'a Scenario, seed: u64 },
    /// Hunt a bug.
    Hunt { bug: &'a Bug, scenario: &'a Scenario },
}

enum Played<'a> {
    Sound(&'a PathBuf, Box<Report>),
    Hunt(Hunt),
}

impl<'a> Task<'a> {
    fn play(self) -> Result<Played<'a>, Trouble> {
        let played = match self {
            Self::Sound { file, scenario, seed } => {
                let report = planted::run_with(None, scenario, seed);
                report.map(|report| Played::Sound(file, Box::new(report)))
            }
            Self::Hunt { bug, scenario } => planted::hunt(*bug, scenario).map(Played::Hunt),
        };
        played.map_err(Trouble::bad_scenario)
    }
}

impl Played<'_> {
    fn tell(&self, output: Output) -> Result<Outcome, Trouble> {
        match self {
            Self::Sound(_, report) if report.passed => return Ok(Outcome::Passed),
            Self::Sound(file, report) if output == Output::Json => print::json(report, file)?,
            Self::Sound(file, report) => {
                let text = print::human(report, file, true);
                print::line(&format!("with nothing planted: {}", text.trim_end()))?;
            }
            Self::Hunt(hunt) => {
                let text = match output {
                    Output::Json => serde_json::to_string(hunt).map_err(std::io::Error::other)?,
                    Output::Human => row(hunt),
                };
                print::line(&text)?;
                return Ok(Outcome::of(hunt.seeds_to_catch.is_some()));
            }
        }
        Ok(Outcome::Failed)
    }
}

/// A row of the table.
fn row(hunt: &Hunt) -> String {
    let Bug { name, oracle, scenario, seeds, about } = hunt.bug;
    match hunt.seeds_to_catch {
        Some(took) => format!(
            "found    {name:<28} seed {took} of {seeds}  {oracle:<18} {scenario:<18} {about}"
        ),
        None => format!(
            "SURVIVED {name:<28}      of {seeds}  {oracle:<18} {scenario:<18} {about}: {}",
            hunt.found
        ),
    }
}
