//! Tells a run as a story: what went wrong and when, what the mesh did about it, and the first
//! request that failed with its way through the proxies. Reads what was kept of a run; judges nothing.
//!
//! Law: bounded: what repeats is told three times and then counted.

mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use tracing::Level;

use mesh_core::time::Timestamp;

use crate::log;
use crate::trace::Packet;
use crate::world::oracle::Offence;
use crate::world::record::{Answer, Request};
use crate::world::run::Run;

/// Times a line of the same kind is told.
const SAME_MAX: usize = 3;
/// Lines of the log about a request.
const DECISIONS_MAX: usize = 60;
/// How long before a request the mesh's decisions may matter to it.
const BEFORE: std::time::Duration = std::time::Duration::from_millis(500);

/// A run's story. `packets` are those of the run, in order.
pub fn explain(run: &Run, packets: &[Packet]) -> String {
    let mut text = heading(run);
    text.push_str("\ntimeline\n");
    for (at, line) in timeline(run) {
        add(&mut text, format_args!("  {:>10}  {line}", seconds(at)));
    }
    text.push('\n');
    match first_failure(run) {
        None => text.push_str("no request failed\n"),
        Some(number) => text.push_str(&of_request(run, number, packets)),
    }
    text
}

fn heading(run: &Run) -> String {
    let report = &run.report;
    let verdict = if report.passed { "passed" } else { "FAILED" };
    let mut text = String::new();
    let (name, seed) = (&report.scenario, report.seed);
    add(&mut text, format_args!("{name}, seed {seed}: {verdict}"));
    add(&mut text, format_args!("  {}", run.scenario.spec.about));
    for judged in report.expectations.iter().filter(|judged| !judged.passes()) {
        add(&mut text, format_args!("  NOT {}: {}", judged.expected, judged.found));
        if let Some(first) = &judged.first {
            add(&mut text, format_args!("      first {first}"));
        }
    }
    for trouble in &report.troubles {
        add(&mut text, format_args!("  trouble: {trouble}"));
    }
    text
}

/// What happened, in order of time.
fn timeline(run: &Run) -> Vec<(Timestamp, String)> {
    let spec = &run.scenario.spec;
    let mut all = Vec::new();
    for workload in &spec.workloads {
        let words =
            format!("workload {} begins, from {} to {}", workload.name, workload.from, workload.to);
        all.push((Timestamp::ZERO + workload.start.0, words));
    }
    for fault in &spec.faults {
        for at in fault.beginnings(spec.duration) {
            let id = fault.id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
            let at = Timestamp::ZERO + at;
            all.push((at, format!("FAULT begins: {}{id}", fault.action)));
            if let Some(lasts) = fault.lasts {
                all.push((at + lasts.0, format!("fault ends:   {}{id}", fault.action)));
            }
        }
    }
    for (pod, changes) in &run.entries.presence {
        for (at, present) in changes {
            let is = if *present { "is a ready endpoint" } else { "is no ready endpoint" };
            all.push((*at, format!("{pod} {is}")));
        }
    }
    for ((from, to), seen) in &run.entries.plaintext {
        all.push((seen.first, format!("plaintext from {from} to {to}")));
    }
    all.extend(logged(&run.log));
    let broken = run.report.expectations.iter().filter(|judged| !judged.passes());
    for (judged, first) in broken.filter_map(|judged| Some((judged, judged.first.as_ref()?))) {
        let Offence { at, what, .. } = first;
        all.push((*at, format!("BROKEN {}: {what}", judged.oracle)));
    }
    all.sort_by_key(|(at, _)| *at);
    all
}

/// What is worth telling of the log: from info on; what repeats, three times and then counted.
fn logged(lines: &[log::Line]) -> Vec<(Timestamp, String)> {
    let mut told: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    let mut all: Vec<(Timestamp, String)> = Vec::new();
    for line in lines.iter().filter(|line| line.level <= Level::INFO) {
        let (times, last) = told.entry((&line.host, &line.message)).or_insert((0, 0));
        *times += 1;
        if *times <= SAME_MAX {
            *last = all.len();
            all.push((line.at, format!("{} logs: {line}", line.host)));
        }
    }
    for (times, last) in told.into_values().filter(|(times, _)| *times > SAME_MAX) {
        let more = times - SAME_MAX;
        all[last].1.push_str(&format!("  (and {more} more such lines of it)"));
    }
    all
}

/// The request that an expectation failed for, else the first that failed.
fn first_failure(run: &Run) -> Option<u64> {
    let broken = run.report.expectations.iter().filter(|judged| !judged.passes());
    let named = broken.filter_map(|judged| judged.first.as_ref()?.request).min();
    let failed = run.entries.requests.iter().position(|request| !request.succeeded());
    named.or_else(|| failed.map(|index| index as u64 + 1))
}

