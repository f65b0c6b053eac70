//! What is decided for each connection and request: detection, route selection, balancing.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method, Uri};
use mesh_core::model::client_policy::{Distribution, HttpRoute, Load, Rule};
use mesh_core::model::endpoint::{Endpoint, EndpointUpdate};
use mesh_core::model::labels::Labels;
use mesh_core::model::metadata::Metadata;
use mesh_core::model::route::http::{HttpMatch, PathMatch};
use mesh_core::model::tap::{self, Label, Match, StringMatch};
use mesh_core::time::Timestamp;
use mesh_core::traffic::balance::EndpointSet;
use mesh_core::traffic::detect::{HttpDetector, TlsDetector};
use mesh_core::traffic::select;
use mesh_core::traffic::tap::{Facts, matches};

const REQUEST: &[u8] =
    b"GET /orders/17?full=1 HTTP/1.1\r\nhost: web.shop.svc.cluster.local\r\n\r\n";

fn detect(criterion: &mut Criterion) {
    criterion.bench_function("detect HTTP/1", |bencher| {
        bencher.iter(|| HttpDetector::new().push(black_box(REQUEST)).done());
    });
    criterion.bench_function("detect HTTP/1 in pieces of a byte", |bencher| {
        bencher.iter(|| {
            let mut detector = HttpDetector::new();
            let mut pieces = black_box(REQUEST).chunks(1);
            pieces.find_map(|piece| detector.push(piece).done())
        });
    });
    criterion.bench_function("detect that it is not TLS", |bencher| {
        bencher.iter(|| TlsDetector::new().push(black_box(REQUEST)).done());
    });
}

fn routes(count: usize) -> Vec<HttpRoute> {
    let route = |number| HttpRoute {
        metadata: Metadata::new_default("route"),
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![HttpMatch {
                path: Some(PathMatch::Prefix(format!("/orders/{number}"))),
                ..HttpMatch::default()
            }],
            filters: Vec::new(),
            backends: Distribution::Empty,
            timeouts: Default::default(),
            retry: None,
            allow_l5d_request_headers: false,
        }],
    };
    (0..count).map(route).collect()
}

fn select(criterion: &mut Criterion) {
    let uri = Uri::from_static("/orders/17?full=1");
    let headers = HeaderMap::new();
    for count in [1, 20] {
        let routes = routes(count);
        criterion.bench_function(&format!("select among {count} routes"), |bencher| {
            bencher.iter(|| {
                let request = select::Request::new(&Method::GET, black_box(&uri), &headers);
                select::client_http(&routes, request).is_some()
            });
        });
    }
}

fn balance(criterion: &mut Criterion) {
    let load =
        Load::PeakEwma { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10) };
    let at = |millis| Timestamp::ZERO + Duration::from_millis(millis);
    for count in [2, 1_000_u16] {
        let address = |host: u16| SocketAddr::from(([10, 0, (host >> 8) as u8, host as u8], 80));
        let endpoints = (0..count).map(|host| Endpoint::new(address(host))).collect();
        let labels = Labels::from(BTreeMap::new());
        let mut set = EndpointSet::new(load);
        set.apply(EndpointUpdate::Add { endpoints, labels }, at(0), |_, _, _| ());
        let (mut random, mut millis) = (1_u64, 1);
        criterion.bench_function(&format!("pick and measure, {count} endpoints"), |bencher| {
            bencher.iter(|| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                millis += 1;
                let picked = set.pick_where(at(millis), random, |_| true);
                let member = picked.expect("there are endpoints");
                member.load.start(at(millis)).succeeded(at(millis + 3));
            });
        });
    }
}

/// What a tap costs a request that it is not about, once somebody taps.
fn tap(criterion: &mut Criterion) {
    let uri = Uri::from_static("http://web.shop.svc.cluster.local/orders/17");
    let labels = Labels::from_iter([("deployment", "web"), ("namespace", "shop")]);
    let (headers, none) = (HeaderMap::new(), Labels::default());
    let facts = Facts {
        source: Some(([10, 0, 0, 1], 5_000).into()),
        destination: Some(([10, 0, 0, 2], 8_080).into()),
        destination_labels: &labels,
        route_labels: &none,
        method: &Method::GET,
        scheme: uri.scheme(),
        authority: "web.shop.svc.cluster.local",
        path: uri.path(),
        headers: &headers,
    };
    let label = |key: &str, value: &str| Label { key: key.into(), value: value.into() };
    let wanted = Match::All(vec![
        Match::DestinationLabel(label("deployment", "web")),
        Match::DestinationLabel(label("namespace", "shop")),
        Match::Http(tap::HttpMatch::Method(Method::GET)),
        Match::Http(tap::HttpMatch::Path(StringMatch::Prefix("/users".into()))),
    ]);
    criterion.bench_function("match a request against a tap of four parts", |bencher| {
        bencher.iter(|| matches(black_box(&wanted), black_box(&facts)));
    });
}

criterion_group!(benches, detect, select, balance, tap);
criterion_main!(benches);
