//! What counting costs, and what a scrape costs.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::StatusCode;
use mesh_core::model::labels::Labels;
use mesh_core::telemetry::labels::{ClientTlsLabel, NoClientTls, OutboundEndpoint};
use mesh_core::telemetry::metrics::{Classification, HttpMetrics, Response};
use mesh_core::telemetry::{Telemetry, TelemetryConfig};
use mesh_core::time::Timestamp;

fn endpoint(telemetry: &Telemetry, host: u16) -> Arc<HttpMetrics> {
    telemetry.outbound.endpoint(&OutboundEndpoint {
        authority: Some("web.shop.svc.cluster.local:80".into()),
        target_addr: SocketAddr::from(([10, 0, (host >> 8) as u8, host as u8], 80)),
        tls: ClientTlsLabel::NoIdentity(NoClientTls::Loopback),
        labels: Labels::default(),
    })
}

const RESPONSE: Response = Response {
    status: Some(StatusCode::OK),
    classification: Classification::Success,
    grpc_status: None,
    error: None,
    latency: Duration::from_millis(7),
};

fn record(criterion: &mut Criterion) {
    let telemetry = Telemetry::new(&TelemetryConfig::default());
    let metrics = endpoint(&telemetry, 1);
    criterion.bench_function("record a request and its response", |bencher| {
        bencher.iter(|| {
            metrics.request();
            metrics.response(black_box(&RESPONSE));
        });
    });
}

fn scrape(criterion: &mut Criterion) {
    let telemetry = Telemetry::new(&TelemetryConfig::default());
    let endpoints: Vec<_> = (0..100).map(|host| endpoint(&telemetry, host)).collect();
    for metrics in &endpoints {
        metrics.request();
        metrics.response(&RESPONSE);
    }
    criterion.bench_function("scrape 100 endpoints", |bencher| {
        bencher.iter(|| telemetry.scrape(Timestamp::ZERO).into_text().len());
    });
}

criterion_group!(benches, record, scrape);
criterion_main!(benches);
