//! Judges a run by its record. Reads nothing else and changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_core::time::Timestamp;

use super::record::{Answer, Entries, Execution, Request};
use super::scenario::{Expectation, Window};

/// Whether an expectation holds, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The expectation in words.
    pub expected: String,
    /// Whether it holds.
    pub holds: bool,
    /// The figure.
    pub found: String,
}

/// Judges an expectation.
pub fn judge(expectation: &Expectation, entries: &Entries) -> Judgement {
    let (holds, found) = match expectation {
        Expectation::Requests { workload, at_least } => {
            let answered = of(entries, workload, Window::default())
                .filter(|request| matches!(request.end, Some((_, Ok(_)))))
                .count() as u64;
            (answered >= *at_least, format!("{answered}"))
        }
        Expectation::SuccessRate { workload, at_least, window } => {
            success_rate(entries, workload, *at_least, *window)
        }
        Expectation::Failures { workload, at_most, window } => {
            failures(entries, workload, *at_most, *window)
        }
        Expectation::Conserved { workload, executions_at_most } => {
            conserved(entries, workload, *executions_at_most)
        }
        Expectation::LoadShare { workload, pod, at_least, at_most, window } => {
            let bounds = (at_least.unwrap_or(0.0), at_most.unwrap_or(1.0));
            load_share(entries, workload, pod, bounds, *window)
        }
        Expectation::Latency { workload, quantile, at_most, window } => {
            latency(entries, workload, *quantile, at_most.0, *window)
        }
        Expectation::NoPlaintext {} => {
            let seen = entries.plaintext;
            (seen == 0, format!("{seen} deliveries with the marker"))
        }
        Expectation::NoTraffic { pod, after } => {
            let after = Timestamp::ZERO + after.0;
            let late = entries.executions.iter();
            let late = late.filter(|e| *e.pod == **pod && e.at > after);
            let last = late.clone().next_back().map(|e| e.at);
            let count = late.count();
            let found = match last {
                Some(last) => format!("{count} requests, the last at {last}"),
                None => "none".to_owned(),
            };
            (count == 0, found)
        }
    };
    Judgement { expected: expectation.to_string(), holds, found }
}

fn of<'a>(
    entries: &'a Entries,
    workload: &'a str,
    window: Window,
) -> impl Iterator<Item = &'a Request> {
    let requests = entries.requests.values();
    requests.filter(move |r| *r.workload == *workload && contains(window, r.began))
}

fn contains(window: Window, at: Timestamp) -> bool {
    let at = at.since(Timestamp::ZERO);
    window.from.is_none_or(|from| at >= from.0) && window.to.is_none_or(|to| at < to.0)
}

fn success_rate(
    entries: &Entries,
    workload: &str,
    at_least: f64,
    window: Window,
) -> (bool, String) {
    let total = of(entries, workload, window).count();
    let succeeded = of(entries, workload, window).filter(|r| r.succeeded()).count();
    let rate = succeeded as f64 / total.max(1) as f64;
    // A window without requests shows nothing.
    let holds = total > 0 && rate >= at_least;
    let causes = causes(entries, workload, window);
    (holds, format!("{rate:.4} ({succeeded} of {total}){causes}"))
}

fn failures(entries: &Entries, workload: &str, at_most: u64, window: Window) -> (bool, String) {
    let total = of(entries, workload, window).count();
    let failed = of(entries, workload, window).filter(|r| !r.succeeded()).count() as u64;
    let causes = causes(entries, workload, window);
    (total > 0 && failed <= at_most, format!("{failed} of {total}{causes}"))
}

