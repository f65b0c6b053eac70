//! What workloads send, through two proxies, and what comes of it: each protocol, clients and
//! servers that misbehave, clients outside of the mesh.

use std::collections::BTreeMap;

use runtime_sim::world::parse;
use runtime_sim::world::run::{EngineKind, Report, WorkloadFigures, run};

/// A world of one client and one server.
struct World {
    workloads: String,
    image: &'static str,
    env: &'static str,
    client_inject: &'static str,
    server_inject: &'static str,
    faults: &'static str,
    manifests: &'static str,
    duration: &'static str,
    servers: u32,
}

impl World {
    /// Both meshed, with a workload `load` of these further fields.
    fn new(workload: &str) -> Self {
        let fields: String =
            workload.lines().map(|line| format!("      {}\n", line.trim())).collect();
        let workloads = format!(
            "    - name: load\n      from: client\n      to: web.shop.svc.cluster.local:80\n{fields}"
        );
        Self {
            workloads,
            image: "http",
            env: "{LATENCY: 5ms}",
            client_inject: "enabled",
            server_inject: "enabled",
            faults: "[]",
            manifests: "",
            duration: "6s",
            servers: 2,
        }
    }

    fn text(&self) -> String {
        let env = self.env.trim_matches(['{', '}']).split(", ").filter(|pair| !pair.is_empty());
        let env = env.map(|pair| pair.split_once(": ").expect("NAME: value"));
        let env: Vec<_> =
            env.map(|(name, value)| format!("{{name: {name}, value: '{value}'}}")).collect();
        let Self { workloads, image, client_inject, server_inject, faults, .. } = self;
        let Self { manifests, duration, servers, .. } = self;
        let env = env.join(", ");
        format!(
            "\
apiVersion: scenario.weft.sh/v1alpha1
kind: Scenario
metadata:
  name: workloads
spec:
  about: A test.
  duration: {duration}
  workloads:
{workloads}
  faults: {faults}
  expect:
    - requests: {{workload: load, at_least: 0}}
---
apiVersion: v1
kind: Namespace
metadata:
  name: shop
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: client
  namespace: shop
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: web
  namespace: shop
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: client
  namespace: shop
spec:
  replicas: 2
  selector:
    matchLabels: {{app: client}}
  template:
    metadata:
      labels: {{app: client}}
      annotations: {{linkerd.io/inject: {client_inject}}}
    spec:
      serviceAccountName: client
      containers:
        - name: client
          image: simulated/client
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  replicas: {servers}
  selector:
    matchLabels: {{app: web}}
  template:
    metadata:
      labels: {{app: web}}
      annotations: {{linkerd.io/inject: {server_inject}}}
    spec:
      serviceAccountName: web
      containers:
        - name: web
          image: simulated/{image}
          env: [{env}]
          ports:
            - name: main
              containerPort: 8080
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
spec:
  selector: {{app: web}}
  ports:
    - name: main
      port: 80
      targetPort: main
{manifests}"
        )
    }

    fn play_on(&self, engine: EngineKind) -> Report {
        let scenario = match parse::read("workloads.yaml", &self.text()) {
            Ok(scenario) => scenario,
            Err(problems) => panic!("{problems:#?}"),
        };
        let report = run(&scenario, 1, engine, false).expect("a world");
        assert_eq!(report.troubles, Vec::<String>::new());
        report
    }

    /// The figures of `load`, of a run that is the same when it is run again.
    fn play(&self) -> WorkloadFigures {
        let [one, again] = [(); 2].map(|()| self.play_on(EngineKind::Des));
        assert_eq!(one.trace_hash, again.trace_hash);
        one.workloads["load"].clone()
    }
}

fn ends(figures: &WorkloadFigures) -> Vec<(&str, u64)> {
    figures.ends.iter().map(|(end, count)| (end.as_str(), *count)).collect()
}

const EVERY_PROTOCOL: [(&str, &str, &str); 8] = [
    ("http", "protocol: http1", "200"),
    ("http", "protocol: h2", "200"),
    ("http", "protocol: grpc", "grpc 0"),
    ("http", "protocol: grpc\nstream: {kind: bidirectional, messages: 3, interval: 2ms}", "grpc 0"),
    ("http", "protocol: websocket\nstream: {messages: 3}", "101"),
    ("tcp", "protocol: tcp\nstream: {messages: 3}", "0"),
    ("server-first-tcp", "protocol: server-first-tcp", "0"),
    ("tls", "protocol: tls\nstream: {messages: 3}", "0"),
];

