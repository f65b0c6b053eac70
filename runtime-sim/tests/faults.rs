//! Each fault of the language, carried out in a small world.

use runtime_sim::world::parse;
use runtime_sim::world::run::{EngineKind, Report, run};

/// Plays ten seconds of requests, with a fault from the fourth to the sixth.
fn play(fault: &str, more: &str) -> Report {
    let text = format!(
        "
apiVersion: scenario.weft.sh/v1alpha1
kind: Scenario
metadata: {{name: fault}}
spec:
  about: One fault.
  duration: 10s
  apps:
    client: {{}}
    web: {{replicas: 2, serves: http, latency: 5ms}}
  workloads:
    - name: load
      from: client
      to: web.default.svc.cluster.local:80
      protocol: http1
      arrivals: {{constant: {{rate: 50}}}}
      connections: per-request
      timeout: 500ms
  faults:
    - {fault}
  expect:
    - requests: {{workload: load, at_least: 100}}
    - success_rate: {{workload: load, at_least: 1.0, window: {{to: 4s}}}}
    - success_rate: {{workload: load, at_least: 0.99, window: {{from: 8s}}}}
{more}"
    );
    let scenario = parse::read("fault.yaml", &text).unwrap_or_else(|p| panic!("{p:#?}"));
    run(&scenario, 1, EngineKind::Des, false).unwrap_or_else(|error| panic!("{error}"))
}

fn assert_holds(report: &Report) {
    assert!(report.passed, "{:#?} {:?}", report.expectations, report.troubles);
}

/// That the fault was felt while it lasted, and was over afterwards.
fn assert_felt(fault: &str) {
    let felt = "    - success_rate: {workload: load, at_least: 1.0, window: {from: 4s, to: 6s}}\n    - \
                latency: {workload: load, quantile: 0.9, at_most: 60ms, window: {from: 4s, to: 6s}}\n";
    let report = play(fault, felt);
    let [.., after, rate, latency] = written(&report);
    assert!(!rate || !latency, "{fault}: not felt: {:#?}", report.expectations);
    assert!(after, "{fault}: not over: {:#?}", report.expectations);
    assert!(report.troubles.is_empty(), "{fault}: {:?}", report.troubles);
}

/// Whether the five expectations that stand in the file hold.
fn written(report: &Report) -> [bool; 5] {
    let holds: Vec<_> = report.expectations.iter().map(|judged| judged.holds).take(5).collect();
    holds.try_into().expect("five expectations")
}

#[test]
fn faults_of_links_are_felt_while_they_last() {
    for fault in [
        "{at: 4s, for: 2s, do: {partition: {a: deployment/web}}}",
        "{at: 4s, for: 2s, do: {partition: {a: client-0, b: deployment/web, one_way: true}}}",
        "{at: 4s, for: 2s, do: {latency: {a: client-0, by: 80ms, jitter: 10ms}}}",
        "{at: 4s, for: 2s, do: {loss: {a: client-0, b: deployment/web, rate: 0.1}}}",
        "{at: 4s, for: 2s, do: {bandwidth: {a: client-0, b: all, limit: 20kbit}}}",
    ] {
        assert_felt(fault);
    }
}

#[test]
fn faults_of_programs_are_felt_while_they_last() {
    for fault in [
        "{at: 4s, for: 2s, do: {crash: {target: deployment/web}}}",
        "{at: 4s, for: 2s, do: {crash: {target: deployment/web, how: hang}}}",
        "{at: 4s, for: 2s, do: {pause: {target: deployment/web}}}",
        "{at: 4s, for: 1s, do: {upgrade_proxy: {target: client-0}}}",
        "{at: 4s, for: 2s, do: {slow: {target: all, by: 200ms}}}",
        "{at: 4s, for: 2s, do: {errors: {target: deployment/web, status: 500, rate: 0.5}}}",
    ] {
        assert_felt(fault);
    }
}

#[test]
fn faults_that_a_mesh_bears_are_not_felt() {
    for fault in [
        "{at: 4s, for: 2s, do: {clock_skew: {target: all, ahead: 10s}}}",
        "{at: 4s, for: 2s, do: {clock_drift: {target: web-0, ppm: 500}}}",
        "{at: 4s, for: 2s, do: {api_outage: {}}}",
        "{at: 4s, for: 2s, do: {watch_lag: {by: 1s}}}",
        "{at: 4s, do: {watch_disconnect: {}}}",
        "{at: 4s, do: {relist: {}}}",
        "{at: 4s, for: 2s, do: {stale_list: {by: 1s}}}",
        "{at: 4s, for: 2s, do: {partition: {a: controller}}}",
        "{at: 4s, for: 2s, do: {outage: {component: destination}}}",
        "{at: 4s, for: 2s, do: {outage: {component: identity, how: silence}}}",
        "{at: 4s, do: {rollout: {deployment: web}}}",
        "{at: 4s, for: 2s, do: {scale: {deployment: web, replicas: 5}}}",
    ] {
        let all = "    - success_rate: {workload: load, at_least: 1.0}\n";
        assert_holds(&play(fault, all));
    }
}

#[test]
fn names_that_are_not_resolved_fail_those_who_ask() {
    assert_felt("{at: 4s, for: 2s, do: {dns: {target: client-0, how: silence}}}");
}

#[test]
fn random_faults_are_a_function_of_the_seed_and_play_as_they_are_written_out() {
    let text = include_str!("chaos.yaml");
    let scenario = parse::read("chaos.yaml", text).unwrap_or_else(|p| panic!("{p:#?}"));
    let drawn = parse::read("drawn.yaml", &scenario.materialise(3).to_yaml());
    let drawn = drawn.unwrap_or_else(|p| panic!("{p:#?}"));
    let [one, other] = [&scenario, &drawn].map(|scenario| {
        run(scenario, 3, EngineKind::Des, false).unwrap_or_else(|error| panic!("{error}"))
    });
    assert_eq!(one.trace_hash, other.trace_hash);
    assert!(one.troubles.is_empty(), "{:?}", one.troubles);
}

#[test]
fn what_an_engine_cannot_play_is_refused_before_anything_runs() {
    let text = include_str!("chaos.yaml");
    let scenario = parse::read("chaos.yaml", text).unwrap_or_else(|p| panic!("{p:#?}"));
    let refused = run(&scenario, 3, EngineKind::Turmoil, false).expect_err("turmoil cannot");
    assert!(refused.contains("cannot be played on the turmoil engine"), "{refused}");
}
