//! What is wrong with a tap is found, and where; a good one holds.

use mesh_core::time::Timestamp;

use super::super::watch::Watch;
use super::super::{Finding, Observed, PodFacts};
use super::*;
use crate::world::record::{Answer, Entries, Execution, Record, TapEvent};
use crate::world::scenario::Spec;

/// Requests of two workloads that a client sent to a pod; the first of them twice over.
fn entries(tell: impl Fn(&mut TapLog)) -> Entries {
    let record = Record::default();
    for (workload, executions) in [("work", 2), ("work", 1), ("rest", 1)] {
        let at = Timestamp::from_millis(1_000);
        let number = record.begin(&workload.into(), &"client-0".into(), at);
        for _ in 0..executions {
            record.execute(Execution {
                at,
                pod: "web-0".into(),
                number: Some(number),
                client: None,
            });
        }
        record.end(number, at, Ok(Answer::status(200)));
    }
    record.tap(&"tap".into(), |log| {
        log.pods = vec!["web-0".into(), "client-0".into()];
        tell(log);
    });
    record.entries()
}

/// Tells of a request's passage, from its beginning to its end.
fn tell(log: &mut TapLog, pod: &str, side: TapSide, stream: u64, number: u64) {
    for moment in [TapMoment::Request(Some(number)), TapMoment::Response, TapMoment::End] {
        let (at, side) = (Timestamp::from_millis(1_500), Some(side));
        log.events.push(TapEvent { at, pod: pod.into(), side, stream, moment });
    }
}

/// The three passages of `work` at its server.
fn inbound(log: &mut TapLog) {
    for (stream, number) in [(0, 1), (1, 2), (2, 1)] {
        tell(log, "web-0", TapSide::Inbound, stream, number);
    }
}

fn judged<E>(entries: &Entries, judge: fn(&Evidence<'_>, &E) -> Finding, expected: &E) -> Finding {
    let spec = "about: a test\nduration: 10s\nexpect: []\n";
    let spec: Spec = serde_yaml_ng::from_str(spec).expect("a spec");
    let watch = Watch::new(&spec);
    let observed = Observed { panics: Vec::new(), scrapes: BTreeMap::new(), watch };
    let pods: BTreeMap<Arc<str>, PodFacts> = BTreeMap::new();
    let end = Timestamp::from_millis(9_000);
    judge(&Evidence::new(&spec, entries, &pods, &observed, end), expected)
}

fn work(side: TapSide, at_least: u64) -> Tapped {
    let (tap, workload, window) = ("tap".to_owned(), "work".to_owned(), Window::default());
    Tapped { tap, workload, side, at_least, window }
}

fn of_work() -> TapOnly {
    TapOnly { tap: "tap".to_owned(), workload: "work".to_owned() }
}

fn losing(at_least: u64) -> TapLoss {
    let Tapped { tap, workload, side, window, .. } = work(TapSide::Inbound, 0);
    TapLoss { tap, workload, side, at_least, window }
}

#[test]
fn each_request_is_told_of_as_often_as_it_passed() {
    let good = entries(inbound);
    assert!(judged(&good, tapped, &work(TapSide::Inbound, 2)).holds);
    assert!(!judged(&good, tapped, &work(TapSide::Inbound, 3)).holds, "there are two");
    assert!(!judged(&good, tapped, &work(TapSide::Outbound, 1)).holds, "nothing was told of them");
    let twice = entries(|log| {
        inbound(log);
        tell(log, "web-0", TapSide::Inbound, 3, 2);
    });
    let found = judged(&twice, tapped, &work(TapSide::Inbound, 1));
    assert_eq!(found.first.and_then(|first| first.request), Some(2));
    let torn = entries(|log| {
        inbound(log);
        log.events.pop();
    });
    assert!(!judged(&torn, tapped, &work(TapSide::Inbound, 1)).holds, "an end is missing");
}

#[test]
fn on_the_way_out_it_is_the_senders_proxy_that_tells() {
    let good = entries(|log| {
        for (stream, number) in [(0, 1), (1, 1), (2, 2)] {
            tell(log, "client-0", TapSide::Outbound, stream, number);
        }
    });
    assert!(judged(&good, tapped, &work(TapSide::Outbound, 2)).holds);
    assert!(!judged(&good, tapped, &work(TapSide::Inbound, 1)).holds);
}

#[test]
fn a_number_that_is_given_again_is_another_requests() {
    let again = entries(|log| {
        for number in [1, 2, 1] {
            tell(log, "web-0", TapSide::Inbound, 0, number);
        }
    });
    assert!(judged(&again, tapped, &work(TapSide::Inbound, 2)).holds);
}

#[test]
fn a_request_of_another_workload_or_of_none_is_a_stray() {
    assert!(judged(&entries(inbound), only, &of_work()).holds);
    assert!(!judged(&entries(|_| {}), only, &of_work()).holds, "nothing shows nothing");
    let stray = entries(|log| {
        inbound(log);
        tell(log, "web-0", TapSide::Inbound, 4, 3);
    });
    let found = judged(&stray, only, &of_work());
    assert_eq!(found.first.and_then(|first| first.request), Some(3));
    let unknown = entries(|log| {
        inbound(log);
        log.events[0].moment = TapMoment::Request(None);
    });
    assert!(!judged(&unknown, only, &of_work()).holds);
}

#[test]
fn what_is_not_told_of_is_told_to_be_lost() {
    assert!(judged(&entries(inbound), loss, &losing(0)).holds);
    assert!(!judged(&entries(inbound), loss, &losing(1)).holds, "nothing was lost");
    let partly = |lost: u64| {
        entries(move |log| {
            tell(log, "web-0", TapSide::Inbound, 0, 1);
            log.lost.insert("web-0".into(), lost);
        })
    };
    assert!(judged(&partly(2), loss, &losing(2)).holds);
    assert!(!judged(&partly(1), loss, &losing(1)).holds, "two were lost, and one was told");
}

#[test]
fn a_word_counts_when_it_was_said_and_a_refusal_only_where_nothing_was_told() {
    let at = Timestamp::from_millis(2_000);
    let said = entries(|log| log.said.push((at, "missing default/web-0: gone".to_owned())));
    let says =
        |text: &str, window| TapSays { tap: "tap".to_owned(), text: text.to_owned(), window };
    let early =
        Window { from: None, to: Some(crate::world::scenario::Span(at.since(Timestamp::ZERO))) };
    assert!(judged(&said, super::says, &says("web-0: gone", Window::default())).holds);
    assert!(!judged(&said, super::says, &says("web-0: gone", early)).holds);
    assert!(!judged(&said, super::says, &says("web-1", Window::default())).holds);

    let refusal = TapRefused { tap: "tap".to_owned(), text: "may tap".to_owned() };
    let refuse = |log: &mut TapLog| log.refused = Some("only another may tap here".to_owned());
    assert!(judged(&entries(refuse), refused, &refusal).holds);
    assert!(!judged(&entries(|_| {}), refused, &refusal).holds);
    let leaking = entries(|log| {
        refuse(log);
        inbound(log);
    });
    assert!(!judged(&leaking, refused, &refusal).holds);
}

#[test]
fn a_tap_that_was_never_answered_shows_nothing() {
    let entries = Entries::default();
    assert!(!judged(&entries, only, &of_work()).holds);
    assert!(!judged(&entries, loss, &losing(0)).holds);
    assert!(!judged(&entries, tapped, &work(TapSide::Inbound, 0)).holds);
}
