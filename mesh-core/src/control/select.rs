//! Which Server selects a port of an instance.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::resource::Server;

use super::index::{Instance, View};

/// The Server that selects a port of an instance: of several the oldest, of those the first by name.
pub(super) fn server_of<'a>(
    view: &View<'a>,
    instance: Instance<'a>,
    port: u16,
) -> Option<&'a Server> {
    let created = |server: &Server| {
        let at = server.metadata.creation_timestamp.as_ref();
        at.map(|at| at.0)
    };
    view.servers(instance.namespace())
        .filter(|server| selects(server, instance) && port_of(server, instance) == Some(port))
        .min_by_key(|server| (created(server).is_none(), created(server)))
}

/// The ports of an instance that Servers select.
pub(super) fn served_ports<'a>(view: &View<'a>, instance: Instance<'a>) -> BTreeSet<u16> {
    let servers = view.servers(instance.namespace()).filter(|server| selects(server, instance));
    servers.filter_map(|server| port_of(server, instance)).collect()
}

fn selects(server: &Server, instance: Instance<'_>) -> bool {
    let selector = match instance {
        Instance::Pod(_) => server.spec.pod_selector.as_ref(),
        Instance::External(_) => server.spec.external_workload_selector.as_ref(),
        Instance::Workload(_) => {
            let spec = &server.spec;
            spec.external_workload_selector.as_ref().or(spec.pod_selector.as_ref())
        }
    };
    selector.is_some_and(|selector| matches(selector, instance))
}

fn matches(selector: &LabelSelector, instance: Instance<'_>) -> bool {
    matches_labels(selector, |name| instance.label(name))
}

/// Whether a selector selects what has these labels.
pub(super) fn matches_labels<'a>(
    selector: &LabelSelector,
    label: impl Fn(&str) -> Option<&'a str>,
) -> bool {
    let labels = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    labels.into_iter().all(|(name, value)| label(name) == Some(value.as_str()))
        && expressions.all(|rule| {
            let found = label(&rule.key);
            let is_in = || {
                let mut values = rule.values.iter().flatten();
                found.is_some_and(|found| values.any(|value| value == found))
            };
            match rule.operator.as_str() {
                "In" => is_in(),
                "NotIn" => !is_in(),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                // Admission refuses others; a selector that is not understood selects nothing.
                _ => false,
            }
        })
}

fn port_of(server: &Server, instance: Instance<'_>) -> Option<u16> {
    match &server.spec.port {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(name) => instance.port_named(name),
    }
}
