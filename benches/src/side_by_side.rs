//! Figures of a run of `peers/run.py`: the proxy beside the floor and Envoy, in the same run, in network
//! namespaces. Ratios only, and memory: times of a machine that others use say nothing.
//!
//! Statistic: a ratio is taken within a round, in which the proxies run one after the other, and the
//! median over rounds counts, so that what else the machine does is in both sides of each ratio and a
//! round that was disturbed is left out. A figure that is over its gate then is measured anew, over three
//! times as many rounds: that one counts, whatever it is.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const ROUNDS: u32 = 7;
const SECS: &str = "1";

/// The groups of cells, and which figures each gives, by how their names begin.
const GROUPS: [(&str, &[&str]); 4] = [
    ("cpu", &["cpu_ratio", "rss_kb", "added_p99"]),
    ("max", &["saturated"]),
    ("tcp", &["opaque"]),
    ("start", &["start_to_ready"]),
];

/// Figures by name.
type Figures = Vec<(String, f64)>;

/// Measures. `is_over`: whether a figure is over its gate. `Err` of [`io::ErrorKind::Unsupported`] where
/// it cannot run here, with the reason.
///
/// # Errors
/// As above, or as the system's.
pub fn measure(is_over: impl Fn(&str, f64) -> bool) -> io::Result<Figures> {
    let all: Vec<&str> = GROUPS.iter().map(|(group, _)| *group).collect();
    let summary = run(&all, ROUNDS)?;
    if let Some(cell) = missing(&summary) {
        return Err(io::Error::other(format!("{cell}: failed in every round")));
    }
    let mut figures = figures(&summary);
    let over = figures.iter().filter(|(name, value)| is_over(name, *value));
    let over: BTreeSet<&str> = over.filter_map(|(name, _)| group_of(name)).collect();
    if !over.is_empty() {
        let over: Vec<&str> = over.into_iter().collect();
        let told = over.join(", ");
        eprintln!("over a gate in {ROUNDS} rounds; again in {}: {told}", 3 * ROUNDS);
        let again = self::figures(&run(&over, 3 * ROUNDS)?);
        figures.retain(|(name, _)| again.iter().all(|(of, _)| of != name));
        figures.extend(again);
    }
    Ok(figures)
}

fn group_of(figure: &str) -> Option<&'static str> {
    let gives = |begins: &[&str]| begins.iter().any(|begin| figure.starts_with(begin));
    GROUPS.iter().find(|(_, begins)| gives(begins)).map(|(group, _)| *group)
}

/// Runs it, and gives its summary.
fn run(groups: &[&str], rounds: u32) -> io::Result<Value> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/run.py");
    let target = std::env::current_exe()?;
    let target = target.ancestors().nth(2).unwrap_or(Path::new("target"));
    let run = Command::new("python3")
        .arg(program)
        .args([
            "weft,floor,envoy,direct",
            "--only",
            &groups.join(","),
            "--rounds",
            &rounds.to_string(),
            "--secs",
            SECS,
        ])
        .args(["--minutes", "4", "-o", "json"])
        .env("CARGO_TARGET_DIR", target)
        .stderr(Stdio::piped())
        .output()?;
    let told = String::from_utf8_lossy(&run.stderr);
    told.lines().filter(|line| line.starts_with("skipped")).for_each(|line| eprintln!("{line}"));
    if !run.status.success() {
        let last = told.lines().last().unwrap_or_default();
        let kind = match last.starts_with("needs ") {
            true => io::ErrorKind::Unsupported,
            false => io::ErrorKind::Other,
        };
        return Err(io::Error::new(kind, last.to_string()));
    }
    let mut run: Value = serde_json::from_slice(&run.stdout)?;
    Ok(run["summary"].take())
}

const SIDES: [(&str, &str); 2] = [("c", "outbound"), ("s", "inbound")];

/// Cells without which there is no verdict.
const PROMISED: [&str; 2] = ["HTTP/1, 2000 rps x 32", "HTTP/1, 4000 rps x 100"];

/// The promised cell that a run lacks a figure of.
fn missing(summary: &Value) -> Option<&'static str> {
    let whole = |cell: &str| figures_of(cell, summary).len() == 2 * SIDES.len();
    PROMISED.into_iter().find(|cell| !whole(cell))
}

