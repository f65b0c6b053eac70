//! Figures of a workload: how many, how well, how fast, how spread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::time::Timestamp;

use super::{Evidence, Finding, Offence};
use crate::world::record::{Answer, Execution, Request};
use crate::world::scenario::Window;

pub(super) fn requests(evidence: &Evidence<'_>, workload: &str, at_least: u64) -> Finding {
    let answered = evidence.all_of(workload).filter(|(_, r)| matches!(r.end, Some((_, Ok(_)))));
    let answered = answered.count() as u64;
    Finding::new(answered >= at_least, answered.to_string())
}

pub(super) fn success_rate(
    evidence: &Evidence<'_>,
    workload: &str,
    at_least: f64,
    window: Window,
) -> Finding {
    let total = evidence.of(workload, window).count();
    let succeeded = evidence.of(workload, window).filter(|(_, r)| r.succeeded()).count();
    let rate = succeeded as f64 / total.max(1) as f64;
    let causes = causes(evidence, workload, window);
    let found = format!("{rate:.4} ({succeeded} of {total}){causes}");
    Finding::new(total > 0 && rate >= at_least, found)
        .first(|| first_failure(evidence, workload, window))
}

pub(super) fn failures(
    evidence: &Evidence<'_>,
    workload: &str,
    at_most: u64,
    window: Window,
) -> Finding {
    let total = evidence.of(workload, window).count();
    let failed = evidence.of(workload, window).filter(|(_, r)| !r.succeeded()).count() as u64;
    let causes = causes(evidence, workload, window);
    Finding::new(total > 0 && failed <= at_most, format!("{failed} of {total}{causes}"))
        .first(|| first_failure(evidence, workload, window))
}

fn first_failure(evidence: &Evidence<'_>, workload: &str, window: Window) -> Option<Offence> {
    let (number, request) = evidence.of(workload, window).find(|(_, r)| !r.succeeded())?;
    Some(Offence::at(request.began, cause(request)).of_request(number))
}

/// How a request failed.
pub(super) fn cause(request: &Request) -> String {
    match &request.end {
        Some((_, Ok(Answer { status, grpc_status: None }))) => format!("status {status}"),
        Some((_, Ok(Answer { grpc_status: Some(code), .. }))) => format!("grpc-status {code}"),
        Some((_, Err(failure))) => failure.to_string(),
        None => "never ended".to_owned(),
    }
}

/// What went wrong, most frequent first.
fn causes(evidence: &Evidence<'_>, workload: &str, window: Window) -> String {
    let mut causes = BTreeMap::<String, u64>::new();
    for (_, request) in evidence.of(workload, window).filter(|(_, r)| !r.succeeded()) {
        *causes.entry(cause(request)).or_default() += 1;
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let texts = causes.iter().take(3).map(|(cause, count)| format!("{count}x {cause}"));
    match causes.is_empty() {
        true => String::new(),
        false => format!(": {}", texts.collect::<Vec<_>>().join(", ")),
    }
}

/// Executions of a workload's requests in a window.
fn executions<'a>(
    evidence: &Evidence<'a>,
    workload: &str,
    window: Window,
) -> impl Iterator<Item = &'a Execution> {
    let ours = move |e: &&Execution| {
        window.contains(e.at) && evidence.workload_of(e.number) == Some(workload)
    };
    evidence.entries.executions.iter().filter(ours).collect::<Vec<_>>().into_iter()
}

pub(super) fn load_share(
    evidence: &Evidence<'_>,
    workload: &str,
    pod: &str,
    (at_least, at_most): (f64, f64),
    window: Window,
) -> Finding {
    let all = executions(evidence, workload, window).count();
    let here = executions(evidence, workload, window).filter(|e| *e.pod == *pod).count();
    let share = here as f64 / all.max(1) as f64;
    let holds = all > 0 && (at_least..=at_most).contains(&share);
    Finding::new(holds, format!("{share:.4} ({here} of {all})"))
}

