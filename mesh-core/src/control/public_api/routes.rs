//! `stat-inbound`, `stat-outbound` and `routes`: golden metrics of routes.
//!
//! Inbound they are what the server's proxy saw of each request; outbound what the client's proxy
//! did: the route's figures are what the application got, the backends' what each attempt got.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ApiError;
use super::figures::{self, HttpFigures, Key, Quantiles, quantile_slots};
use super::query::Query as UrlQuery;
use super::resource::{Resource, ResourceKind, ResourceQuery};
use super::statistics::{Answer, Asking, Statistics, namespace_of, window_of};
use crate::control::query::{Matcher, Query, Row};
use crate::telemetry::metrics::GRPC_STATUSES;
use crate::traffic::classify::is_grpc_failure;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutesQuestion {
    /// Of which workloads.
    pub resource: ResourceQuery,
    /// Where; else everywhere.
    pub namespace: Option<String>,
    /// Over how long, up to now.
    pub window: Duration,
    /// Only to this service; of another namespace where one is said.
    pub to: Option<(Option<String>, String)>,
}

/// Names a policy's object: `HTTPRoute` `web`, or `default` `probe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyName {
    /// Its kind; `default` for what no object says.
    pub kind: String,
    /// Its namespace; empty where that is the resource's.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its port, where it has one.
    pub port: Option<u16>,
}

/// A route of a server's port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InboundRow {
    /// The server.
    #[serde(flatten)]
    pub resource: Resource,
    /// The Server or default that governs the port.
    pub server: PolicyName,
    /// The route.
    pub route: PolicyName,
    /// Its requests.
    pub http: HttpFigures,
    /// Requests a second that a policy refused.
    pub unauthorized_rps: f64,
}

/// A route of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboundRow {
    /// The client.
    #[serde(flatten)]
    pub resource: Resource,
    /// The service, or what else the route hangs on.
    pub service: PolicyName,
    /// The route.
    pub route: PolicyName,
    /// What the application got.
    pub figures: RouteFigures,
    /// The share of requests that ran out of time, 0 to 1.
    pub timeouts: Option<f64>,
    /// Retries for each request.
    pub retries: Option<f64>,
    /// Where requests went.
    pub backends: Vec<BackendRow>,
}

/// A backend of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendRow {
    /// The backend.
    pub backend: PolicyName,
    /// What each attempt got.
    pub figures: RouteFigures,
}

/// What requests on a route did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteFigures {
    /// Requests that ended in the window. Between scrapes it is estimated: not whole.
    pub requests: f64,
    /// Requests a second.
    pub rps: f64,
    /// The share of them that did well, 0 to 1; null where there were none.
    pub success_rate: Option<f64>,
    /// In milliseconds.
    pub latency_ms: Quantiles,
}

/// A route, from one side or the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteRow {
    /// The route.
    pub route: PolicyName,
    /// The service that clients call, or the Server that governs the port.
    pub service: PolicyName,
    /// What clients got.
    pub effective: RouteFigures,
    /// What each attempt got, where clients tell.
    pub actual: Option<RouteFigures>,
}

impl PolicyName {
    /// A Server or a Service, with its port; `[default]` where no object governs it.
    pub fn of_port(&self) -> String {
        let name = if self.kind == "default" { "[default]" } else { &self.name };
        match self.port {
            Some(port) => format!("{name}:{port}"),
            None => name.to_string(),
        }
    }

    /// A route or an authorization: `[default]` or `[probe]` where no object says it; `-` for none.
    pub fn of_policy(&self) -> String {
        match (self.kind.as_str(), self.name.as_str()) {
            (_, "") => "-".to_string(),
            ("default", name) => format!("[{name}]"),
            (_, name) => name.to_string(),
        }
    }
}

impl From<HttpFigures> for RouteFigures {
    fn from(http: HttpFigures) -> Self {
        let HttpFigures { requests, rps, success_rate, latency_ms, .. } = http;
        Self { requests, rps, success_rate, latency_ms }
    }
}

impl RoutesQuestion {
    /// Of all of a kind, everywhere, over a minute.
    pub fn all(kind: ResourceKind) -> Self {
        let window = super::statistics::WINDOW;
        Self { resource: ResourceQuery::all(kind), namespace: None, window, to: None }
    }