/// What a promised cell gives; nothing where it failed in every round.
fn figures_of(cell: &str, summary: &Value) -> Figures {
    let load = if cell == PROMISED[0] { "2000_rps" } else { "4000_rps" };
    let weft = &summary[cell]["weft"];
    let each = SIDES.iter().filter_map(|(side, role)| {
        let ratio = weft["to_floor"]["cpu_us"][side].as_f64()?;
        let kb = weft["rss_kb"][side].as_f64()?;
        let cpu = (format!("cpu_ratio_to_floor_at_{load}_{role}"), ratio);
        Some([cpu, (format!("rss_kb_at_{load}_{role}"), kb)])
    });
    each.flatten().collect()
}

/// The gated figures of a run's summary, as far as it has them. Those that need Envoy are left out where
/// it was.
fn figures(summary: &Value) -> Figures {
    let promised = PROMISED.iter().flat_map(|cell| figures_of(cell, summary));
    let mut figures: Figures = promised.collect();
    let mut to_envoy = |name: &str, figure: Option<f64>| {
        figures.extend(figure.map(|figure| (name.to_string(), figure)));
    };
    let at = |cell: &str, metric: &str| summary[cell]["weft"]["to_envoy"][metric].clone();
    // As time per request, so that less is better as everywhere.
    let throughput = at("HTTP/1, saturated x 100", "rps").as_f64();
    to_envoy("saturated_time_ratio_to_envoy", throughput.map(|ratio| 1.0 / ratio));
    let added = at("HTTP/1, 4000 rps x 100", "added_p99").as_f64();
    to_envoy("added_p99_ratio_to_envoy", added);
    for (side, role) in SIDES {
        let ready = summary["start to ready"]["weft"]["to_envoy"]["ready_ms"][side].as_f64();
        to_envoy(&format!("start_to_ready_ratio_to_envoy_{role}"), ready);
    }
    for (cell, way) in [("opaque TCP, download", "download"), ("opaque TCP, upload", "upload")] {
        // What the pair costs: how the work is shared between two ends of a TLS connection is the
        // cipher's matter.
        let pair = |proxy: &str| {
            let cost = &summary[cell][proxy]["cpu_s_per_gb"];
            Some(cost["c"].as_f64()? + cost["s"].as_f64()?)
        };
        let ratio = pair("weft").zip(pair("envoy")).map(|(weft, envoy)| weft / envoy);
        to_envoy(&format!("opaque_{way}_cpu_ratio_to_envoy"), ratio);
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Gates;

    #[test]
    fn without_envoy_the_floor_alone_is_compared_with() {
        let cell = serde_json::json!({ "weft": {
            "rss_kb": { "c": 9000, "s": 8000 },
            "to_floor": { "cpu_us": { "c": 1.25, "s": 1.2 } },
        } });
        let mut summary = serde_json::json!({
            "HTTP/1, 2000 rps x 32": cell.clone(), "HTTP/1, 4000 rps x 100": cell,
        });
        assert_eq!(figures(&summary).len(), 8);
        assert_eq!(missing(&summary), None);
        summary["HTTP/1, saturated x 100"]["weft"]["to_envoy"]["rps"] = 4.0.into();
        let found = figures(&summary);
        assert_eq!(found[8], ("saturated_time_ratio_to_envoy".to_string(), 0.25));
        summary[PROMISED[1]]["weft"]["rss_kb"]["s"] = Value::Null;
        assert_eq!(missing(&summary), Some(PROMISED[1]), "one side alone is no verdict");
        summary[PROMISED[0]] = Value::Null;
        assert_eq!(missing(&summary), Some(PROMISED[0]), "no verdict without what is promised");
    }

    #[test]
    fn every_gate_of_ratios_has_a_group_that_is_measured_again() {
        let gates = Gates::parse(include_str!("../budget.toml")).unwrap();
        let ratios = gates.names().filter(|name| name.contains("ratio_to_"));
        let without: Vec<_> = ratios.filter(|name| group_of(name).is_none()).collect();
        assert!(without.is_empty(), "{without:?}");
    }
}
