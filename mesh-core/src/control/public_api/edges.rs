//! `edges`: who speaks to whom, as whom, and whether it is secured.
//!
//! An edge is what a client's proxy counts of its connections to a destination. Of clients that have
//! no proxy, or one that nobody scrapes, only the server's proxy knows: where they have an identity,
//! they are an edge without a source.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ApiError;
use super::figures::{self, HttpFigures, Key};
use super::query::Query as UrlQuery;
use super::resource::{Resource, ResourceKind, ResourceQuery};
use super::statistics::{Answer, Asking, Statistics, namespace_of, window_of};
use crate::control::query::{Matcher, Query, Row};
use crate::control::workload;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgesQuestion {
    /// Between resources of this kind, or of one of them and others of its kind.
    pub resource: ResourceQuery,
    /// At least one end is here; else anywhere.
    pub namespace: Option<String>,
    /// Over how long, up to now.
    pub window: Duration,
}

/// Who speaks to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeRow {
    /// The client.
    pub src: Resource,
    /// The server.
    pub dst: Resource,
    /// Who the client is; empty where it is not known or has none.
    pub client_id: String,
    /// Who the server is; empty where it has none.
    pub server_id: String,
    /// Whether all of it is over mutual TLS.
    pub secured: bool,
    /// Why some of it is not; empty where all is, or nothing is said.
    pub no_tls_reason: String,
    /// Connections that are open.
    pub connections: f64,
    /// Requests; null where there were none.
    pub http: Option<HttpFigures>,
}

impl EdgesQuestion {
    /// Between all of a kind, everywhere, over a minute.
    pub fn all(kind: ResourceKind) -> Self {
        let resource = ResourceQuery::all(kind);
        Self { resource, namespace: None, window: super::statistics::WINDOW }
    }

    /// The question of an address.
    pub(super) fn read(query: &UrlQuery) -> Result<Self, ApiError> {
        query.only(&["resource", "namespace", "all_namespaces", "window"])?;
        let text = query.value("resource").unwrap_or("deploy");
        let resource = ResourceQuery::read_one(text)?;
        let kind = resource.kind;
        if kind.label().is_empty() || kind.dst_label().is_empty() || kind == ResourceKind::Authority
        {
            let remedy = "ask about a workload, a pod or a namespace";
            return Err(ApiError::bad(format!("there are no edges of a {kind}"), remedy));
        }
        Ok(Self { resource, namespace: namespace_of(query), window: window_of(query)? })
    }

    fn takes(&self, row: &EdgeRow) -> bool {
        let is_it = |one: &Resource| {
            self.namespace.as_deref().is_none_or(|namespace| namespace == one.namespace)
                && self.resource.name.as_deref().is_none_or(|name| name == one.name)
        };
        is_it(&row.src) || is_it(&row.dst)
    }
}

impl Statistics {
    /// Who speaks to whom.
    ///
    /// # Errors
    /// [`ApiError`] where the source of metrics does not answer.
    pub async fn edges(&self, question: &EdgesQuestion) -> Result<Answer<EdgeRow>, ApiError> {
        let kind = question.resource.kind;
        let mut asking = self.asking(question.window);
        let ends = ends(kind);
        let mut rows = seen_by_clients(&mut asking, kind, &ends).await?;
        let identities = self.identities(kind);
        for row in rows.values_mut() {
            let client = (row.src.namespace.clone(), row.src.name.clone());
            if let Some(identity) = identities.get(&client).filter(|_| !row.server_id.is_empty()) {
                row.client_id.clone_from(identity);
            }
        }
        let strangers = seen_by_servers(&mut asking, kind, &rows).await?;
        let rows = rows.into_values().chain(strangers);
        Ok(asking.answer(rows.filter(|row| question.takes(row)).collect()))
    }

    /// Who resources of a kind are, where all of their pods are the same.
    fn identities(&self, kind: ResourceKind) -> BTreeMap<(String, String), String> {
        self.publisher.read(|view| {
            let mut found: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
            for instance in view.instances() {
                let name = match kind {
                    ResourceKind::Pod => Some(instance.name().to_string()),
                    kind => workload::of_instance(view, instance)
                        .filter(|(made_by, _)| made_by == kind.name())
                        .map(|(_, name)| name),
                };
                let identity = view.mesh.identity(instance.namespace(), instance.service_account());
                if let (Some(name), Ok(identity)) = (name, identity) {
                    let key = (instance.namespace().to_string(), name);
                    found.entry(key).or_default().insert(identity.as_str().to_string());
                }
            }
            let one = |(name, identities): (_, BTreeSet<String>)| {
                let first = identities.first()?.clone();
                (identities.len() == 1).then_some((name, first))
            };
            found.into_iter().filter_map(one).collect()
        })
    }
}

