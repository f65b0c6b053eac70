//! Plays a scenario and reports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, Once};
use std::time::Duration;

use serde::Serialize;

use mesh_core::planted;
use mesh_core::resource::{Kind, Object};
use mesh_core::time::Timestamp;

use crate::cluster::ApiServer;
use crate::engine::Engine;
use crate::log;
use crate::on_turmoil::Turmoil;
use crate::trace::{Capture, Checkpoint, Trace};
use crate::{system_clock, system_random};

use super::faults;
use super::oracle::watch::{IDLE, Watch};
use super::oracle::{self, Evidence, Judgement, Observed, judge_all};
use super::parse::{self, Scenario};
use super::record::{Answer, Entries, Request};
use super::scenario::{Action, Expectation, Span, Tap};
use super::{Simulator, World, marks};

/// After the workloads' end, the longest that requests may still take.
const LINGER: Duration = Duration::from_secs(30);

/// What to run a scenario on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The discrete-event engine.
    Des,
    /// turmoil.
    Turmoil,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The engine.
    pub engine: EngineKind,
    /// Whether every expectation holds and no task panicked.
    pub passed: bool,
    /// The run's identity.
    pub trace_hash: String,
    /// Events, and bytes delivered.
    pub events: u64,
    /// Bytes delivered.
    pub bytes: u64,
    /// Virtual time that passed, in seconds.
    pub virtual_seconds: f64,
    /// What was expected, and found.
    pub expectations: Vec<Judgement>,
    /// Figures of workloads, by name.
    pub workloads: BTreeMap<String, WorkloadFigures>,
    /// Requests that reached each pod.
    pub pods: BTreeMap<String, u64>,
    /// Draws from the system's randomness, answered from the seed; one is for `std`'s hash maps.
    pub system_draws: u64,
    /// Rare states of the mesh that were reached, and how often; nothing where marks were not built in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<&'static str, u64>,
    /// Faults that could not be done.
    pub troubles: Vec<String>,
    /// The trace's last lines, where they were kept.
    #[serde(skip)]
    pub trace_lines: Vec<String>,
}

/// What came of a workload.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadFigures {
    /// Requests sent.
    pub requests: u64,
    /// Requests answered, and not with a server's error.
    pub succeeded: u64,
    /// Median time of successes, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of it.
    pub p99_ms: f64,
    /// Attempts: one for each request, and the clients' own retries.
    pub attempts: u64,
    /// Messages that were sent: of streams, and of the lines of TCP.
    pub messages_sent: u64,
    /// Messages that came.
    pub messages_received: u64,
    /// Connections that carried the last attempt of a request.
    pub connections: u64,
    /// How requests ended, and how many so: `200`, `grpc 14`, `closed`…
    pub ends: BTreeMap<String, u64>,
}

/// What to keep of a run beside its report.
#[derive(Clone, Default)]
pub struct Keep {
    /// The text of the events of these numbers.
    pub lines: Range<u64>,
    /// What the programs log, at debug and above.
    pub log: bool,
    /// Shows every packet that is sent; on the discrete-event engine alone.
    pub capture: Option<Capture>,
    /// Paths and queries of the public API that the first controller is asked when the workloads have
    /// ended. Where there are any, controllers have the role viz.
    pub questions: Vec<String>,
}

/// A run: its report, and what else is known of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// What came of it.
    pub report: Report,
    /// What was played: the faults that the seed drew among the others.
    pub scenario: Scenario,
    /// What happened to requests and pods.
    pub entries: Entries,
    /// What the run was at every thousandth event.
    pub checkpoints: Vec<Checkpoint>,
    /// What was logged, where it was kept.
    pub log: Vec<log::Line>,
    /// Hosts by their addresses.
    pub hosts: BTreeMap<IpAddr, Arc<str>>,
    /// The cluster's objects in the end.
    pub objects: Vec<Object>,
    /// What was answered to each of the questions.
    pub answers: Vec<serde_json::Value>,
}

/// Plays a scenario once.
///
/// # Errors
/// What is wrong with the scenario where its world cannot be built.
pub fn run(
    scenario: &Scenario,
    seed: u64,
    engine: EngineKind,
    keep_lines: bool,
) -> Result<Report, String> {
    let keep = Keep { lines: if keep_lines { 0..u64::MAX } else { 0..0 }, ..Keep::default() };
    observe(scenario, seed, engine, &keep).map(|run| run.report)
}

/// Plays a scenario once, and keeps more of it than its report. The run is the same. It has the bug
/// that is planted on this thread.
///
/// # Errors
/// What is wrong with the scenario where its world cannot be built, or what cannot be kept.
pub fn observe(
    scenario: &Scenario,
    seed: u64,
    engine: EngineKind,
    keep: &Keep,
) -> Result<Run, String> {
    prepare();
    let planted = planted::current();
    let here = || {
        let _planted = planted::plant(planted);
        run_here(scenario, seed, engine, keep)
    };
    let (run, draws) = system_random::seeded(seed, || match keep.log {
        true => {
            let (run, log) = log::kept(here);
            run.map(|run| Run { log, ..run })
        }
        false => here(),
    });
    run.map(|run| Run { report: Report { system_draws: draws, ..run.report }, ..run })
}