    /// The question of an address.
    pub(super) fn read(query: &UrlQuery) -> Result<Self, ApiError> {
        query.only(&["resource", "namespace", "all_namespaces", "window", "to", "to_namespace"])?;
        let resource = ResourceQuery::read_one(query.value("resource").unwrap_or("deploy"))?;
        let kind = resource.kind;
        let can_be =
            kind.is_workload() || matches!(kind, ResourceKind::Pod | ResourceKind::Service);
        if !can_be {
            let remedy = "ask about a workload, a pod or a service";
            return Err(ApiError::bad(format!("there are no routes of a {kind}"), remedy));
        }
        let to = query.value("to").map(ResourceQuery::read_one).transpose()?;
        let to = match to {
            None => None,
            Some(ResourceQuery { kind: ResourceKind::Service, name: Some(name) }) => {
                Some((query.value("to_namespace").map(str::to_string), name))
            }
            Some(_) => {
                return Err(ApiError::bad("routes lead to services", "give to=svc/NAME"));
            }
        };
        let namespace = namespace_of(query);
        Ok(Self { resource, namespace, window: window_of(query)?, to })
    }

    /// Whose proxies, by which labels.
    fn own(&self) -> (Vec<Matcher>, [&'static str; 2]) {
        let label = self.resource.kind.label();
        let mut matchers: Vec<_> =
            self.namespace.iter().map(|namespace| Matcher::is("namespace", namespace)).collect();
        matchers.push(match &self.resource.name {
            Some(name) => Matcher::is(label, name),
            None => Matcher::some(label),
        });
        (matchers, ["namespace", label])
    }

    fn refuse_services(&self) -> Result<(), ApiError> {
        match self.resource.kind {
            ResourceKind::Service => {
                let remedy = "ask about a workload, or weft routes svc/NAME";
                Err(ApiError::bad("a service has no proxy that counts for it alone", remedy))
            }
            _ => Ok(()),
        }
    }
}

impl Statistics {
    /// Routes of servers' ports.
    ///
    /// # Errors
    /// [`ApiError`] where a question cannot be, or the source of metrics does not answer.
    pub async fn stat_inbound(
        &self,
        question: &RoutesQuestion,
    ) -> Result<Answer<InboundRow>, ApiError> {
        question.refuse_services()?;
        let mut asking = self.asking(question.window);
        let (mut matchers, own) = question.own();
        let by = [&own[..], &SERVER, &ROUTE].concat();
        // This family is of one direction, and does not say which.
        let refused = "inbound_http_authz_deny_total";
        let refused = Query::rate(refused, matchers.clone(), &by, asking.window);
        let refused = asking.ask(&refused).await?.into_iter();
        let refused: BTreeMap<Key, f64> = refused.map(|row| (row.labels, row.value)).collect();
        matchers.push(Matcher::is("direction", "inbound"));
        let found = figures::http(&mut asking, &matchers, &by).await?;
        let kind = question.resource.kind;
        let rows = found.into_iter().map(|(key, http)| InboundRow {
            resource: resource(kind, &key),
            server: server(&key[2..5]),
            route: route(&key[5..7]),
            http,
            unauthorized_rps: refused.get(&key).copied().unwrap_or_default(),
        });
        let rows = rows.collect();
        Ok(asking.answer(rows))
    }

    /// Routes of clients, and where they lead.
    ///
    /// # Errors
    /// [`ApiError`] where a question cannot be, or the source of metrics does not answer.
    pub async fn stat_outbound(
        &self,
        question: &RoutesQuestion,
    ) -> Result<Answer<OutboundRow>, ApiError> {
        question.refuse_services()?;
        let mut asking = self.asking(question.window);
        let (mut matchers, own) = question.own();
        matchers.extend(parent_matchers(question));
        let rows = outbound(&mut asking, question.resource.kind, &matchers, &own).await?;
        Ok(asking.answer(rows))
    }

