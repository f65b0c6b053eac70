//! Where views come from: the index for what there is, statistics for what it did. Makes the plain
//! data that pages are made of; knows no markup.
//!
//! Law: what cannot be had is told on the page, and the rest of the page stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::control::public_api::ApiError;
use crate::control::public_api::edges::EdgesQuestion;
use crate::control::public_api::query::Query as UrlQuery;
use crate::control::public_api::resource::{Resource, ResourceKind, ResourceQuery};
use crate::control::public_api::routes::RoutesQuestion;
use crate::control::public_api::stat::{StatQuestion, StatRow};
use crate::control::public_api::statistics::{self, Answer, Statistics};
use crate::control::query::{Matcher, Query};
use crate::control::viz::Viz;

use super::authorities;
use super::certificates::{self, Leaf};
use super::detail;
use super::edges;
use super::facts;
use super::figures::{Call, Figures, Line, Sort, Window};
use super::golden;
use super::health;
use super::inventory::{Inventory, Name};
use super::link::Asked;
use super::namespaces;
use super::overview::{self, Finding};
use super::policy;
use super::routes::{self, Routes};
use super::tap;
use super::workloads;

/// Names that forms propose.
const PROPOSED_MAX: usize = 500;
/// Routes of each side that are shown; of more, those that come first.
const ROUTES_MAX: usize = 2_000;

/// Makes the views of one page.
pub(crate) struct Source<'a> {
    pub(super) viz: &'a Viz,
    pub(super) asked: &'a Asked,
    pub(super) window: Window,
}

/// What could not be had, said once each.
pub(crate) type Troubles = BTreeSet<String>;

impl<'a> Source<'a> {
    /// For what an address asks.
    pub(crate) fn new(viz: &'a Viz, asked: &'a Asked) -> Self {
        Self { viz, asked, window: Window::asked(asked) }
    }

    /// The mesh at a glance.
    pub(crate) async fn overview(&self) -> overview::View {
        let (inventory, mut troubles) = (self.inventory(), Troubles::new());
        let (figures, histories) = golden::of(self, None, &mut troubles).await;
        let lines = self.lines(&self.kinds_of_workloads(), None, Sort::Http, &mut troubles).await;
        let namespaces = self.namespace_lines(&inventory, &mut troubles).await;
        let calls = self.calls(None, &mut troubles).await;
        let secured = calls.iter().filter(|call| call.is_secured()).count();
        let findings = self.findings();
        overview::View {
            figures,
            histories,
            lines,
            namespaces,
            meshed: (inventory.meshed, inventory.instances),
            secured: (secured, calls.len()),
            findings,
            troubles: troubles.into_iter().collect(),
        }
    }

    /// All namespaces.
    pub(crate) async fn namespaces(&self) -> (Vec<Line>, Vec<String>) {
        let mut troubles = Troubles::new();
        let lines = self.namespace_lines(&self.inventory(), &mut troubles).await;
        (lines, troubles.into_iter().collect())
    }

    /// One namespace, where there is one of that name.
    pub(crate) async fn namespace(&self, name: &str) -> Option<namespaces::One> {
        let (inventory, mut troubles) = (self.inventory(), Troubles::new());
        if !inventory.namespaces.contains(name) {
            return None;
        }
        let of = Name::new("", "namespace", name);
        let of = Some((ResourceKind::Namespace, &of));
        let (figures, histories) = golden::of(self, of, &mut troubles).await;
        let sort = Sort::asked(self.asked);
        let mut kinds = self.kinds_of_workloads();
        kinds.extend([ResourceKind::Pod, ResourceKind::Service]);
        let lines = self.lines(&kinds, Some(name), sort, &mut troubles).await;
        let line = Line {
            name: Name::new("", "namespace", name),
            meshed: Some(inventory.counts(name)),
            figures,
            history: Vec::new(),
        };
        Some(namespaces::One {
            name: name.to_string(),
            line,
            histories,
            lines,
            troubles: troubles.into_iter().collect(),
        })
    }

    /// Workloads, or what else is asked for.
    pub(crate) async fn workloads(&self) -> workloads::View {
        let (inventory, mut troubles) = (self.inventory(), Troubles::new());
        let namespace = Some(self.asked.value("namespace")).filter(|name| !name.is_empty());
        let kind = self.asked.value("kind").parse::<ResourceKind>().ok();
        let kinds = kind.map_or_else(|| self.kinds_of_workloads(), |kind| vec![kind]);
        let sort = Sort::asked(self.asked);
        workloads::View {
            lines: self.lines(&kinds, namespace, sort, &mut troubles).await,
            namespaces: inventory.namespaces.into_iter().collect(),
            troubles: troubles.into_iter().collect(),
        }
    }

