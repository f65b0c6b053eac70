//! `weft-sim swarm`.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use runtime_sim::shrink::{Failure, shrink};
use runtime_sim::swarm::draw;
use runtime_sim::trace::first_divergence;
use runtime_sim::world::parse::Scenario;
use runtime_sim::world::run::{EngineKind, Keep, Run, observe};

use crate::args;
use crate::outcome::{Outcome, Trouble};
use crate::progress::Progress;
use crate::shrink::{size, write};
use crate::{pool, print};

/// One run in so many is played twice, and must be the same run.
const TWICE_EVERY: u64 = 8;
/// Failures by the same oracle that are made smaller; more of them are written out as they are.
const SHRUNK_OF_ORACLE_MAX: usize = 2;

/// Draws scenarios and plays them until the time is over.
pub fn swarm(arguments: &args::Swarm) -> Result<Outcome, Trouble> {
    let began = Instant::now();
    let first = arguments.seed.unwrap_or_else(seed_of_now);
    let out = &arguments.out;
    std::fs::create_dir_all(out).map_err(|error| Trouble::unwritable(out, error))?;
    let lasts = arguments.lasts.0;
    let engine = arguments.engine.into();
    let most = arguments.runs.unwrap_or(u64::MAX);
    print::line(&format!("swarm from seed {first} for {}", arguments.lasts))?;
    let seeds = (0..most).map(|n| first.wrapping_add(n)).take_while(|_| began.elapsed() < lasts);
    let mut swarm = Swarm { arguments, engine, totals: Totals::default() };
    let progress = Progress::new();
    let mut trouble = None;
    let jobs = pool::jobs(arguments.jobs);
    pool::in_order(
        jobs,
        seeds,
        |seed| play(seed, engine),
        |played| {
            progress.clear();
            if let Err(error) = swarm.tell(played) {
                trouble = Some(error);
                return ControlFlow::Break(());
            }
            let by_time = began.elapsed().as_secs_f64() / lasts.as_secs_f64();
            let by_runs = swarm.totals.runs as f64 / most as f64;
            progress.draw(by_time.max(by_runs), &swarm.totals.words());
            ControlFlow::Continue(())
        },
    );
    progress.clear();
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    let totals = swarm.totals;
    let text = totals.summary(began.elapsed().as_secs_f64());
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Outcome::of(totals.failed == 0))
}

/// A seed that nobody chose. It is printed, so that the swarm can be had again.
fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() % 1_000_000_000 * 1_000
}

/// What came of a seed.
struct Played {
    seed: u64,
    scenario: Scenario,
    run: Result<Run, String>,
    /// Where a second run of the same seed parted from the first.
    parted: Option<String>,
    twice: bool,
}

fn play(seed: u64, engine: EngineKind) -> Played {
    let scenario = draw(seed, engine);
    let run = observe(&scenario, seed, engine, &Keep::default());
    let twice = seed.is_multiple_of(TWICE_EVERY);
    let parted = match &run {
        Ok(run) if twice => second(&scenario, seed, engine, run),
        _ => None,
    };
    Played { seed, scenario, run, parted, twice }
}

/// Plays a seed again, and tells where it parted from the first run.
fn second(scenario: &Scenario, seed: u64, engine: EngineKind, first: &Run) -> Option<String> {
    let again = observe(scenario, seed, engine, &Keep::default()).ok()?;
    if again.report.trace_hash == first.report.trace_hash {
        return None;
    }
    let Some(window) = first_divergence(&first.checkpoints, &again.checkpoints) else {
        return Some("after the last checkpoint".to_owned());
    };
    let keep = Keep { lines: window.clone(), ..Keep::default() };
    let [one, other] = [(); 2].map(|()| {
        let run = observe(scenario, seed, engine, &keep);
        run.map(|run| run.report.trace_lines).unwrap_or_default()
    });
    let lines = one.iter().zip(&other).find(|(a, b)| a != b);
    Some(match lines {
        Some((a, b)) => format!("`{a}` against `{b}`"),
        None => format!(
            "among events {} to {}, and not when played once more",
            window.start, window.end
        ),
    })
}

