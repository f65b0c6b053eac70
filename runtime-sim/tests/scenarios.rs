//! Smoke scenarios on both engines, and that a run is a function of its seed. The other scenarios are
//! played optimised, by the continuous integration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_sim::explain::explain;
use runtime_sim::pcap::{self, Packets};
use runtime_sim::timeline::svg;
use runtime_sim::trace::Packet;
use runtime_sim::world::parse::{self, Scenario};
use runtime_sim::world::run::{EngineKind, Keep, Report, observe, run};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name)
}

fn read(file: &Path) -> Scenario {
    match parse::load(file) {
        Ok(scenario) => scenario,
        Err(problems) => panic!("{problems:#?}"),
    }
}

/// The files of a directory and of those in it.
fn files(name: &str) -> Vec<PathBuf> {
    let entries = directory(name).read_dir().expect("the directory is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let below = paths.flat_map(|path| match path.is_dir() {
        true => files(&path.display().to_string()),
        false => vec![path],
    });
    let mut files: Vec<_> = below.collect();
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
fn every_scenario_file_can_be_read_and_is_named_as_its_scenario() {
    let directories = directory("").read_dir().expect("the library is there");
    let paths = directories.map(|entry| entry.expect("an entry").path());
    for library in paths.filter(|path| path.is_dir()) {
        for file in files(&library.display().to_string()) {
            let scenario = read(&file);
            assert!(!scenario.spec.expect.is_empty(), "{}", file.display());
            // Those for planted bugs are named as such.
            let name = scenario.name.trim_start_matches("planted-");
            assert_eq!(file.file_stem(), Some(name.as_ref()), "{}", file.display());
        }
    }
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    for name in ["http2", "controller-restart"] {
        let scenario = read(&directory(&format!("smoke/{name}.yaml")));
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
fn a_run_that_is_watched_closely_is_the_same_run_and_its_capture_is_whole() {
    let scenario = read(&directory("smoke/http1.yaml"));
    let packets = Packets::default();
    let keep =
        Keep { lines: 0..10, log: true, capture: Some(packets.capture()), ..Keep::default() };
    let run = observe(&scenario, 1, EngineKind::Des, &keep).expect("a world");
    assert_eq!(run.report.trace_hash, play(&scenario, 1, EngineKind::Des).trace_hash);
    assert!(run.log.iter().any(|line| &*line.host == "web-0" && line.message == "ready"));
    let (packets, left_out) = packets.take();
    assert_eq!(left_out, 0);
    let mut streams = BTreeMap::new();
    for packet in &packets {
        let next = streams.entry((packet.from, packet.to)).or_insert(packet.sequence);
        assert_eq!(packet.sequence, *next, "a gap in {packet:?}");
        *next += packet.payload.len() as u32 + u32::from(packet.flags.syn || packet.flags.fin);
    }
    assert!(streams.len() > 10);
    assert_tshark_understands(&packets);
    let story = explain(&run, &packets);
    assert!(story.starts_with("http1, seed 1: passed\n"), "{story}");
    assert!(story.ends_with("no request failed\n"), "{story}");
    let picture = svg(&run);
    assert!(picture.contains("web-0") && picture.ends_with("</svg>\n"));
}

/// Where tshark is installed: it has no fault to find.
fn assert_tshark_understands(packets: &[Packet]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    pcap::write(packets, None, &mut file).expect("it can be written");
    let tshark = |arguments: &[&str]| {
        let mut command = Command::new("tshark");
        let command = command.arg("-r").arg(file.path()).args(arguments);
        command.output().ok().map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(numbers) = tshark(&["-T", "fields", "-e", "frame.number"]) else {
        eprintln!("skipped: no tshark");
        return;
    };
    assert_eq!(numbers.lines().count(), packets.len());
    let checks = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y"];
    let faults =
        "tcp.checksum.status==0||ip.checksum.status==0||tcp.analysis.lost_segment||_ws.malformed";
    let found = tshark(&[&checks[..], &[faults]].concat());
    assert_eq!(found.as_deref(), Some(""));
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
