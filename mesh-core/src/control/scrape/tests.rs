//! Proxies that answer well, late, or garbage, over a network in memory.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::control::config::MeshConfig;
use crate::control::metrics::ControlMetrics;
use crate::control::testing;
use crate::resource::Kind;
use crate::runtime::cluster::WatchEvent;
use crate::runtime::net::ListenOptions;

/// What a proxy does when it is asked.
#[derive(Clone, Copy)]
enum Answers {
    With(&'static str),
    Never,
    /// This many bytes of a metric's name.
    Much(usize),
}

async fn proxy(runtime: &Runtime, ip: [u8; 4], answers: Answers) {
    let at = SocketAddr::from((ip, 4191));
    let listener = runtime.net.listen(at, ListenOptions::default()).await.unwrap();
    runtime.spawn("proxy", async move {
        while let Ok(mut connection) = listener.accept().await {
            let mut asked = [0; 1024];
            let length = connection.io.read(&mut asked).await.unwrap();
            assert!(asked[..length].starts_with(b"GET /metrics HTTP/1.1\r\nhost: 10.0.0."));
            let answer = match answers {
                Answers::With(answer) => answer.to_string(),
                Answers::Never => std::future::pending().await,
                Answers::Much(bytes) => {
                    format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{}",
                        "a".repeat(bytes)
                    )
                }
            };
            // Whoever heard enough may have gone.
            let _ = connection.io.write_all(answer.as_bytes()).await;
        }
    });
}

fn publisher(names: &[(&str, [u8; 4])]) -> Publisher {
    let publisher = Publisher::new(MeshConfig::default(), 0, Arc::new(ControlMetrics::default()));
    for kind in Kind::ALL {
        publisher.apply(*kind, WatchEvent::Init);
        for (name, [a, b, c, d]) in names.iter().filter(|_| *kind == Kind::Workload) {
            let manifest = format!(
                "apiVersion: workload.weft.sh/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, \
                 namespace: shop}}\nspec: {{addresses: [{a}.{b}.{c}.{d}], proxy: {{}}}}\n"
            );
            let object = testing::objects(&manifest).remove(0);
            publisher.apply(*kind, WatchEvent::InitApply(object));
        }
        publisher.apply(*kind, WatchEvent::InitDone);
    }
    publisher
}

#[tokio::test(start_paused = true)]
async fn a_bad_proxy_costs_its_own_figures_alone() {
    let (runtime, ..) = testing::runtime();
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\ntcp_open_connections 3\n";
    let garbage = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{not 1\n";
    let refusing = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
    let all = [
        ("a-good", Answers::With(good)),
        ("b-late", Answers::Never),
        ("c-garbage", Answers::With(garbage)),
        ("d-refusing", Answers::With(refusing)),
        ("e-speaks-ssh", Answers::With("SSH-2.0-x\r\n\r\n")),
        ("f-much", Answers::Much(10_000)),
        ("g-good", Answers::With(good)),
    ];
    let mut names = vec![("h-gone", [10, 0, 0, 99])];
    for (nth, (name, answers)) in all.into_iter().enumerate() {
        let ip = [10, 0, 0, nth as u8 + 1];
        proxy(&runtime, ip, answers).await;
        names.push((name, ip));
    }
    let config = ScrapeConfig { bytes_max: 5_000, concurrency: 2, ..ScrapeConfig::default() };
    let scrapes = Scrapes::new(config);
    let running = scrapes.clone().run(runtime.clone(), publisher(&names));
    let _running = runtime.spawn_guarded("scrape", running);
    runtime.sleep(Duration::from_secs(9)).await;
    let health = scrapes.health().into_iter();
    let told = health.map(|((_, name), health)| {
        format!("{name}: {}", health.fault.unwrap_or("good".to_string()))
    });
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @r#"
    a-good: good
    b-late: http://10.0.0.2:4191/metrics: no whole answer within 5s
    c-garbage: its metrics cannot be read: line 1 of the metrics text: it has no metric name
    d-refusing: http://10.0.0.4:4191/metrics answers 403 Forbidden
    e-speaks-ssh: http://10.0.0.5:4191/metrics: the answer cannot be read: invalid message: malformed request line
    f-much: http://10.0.0.6:4191/metrics: the answer cannot be read: body too large
    g-good: good
    h-gone: http://10.0.0.99:4191/metrics: cannot be reached: connection refused
    "#);
    let query = Query::last("tcp_open_connections", vec![], &["pod"]);
    let rows = scrapes.evaluate(&query, wall_ms(&runtime));
    let rows: Vec<_> = rows.iter().map(|row| (row.labels[0].as_str(), row.value)).collect();
    assert_eq!(rows, [("a-good", 3.0), ("g-good", 3.0)]);
}

#[tokio::test(start_paused = true)]
async fn rates_come_of_the_second_scrape() {
    let (runtime, ..) = testing::runtime();
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\nrequest_total 3\n";
    proxy(&runtime, [10, 0, 0, 1], Answers::With(good)).await;
    let scrapes = Scrapes::new(ScrapeConfig::default());
    let publisher = publisher(&[("web-1", [10, 0, 0, 1])]);
    let _running = runtime.spawn_guarded("scrape", scrapes.clone().run(runtime.clone(), publisher));
    let query = Query::rate("request_total", vec![], &["pod"], Duration::from_secs(60));
    runtime.sleep(Duration::from_secs(5)).await;
    assert_eq!(scrapes.evaluate(&query, wall_ms(&runtime)), []);
    runtime.sleep(Duration::from_secs(10)).await;
    assert_eq!(scrapes.evaluate(&query, wall_ms(&runtime))[0].value, 0.0);
}
