//! How the demo looks: a table for people, one JSON object for machines. Pure: figures in, text out.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::figures::{Counts, Edge};

/// What an edge of the demo's mesh did over the window that is shown.
#[derive(Clone, Debug)]
pub(crate) struct EdgeRow {
    pub(crate) edge: Edge,
    /// As people call it: `HTTP/1`, `gRPC`, `WebSocket`, `TCP`.
    pub(crate) protocol: &'static str,
    /// Over the window.
    pub(crate) recent: Counts,
    /// Since the start.
    pub(crate) total: Counts,
}

/// What a proxy is doing.
#[derive(Clone, Debug)]
pub(crate) struct ProxyRow {
    pub(crate) name: String,
    pub(crate) is_up: bool,
    pub(crate) rss_bytes: u64,
    pub(crate) cpu_seconds: f64,
    /// Of one core, over the window.
    pub(crate) cpu_share: f64,
    /// HTTP requests both ways since the start, and connections of other protocols.
    pub(crate) requests: u64,
    /// The same a second, over the window.
    pub(crate) request_rate: f64,
}

/// All that is shown.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) elapsed: Duration,
    /// Over how long rates and latencies are taken.
    pub(crate) window: Duration,
    pub(crate) controller_is_up: bool,
    /// Where the controller shows all this and more in a browser.
    pub(crate) console: String,
    pub(crate) edges: Vec<EdgeRow>,
    pub(crate) proxies: Vec<ProxyRow>,
    /// What happened last, newest last.
    pub(crate) events: Vec<String>,
    /// Tell which keys there are.
    pub(crate) with_keys: bool,
}

/// The table. `color` marks what is wrong, for terminals.
pub(crate) fn render(view: &View, color: bool) -> String {
    let paint = Paint(color);
    let mut out = String::new();
    let controller = match view.controller_is_up {
        true => "up".to_string(),
        false => paint.bad("down"),
    };
    let seconds = view.elapsed.as_secs();
    // Writing into a string does not fail.
    let _ = writeln!(
        out,
        "{}  {seconds} s   controller {controller}   figures of the last {} s",
        paint.strong("weft demo"),
        view.window.as_secs().max(1),
    );
    if view.with_keys {
        out.push_str("k kill a replica   c kill the controller   r restart all   q quit\n");
    }
    let _ = writeln!(out, "console: {}", view.console);
    let _ = writeln!(
        out,
        "\n{}",
        paint.strong(&format!(
            "{:<16} {:<10} {:<8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>6}",
            "EDGE", "PROTOCOL", "SECURED", "SUCCESS", "RPS", "P50", "P95", "P99", "CONNS"
        ))
    );
    for row in &view.edges {
        out.push_str(&edge_line(row, view.window, &paint));
    }
    let _ = writeln!(
        out,
        "\n{}",
        paint.strong(&format!(
            "{:<16} {:<10} {:>10} {:>8} {:>10} {:>8}",
            "PROXY", "STATE", "RSS", "CPU", "REQUESTS", "RPS"
        ))
    );
    for row in &view.proxies {
        let state = match row.is_up {
            true => format!("{:<10}", "up"),
            false => paint.bad(&format!("{:<10}", "killed")),
        };
        let _ = writeln!(
            out,
            "{:<16} {state} {:>10} {:>8} {:>10} {:>8.1}",
            row.name,
            format!("{:.1} MiB", row.rss_bytes as f64 / 1_048_576.0),
            format!("{:.1} %", row.cpu_share * 100.0),
            row.requests,
            row.request_rate,
        );
    }
    if !view.events.is_empty() {
        out.push('\n');
        for event in &view.events {
            let _ = writeln!(out, "{event}");
        }
    }
    out
}

fn edge_line(row: &EdgeRow, window: Duration, paint: &Paint) -> String {
    let success = match row.recent.success_rate() {
        None => format!("{:>8}", "-"),
        Some(rate) => {
            let cell = format!("{:>8}", format!("{:.2}%", floor_percent(rate)));
            if rate < 1.0 { paint.bad(&cell) } else { cell }
        }
    };
    let secured = match row.total.all_secured() {
        None => format!("{:<8}", "-"),
        Some(true) => paint.good(&format!("{:<8}", "mTLS")),
        Some(false) => paint.bad(&format!("{:<8}", "no")),
    };
    let rate = row.recent.requests as f64 / window.as_secs_f64().max(0.001);
    let quantile = |share| match row.recent.latency.quantile(share) {
        Some(ms) if ms < 100.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
        None => "-".to_string(),
    };
    format!(
        "{:<16} {:<10} {secured} {success} {rate:>8.1} {:>9} {:>9} {:>9} {:>6}\n",
        format!("{} -> {}", row.edge.src, row.edge.dst),
        row.protocol,
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
        row.total.connections,
    )
}

/// In hundredths of a percent, never rounded up to a perfection that was not there.
fn floor_percent(rate: f64) -> f64 {
    (rate * 10_000.0).floor() / 100.0
}