/// Why an engine cannot carry out what a scenario asks for, where it cannot.
pub fn impossible(action: &Action, engine: EngineKind) -> Option<String> {
    faults::impossible(action, engine)
}

/// Makes what a process makes once, unless it was made.
fn prepare() {
    static REHEARSED: Once = Once::new();
    REHEARSED.call_once(rehearse);
}

/// Makes what a process makes once. Some dependencies (x509-parser) build tables on first use, whose
/// hash maps take keys from the thread that happens to be first, and so shift the order of that
/// run's later hash maps: without this, a process's first run would differ from its others.
fn rehearse() {
    let scenario = parse::read("rehearsal.yaml", include_str!("rehearsal.yaml"));
    let scenario = scenario.expect("the rehearsal is part of the source, and tested");
    let play = || run_here(&scenario, 0, EngineKind::Des, &Keep::default());
    let (run, _) = system_random::seeded(0, play);
    let passed = run.is_ok_and(|run| run.report.passed);
    assert!(passed, "the rehearsal fails: no world can run");
}

fn run_here(
    scenario: &Scenario,
    seed: u64,
    engine: EngineKind,
    keep: &Keep,
) -> Result<Run, String> {
    let drawn;
    let scenario = match scenario.spec.random_faults {
        Some(_) => {
            drawn = scenario.materialise(seed);
            &drawn
        }
        None => scenario,
    };
    let faults = scenario.spec.faults.iter();
    let impossible: Vec<_> =
        faults.filter_map(|fault| faults::impossible(&fault.action, engine)).collect();
    if !impossible.is_empty() {
        return Err(impossible.join("; "));
    }
    let has_viz = !keep.questions.is_empty() || !scenario.spec.taps.is_empty();
    // What an earlier run of this thread left.
    marks::take();
    let trace = Trace::of_window(keep.lines.clone());
    let api = match scenario.spec.start {
        Some(start) => ApiServer::beginning_at(start.0),
        None => ApiServer::default(),
    };
    let cluster = api.clone();
    let played = match engine {
        EngineKind::Des => {
            let _stopped = system_clock::stop();
            let simulator = Engine::new(seed, trace.clone(), api.clone());
            if let Some(capture) = &keep.capture {
                simulator.set_capture(capture.clone());
            }
            let world = World::new(scenario, seed, simulator, api, has_viz)?;
            play(scenario, seed, engine, world, &trace, keep)
        }
        EngineKind::Turmoil => {
            if keep.capture.is_some() {
                return Err("the turmoil engine has no packets to show: use the engine des".into());
            }
            let simulator = Turmoil::new(seed, trace.clone(), api.clone());
            let world = World::new(scenario, seed, simulator, api, has_viz)?;
            play(scenario, seed, engine, world, &trace, keep)
        }
    };
    let objects = Kind::ALL.iter().flat_map(|kind| cluster.list(*kind)).collect();
    played.map(|run| Run { objects, ..run })
}

