//! The simulated cluster on whole worlds: several controllers, what probes find, clients that are
//! started again, StatefulSets.

use runtime_sim::world::parse;
use runtime_sim::world::run::{EngineKind, Report, run};

/// A world of a client and two servers that answer after 5 ms.
fn text(spec: &str) -> String {
    format!(
        "\
apiVersion: scenario.weft.sh/v1alpha1
kind: Scenario
metadata: {{name: cluster}}
spec:
  about: A test.
  apps:
    client: {{}}
    web: {{replicas: 2, serves: http, latency: 5ms}}
{spec}
"
    )
}

const LOAD: &str = "  workloads:
    - {name: load, from: client, to: 'web.default.svc.cluster.local:80', protocol: http1,
       start: 500ms, senders: all, arrivals: {constant: {rate: 10}}}";

fn play(spec: &str) -> Report {
    let text = text(&format!("{spec}\n{LOAD}"));
    let scenario = match parse::read("cluster.yaml", &text) {
        Ok(scenario) => scenario,
        Err(problems) => panic!("{problems:#?}"),
    };
    run(&scenario, 1, EngineKind::Des, false).expect("a world")
}

fn assert_passed(report: &Report) {
    let broken: Vec<_> = report.expectations.iter().filter(|judged| !judged.passes()).collect();
    assert!(report.passed, "{broken:#?} {:?} {:?}", report.troubles, report.workloads);
}

#[test]
fn another_controller_goes_on_where_one_ends() {
    let report = play(
        "
  duration: 9s
  topology: {controllers: 2, zones: {a: ['1'], b: ['2']}}
  faults:
    - {at: 2s, do: {crash: {target: controller-0}}}
    - {at: 5s, do: {scale: {deployment: web, replicas: 3}}}
  expect:
    - success_rate: {workload: load, at_least: 1.0}
    - identity: {workload: load}
    - load_share: {workload: load, pod: web-2, at_least: 0.1, window: {from: 8s, to: 9s}}",
    );
    assert_passed(&report);
}

#[test]
fn controllers_may_all_be_away_and_come_back_one_by_one() {
    let report = play(
        "
  duration: 22s
  topology: {controllers: 2}
  faults:
    - {at: 2s, for: 4s, do: {crash: {target: controller-0, how: power}}}
    - {at: 2s, do: {partition: {a: controller-1}}}
    - {at: 3s, do: {scale: {deployment: web, replicas: 3}}}
  expect:
    - success_rate: {workload: load, at_least: 1.0}
    - load_share: {workload: load, pod: web-2, at_least: 0.1, window: {from: 20s, to: 22s}}",
    );
    assert_passed(&report);
}

#[test]
fn a_crashed_pod_leaves_its_services_and_comes_back() {
    let endpoints = |at_most: &str| {
        format!(
            "
    - eventually: {{metric: outbound_http_balancer_p2c_endpoints, pod: client-0, {at_most}}}"
        )
    };
    let report = play(&format!(
        "
  duration: 8s
  faults:
    - {{at: 2s, for: 3s, do: {{crash: {{target: web-1}}}}}}
  expect:
    - no_traffic_to_dead: {{within: 1s}}
    - load_share: {{workload: load, pod: web-1, at_least: 0.2, window: {{from: 7s, to: 8s}}}}{}",
        endpoints("equals: 1")
    ));
    assert_passed(&report);
    let report = play(&format!(
        "
  duration: 6s
  topology: {{readiness: none}}
  faults:
    - {{at: 2s, do: {{crash: {{target: web-1}}}}}}
  expect:{}
    - never: {{metric: outbound_http_balancer_p2c_endpoints, pod: client-0, equals: 1}}",
        endpoints("equals: 2")
    ));
    assert_passed(&report);
}

#[test]
fn a_pod_without_a_certificate_is_not_ready() {
    let report = play(
        "
  duration: 16s
  faults:
    - {at: 1s, for: 4s, do: {crash: {target: controller}}}
    - {at: 2s, do: {rollout: {deployment: web}}}
  expect:
    - success_rate: {workload: load, at_least: 1.0}
    - load_share: {workload: load, pod: web-2, at_most: 0.0, window: {from: 0s, to: 5s}}
    - load_share: {workload: load, pod: web-2, at_least: 0.1, window: {from: 14s, to: 16s}}",
    );
    assert_passed(&report);
}

#[test]
fn clients_that_are_started_again_or_made_later_send() {
    let report = play(
        "
  duration: 8s
  faults:
    - {at: 2s, for: 1s, do: {crash: {target: client-0}}}
    - {at: 4s, do: {scale: {deployment: client, replicas: 2}}}
  expect:
    - requests: {workload: load, at_least: 95}
    - success_rate: {workload: load, at_least: 1.0, window: {from: 4s, to: 8s}}",
    );
    assert_passed(&report);
    let sent = report.workloads["load"].requests;
    assert!((95..=106).contains(&sent), "{sent} requests, of 6.5 s of one and 3.5 s of another");
}

#[test]
fn a_client_that_is_told_to_finish_finishes_what_it_has_begun() {
    let report = play(
        "
  duration: 8s
  faults:
    - {at: 2s, do: {rollout: {deployment: client}}}
  expect:
    - success_rate: {workload: load, at_least: 1.0}
    - conserved: {workload: load}",
    );
    assert_passed(&report);
}

#[test]
fn a_stateful_set_is_read_written_and_played() {
    let set = "
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: default}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}, annotations: {linkerd.io/inject: enabled}}
    spec:
      containers: [{name: db, image: simulated/http, ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: http, port: 8080, targetPort: http}]
";
    let spec = "  duration: 5s
  workloads:
    - {name: load, from: client, to: 'db-1.db.default.svc.cluster.local:8080', protocol: http1,
       arrivals: {constant: {rate: 10}}}
  faults:
    - {at: 2s, do: {restart: {target: db-0}}}
  expect:
    - load_share: {workload: load, pod: db-1, at_least: 1.0}
    - success_rate: {workload: load, at_least: 1.0}";
    let text = format!("{}{set}", text(spec));
    let scenario = parse::read("set.yaml", &text).expect("a scenario");
    assert_eq!(parse::read("set.yaml", &scenario.to_yaml()), Ok(scenario.clone()));
    assert_passed(&run(&scenario, 1, EngineKind::Des, false).expect("a world"));
    let faults = parse::read("set.yaml", &text.replace("serviceName", "service"));
    let faults = faults.expect_err("a misspelt field");
    assert!(faults[0].to_string().contains("spec.service: is not a field of a StatefulSet"));
}
