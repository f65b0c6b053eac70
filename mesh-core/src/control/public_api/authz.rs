//! `authz`: what authorizations let through and refused; and, without figures, which there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ApiError;
use super::figures::{self, HttpFigures, Key};
use super::query::Query as UrlQuery;
use super::resource::{Resource, ResourceKind, ResourceQuery};
use super::routes::{PolicyName, ROUTE, SERVER, route, server};
use super::statistics::{Answer, Statistics, namespace_of, window_of};
use crate::control::index::{Instance, View};
use crate::control::query::{Matcher, Query};
use crate::control::select::served_ports;
use crate::control::{policy, workload};
use crate::model::metadata::Metadata;
use crate::model::server_policy::{Authorization, ServerHttpRoute, ServerPolicy, ServerProtocol};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthzQuestion {
    /// Of which workloads.
    pub resource: ResourceQuery,
    /// Where; else everywhere.
    pub namespace: Option<String>,
    /// Over how long, up to now.
    pub window: Duration,
}

/// What an authorization let through, or a Server refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthzRow {
    /// The server.
    #[serde(flatten)]
    pub resource: Resource,
    /// The Server or default that governs the port.
    pub server: PolicyName,
    /// The route; nothing for connections of bytes.
    pub route: PolicyName,
    /// What allowed it; null for what was refused.
    pub authorization: Option<PolicyName>,
    /// Requests a second that were refused.
    pub unauthorized_rps: f64,
    /// Requests that were let through; null where there were none.
    pub http: Option<HttpFigures>,
    /// Connections of bytes a second that were let through, or refused.
    pub connections_per_second: f64,
}

/// An authorization that there is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyRow {
    /// The server.
    #[serde(flatten)]
    pub resource: Resource,
    /// The Server.
    pub server: PolicyName,
    /// The route that it is of; null where it is of all.
    pub route: Option<PolicyName>,
    /// An AuthorizationPolicy's name.
    pub authorization_policy: Option<String>,
    /// A ServerAuthorization's name.
    pub server_authorization: Option<String>,
}

impl AuthzQuestion {
    /// The question of an address.
    pub(super) fn read(query: &UrlQuery) -> Result<Self, ApiError> {
        query.only(&["resource", "namespace", "all_namespaces", "window"])?;
        let resource = ResourceQuery::read_one(query.value("resource").unwrap_or("deploy"))?;
        let kind = resource.kind;
        if !kind.is_workload() && !matches!(kind, ResourceKind::Pod | ResourceKind::Namespace) {
            let remedy = "ask about a workload, a pod or a namespace";
            return Err(ApiError::bad(format!("nothing authorizes traffic to a {kind}"), remedy));
        }
        Ok(Self { resource, namespace: namespace_of(query), window: window_of(query)? })
    }

    fn takes(&self, view: &View<'_>, instance: Instance<'_>) -> Option<Resource> {
        let ResourceQuery { kind, name } = &self.resource;
        let found = match kind {
            ResourceKind::Namespace => instance.namespace().to_string(),
            ResourceKind::Pod => instance.name().to_string(),
            kind => {
                let (made_by, name) = workload::of_instance(view, instance)?;
                (made_by == kind.name()).then_some(name)?
            }
        };
        let namespace = instance.namespace();
        let is_there = *kind == ResourceKind::Namespace
            || self.namespace.as_deref().is_none_or(|wanted| wanted == namespace);
        let is_it = name.as_deref().is_none_or(|wanted| wanted == found);
        let namespace = namespace.to_string();
        (is_there && is_it).then_some(Resource { kind: *kind, namespace, name: found })
    }
}