/// What went wrong, most frequent first.
fn causes(entries: &Entries, workload: &str, window: Window) -> String {
    let mut causes = BTreeMap::<String, u64>::new();
    for request in of(entries, workload, window).filter(|request| !request.succeeded()) {
        let cause = match &request.end {
            Some((_, Ok(Answer { status, grpc_status: None }))) => format!("status {status}"),
            Some((_, Ok(Answer { grpc_status: Some(code), .. }))) => format!("grpc-status {code}"),
            Some((_, Err(failure))) => failure.to_string(),
            None => "never ended".to_owned(),
        };
        *causes.entry(cause).or_default() += 1;
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let texts = causes.iter().take(3).map(|(cause, count)| format!("{count}x {cause}"));
    match causes.is_empty() {
        true => String::new(),
        false => format!(": {}", texts.collect::<Vec<_>>().join(", ")),
    }
}

fn conserved(entries: &Entries, workload: &str, executions_at_most: u64) -> (bool, String) {
    let mut executed = BTreeMap::<u64, u64>::new();
    for number in entries.executions.iter().filter_map(|e| e.number) {
        *executed.entry(number).or_default() += 1;
    }
    let executed = |number: &u64| executed.get(number).copied().unwrap_or(0);
    let (mut open, mut often, mut never) = (0, 0, 0);
    let ours = entries.requests.iter().filter(|(_, r)| *r.workload == *workload);
    for (number, request) in ours {
        open += u64::from(request.end.is_none());
        often += u64::from(executed(number) > executions_at_most);
        never += u64::from(request.succeeded() && executed(number) == 0);
    }
    let stray = entries.stray_ends;
    let found = format!(
        "{open} without an end, {often} executed too often, {never} successes never executed, \
         {stray} ends of nothing"
    );
    (open + often + never + stray == 0, found)
}

fn load_share(
    entries: &Entries,
    workload: &str,
    pod: &str,
    (at_least, at_most): (f64, f64),
    window: Window,
) -> (bool, String) {
    let ours = |e: &&Execution| {
        let request = e.number.and_then(|number| entries.requests.get(&number));
        contains(window, e.at) && request.is_some_and(|r| *r.workload == *workload)
    };
    let all = entries.executions.iter().filter(ours).count();
    let here = entries.executions.iter().filter(ours).filter(|e| *e.pod == *pod).count();
    let share = here as f64 / all.max(1) as f64;
    let holds = all > 0 && (at_least..=at_most).contains(&share);
    (holds, format!("{share:.4} ({here} of {all})"))
}

fn latency(
    entries: &Entries,
    workload: &str,
    quantile: f64,
    at_most: Duration,
    window: Window,
) -> (bool, String) {
    let successes = of(entries, workload, window).filter(|request| request.succeeded());
    let mut times: Vec<_> = successes.filter_map(Request::latency).collect();
    times.sort_unstable();
    match quantile_of(&times, quantile) {
        Some(found) => (found <= at_most, format!("{found:?} of {}", times.len())),
        None => (false, "no successes".to_owned()),
    }
}

/// The smallest of sorted times that so many of them do not exceed.
pub(super) fn quantile_of(sorted: &[Duration], quantile: f64) -> Option<Duration> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::*;

    fn judged(expectation: Expectation, record: &Record) -> bool {
        judge(&expectation, &record.entries()).holds
    }

    fn conserved() -> Expectation {
        Expectation::Conserved { workload: "w".to_owned(), executions_at_most: 1 }
    }

    fn executed(number: u64) -> Execution {
        Execution { at: Timestamp::ZERO, pod: "pod".into(), number: Some(number), client: None }
    }

    #[test]
    fn a_request_executed_twice_is_not_conserved() {
        let (record, at) = (Record::default(), Timestamp::ZERO);
        let number = record.begin(&"w".into(), &"client".into(), at);
        record.execute(executed(number));
        record.end(number, at, Ok(Answer::status(200)));
        assert!(judged(conserved(), &record));
        record.execute(executed(number));
        assert!(!judged(conserved(), &record));
    }

    #[test]
    fn a_request_without_an_end_or_an_execution_is_not_conserved() {
        let (record, at) = (Record::default(), Timestamp::ZERO);
        let number = record.begin(&"w".into(), &"client".into(), at);
        assert!(!judged(conserved(), &record));
        record.end(number, at, Ok(Answer::status(200)));
        assert!(!judged(conserved(), &record));
    }

    #[test]
    fn nothing_is_shown_by_no_requests() {
        let rate = Expectation::SuccessRate {
            workload: "w".to_owned(),
            at_least: 0.0,
            window: Window::default(),
        };
        assert!(!judged(rate, &Record::default()));
    }

    #[test]
    fn server_errors_are_failures_and_client_errors_are_answers() {
        let record = Record::default();
        for status in [200, 404, 503] {
            let number = record.begin(&"w".into(), &"client".into(), Timestamp::ZERO);
            record.end(number, Timestamp::ZERO, Ok(Answer::status(status)));
        }
        let failures = |at_most| Expectation::Failures {
            workload: "w".to_owned(),
            at_most,
            window: Window::default(),
        };
        assert!(judged(failures(1), &record));
        assert!(!judged(failures(0), &record));
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile_of(&times, 0.5), Some(Duration::from_millis(50)));
        assert_eq!(quantile_of(&times, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(quantile_of(&times, 1.0), Some(Duration::from_millis(100)));
        assert_eq!(quantile_of(&[], 0.5), None);
    }
}
