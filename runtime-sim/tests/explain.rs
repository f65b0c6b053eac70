//! The law of explanations: what is explained is what the proxies do. Policies are drawn, requests of
//! every sort are sent through real proxies, and each must end as one of the ways that are explained
//! for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mesh_core::control::MeshConfig;
use mesh_core::control::explain::{Asked, Explanation, Outcome, Question, Verdict, Way, explain};
use mesh_core::control::index::{Index, View};
use mesh_core::resource::{Kind, Object};
use mesh_core::runtime::cluster::WatchEvent;
use runtime_sim::world::parse;
use runtime_sim::world::record::Request;
use runtime_sim::world::run::{EngineKind, Keep, observe};

/// Chance, by a seed (splitmix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.next() as usize % texts.len()]
    }
}

/// A load of one sort: who, what, where to.
struct Load {
    name: String,
    from: &'static str,
    to: &'static str,
    protocol: &'static str,
    path: &'static str,
}

/// Nobody is there: what is let out to it is not answered.
const OUTSIDE: &str = "203.0.113.9:80";

/// Services of the same pods: nothing said, HTTP/1, HTTP/2, bytes; a port that is not there; of gRPC; for
/// clients in the same zone; by the pods' own addresses; bytes; outside of the cluster.
const GOALS: [&str; 10] = [
    "web.default.svc.cluster.local:80",
    "h1.default.svc.cluster.local:80",
    "h2.default.svc.cluster.local:80",
    "bytes.default.svc.cluster.local:80",
    "web.default.svc.cluster.local:81",
    "rpc.default.svc.cluster.local:80",
    "close.default.svc.cluster.local:80",
    "headless.default.svc.cluster.local:8080",
    "raw.default.svc.cluster.local:9000",
    OUTSIDE,
];

fn loads(draw: &mut Draw) -> Vec<Load> {
    let mut seen = BTreeSet::new();
    let mut loads = Vec::new();
    while loads.len() < 14 {
        let from = draw.of(&["front", "other", "legacy"]);
        let to = draw.of(&GOALS);
        let protocol = match to.starts_with("raw") {
            true => "tcp",
            false => draw.of(&["http1", "h2", "grpc"]),
        };
        let path = if protocol == "grpc" { "/work" } else { draw.of(&["/work", "/other/x"]) };
        if seen.insert((from, to, protocol, path)) {
            let name = format!("load-{}", loads.len());
            loads.push(Load { name, from, to, protocol, path });
        }
    }
    loads
}

fn service(name: &str, protocol: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{selector: {{app: web}}, ports: [{{name: p, port: 80, targetPort: 8080, appProtocol: {protocol}}}]}}
"
    )
}

/// Who may use a target, as one of those that can be drawn.
fn authorization(draw: &mut Draw, name: &str, group: &str, kind: &str, target: &str) -> String {
    let required = draw.of(&[
        "{kind: ServiceAccount, name: front}",
        "{group: policy.linkerd.io, kind: NetworkAuthentication, name: all}",
        "{group: policy.linkerd.io, kind: NetworkAuthentication, name: nowhere}",
        "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: meshed}",
        "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: gone}",
    ]);
    format!(
        "---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: default}}
spec:
  targetRef: {{group: {group}, kind: {kind}, name: {target}}}
  requiredAuthenticationRefs: [{required}]
"
    )
}

/// What a route of gRPC may match: what is called, and what is not.
fn grpc_rule(draw: &mut Draw) -> &'static str {
    draw.of(&[
        "{matches: [{method: {service: simulated.Work}}]}",
        "{matches: [{method: {service: simulated.Work, method: Do}}]}",
        "{matches: [{method: {service: simulated.Rest}}]}",
        "{}",
    ])
}

fn outbound_grpc(draw: &mut Draw) -> String {
    if draw.next().is_multiple_of(3) {
        return String::new();
    }
    let matched = draw.of(&[
        "matches: [{method: {service: simulated.Work, method: Do}}]",
        "matches: [{method: {service: simulated.Rest}}]",
        "matches: [{headers: [{name: x-absent, value: a}]}]",
        "filters: []",
    ]);
    let backends = draw.of(&["[]", "[{name: web, port: 80}]", "[{name: none, port: 80}]"]);
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: rpc, namespace: default}}
spec:
  parentRefs: [{{group: '', kind: Service, name: rpc, port: 80}}]
  rules: [{{{matched}, backendRefs: {backends}}}]
"
    )
}

/// A network outside, of the clients' namespace or of the one that is for everybody.
fn egress(draw: &mut Draw) -> String {
    if draw.next().is_multiple_of(4) {
        return String::new();
    }
    let namespace = draw.of(&["default", "linkerd-egress", "elsewhere"]);
    let networks = draw.of(&[
        "",
        ", networks: [{cidr: 203.0.113.0/24}]",
        ", networks: [{cidr: 192.0.2.0/24}]",
    ]);
    let policy = draw.of(&["Allow", "Deny"]);
    let mut text = format!(
        "---
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: {{name: out, namespace: {namespace}}}
spec: {{trafficPolicy: {policy}{networks}}}
"
    );
    if draw.next().is_multiple_of(2) {
        let _ = write!(
            text,
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: outside, namespace: {namespace}}}
spec:
  parentRefs: [{{group: policy.linkerd.io, kind: EgressNetwork, name: out, port: 80}}]
  rules: [{{matches: [{{path: {{type: PathPrefix, value: /work}}}}]}}]
"
        );
    }
    text
}