#[test]
fn every_protocol_passes_two_proxies_on_both_engines() {
    for (image, workload, end) in EVERY_PROTOCOL {
        let workload = format!("{workload}\narrivals: {{constant: {{rate: 10}}}}");
        let world = World { image, ..World::new(&workload) };
        assert_eq!(ends(&world.play()), [(end, 40)], "{workload}");
        let on_turmoil = world.play_on(EngineKind::Turmoil).workloads["load"].clone();
        assert_eq!(ends(&on_turmoil), [(end, 40)], "{workload}");
    }
}

#[test]
fn a_grpc_call_counts_its_messages_each_way() {
    for (kind, sent, received) in
        [("unary", 1, 1), ("server", 1, 4), ("client", 4, 1), ("bidirectional", 4, 4)]
    {
        let world = World::new(&format!(
            "protocol: grpc
            stream: {{kind: {kind}, messages: 4, interval: 10ms}}
            request: {{body: {{fixed: 2000}}, response: {{fixed: 40000}}}}
            requests: 5
            arrivals: {{constant: {{rate: 5}}}}"
        ));
        let figures = world.play();
        assert_eq!(ends(&figures), [("grpc 0", 5)], "{kind}");
        assert_eq!((figures.messages_sent, figures.messages_received), (5 * sent, 5 * received));
    }
}

#[test]
fn a_grpc_call_ends_with_its_servers_status() {
    let world = World::new("protocol: grpc\nrequests: 5\narrivals: {constant: {rate: 5}}");
    let figures = World { env: "{ERRORS: 503}", ..world }.play();
    assert_eq!(ends(&figures), [("grpc 14", 5)]);
}

#[test]
fn a_grpc_deadline_ends_a_call_that_takes_longer() {
    let world = World::new(
        "protocol: grpc
        request: {deadline: 200ms}
        requests: 5
        arrivals: {constant: {rate: 5}}",
    );
    let figures = World { env: "{LATENCY: 1s}", ..world }.play();
    assert_eq!(figures.succeeded, 0, "{:?}", figures.ends);
    assert_eq!(figures.ends.values().sum::<u64>(), 5);
}

#[test]
fn long_lived_streams_end_with_their_workload() {
    for (image, protocol) in [
        ("http", "grpc\nstream: {kind: bidirectional, interval: 100ms, lasts: 1h}"),
        ("http", "websocket\nstream: {interval: 100ms, lasts: 1h}"),
        ("tcp", "tcp\nstream: {interval: 100ms, lasts: 1h}"),
    ] {
        let workload = format!(
            "protocol: {protocol}\nrequests: 2\narrivals: {{burst: {{size: 2, every: 1s}}}}"
        );
        let figures = World { image, ..World::new(&workload) }.play();
        assert_eq!(figures.succeeded, 2, "{protocol}: {:?}", figures.ends);
        assert!((60..=90).contains(&figures.messages_sent), "{}", figures.messages_sent);
        assert_eq!(figures.messages_sent, figures.messages_received);
    }
}

#[test]
fn bodies_of_any_size_and_framing_arrive_whole() {
    for protocol in ["http1", "h2"] {
        for framing in ["length", "chunked"] {
            let sizes = "body: {uniform: {from: 0, to: 300000}}, \
                         response: {uniform: {from: 0, to: 600000}}";
            let request = format!(
                "{{method: PUT, path: '/some/where?x=1', headers: {{x-own: mine}}, \
                 framing: {framing}, response_framing: {framing}, {sizes}}}"
            );
            let world = World::new(&format!(
                "protocol: {protocol}
                arrivals: {{poisson: {{rate: 10}}}}
                request: {request}"
            ));
            let figures = world.play();
            assert!(figures.requests > 20, "{}", figures.requests);
            assert_eq!(ends(&figures), [("200", figures.requests)], "{protocol} {framing}");
        }
    }
}

#[test]
fn connections_are_kept_or_not() {
    for (protocol, pooled) in [("http1", 1), ("h2", 1)] {
        for (connections, expected) in [("pooled", pooled), ("per-request", 20)] {
            let figures = World::new(&format!(
                "protocol: {protocol}
                connections: {connections}
                requests: 20
                arrivals: {{constant: {{rate: 10}}}}"
            ))
            .play();
            assert_eq!(ends(&figures), [("200", 20)]);
            assert_eq!(figures.connections, expected, "{protocol} {connections}");
        }
    }
}