/// The result of a run, as `-o json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    edges: Vec<EdgeReport>,
    proxies: Vec<ProxyReport>,
}

#[derive(Debug, Serialize)]
struct EdgeReport {
    src: String,
    dst: String,
    protocol: &'static str,
    /// Every connection of this edge had mutual TLS, and there was one.
    secured: bool,
    requests: u64,
    /// Null where there were no requests.
    success_rate: Option<f64>,
    latency_ms: Latency,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize)]
struct ProxyReport {
    name: String,
    rss_bytes: u64,
    cpu_seconds: f64,
    requests: u64,
}

/// The whole run's figures.
pub(crate) fn report(view: &View) -> Report {
    let rounded = |ms: Option<f64>| ms.map(|ms| (ms * 1000.0).round() / 1000.0);
    Report {
        edges: view
            .edges
            .iter()
            .map(|row| EdgeReport {
                src: row.edge.src.clone(),
                dst: row.edge.dst.clone(),
                protocol: row.protocol,
                secured: row.total.all_secured() == Some(true),
                requests: row.total.requests,
                success_rate: row.total.success_rate(),
                latency_ms: Latency {
                    p50: rounded(row.total.latency.quantile(0.5)),
                    p95: rounded(row.total.latency.quantile(0.95)),
                    p99: rounded(row.total.latency.quantile(0.99)),
                },
            })
            .collect(),
        proxies: view
            .proxies
            .iter()
            .map(|row| ProxyReport {
                name: row.name.clone(),
                rss_bytes: row.rss_bytes,
                cpu_seconds: row.cpu_seconds,
                requests: row.requests,
            })
            .collect(),
    }
}

/// Colors, or none.
struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_string(),
        }
    }

    fn strong(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.with("31", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let mut recent = Counts {
            requests: 200,
            successes: 199,
            secured: 4,
            connections: 4,
            ..Counts::default()
        };
        for i in 0..200 {
            recent.latency.record(f64::from(i) / 40.0);
        }
        let edge = |src: &str, dst: &str| Edge { src: src.to_string(), dst: dst.to_string() };
        View {
            elapsed: Duration::from_secs(12),
            window: Duration::from_secs(5),
            controller_is_up: false,
            console: "http://127.70.1.1:8084/".to_string(),
            edges: vec![
                EdgeRow {
                    edge: edge("load", "web"),
                    protocol: "HTTP/1",
                    total: recent.clone(),
                    recent,
                },
                EdgeRow {
                    edge: edge("api", "cache"),
                    protocol: "TCP",
                    recent: Counts::default(),
                    total: Counts::default(),
                },
            ],
            proxies: vec![ProxyRow {
                name: "web-1".to_string(),
                is_up: true,
                rss_bytes: 8_388_608,
                cpu_seconds: 0.25,
                cpu_share: 0.013,
                requests: 200,
                request_rate: 40.0,
            }],
            events: vec!["killed web-2".to_string()],
            with_keys: true,
        }
    }

    #[test]
    fn the_table_fits_100_columns() {
        let table = render(&view(), false);
        assert!(table.lines().all(|line| line.len() <= 100));
        insta::assert_snapshot!(table, @r#"
        weft demo  12 s   controller down   figures of the last 5 s
        k kill a replica   c kill the controller   r restart all   q quit
        console: http://127.70.1.1:8084/

        EDGE             PROTOCOL   SECURED   SUCCESS      RPS       P50       P95       P99  CONNS
        load -> web      HTTP/1     mTLS       99.50%     40.0    2.5 ms    4.7 ms    4.9 ms      4
        api -> cache     TCP        -               -      0.0         -         -         -      0

        PROXY            STATE             RSS      CPU   REQUESTS      RPS
        web-1            up            8.0 MiB    1.3 %        200     40.0

        killed web-2
        "#);
    }

    #[test]
    fn color_changes_no_letter() {
        let colored = render(&view(), true);
        let mut plain = colored;
        for code in ["\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, render(&view(), false));
    }

    #[test]
    fn the_report_is_the_promised_object() {
        let json = serde_json::to_string_pretty(&report(&view())).unwrap();
        insta::assert_snapshot!(json, @r#"
        {
          "edges": [
            {
              "src": "load",
              "dst": "web",
              "protocol": "HTTP/1",
              "secured": true,
              "requests": 200,
              "success_rate": 0.995,
              "latency_ms": {
                "p50": 2.475,
                "p95": 4.744,
                "p99": 4.949
              }
            },
            {
              "src": "api",
              "dst": "cache",
              "protocol": "TCP",
              "secured": false,
              "requests": 0,
              "success_rate": null,
              "latency_ms": {
                "p50": null,
                "p95": null,
                "p99": null
              }
            }
          ],
          "proxies": [
            {
              "name": "web-1",
              "rss_bytes": 8388608,
              "cpu_seconds": 0.25,
              "requests": 200
            }
          ]
        }
        "#);
    }
}
