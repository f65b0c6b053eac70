//! How fast the simulator is: virtual seconds and simulated requests per real second, for meshes of
//! 10, 100 and 500 pods with the real proxy beside each and the real control plane.
//!
//! `cargo bench --profile simulation -p runtime-sim --bench simulator -- [PODS…] [--seconds N]`. Prints a table; judges
//! nothing, because wall-clock time is the machine's. Runs once per size: minutes at 500 pods.

use std::fmt::Write;
use std::time::Instant;

use runtime_sim::world::parse;
use runtime_sim::world::run::{EngineKind, run};

/// Pods of one service.
const REPLICAS: usize = 10;

fn main() {
    let (mut sizes, mut seconds) = (Vec::new(), 600);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let number = arguments.next().and_then(|number| number.parse().ok());
                seconds = number.expect("--seconds takes a number");
            }
            // What cargo itself adds.
            "--bench" => {}
            pods => sizes.push(pods.parse().expect("a number of pods")),
        }
    }
    if sizes.is_empty() {
        sizes = vec![10, 100, 500];
    }
    println!("| pods | virtual s | real s | virtual s per real s | requests per real s | events |");
    println!("|---|---|---|---|---|---|");
    for pods in sizes {
        println!("{}", measure(pods, seconds));
    }
}

fn measure(pods: usize, seconds: u64) -> String {
    let text = scenario(pods, seconds);
    let scenario = parse::read("bench.yaml", &text).unwrap_or_else(|problems| {
        panic!("the bench's scenario is wrong: {problems:?}");
    });
    let start = Instant::now();
    let report = run(&scenario, 1, EngineKind::Des, false).expect("a world");
    let real = start.elapsed().as_secs_f64();
    assert!(report.passed, "{:#?} {:?}", report.expectations, report.troubles);
    let requests: u64 = report.workloads.values().map(|workload| workload.requests).sum();
    let (virtual_s, events) = (report.virtual_seconds, report.events);
    format!(
        "| {pods} | {virtual_s:.0} | {real:.1} | {:.1} | {:.0} | {events} |",
        virtual_s / real,
        requests as f64 / real,
    )
}

/// Services of ten pods, and for each ten a client pod that sends ten requests a second, all meshed.
fn scenario(pods: usize, seconds: u64) -> String {
    let services = (pods / (REPLICAS + 1)).max(1);
    let replicas = (pods - services) / services;
    let mut workloads = String::new();
    let mut expectations = String::new();
    let mut objects = String::new();
    for service in 0..services {
        let _ = write!(
            workloads,
            "    - name: load-{service}\n      from: client-{service}\n      \
             to: web-{service}.default.svc.cluster.local:80\n      protocol: http1\n      \
             arrivals:\n        constant: {{rate: 10}}\n      start: 5s\n"
        );
        let _ = writeln!(
            expectations,
            "    - success_rate: {{workload: load-{service}, at_least: 0.99}}"
        );
        for (name, image, count) in
            [("client", "simulated/client", 1), ("web", "simulated/http", replicas)]
        {
            let _ = write!(objects, "{}", deployment(&format!("{name}-{service}"), image, count));
        }
        let _ = write!(
            objects,
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web-{service}\nspec:\n  \
             selector: {{app: web-{service}}}\n  ports:\n    - name: http\n      port: 80\n      \
             targetPort: http\n"
        );
    }
    format!(
        "apiVersion: scenario.weft.sh/v1alpha1\nkind: Scenario\nmetadata:\n  name: bench\nspec:\n  \
         about: A mesh at work.\n  duration: {seconds}s\n  workloads:\n{workloads}  \
         expect:\n{expectations}{objects}"
    )
}

fn deployment(name: &str, image: &str, replicas: usize) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n  \
         replicas: {replicas}\n  selector:\n    matchLabels: {{app: {name}}}\n  template:\n    \
         metadata:\n      annotations: {{linkerd.io/inject: enabled}}\n      \
         labels: {{app: {name}}}\n    spec:\n      containers:\n        - name: main\n          \
         image: {image}\n          ports:\n            - name: http\n              \
         containerPort: 8080\n"
    )
}
