//! Every request accounted for: executed as often as it may be, by who may, and ended in time.

use std::time::Duration;

use mesh_core::time::Timestamp;

use super::figures::cause;
use super::{Evidence, Finding, Offence};
use crate::world::record::{Answer, FailureClass, Request};
use crate::world::scenario::{Protocol, Window, Workload};

/// How long after its timeout a request may end: the caller's own work takes no virtual time.
const TIMEOUT_SLACK: Duration = Duration::from_millis(1);

pub(super) fn conserved(evidence: &Evidence<'_>, workload: &str, most: u64) -> Finding {
    let (mut open, mut often, mut never, mut torn, mut mixed) = (0, 0, 0, 0, 0);
    let mut first: Option<Offence> = None;
    for (number, request) in evidence.all_of(workload) {
        let executions = u64::from(request.executions);
        let succeeded = request.succeeded();
        let ended = request.end.as_ref().map_or(evidence.end, |(at, _)| *at);
        let mut wrong = |count: &mut u64, at, what: String| {
            *count += 1;
            if first.as_ref().is_none_or(|first| at < first.at) {
                first = Some(Offence::at(at, what).of_request(number));
            }
        };
        if request.end.is_none() {
            wrong(&mut open, request.began, "began and never ended".to_owned());
        }
        // The client itself may have sent it more than once.
        if executions > most * u64::from(request.attempts.max(1)) {
            wrong(&mut often, request.began, format!("was executed {executions} times"));
        }
        if succeeded && executions == 0 && !is_refusal(request) {
            wrong(&mut never, ended, "succeeded and was never executed".to_owned());
        }
        if let Some((at, what)) = &request.torn {
            wrong(&mut torn, *at, what.clone());
        } else if let Some(what) = lost_messages(request) {
            wrong(&mut torn, ended, what);
        }
        // What came is not what its server sent, or is another request's.
        if request.failure() == Some(FailureClass::Wrong) {
            wrong(&mut mixed, ended, cause(request));
        }
    }
    let stray = evidence.entries.stray_ends;
    let found = format!(
        "{open} without an end, {often} executed too often, {never} successes never executed, \
         {torn} torn streams, {mixed} wrong answers, {stray} ends of nothing"
    );
    Finding { holds: open + often + never + torn + mixed + stray == 0, found, first }
}

/// Where a request succeeded that was executed once, both sides saw the same messages.
fn lost_messages(request: &Request) -> Option<String> {
    if !request.succeeded() || request.attempts > 1 || request.executions != 1 {
        return None;
    }
    let ways = [
        ("of its own", request.messages_sent, request.messages_delivered),
        ("of the answer", request.messages_answered, request.messages_received),
    ];
    let lost = ways.into_iter().find(|(_, sent, came)| sent != came);
    lost.map(|(whose, sent, came)| format!("{sent} messages {whose} were sent, and {came} came"))
}

/// A proxy answers these itself.
fn is_refusal(request: &Request) -> bool {
    matches!(request.end, Some((_, Ok(Answer { status: 400..=499, .. }))))
}

/// Executions against requests over a stretch of time that slides from execution to execution.
pub(super) fn retry_budget(
    evidence: &Evidence<'_>,
    workload: &str,
    ratio: f64,
    per: Duration,
    free: u64,
) -> Finding {
    let began: Vec<_> = evidence.all_of(workload).map(|(_, request)| request.began).collect();
    if began.is_empty() {
        return Finding::new(false, "no requests");
    }
    let executions = evidence.entries.executions.iter();
    let ours = executions.filter(|e| evidence.workload_of(e.number) == Some(workload));
    let executed: Vec<_> = ours.collect();
    let (mut from, mut requests_from, mut requests_to) = (0, 0, 0);
    let (mut worst, mut first) = (0.0f64, None);
    for (index, execution) in executed.iter().enumerate() {
        let start = Timestamp::ZERO + execution.at.since(Timestamp::ZERO).saturating_sub(per);
        while executed[from].at < start {
            from += 1;
        }
        while requests_from < began.len() && began[requests_from] < start {
            requests_from += 1;
        }
        while requests_to < began.len() && began[requests_to] <= execution.at {
            requests_to += 1;
        }
        let count = (index + 1 - from) as f64;
        let requests = (requests_to - requests_from) as f64;
        worst = worst.max(count / requests.max(1.0));
        if count > requests * (1.0 + ratio) + free as f64 && first.is_none() {
            let what = format!("{count} executions of {requests} requests in {per:?}");
            let offence = Offence::at(execution.at, what).of_pod(&execution.pod);
            first = Some(Offence { request: execution.number, ..offence });
        }
    }
    let (all, requests) = (executed.len(), began.len());
    let found = format!("{all} executions of {requests} requests, at worst {worst:.3} for one");
    Finding::of(found, first)
}

