//! Whether a resource of the mesh may be stored. What one object says by itself is checked by
//! [`check`]; here is what only an API server can ask: what else there is, and what it was before.
//!
//! Law: what Linkerd's validators accept is accepted, and what would be stored without effect is
//! refused or warned of, with field, value and remedy. Nothing that is being removed is kept.

use serde_json::Value;

use crate::control::index::View;
use crate::control::review::{Request, Response, ReviewError};
use crate::resource::check::{Fault, check};
use crate::resource::policy::HTTPLocalRateLimitPolicySpec;
use crate::resource::route::{Route, RouteFilter, RouteSpec};
use crate::resource::{Kind, Object, Server, remark};

/// Most faults that are told at once.
const FAULTS_MAX: usize = 8;
/// Groups whose definitions are others': their objects may have fields that are newer than we are.
const FOREIGN_GROUP: &str = "gateway.networking.k8s.io";

/// Which of the two webhooks is asked. Kubernetes knows them apart by the resources they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Servers, authorizations, routes, limits and networks.
    Policy,
    /// ServiceProfiles.
    Profile,
}

/// Answers a review: an AdmissionReview in, an AdmissionReview out.
///
/// # Errors
/// [`ReviewError`].
pub fn answer(review: &[u8], checked: Checked, view: &View<'_>) -> Result<Vec<u8>, ReviewError> {
    Ok(judge(&Request::read(review)?, checked, view).review())
}

/// Answers a review that has been read.
pub(in crate::control) fn judge(request: &Request, checked: Checked, view: &View<'_>) -> Response {
    let allow = |warnings| request.allow(None, warnings);
    let object = &request.object;
    let is_going = !object["metadata"]["deletionTimestamp"].is_null();
    // Finalizers and labels of what is stored already can be changed, whatever it says.
    let is_unchanged = request.operation == "UPDATE"
        && object["spec"] == request.old_object["spec"]
        && object["metadata"]["annotations"] == request.old_object["metadata"]["annotations"];
    if request.operation == "DELETE" || is_going || is_unchanged {
        return allow(Vec::new());
    }
    let (api_version, name) = (text(object, "apiVersion"), text(object, "kind"));
    let kind = Kind::named(name)
        .find(|kind| kind.reads(api_version))
        .filter(|kind| matches!(kind, Kind::ServiceProfile) == (checked == Checked::Profile));
    let Some(kind) = kind else {
        return allow(vec![format!("{api_version} {name} is not read by this mesh")]);
    };
    let is_foreign = kind.group() == FOREIGN_GROUP;
    if is_foreign && !has_parent_of_ours(object) {
        return allow(Vec::new());
    }
    let mut warnings = Vec::new();
    let object = match read(kind, object, &mut warnings) {
        Ok(object) => object,
        // The API server has checked it against a definition that may be newer than we are.
        Err(fault) if is_foreign => {
            return allow(vec![format!("{fault}; the mesh passes this {name} over")]);
        }
        Err(fault) => return request.deny(format!("{fault}; correct or remove it")),
    };
    let object = with_namespace(object, &request.namespace);
    let mut faults = check(&object);
    match &object {
        Object::Server(server) => faults.extend(conflict(server, &request.namespace, view)),
        Object::HTTPLocalRateLimitPolicy(policy) => faults.extend(of_limit(&policy.spec)),
        _ => {}
    }
    if let Some(route) = object.route() {
        faults.extend(of_route(&route));
        let remarks = remark::of_route(&route, |name| view.find(name));
        warnings.extend(remarks.iter().map(|remark| told(&remark.fault)));
    }
    match faults.as_slice() {
        [] => allow(warnings),
        faults => {
            let all: Vec<_> = faults.iter().take(FAULTS_MAX).map(told).collect();
            request.deny(all.join("\n"))
        }
    }
}

/// Whether a route of Gateway API is for the mesh at all, and not for somebody's gateway alone.
fn has_parent_of_ours(route: &Value) -> bool {
    let parents = route["spec"]["parentRefs"].as_array().into_iter().flatten();
    parents.into_iter().any(|parent| {
        let is_mine = |group: &str, kinds: &[&str]| {
            parent["group"] == group && kinds.iter().any(|kind| parent["kind"] == *kind)
        };
        is_mine("", &["Service"])
            || is_mine("core", &["Service"])
            || is_mine("policy.linkerd.io", &["Server", "EgressNetwork"])
    })
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_default()
}

/// `spec.port: "http_" is not valid; use a port's number or name`
fn told(fault: &Fault) -> String {
    let Fault { field, fault, remedy } = fault;
    format!("{field}: {fault}; {remedy}")
}

/// Reads an object strictly. Fields that mean nothing are told of, in `warnings`.
fn read(kind: Kind, object: &Value, warnings: &mut Vec<String>) -> Result<Object, String> {
    let mut note = |path: serde_ignored::Path<'_>| {
        let path = path.to_string();
        // Kubernetes' own types have fields that are newer than we are.
        let passed_over = ["apiVersion", "kind", "metadata", "status"];
        if !passed_over.contains(&path.split('.').next().unwrap_or_default()) {
            warnings.push(format!("{path}: is not a field of this object; it is passed over"));
        }
    };
    let deserializer = serde_ignored::Deserializer::new(object, &mut note);
    Object::deserialize(kind, deserializer).map_err(|error| place(kind, object, &error.to_string()))
}