/// Something the scenario does at a moment.
enum Step<'a> {
    /// A fault begins, and ends so much later.
    Begin(&'a Action, Option<Span>),
    End(Action),
    /// A tap is opened, and closed.
    Open(&'a Tap),
    Close(&'a Tap),
}

fn play<S: Simulator>(
    scenario: &Scenario,
    seed: u64,
    engine: EngineKind,
    mut world: World<S>,
    trace: &Trace,
    keep: &Keep,
) -> Result<Run, String> {
    let spec = &scenario.spec;
    let mut troubles = Vec::new();
    let mut watch = Watch::new(spec);
    if spec.expect.iter().any(|e| matches!(e, Expectation::ConnectAttempts { .. })) {
        world.watch_attempts(keep.capture.clone()).map_err(|error| error.to_string())?;
    }
    world.start_workloads(spec)?;
    let mut steps: BTreeMap<(Timestamp, usize), Step<'_>> = BTreeMap::new();
    for fault in &spec.faults {
        for at in fault.beginnings(spec.duration) {
            let at = Timestamp::ZERO + at;
            // Every other number is its end's, which keeps its place among those of one moment.
            steps.insert((at, steps.len() * 2), Step::Begin(&fault.action, fault.lasts));
        }
    }
    for tap in &spec.taps {
        let at = Timestamp::ZERO + tap.at.0;
        steps.insert((at, steps.len() * 2), Step::Open(tap));
        if let Some(lasts) = tap.lasts {
            steps.insert((at + lasts.0, steps.len() * 2), Step::Close(tap));
        }
    }
    let end = Timestamp::ZERO + spec.duration.0;
    while let Some(((at, number), step)) = steps.pop_first() {
        if at > end {
            break;
        }
        troubles.extend(world.run_until(at, &mut watch).err());
        let done = match step {
            Step::Begin(action, lasts) => match world.meet(action) {
                Some(action) => {
                    let begun = world.begin(&action);
                    if let Some(lasts) = lasts {
                        steps.insert((at + lasts.0, number + 1), Step::End(action));
                    }
                    begun
                }
                None => Ok(()),
            },
            Step::End(action) => world.end(&action),
            Step::Open(tap) => world.open_tap(tap).map(|open| {
                world.taps.insert(tap.name.clone(), open);
            }),
            Step::Close(tap) => {
                world.taps.remove(&tap.name);
                Ok(())
            }
        };
        troubles.extend(done.err());
    }
    troubles.extend(world.run_until(end, &mut watch).err());
    world.taps.clear();
    let answers = world.ask(&keep.questions)?;
    let record = world.record.clone();
    let linger = end + LINGER;
    world.simulator.run_while(linger, &mut || record.under_way() > 0);
    let ended = world.simulator.now();
    watch.look_at_heap_peaks(&world);
    if let Some(tolerance) = watch.leaks_tolerated(spec) {
        world.simulator.run_while(ended + IDLE, &mut || true);
        watch.look_for_leaks(world.simulator.now(), tolerance, &world);
    }
    let played = Played { seed, engine, ended, watch, troubles };
    let entries = world.record.take();
    let report = report(scenario, &world, &entries, trace, played);
    Ok(Run {
        report,
        scenario: scenario.clone(),
        entries,
        checkpoints: trace.checkpoints(),
        log: Vec::new(),
        hosts: world.host_names(),
        objects: Vec::new(),
        answers,
    })
}

/// How a scenario was played.
struct Played {
    seed: u64,
    engine: EngineKind,
    /// When the last request ended.
    ended: Timestamp,
    watch: Watch,
    troubles: Vec<String>,
}

fn report<S: Simulator>(
    scenario: &Scenario,
    world: &World<S>,
    entries: &Entries,
    trace: &Trace,
    played: Played,
) -> Report {
    let Played { seed, engine, ended, watch, troubles } = played;
    let panics = world.simulator.panics().into_iter();
    let panics = panics.map(|p| format!("task `{}` panicked: {}", p.task, p.message));
    let compares = |expectation: &Expectation| expectation.name() == "metrics_agree";
    let scrapes = match scenario.spec.expect.iter().any(compares) {
        true => world.scrapes(),
        false => BTreeMap::new(),
    };
    let observed = Observed { panics: panics.collect(), scrapes, watch };
    let facts = world.facts();
    let evidence = Evidence::new(&scenario.spec, entries, &facts, &observed, ended);
    let judged = judge_all(&scenario.spec, &evidence);
    let workloads = scenario.spec.workloads.iter();
    let workloads = workloads.map(|w| (w.name.clone(), figures(entries, &w.name)));
    let mut pods: BTreeMap<String, u64> = BTreeMap::new();
    for execution in &entries.executions {
        *pods.entry(execution.pod.to_string()).or_default() += 1;
    }
    let digest = trace.digest();
    Report {
        scenario: scenario.name.clone(),
        seed,
        engine,
        passed: troubles.is_empty() && judged.iter().all(Judgement::passes),
        trace_hash: digest.hash,
        events: digest.events,
        bytes: digest.bytes,
        virtual_seconds: world.simulator.now().since(Timestamp::ZERO).as_secs_f64(),
        expectations: judged,
        workloads: workloads.collect(),
        pods,
        system_draws: 0,
        marks: marks::take(),
        troubles,
        trace_lines: trace.lines(),
    }
}

fn figures(entries: &Entries, workload: &str) -> WorkloadFigures {
    let requests = entries.requests.iter().filter(|r| *r.workload == *workload);
    let successes = requests.clone().filter(|request| request.succeeded());
    let mut times: Vec<_> = successes.filter_map(Request::latency).collect();
    times.sort_unstable();
    let millis = |quantile| {
        let time = oracle::quantile_of(&times, quantile).unwrap_or_default();
        (time.as_secs_f64() * 1e6).round() / 1e3
    };
    let mut ends = BTreeMap::new();
    for request in requests.clone() {
        *ends.entry(end_of(request)).or_insert(0) += 1;
    }
    let connections: BTreeSet<_> = requests.clone().filter_map(|r| r.connection).collect();
    WorkloadFigures {
        requests: requests.clone().count() as u64,
        succeeded: times.len() as u64,
        p50_ms: millis(0.5),
        p99_ms: millis(0.99),
        attempts: requests.clone().map(|request| u64::from(request.attempts)).sum(),
        messages_sent: requests.clone().map(|request| request.messages_sent).sum(),
        messages_received: requests.clone().map(|request| request.messages_received).sum(),
        connections: connections.len() as u64,
        ends,
    }
}

/// How a request ended, in a word.
fn end_of(request: &Request) -> String {
    match &request.end {
        Some((_, Ok(Answer { status, grpc_status: None }))) => status.to_string(),
        Some((_, Ok(Answer { grpc_status: Some(code), .. }))) => format!("grpc {code}"),
        Some((_, Err(failure))) => failure.class.to_string(),
        None => "never".to_owned(),
    }
}