#[test]
fn every_pod_of_a_deployment_sends() {
    let world = World::new("protocol: h2\nsenders: all\narrivals: {ramp: {from: 0, to: 20}}");
    let figures = world.play();
    assert!((78..=82).contains(&figures.requests), "{}", figures.requests);
    assert_eq!(figures.succeeded, figures.requests);
}

#[test]
fn a_clients_retries_are_counted_as_attempts() {
    let world = World::new(
        "protocol: http1
        retries: {times: 3, backoff: 10ms}
        requests: 10
        arrivals: {constant: {rate: 5}}",
    );
    let figures = World { env: "{ERRORS: 503}", ..world }.play();
    assert_eq!((ends(&figures), figures.attempts), (vec![("503", 10)], 40));
}

/// How requests end, of a server that behaves so.
fn of_server(env: &'static str, workload: &str) -> BTreeMap<String, u64> {
    let arrivals = "requests: 10\narrivals: {constant: {rate: 5}}\ntimeout: 2s";
    World { env, ..World::new(&format!("{workload}\n{arrivals}")) }.play().ends
}

fn only(end: &str) -> BTreeMap<String, u64> {
    [(end.to_owned(), 10)].into()
}

#[test]
fn servers_that_misbehave_cost_their_own_requests_and_no_more() {
    // HTTP/2 tells a reset, and so does the mesh.
    for (protocol, reset) in [("protocol: http1", "502"), ("protocol: h2", "reset")] {
        assert_eq!(of_server("{SILENT: 1}", protocol), only("timed out"), "{protocol}");
        assert_eq!(of_server("{RESETS: 1}", protocol), only(reset), "{protocol}");
        assert_eq!(of_server("{STOPS_READING: true}", protocol), only("timed out"), "{protocol}");
        assert_eq!(of_server("{ANSWERS_EARLY: true}", protocol), only("200"), "{protocol}");
        assert_eq!(of_server("{CLOSE_AFTER: 2}", protocol), only("200"), "{protocol}");
        assert_eq!(of_server("{BODY_PAUSE: 100ms}", protocol), only("200"), "{protocol}");
    }
}

#[test]
fn requests_beyond_a_servers_concurrency_wait_in_line() {
    let world =
        World::new("protocol: http1\nrequests: 10\narrivals: {burst: {size: 10, every: 1m}}");
    let figures = World { env: "{CONCURRENCY: 1, LATENCY: 100ms}", servers: 1, ..world }.play();
    assert_eq!(ends(&figures), [("200", 10)]);
    assert!((500.0..620.0).contains(&figures.p50_ms), "{}", figures.p50_ms);
    assert!((1_000.0..1_150.0).contains(&figures.p99_ms), "{}", figures.p99_ms);
}

/// How requests of a client that misbehaves end, beside honest ones that must not suffer.
fn of_client(misbehave: &str, more: &str) -> BTreeMap<String, u64> {
    let honest = "
    - name: honest
      from: client
      to: web.shop.svc.cluster.local:80
      protocol: http1
      arrivals: {constant: {rate: 20}}
";
    let mut world = World::new(&format!(
        "protocol: http1
        misbehave: {misbehave}
        requests: 10
        timeout: 28s
        arrivals: {{constant: {{rate: 10}}}}
        {more}"
    ));
    world.workloads = world.workloads.trim_end().to_owned() + honest;
    let [one, again] = [(); 2].map(|()| world.play_on(EngineKind::Des));
    assert_eq!(one.trace_hash, again.trace_hash);
    assert_eq!(one.workloads["honest"].succeeded, 80, "{misbehave}");
    assert!(one.workloads["honest"].p99_ms < 100.0, "{misbehave}");
    one.workloads["load"].ends.clone()
}

#[test]
fn a_slow_loris_is_ended_by_the_proxy() {
    // Detection gives up after 10 s, and waiting for the head 10 s later.
    let ends = of_client("{slow_loris: {every: 500ms}}", "");
    assert_eq!(ends.values().sum::<u64>(), 10);
    assert!(!ends.contains_key("200") && !ends.contains_key("timed out"), "{ends:?}");
}

#[test]
fn a_client_that_stops_reading_holds_up_nobody_else() {
    let stop = of_client("{stop_reading: {requests: 3}}", "request: {response: {fixed: 5000000}}");
    assert_eq!(stop, only("timed out"));
}

