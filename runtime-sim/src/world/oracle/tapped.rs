//! What taps told is what happened: each request once for each time that it passed, no others, and what
//! is not told is told to be lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Evidence, Finding, Offence};
use crate::world::record::{Request, TapLog, TapMoment, TapSide};
use crate::world::scenario::{TapLoss, TapOnly, TapRefused, TapSays, Tapped, Window};

/// Times that a request passed a pod.
type Passages = BTreeMap<(u64, Arc<str>), u64>;

/// How often each moment of a request was told.
#[derive(Default)]
struct Told {
    requests: u64,
    responses: u64,
    ends: u64,
}

fn log<'a>(evidence: &Evidence<'a>, tap: &str) -> Result<&'a TapLog, Finding> {
    let log = evidence.entries.taps.get(tap);
    log.ok_or_else(|| Finding::new(false, "the tap was never answered"))
}

pub(super) fn tapped(evidence: &Evidence<'_>, expected: &Tapped) -> Finding {
    let Tapped { tap, workload, side, at_least, window } = expected;
    let log = match log(evidence, tap) {
        Ok(log) => log,
        Err(finding) => return finding,
    };
    let passages = passages(evidence, log, workload, *side, *window);
    let told = told(log, *side);
    let (mut whole, mut first) = (0, None);
    for ((number, pod), times) in &passages {
        let request = evidence.entries.request(*number).filter(|request| request.succeeded());
        let Some(request) = request else { continue };
        let Told { requests, responses, ends } = told
            .get(&(*number, pod.clone()))
            .unwrap_or(&Told { requests: 0, responses: 0, ends: 0 });
        match [requests, responses, ends].iter().all(|count| *count == times) {
            true => whole += 1,
            false if first.is_none() => {
                let what = format!(
                    "it passed {times} times; told of are {requests} requests, {responses} \
                     responses and {ends} ends"
                );
                let offence = Offence::at(request.began, what);
                first = Some(offence.of_request(*number).of_pod(pod));
            }
            false => {}
        }
    }
    let found = format!("{whole} of {} told of wholly", passages.len());
    match whole < *at_least {
        true => Finding { holds: false, found, first },
        false => Finding::of(found, first),
    }
}

pub(super) fn only(evidence: &Evidence<'_>, expected: &TapOnly) -> Finding {
    let TapOnly { tap, workload } = expected;
    let log = match log(evidence, tap) {
        Ok(log) => log,
        Err(finding) => return finding,
    };
    let requests = log.events.iter().filter_map(|event| match event.moment {
        TapMoment::Request(number) => Some((event, number)),
        _ => None,
    });
    let mut stray = requests
        .clone()
        .filter(|(_, number)| evidence.workload_of(*number).is_none_or(|of| *of != **workload));
    let first = stray.next().map(|(event, number)| {
        let of = evidence.workload_of(number).unwrap_or("no workload");
        let offence = Offence::at(event.at, format!("it tells of a request of {of}"));
        Offence { request: number, ..offence.of_pod(&event.pod) }
    });
    match requests.count() {
        0 => Finding::new(false, "it tells of no request at all"),
        count => Finding::of(format!("{count} requests"), first),
    }
}

pub(super) fn loss(evidence: &Evidence<'_>, expected: &TapLoss) -> Finding {
    let TapLoss { tap, workload, side, at_least, window } = expected;
    let log = match log(evidence, tap) {
        Ok(log) => log,
        Err(finding) => return finding,
    };
    let told = told(log, *side);
    let mut untold: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for ((number, pod), times) in passages(evidence, log, workload, *side, *window) {
        let requests = told.get(&(number, pod.clone())).map_or(0, |told| told.requests);
        *untold.entry(pod).or_default() += times.saturating_sub(requests);
    }
    let lost = |pod: &Arc<str>| log.lost.get(pod).copied().unwrap_or_default();
    let mut silent = untold.iter().filter(|(pod, untold)| **untold > lost(pod));
    let first = silent.next().map(|(pod, untold)| {
        let what =
            format!("it tells nothing of {untold} requests, and that {} are lost", lost(pod));
        Offence::at(evidence.end, what).of_pod(pod)
    });
    let (untold, lost) = (untold.values().sum::<u64>(), log.lost.values().sum::<u64>());
    let found = format!("{untold} not told of, {lost} told to be lost");
    match untold < *at_least {
        true => Finding { holds: false, found, first },
        false => Finding::of(found, first),
    }
}

pub(super) fn says(evidence: &Evidence<'_>, expected: &TapSays) -> Finding {
    let TapSays { tap, text, window } = expected;
    let log = match log(evidence, tap) {
        Ok(log) => log,
        Err(finding) => return finding,
    };
    let mut said = log.said.iter().filter(|(at, _)| window.contains(*at));
    match said.clone().find(|(_, what)| what.contains(text)) {
        Some((at, what)) => Finding::new(true, format!("`{what}` at {at}")),
        None => Finding::new(
            false,
            match said.next() {
                Some((at, what)) => format!("it says other things, `{what}` at {at} first"),
                None => "it says nothing".to_owned(),
            },
        ),
    }
}

pub(super) fn refused(evidence: &Evidence<'_>, expected: &TapRefused) -> Finding {
    let TapRefused { tap, text } = expected;
    let log = match log(evidence, tap) {
        Ok(log) => log,
        Err(finding) => return finding,
    };
    let first = log
        .events
        .first()
        .map(|event| Offence::at(event.at, "it tells of a request").of_pod(&event.pod));
    match &log.refused {
        Some(why) if why.contains(text) => Finding::of(why.clone(), first),
        Some(why) => Finding { holds: false, found: why.clone(), first },
        None => Finding { holds: false, found: "it is not refused".to_owned(), first },
    }
}

/// The times that each request of a workload passed each tapped pod. On a request's way out that is the pod
/// that sent it, once for each execution.
fn passages(
    evidence: &Evidence<'_>,
    log: &TapLog,
    workload: &str,
    side: TapSide,
    window: Window,
) -> Passages {
    let mut passages = Passages::new();
    let request = |number: Option<u64>| Some((number?, evidence.entries.request(number?)?));
    let ours = |request: &Request| *request.workload == *workload && window.contains(request.began);
    for execution in &evidence.entries.executions {
        let Some((number, request)) = request(execution.number).filter(|(_, r)| ours(r)) else {
            continue;
        };
        let pod = match side {
            TapSide::Inbound => &execution.pod,
            TapSide::Outbound => &request.sender,
        };
        if log.pods.contains(pod) {
            *passages.entry((number, pod.clone())).or_default() += 1;
        }
    }
    passages
}

/// What a tap told of each request, by its number. A proxy that starts again begins to count anew: what is
/// told later is of the request that was told of last by that number of the proxy's.
fn told(log: &TapLog, side: TapSide) -> BTreeMap<(u64, Arc<str>), Told> {
    let mut told: BTreeMap<(u64, Arc<str>), Told> = BTreeMap::new();
    let mut numbers: BTreeMap<(Arc<str>, u64), u64> = BTreeMap::new();
    for event in log.events.iter().filter(|event| event.side == Some(side)) {
        let stream = (event.pod.clone(), event.stream);
        if let TapMoment::Request(Some(number)) = event.moment {
            numbers.insert(stream.clone(), number);
        }
        let Some(number) = numbers.get(&stream) else { continue };
        let told = told.entry((*number, event.pod.clone())).or_default();
        match event.moment {
            TapMoment::Request(_) => told.requests += 1,
            TapMoment::Response => told.responses += 1,
            TapMoment::End => told.ends += 1,
        }
    }
    told
}

#[cfg(test)]
mod tests;
