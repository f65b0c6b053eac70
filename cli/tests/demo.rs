//! The demo as its users run it: real processes, real sockets, real time.
//!
//! Cargo builds `weft-proxy` from inside of these tests, as it does for `cargo run -- demo`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn demo(directory: &Path, run_for: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["demo", "--output", "json", "--rate", "20", "--for", run_for])
        .arg("--directory")
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("to start weft")
}

/// Waits until the client, which starts last, has started: traffic flows.
fn wait_for_traffic(demo: &mut Child, directory: &Path) {
    // Cargo may have to build the proxy first.
    let patience = Instant::now() + Duration::from_secs(600);
    while !directory.join("load-1.log").exists() {
        assert!(demo.try_wait().expect("to ask").is_none(), "it has ended");
        assert!(Instant::now() < patience, "no traffic");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn report(demo: Child) -> Value {
    let output = demo.wait_with_output().expect("to wait");
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The processes whose arguments or environment name the directory.
fn processes_of(directory: &Path) -> Vec<(i32, String)> {
    let directory = directory.to_str().expect("a plain name");
    let entries = fs::read_dir("/proc").expect("a /proc").flatten();
    let found = entries.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let environment = read("environ");
        let environment = String::from_utf8_lossy(&environment);
        (arguments.contains(directory) || environment.contains(directory))
            .then_some((pid, arguments))
    });
    found.collect()
}

fn every_edge_is_whole_and_secured(report: &Value) {
    let edges = report["edges"].as_array().expect("edges");
    assert_eq!(edges.len(), 4, "{report:#}");
    for edge in edges {
        let requests = edge["requests"].as_u64();
        assert_eq!(edge["secured"], true, "{report:#}");
        assert_eq!(edge["success_rate"], 1.0, "{report:#}");
        assert!(requests.is_some_and(|n| n > 0), "{report:#}");
        assert!(edge["latency_ms"]["p50"].is_number(), "{report:#}");
    }
}

#[test]
fn the_demo_shows_a_secured_mesh_and_leaves_nothing_running() {
    let directory = tempfile::tempdir().expect("a directory");
    let report = report(demo(directory.path(), "3s"));
    every_edge_is_whole_and_secured(&report);
    let proxies = report["proxies"].as_array().expect("proxies");
    assert_eq!(proxies.len(), 9);
    let rss = |proxy: &Value| proxy["rss_bytes"].as_u64();
    assert!(proxies.iter().all(|p| rss(p).is_some_and(|n| n > 0)));
    assert_eq!(processes_of(directory.path()), []);
}

#[test]
fn no_request_fails_while_the_controller_is_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut demo = demo(directory.path(), "12s");
    wait_for_traffic(&mut demo, directory.path());
    std::thread::sleep(Duration::from_secs(3));
    let processes = processes_of(directory.path());
    let controllers: Vec<i32> = processes
        .iter()
        .filter(|(_, arguments)| arguments.contains("weft controller"))
        .map(|(pid, _)| *pid)
        .collect();
    assert_eq!(controllers.len(), 1, "{processes:?}");
    let pid = controllers[0].to_string();
    let killed = Command::new("kill").args(["-9", &pid]).status();
    assert!(killed.expect("a kill command").success());
    every_edge_is_whole_and_secured(&report(demo));
    assert_eq!(processes_of(directory.path()), []);
}

#[test]
fn the_demo_killed_takes_its_processes_with_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut demo = demo(directory.path(), "600s");
    wait_for_traffic(&mut demo, directory.path());
    demo.kill().expect("to kill");
    demo.wait().expect("to wait");
    // The kernel's signal needs a moment; a process that did not get it would stay for ever.
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        let left = processes_of(directory.path());
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < patience, "{left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