    /// One workload, pod or service, where there is one of that name.
    pub(crate) async fn workload(&self, name: &Name) -> Option<detail::View> {
        let kind = name.kind.parse::<ResourceKind>().ok()?;
        let (inventory, mut troubles) = (self.inventory(), Troubles::new());
        let workload = match kind {
            ResourceKind::Pod => inventory.of_member(&name.namespace, &name.name),
            _ => inventory.workloads.get(name).cloned(),
        };
        if workload.is_none() && !inventory.services.contains(name) {
            return None;
        }
        let (figures, histories) = golden::of(self, Some((kind, name)), &mut troubles).await;
        let calls = match kind.label() {
            "" => Vec::new(),
            _ => self.calls(Some((kind, name)), &mut troubles).await,
        };
        let pods = [ResourceKind::Pod];
        let instances = match kind {
            ResourceKind::Pod | ResourceKind::Service => Vec::new(),
            _ => self.lines(&pods, Some(&name.namespace), Sort::Http, &mut troubles).await,
        };
        let routes = self.routes_of(Some((kind, name)), &mut troubles).await;
        Some(detail::View {
            name: name.clone(),
            workload,
            figures,
            histories,
            calls,
            routes,
            instances,
            troubles: troubles.into_iter().collect(),
        })
    }

    /// Who calls whom.
    pub(crate) async fn edges(&self) -> edges::View {
        let (inventory, mut troubles) = (self.inventory(), Troubles::new());
        let calls = self.calls(None, &mut troubles).await;
        let lines = self.lines(&self.kinds_of_workloads(), None, Sort::Http, &mut troubles).await;
        edges::View {
            calls,
            figures: lines.into_iter().map(|line| (line.name, line.figures)).collect(),
            namespaces: inventory.namespaces.into_iter().collect(),
            troubles: troubles.into_iter().collect(),
        }
    }

    /// Names that clients ask for.
    pub(crate) async fn authorities(&self) -> authorities::View {
        let mut troubles = Troubles::new();
        let asked = authorities::question(self.asked).to_string().parse();
        let lines = match asked.map(|uri| StatQuestion::read(&UrlQuery::of(&uri))) {
            Ok(Ok(question)) => self.lines_of(&question, Sort::Http, &mut troubles).await,
            Ok(Err(error)) => {
                troubles.insert(error.to_string());
                Vec::new()
            }
            // Links are well formed.
            Err(_) => Vec::new(),
        };
        authorities::View {
            lines,
            namespaces: self.inventory().namespaces.into_iter().collect(),
            troubles: troubles.into_iter().collect(),
        }
    }

    /// What came by which route.
    pub(crate) async fn routes(&self) -> routes::View {
        let mut troubles = Troubles::new();
        routes::View {
            routes: self.routes_of(None, &mut troubles).await,
            namespaces: self.inventory().namespaces.into_iter().collect(),
            troubles: troubles.into_iter().collect(),
        }
    }

    /// What the forms of tap and top propose.
    pub(crate) fn tap(&self) -> tap::View {
        let inventory = self.inventory();
        let names = inventory.workloads.iter().filter(|(_, workload)| workload.meshed > 0);
        let names: BTreeSet<String> = names.map(|(name, _)| name.of_command()).collect();
        tap::View {
            resources: names.into_iter().take(PROPOSED_MAX).collect(),
            namespaces: inventory.namespaces.into_iter().collect(),
        }
    }

    /// Certificates.
    pub(crate) async fn certificates(&self) -> certificates::View {
        let mut troubles = Troubles::new();
        let expires =
            self.by_pod("control_identity_cert_expiration_timestamp_seconds", &mut troubles);
        let mut expires = expires.await;
        let refreshed =
            self.by_pod("control_identity_cert_refresh_timestamp_seconds", &mut troubles);
        let mut refreshed = refreshed.await;
        let leaves = self
            .inventory()
            .members()
            .filter(|(_, member)| member.is_meshed)
            .map(|((namespace, name), _)| {
                let key = (namespace.to_string(), name.to_string());
                Leaf {
                    name: Name::new(namespace, "pod", name),
                    expires: expires.remove(&key),
                    refreshed: refreshed.remove(&key),
                }
            })
            .collect();
        certificates::View {
            now: self.viz.parts().runtime.clock.wall(),
            authorities: facts::authorities(self.viz),
            leaves,
            lifetime: None,
            troubles: troubles.into_iter().collect(),
        }
    }