struct Swarm<'a> {
    arguments: &'a args::Swarm,
    engine: EngineKind,
    totals: Totals,
}

impl Swarm<'_> {
    fn tell(&mut self, played: Played) -> Result<(), Trouble> {
        let Played { seed, scenario, run, parted, twice } = played;
        let totals = &mut self.totals;
        totals.runs += 1;
        totals.twice += u64::from(twice);
        let run = run.map_err(|error| Trouble::bad_scenario(format!("seed {seed}: {error}")))?;
        totals.requests += run.report.workloads.values().map(|f| f.requests).sum::<u64>();
        totals.virtual_seconds += run.report.virtual_seconds;
        totals.faults += scenario.spec.faults.len();
        for (mark, count) in &run.report.marks {
            *totals.marks.entry(mark).or_default() += count;
        }
        let failure = Failure::of(&run.report);
        if failure.is_none() && parted.is_none() {
            return Ok(());
        }
        totals.failed += 1;
        let path = self.path(seed, "");
        write(&path, &scenario)?;
        if let Some(parted) = parted {
            print::line(&format!("FAIL seed {seed}: two runs of it part: {parted}"))?;
            print::line(&format!("  again: weft-sim trace {} --seed {seed}", path.display()))?;
        }
        match failure {
            Some(failure) => self.shrink(seed, &scenario, &run, &failure, path),
            None => Ok(()),
        }
    }

    fn shrink(
        &mut self,
        seed: u64,
        scenario: &Scenario,
        run: &Run,
        failure: &Failure,
        path: PathBuf,
    ) -> Result<(), Trouble> {
        let oracle = match failure {
            Failure::Oracle { oracle, .. } => oracle,
            Failure::Trouble => "trouble",
        };
        let seen = self.totals.oracles.entry(oracle).or_default();
        *seen += 1;
        print::line(print::human(&run.report, &path, true).trim_end())?;
        let runs = self.arguments.shrink_runs;
        if *seen > SHRUNK_OF_ORACLE_MAX || runs == 0 {
            return Ok(());
        }
        let from = size(scenario);
        let shrunk = shrink(scenario, seed, self.engine, failure, runs, &mut |_| {});
        let Some(report) = &shrunk.report else {
            return print::line("  nothing of it can be left out").map(|_| ());
        };
        let smaller = self.path(seed, "-shrunk");
        write(&smaller, &shrunk.scenario)?;
        let (to, runs) = (size(&shrunk.scenario), shrunk.runs);
        print::line(&format!("  shrunk in {runs} runs: {from} -> {to}"))?;
        print::line(print::human(report, &smaller, true).trim_end()).map(|_| ())
    }

    fn path(&self, seed: u64, suffix: &str) -> PathBuf {
        self.arguments.out.join(format!("swarm-{seed}{suffix}.yaml"))
    }
}

/// What all runs came to.
#[derive(Default)]
struct Totals {
    runs: u64,
    failed: u64,
    twice: u64,
    faults: usize,
    requests: u64,
    virtual_seconds: f64,
    oracles: BTreeMap<&'static str, usize>,
    marks: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn words(&self) -> String {
        format!("{} runs, {} failed", self.runs, self.failed)
    }

    fn summary(&self, seconds: f64) -> String {
        let Self { runs, failed, twice, faults, requests, virtual_seconds, .. } = self;
        let mut text = format!(
            "{runs} runs ({twice} of them twice), {failed} failed: {faults} faults, {requests} requests, \
             {virtual_seconds:.0} virtual seconds in {seconds:.0} s\n"
        );
        for (oracle, count) in &self.oracles {
            text.push_str(&format!("  {oracle}: {count}\n"));
        }
        for (mark, count) in &self.marks {
            text.push_str(&format!("  mark {mark}: {count}\n"));
        }
        text + &print::reached(&self.marks)
    }
}
