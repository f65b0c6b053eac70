//! The control plane's way of a change: into the index, compiled anew, told to subscribers. The mesh
//! has a thousand services of ten workloads each.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_core::Stream as _;
use mesh_core::api::server::Discovery as _;
use mesh_core::api::workload::{ContextToken, Workload as WorkloadName};
use mesh_core::control::MeshConfig;
use mesh_core::control::index::Index;
use mesh_core::control::metrics::ControlMetrics;
use mesh_core::control::publish::Publisher;
use mesh_core::resource::{Kind, Object, yaml};
use mesh_core::runtime::BoxStream;
use mesh_core::runtime::cluster::WatchEvent;

const SERVICES: usize = 1_000;
const WORKLOADS_PER_SERVICE: usize = 10;
const SUBSCRIBERS: usize = 2_000;

/// Two values of `ready` make a change.
fn workload(service: usize, nth: usize, ready: bool) -> String {
    let (high, low) = (service / 250, service % 250);
    format!(
        "---\napiVersion: workload.weft.sh/v1alpha1\nkind: Workload\nmetadata: {{name: w{service}-{nth}, \
         namespace: shop}}\nspec: {{addresses: [10.{high}.{low}.{nth}], service: s{service}, \
         serviceAccount: s{service}, ready: {ready}, proxy: {{inboundPort: 4143, adminPort: 4191}}, \
         ports: [{{name: http, port: 8080}}]}}\n"
    )
}

fn mesh() -> Vec<Object> {
    let mut manifest = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_string();
    for service in 0..SERVICES {
        let (high, low) = (service / 250, service % 250);
        manifest += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{service}, namespace: shop}}\nspec: \
             {{clusterIP: 10.96.{high}.{low}, ports: [{{name: http, port: 8080}}]}}\n"
        );
        for nth in 0..WORKLOADS_PER_SERVICE {
            manifest += &workload(service, nth, true);
        }
    }
    objects(&manifest)
}

fn objects(manifest: &str) -> Vec<Object> {
    yaml::read("mesh.yaml", manifest).expect("a manifest written here").objects
}

/// The same workload, out of and in readiness.
fn changes() -> [Object; 2] {
    [false, true].map(|ready| objects(&workload(7, 3, ready)).remove(0))
}

fn events(objects: &[Object]) -> Vec<(Kind, WatchEvent)> {
    let mut events = Vec::new();
    for kind in Kind::ALL {
        events.push((*kind, WatchEvent::Init));
        let of_kind = objects.iter().filter(|object| object.kind() == *kind);
        events.extend(of_kind.map(|object| (*kind, WatchEvent::InitApply(object.clone()))));
        events.push((*kind, WatchEvent::InitDone));
    }
    events
}

fn index(criterion: &mut Criterion) {
    let objects = mesh();
    let fill = |events: Vec<(Kind, WatchEvent)>| {
        let (mut index, mut changed) = (Index::default(), BTreeSet::new());
        for (kind, event) in events {
            index.apply(kind, event, &mut changed);
        }
        index
    };
    let mut group = criterion.benchmark_group("index");
    group.sample_size(10);
    group.bench_function("list 10,000 workloads", |bencher| {
        bencher.iter_batched(|| events(&objects), fill, BatchSize::PerIteration);
    });
    group.sample_size(100);
    let mut index = fill(events(&objects));
    let (mut turn, versions) = (0, changes());
    group.bench_function("apply a changed workload", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let version = versions[turn % 2].clone();
            let mut changed = BTreeSet::new();
            index.apply(version.kind(), WatchEvent::Apply(version), &mut changed);
            changed.len()
        });
    });
}

fn publish(criterion: &mut Criterion) {
    let publisher =
        Publisher::new(MeshConfig::default(), 20_000, Arc::new(ControlMetrics::default()));
    for (kind, event) in events(&mesh()) {
        publisher.apply(kind, event);
    }
    publisher.refresh();
    let path = "s7.shop.svc.cluster.local:8080".parse().expect("a name");
    let client = WorkloadName::parse(r#"{"ns":"shop","pod":"w1-1"}"#).expect("a workload");
    let port = NonZeroU16::new(8080).expect("not zero");
    let mut group = criterion.benchmark_group("publish");
    group.bench_function("answer a new question for endpoints", |bencher| {
        bencher.iter(|| {
            let endpoints = publisher.endpoints(&path, &ContextToken::default());
            taken(&mut endpoints.expect("a service"))
        });
    });
    group.bench_function("answer a new question for a server's policy", |bencher| {
        bencher.iter(|| taken(&mut publisher.server_policy(&client, port).expect("a workload")));
    });
    for subscribers in [1, SUBSCRIBERS] {
        let follow = || publisher.endpoints(&path, &ContextToken::default()).expect("a service");
        let mut streams: Vec<_> = (0..subscribers).map(|_| follow()).collect();
        streams.iter_mut().for_each(|stream| assert!(taken(stream) > 0));
        let (mut turn, versions) = (0, changes());
        let name = format!("a changed endpoint, to {subscribers} subscribers");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                turn += 1;
                let version = versions[turn % 2].clone();
                publisher.apply(version.kind(), WatchEvent::Apply(version));
                publisher.refresh();
                streams.iter_mut().map(taken).sum::<usize>()
            });
        });
    }
}

/// Items that a stream has now.
fn taken<T>(stream: &mut BoxStream<T>) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    let mut items = 0;
    while let Poll::Ready(Some(_)) = Pin::new(&mut *stream).poll_next(&mut context) {
        items += 1;
    }
    items
}

criterion_group!(benches, index, publish);
criterion_main!(benches);