    /// The control plane.
    pub(crate) async fn health(&self) -> health::View {
        self.health_of(&self.inventory())
    }

    /// What the control plane finds out of itself and of the mesh.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        health::findings(&self.health_of(&self.inventory()))
    }

    /// Who may talk to whom.
    pub(crate) fn policy(&self) -> policy::View {
        let namespace = self.asked.value("namespace");
        let publisher = &self.viz.parts().publisher;
        let (inventory, ports) = publisher.read(|view| {
            let inventory = Inventory::read(view);
            let ports = facts::ports(view, &inventory, namespace);
            (inventory, ports)
        });
        let is_here = |name: &&Name| namespace.is_empty() || name.namespace == namespace;
        let names = |names: &mut dyn Iterator<Item = &Name>| -> Vec<String> {
            let all: BTreeSet<String> = names.filter(is_here).map(Name::of_command).collect();
            all.into_iter().take(PROPOSED_MAX).collect()
        };
        policy::View {
            ports,
            explained: super::explained::answer(self.viz, self.asked),
            sources: names(&mut inventory.workloads.keys()),
            targets: names(&mut inventory.services.iter()),
            namespaces: inventory.namespaces.into_iter().collect(),
            troubles: Vec::new(),
        }
    }

    /// Routes of one workload, or of all that are asked for.
    async fn routes_of(
        &self,
        of: Option<(ResourceKind, &Name)>,
        troubles: &mut Troubles,
    ) -> Routes {
        let namespace = self.asked.value("namespace");
        let (kinds, namespace, name) = match of {
            None => {
                (self.kinds_of_workloads(), Some(namespace).filter(|name| !name.is_empty()), None)
            }
            // Nobody counts for it alone.
            Some((kind, _)) if kind.label().is_empty() => return Routes::default(),
            Some((kind, name)) => (vec![kind], Some(&*name.namespace), Some(name.name.clone())),
        };
        let mut routes = Routes::default();
        for kind in kinds {
            let question = RoutesQuestion {
                resource: ResourceQuery { kind, name: name.clone() },
                namespace: namespace.map(str::to_string),
                window: self.window.0,
                to: None,
            };
            routes
                .inbound
                .extend(rows_of(self.statistics().stat_inbound(&question).await, troubles));
            routes
                .outbound
                .extend(rows_of(self.statistics().stat_outbound(&question).await, troubles));
        }
        routes.inbound.truncate(ROUTES_MAX);
        routes.outbound.truncate(ROUTES_MAX);
        routes
    }

    /// What answers questions.
    pub(super) fn statistics(&self) -> &Statistics {
        &self.viz.parts().statistics
    }

    pub(super) fn inventory(&self) -> Inventory {
        self.viz.parts().publisher.read(Inventory::read)
    }

    fn health_of(&self, inventory: &Inventory) -> health::View {
        let mut view = facts::health(self.viz, inventory);
        if let statistics::Source::Embedded(scrapes) = self.statistics().source() {
            let health = scrapes.health();
            let faults = health.iter().filter_map(|((namespace, name), health)| {
                Some((format!("{namespace}/{name}"), health.fault.clone()?))
            });
            view.unscraped = faults.collect();
            view.scraped = Some((health.len() - view.unscraped.len(), health.len()));
        }
        view
    }

    /// Resources of some kinds with their figures.
    async fn lines(
        &self,
        kinds: &[ResourceKind],
        namespace: Option<&str>,
        sort: Sort,
        troubles: &mut Troubles,
    ) -> Vec<Line> {
        let question = StatQuestion {
            resources: kinds.iter().map(|kind| ResourceQuery::all(*kind)).collect(),
            namespace: namespace.map(str::to_string),
            window: self.window.0,
            unmeshed: true,
            ..StatQuestion::all(ResourceKind::Deployment)
        };
        self.lines_of(&question, sort, troubles).await
    }

    /// What a question is about, with figures.
    async fn lines_of(
        &self,
        question: &StatQuestion,
        sort: Sort,
        troubles: &mut Troubles,
    ) -> Vec<Line> {
        let rows = rows_of(self.statistics().stat(question).await, troubles);
        let present: BTreeSet<ResourceKind> = rows.iter().map(|row| row.resource.kind).collect();
        let mut histories = BTreeMap::new();
        for kind in present {
            histories.extend(golden::sparks(self, question, kind, sort, troubles).await);
        }
        let line = |row: StatRow| {
            let name = name_of(&row.resource);
            let history = histories.remove(&name).unwrap_or_default();
            let meshed = row.meshed.map(|all| (all.meshed as usize, all.running as usize));
            Line { meshed, figures: figures_of(&row), history, name }
        };
        rows.into_iter().map(line).collect()
    }

    async fn namespace_lines(&self, inventory: &Inventory, troubles: &mut Troubles) -> Vec<Line> {
        let found = self.lines(&[ResourceKind::Namespace], None, Sort::Http, troubles).await;
        let mut found: BTreeMap<String, Line> =
            found.into_iter().map(|line| (line.name.name.clone(), line)).collect();
        let line = |name: &String| {
            let known = found.remove(name);
            let (meshed, all) = inventory.counts(name);
            Line {
                name: Name::new("", "namespace", name),
                meshed: Some((meshed, all)),
                ..known.unwrap_or_default()
            }
        };
        inventory.namespaces.iter().map(line).collect()
    }

    /// Calls between workloads, or of one.
    async fn calls(&self, of: Option<(ResourceKind, &Name)>, troubles: &mut Troubles) -> Vec<Call> {
        let kinds: Vec<ResourceKind> = match of {
            Some((kind, _)) => vec![kind],
            None => self.kinds_of_workloads(),
        };
        let mut calls = Vec::new();
        for kind in kinds {
            let mut question = EdgesQuestion::all(kind);
            question.window = self.window.0;
            if let Some((_, name)) = of {
                question.resource.name = Some(name.name.clone());
                question.namespace = Some(name.namespace.clone());
            }
            calls.extend(rows_of(self.statistics().edges(&question).await, troubles));
        }
        // An edge without a source has no end that could be shown.
        calls.retain(|edge| !edge.src.name.is_empty() || !edge.client_id.is_empty());
        calls
            .into_iter()
            .map(|edge| Call {
                from: name_of(&edge.src),
                to: name_of(&edge.dst),
                client: edge.client_id,
                server: edge.server_id,
                plain_because: match (edge.secured, edge.no_tls_reason.as_str()) {
                    (true, _) => String::new(),
                    (false, "") => "not secured".to_string(),
                    (false, reason) => reason.replace('_', " "),
                },
                figures: Figures {
                    connections: Some(edge.connections),
                    ..golden::figures_of(edge.http.as_ref(), None)
                },
            })
            .collect()
    }

    /// Kinds of which there is at least one workload.
    fn kinds_of_workloads(&self) -> Vec<ResourceKind> {
        let inventory = self.inventory();
        let kinds: BTreeSet<&str> =
            inventory.workloads.keys().map(|name| name.kind.as_str()).collect();
        ResourceKind::WORKLOADS.into_iter().filter(|kind| kinds.contains(kind.name())).collect()
    }

    async fn by_pod(
        &self,
        family: &'static str,
        troubles: &mut Troubles,
    ) -> BTreeMap<(String, String), f64> {
        let query = Query::last(family, vec![Matcher::some("pod")], &["namespace", "pod"]);
        let rows = golden::ask(self, &query, troubles).await;
        let pod = |(labels, value): (Vec<String>, f64)| match labels.as_slice() {
            [namespace, pod] => Some(((namespace.clone(), pod.clone()), value)),
            _ => None,
        };
        rows.into_iter().map(|row| (row.labels, row.value)).filter_map(pod).collect()
    }
}

/// What was answered; what it lacks, or why it could not be had, is told.
pub(super) fn rows_of<R>(answer: Result<Answer<R>, ApiError>, troubles: &mut Troubles) -> Vec<R> {
    match answer {
        Ok(answer) => {
            troubles.extend(answer.reasons);
            answer.rows
        }
        Err(error) => {
            troubles.insert(error.to_string());
            Vec::new()
        }
    }
}

/// How long graphs go back.
pub(super) const OVER: Duration = Duration::from_secs(600);

pub(super) fn name_of(resource: &Resource) -> Name {
    let namespace = match resource.kind {
        ResourceKind::Namespace => "",
        _ => resource.namespace.as_str(),
    };
    Name::new(namespace, resource.kind.name(), &resource.name)
}

fn figures_of(row: &StatRow) -> Figures {
    golden::figures_of(row.http.as_ref(), row.tcp.as_ref())
}
