//! A few planted bugs, each found by its oracle and by the seed that passes without it. All of them are
//! hunted by `weft-sim planted`.

use std::path::Path;

use runtime_sim::world::parse;
use runtime_sim::world::planted::{BUGS, Bug, run_with};
use runtime_sim::world::run::Report;

fn bug(name: &str) -> Bug {
    *BUGS.iter().find(|bug| bug.name == name).expect("a bug of the table")
}

/// Plays the bug's scenario without it and with it.
fn play(bug: Bug) -> [Report; 2] {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/planted");
    let file = directory.join(bug.scenario).with_extension("yaml");
    let scenario = parse::load(&file).expect("a scenario");
    [None, Some(&bug)].map(|bug| run_with(bug, &scenario, 1).expect("a world"))
}

fn assert_found(name: &str) {
    let bug = bug(name);
    let [sound, broken] = play(bug);
    let failed = |report: &Report| -> Vec<_> {
        let judged = report.expectations.iter().filter(|judged| !judged.passes());
        judged.map(|judged| format!("{}: {}", judged.oracle, judged.found)).collect()
    };
    assert!(sound.passed, "{name}, not planted: {:?} {:?}", failed(&sound), sound.troubles);
    let found = failed(&broken).iter().any(|text| text.starts_with(bug.oracle));
    assert!(found, "{name}: {:?}", failed(&broken));
}

#[test]
fn a_server_that_is_somebody_else_is_found() {
    assert_found("server-identity-unchecked");
}

#[test]
fn plaintext_in_place_of_tls_is_found() {
    assert_found("plaintext-fallback");
}

#[test]
fn a_forgotten_deadline_is_found() {
    assert_found("deadline-forgotten");
}

#[test]
fn trailers_that_are_lost_are_found() {
    assert_found("trailers-lost");
}

#[test]
fn what_a_tap_tells_too_much_of_or_not_at_all_is_found() {
    assert_found("tap-client-unchecked");
    assert_found("tap-loss-untold");
    assert_found("tap-sees-unmatched");
}

#[test]
fn every_bug_has_a_scenario() {
    for bug in BUGS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/planted");
        let file = directory.join(bug.scenario).with_extension("yaml");
        let scenario = parse::load(&file).expect("a scenario");
        let defaults = ["conserved", "no_plaintext", "no_leak", "live"];
        let expected = scenario.spec.expect.iter().any(|e| e.name() == bug.oracle);
        assert!(expected || defaults.contains(&bug.oracle), "{}: {}", bug.name, bug.oracle);
    }
}