fn policies(draw: &mut Draw) -> String {
    let mut text = [
        service("h1", "http"),
        service("h2", "kubernetes.io/h2c"),
        service("bytes", "tcp"),
        service("rpc", "unknown"),
    ]
    .concat();
    text += "---
apiVersion: v1
kind: Service
metadata: {name: close, namespace: default}
spec: {selector: {app: web}, trafficDistribution: PreferClose, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: default}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080, targetPort: 8080}]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: all, namespace: default}
spec: {networks: [{cidr: 0.0.0.0/0}]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: nowhere, namespace: default}
spec: {networks: [{cidr: 192.0.2.0/24}]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: meshed, namespace: default}
spec: {identities: ['*']}
";
    for (app, port, protocols) in [
        ("web", 8080, &["unknown", "unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque"][..]),
        ("raw", 9000, &["unknown", "opaque"][..]),
    ] {
        if draw.next().is_multiple_of(5) {
            continue;
        }
        let protocol = draw.of(protocols);
        let access = draw.of(&["deny", "deny", "all-authenticated", "audit"]);
        let _ = write!(
            text,
            "---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {{name: {app}, namespace: default}}
spec: {{podSelector: {{matchLabels: {{app: {app}}}}}, port: {port}, proxyProtocol: {protocol}, accessPolicy: {access}}}
"
        );
        text += &authorization(draw, app, "policy.linkerd.io", "Server", app);
        if app == "web" && draw.next().is_multiple_of(3) {
            text += "---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: in, namespace: default}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]
  rules: [{matches: [{path: {type: PathPrefix, value: /work}}]}]
";
            text += &authorization(draw, "in", "policy.linkerd.io", "HTTPRoute", "in");
        } else if app == "web" && draw.next().is_multiple_of(3) {
            let rule = grpc_rule(draw);
            let _ = write!(
                text,
                "---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: calls, namespace: default}}
spec:
  parentRefs: [{{group: policy.linkerd.io, kind: Server, name: web}}]
  rules: [{rule}]
"
            );
            let group = "gateway.networking.k8s.io";
            text += &authorization(draw, "calls", group, "GRPCRoute", "calls");
        }
    }
    text += &outbound_grpc(draw);
    text += &egress(draw);
    if draw.next().is_multiple_of(2) {
        let rule = draw.of(&[
            "{matches: [{path: {type: PathPrefix, value: /work}}]}",
            "{backendRefs: [{name: web, port: 80}, {name: none, port: 80}]}",
            "{backendRefs: [{name: empty, port: 80}]}",
            "{backendRefs: [{name: web, port: 80, weight: 0}]}",
            "{matches: [{method: GET}], timeouts: {request: 2s}}",
            "{filters: [{type: URLRewrite, urlRewrite: {hostname: x.example}}]}",
        ]);
        let _ = write!(
            text,
            "---
apiVersion: v1
kind: Service
metadata: {{name: empty, namespace: default}}
spec: {{selector: {{app: nobody}}, ports: [{{port: 80}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: out, namespace: default}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web, port: 80}}]
  rules: [{rule}]
"
        );
    }
    text
}

fn scenario(loads: &[Load], policies: &str) -> String {
    let mut text = "\
apiVersion: scenario.weft.sh/v1alpha1
kind: Scenario
metadata: {name: explain}
spec:
  about: Policies that were drawn.
  duration: 9s
  topology: {zones: {a: [n1], b: [n2]}}
  apps:
    front: {}
    other: {}
    legacy: {meshed: false}
    web: {replicas: 2, serves: http, latency: 1ms}
    raw: {serves: tcp, latency: 1ms, port: 9000}
  workloads:
"
    .to_string();
    for Load { name, from, to, protocol, path } in loads {
        let shape = match *protocol {
            "http1" | "h2" => format!(", request: {{path: {path}}}"),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "    - {{name: {name}, from: {from}, to: '{to}', protocol: {protocol}, start: 3s, \
             arrivals: {{constant: {{rate: 4}}}}, timeout: 5s, connections: per-request{shape}}}"
        );
    }
    text + "  expect:\n    - no_plaintext: {}\n" + policies
}

fn index(objects: Vec<Object>) -> Index {
    let (mut index, mut changed) = (Index::default(), BTreeSet::new());
    let mut by_kind: BTreeMap<Kind, Vec<Object>> = BTreeMap::new();
    for mut object in objects {
        object.project();
        by_kind.entry(object.kind()).or_default().push(object);
    }
    for kind in Kind::ALL {
        index.apply(*kind, WatchEvent::Init, &mut changed);
        for object in by_kind.remove(kind).unwrap_or_default() {
            index.apply(*kind, WatchEvent::InitApply(object), &mut changed);
        }
        index.apply(*kind, WatchEvent::InitDone, &mut changed);
    }
    index
}

