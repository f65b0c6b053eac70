//! What there is, by the index: resources of a kind, and how many of their pods have a proxy.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::resource::ResourceKind;
use super::stat::Meshed;
use crate::control::index::{Instance, View};
use crate::control::select::matches_labels;
use crate::control::workload;
use crate::resource::{Kind, Object};

/// A resource, as far as the index tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// None for what has no pods.
    pub(super) meshed: Option<Meshed>,
    /// A pod's phase.
    pub(super) status: Option<String>,
    /// Its pods, ended ones included.
    pods: u32,
    /// Whether one of these has or had a proxy.
    has_proxy: bool,
}

impl Counted {
    /// Whether it has pods, and none of them has a proxy. One without pods is of the mesh as much as
    /// of anything.
    pub(super) fn is_unmeshed(&self) -> bool {
        self.pods > 0 && !self.has_proxy
    }
}

/// Every resource of a kind that a selector selects, by namespace and name. A workload is selected
/// where one of its pods is; one without pods, where nothing is selected by labels.
pub(super) fn count(
    view: &View<'_>,
    kind: ResourceKind,
    selector: Option<&LabelSelector>,
) -> BTreeMap<(String, String), Counted> {
    match kind {
        ResourceKind::Service => objects(view, Kind::Service, selector),
        ResourceKind::Server => objects(view, Kind::Server, selector),
        // Names that only traffic knows.
        ResourceKind::Authority => BTreeMap::new(),
        _ => instances(view, kind, selector),
    }
}

fn objects(
    view: &View<'_>,
    kind: Kind,
    selector: Option<&LabelSelector>,
) -> BTreeMap<(String, String), Counted> {
    let is_selected = |object: &&Object| {
        let labels = object.meta().labels.as_ref();
        let label = |name: &str| labels?.get(name).map(String::as_str);
        selector.is_none_or(|selector| matches_labels(selector, label))
    };
    let selected = view.objects(kind).filter(is_selected);
    let named = selected.map(|object| {
        let name = object.object_ref();
        ((name.namespace, name.name), Counted::default())
    });
    named.collect()
}

fn instances(
    view: &View<'_>,
    kind: ResourceKind,
    selector: Option<&LabelSelector>,
) -> BTreeMap<(String, String), Counted> {
    let mut counted: BTreeMap<_, Counted> = BTreeMap::new();
    if kind == ResourceKind::Namespace && selector.is_none() {
        // Their own names are their namespaces, too.
        let of_all = objects(view, Kind::Namespace, None).into_keys();
        let empty = || Counted { meshed: Some(Meshed::default()), ..Counted::default() };
        counted.extend(of_all.map(|(_, name)| ((name.clone(), name), empty())));
    }
    if kind.is_workload() && selector.is_none() {
        let of_kind = workload::known(view).filter(|known| known.kind == kind.name());
        counted.extend(of_kind.map(|known| {
            let idle = Counted { meshed: Some(Meshed::default()), ..Counted::default() };
            ((known.namespace, known.name), idle)
        }));
    }
    for instance in view.instances() {
        let is_selected =
            selector.is_none_or(|selector| matches_labels(selector, |name| instance.label(name)));
        let Some(name) = name_of(view, kind, instance).filter(|_| is_selected) else {
            continue;
        };
        let found = counted.entry((instance.namespace().to_string(), name)).or_default();
        let is_meshed = instance.is_meshed(&view.mesh.control_namespace);
        found.pods += 1;
        found.has_proxy |= is_meshed;
        let meshed = found.meshed.get_or_insert_default();
        let phase = phase(instance);
        match phase {
            "Succeeded" => {}
            "Failed" => meshed.failed += 1,
            "Pending" | "Running" => {
                meshed.running += 1;
                meshed.meshed += u32::from(is_meshed);
            }
            _ => {}
        }
        if kind == ResourceKind::Pod {
            found.status = Some(phase.to_string());
        }
    }
    counted
}

/// What an instance counts to.
fn name_of(view: &View<'_>, kind: ResourceKind, instance: Instance<'_>) -> Option<String> {
    match kind {
        ResourceKind::Namespace => Some(instance.namespace().to_string()),
        ResourceKind::Pod => Some(instance.name().to_string()),
        kind => {
            let (made_by, name) = workload::of_instance(view, instance)?;
            (made_by == kind.name()).then_some(name)
        }
    }
}

/// What an instance of a plain host does is not known better than that it is there.
pub(super) fn phase(instance: Instance<'_>) -> &str {
    match instance {
        Instance::Pod(pod) => {
            let status = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            status.unwrap_or("Unknown")
        }
        Instance::Workload(_) | Instance::External(_) => "Running",
    }
}
