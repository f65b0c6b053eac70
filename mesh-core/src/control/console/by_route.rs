//! What came by which route, asked of statistics: at servers by their Servers' routes, at clients by
//! the routes of the Services that they call, down to the backend.

use std::collections::BTreeMap;

use crate::control::public_api::resource::ResourceKind;
use crate::control::query::{Matcher, Query};
use crate::traffic::classify::is_grpc_failure;

use super::figures::Figures;
use super::golden;
use super::inventory::Name;
use super::routes::Route;
use super::source::{Source, Troubles};

/// Routes of which figures are asked; of more, those that come first.
const ROUTES_MAX: usize = 2_000;

const KIND_LABELS: [(&str, &str); 7] = [
    ("deployment", "deployment"),
    ("statefulset", "statefulset"),
    ("daemonset", "daemonset"),
    ("replicaset", "replicaset"),
    ("replicationcontroller", "replicationcontroller"),
    ("k8s_job", "job"),
    ("cronjob", "cronjob"),
];

/// Where the values of a question's labels begin that tell routes apart.
const AFTER_WORKLOAD: usize = 1 + KIND_LABELS.len();

impl Source<'_> {
    /// Routes of one workload, or of all.
    pub(crate) async fn routes_of(
        &self,
        of: Option<(ResourceKind, &Name)>,
        troubles: &mut Troubles,
    ) -> Vec<Route> {
        let mut of_workload = Vec::new();
        if let Some((kind, name)) = of {
            if kind.label().is_empty() {
                return Vec::new();
            }
            of_workload.push(Matcher::is("namespace", name.namespace.as_str()));
            of_workload.push(Matcher::is(kind.label(), name.name.as_str()));
        }
        let asking = Asking { source: self, of: of.map(|(_, name)| name), matchers: of_workload };
        let mut routes = asking.inbound(troubles).await;
        for protocol in [HTTP, GRPC] {
            routes.extend(asking.outbound(protocol, troubles).await);
        }
        routes.truncate(ROUTES_MAX);
        routes
    }
}

/// The families of routes at clients.
#[derive(Clone, Copy)]
struct Families {
    statuses: &'static str,
    durations: &'static str,
    retries: &'static str,
    status: &'static str,
}

const HTTP: Families = Families {
    statuses: "outbound_http_route_backend_response_statuses_total",
    durations: "outbound_http_route_backend_response_duration_seconds_bucket",
    retries: "outbound_http_route_retry_requests_total",
    status: "http_status",
};
const GRPC: Families = Families {
    statuses: "outbound_grpc_route_backend_response_statuses_total",
    durations: "outbound_grpc_route_backend_response_duration_seconds_bucket",
    retries: "outbound_grpc_route_retry_requests_total",
    status: "grpc_status",
};

struct Asking<'a> {
    source: &'a Source<'a>,
    of: Option<&'a Name>,
    matchers: Vec<Matcher>,
}

/// Counts of a route: all, and those that did well.
#[derive(Clone, Copy, Default)]
struct Counts {
    all: f64,
    good: f64,
}