fn of_request(run: &Run, number: u64, packets: &[Packet]) -> String {
    let mut text = String::new();
    let Some(request) = run.entries.request(number) else {
        return text;
    };
    let end =
        request.end.as_ref().map_or(Timestamp::ZERO + run.scenario.spec.duration.0, |(at, _)| *at);
    let Request { workload, sender, began, attempts, .. } = request;
    add(
        &mut text,
        format_args!("first failing request: {number} of workload {workload}, from {sender}"),
    );
    add(
        &mut text,
        format_args!("  {:>10}  begins; attempts of the client: {attempts}", seconds(*began)),
    );
    for execution in run.entries.executions.iter().filter(|e| e.number == Some(number)) {
        let client = execution.client.as_deref().unwrap_or("nobody known");
        let (at, pod) = (seconds(execution.at), &execution.pod);
        add(&mut text, format_args!("  {at:>10}  reaches {pod}, from {client}"));
    }
    if let Some((at, what)) = &request.torn {
        add(&mut text, format_args!("  {:>10}  torn: {what}", seconds(*at)));
    }
    add(&mut text, format_args!("  {:>10}  ends: {}", seconds(end), outcome(request)));
    let spec = &run.scenario.spec;
    for fault in &spec.faults {
        let lasts = fault.lasts.map_or(spec.duration.0, |span| span.0);
        let is_then = |at: &std::time::Duration| {
            Timestamp::ZERO + *at <= end && Timestamp::ZERO + *at + lasts >= *began
        };
        if let Some(at) = fault.beginnings(spec.duration).find(is_then) {
            let since = seconds(Timestamp::ZERO + at);
            add(&mut text, format_args!("  meanwhile, since {since}: {}", fault.action));
        }
    }
    let (way, mut hosts) = way::of(run, number, request, end, packets);
    text.push_str("\nits way: connections of its sender, and of whom it reached, meanwhile\n");
    text.push_str(&way);
    hosts.insert(sender.clone());
    text.push_str("\nwhat they decided\n");
    let from = began.since(Timestamp::ZERO).saturating_sub(BEFORE);
    let lines = run.log.iter().filter(|line| {
        // What libraries tell of single frames is of the request's own time or none of its matter.
        let from = match line.target.starts_with("mesh_core") {
            true => Timestamp::ZERO + from,
            false => *began,
        };
        line.at >= from && line.at <= end && hosts.contains(&line.host)
    });
    let lines: Vec<_> = lines.collect();
    for line in lines.iter().take(DECISIONS_MAX) {
        let (at, host) = (seconds(line.at), &line.host);
        add(&mut text, format_args!("  {at:>10}  {host}: {line}"));
    }
    match lines.len() {
        0 => text.push_str("  nothing was logged\n"),
        all if all > DECISIONS_MAX => {
            add(&mut text, format_args!("  and {} more lines", all - DECISIONS_MAX));
        }
        _ => {}
    }
    text
}

fn outcome(request: &Request) -> String {
    match &request.end {
        Some((_, Ok(Answer { status, grpc_status: None }))) => format!("status {status}"),
        Some((_, Ok(Answer { grpc_status: Some(code), .. }))) => format!("grpc-status {code}"),
        Some((_, Err(failure))) => failure.to_string(),
        None => "never".to_owned(),
    }
}

/// A moment as people read it, to the microsecond.
fn seconds(at: Timestamp) -> String {
    format!("{:.6}s", at.since(Timestamp::ZERO).as_secs_f64())
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

/// Names of hosts.
type Hosts = BTreeSet<std::sync::Arc<str>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_told_three_times_and_counted() {
        let line = |millis, host: &str, message: &str, fields: &str, level| log::Line {
            at: Timestamp::from_millis(millis),
            host: host.into(),
            level,
            target: "mesh_core",
            message: message.to_owned(),
            fields: fields.to_owned(),
        };
        let mut lines: Vec<_> =
            (0..9).map(|n| line(n, "a", "retry", &format!(" n={n}"), Level::WARN)).collect();
        lines.push(line(9, "b", "retry", " n=1", Level::INFO));
        lines.push(line(9, "b", "details", "", Level::DEBUG));
        let told: Vec<_> = logged(&lines).into_iter().map(|(_, text)| text).collect();
        assert_eq!(told[..2], ["a logs: retry n=0", "a logs: retry n=1"]);
        assert_eq!(told[2], "a logs: retry n=2  (and 6 more such lines of it)");
        assert_eq!(told[3..], ["b logs: retry n=1"]);
    }
}