    /// Routes of a service, as all its clients see them, or of a workload to a service; else of a
    /// workload's own ports.
    ///
    /// # Errors
    /// [`ApiError`] where the source of metrics does not answer.
    pub async fn routes(&self, question: &RoutesQuestion) -> Result<Answer<RouteRow>, ApiError> {
        let mut asking = self.asking(question.window);
        let is_service = question.resource.kind == ResourceKind::Service;
        if !is_service && question.to.is_none() {
            let inbound = self.stat_inbound(question).await?;
            let mut rows: BTreeMap<(PolicyName, PolicyName), Vec<RouteFigures>> = BTreeMap::new();
            for InboundRow { server, route, http, .. } in inbound.rows {
                rows.entry((route, server)).or_default().push(http.into());
            }
            let rows = rows.into_iter().map(|((route, service), figures)| RouteRow {
                route,
                service,
                effective: joined(&figures),
                actual: None,
            });
            let rows = rows.collect();
            return Ok(asking.answer(rows));
        }
        let matchers = match is_service {
            true => service_matchers(question.namespace.as_deref(), &question.resource.name),
            false => {
                let (own, _) = question.own();
                own.into_iter().chain(parent_matchers(question)).collect()
            }
        };
        let rows = outbound(&mut asking, question.resource.kind, &matchers, &[]).await?;
        let rows = rows.into_iter().map(|row| {
            let attempts: Vec<_> = row.backends.iter().map(|backend| backend.figures).collect();
            RouteRow {
                route: row.route,
                service: row.service,
                effective: row.figures,
                actual: (!attempts.is_empty()).then(|| joined(&attempts)),
            }
        });
        let rows = rows.collect();
        Ok(asking.answer(rows))
    }
}

/// Labels of a Server, and of a route.
pub(super) const SERVER: [&str; 3] = ["srv_kind", "srv_name", "srv_port"];
pub(super) const ROUTE: [&str; 2] = ["route_kind", "route_name"];
/// What an outbound route hangs on, and the route.
const OUTBOUND: [&str; 7] = [
    "parent_kind",
    "parent_namespace",
    "parent_name",
    "parent_port",
    "route_kind",
    "route_namespace",
    "route_name",
];
const BACKEND: [&str; 4] = ["backend_kind", "backend_namespace", "backend_name", "backend_port"];

fn parent_matchers(question: &RoutesQuestion) -> Vec<Matcher> {
    let Some((namespace, name)) = &question.to else { return Vec::new() };
    let namespace = namespace.as_deref().or(question.namespace.as_deref());
    service_matchers(namespace, &Some(name.clone()))
}

fn service_matchers(namespace: Option<&str>, name: &Option<String>) -> Vec<Matcher> {
    let mut matchers = vec![Matcher::is("parent_kind", "Service")];
    matchers.extend(namespace.map(|namespace| Matcher::is("parent_namespace", namespace)));
    matchers.extend(name.as_ref().map(|name| Matcher::is("parent_name", name)));
    matchers
}

/// A protocol's families of outbound routes.
struct Families {
    statuses: &'static str,
    durations: &'static str,
    retries: &'static str,
    backend_statuses: &'static str,
    backend_durations: &'static str,
    status: &'static str,
}

const FAMILIES: [Families; 2] = [
    Families {
        statuses: "outbound_http_route_request_statuses_total",
        durations: "outbound_http_route_request_duration_seconds_bucket",
        retries: "outbound_http_route_retry_requests_total",
        backend_statuses: "outbound_http_route_backend_response_statuses_total",
        backend_durations: "outbound_http_route_backend_response_duration_seconds_bucket",
        status: "http_status",
    },
    Families {
        statuses: "outbound_grpc_route_request_statuses_total",
        durations: "outbound_grpc_route_request_duration_seconds_bucket",
        retries: "outbound_grpc_route_retry_requests_total",
        backend_statuses: "outbound_grpc_route_backend_response_statuses_total",
        backend_durations: "outbound_grpc_route_backend_response_duration_seconds_bucket",
        status: "grpc_status",
    },
];

/// Routes of clients, by their own labels where some are given.
async fn outbound(
    asking: &mut Asking<'_>,
    kind: ResourceKind,
    matchers: &[Matcher],
    own: &[&'static str],
) -> Result<Vec<OutboundRow>, ApiError> {
    let by = [own, &OUTBOUND].concat();
    let with_backend = [by.as_slice(), &BACKEND].concat();
    let mut rows = Vec::new();
    for families in &FAMILIES {
        let Families { statuses, durations, retries, status, .. } = families;
        let routes = ended(asking, matchers, &by, (statuses, durations, status)).await?;
        let attempts = (families.backend_statuses, families.backend_durations, *status);
        let attempts = ended(asking, matchers, &with_backend, attempts).await?;
        let query = Query::increase(retries, matchers.to_vec(), &by, asking.window);
        let retries = asking.ask(&query).await?;
        let retries: BTreeMap<_, _> =
            retries.into_iter().map(|row| (row.labels, row.value)).collect();
        for (key, Ended { figures, timeouts }) in routes {
            let of_route = attempts.range(key.clone()..);
            let of_route = of_route.take_while(|(attempt, _)| attempt.starts_with(&key));
            let backends = of_route.map(|(attempt, ended)| BackendRow {
                backend: object(&attempt[key.len()..]),
                figures: ended.figures,
            });
            let named = &key[own.len()..];
            let share =
                |count: f64| Some(count / figures.requests).filter(|_| figures.requests > 0.0);
            rows.push(OutboundRow {
                resource: resource(kind, &key[..own.len()]),
                service: object(&named[..4]),
                route: PolicyName {
                    kind: named[4].clone(),
                    namespace: named[5].clone(),
                    name: named[6].clone(),
                    port: None,
                },
                figures,
                timeouts: share(timeouts),
                retries: share(retries.get(&key).copied().unwrap_or_default()),
                backends: backends.collect(),
            });
        }
    }
    rows.sort_by(|a, b| {
        let order =
            |row: &OutboundRow| (row.resource.clone(), row.service.clone(), row.route.clone());
        order(a).cmp(&order(b))
    });
    Ok(rows)
}

#[derive(Clone, Copy, Default)]
struct Ended {
    figures: RouteFigures,
    timeouts: f64,
}

/// Streams that ended, by group: `families` are those of statuses and of durations, and the label of
/// the status.
async fn ended(
    asking: &mut Asking<'_>,
    matchers: &[Matcher],
    by: &[&'static str],
    (statuses, durations, status): (&'static str, &'static str, &'static str),
) -> Result<BTreeMap<Key, Ended>, ApiError> {
    let mut found: BTreeMap<Key, (Ended, f64)> = BTreeMap::new();
    let with_end = [by, &[status, "error"]].concat();
    let query = Query::increase(statuses, matchers.to_vec(), &with_end, asking.window);
    for Row { mut labels, value } in asking.ask(&query).await? {
        let (error, status) = (labels.pop().unwrap_or_default(), labels.pop().unwrap_or_default());
        let (ended, successes) = found.entry(labels).or_default();
        ended.figures.requests += value;
        *successes += if is_success(&status, &error) { value } else { 0.0 };
        ended.timeouts += if error.ends_with("_TIMEOUT") { value } else { 0.0 };
    }
    let seconds = asking.window.as_secs_f64();
    let mut found: BTreeMap<Key, Ended> = found
        .into_iter()
        .filter(|(_, (ended, _))| ended.figures.requests > 0.0)
        .map(|(key, (mut ended, successes))| {
            ended.figures.rps = ended.figures.requests / seconds;
            ended.figures.success_rate = Some(successes / ended.figures.requests);
            (key, ended)
        })
        .collect();
    for (share, slot) in quantile_slots() {
        let query = Query::quantile(share, durations, matchers.to_vec(), by, asking.window);
        for Row { labels, value } in asking.ask(&query).await? {
            if let Some(ended) = found.get_mut(&labels) {
                *slot(&mut ended.figures.latency_ms) = Some(value * 1000.0);
            }
        }
    }
    Ok(found)
}

/// As the proxy classifies responses where nothing else is said.
fn is_success(status: &str, error: &str) -> bool {
    if !error.is_empty() {
        return false;
    }
    match status.parse::<u16>() {
        Ok(status) => status < 500,
        Err(_) => GRPC_STATUSES
            .iter()
            .position(|name| *name == status)
            .is_some_and(|code| !is_grpc_failure(code as u16)),
    }
}

/// Figures of several as one. Quantiles cannot be joined: they are the worst.
fn joined(all: &[RouteFigures]) -> RouteFigures {
    let sum = |of: fn(&RouteFigures) -> f64| all.iter().map(of).sum::<f64>();
    let requests = sum(|one| one.requests);
    let successes = sum(|one| one.success_rate.unwrap_or_default() * one.requests);
    let worst = |of: fn(&RouteFigures) -> Option<f64>| all.iter().filter_map(of).reduce(f64::max);
    RouteFigures {
        requests,
        rps: sum(|one| one.rps),
        success_rate: Some(successes / requests).filter(|_| requests > 0.0),
        latency_ms: Quantiles {
            p50: worst(|one| one.latency_ms.p50),
            p95: worst(|one| one.latency_ms.p95),
            p99: worst(|one| one.latency_ms.p99),
        },
    }
}

fn resource(kind: ResourceKind, key: &[String]) -> Resource {
    let (namespace, name) = super::stat::named(&key[..key.len().min(2)].to_vec());
    Resource { kind, namespace, name }
}

/// Of [`SERVER`].
pub(super) fn server(labels: &[String]) -> PolicyName {
    let [kind, name, port] = labels else { return PolicyName::default() };
    PolicyName { port: port.parse().ok(), ..route(&[kind.clone(), name.clone()]) }
}

/// Of [`ROUTE`].
pub(super) fn route(labels: &[String]) -> PolicyName {
    let [kind, name] = labels else { return PolicyName::default() };
    PolicyName { kind: kind.clone(), name: name.clone(), ..PolicyName::default() }
}

/// Kind, namespace, name and port.
fn object(labels: &[String]) -> PolicyName {
    let [kind, namespace, name, port] = labels else { return PolicyName::default() };
    PolicyName {
        kind: kind.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
        port: port.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_streams_are_classified_as_the_proxy_does() {
        assert!(is_success("200", ""));
        assert!(is_success("404", ""));
        assert!(!is_success("503", ""));
        assert!(!is_success("200", "RESET"));
        assert!(is_success("OK", ""));
        assert!(is_success("NOT_FOUND", ""));
        assert!(!is_success("UNAVAILABLE", ""));
        assert!(!is_success("", ""));
    }
}
