//! What the status of an object says: whether it is in force, and why not. A pure function of the
//! index; who may write it, and how, is not known here.
//!
//! Laws: what another controller says in a status stays. A condition keeps its time as long as it
//! says the same.

pub(super) mod board;
pub(super) mod write;

#[cfg(test)]
mod tests;

use crate::control::index::View;
use crate::control::policy::{egress, rate_limit};
use crate::resource::check::Fault;
use crate::resource::policy::PolicyStatus;
use crate::resource::remark::{self, About, Reason, Remark};
use crate::resource::route::{
    ParentRef, Route, RouteCondition, RouteParentStatus, RouteSpec, RouteStatus,
};
use crate::resource::{HTTPLocalRateLimitPolicy, Kind, Object, ObjectRef};
use crate::time::WallTime;

/// By which the mesh's part of a status is known, as Linkerd's.
pub(super) const CONTROLLER_NAME: &str = "linkerd.io/policy-controller";

/// An object with the status that it should have. None where the mesh writes none.
pub(super) fn compile(view: &View<'_>, name: &ObjectRef, now: WallTime) -> Option<Object> {
    let object = view.find(name)?;
    let mut written = object.clone();
    match object {
        Object::HTTPLocalRateLimitPolicy(policy) => {
            let mut status = PolicyStatus {
                conditions: vec![of_rate_limit(view, policy)],
                target_ref: Some(policy.spec.target_ref.clone()),
            };
            dated(&mut status.conditions, object, policy.status.as_ref(), now);
            written.set_policy_status(status);
        }
        Object::EgressNetwork(network) => {
            let condition = match egress::is_accepted(view.mesh, network) {
                true => condition("Accepted", true, "Accepted", String::new()),
                false => {
                    let message = "networks overlap with clusterNetworks".to_string();
                    condition("Accepted", false, "EgressReasonNetworkOverlap", message)
                }
            };
            let mut status = PolicyStatus { conditions: vec![condition], target_ref: None };
            dated(&mut status.conditions, object, network.status.as_ref(), now);
            written.set_policy_status(status);
        }
        route => {
            let status = of_route(view, &route.route()?, object.route_status(), now);
            written.set_route_status(status);
        }
    }
    Some(written)
}

fn of_rate_limit(view: &View<'_>, policy: &HTTPLocalRateLimitPolicy) -> RouteCondition {
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    let server = &policy.spec.target_ref.name;
    let target =
        ObjectRef { kind: Kind::Server, namespace: namespace.to_string(), name: server.clone() };
    let in_force = rate_limit::in_force(view, namespace, server);
    if policy.spec.target_ref.kind != "Server" || view.find(&target).is_none() {
        let message = format!("there is no {target}");
        return condition("Accepted", false, "NoMatchingTarget", message);
    }
    match in_force.filter(|other| other.metadata.name != policy.metadata.name) {
        Some(other) => {
            let name = other.metadata.name.as_deref().unwrap_or_default();
            let message = format!("{name}, which is older, limits {target}");
            condition("Accepted", false, "RateLimitReasonAlreadyExists", message)
        }
        None => condition("Accepted", true, "Accepted", String::new()),
    }
}

/// Gives conditions their times, and the generation that was looked at.
fn dated(
    conditions: &mut [RouteCondition],
    object: &Object,
    before: Option<&PolicyStatus>,
    now: WallTime,
) {
    let before = before.map_or(&[][..], |status| &status.conditions);
    for condition in conditions {
        date(condition, object.meta().generation, before, now);
    }
}

/// A condition keeps its time as long as it says the same.
fn date(
    condition: &mut RouteCondition,
    generation: Option<i64>,
    before: &[RouteCondition],
    now: WallTime,
) {
    condition.observed_generation = generation;
    let before = before.iter().find(|known| known.type_ == condition.type_);
    condition.last_transition_time = match before {
        Some(known) if known.status == condition.status => known.last_transition_time.clone(),
        _ => timestamp(now),
    };
}

/// What an object's status says, times apart.
pub(super) fn says_the_same(one: &Object, other: &Object) -> bool {
    let timeless = |object: &Object| {
        let mut route = object.route_status().cloned().unwrap_or_default();
        let mut policy = object.policy_status().cloned().unwrap_or_default();
        let of_route = route.parents.iter_mut().flat_map(|parent| &mut parent.conditions);
        let conditions = of_route.chain(&mut policy.conditions);
        conditions.for_each(|condition| condition.last_transition_time.clear());
        (route, policy)
    };
    timeless(one) == timeless(other)
}

/// The mesh's own conditions of an object.
pub(super) fn conditions(object: &Object) -> impl Iterator<Item = &RouteCondition> {
    let parents = object.route_status().into_iter().flat_map(|status| &status.parents);
    let own = parents.filter(|parent| parent.controller_name == CONTROLLER_NAME);
    let of_policy = object.policy_status().into_iter().flat_map(|status| &status.conditions);
    own.flat_map(|parent| &parent.conditions).chain(of_policy)
}