fn explained(index: &Index, load: &Load, sender: &str) -> Explanation {
    let (protocol, path) = match load.protocol {
        "h2" => ("http2", load.path),
        "grpc" => ("grpc", "/simulated.Work/Do"),
        other => (other, load.path),
    };
    let request = Asked::read(Some(protocol), Some("POST"), Some(path), [].into_iter());
    let question = Question {
        from: format!("default/pod/{sender}"),
        to: load.to.to_string(),
        namespace: None,
        request: request.unwrap(),
    };
    explain(&View::new(index, &MeshConfig::default()), &question).unwrap()
}

/// Whether a request ended so, which was executed by these pods.
fn ended(request: &Request, pods: &[&str], load: &Load, way: &End<'_>) -> bool {
    let Some((_, end)) = &request.end else { return false };
    let End { verdict, endpoints } = way;
    // Nobody answers outside: the proxy says that it reached nobody, which is no refusal.
    if verdict.outcome == Outcome::Allowed && load.to == OUTSIDE {
        return request.executions == 0
            && match end {
                Ok(answer) => answer.status >= 502 || matches!(answer.grpc_status, Some(4 | 14)),
                Err(_) => true,
            };
    }
    if verdict.outcome == Outcome::Allowed {
        let is_of = |pod: &&str| {
            let resource = format!("Pod default/{pod})");
            endpoints.iter().any(|endpoint| endpoint.ends_with(&resource))
        };
        // The simulator's kube-proxy balances without zones.
        let is_balanced_by_all = load.from == "legacy" && load.to.starts_with("close.");
        return end.is_ok() && !pods.is_empty() && (is_balanced_by_all || pods.iter().all(is_of));
    }
    match (verdict.outcome, end) {
        (Outcome::Refused, Ok(answer)) => {
            request.executions == 0
                && verdict.status == Some(answer.status)
                && (verdict.grpc_status.is_none() || verdict.grpc_status == answer.grpc_status)
        }
        (Outcome::Refused, Err(_)) => request.executions == 0 && verdict.status.is_none(),
        (Outcome::Allowed | Outcome::Depends, _) => false,
    }
}

/// One of the ways that a request may end.
struct End<'e> {
    verdict: &'e Verdict,
    /// Who may answer.
    endpoints: &'e [String],
}

impl<'e> End<'e> {
    fn of(way: &'e Way) -> Self {
        Self { verdict: &way.verdict, endpoints: &way.endpoints }
    }
}

/// What was looked at: each goal with each verdict.
type Seen = BTreeMap<(&'static str, &'static str), usize>;

fn play(seed: u64, seen: &mut Seen) {
    let mut draw = Draw(seed);
    let (loads, policies) = (loads(&mut draw), policies(&mut draw));
    let text = scenario(&loads, &policies);
    let parsed = match parse::read("explain.yaml", &text) {
        Ok(parsed) => parsed,
        Err(problems) => panic!("{problems:#?}\n{text}"),
    };
    let run = observe(&parsed, seed, EngineKind::Des, &Keep::default()).expect("a world");
    let index = index(run.objects);
    let mut wrong = Vec::new();
    let mut executed: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for execution in &run.entries.executions {
        executed.entry(execution.number.unwrap_or(0)).or_default().push(&execution.pod);
    }
    for (number, request) in (1..).zip(&run.entries.requests) {
        let load = loads.iter().find(|load| *load.name == *request.workload).expect("one of them");
        let explanation = explained(&index, load, &request.sender);
        let outcome = match explanation.verdict.outcome {
            Outcome::Allowed => "allowed",
            Outcome::Refused => "refused",
            Outcome::Depends => "depends",
        };
        *seen.entry((load.to, outcome)).or_default() += 1;
        let mut ends: Vec<_> = explanation.ways.iter().map(End::of).collect();
        ends.push(End { verdict: &explanation.verdict, endpoints: &[] });
        let pods = executed.get(&number).map_or(&[][..], Vec::as_slice);
        if !ends.iter().any(|end| ended(request, pods, load, end)) {
            let Load { from, to, protocol, path, .. } = load;
            let end = &request.end;
            wrong.push(format!(
                "{from} {protocol} {path} to {to} ended {end:?}, executed by {pods:?}; explained:\n{}",
                serde_json::to_string_pretty(&explanation).unwrap()
            ));
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "seed {seed}: {}\n{policies}", wrong[0]);
}

#[test]
fn what_is_explained_is_what_the_proxies_do() {
    let mut seen = Seen::new();
    (0..24).for_each(|seed| play(seed, &mut seen));
    // Nothing is shown by what was not drawn.
    let is_seen = |goal, outcome| seen.get(&(goal, outcome)).is_some_and(|count| *count >= 20);
    for goal in GOALS {
        let is_refused = goal == "web.default.svc.cluster.local:81";
        assert!(is_refused || is_seen(goal, "allowed"), "{goal} is never reached: {seen:?}");
        assert!(is_seen(goal, "refused"), "{goal} is always reached: {seen:?}");
    }
}
