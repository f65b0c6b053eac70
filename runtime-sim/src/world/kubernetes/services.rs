//! Services: their addresses, and who has their slices and the network's rules written when pods
//! change.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_core::resource::{Kind, Object, ObjectRef, Service};

use super::{Due, Kubernetes, PodEvent, endpoints};

impl Kubernetes {
    /// Has slices written where pods changed, now or when they lag.
    pub(super) fn notice_changes(&mut self) {
        let namespaces = std::mem::take(&mut self.changed);
        if namespaces.is_empty() {
            return;
        }
        let services = self.api.list(Kind::Service).into_iter().map(|object| object.object_ref());
        let mut concerned: BTreeSet<_> =
            services.filter(|service| namespaces.contains(&service.namespace)).collect();
        let gone = self.slices.keys().filter(|service| self.api.find(service).is_none());
        concerned.extend(gone.cloned());
        for service in concerned {
            if self.settings.slice_lag.is_zero() {
                self.write_slices(&service);
            } else if self.slices_due.insert(service.clone()) {
                let at = self.now + self.settings.slice_lag;
                self.due(at, Due::Slices(service));
            }
        }
    }

    pub(super) fn write_slices(&mut self, name: &ObjectRef) {
        match self.api.find(name) {
            Some(Object::Service(service)) => {
                let spec = service.spec.as_ref();
                let selects =
                    spec.is_some_and(|s| s.selector.as_ref().is_some_and(|s| !s.is_empty()));
                if selects && spec.is_some_and(|spec| spec.external_name.is_none()) {
                    let started = self.pods.values().filter(|pod| pod.condition.started);
                    let selected = started.filter(|pod| pod.plan.is_selected(&service));
                    let pods: Vec<_> = selected.map(|pod| (&*pod.plan, pod.condition)).collect();
                    self.slices.entry(name.clone()).or_default().write(&self.api, &service, &pods);
                }
            }
            _ => {
                if let Some(slices) = self.slices.remove(name) {
                    slices.remove(&self.api, name);
                }
            }
        }
        if self.settings.rules_lag.is_zero() {
            self.write_rules(name);
        } else if self.rules_due.insert(name.clone()) {
            let at = self.now + self.settings.rules_lag;
            self.due(at, Due::Rules(name.clone()));
        }
    }

    /// Tells the network what leads to a service now, and what does no longer.
    pub(super) fn write_rules(&mut self, name: &ObjectRef) {
        let facts = match self.api.find(name) {
            Some(Object::Service(service)) => endpoints::facts(&self.api, &service),
            _ => Vec::new(),
        };
        let before = match facts.is_empty() {
            true => self.rules.remove(name),
            false => self.rules.insert(name.clone(), facts.clone()),
        };
        let before = before.unwrap_or_default();
        let lost = before.iter().filter(|old| !facts.iter().any(|new| new.is_about_what(old)));
        self.events.extend(lost.map(|fact| PodEvent::Service(fact.withdrawn())));
        self.events.extend(facts.into_iter().map(PodEvent::Service));
    }
}

pub(super) fn keep_address(new: Arc<Service>, old: &Service) -> Object {
    let mut service = Arc::unwrap_or_clone(new);
    let address = old.spec.as_ref().and_then(|spec| spec.cluster_ip.clone());
    let spec = service.spec.get_or_insert_default();
    if spec.cluster_ip.is_none() && spec.external_name.is_none() {
        spec.cluster_ip = address;
    }
    service.into()
}

/// Gives each service that has none an address, 10.96.0.1 and on.
pub(super) fn with_addresses(objects: Vec<Object>) -> Vec<Object> {
    let taken = |object: &Object| match object {
        Object::Service(service) => service.spec.as_ref()?.cluster_ip.clone(),
        _ => None,
    };
    let taken: BTreeSet<_> = objects.iter().filter_map(taken).collect();
    let mut free = (1_u32..)
        .map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            format!("10.96.{high}.{low}")
        })
        .filter(|address| !taken.contains(address));
    let address = |object| match object {
        Object::Service(service) => {
            let mut service: Service = Arc::unwrap_or_clone(service);
            let spec = service.spec.get_or_insert_default();
            if spec.cluster_ip.is_none() && spec.external_name.is_none() {
                spec.cluster_ip = free.next();
            }
            Object::from(service)
        }
        other => other,
    };
    objects.into_iter().map(address).collect()
}