pub(super) fn even_load(
    evidence: &Evidence<'_>,
    workload: &str,
    deployment: &str,
    within: f64,
    window: Window,
) -> Finding {
    let pods = evidence
        .pods
        .iter()
        .filter(|(pod, facts)| facts.deployment == deployment && was_there(evidence, pod, window));
    let mut shares: BTreeMap<&str, u64> = pods.map(|(pod, _)| (&**pod, 0)).collect();
    for execution in executions(evidence, workload, window) {
        if let Some(count) = shares.get_mut(&*execution.pod) {
            *count += 1;
        }
    }
    let all: u64 = shares.values().sum();
    let fair = all as f64 / shares.len().max(1) as f64;
    let distance = |count: u64| (count as f64 - fair).abs() / fair;
    let worst = shares.iter().max_by(|a, b| distance(*a.1).total_cmp(&distance(*b.1)));
    let Some((pod, count)) = worst.filter(|_| all > 0) else {
        return Finding::new(false, "no request reached the deployment");
    };
    let found = format!("farthest is {pod} with {count}, where {fair:.1} are fair");
    Finding::new(distance(*count) <= within, found)
}

pub(super) fn latency(
    evidence: &Evidence<'_>,
    workload: &str,
    quantile: f64,
    at_most: Duration,
    window: Window,
) -> Finding {
    let successes = evidence.of(workload, window).filter(|(_, request)| request.succeeded());
    let mut times: Vec<_> = successes.clone().filter_map(|(_, r)| r.latency()).collect();
    times.sort_unstable();
    let Some(found) = quantile_of(&times, quantile) else {
        return Finding::new(false, "no successes");
    };
    Finding::new(found <= at_most, format!("{found:?} of {}", times.len())).first(|| {
        let late = successes.clone().find(|(_, r)| r.latency().is_some_and(|l| l > at_most));
        let (number, request) = late?;
        let took = request.latency().unwrap_or_default();
        Some(Offence::at(request.began, format!("took {took:?}")).of_request(number))
    })
}

/// Whether a pod was among the ready endpoints from the beginning of a window to its end: others
/// have no fair part. One of which nothing is recorded was.
fn was_there(evidence: &Evidence<'_>, pod: &Arc<str>, window: Window) -> bool {
    let Some(history) = evidence.entries.presence.get(pod) else { return true };
    let from = Timestamp::ZERO + window.from.map_or(Duration::ZERO, |from| from.0);
    let to = window.to.map_or(evidence.end, |to| Timestamp::ZERO + to.0);
    // What a world begins with is ready before anything is sent.
    let begun = history.partition_point(|(at, _)| *at <= from).saturating_sub(1);
    let mut within = history[begun..].iter().take_while(|(at, _)| *at < to);
    within.all(|(at, present)| *present && (*at <= from || window.from.is_none()))
}

/// The smallest of sorted times that so many of them do not exceed.
pub(in crate::world) fn quantile_of(sorted: &[Duration], quantile: f64) -> Option<Duration> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

pub(super) fn in_flight(
    evidence: &Evidence<'_>,
    workload: &str,
    at_most: u64,
    window: Window,
) -> Finding {
    // Of one moment, ends come first: a caller that sends its next request has one in flight.
    let mut changes = Vec::new();
    for (number, request) in evidence.all_of(workload) {
        changes.push((request.began, 1i64, number));
        if let Some((at, _)) = &request.end {
            changes.push((*at, -1, number));
        }
    }
    changes.sort_unstable();
    let (mut now, mut most, mut first) = (0i64, 0, None);
    for (at, change, number) in &changes {
        now += change;
        if window.contains(*at) {
            most = most.max(now);
            if now > at_most as i64 && first.is_none() {
                first = Some(Offence::at(*at, format!("{now} in flight")).of_request(*number));
            }
        }
    }
    match changes.is_empty() {
        true => Finding::new(false, "no requests"),
        false => Finding::of(format!("at most {most}"), first),
    }
}
