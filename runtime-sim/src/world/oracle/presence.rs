//! Pods that are gone get no requests.

use std::time::Duration;

use mesh_core::time::Timestamp;

use super::{Evidence, Finding, Offence};

pub(super) fn no_traffic(evidence: &Evidence<'_>, pod: &str, after: Duration) -> Finding {
    let after = Timestamp::ZERO + after;
    let late = evidence.entries.executions.iter().filter(|e| *e.pod == *pod && e.at > after);
    let count = late.clone().count();
    let first = late.clone().next().map(|execution| {
        let offence = Offence::at(execution.at, "a request arrived").of_pod(pod);
        Offence { request: execution.number, ..offence }
    });
    let found = match late.clone().next_back() {
        Some(last) => format!("{count} requests, the last at {}", last.at),
        None => "none".to_owned(),
    };
    Finding::of(found, first)
}

/// Every pod that was among the ready endpoints, left them, and was still sent requests. That it
/// never left shows nothing, and is no fault.
pub(super) fn no_traffic_to_dead(evidence: &Evidence<'_>, within: Duration) -> Finding {
    let departures = |history: &[(Timestamp, bool)]| {
        let left = history.windows(2).filter(|pair| pair[0].1 && !pair[1].1);
        left.count()
    };
    let gone: usize = evidence.entries.presence.values().map(|h| departures(h)).sum();
    let (mut late, mut first) = (0, None);
    for execution in &evidence.entries.executions {
        let Some(history) = evidence.entries.presence.get(&execution.pod) else {
            continue;
        };
        let index = history.partition_point(|(at, _)| *at <= execution.at);
        let Some((since, false)) = index.checked_sub(1).map(|index| history[index]) else {
            continue;
        };
        let absent = execution.at.since(since);
        // One that was never there is reached by its address, and not through its service.
        if index < 2 || absent <= within {
            continue;
        }
        late += 1;
        if first.is_none() {
            let what = format!("a request arrived {absent:?} after the pod was gone");
            let offence = Offence::at(execution.at, what).of_pod(&execution.pod);
            first = Some(Offence { request: execution.number, ..offence });
        }
    }
    Finding::of(format!("{late} requests after {gone} departures"), first)
}