impl Asking<'_> {
    async fn inbound(&self, troubles: &mut Troubles) -> Vec<Route> {
        let mut matchers = self.matchers.clone();
        matchers.push(Matcher::is("direction", "inbound"));
        matchers.push(Matcher::some("route_name"));
        let labels = ["srv_name", "route_name"];
        let window = self.source.window.0;
        let by = by(&labels, Some("classification"));
        let query = Query::rate("response_total", matchers.clone(), &by, window);
        let counts = self.counts(&query, |class| class == "success", troubles).await;
        let family = "response_latency_ms_bucket";
        let quantiles = self.quantiles(family, &matchers, &labels, 1.0, troubles).await;
        // These families are of one direction, and do not say which.
        let family = "inbound_http_authz_deny_total";
        let mut denied = self.matchers.clone();
        denied.push(Matcher::some("route_name"));
        let query = Query::rate(family, denied, &self::by(&labels, None), window);
        let denied = self.values(&query, troubles).await;
        let route = |(key, counts): (&Vec<String>, &Counts)| {
            let [srv, route] = key.get(AFTER_WORKLOAD..)? else { return None };
            Some(Route {
                of: self.workload(key),
                direction: "inbound",
                parent: srv.clone(),
                route: route.clone(),
                backend: String::new(),
                figures: figures(*counts, quantiles.get(key)),
                extra: denied.get(key).copied().or(Some(0.0)),
            })
        };
        counts.iter().filter_map(route).collect()
    }

    async fn outbound(&self, families: Families, troubles: &mut Troubles) -> Vec<Route> {
        let labels = ["parent_name", "parent_port", "route_name", "backend_name", "backend_port"];
        let window = self.source.window.0;
        let matchers = &self.matchers;
        let by = by(&labels, Some(families.status));
        let query = Query::rate(families.statuses, matchers.clone(), &by, window);
        // One that has no status was not answered.
        let is_good = |status: &str| match (families.status, status.parse::<u16>()) {
            (_, Err(_)) => false,
            ("grpc_status", Ok(code)) => !is_grpc_failure(code),
            (_, Ok(code)) => code < 500,
        };
        let counts = self.counts(&query, is_good, troubles).await;
        let quantiles =
            self.quantiles(families.durations, matchers, &labels, 1_000.0, troubles).await;
        let route_labels = self::by(&labels[..3], None);
        let query = Query::rate(families.retries, matchers.clone(), &route_labels, window);
        let retries = self.values(&query, troubles).await;
        let named = |name: &str, port: &str| match port {
            "" => name.to_string(),
            port => format!("{name}:{port}"),
        };
        let route = |(key, counts): (&Vec<String>, &Counts)| {
            let [parent, parent_port, route, backend, backend_port] = key.get(AFTER_WORKLOAD..)?
            else {
                return None;
            };
            Some(Route {
                of: self.workload(key),
                direction: "outbound",
                parent: named(parent, parent_port),
                route: route.clone(),
                backend: named(backend, backend_port),
                figures: figures(*counts, quantiles.get(key)),
                extra: retries.get(&key[..AFTER_WORKLOAD + 3]).copied().or(Some(0.0)),
            })
        };
        counts.iter().filter_map(route).collect()
    }

    /// Whose traffic a row tells of: the only one, or the workload that its labels name.
    fn workload(&self, key: &[String]) -> Name {
        if let Some(name) = self.of {
            return name.clone();
        }
        let kinds = KIND_LABELS.iter().zip(key.iter().skip(1));
        let found = kinds.into_iter().find(|(_, value)| !value.is_empty());
        let namespace = key.first().map(String::as_str).unwrap_or_default();
        found.map_or_else(Name::default, |((_, kind), name)| Name::new(namespace, kind, name))
    }

    async fn counts(
        &self,
        query: &Query,
        is_good: impl Fn(&str) -> bool,
        troubles: &mut Troubles,
    ) -> BTreeMap<Vec<String>, Counts> {
        let mut counts: BTreeMap<Vec<String>, Counts> = BTreeMap::new();
        for mut row in golden::ask(self.source, query, troubles).await {
            let class = row.labels.pop().unwrap_or_default();
            let found = counts.entry(row.labels).or_default();
            found.all += row.value;
            found.good += if is_good(&class) { row.value } else { 0.0 };
        }
        counts.retain(|_, counts| counts.all > 0.0);
        counts
    }

    async fn quantiles(
        &self,
        family: &'static str,
        matchers: &[Matcher],
        labels: &[&'static str],
        in_millis: f64,
        troubles: &mut Troubles,
    ) -> BTreeMap<Vec<String>, [Option<f64>; 3]> {
        let mut found: BTreeMap<Vec<String>, [Option<f64>; 3]> = BTreeMap::new();
        let (by, window) = (by(labels, None), self.source.window.0);
        for (place, share) in [0.5, 0.95, 0.99].into_iter().enumerate() {
            let query = Query::quantile(share, family, matchers.to_vec(), &by, window);
            for row in golden::ask(self.source, &query, troubles).await {
                found.entry(row.labels).or_default()[place] = Some(row.value * in_millis);
            }
        }
        found
    }

    async fn values(&self, query: &Query, troubles: &mut Troubles) -> BTreeMap<Vec<String>, f64> {
        let rows = golden::ask(self.source, query, troubles).await;
        rows.into_iter().map(|row| (row.labels, row.value)).collect()
    }
}

/// Namespace, workload, what tells routes apart, and what tells their outcomes apart.
fn by(labels: &[&'static str], outcome: Option<&'static str>) -> Vec<&'static str> {
    let kinds = KIND_LABELS.iter().map(|(label, _)| *label);
    ["namespace"].into_iter().chain(kinds).chain(labels.iter().copied()).chain(outcome).collect()
}

fn figures(counts: Counts, quantiles: Option<&[Option<f64>; 3]>) -> Figures {
    let [p50, p95, p99] = quantiles.copied().unwrap_or_default();
    Figures {
        success: Some((counts.good / counts.all).clamp(0.0, 1.0)),
        rps: Some(counts.all),
        p50,
        p95,
        p99,
        ..Figures::default()
    }
}