/// Which field a fault is in, as far as can be told: serde says what, not where.
fn place(kind: Kind, object: &Value, fault: &str) -> String {
    let spec = object["spec"].as_object().into_iter().flatten();
    // One field at a time instead of the whole, so that the one whose absence mends it is named.
    for (name, _) in spec {
        let mut without = object.clone();
        if let Some(spec) = without["spec"].as_object_mut() {
            spec.remove(name);
        }
        match Object::deserialize(kind, &without) {
            Ok(_) => return format!("spec.{name}: {fault}"),
            Err(error) if error.to_string() != fault => return format!("spec.{name}: {fault}"),
            Err(_) => {}
        }
    }
    format!("spec: {fault}")
}

/// An API server says the namespace beside the object, where `kubectl` left it out.
fn with_namespace(mut object: Object, namespace: &str) -> Object {
    let meta = object.meta_mut();
    if meta.namespace.is_none() {
        meta.namespace = Some(namespace.to_string());
    }
    object
}

/// Another Server of the namespace that is for the same port of the same pods. As in Linkerd,
/// selectors overlap where they are equal, or one of them selects all.
fn conflict(server: &Server, namespace: &str, view: &View<'_>) -> Option<Fault> {
    let selects_all = |server: &Server| {
        let selectors = [&server.spec.pod_selector, &server.spec.external_workload_selector];
        selectors.into_iter().flatten().any(|selector| {
            selector.match_labels.iter().flatten().next().is_none()
                && selector.match_expressions.iter().flatten().next().is_none()
        })
    };
    let is_same_sort = |other: &Server| {
        other.spec.pod_selector.is_some() == server.spec.pod_selector.is_some()
            && other.spec.external_workload_selector.is_some()
                == server.spec.external_workload_selector.is_some()
    };
    let overlaps = |other: &Server| {
        is_same_sort(other)
            && (selects_all(other)
                || selects_all(server)
                || (other.spec.pod_selector == server.spec.pod_selector
                    && other.spec.external_workload_selector
                        == server.spec.external_workload_selector))
    };
    let other = view.servers(namespace).find(|other| {
        other.metadata.name != server.metadata.name
            && other.spec.port == server.spec.port
            && overlaps(other)
    })?;
    let name = other.metadata.name.as_deref().unwrap_or_default();
    let port = match &server.spec.port {
        k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(port) => port.to_string(),
        k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(name) => name.clone(),
    };
    Some(Fault {
        field: "spec.port".to_string(),
        fault: format!(
            "the Server {namespace}/{name} is for port {port} of pods that this one selects too"
        ),
        remedy: "give another port, or a selector that selects other pods",
    })
}

/// A part of a limit is no more than the whole.
fn of_limit(spec: &HTTPLocalRateLimitPolicySpec) -> Vec<Fault> {
    let total = spec.total.map_or(u32::MAX, |total| total.requests_per_second);
    let identity = spec.identity.map(|limit| ("spec.identity".to_string(), limit));
    let identity = identity.map(|(field, limit)| (field, limit.requests_per_second));
    let named = spec.overrides.iter().flatten().enumerate();
    let named =
        named.map(|(index, each)| (format!("spec.overrides[{index}]"), each.requests_per_second));
    let beyond = identity.into_iter().chain(named).filter(|(_, limit)| *limit > total);
    let fault = |(field, limit)| Fault {
        field: format!("{field}.requestsPerSecond"),
        fault: format!("{limit} is more than the total of {total}"),
        remedy: "use a number up to the total",
    };
    beyond.map(fault).collect()
}

/// What Linkerd's own routes cannot say, and what Gateway API's must.
fn of_route(route: &Route<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, parent) in route.parent_refs().iter().enumerate() {
        if parent.kind.as_deref() == Some("EgressNetwork") && parent.port.is_none() {
            faults.push(Fault {
                field: format!("spec.parentRefs[{index}].port"),
                fault: "is missing".to_string(),
                remedy: "say which port; an EgressNetwork has none of its own",
            });
        }
    }
    let RouteSpec::Http(spec) = route.spec else { return faults };
    let is_ours = route.kind == Kind::PolicyHTTPRoute;
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        for (at, filter) in rule.filters.iter().flatten().enumerate().filter(|_| is_ours) {
            if !is_known(filter) {
                faults.push(Fault {
                    field: format!("spec.rules[{index}].filters[{at}].type"),
                    fault: format!("{:?} is not supported", filter.type_),
                    remedy: "use RequestHeaderModifier, ResponseHeaderModifier or RequestRedirect",
                });
            }
        }
        for (at, backend) in rule.backend_refs.iter().flatten().enumerate() {
            let is_service = matches!(backend.group.as_deref(), None | Some("" | "core"))
                && matches!(backend.kind.as_deref(), None | Some("Service"));
            if !is_ours && is_service && backend.port.is_none() {
                faults.push(Fault {
                    field: format!("spec.rules[{index}].backendRefs[{at}].port"),
                    fault: "is missing".to_string(),
                    remedy: "say which port of the Service",
                });
            }
        }
    }
    faults
}

fn is_known(filter: &RouteFilter) -> bool {
    let known = ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect"];
    known.contains(&filter.type_.as_str())
}
