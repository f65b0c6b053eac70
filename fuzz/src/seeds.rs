//! Valid inputs, by target: where corpora begin and what mutations damage.

mod taps;

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use mesh_core::api::Message;
use mesh_core::api::identity::{Certificate, CertificateQuestion};
use mesh_core::api::request::{DestinationQuestion, PortQuestion, TrafficQuestion};
use mesh_core::api::workload::{ContextToken, Workload};
use mesh_core::control::index::{Index, View};
use mesh_core::control::{MeshConfig, destination, policy};
use mesh_core::model::endpoint::EndpointUpdate;
use mesh_core::model::identity::DnsName;
use mesh_core::model::profile::Profile;
use mesh_core::model::protocol::HttpVersion;
use mesh_core::model::target::{NameAddr, Target};
use mesh_core::resource::yaml;
use mesh_core::runtime::cluster::WatchEvent;
use mesh_core::wire::transport_header::{self, TransportHeader};

use crate::control::{pem, world};
use crate::injection;
use crate::input::NOW;

/// The seeds of a target of [`crate::TARGETS`].
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "tls_detect" => uncut(&client_hellos()),
        "http_detect" => uncut(&[requests(), http2()].concat()),
        "sniff" => uncut(&[client_hellos(), requests(), http2()].concat()),
        "sniff_race" => {
            let client = [requests(), client_hellos(), vec![Vec::new()]].concat();
            let with_server = |client: &Vec<u8>| {
                let server = b"\x00220 mail ready\r\n";
                [&[server.len() as u8][..], server, &[0], client].concat()
            };
            client.iter().map(with_server).collect()
        }
        "http1_request" => uncut(&requests()),
        "http1_response" => uncut(&uncut(&responses())),
        "http1_chunked" => uncut(&[
            b"5\r\nhello\r\n0\r\n\r\nGET".to_vec(),
            b"3;a=\"b\"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nx-sum: 1\r\nx-b: 2\r\n\r\n".to_vec(),
            b"0\r\n\r\n".to_vec(),
        ]),
        "transport_header" => uncut(&transport_headers()),
        "http_outbound" | "http_inbound" => uncut(&requests()),
        "http_response" => uncut(&responses()),
        "http2_server" => uncut(&http2_frames()),
        "http2_client" => uncut(&http2_answer_frames()),
        "api_traffic_question" => {
            let address = Target::Address(([10, 3, 0, 1], 8080).into());
            let name = NameAddr::new("web.shop.svc.cluster.local", 80).expect("a name");
            let ask = |target| TrafficQuestion { workload: workload(), target }.to_bytes();
            [address, Target::Name(name)].map(ask).to_vec()
        }
        "api_port_question" => {
            let port = NonZeroU16::new(8080).expect("not zero");
            vec![PortQuestion { workload: workload(), port }.to_bytes()]
        }
        "api_destination_question" => {
            let path = NameAddr::new("web.shop.svc.cluster.local", 80).expect("a name");
            let text = r#"{"ns":"shop","nodeName":"node-1","pod":"web-1"}"#;
            let context = ContextToken::parse(text);
            vec![DestinationQuestion { path, context }.to_bytes()]
        }
        "api_certificate_question" => {
            let world = world();
            let identity = world.server.identity.as_str().to_owned();
            let token = world.token.clone().into_bytes();
            vec![CertificateQuestion { identity, token, csr_der: world.csr.clone() }.to_bytes()]
        }
        "api_certificate" => vec![certificate().to_bytes()],
        "api_client_policy" => compiled(|view| {
            let target = |port| NameAddr::new("web.shop.svc.cluster.local", port).expect("a name");
            let policies = [80, 81, 82, 83, 3306].map(|port| {
                let target = Target::Name(target(port));
                policy::client::compile(view, "shop", &target).expect("a policy")
            });
            policies.map(|policy| policy.to_bytes()).to_vec()
        }),
        "api_server_policy" => compiled(|view| {
            let policies = [8080, 8081].map(|port| {
                policy::server::compile(view, "shop", "web-1", port).expect("a policy")
            });
            policies.map(|policy| policy.to_bytes()).to_vec()
        }),
        "api_profile" => compiled(|view| {
            let paths = ["web.shop.svc.cluster.local:80", "10.3.0.1:8080"];
            let paths = paths.map(|path| path.parse().expect("a path"));
            let profiles = paths.map(|path| destination::profile::compile(view, "shop", &path));
            let profile = |profile: Result<Profile, _>| profile.expect("a profile").to_bytes();
            profiles.map(profile).to_vec()
        }),
        "api_endpoint_update" => compiled(|view| {
            let path = "web.shop.svc.cluster.local:80".parse().expect("a path");
            let set = destination::endpoints::compile(view, &path).expect("endpoints");
            let set = set.seen_from(&Default::default());
            let empty = EndpointUpdate::NoEndpoints { exists: true };
            let gone = EndpointUpdate::Remove(vec![([10, 3, 0, 1], 8080).into()]);
            let updates = set.updates_since(None).into_iter().chain([empty, gone]);
            updates.map(|update| update.to_bytes()).collect()
        }),
        "tap_question" => taps::questions(),
        "tap_event" => taps::events(),
        "manifest" => manifests(),
        "injection" => injection::texts(),
        "admission_review" => injection::reviews(),
        "validation_review" => injection::validations(),
        "scenario" => SCENARIOS.map(|text| text.as_bytes().to_vec()).to_vec(),
        "csr" => vec![world().csr.clone()],
        "token" => vec![world().token.clone().into_bytes()],
        "authority" => vec![authority()],
        "x509" => chain(certificate()),
        "trust_anchors" => vec![
            world().anchors.clone().into_bytes(),
            (world().anchors.clone() + &world().issuer).into_bytes(),
        ],
        "scrape" => vec![SCRAPES.as_bytes().to_vec()],
        "exposition" => vec![EXPOSITION.as_bytes().to_vec()],
        "trace_context" => TRACES.map(|text| text.as_bytes().to_vec()).to_vec(),
        _ => Vec::new(),
    }
}

