//! `stat`: golden metrics of resources, as `linkerd viz stat` has them.
//!
//! A workload's figures are its own proxies', of what they take in. A service's and an authority's are
//! their clients', and so are those of a question with `to` or `from`: there one end is the client.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde::{Deserialize, Serialize};

use super::figures::{self, HttpFigures, Key, TcpFigures};
use super::query::Query as UrlQuery;
use super::resource::{Resource, ResourceKind, ResourceQuery};
use super::statistics::{Answer, Asking, Statistics, namespace_of, window_of};
use super::{ApiError, census};
use crate::control::query::{Matcher, Query};

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct StatQuestion {
    /// About what.
    pub resources: Vec<ResourceQuery>,
    /// Where; else everywhere.
    pub namespace: Option<String>,
    /// Over how long, up to now.
    pub window: Duration,
    /// Which of its traffic.
    pub traffic: Traffic,
    /// Only what has these labels.
    pub selector: Option<LabelSelector>,
    /// What has no proxy as well.
    pub unmeshed: bool,
}

/// Which traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    /// All that comes in.
    #[default]
    Any,
    /// What goes out to this.
    To(Peer),
    /// What comes from this.
    From(Peer),
}

/// The other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What; none for everything of the namespace.
    pub resource: Option<ResourceQuery>,
    /// Its namespace; none for any.
    pub namespace: Option<String>,
}

/// What a resource does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatRow {
    /// Which.
    #[serde(flatten)]
    pub resource: Resource,
    /// A pod's phase.
    pub status: Option<String>,
    /// How many of its pods have a proxy; null for what has no pods.
    pub meshed: Option<Meshed>,
    /// Its requests; null where there were none.
    pub http: Option<HttpFigures>,
    /// Its connections; null where there were none.
    pub tcp: Option<TcpFigures>,
    /// Requests a second that a policy refused; null where nobody was refused.
    pub unauthorized_rps: Option<f64>,
}

/// How many pods have a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meshed {
    /// Those that have one.
    pub meshed: u32,
    /// All that run, or wait for it.
    pub running: u32,
    /// All that ended badly.
    pub failed: u32,
}

impl StatQuestion {
    /// All of a kind, everywhere, over a minute.
    pub fn all(kind: ResourceKind) -> Self {
        Self {
            resources: vec![ResourceQuery::all(kind)],
            namespace: None,
            window: super::statistics::WINDOW,
            traffic: Traffic::Any,
            selector: None,
            unmeshed: false,
        }
    }

    /// The question of an address.
    pub(in crate::control) fn read(query: &UrlQuery) -> Result<Self, ApiError> {
        query.only(&[
            "resource",
            "namespace",
            "all_namespaces",
            "window",
            "to",
            "to_namespace",
            "from",
            "from_namespace",
            "selector",
            "unmeshed",
        ])?;
        let mut resources = Vec::new();
        for text in query.values("resource") {
            resources.extend(ResourceQuery::read(text)?);
        }
        if resources.is_empty() {
            let remedy = "give resource=deploy, resource=deploy/web or resource=all";
            return Err(ApiError::bad("no resource is given", remedy));
        }
        let namespace = namespace_of(query);
        let question = Self {
            traffic: traffic_of(query, namespace.as_deref())?,
            resources,
            namespace,
            window: window_of(query)?,
            selector: query.value("selector").map(read_selector).transpose()?,
            unmeshed: query.is_set("unmeshed"),
        };
        question.resources.iter().try_for_each(|one| question.scope(one).map(drop))?;
        Ok(question)
    }

    /// Which series tell of a resource.
    pub(in crate::control) fn scope(&self, resource: &ResourceQuery) -> Result<Scope, ApiError> {
        let ResourceQuery { kind, name } = resource;
        let is_seen_by_client = matches!(kind, ResourceKind::Service | ResourceKind::Authority);
        let cannot = |what: &str, remedy: &str| {
            Err(ApiError::bad(format!("there is no traffic {what} a {kind} alone"), remedy))
        };
        let mut matchers = Vec::new();
        let (space, label, direction, peer) = match &self.traffic {
            Traffic::To(_) if kind.label().is_empty() => {
                return cannot("from", "ask about its pods' workload, such as deploy");
            }
            Traffic::From(_) if kind.dst_label().is_empty() => {
                return cannot("to", "ask about a service or a workload");
            }
            Traffic::Any if is_seen_by_client => {
                ("dst_namespace", kind.dst_label(), "outbound", "dst")
            }
            Traffic::Any => ("namespace", kind.label(), "inbound", "src"),
            Traffic::To(peer) => {
                matchers.extend(peer_matchers(peer, "dst_namespace", ResourceKind::dst_label));
                // A name is where it leads.
                let space = if is_seen_by_client { "dst_namespace" } else { "namespace" };
                (space, kind.label(), "outbound", "dst")
            }
            Traffic::From(peer) => {
                matchers.extend(peer_matchers(peer, "namespace", ResourceKind::label));
                ("dst_namespace", kind.dst_label(), "outbound", "dst")
            }
        };
        matchers.push(Matcher::is("direction", direction));
        if *kind == ResourceKind::Server {
            matchers.push(Matcher::is("srv_kind", "server"));
        }
        let is_namespace = *kind == ResourceKind::Namespace;
        if let Some(namespace) = self.namespace.as_ref().filter(|_| !is_namespace) {
            matchers.push(Matcher::is(space, namespace));
        }
        matchers.push(match name {
            Some(name) => Matcher::is(label, name),
            None => Matcher::some(label),
        });
        let by = if is_namespace { vec![space] } else { vec![space, label] };
        Ok(Scope { matchers, by, peer })
    }
}

