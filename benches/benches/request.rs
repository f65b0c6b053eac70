//! A whole request through both proxies in memory: no kernel, no other thread.

use benches::mesh::in_memory::InMemory;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn request(criterion: &mut Criterion) {
    let mut path = InMemory::start().expect("a temporary directory");
    let mut group = criterion.benchmark_group("meshed path in memory");
    group.throughput(Throughput::Elements(1));
    group.bench_function("a request and its response", |bencher| {
        bencher.iter(|| path.exchange("/").expect("an answer"));
    });
}

criterion_group!(benches, request);
criterion_main!(benches);
