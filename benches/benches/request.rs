//! A whole request through both proxies in memory: no kernel, no other thread. Where nobody may tap, where
//! somebody may and does not (the two cost the same), and where what is told is not read.

use benches::mesh::in_memory::{InMemory, Taps};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn request(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("meshed path in memory");
    group.throughput(Throughput::Elements(1));
    for (name, taps) in [
        ("a request and its response", Taps::Possible),
        ("a request and its response, where nobody may tap", Taps::Absent),
        ("a request and its response, of a tap that nobody reads", Taps::Unread),
    ] {
        let mut path = InMemory::start(taps).expect("a temporary directory");
        group.bench_function(name, |bencher| {
            bencher.iter(|| path.exchange("/").expect("an answer"));
        });
    }
}

criterion_group!(benches, request);
criterion_main!(benches);