/// Which series tell of a resource, and by which labels.
#[derive(Clone, Debug)]
pub(in crate::control) struct Scope {
    pub(in crate::control) matchers: Vec<Matcher>,
    pub(in crate::control) by: Vec<&'static str>,
    /// Which end of its connections counts them.
    pub(in crate::control) peer: &'static str,
}

impl Scope {
    /// All that meshed servers take in.
    pub(in crate::control) fn mesh() -> Self {
        let matchers = vec![Matcher::is("direction", "inbound")];
        Self { matchers, by: Vec::new(), peer: "src" }
    }

    /// The conditions on connections.
    pub(in crate::control) fn of_connections(&self) -> Vec<Matcher> {
        self.matchers.iter().cloned().chain([Matcher::is("peer", self.peer)]).collect()
    }
}

fn peer_matchers(
    peer: &Peer,
    namespace: &'static str,
    label: fn(ResourceKind) -> &'static str,
) -> Vec<Matcher> {
    let mut matchers = Vec::new();
    let is_namespace =
        peer.resource.as_ref().is_some_and(|one| one.kind == ResourceKind::Namespace);
    if let Some(name) = peer.namespace.as_ref().filter(|_| !is_namespace) {
        matchers.push(Matcher::is(namespace, name));
    }
    if let Some(ResourceQuery { kind, name }) = &peer.resource {
        matchers.push(match name {
            Some(name) => Matcher::is(label(*kind), name),
            None => Matcher::some(label(*kind)),
        });
    }
    matchers
}

/// The other end of a question, of the same namespace where none is said.
pub(super) fn traffic_of(query: &UrlQuery, namespace: Option<&str>) -> Result<Traffic, ApiError> {
    let peer = |name: &str, space: &str, label: fn(ResourceKind) -> &'static str| {
        let (resource, said) = (query.value(name), query.value(space));
        if resource.is_none() && said.is_none() {
            return Ok(None);
        }
        let resource = resource.map(ResourceQuery::read_one).transpose()?;
        if let Some(one) = resource.as_ref().filter(|one| label(one.kind).is_empty()) {
            let remedy = "give a workload, a pod, a namespace, or after to a service";
            return Err(ApiError::bad(format!("{name} cannot be a {}", one.kind), remedy));
        }
        Ok(Some(Peer { resource, namespace: said.or(namespace).map(str::to_string) }))
    };
    let to = peer("to", "to_namespace", ResourceKind::dst_label)?;
    let from = peer("from", "from_namespace", ResourceKind::label)?;
    match (to, from) {
        (None, None) => Ok(Traffic::Any),
        (Some(to), None) => Ok(Traffic::To(to)),
        (None, Some(from)) => Ok(Traffic::From(from)),
        (Some(_), Some(_)) => {
            Err(ApiError::bad("to and from cannot both be given", "give one of them"))
        }
    }
}

