//! The controller's own arithmetic against a real Prometheus, on the same samples: increases, rates,
//! last values and quantiles, at moments and over ranges, through both doors.
//!
//! Law: the answers differ by no more than the rounding of floating-point numbers.
//!
//! Needs `prometheus` and `promtool` (Debian's package `prometheus`) on the path; where they are not,
//! the test says so and ends.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_core::control::prometheus::Prometheus;
use mesh_core::control::query::{Matcher, Query};
use mesh_core::control::series::{Limits, Series};
use mesh_core::model::labels::Labels;
use runtime_real::no_cluster::NoCluster;

const SCRAPES: i64 = 60;
const INTERVAL_MS: i64 = 10_000;
/// Relative, or absolute below one.
const TOLERANCE: f64 = 1e-9;

#[test]
fn both_sources_give_the_same_answers() {
    if let Some(missing) = ["prometheus", "promtool"].into_iter().find(|name| !is_there(name)) {
        eprintln!("skipped: {missing} is not on the path; Debian has it in the package prometheus");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Aligned so that no sample is at the very end of a window that is asked about.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let start_ms = (now / 7_200 * 7_200 - 14_400) * 1_000;
    let (series, text) = samples(start_ms);
    let server = Server::start(directory.path(), &text);
    let runtime = runtime_real::current_thread().unwrap();
    runtime.block_on(async {
        let doors = runtime_real::runtime(Arc::new(NoCluster));
        let prometheus = Prometheus::new(&doors, server.url.parse().unwrap());
        server.ready(&prometheus).await;
        for query in queries() {
            for at_ms in [35_700, 123_400, 301_900, 432_100, 593_700].map(|at| start_ms + at) {
                let expected = prometheus.evaluate(&query, at_ms).await.unwrap();
                let found = series.evaluate(&query, at_ms);
                let promql = query.promql();
                let labels = |rows: &[mesh_core::control::query::Row]| {
                    rows.iter().map(|row| row.labels.clone()).collect::<Vec<_>>()
                };
                assert_eq!(labels(&found), labels(&expected.rows), "{promql} at {at_ms}");
                for (a, b) in found.iter().zip(&expected.rows) {
                    assert!(is_close(a.value, b.value), "{promql} at {at_ms}: {a:?}, {b:?}");
                }
            }
            let (from, to) = (start_ms + 63_300, start_ms + 583_300);
            let expected = prometheus.evaluate_range(&query, from, to, 40_000).await.unwrap();
            let found = series.evaluate_range(&query, from, to, 40_000);
            assert_eq!(found.len(), expected.rows.len(), "{}", query.promql());
            for (a, b) in found.iter().zip(&expected.rows) {
                assert_eq!((&a.labels, a.points.len()), (&b.labels, b.points.len()));
                let points = a.points.iter().zip(&b.points);
                for (a, b) in points {
                    assert!(a.0 == b.0 && is_close(a.1, b.1), "{}: {a:?}, {b:?}", query.promql());
                }
            }
        }
    });
}

fn queries() -> Vec<Query> {
    let inbound = || vec![Matcher::is("direction", "inbound")];
    let pods = ["web-1".to_string(), "api-1".to_string(), "no.such|pod".to_string()];
    let mut queries = vec![
        Query::last("tcp_open_connections", vec![], &["namespace", "deployment"]),
        Query::last("tcp_open_connections", vec![Matcher::one_of("pod", pods)], &[]),
        Query::last("tcp_open_connections", vec![Matcher::not("pod", "web-1")], &["pod"]),
        Query::last("tcp_open_connections", vec![Matcher::some("nothing")], &["pod"]),
    ];
    for seconds in [25, 60, 250] {
        let window = Duration::from_secs(seconds);
        queries.extend([
            Query::increase("response_total", inbound(), &["deployment", "classification"], window),
            Query::rate("response_total", vec![], &["pod"], window),
            Query::rate("response_total", vec![], &[], window),
        ]);
        for share in [0.5, 0.95, 0.99] {
            let family = "response_latency_ms_bucket";
            queries.push(Query::quantile(share, family, inbound(), &["deployment"], window));
            queries.push(Query::quantile(share, family, vec![], &[], window));
        }
    }
    queries
}

/// Counters that run, restart, begin late and end early; the same as scrapes and as OpenMetrics.
fn samples(start_ms: i64) -> (Series, String) {
    let limits = Limits { window: Duration::from_secs(3_600), ..Limits::default() };
    let (mut series, mut text) = (Series::new(limits), String::new());
    let mut random = Random(7);
    // Where a series begins inside of a window with less than it grows by in a step, versions of
    // Prometheus differ in how far they look back to its zero. These begin with more.
    let mut counters = [[100_000_u64; 8]; 4];
    for nth in 0..SCRAPES {
        for (index, own) in counters.iter_mut().enumerate() {
            let target = ["web-1", "web-2", "api-1", "api-2"][index];
            let deployment = target.split('-').next().unwrap();
            // Scrapes are not of one moment, nor quite as far apart as they should be.
            let at_ms =
                start_ms + nth * INTERVAL_MS + 1_000 * index as i64 + (random.next() % 200) as i64;
            if random.next().is_multiple_of(40) {
                *own = [0; 8];
            }
            for counter in own.iter_mut() {
                *counter += random.next() % 50;
            }
            let labels = Labels::from_iter([
                ("namespace", "shop"),
                ("pod", target),
                ("deployment", deployment),
            ]);
            let mut scraped = String::new();
            let mut line = |name: &str, labels: &str, value: u64| {
                let _ = writeln!(scraped, "{name}{{{labels}}} {value}");
                let own = format!(
                    "namespace=\"shop\",pod=\"{target}\",deployment=\"{deployment}\",{labels}"
                );
                let seconds = at_ms as f64 / 1000.0;
                let _ = writeln!(text, "{name}{{{own}}} {value} {seconds:.3}");
            };
            line("tcp_open_connections", "peer=\"src\"", own[0] % 17);
            for (direction, at) in [("inbound", 1), ("outbound", 3)] {
                for (class, value) in [("success", own[at]), ("failure", own[at + 1] / 9)] {
                    let labels = format!("direction=\"{direction}\",classification=\"{class}\"");
                    line("response_total", &labels, value);
                }
            }
            // One that begins in the middle, and one that ends there.
            let late = "direction=\"inbound\",classification=\"success\",late=\"yes\"";
            if nth > 25 && index == 1 {
                line("response_total", late, 1_000_000 + nth as u64 * 5);
            }
            if nth < 30 && index == 2 {
                line("response_total", late, 1_000_000 + nth as u64 * 3);
            }
            let mut below = 0;
            for (bound, value) in [("1", own[5]), ("10", own[6]), ("100", own[7]), ("+Inf", own[4])]
            {
                below += value;
                let labels = format!("direction=\"inbound\",le=\"{bound}\"");
                line("response_latency_ms_bucket", &labels, below);
            }
            series.record(&labels, at_ms, &scraped).unwrap();
        }
    }
    text.push_str("# EOF\n");
    (series, text)
}

/// Vigna's splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
}

/// A Prometheus that scrapes nothing and has the samples. Ends with this.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(directory: &Path, samples: &str) -> Self {
        let (input, data) = (directory.join("samples"), directory.join("data"));
        let config = directory.join("prometheus.yml");
        std::fs::write(&input, samples).unwrap();
        std::fs::write(&config, "global: {}\n").unwrap();
        let made = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&input, &data])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg("--storage.tsdb.retention.time=10y")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, url: format!("http://127.0.0.1:{port}") }
    }

    /// Waits until it answers.
    async fn ready(&self, prometheus: &Prometheus) {
        let query = Query::last("tcp_open_connections", vec![], &[]);
        let mut last = String::new();
        for _ in 0..300 {
            match prometheus.evaluate(&query, 0).await {
                Ok(_) => return,
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it is not ready after 30 s: {last}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_there(program: &str) -> bool {
    let mut version = Command::new(program);
    let version = version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
