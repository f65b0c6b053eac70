//! `weft-sim run`.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use runtime_sim::timeline;
use runtime_sim::world::parse::Scenario;
use runtime_sim::world::run::{EngineKind, Keep, Report, Run, observe};
use runtime_sim::world::scenario::Seeds;

use crate::args::{self, Output, SeedSet};
use crate::outcome::{Outcome, Trouble};
use crate::progress::Progress;
use crate::{files, pool, print};

/// Plays scenario files and prints what came of them.
pub fn run(arguments: &args::Run) -> Result<Outcome, Trouble> {
    let began = Instant::now();
    // All are read first: a mistake in the last is told before the first has run.
    let mut scenarios = Vec::new();
    for file in files::find(&arguments.paths)? {
        scenarios.push((files::read(&file)?, file));
    }
    let plays: Vec<_> = scenarios
        .iter()
        .flat_map(|(scenario, file)| {
            let seeds = seeds(arguments, &scenario.spec.seeds);
            seeds.into_iter().map(move |seed| Play { scenario, file, seed })
        })
        .collect();
    let progress = Progress::new();
    let mut totals = Totals { planned: plays.len(), ..Totals::default() };
    let mut trouble = None;
    progress.draw(0.0, &totals.words());
    let jobs = pool::jobs(arguments.jobs);
    let engine = arguments.engine.into();
    pool::in_order(
        jobs,
        plays.into_iter(),
        |play| play.play(engine),
        |(run, play)| {
            progress.clear();
            match tell(run, &play, arguments, &mut totals) {
                Ok(()) => {
                    progress.draw(totals.part(), &totals.words());
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    trouble = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    );
    progress.clear();
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    if arguments.output == Output::Human {
        let text = totals.summary(began.elapsed().as_secs_f64());
        std::io::stdout().lock().write_all(text.as_bytes())?;
    }
    Ok(Outcome::of(totals.failed == 0))
}

/// A scenario to play with a seed.
struct Play<'a> {
    scenario: &'a Scenario,
    file: &'a PathBuf,
    seed: u64,
}

impl Play<'_> {
    fn play(self, engine: EngineKind) -> (Result<Run, String>, Self) {
        (observe(self.scenario, self.seed, engine, &Keep::default()), self)
    }
}

fn seeds(arguments: &args::Run, own: &Seeds) -> Vec<u64> {
    match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => vec![seed],
        (None, SeedSet::Pinned) => own.pinned.clone(),
        (None, SeedSet::Ci) => own.ci(),
        (None, SeedSet::Nightly) => own.nightly(),
    }
}

fn tell(
    run: Result<Run, String>,
    play: &Play<'_>,
    arguments: &args::Run,
    totals: &mut Totals,
) -> Result<(), Trouble> {
    let run =
        run.map_err(|error| Trouble::bad_scenario(format!("{}: {error}", play.file.display())))?;
    totals.add(&run.report);
    if let Some(directory) = &arguments.svg {
        let path = directory.join(format!("{}-{}.svg", run.report.scenario, play.seed));
        std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&path, timeline::svg(&run)))
            .map_err(|error| Trouble::unwritable(&path, error))?;
    }
    match arguments.output {
        Output::Json => print::json(&run.report, play.file),
        Output::Human => {
            let text = print::human(&run.report, play.file, totals.planned > 1);
            Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
        }
    }
}

/// What all runs came to.
#[derive(Default)]
struct Totals {
    planned: usize,
    done: usize,
    failed: usize,
    requests: u64,
    virtual_seconds: f64,
    marks: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.done += 1;
        self.failed += usize::from(!report.passed);
        self.requests += report.workloads.values().map(|figures| figures.requests).sum::<u64>();
        self.virtual_seconds += report.virtual_seconds;
        for (mark, count) in &report.marks {
            *self.marks.entry(mark).or_default() += count;
        }
    }

    fn part(&self) -> f64 {
        self.done as f64 / self.planned.max(1) as f64
    }

    fn words(&self) -> String {
        format!("{} of {} runs, {} failed", self.done, self.planned, self.failed)
    }

    fn summary(&self, seconds: f64) -> String {
        let passed = self.done - self.failed;
        let (failed, requests, virtual_seconds) =
            (self.failed, self.requests, self.virtual_seconds);
        format!(
            "{passed} passed, {failed} failed: {requests} requests, {virtual_seconds:.0} virtual \
             seconds in {seconds:.1} s\n{}",
            print::reached(&self.marks),
        )
    }
}
