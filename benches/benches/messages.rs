//! The control plane's messages: bytes to the model and back. Policies are of a service with a route.

use std::hint::black_box;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use criterion::{Criterion, criterion_group, criterion_main};
use futures_core::Stream as _;
use mesh_core::api::Message;
use mesh_core::api::server::Discovery as _;
use mesh_core::api::workload::Workload;
use mesh_core::control::MeshConfig;
use mesh_core::control::metrics::ControlMetrics;
use mesh_core::control::publish::Publisher;
use mesh_core::model::client_policy::ClientPolicy;
use mesh_core::model::endpoint::{Endpoint, EndpointUpdate};
use mesh_core::model::labels::Labels;
use mesh_core::model::server_policy::ServerPolicy;
use mesh_core::model::target::Target;
use mesh_core::resource::{Kind, yaml};
use mesh_core::runtime::BoxStream;
use mesh_core::runtime::cluster::WatchEvent;

const MANIFEST: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: shop}
spec: {addresses: [10.0.0.1], service: web, serviceAccount: web, proxy: {}, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /orders}}]
    backendRefs: [{name: web, port: 80}]
    timeouts: {request: 2s}
";

fn endpoints(criterion: &mut Criterion) {
    let address = |host: u8| SocketAddr::from(([10, 0, 0, host], 80));
    let update = EndpointUpdate::Add {
        endpoints: (0..100).map(|host| Endpoint::new(address(host))).collect(),
        labels: Labels::default(),
    };
    both_ways(criterion, "100 endpoints", &update);
}

fn policies(criterion: &mut Criterion) {
    let publisher = Publisher::new(MeshConfig::default(), 10, Arc::new(ControlMetrics::default()));
    let objects = yaml::read("shop.yaml", MANIFEST).expect("a manifest written here").objects;
    for kind in Kind::ALL {
        publisher.apply(*kind, WatchEvent::Init);
        for object in objects.iter().filter(|object| object.kind() == *kind) {
            publisher.apply(*kind, WatchEvent::InitApply(object.clone()));
        }
        publisher.apply(*kind, WatchEvent::InitDone);
    }
    publisher.refresh();
    let workload = Workload::parse(r#"{"ns":"shop","pod":"web-1"}"#).expect("a workload");
    let web = Target::Address(SocketAddr::from(([10, 96, 0, 1], 80)));
    let client: ClientPolicy = first(publisher.client_policy(&workload, &web).expect("a service"));
    both_ways(criterion, "a client's policy", &client);
    let port = NonZeroU16::new(80).expect("not zero");
    let server: ServerPolicy = first(publisher.server_policy(&workload, port).expect("a port"));
    both_ways(criterion, "a server's policy", &server);
}

fn both_ways<M: Message>(criterion: &mut Criterion, what: &str, message: &M) {
    let bytes = message.to_bytes();
    criterion.bench_function(&format!("encode {what}"), |bencher| {
        bencher.iter(|| black_box(message).to_bytes());
    });
    criterion.bench_function(&format!("decode {what}"), |bencher| {
        bencher.iter(|| M::from_bytes(black_box(&bytes)).is_ok());
    });
}

fn first<T>(mut answers: BoxStream<T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(&mut answers).poll_next(&mut context) {
        Poll::Ready(Some(answer)) => answer,
        _ => panic!("the index is filled"),
    }
}

criterion_group!(benches, endpoints, policies);
criterion_main!(benches);
