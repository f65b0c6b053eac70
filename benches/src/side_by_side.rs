//! Figures of a run of `peers/run.py`: the proxy beside the floor and Envoy, in the same run, in network
//! namespaces. Ratios only, and memory: times of a machine that others use say nothing.
//!
//! Statistic: a ratio is taken within a round, in which the proxies run one after the other, and the
//! median over rounds counts, so that what else the machine does is in both sides of each ratio and a
//! round that was disturbed is left out.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const ROUNDS: &str = "7";
const SECS: &str = "1";

/// Runs and reads it. `Err` of [`io::ErrorKind::Unsupported`] where it cannot run here, with the reason.
///
/// # Errors
/// As above, or as the system's.
pub fn measure() -> io::Result<Vec<(String, f64)>> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/run.py");
    let target = std::env::current_exe()?;
    let target = target.ancestors().nth(2).unwrap_or(Path::new("target"));
    let run = Command::new("python3")
        .arg(program)
        .args([
            "weft,floor,envoy,direct",
            "--only",
            "cpu,max,tcp,start",
            "--rounds",
            ROUNDS,
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
    let run: Value = serde_json::from_slice(&run.stdout)?;
    figures(&run["summary"]).ok_or_else(|| io::Error::other("a cell failed for every round"))
}

/// The gated figures of a run's summary; none where a cell without which there is no verdict is missing.
/// Those that need Envoy are left out where it was.
fn figures(summary: &Value) -> Option<Vec<(String, f64)>> {
    const SIDES: [(&str, &str); 2] = [("c", "outbound"), ("s", "inbound")];
    let mut figures = Vec::new();
    for (cell, load) in
        [("HTTP/1, 2000 rps x 32", "2000_rps"), ("HTTP/1, 4000 rps x 100", "4000_rps")]
    {
        let weft = &summary[cell]["weft"];
        for (side, role) in SIDES {
            let ratio = weft["to_floor"]["cpu_us"][side].as_f64()?;
            figures.push((format!("cpu_ratio_to_floor_at_{load}_{role}"), ratio));
            let kb = weft["rss_kb"][side].as_f64()?;
            figures.push((format!("rss_kb_at_{load}_{role}"), kb));
        }
    }
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
    Some(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_envoy_the_floor_alone_is_compared_with() {
        let cell = serde_json::json!({ "weft": {
            "rss_kb": { "c": 9000, "s": 8000 },
            "to_floor": { "cpu_us": { "c": 1.25, "s": 1.2 } },
        } });
        let mut summary = serde_json::json!({
            "HTTP/1, 2000 rps x 32": cell.clone(), "HTTP/1, 4000 rps x 100": cell,
        });
        let of = |summary: &Value| figures(summary).map(|figures| figures.len());
        assert_eq!(of(&summary), Some(8));
        summary["HTTP/1, saturated x 100"]["weft"]["to_envoy"]["rps"] = 4.0.into();
        let found = figures(&summary).unwrap();
        assert_eq!(found[8], ("saturated_time_ratio_to_envoy".to_string(), 0.25));
        summary["HTTP/1, 2000 rps x 32"] = Value::Null;
        assert_eq!(of(&summary), None, "no verdict without what is promised");
    }
}