fn of_route(
    view: &View<'_>,
    route: &Route<'_>,
    before: Option<&RouteStatus>,
    now: WallTime,
) -> RouteStatus {
    let known = before.map_or(&[][..], |status| &status.parents);
    let (own, others): (Vec<_>, Vec<_>) =
        known.iter().partition(|parent| parent.controller_name == CONTROLLER_NAME);
    let remarks = remark::of_route(route, |name| view.find(name));
    let mut parents: Vec<_> = others.into_iter().cloned().collect();
    for (index, parent) in route.parent_refs().iter().enumerate() {
        let Some(target) = parent.target(route.namespace()) else {
            continue;
        };
        let before = own.iter().find(|status| status.parent_ref == *parent);
        let mut conditions = vec![accepted(view, route, (index, parent), &target, &remarks)];
        // What a Server's routes lead to is the Server.
        if target.kind != Kind::Server {
            conditions.push(resolved(&remarks));
        }
        let before = before.map_or(&[][..], |status| &status.conditions);
        for condition in &mut conditions {
            date(condition, route.meta.generation, before, now);
        }
        parents.push(RouteParentStatus {
            parent_ref: parent.clone(),
            controller_name: CONTROLLER_NAME.to_string(),
            conditions,
        });
    }
    RouteStatus { parents }
}

fn accepted(
    view: &View<'_>,
    route: &Route<'_>,
    (index, parent): (usize, &ParentRef),
    target: &ObjectRef,
    remarks: &[Remark],
) -> RouteCondition {
    let refused = |reason: &str, message: String| condition("Accepted", false, reason, message);
    let of_parent = remarks.iter().find(|remark| remark.about == About::Parent(index));
    if let Some(remark) = of_parent {
        return refused("NoMatchingParent", message(&remark.fault));
    }
    if let Some(Object::EgressNetwork(network)) = view.find(target)
        && !egress::is_accepted(view.mesh, network)
    {
        let message = "EgressNetwork parent has not been accepted".to_string();
        return refused("NoMatchingParent", message);
    }
    if is_headless(view, target) {
        return refused("NoMatchingParent", "parent service must have a ClusterIP".to_string());
    }
    if is_conflicted(view, route, parent, target) {
        let message = "a GRPCRoute of the same parent is in force instead".to_string();
        return refused("RouteReasonConflicted", message);
    }
    if let Some(remark) = remarks.iter().find(|remark| remark.about == About::Filter) {
        return refused("UnsupportedValue", message(&remark.fault));
    }
    condition("Accepted", true, "Accepted", String::new())
}

fn resolved(remarks: &[Remark]) -> RouteCondition {
    let unresolved = remarks.iter().find_map(|remark| match remark.about {
        About::Backend(reason) => Some((reason, &remark.fault)),
        _ => None,
    });
    match unresolved {
        Some((reason, fault)) => {
            let reason = match reason {
                Reason::BackendNotFound => "BackendNotFound",
                Reason::InvalidKind => "InvalidKind",
            };
            condition("ResolvedRefs", false, reason, message(fault))
        }
        None => condition("ResolvedRefs", true, "ResolvedRefs", String::new()),
    }
}

/// Routes of a Service work at its cluster address; where it has none, nothing goes by them.
fn is_headless(view: &View<'_>, target: &ObjectRef) -> bool {
    let Some(Object::Service(service)) = view.find(target) else {
        return false;
    };
    let spec = service.spec.as_ref();
    let is_external = spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"));
    is_external || spec.is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

/// GRPCRoutes go before HTTPRoutes of the same parent and port.
fn is_conflicted(
    view: &View<'_>,
    route: &Route<'_>,
    parent: &ParentRef,
    target: &ObjectRef,
) -> bool {
    if target.kind == Kind::Server || !matches!(route.spec, RouteSpec::Http(_)) {
        return false;
    }
    let overlaps = |other: &ParentRef, namespace: &str| {
        other.target(namespace).as_ref() == Some(target)
            && (other.port.is_none() || parent.port.is_none() || other.port == parent.port)
    };
    let mut others = view.routes(target);
    others.any(|other| {
        matches!(other.spec, RouteSpec::Grpc(_))
            && other.parent_refs().iter().any(|parent| overlaps(parent, other.namespace()))
    })
}

fn condition(type_: &str, holds: bool, reason: &str, message: String) -> RouteCondition {
    RouteCondition {
        type_: type_.to_string(),
        status: if holds { "True" } else { "False" }.to_string(),
        reason: reason.to_string(),
        message,
        observed_generation: None,
        last_transition_time: String::new(),
    }
}

fn message(fault: &Fault) -> String {
    format!("{}: {}; {}", fault.field, fault.fault, fault.remedy)
}

/// RFC 3339 in whole seconds, as Kubernetes writes times.
fn timestamp(now: WallTime) -> String {
    let text = now.to_string();
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{seconds}Z")
}
