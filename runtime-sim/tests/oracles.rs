//! Oracles on whole worlds: what a good mesh shows, and what they say of one that is not.

use std::path::Path;

use runtime_sim::world::oracle::Judgement;
use runtime_sim::world::parse;
use runtime_sim::world::run::{EngineKind, Report, run};

/// Plays the smoke scenario of HTTP/1 with other expectations, and its text changed.
fn play(expect: &str, change: impl Fn(String) -> String) -> Report {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/smoke/http1.yaml");
    let text = std::fs::read_to_string(file).expect("the file is there");
    let (head, _) = text.split_once("  expect:\n").expect("expectations");
    let text = change(format!("{head}  expect:\n{expect}"));
    let scenario = match parse::read("planted.yaml", &text) {
        Ok(scenario) => scenario,
        Err(problems) => panic!("{problems:#?}"),
    };
    run(&scenario, 1, EngineKind::Des, false).expect("a world")
}

fn failing(report: &Report) -> Vec<&'static str> {
    let failing = report.expectations.iter().filter(|judgement| !judgement.passes());
    failing.map(|judgement| judgement.oracle).collect()
}

/// Ten seconds are short: what the first request to a replica took, with its connection, still
/// weighs at their end.
const ALL: &str = "    - metrics_agree: {}
    - identity: {workload: load}
    - retry_budget: {workload: load, at_most: 0.1}
    - eventually: {metric: outbound_http_balancer_p2c_endpoints, pod: client-0, equals: 2}
    - never: {metric: outbound_http_balancer_p2c_endpoints, at_least: 3}
    - bounded: {tasks_at_most: 200, sockets_at_most: 60, growth_at_most: 0.5}
    - in_flight: {workload: load, at_most: 20}
    - even_load: {workload: load, deployment: web, within: 0.3}
    - no_traffic_to_dead: {within: 1s}
";

#[test]
fn a_good_mesh_holds_what_is_expected_of_every_one() {
    let report = play(ALL, |text| text);
    assert!(report.passed, "{:#?}", report.expectations);
    let automatic = |judgement: &&Judgement| judgement.automatic;
    let automatic: Vec<_> = report.expectations.iter().filter(automatic).collect();
    let names: Vec<_> = automatic.iter().map(|judgement| judgement.oracle).collect();
    assert_eq!(names, ["no_panics", "memory", "conserved", "live", "no_leak", "no_plaintext"]);
}

#[test]
fn servers_outside_of_the_mesh_see_no_identity_and_the_marker_crosses_in_the_clear() {
    let expect = "    - no_plaintext: {between: all}\n    - identity: {workload: load}\n";
    let bare = |text: String| {
        assert!(text.contains("web: {"));
        text.replacen("web: {", "web: {meshed: false, ", 1)
    };
    let report = play(expect, bare);
    assert_eq!(failing(&report), ["no_plaintext", "identity"], "{:#?}", report.expectations);
    let firsts = report.expectations.iter().filter(|judgement| !judgement.passes());
    for judgement in firsts {
        let first = judgement.first.as_ref().expect("the first offence");
        assert!(first.pod.as_ref().is_some_and(|pod| pod.starts_with("web-")), "{first}");
    }
}

#[test]
fn what_was_relaxed_is_told_and_fails_no_run() {
    let expect = "    - relaxed: {oracle: live, because: its servers answer with errors}\n";
    let errors = |text: String| {
        let fault = "  faults:\n    - at: 0s\n      do:\n        errors: {target: web-0, status: 503}\n    \
                     - at: 0s\n      do:\n        errors: {target: web-1, status: 503}\n  expect:\n";
        text.replacen("  expect:\n", fault, 1)
    };
    let report = play(expect, errors);
    assert!(report.passed, "{:#?}", report.expectations);
    let live = report.expectations.iter().find(|judgement| judgement.oracle == "live");
    let live = live.expect("a judgement");
    assert!(!live.holds && live.relaxed.is_some() && live.first.is_some(), "{live:#?}");
}