#[test]
fn a_client_that_falls_silent_within_a_head_is_ended_by_the_proxy() {
    let ends = of_client("{half_open: {}}", "");
    assert!(!ends.contains_key("200") && !ends.contains_key("timed out"), "{ends:?}");
}

#[test]
fn idle_connections_are_kept() {
    let ends = of_client("{idle: {}}", "");
    assert_eq!(ends.values().sum::<u64>(), 10, "{ends:?}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let ends = of_client("{pipelining: {depth: 4}}", "");
    assert_eq!(ends, [("200".to_owned(), 40)].into());
}

#[test]
fn garbage_is_answered_or_ended() {
    let ends = of_client("{garbage: {bytes: 1000}}", "");
    assert!(!ends.contains_key("200") && !ends.contains_key("timed out"), "{ends:?}");
}

const DENY: &str = "\
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata:
  name: web
  namespace: shop
spec:
  podSelector:
    matchLabels: {app: web}
  port: main
";

#[test]
fn clients_outside_of_the_mesh_are_answered_in_plaintext() {
    for (image, workload, end) in EVERY_PROTOCOL {
        let workload = format!("{workload}\narrivals: {{constant: {{rate: 10}}}}");
        let world = World { image, client_inject: "disabled", ..World::new(&workload) };
        assert_eq!(ends(&world.play()), [(end, 40)], "unmeshed client, {workload}");
        let world = World { image, server_inject: "disabled", ..World::new(&workload) };
        assert_eq!(ends(&world.play()), [(end, 40)], "unmeshed server, {workload}");
    }
}

#[test]
fn the_denied_learn_it_as_their_protocol_can_tell() {
    for (image, workload, end) in [
        ("http", "protocol: http1", "403"),
        ("http", "protocol: h2", "403"),
        ("http", "protocol: grpc", "grpc 7"),
        ("http", "protocol: websocket", "403"),
        ("tcp", "protocol: tcp", "closed"),
        ("tls", "protocol: tls", "closed"),
    ] {
        let workload = format!("{workload}\nrequests: 10\narrivals: {{constant: {{rate: 10}}}}");
        let world = World { image, manifests: DENY, ..World::new(&workload) };
        assert_eq!(ends(&world.play()), [(end, 10)], "{workload}");
    }
}

#[test]
fn nobody_there_is_refused_and_unknown_names_are_unresolved() {
    let mut world = World::new("protocol: tcp\nrequests: 10\narrivals: {constant: {rate: 5}}");
    world.client_inject = "disabled";
    world.workloads = world.workloads.replace("local:80", "local:81");
    assert_eq!(ends(&world.play()).len(), 1, "{:?}", world.play().ends);
    world.workloads = world.workloads.replace("web.shop", "nobody.shop");
    assert_eq!(ends(&world.play()), [("unresolved", 10)]);
}

#[test]
fn a_program_that_is_ready_late_answers_late() {
    let world = World::new("protocol: tcp\nstart: 1s\narrivals: {constant: {rate: 10}}");
    let world = World { image: "tcp", env: "{READY_AFTER: 3s}", ..world };
    let world = World { client_inject: "disabled", server_inject: "disabled", ..world };
    let figures = world.play();
    assert_eq!(figures.ends["refused"], 20);
    assert_eq!(figures.ends["0"], 30);
}

#[test]
fn told_to_finish_a_graceful_program_finishes_and_another_dies() {
    let deletion = "[{at: 4500ms, do: {delete: {object: Pod, name: web-0}}}]";
    for (env, end) in [("{LATENCY: 1s}", "200"), ("{LATENCY: 1s, GRACEFUL: false}", "closed")] {
        let world = World::new(
            "protocol: http1\nrequests: 1\nstart: 4s\narrivals: {closed: {concurrency: 1}}",
        );
        let world = World { env, faults: deletion, servers: 1, ..world };
        let world = World { client_inject: "disabled", server_inject: "disabled", ..world };
        assert_eq!(ends(&world.play()), [(end, 1)], "{env}");
    }
}

#[test]
fn what_its_senders_end_leaves_is_abandoned() {
    let crash = "[{at: 3s, do: {crash: {target: client-0}}}]";
    let world = World::new("protocol: http1\nrequests: 1\narrivals: {closed: {concurrency: 1}}");
    let figures = World { env: "{LATENCY: 3s}", faults: crash, ..world }.play();
    assert_eq!(ends(&figures), [("abandoned", 1)]);
}
