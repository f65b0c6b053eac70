//! What wrong files are told, and that what is written is read as the same.

use std::path::Path;

use super::{load, read, read_with, schema};

const HEAD: &str = "\
apiVersion: scenario.weft.sh/v1alpha1
kind: Scenario
metadata: {name: test}
spec:
  about: A test.
  duration: 30s
  apps:
    client: {}
    web: {replicas: 2, serves: http}
  workloads:
    - name: load
      from: client
      to: web.default.svc.cluster.local:80
      protocol: http1
      arrivals: {constant: {rate: 10}}
  expect:
    - no_plaintext: {}
";

fn problems(text: &str) -> String {
    let problems = read("bad.yaml", text).expect_err("the file is wrong");
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    problems.join("\n")
}

/// What is told of a file with more of a `spec`.
fn with(more: &str) -> String {
    problems(&format!("{HEAD}{more}"))
}

#[test]
fn a_misspelt_field_and_all_else_that_is_wrong_is_told_at_once() {
    let text = HEAD
        .replace("duration: 30s", "duration: 30")
        .replace("replicas: 2", "replica: 2")
        .replace("protocol: http1", "protocol: http3")
        .replace("rate: 10", "rate: 0")
        .replace("      from: client\n", "");
    insta::assert_snapshot!(problems(&text), @r#"
    bad.yaml:6:13: document 1: spec.duration: is 30, not a string; write it as 250us or 1.5s or 2m
    bad.yaml:9:11: document 1: spec.apps.web.replica: unknown field `replica`; did you mean `replicas`? use one of: annotations, env, labels, latency, meshed, namespace, port, pre_stop, replicas, serves, service_annotations, target_port
    bad.yaml:11:7: document 1: spec.workloads[0]: `from` is missing; add `from`: A Deployment of this file
    bad.yaml:13:17: document 1: spec.workloads[0].protocol: `http3` is none of the choices; did you mean `http1`? use one of: http1, h2, grpc, websocket, tcp, server-first-tcp, tls
    bad.yaml:14:35: document 1: spec.workloads[0].arrivals.constant.rate: 0 is out of range; use 0.000001 or more
    "#);
}

#[test]
fn a_fault_that_does_not_exist_is_told_with_those_that_do() {
    insta::assert_snapshot!(
        with("  faults:\n    - {at: 5s, do: {crahs: {target: web-0}}}\n"),
        @r#"bad.yaml:19:21: document 1: spec.faults[0].do.crahs: there is no `crahs`; did you mean `crash`? use one of: crash, restart, pause, partition, latency, loss, bandwidth, reset, slow, errors, stop_reading, outage, watch_lag, watch_disconnect, relist, stale_list, write_conflicts, api_outage, lease_loss, rotate_issuer, rotate_trust_anchor, clock_skew, clock_drift, dns, rollout, scale, apply, delete, upgrade_proxy, node_loss, zone_loss"#
    );
}

#[test]
fn names_that_do_not_exist_are_told_with_those_that_do() {
    let faults = "  faults:
    - at: 1s
      do: {pause: {target: web-7}}
    - at: 2s
      do:
        partition:
          a: deployment/wbe
          b: zone/a
    - {at: 3s, do: {restart: {target: controller-1}}}
    - {at: 3s, do: {restart: {target: service/web}}}
";
    insta::assert_snapshot!(with(faults), @r#"
    bad.yaml:20:28: document 1: spec.faults[0].do.pause.target: there is no pod `web-7`; did you mean `web-0`? use one of: client-0, web-0, web-1
    bad.yaml:24:14: document 1: spec.faults[1].do.partition.a: there is no Deployment `wbe`; did you mean `web`? use one of: client, web
    bad.yaml:25:14: document 1: spec.faults[1].do.partition.b: there is no zone `a`; there is none to choose
    bad.yaml:26:39: document 1: spec.faults[2].do.restart.target: there is one controller; write `controller`
    bad.yaml:27:39: document 1: spec.faults[3].do.restart.target: `service/web` is no target: write a pod's name, deployment/NAME, deployment/NAME/N, node/NAME, zone/NAME, controller, controller-N, or all; correct it
    "#);
}

#[test]
fn what_cannot_be_is_told_where_it_stands() {
    let more = "  faults:
    - {id: a, at: 40s, do: {pause: {target: web-0}}}
    - {id: a, at: 1s, for: 2s, do: {restart: {target: web-0}}}
    - {at: 1s, for: 5s, every: 4s, do: {pause: {target: web-0}}}
    - {at: 1s, times: 3, do: {relist: {}}}
    - {at: 1s, do: {crash: {target: web-0, how: power, process: app}}}
    - {at: 1s, do: {latency: {a: web-0, by: 20ms}}, for: 0s}
    - {at: 1s, do: {partition: {a: web-0, b: web-0}}}
    - {at: 1s, do: {clock_skew: {target: web-0}}}
    - {at: 1s, do: {apply: {manifest: 'kind: Nonsense'}}}
  seeds: []
  topology: {zones: {a: [n], b: [n]}}
  random_faults: {classes: [], interval: 1s, heal_by: 1s}
";
    let schema_first = with(more);
    insta::assert_snapshot!(schema_first, @r#"
    bad.yaml:27:39: document 1: spec.faults[8].do.apply.manifest: manifest:1:1: document 1: apiVersion: is missing; say which object this is, or keep the file elsewhere; lines are counted in the manifest
    bad.yaml:30:28: document 1: spec.random_faults.classes: is empty; name at least one
    "#);
    let more = more.replace("classes: []", "classes: [crash]");
    let start = more.find("    - {at: 1s, do: {apply").expect("there");
    let end = more.find("  seeds").expect("there");
    let more = format!("{}{}", &more[..start], &more[end..]);
    insta::assert_snapshot!(with(&more), @r#"
    bad.yaml:19:19: document 1: spec.faults[0].at: 40s is after the end at 30s; make it earlier, or the duration longer
    bad.yaml:20:12: document 1: spec.faults[1].id: a second fault has the id `a`; give it another name
    bad.yaml:20:28: document 1: spec.faults[1].for: it happens at a moment and has no end; remove `for`
    bad.yaml:21:32: document 1: spec.faults[2].every: it lasts until it begins again; make it longer than `for`
    bad.yaml:22:23: document 1: spec.faults[3].times: how often, but not how soon; add `every`
    bad.yaml:23:65: document 1: spec.faults[4].do.crash.process: a host loses its power as a whole, not one process; remove `process`
    bad.yaml:24:58: document 1: spec.faults[5].for: it ends when it begins; make it longer
    bad.yaml:25:32: document 1: spec.faults[6].do.partition: `web-0` has no link to itself; name two targets, or leave out `b`
    bad.yaml:26:33: document 1: spec.faults[7].do.clock_skew: a clock is ahead or behind; write one of `ahead` and `behind`
    bad.yaml:27:10: document 1: spec.seeds: no seed is pinned; name one that is always played: [1]
    bad.yaml:28:34: document 1: spec.topology.zones.b[0]: node `n` stands twice; name each node once
    bad.yaml:29:60: document 1: spec.random_faults.heal_by: all has healed before they begin at 2s; make it later
    "#);
}

#[test]
fn windows_and_bounds_are_checked_in_every_expectation() {
    let text = HEAD.replace(
        "    - no_plaintext: {}\n",
        "    - success_rate: {workload: load, at_least: 1.5}\n    - failures: {workload: lode, \
         at_most: 1, window: {from: 5s, to: 2s}}\n",
    );
    insta::assert_snapshot!(problems(&text), @r#"
    bad.yaml:17:48: document 1: spec.expect[0].success_rate.at_least: 1.5 is out of range; use 0 to 1
    bad.yaml:18:28: document 1: spec.expect[1].failures.workload: there is no workload `lode`; did you mean `load`? the only choice is load
    "#);
    let text = text.replace("1.5", "0.5").replace("lode", "load");
    insta::assert_snapshot!(problems(&text), @r#"bad.yaml:18:69: document 1: spec.expect[1].failures.window.to: the window ends at 2s, before it begins at 5s; make it later"#);
}

#[test]
fn what_is_no_yaml_is_told_by_the_parser() {
    insta::assert_snapshot!(problems(&HEAD.replace("metadata: {", "metadata: [")), @r#"bad.yaml:3:22: document 1: did not find expected ',' or ']' at line 3 column 22, while parsing a flow sequence; correct it; nothing is run until then"#);
    insta::assert_snapshot!(problems("kind: [\n"), @r#"bad.yaml:1:7: document 1: kind: invalid type: sequence, expected a string; correct it; nothing of this file is used until then"#);
    insta::assert_snapshot!(problems("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"), @r#"bad.yaml:1:1: document 1: no Scenario in this file; correct it; nothing is run until then"#);
    let twice = format!("{HEAD}  about: Again.\n");
    insta::assert_snapshot!(problems(&twice), @r#"bad.yaml:5:3: document 1: spec: duplicate entry with key "about"; correct it; nothing is run until then"#);
}

#[test]
fn included_files_are_named_where_they_are_wrong() {
    let text = format!("{HEAD}  include: [good.yaml, bad.yaml, none.yaml, self.yaml]\n");
    let open = |name: &str| match name {
        "good.yaml" => Ok("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_owned()),
        "bad.yaml" => Ok("apiVersion: v1\nkind: Namespace\nspeck: {}\n".to_owned()),
        "self.yaml" => Ok(HEAD.to_owned()),
        _ => Err("no such file".to_owned()),
    };
    let problems = read_with("main.yaml", &text, &open).expect_err("wrong");
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(problems.join("\n"), @r#"
    bad.yaml:3:1: document 1: speck: is not a field of this object; correct its name or remove it
    main.yaml:18:34: document 1: spec.include[2]: `none.yaml` cannot be opened: no such file; paths are relative to this file
    main.yaml:18:45: document 1: spec.include[3]: `self.yaml` holds a Scenario; include files of manifests only
    "#);
    let text = format!("{HEAD}  include: [good.yaml]\n");
    let scenario = read_with("main.yaml", &text, &open).expect("a scenario");
    assert_eq!(scenario.manifests.len(), 1);
    assert!(scenario.spec.include.is_empty());
}

fn scenario_files() -> Vec<std::path::PathBuf> {
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in directory.read_dir().expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.extension() {
                _ if path.is_dir() => directories.push(path),
                Some(extension) if extension == "yaml" => files.push(path),
                _ => {}
            }
        }
    }
    assert!(!files.is_empty());
    files
}

#[test]
fn every_scenario_of_this_repository_is_written_as_it_was_read() {
    for file in scenario_files() {
        // Files that others include hold no Scenario.
        let Ok(scenario) = load(&file) else {
            assert!(file.iter().any(|part| part == "common"), "{}", file.display());
            continue;
        };
        let text = scenario.to_yaml();
        let again = read("written.yaml", &text).unwrap_or_else(|p| panic!("{p:#?}\n{text}"));
        assert_eq!(again, scenario, "{}", file.display());
    }
}

#[test]
fn the_schema_beside_the_scenarios_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/schema.json");
    let made = serde_json::to_string_pretty(&schema()).expect("JSON") + "\n";
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let remedy = "write it with `weft-sim schema > scenarios/schema.json`";
    assert!(known == made, "scenarios/schema.json is out of date: {remedy}");
}