pub(super) fn denied(evidence: &Evidence<'_>, workload: &str, window: Window) -> Finding {
    let (mut total, mut executed, mut answered) = (0, 0, 0);
    let mut first = None;
    for (number, request) in evidence.of(workload, window) {
        total += 1;
        let refused = request.was_denied();
        executed += u64::from(request.executions > 0);
        answered += u64::from(!refused);
        if (request.executions > 0 || !refused) && first.is_none() {
            let times = request.executions;
            let what = format!("{}, executed {times} times", cause(request));
            first = Some(Offence::at(request.began, what).of_request(number));
        }
    }
    match total {
        0 => Finding::new(false, "no requests"),
        _ => {
            let found = format!("of {total}, {executed} were executed, {answered} not refused");
            Finding::of(found, first)
        }
    }
}

pub(super) fn not_executed(evidence: &Evidence<'_>, workload: &str, window: Window) -> Finding {
    let total = evidence.of(workload, window).count();
    let executed = evidence.of(workload, window).filter(|(_, request)| request.executions > 0);
    let first = executed.clone().next().map(|(number, request)| {
        let what = format!("was executed; its sender saw {}", cause(request));
        Offence::at(request.began, what).of_request(number)
    });
    match total {
        0 => Finding::new(false, "no requests"),
        _ => Finding::of(format!("{} of {total} executed", executed.count()), first),
    }
}

/// Judges by what servers were told, and by who they are: pods of the service that was asked for, or of
/// those to which its routes lead. Only HTTP has a place to tell it.
pub(super) fn identity(evidence: &Evidence<'_>, workload: &str, written: Option<&str>) -> Finding {
    use Protocol::{Grpc, H2, Http1, Websocket};
    let spoken = evidence.workloads.get(workload).map(|workload| workload.protocol);
    if !spoken.is_some_and(|spoken| matches!(spoken, Http1 | H2 | Grpc | Websocket)) {
        return Finding::new(false, "this protocol does not tell a server who its client is");
    }
    let servers = evidence.watch.servers(workload);
    let (mut told, mut first) = (0, None);
    for execution in &evidence.entries.executions {
        let request = execution.number.and_then(|number| evidence.entries.request(number));
        let Some(request) = request.filter(|request| *request.workload == *workload) else {
            continue;
        };
        told += 1;
        let sender = evidence.pods.get(&request.sender);
        let expected = written.or(sender.and_then(|pod| pod.identity.as_deref()));
        if let Some(servers) = servers.filter(|servers| !servers.contains(&execution.pod))
            && first.is_none()
        {
            let asked = evidence.workloads.get(workload).map_or("", |workload| &workload.to);
            let others: Vec<_> = servers.iter().map(|pod| &**pod).take(5).collect();
            let others = others.join(", ");
            let what = format!("answers for {asked}, which is served by {others}");
            let offence = Offence::at(execution.at, what).of_pod(&execution.pod);
            first = Some(Offence { request: execution.number, ..offence });
        }
        let seen = execution.client.as_deref();
        if seen != expected && first.is_none() {
            let [seen, expected] = [seen, expected].map(|name| name.unwrap_or("nobody"));
            let what = format!("the server saw {seen}, and the client is {expected}");
            let offence = Offence::at(execution.at, what).of_pod(&execution.pod);
            first = Some(Offence { request: execution.number, ..offence });
        }
    }
    match told {
        0 => Finding::new(false, "no request reached a server"),
        _ => Finding::of(format!("{told} requests"), first),
    }
}

/// How long a request may take with all its attempts.
fn patience(workload: &Workload, request: &Request) -> Duration {
    let stream = workload.stream;
    let lasts = stream.lasts.map_or(stream.interval.0 * stream.messages, |lasts| lasts.0);
    let attempt = workload.timeout.0 + lasts + workload.retries.backoff.0;
    attempt * request.attempts.max(1) + TIMEOUT_SLACK
}

pub(super) fn live(evidence: &Evidence<'_>, workload: &str, last: Duration) -> Finding {
    let spec = evidence.workloads.get(workload);
    let mut first = None;
    let mut begun_last = Timestamp::ZERO;
    for (number, request) in evidence.all_of(workload) {
        begun_last = begun_last.max(request.began);
        let ended = request.end.as_ref().map_or(evidence.end, |(at, _)| *at);
        let took = ended.since(request.began);
        if spec.is_some_and(|spec| took > patience(spec, request)) && first.is_none() {
            let what = format!("hung for {took:?}");
            first = Some(Offence::at(request.began, what).of_request(number));
        }
    }
    let end = begun_last.since(Timestamp::ZERO).saturating_sub(last);
    let recent = evidence.all_of(workload);
    let recent = recent.filter(|(_, r)| r.began.since(Timestamp::ZERO) >= end);
    let total = recent.clone().count();
    let succeeded = recent.clone().filter(|(_, request)| request.succeeded()).count();
    let found = format!("{succeeded} of the last {total} succeeded");
    if first.is_none() && succeeded == 0 {
        first = recent
            .clone()
            .next()
            .map(|(number, request)| Offence::at(request.began, cause(request)).of_request(number));
    }
    Finding { holds: first.is_none() && succeeded > 0, found, first }
}
