//! What is odd about routes among the objects around them: a parent that is not there, a backend
//! that is not there, a filter that the mesh does not do. Such a route is in force as far as it
//! goes (requests of the part that is wrong fail with 500), and its author is told.

use super::Kind;
use super::check::Fault;
use super::route::{ParentRef, Route, RouteBackendRef, RouteFilter, RouteSpec};
use super::{Object, ObjectRef};

/// Filters that the mesh does for HTTP.
const HTTP_FILTERS: [&str; 3] =
    ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect"];
/// Filters that the mesh does for gRPC.
const GRPC_FILTERS: [&str; 1] = ["RequestHeaderModifier"];

/// A remark on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What it is about.
    pub about: About,
    /// The field, the fault and what to do.
    pub fault: Fault,
}

/// What a remark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// This one of its parents.
    Parent(usize),
    /// A backend.
    Backend(Reason),
    /// A filter.
    Filter,
}

/// Why a backend does not resolve, as Gateway API's conditions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not there.
    BackendNotFound,
    /// It is no Service.
    InvalidKind,
}

/// Every remark on a route, among the objects that `find` finds.
pub fn of_route<'a>(
    route: &Route<'_>,
    find: impl Fn(&ObjectRef) -> Option<&'a Object>,
) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for (index, parent) in route.parent_refs().iter().enumerate() {
        remarks.extend(of_parent(route, index, parent, &find));
    }
    // A route of parents that are not the mesh's is somebody else's to judge.
    let is_ours = |parent: &ParentRef| parent.target(route.namespace()).is_some();
    if !route.parent_refs().iter().any(is_ours) {
        return remarks;
    }
    for (rule, backends) in route.backend_refs().into_iter().enumerate() {
        for (index, backend) in backends.iter().enumerate() {
            let field = format!("spec.rules[{rule}].backendRefs[{index}]");
            remarks.extend(of_backend(route, &field, backend, &find));
            remarks.extend(of_filters(route, &field, backend.filters.as_deref()));
        }
    }
    let filters: Vec<_> = match route.spec {
        RouteSpec::Http(spec) => {
            spec.rules.iter().flatten().map(|rule| rule.filters.as_deref()).collect()
        }
        RouteSpec::Grpc(spec) => {
            spec.rules.iter().flatten().map(|rule| rule.filters.as_deref()).collect()
        }
    };
    for (rule, filters) in filters.into_iter().enumerate() {
        remarks.extend(of_filters(route, &format!("spec.rules[{rule}]"), filters));
    }
    remarks
}

fn of_parent<'a>(
    route: &Route<'_>,
    index: usize,
    parent: &ParentRef,
    find: &impl Fn(&ObjectRef) -> Option<&'a Object>,
) -> Option<Remark> {
    let target = parent.target(route.namespace())?;
    let field = format!("spec.parentRefs[{index}]");
    let about = About::Parent(index);
    let remark = |part: &str, fault: String, remedy| {
        let fault = Fault { field: format!("{field}{part}"), fault, remedy };
        Some(Remark { about, fault })
    };
    if target.kind == Kind::Server && target.namespace != route.namespace() {
        let remedy = "put the route into the Server's namespace";
        return remark(".namespace", format!("{target} is in another namespace"), remedy);
    }
    let Some(found) = find(&target) else {
        let remedy = "nothing follows this route there until it exists";
        return remark(".name", format!("there is no {target}"), remedy);
    };
    let Object::Service(service) = found else {
        return None;
    };
    let number = parent.port.map(i32::from);
    let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let has_port = ports.any(|port| {
        number.is_none_or(|number| number == port.port)
            && (parent.section_name.is_none() || parent.section_name == port.name)
    });
    if has_port {
        return None;
    }
    remark(".port", format!("{target} has no such port"), "use one of the Service's ports")
}

fn of_backend<'a>(
    route: &Route<'_>,
    field: &str,
    backend: &RouteBackendRef,
    find: &impl Fn(&ObjectRef) -> Option<&'a Object>,
) -> Option<Remark> {
    const FAILS: &str = "requests that would go there are answered with 500";
    let remark = |reason, part: &str, fault: String| {
        let fault = Fault { field: format!("{field}{part}"), fault, remedy: FAILS };
        Some(Remark { about: About::Backend(reason), fault })
    };
    let Some(name) = backend.target(route.namespace()) else {
        let kind = backend.kind.as_deref().unwrap_or_default();
        return remark(Reason::InvalidKind, ".kind", format!("{kind:?} cannot be a backend"));
    };
    let Some(found) = find(&name) else {
        return remark(Reason::BackendNotFound, ".name", format!("there is no {name}"));
    };
    let Object::Service(service) = found else {
        // A network is no place to send to: only what goes there anyway may go on.
        let mut parents = route.parent_refs().iter();
        if parents.any(|parent| parent.target(route.namespace()).as_ref() == Some(&name)) {
            return None;
        }
        let fault = format!("{name} is no parent of this route");
        return remark(Reason::InvalidKind, ".kind", fault);
    };
    let Some(number) = backend.port else {
        return remark(Reason::BackendNotFound, "", "has no port".to_string());
    };
    let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    if ports.any(|port| port.port == i32::from(number)) {
        return None;
    }
    remark(Reason::BackendNotFound, ".port", format!("{name} has no port {number}"))
}

fn of_filters(route: &Route<'_>, field: &str, filters: Option<&[RouteFilter]>) -> Vec<Remark> {
    let known: &[&str] = match route.spec {
        RouteSpec::Http(_) => &HTTP_FILTERS,
        RouteSpec::Grpc(_) => &GRPC_FILTERS,
    };
    let mut remarks = Vec::new();
    for (index, filter) in filters.unwrap_or_default().iter().enumerate() {
        let given = match filter.type_.as_str() {
            "RequestHeaderModifier" => filter.request_header_modifier.is_some(),
            "ResponseHeaderModifier" => filter.response_header_modifier.is_some(),
            "RequestRedirect" => filter.request_redirect.is_some(),
            _ => true,
        };
        let fault = match known.contains(&filter.type_.as_str()) {
            false => format!("{:?} is not supported here", filter.type_),
            true if !given => format!("says nothing of its {}", filter.type_),
            true => continue,
        };
        let remedy = "requests that it is for are answered with 500";
        let field = format!("{field}.filters[{index}].type");
        remarks.push(Remark { about: About::Filter, fault: Fault { field, fault, remedy } });
    }
    remarks
}