/// With a first byte that says that the rest is one segment.
fn uncut(seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let uncut = |seed: &Vec<u8>| [&[0][..], seed].concat();
    seeds.iter().map(uncut).collect()
}

/// HTTP/1 requests of every kind.
pub fn requests() -> Vec<Vec<u8>> {
    [
        "GET / HTTP/1.1\r\nHost: web.demo.svc.cluster.local\r\n\r\n",
        "GET /a?b=c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n",
        "POST /upload HTTP/1.1\r\nHost: web:8080\r\nContent-Length: 5\r\n\r\nhelloGET / \
         HTTP/1.1\r\nHost: web\r\n\r\n",
        "PUT / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\n\
         x-trailer: yes\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "GET /chat HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "CONNECT 10.0.0.9:9000 HTTP/1.1\r\nHost: 10.0.0.9:9000\r\n\r\nhello",
        "GET http://web.demo.svc.cluster.local/x HTTP/1.1\r\nHost: web\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: web\r\nTE: trailers\r\nl5d-dst-override: a.b:80\r\n\r\n",
        "\r\nPURGE / HTTP/1.1\r\nHost: [::1]:80\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// HTTP/1 responses of every kind.
pub fn responses() -> Vec<Vec<u8>> {
    [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n\
         HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.0 200 Fine\r\n\r\nuntil the end",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x01",
        "HTTP/1.1 503 \r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Indexed GET, http and /; `:authority: web` as a literal.
const GET: &[u8] = b"\x82\x86\x84\x01\x03web";

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// SETTINGS of HTTP/2.
pub fn http2_settings() -> Vec<u8> {
    frame(4, 0, 0, b"\x00\x03\x00\x00\x00\x64\x00\x04\x00\x00\xff\xff")
}

/// The preface of HTTP/2 with settings.
pub fn http2_open() -> Vec<u8> {
    [PREFACE, &http2_settings()].concat()
}

/// A whole HTTP/2 connection of one request.
pub fn http2_get() -> Vec<u8> {
    [http2_open(), frame(4, 1, 0, b""), frame(1, 5, 1, GET)].concat()
}

/// HTTP/2 connections: the preface and frames, among them a request with a body.
pub fn http2() -> Vec<Vec<u8>> {
    let whole = http2_frames().into_iter().map(|frames| [http2_open(), frames].concat());
    [PREFACE.to_vec(), http2_open()].into_iter().chain(whole).collect()
}

/// What follows [`http2_open`].
fn http2_frames() -> Vec<Vec<u8>> {
    let post = b"\x83\x86\x84\x01\x03web\x0f\x0d\x015";
    vec![
        [frame(4, 1, 0, b""), frame(1, 5, 1, GET)].concat(),
        [
            frame(1, 4, 1, post),
            frame(0, 1, 1, b"hello"),
            frame(6, 0, 0, b"weftping"),
            frame(8, 0, 0, b"\x00\x01\x00\x00"),
            frame(1, 5, 3, GET),
            frame(3, 0, 3, b"\x00\x00\x00\x08"),
        ]
        .concat(),
        [
            frame(1, 0, 1, &GET[..2]),
            frame(9, 4, 1, &GET[2..]),
            frame(0, 8, 1, b"\x02data\x00\x00"),
            frame(2, 0, 5, b"\x00\x00\x00\x01\x10"),
            frame(7, 0, 0, b"\x00\x00\x00\x00\x00\x00\x00\x00bye"),
        ]
        .concat(),
    ]
}

/// What an HTTP/2 server answers to [`http2_get`], after its settings.
fn http2_answer_frames() -> Vec<Vec<u8>> {
    let acknowledged = frame(4, 1, 0, b"");
    vec![
        // 200 by its index; a body; trailers.
        [&acknowledged[..], &frame(1, 5, 1, b"\x88")].concat(),
        [&acknowledged[..], &frame(1, 4, 1, b"\x88"), &frame(0, 1, 1, b"hello")].concat(),
        [
            &acknowledged[..],
            &frame(1, 4, 1, b"\x88"),
            &frame(0, 0, 1, b"hello"),
            &frame(1, 5, 1, b"\x00\x0bgrpc-status\x010"),
        ]
        .concat(),
        [&acknowledged[..], &frame(3, 0, 1, b"\x00\x00\x00\x07")].concat(),
        [
            frame(6, 0, 0, b"weftping"),
            frame(8, 0, 1, b"\x00\x01\x00\x00"),
            frame(7, 0, 0, b"\x00\x00\x00\x01\x00\x00\x00\x00bye"),
            frame(1, 5, 1, b"\x8e"),
        ]
        .concat(),
    ]
}

/// HTTP/2 connections as a server says them.
pub fn http2_answers() -> Vec<Vec<u8>> {
    let whole = http2_answer_frames().into_iter();
    whole.map(|frames| [http2_settings(), frames].concat()).collect()
}

/// ClientHellos: with and without a server name, small and post-quantum, in one and in two records.
pub fn client_hellos() -> Vec<Vec<u8>> {
    let local = world().server.server_name.as_str().to_owned();
    let mut hellos = Vec::new();
    for name in [Some(&*local), Some("web.example"), None] {
        for key_share_bytes in [32, 1216] {
            let hello = client_hello(name, key_share_bytes);
            let (first, second) = hello.split_at(hello.len() / 2);
            hellos.push(record(&hello));
            hellos.push([record(first), record(second)].concat());
        }
    }
    hellos
}

fn record(part: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &with_length(2, part)].concat()
}

fn with_length(width: usize, bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[4 - width..], bytes].concat()
}

fn client_hello(name: Option<&str>, key_share_bytes: usize) -> Vec<u8> {
    let extension =
        |kind: u16, bytes: &[u8]| [&kind.to_be_bytes()[..], &with_length(2, bytes)].concat();
    let group: u16 = if key_share_bytes == 32 { 29 } else { 0x11ec };
    let share = with_length(2, &vec![9; key_share_bytes]);
    let share = [&group.to_be_bytes()[..], &share].concat();
    let mut extensions = vec![
        extension(43, &[2, 3, 4]),
        extension(10, &with_length(2, &group.to_be_bytes())),
        extension(13, &with_length(2, &[4, 3])),
        extension(16, &with_length(2, &with_length(1, transport_header::ALPN))),
        extension(51, &with_length(2, &share)),
    ];
    if let Some(name) = name {
        let entry = [&[0][..], &with_length(2, name.as_bytes())].concat();
        extensions.push(extension(0, &with_length(2, &entry)));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(with_length(1, &[8; 32]));
    body.extend(with_length(2, &[0x13, 1, 0x13, 2]));
    body.extend(with_length(1, &[0]));
    body.extend(with_length(2, &extensions.concat()));
    [&[1][..], &with_length(3, &body)].concat()
}

/// Transport headers for each protocol, with and without a name.
pub fn transport_headers() -> Vec<Vec<u8>> {
    let mut headers = Vec::new();
    for protocol in [None, Some(HttpVersion::Http1), Some(HttpVersion::Http2)] {
        for name in [None, Some("web.demo.svc.cluster.local")] {
            headers.push(transport_header::encode(&TransportHeader {
                port: NonZeroU16::new(8080).expect("not zero"),
                name: name.map(|name| DnsName::new(name).expect("a name")),
                protocol,
            }));
        }
    }
    headers
}

fn chain(certificate: Certificate) -> Vec<Vec<u8>> {
    let leaf = vec![certificate.leaf_der];
    [leaf, certificate.intermediates_der].concat()
}

fn certificate() -> Certificate {
    let world = world();
    let name = std::slice::from_ref(&world.server.server_name);
    let hour = std::time::Duration::from_secs(3600);
    let validity = mesh_core::control::ca::Validity::new(NOW, hour, hour);
    let issued = world
        .authority
        .issue(&*world.runtime.entropy, world.key.public_key(), name, validity)
        .expect("a leaf");
    Certificate {
        leaf_der: issued.leaf_der,
        intermediates_der: issued.intermediates_der,
        valid_until: issued.valid_until,
    }
}

/// What a control plane makes of [`MANIFESTS`].
fn compiled(compile: impl FnOnce(&View<'_>) -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut index = Index::default();
    for text in MANIFESTS {
        let manifest = yaml::read("seed.yaml", text).expect("seeds are good");
        for object in manifest.objects {
            let event = WatchEvent::Apply(object.clone());
            index.apply(object.kind(), event, &mut BTreeSet::new());
        }
    }
    compile(&View::new(&index, &MeshConfig::default()))
}

fn authority() -> Vec<u8> {
    let world = world();
    let key = pem("PRIVATE KEY", world.issuer_key.pkcs8_der());
    [&*world.anchors, &*world.issuer, &*key].join("\0").into_bytes()
}

fn workload() -> Workload {
    Workload::pod("shop", "web-1")
}

const SCENARIOS: [&str; 2] = [
    include_str!("../../scenarios/smoke/controller-restart.yaml"),
    include_str!("../../scenarios/smoke/endpoint-removal.yaml"),
];

fn manifests() -> Vec<Vec<u8>> {
    MANIFESTS.map(|text| text.as_bytes().to_vec()).to_vec()
}

const MANIFESTS: [&str; 4] = [
    "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.1
  ports:
  - {name: any, port: 80, targetPort: 8080}
  - {name: h1, port: 81, targetPort: 8080, appProtocol: http}
  - {name: h2, port: 82, targetPort: 8080, appProtocol: kubernetes.io/h2c}
  - {name: grpc, port: 83, targetPort: 8080, appProtocol: grpc}
  - {name: mysql, port: 3306}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: shop}
spec: {addresses: [10.3.0.1], service: web, ports: [{port: 8080}], serviceAccount: web, proxy: {}}
",
    "apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata:
  name: web
  namespace: shop
spec:
  podSelector: {matchLabels: {app: web}}
  port: 8080
  proxyProtocol: HTTP/1
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  requiredAuthenticationRefs:
  - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: clients}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: clients, namespace: shop}
spec: {identities: ['*']}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: nets, namespace: shop}
spec: {networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]}
",
    "apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: shop, annotations: {linkerd.io/inject: enabled}}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  endpoints: [{addresses: [10.3.0.1], conditions: {ready: true}}]
  ports: [{name: http, port: 8080, protocol: TCP}]