impl Statistics {
    /// What authorizations let through, and Servers refused.
    ///
    /// # Errors
    /// [`ApiError`] where the source of metrics does not answer.
    pub async fn authz(&self, question: &AuthzQuestion) -> Result<Answer<AuthzRow>, ApiError> {
        let mut asking = self.asking(question.window);
        let kind = question.resource.kind;
        let mut matchers = Vec::new();
        if let Some(namespace) =
            question.namespace.as_ref().filter(|_| kind != ResourceKind::Namespace)
        {
            matchers.push(Matcher::is("namespace", namespace));
        }
        matchers.push(match &question.resource.name {
            Some(name) => Matcher::is(kind.label(), name),
            None => Matcher::some(kind.label()),
        });
        let own = ["namespace", kind.label()];
        let route_by = [&own[..], &SERVER, &ROUTE].concat();
        let by = [route_by.as_slice(), &AUTHZ].concat();
        let mut inbound = matchers.clone();
        inbound.push(Matcher::is("direction", "inbound"));
        let mut rows: BTreeMap<Key, AuthzRow> = BTreeMap::new();
        for (key, http) in figures::http(&mut asking, &inbound, &by).await? {
            let row = rows.entry(key.clone()).or_insert_with(|| row(kind, &key));
            row.http = Some(http);
        }
        let refused = "inbound_http_authz_deny_total";
        let refused = Query::rate(refused, matchers.clone(), &route_by, asking.window);
        for mut found in asking.ask(&refused).await? {
            found.labels.extend([String::new(), String::new()]);
            let row = rows.entry(found.labels.clone()).or_insert_with(|| row(kind, &found.labels));
            row.unauthorized_rps += found.value;
        }
        let connections = [&own[..], &SERVER, &AUTHZ].concat();
        for family in ["inbound_tcp_authz_allow_total", "inbound_tcp_authz_deny_total"] {
            let query = Query::rate(family, matchers.clone(), &connections, asking.window);
            for found in asking.ask(&query).await? {
                let (server, authz) = found.labels.split_at(5);
                let key = [server, &[String::new(), String::new()], authz].concat();
                let row = rows.entry(key.clone()).or_insert_with(|| row(kind, &key));
                row.connections_per_second += found.value;
            }
        }
        let did = |row: &AuthzRow| {
            row.http.is_some() || row.unauthorized_rps > 0.0 || row.connections_per_second > 0.0
        };
        let rows = rows.into_values().filter(did).collect();
        Ok(asking.answer(rows))
    }

    /// The authorizations that there are for a workload's ports.
    pub fn policies(&self, question: &AuthzQuestion) -> Answer<PolicyRow> {
        let rows = self.publisher.read(|view| {
            let mut rows = BTreeSet::new();
            for instance in view.instances() {
                if let Some(resource) = question.takes(view, instance) {
                    rows.extend(policies_of(view, instance, &resource));
                }
            }
            rows
        });
        self.of_index(rows.into_iter().collect())
    }
}

const AUTHZ: [&str; 2] = ["authz_kind", "authz_name"];

/// Of namespace, name, [`SERVER`], [`ROUTE`] and [`AUTHZ`].
fn row(kind: ResourceKind, key: &[String]) -> AuthzRow {
    let authorization = route(&key[7..9]);
    AuthzRow {
        resource: Resource { kind, namespace: key[0].clone(), name: key[1].clone() },
        server: server(&key[2..5]),
        route: route(&key[5..7]),
        authorization: Some(authorization).filter(|found| !found.name.is_empty()),
        unauthorized_rps: 0.0,
        http: None,
        connections_per_second: 0.0,
    }
}

fn policies_of(view: &View<'_>, instance: Instance<'_>, resource: &Resource) -> Vec<PolicyRow> {
    let mut rows = Vec::new();
    for port in served_ports(view, instance) {
        let compiled = policy::server::compile(view, instance.namespace(), instance.name(), port);
        let Ok(compiled) = compiled else { continue };
        let server = PolicyName { port: Some(port), ..name_of(&compiled.server) };
        let row = |route: Option<PolicyName>, authorization: &Authorization| {
            let name = authorization.metadata.name().to_string();
            let is = |kind: &str| authorization.metadata.kind().eq_ignore_ascii_case(kind);
            PolicyRow {
                resource: resource.clone(),
                server: server.clone(),
                route,
                authorization_policy: is("authorizationpolicy").then(|| name.clone()),
                server_authorization: is("serverauthorization").then_some(name),
            }
        };
        rows.extend(compiled.authorizations.iter().map(|one| row(None, one)));
        for (metadata, authorizations) in routes_of(&compiled) {
            let named = name_of(metadata);
            rows.extend(authorizations.iter().map(|one| row(Some(named.clone()), one)));
        }
    }
    rows.retain(|row| row.authorization_policy.is_some() || row.server_authorization.is_some());
    rows
}

fn routes_of(policy: &ServerPolicy) -> Vec<(&Metadata, &[Authorization])> {
    match &policy.protocol {
        ServerProtocol::Detect { routes, .. } => of_http(routes),
        ServerProtocol::Http1(http) | ServerProtocol::Http2(http) => of_http(&http.routes),
        ServerProtocol::Grpc(routes) => {
            routes.iter().map(|route| (&route.metadata, route.authorizations.as_slice())).collect()
        }
        ServerProtocol::Opaque | ServerProtocol::Tls => Vec::new(),
    }
}

fn of_http(routes: &[ServerHttpRoute]) -> Vec<(&Metadata, &[Authorization])> {
    routes.iter().map(|route| (&route.metadata, route.authorizations.as_slice())).collect()
}

fn name_of(metadata: &Metadata) -> PolicyName {
    PolicyName {
        kind: metadata.kind().to_string(),
        namespace: metadata.namespace().to_string(),
        name: metadata.name().to_string(),
        port: None,
    }
}
