//! `pods` and `services`: what there is, and whether its proxies are heard.

use serde::{Deserialize, Serialize};

use super::ApiError;
use super::census::phase;
use super::query::Query as UrlQuery;
use super::resource::{Resource, ResourceKind};
use super::statistics::{Answer, Source, Statistics, namespace_of};
use crate::control::index::Instance;
use crate::control::workload;
use crate::manifest::annotations::PROXY_VERSION;
use crate::resource::{Kind, Object};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodsQuestion {
    /// Where; else everywhere.
    pub namespace: Option<String>,
    /// Only those that have a proxy of this control plane.
    pub meshed: bool,
}

/// A pod, or an instance on a plain host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What made it.
    pub owner: Option<Resource>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its phase.
    pub status: String,
    /// Whether it has a proxy of this control plane.
    pub meshed: bool,
    /// Its proxy's version; null where nothing says it.
    pub proxy_version: Option<String>,
    /// Who it is; null where it has no proxy.
    pub identity: Option<String>,
    /// Whether its proxy answered last; null where others scrape it.
    pub scraped: Option<bool>,
    /// Why it did not; null where it did.
    pub fault: Option<String>,
    /// Whether nobody may look at its requests.
    pub tap_disabled: bool,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<i32>,
}

/// On a pod: nobody may look at its requests.
const TAP_DISABLED: &str = "viz.linkerd.io/disable-tap";

impl PodsQuestion {
    /// The question of an address.
    pub(super) fn read(query: &UrlQuery) -> Result<Self, ApiError> {
        query.only(&["namespace", "all_namespaces", "meshed"])?;
        Ok(Self { namespace: namespace_of(query), meshed: query.is_set("meshed") })
    }

    fn is_there(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
    }
}

impl Statistics {
    /// Pods, and instances on plain hosts.
    pub fn pods(&self, question: &PodsQuestion) -> Answer<PodRow> {
        let health = match &self.source {
            Source::Embedded(scrapes) => Some(scrapes.health()),
            Source::Prometheus(_) => None,
        };
        let rows = self.publisher.read(|view| {
            let there = view.instances().filter(|instance| question.is_there(instance.namespace()));
            let row = |instance: Instance<'_>| {
                let (namespace, name) =
                    (instance.namespace().to_string(), instance.name().to_string());
                let meshed = instance.is_meshed(&view.mesh.control_namespace);
                let owner = workload::of_instance(view, instance).and_then(|(kind, name)| {
                    let kind: ResourceKind = kind.parse().ok()?;
                    Some(Resource { kind, namespace: namespace.clone(), name })
                });
                let heard = health
                    .as_ref()
                    .and_then(|health| health.get(&(namespace.clone(), name.clone())));
                let identity = view.mesh.identity(&namespace, instance.service_account());
                PodRow {
                    owner,
                    addresses: instance.addresses().iter().map(ToString::to_string).collect(),
                    status: phase(instance).to_string(),
                    meshed,
                    proxy_version: instance.annotation(PROXY_VERSION).map(str::to_string),
                    identity: identity
                        .ok()
                        .filter(|_| meshed)
                        .map(|identity| identity.as_str().to_string()),
                    scraped: heard.map(|heard| heard.fault.is_none()),
                    fault: heard.and_then(|heard| heard.fault.clone()),
                    tap_disabled: instance.annotation(TAP_DISABLED) == Some("true"),
                    namespace,
                    name,
                }
            };
            let mut rows: Vec<_> = there.map(row).collect();
            rows.retain(|row| row.meshed || !question.meshed);
            rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
            rows
        });
        self.of_index(rows)
    }

    /// Services.
    pub fn services(&self, question: &PodsQuestion) -> Answer<ServiceRow> {
        let rows = self.publisher.read(|view| {
            let rows = view.objects(Kind::Service).filter_map(|object| {
                let Object::Service(service) = object else { return None };
                let name = object.object_ref();
                let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
                let ports = ports.map(|port| port.port).collect();
                let (namespace, name) = (name.namespace, name.name);
                question.is_there(&namespace).then_some(ServiceRow { namespace, name, ports })
            });
            rows.collect()
        });
        self.of_index(rows)
    }

    /// An answer that the index alone gives.
    pub(super) fn of_index<R>(&self, rows: Vec<R>) -> Answer<R> {
        let reason = "the cluster's objects have not all been listed yet".to_string();
        let reasons: Vec<_> = (!self.publisher.is_synced()).then_some(reason).into_iter().collect();
        Answer {
            rows,
            window_seconds: 0.0,
            source: "index".to_string(),
            partial: !reasons.is_empty(),
            reasons,
        }
    }
}
