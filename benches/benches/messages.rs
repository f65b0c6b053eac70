//! The control plane's messages: bytes to the model and back.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use mesh_core::api::Message;
use mesh_core::model::endpoint::{Endpoint, EndpointUpdate};
use mesh_core::model::labels::Labels;

fn endpoints(criterion: &mut Criterion) {
    let address = |host: u8| SocketAddr::from(([10, 0, 0, host], 80));
    let update = EndpointUpdate::Add {
        endpoints: (0..100).map(|host| Endpoint::new(address(host))).collect(),
        labels: Labels::default(),
    };
    let bytes = update.to_bytes();
    criterion.bench_function("encode 100 endpoints", |bencher| {
        bencher.iter(|| black_box(&update).to_bytes());
    });
    criterion.bench_function("decode 100 endpoints", |bencher| {
        bencher.iter(|| EndpointUpdate::from_bytes(black_box(&bytes)).is_ok());
    });
}

criterion_group!(benches, endpoints);
criterion_main!(benches);