/// `app=web,tier!=db,canary`: a selector as kubectl takes it, but for sets.
pub(in crate::control) fn read_selector(text: &str) -> Result<LabelSelector, ApiError> {
    let requirement = |part: &str| {
        let part = part.trim();
        let rule = |key: &str, operator: &str, value: Option<&str>| LabelSelectorRequirement {
            key: key.trim().to_string(),
            operator: operator.to_string(),
            values: value.map(|value| vec![value.trim().to_string()]),
        };
        let rule = if let Some((key, value)) = part.split_once("!=") {
            rule(key, "NotIn", Some(value))
        } else if let Some((key, value)) = part.split_once("==").or(part.split_once('=')) {
            rule(key, "In", Some(value))
        } else if let Some(key) = part.strip_prefix('!') {
            rule(key, "DoesNotExist", None)
        } else {
            rule(part, "Exists", None)
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let values = rule.values.iter().flatten();
        let is_good = !rule.key.is_empty()
            && rule.key.chars().all(is_plain)
            && values.into_iter().all(|value| value.chars().all(is_plain));
        is_good.then_some(rule).ok_or_else(|| {
            let remedy = "write app=web, app!=web, app or !app, with commas between them";
            ApiError::bad(format!("{part:?} selects nothing"), remedy)
        })
    };
    let rules: Result<Vec<_>, _> = text.split(',').map(requirement).collect();
    Ok(LabelSelector { match_labels: None, match_expressions: Some(rules?) })
}

impl Statistics {
    /// What resources do.
    ///
    /// # Errors
    /// [`ApiError`] where a question cannot be, or the source of metrics does not answer.
    pub async fn stat(&self, question: &StatQuestion) -> Result<Answer<StatRow>, ApiError> {
        let mut asking = self.asking(question.window);
        let mut rows = BTreeMap::new();
        for resource in &question.resources {
            let scope = question.scope(resource)?;
            let seen = Seen::ask(&mut asking, &scope, resource.kind).await?;
            for row in self.rows(question, resource, &seen) {
                rows.insert(row.resource.clone(), row);
            }
        }
        Ok(asking.answer(rows.into_values().collect()))
    }

    /// What all of a scope did together.
    pub(in crate::control) async fn whole(
        &self,
        scope: &Scope,
        window: Duration,
    ) -> Result<Answer<(HttpFigures, TcpFigures)>, ApiError> {
        let mut asking = self.asking(window);
        let http = figures::http(&mut asking, &scope.matchers, &[]).await?;
        let tcp = figures::tcp(&mut asking, &scope.of_connections(), &[]).await?;
        let http = http.into_values().next().unwrap_or_default();
        let tcp = tcp.into_values().next().unwrap_or_default();
        Ok(asking.answer(vec![(http, tcp)]))
    }

    /// Those that there are, and those that did something.
    fn rows(&self, question: &StatQuestion, resource: &ResourceQuery, seen: &Seen) -> Vec<StatRow> {
        let counted = self
            .publisher
            .read(|view| census::count(view, resource.kind, question.selector.as_ref()));
        let is_asked = |namespace: &str, name: &str| {
            let is_there = question
                .namespace
                .as_deref()
                .is_none_or(|one| one == namespace || resource.kind == ResourceKind::Namespace);
            is_there && resource.name.as_deref().is_none_or(|one| one == name)
        };
        // What is not counted but does something may have gone a moment ago, or be a name alone.
        let did = seen.keys().map(|key| named(&key)).filter(|_| question.selector.is_none());
        let counted_names = counted.keys().cloned();
        let names: BTreeSet<_> = counted_names.chain(did).collect();
        let names = names.into_iter().filter(|(namespace, name)| is_asked(namespace, name));
        let rows = names.filter_map(|(namespace, name)| {
            let key = match resource.kind {
                ResourceKind::Namespace => vec![name.clone()],
                _ => vec![namespace.clone(), name.clone()],
            };
            let found = counted.get(&(namespace.clone(), name.clone()));
            let meshed = found.and_then(|found| found.meshed);
            let row = StatRow {
                resource: Resource { kind: resource.kind, namespace, name },
                status: found.and_then(|found| found.status.clone()),
                meshed,
                http: seen.http.get(&key).copied(),
                tcp: seen.tcp.get(&key).copied(),
                unauthorized_rps: seen.unauthorized.get(&key).copied().filter(|rps| *rps > 0.0),
            };
            let is_workload = resource.kind.is_workload();
            let is_idle = is_workload && found.is_some_and(|found| !found.is_unmeshed());
            let is_meshed = is_idle || meshed.is_none_or(|meshed| meshed.meshed > 0);
            let did = row.http.is_some() || row.tcp.is_some_and(|tcp| tcp.connections > 0.0);
            // Of all that there are, those between the two ends are meant.
            let is_between = question.traffic == Traffic::Any || resource.name.is_some() || did;
            let is_shown = question.unmeshed || is_meshed || row.http.is_some();
            (is_shown && is_between).then_some(row)
        });
        rows.collect()
    }
}

/// Namespace and name of a group.
pub(in crate::control) fn named(key: &Key) -> (String, String) {
    match key.as_slice() {
        [namespace] => (namespace.clone(), namespace.clone()),
        [namespace, name, ..] => (namespace.clone(), name.clone()),
        [] => Default::default(),
    }
}

/// What was seen of a kind's resources.
#[derive(Default)]
struct Seen {
    http: BTreeMap<Key, HttpFigures>,
    tcp: BTreeMap<Key, TcpFigures>,
    unauthorized: BTreeMap<Key, f64>,
}

impl Seen {
    async fn ask(
        asking: &mut Asking<'_>,
        scope: &Scope,
        kind: ResourceKind,
    ) -> Result<Self, ApiError> {
        let Scope { matchers, by, peer } = scope;
        let http = figures::http(asking, matchers, by).await?;
        let tcp = figures::tcp(asking, &scope.of_connections(), by).await?;
        let mut unauthorized = BTreeMap::new();
        if *peer == "src" && kind != ResourceKind::Authority {
            // These families are of one direction, and do not say which.
            let matchers =
                matchers.iter().filter(|one| one.label != "direction").cloned().collect();
            let family = "inbound_http_authz_deny_total";
            let query = Query::rate(family, matchers, by, asking.window);
            let rows = asking.ask(&query).await?;
            unauthorized.extend(rows.into_iter().map(|row| (row.labels, row.value)));
        }
        Ok(Self { http, tcp, unauthorized })
    }

    fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let active = self.tcp.iter().filter(|(_, tcp)| tcp.connections > 0.0);
        self.http.keys().chain(active.map(|(key, _)| key)).chain(self.unauthorized.keys()).cloned()
    }
}