/// The labels of both ends: of the client, and of the server.
fn ends(kind: ResourceKind) -> Vec<&'static str> {
    match kind {
        ResourceKind::Namespace => vec!["namespace", "dst_namespace"],
        kind => vec!["namespace", kind.label(), "dst_namespace", kind.dst_label()],
    }
}

type Rows = BTreeMap<Key, EdgeRow>;

async fn seen_by_clients(
    asking: &mut Asking<'_>,
    kind: ResourceKind,
    ends: &[&'static str],
) -> Result<Rows, ApiError> {
    let mut matchers = vec![Matcher::is("direction", "outbound")];
    matchers.extend(ends.iter().map(|label| Matcher::some(label)));
    let http = figures::http(asking, &matchers, ends).await?;
    matchers.push(Matcher::is("peer", "dst"));
    let mut by = ends.to_vec();
    by.extend(["tls", "server_id", "no_tls_reason"]);
    let opened = Query::increase("tcp_open_total", matchers.clone(), &by, asking.window);
    let open = Query::last("tcp_open_connections", matchers, &by);
    let mut rows = Rows::new();
    for (is_open, query) in [(true, open), (false, opened)] {
        for Row { mut labels, value } in asking.ask(&query).await? {
            let tls = labels.split_off(ends.len());
            if value > 0.0 || http.contains_key(&labels) {
                let row = rows.entry(labels.clone()).or_insert_with(|| row(kind, &labels));
                note_tls(row, &tls);
                row.connections += if is_open { value } else { 0.0 };
            }
        }
    }
    for (labels, figures) in http {
        let row = rows.entry(labels.clone()).or_insert_with(|| row(kind, &labels));
        row.http = Some(figures);
    }
    Ok(rows)
}

fn note_tls(row: &mut EdgeRow, tls: &[String]) {
    let [tls, server_id, reason] = tls else { return };
    match tls.as_str() {
        "true" => row.server_id.clone_from(server_id),
        _ => {
            row.secured = false;
            row.no_tls_reason = if reason.is_empty() { tls.clone() } else { reason.clone() };
        }
    }
}

fn row(kind: ResourceKind, ends: &[String]) -> EdgeRow {
    let (src, dst) = ends.split_at(ends.len() / 2);
    let resource = |end: &[String]| {
        let (namespace, name) = super::stat::named(&end.to_vec());
        Resource { kind, namespace, name }
    };
    EdgeRow {
        src: resource(src),
        dst: resource(dst),
        client_id: String::new(),
        server_id: String::new(),
        secured: true,
        no_tls_reason: String::new(),
        connections: 0.0,
        http: None,
    }
}

/// Identities that servers' proxies see and no client's proxy accounts for.
async fn seen_by_servers(
    asking: &mut Asking<'_>,
    kind: ResourceKind,
    known: &Rows,
) -> Result<Vec<EdgeRow>, ApiError> {
    let server = match kind {
        ResourceKind::Namespace => vec!["namespace"],
        kind => vec!["namespace", kind.label()],
    };
    let mut matchers = vec![Matcher::is("direction", "inbound"), Matcher::is("peer", "src")];
    matchers.push(Matcher::some("client_id"));
    matchers.extend(server.iter().map(|label| Matcher::some(label)));
    let mut by = server.clone();
    by.push("client_id");
    let query = Query::last("tcp_open_connections", matchers, &by);
    let accounted: BTreeSet<_> =
        known.values().map(|row| (&row.dst, row.client_id.as_str())).collect();
    let mut strangers = Vec::new();
    for Row { mut labels, value } in asking.ask(&query).await? {
        let client_id = labels.pop().unwrap_or_default();
        let ends = [vec![String::new(); labels.len()], labels].concat();
        let mut row = row(kind, &ends);
        // Namespaces have as many identities as service accounts.
        let is_known =
            kind == ResourceKind::Namespace || accounted.contains(&(&row.dst, client_id.as_str()));
        if value > 0.0 && !is_known {
            row.client_id = client_id;
            row.connections = value;
            strangers.push(row);
        }
    }
    Ok(strangers)
}