- apiVersion: v1
  kind: Pod
  metadata: {name: web-1, namespace: shop, labels: {app: &app web, other: *app}}
  spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
  status: {phase: Running, podIP: 10.3.0.1, conditions: [{type: Ready, status: 'True'}]}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: passed-over}}
",
    "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: core, kind: Service, name: web, namespace: shop, port: 81}]
  rules:
  - matches:
    - {path: {type: Exact, value: /a}, headers: [{name: x-a, value: b}]}
    - {path: {type: RegularExpression, value: /c.*}, queryParams: [{name: q, value: r}]}
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: y}]}}]
    backendRefs: [{name: web, port: 80, weight: 2}, {name: web, port: 82, weight: 1}]
    timeouts: {request: 10s, backendRequest: 2s}
  - filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /x}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: shop}
spec:
  parentRefs: [{group: core, kind: Service, name: web, namespace: shop, port: 83}]
  rules:
  - matches: [{method: {service: shop.Cart, method: Add}}]
    backendRefs: [{name: web, port: 83}]
",
];

const TRACES: [&str; 3] = [
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\ntracestate: a=b,c=d\n",
    "b3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1-00f067aa0ba902b7\n\
     grpc-trace-bin: AAAK92UZFs1D3YRI6yEcgDGcAbeta3FpIDMxAgE\n",
    "X-B3-TraceId: 8448eb211c80319c\nX-B3-SpanId: b7ad6b7169203331\nX-B3-Sampled: 1\n",
];

/// Two scrapes of a proxy, with a form feed between.
const SCRAPES: &str = "\
response_total{direction=\"inbound\",classification=\"success\"} 1
response_latency_ms_bucket{direction=\"inbound\",le=\"1\"} 1
response_latency_ms_bucket{direction=\"inbound\",le=\"+Inf\"} 1
\u{c}response_total{direction=\"inbound\",classification=\"success\"} 5
response_latency_ms_bucket{le=\"1\",direction=\"inbound\"} 3
response_latency_ms_bucket{direction=\"inbound\",le=\"+Inf\"} 4
";

const EXPOSITION: &str = "# HELP request_total Requests
# TYPE request_total counter
request_total{direction=\"inbound\",path=\"a\\\\b\\\"c\\nd\"} 3 1767225600000
response_latency_ms_bucket{le=\"+Inf\"} 7
process_start_time_seconds 1.767e9
odd{ x = \"1\" , } NaN
";
