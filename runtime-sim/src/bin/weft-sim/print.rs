//! What is told of runs: on stdout, for people or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use runtime_sim::world::marks;
use runtime_sim::world::oracle::Judgement;
use runtime_sim::world::run::{EngineKind, Report};

use crate::files;
use crate::outcome::{Outcome, Trouble};

/// A line on stdout.
pub fn line(text: &str) -> Result<Outcome, Trouble> {
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(Outcome::Passed)
}

/// A report as one line of JSON.
pub fn json(report: &Report, file: &Path) -> Result<(), Trouble> {
    #[derive(Serialize)]
    struct Line<'a> {
        file: String,
        #[serde(flatten)]
        report: &'a Report,
        #[serde(skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        again: Option<String>,
    }
    let failed = !report.passed;
    let text = serde_json::to_string(&Line {
        file: file.display().to_string(),
        report,
        commit: failed.then(|| files::commit(file)),
        again: failed.then(|| again(report, file)),
    });
    line(&text.map_err(std::io::Error::other)?).map(|_| ())
}

/// A report for people: what was expected and found; where `brief`, only what does not hold. Of a
/// failure also how to have it again.
pub fn human(report: &Report, file: &Path, brief: bool) -> String {
    let verdict = if report.passed { "pass" } else { "FAIL" };
    let (name, seed, engine) = (&report.scenario, report.seed, engine(report.engine));
    let requests: u64 = report.workloads.values().map(|figures| figures.requests).sum();
    let mut text = format!(
        "{verdict} {name} seed {seed} {engine}: {requests} requests in {:.0} s, trace {}\n",
        report.virtual_seconds,
        &report.trace_hash[..12],
    );
    if report.passed && brief {
        return text;
    }
    for judged in report.expectations.iter().filter(|judged| !brief || !judged.passes()) {
        expectation(&mut text, judged);
    }
    for (name, figures) in &report.workloads {
        let (all, succeeded) = (figures.requests, figures.succeeded);
        let (p50, p99) = (figures.p50_ms, figures.p99_ms);
        add(
            &mut text,
            format_args!("  {name}: {succeeded} of {all} requests, p50 {p50} ms, p99 {p99} ms"),
        );
    }
    for trouble in &report.troubles {
        add(&mut text, format_args!("  trouble: {trouble}"));
    }
    if !report.passed {
        let broken = report.expectations.iter().filter(|judged| !judged.passes());
        let mut broken: Vec<_> = broken.map(|judged| judged.oracle).collect();
        broken.dedup();
        let troubled = !report.troubles.is_empty();
        let broken = broken.into_iter().chain(troubled.then_some("trouble"));
        let broken = broken.collect::<Vec<_>>().join(", ");
        add(&mut text, format_args!("  broken: {broken}"));
        add(&mut text, format_args!("  seed {seed}, commit {}", files::commit(file)));
        add(&mut text, format_args!("  trace {}", report.trace_hash));
        add(&mut text, format_args!("  again: {}", again(report, file)));
    }
    text
}

fn expectation(text: &mut String, judged: &Judgement) {
    let mark = match &judged.relaxed {
        _ if judged.holds => "ok ",
        Some(_) => "let",
        None => "NOT",
    };
    add(text, format_args!("  {mark} {}: {}", judged.expected, judged.found));
    if let Some(first) = &judged.first {
        add(text, format_args!("      first {first}"));
    }
    if let Some(because) = judged.relaxed.as_ref().filter(|_| !judged.holds) {
        add(text, format_args!("      relaxed, because {because}"));
    }
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

/// The command that plays a run again.
pub fn again(report: &Report, file: &Path) -> String {
    let engine = match report.engine {
        EngineKind::Des => "",
        EngineKind::Turmoil => " --engine turmoil",
    };
    format!("weft-sim run {} --seed {}{engine}", file.display(), report.seed)
}

/// An engine's name.
pub fn engine(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Des => "des",
        EngineKind::Turmoil => "turmoil",
    }
}

/// Coverage marks: how many were reached, and which never. Nothing where none are built in.
pub fn reached(counts: &BTreeMap<&'static str, u64>) -> String {
    if !marks::BUILT_IN {
        return String::new();
    }
    let never = marks::KNOWN.iter().filter(|mark| !counts.contains_key(*mark));
    let never: Vec<_> = never.copied().collect();
    let (all, reached) = (marks::KNOWN.len(), marks::KNOWN.len() - never.len());
    match never.is_empty() {
        true => format!("marks: all {all} reached\n"),
        false => format!("marks: {reached} of {all} reached; never {}\n", never.join(", ")),
    }
}
