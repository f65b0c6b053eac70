//! The scenarios of this repository on both engines, and that a run is a function of its seed.

use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_sim::world::parse::{self, Scenario};
use runtime_sim::world::run::{EngineKind, Report, run};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name)
}

fn read(file: &Path) -> Scenario {
    match parse::load(file) {
        Ok(scenario) => scenario,
        Err(problems) => panic!("{problems:#?}"),
    }
}

fn files(name: &str) -> Vec<PathBuf> {
    let entries = directory(name).read_dir().expect("the directory is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn play(scenario: &Scenario, seed: u64, engine: EngineKind) -> Report {
    run(scenario, seed, engine, false).expect("a world")
}

fn assert_passed(report: &Report) {
    let broken: Vec<_> = report.expectations.iter().filter(|judged| !judged.holds).collect();
    assert!(
        report.passed,
        "{} with seed {} on {:?}: {broken:#?} {:?}",
        report.scenario, report.seed, report.engine, report.troubles
    );
}

#[test]
fn smoke_scenarios_pass_on_both_engines() {
    for file in files("smoke") {
        let scenario = read(&file);
        for engine in [EngineKind::Des, EngineKind::Turmoil] {
            assert_passed(&play(&scenario, scenario.spec.seeds.pinned[0], engine));
        }
    }
}

#[test]
fn a_fast_failing_replica_ends_below_its_fair_share() {
    let scenario = read(&directory("resilience/fast-failing-replica.yaml"));
    assert_passed(&play(&scenario, 1, EngineKind::Des));
}

#[test]
fn a_killed_replica_costs_at_most_the_requests_in_flight() {
    let scenario = read(&directory("resilience/killed-replica.yaml"));
    assert_passed(&play(&scenario, 1, EngineKind::Des));
}

#[test]
fn a_recovered_replica_is_back_near_its_share_within_five_seconds() {
    let scenario = read(&directory("resilience/recovered-replica.yaml"));
    assert_passed(&play(&scenario, 1, EngineKind::Des));
}

#[test]
fn every_scenario_file_can_be_read_and_is_named_as_its_scenario() {
    let directories = directory("").read_dir().expect("the library is there");
    let paths = directories.map(|entry| entry.expect("an entry").path());
    for library in paths.filter(|path| path.is_dir()) {
        for file in files(&library.display().to_string()) {
            let scenario = read(&file);
            assert!(!scenario.spec.expect.is_empty(), "{}", file.display());
            assert_eq!(file.file_stem(), Some(scenario.name.as_ref()), "{}", file.display());
        }
    }
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    for file in files("smoke") {
        let scenario = read(&file);
        let [one, again, other] = [1, 1, 2].map(|seed| play(&scenario, seed, EngineKind::Des));
        assert_eq!(one.trace_hash, again.trace_hash, "{}", scenario.name);
        assert_ne!(one.trace_hash, other.trace_hash, "{}", scenario.name);
    }
}

#[test]
fn equal_seeds_give_equal_runs_in_two_processes() {
    let once = || {
        let file = directory("smoke/controller-restart.yaml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft-sim"));
        let command = command.arg("run").arg(file).args(["--seed", "7", "-o", "json"]);
        let output = command.output().expect("weft-sim runs");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    assert_eq!(once(), once());
}

#[test]
fn runs_at_the_same_time_are_the_runs_that_they_are_alone() {
    let scenario = read(&directory("smoke/http1.yaml"));
    let hash = &|seed| play(&scenario, seed, EngineKind::Des).trace_hash;
    let alone = hash(3);
    let together = std::thread::scope(|scope| {
        let runs = [3, 4, 3].map(|seed| scope.spawn(move || hash(seed)));
        runs.map(|run| run.join().expect("no panic"))
    });
    assert_eq!([&together[0], &together[2]], [&alone, &alone]);
    assert_ne!(together[1], alone);
}

#[test]
fn nothing_but_hash_maps_asks_for_the_systems_randomness() {
    let scenario = read(&directory("smoke/http2.yaml"));
    let report = play(&scenario, 1, EngineKind::Des);
    assert!(report.system_draws <= 1, "{} draws", report.system_draws);
}

fn problems(text: &str) -> String {
    let problems = parse::read("bad.yaml", text).expect_err("the file is wrong");
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    problems.join("\n")
}

fn smoke_with(from: &str, to: &str) -> String {
    let file = directory("smoke/endpoint-removal.yaml");
    let text = std::fs::read_to_string(file).expect("the file is there");
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

#[test]
fn an_unknown_field_is_an_error_with_its_place() {
    let text = smoke_with("protocol: http1", "protocoll: http1");
    let misspelt = text.lines().position(|line| line.contains("protocoll"));
    let line = misspelt.expect("the misspelt line") + 1;
    let problems = problems(&text);
    let place = format!("bad.yaml:{line}:7: document 1: spec.workloads[0].protocoll: ");
    let told = problems.lines().find(|told| told.starts_with(&place));
    let told = told.unwrap_or_else(|| panic!("{problems}"));
    assert!(told.contains("unknown field `protocoll`; did you mean `protocol`?"), "{told}");
}

#[test]
fn an_unknown_field_of_a_deployment_is_an_error_with_its_place() {
    let problems = problems(&smoke_with("replicas: 3", "replica: 3"));
    assert!(problems.contains("bad.yaml:"), "{problems}");
    assert!(problems.contains("spec.replica: is not a field of a Deployment"), "{problems}");
}

#[test]
fn an_unknown_field_of_a_manifest_is_an_error_at_its_line_in_the_whole_file() {
    let text = smoke_with("kind: Service\n", "kind: Service\nspeck: {}\n");
    let line = text.lines().position(|line| line == "speck: {}").expect("there") + 1;
    let problems = problems(&text);
    assert!(problems.starts_with(&format!("bad.yaml:{line}:")), "{problems}");
    assert!(problems.contains("speck"), "{problems}");
}

#[test]
fn names_that_do_not_exist_are_errors_that_list_those_that_do() {
    let problems =
        problems(&smoke_with("delete: {object: Pod, name: web-1}", "restart: {target: w}"));
    assert!(problems.contains("there is no pod `w`"), "{problems}");
    assert!(problems.contains("web-0, web-1"), "{problems}");
}

#[test]
fn a_bad_duration_is_an_error_in_words() {
    let problems = problems(&smoke_with("duration: 12s", "duration: 12d"));
    assert!(problems.contains("`12d` has no unit of ns, us, ms, s, m or h"), "{problems}");
}

#[test]
fn exit_codes_tell_wrong_files_from_missing_ones_and_wrong_arguments() {
    let code = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft-sim"));
        let output = command.args(arguments).output().expect("weft-sim runs");
        output.status.code()
    };
    assert_eq!(code(&["run", "no-such-file.yaml"]), Some(66));
    assert_eq!(code(&["run", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]), Some(65));
    assert_eq!(code(&["run"]), Some(64));
    assert_eq!(code(&["--help"]), Some(0));
}
