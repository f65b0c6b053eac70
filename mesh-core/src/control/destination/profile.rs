//! Compiles profiles: whether a destination is opaque, its name, what its ServiceProfile says, and
//! the endpoint behind a pod's address.
//!
//! A ServiceProfile is named as the service is in whole. One in the client's namespace goes before
//! one in the service's.

use std::net::SocketAddr;
use std::time::Duration;

use crate::api::server::Refusal;
use crate::control::index::View;
use crate::control::names;
use crate::control::protocol::{self, PortProtocol};
use crate::model::endpoint::{Endpoint, ProtocolHint};
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::pattern::Pattern;
use crate::model::profile::{
    MATCH_DEPTH_MAX, Profile, ProfileRoute, RequestMatch, ResponseClass, ResponseMatch,
    RetryBudget, WeightedDestination,
};
use crate::model::ratio::Ratio;
use crate::model::target::NameAddr;
use crate::resource::profile::{
    ProfileRouteSpec, RequestMatchSpec, ResponseClassSpec, ResponseMatchSpec, RetryBudgetSpec,
    StatusRangeSpec, WeightedDestinationSpec,
};
use crate::resource::{Service, duration};

use super::endpoints;

/// Linkerd's, where a ServiceProfile gives none.
const RETRY_BUDGET: RetryBudget = RetryBudget {
    retry_ratio: Ratio::from_millionths(200_000),
    min_retries_per_second: 10,
    ttl: Duration::from_secs(10),
};

/// Linkerd's, where a ServiceProfile's route gives none.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(10);

/// The profile of an address or name for clients in `namespace` (empty where that is not known).
///
/// # Errors
/// [`Refusal::InvalidArgument`] for names that are no service's: there can be no profile.
pub fn compile(view: &View<'_>, namespace: &str, path: &NameAddr) -> Result<Profile, Refusal> {
    if let Some(address) = path.as_address() {
        return Ok(of_address(view, namespace, address));
    }
    let no_service = || Refusal::InvalidArgument(format!("{} is not a service", path.host()));
    let name = names::parse_full(view.mesh, path.host()).ok_or_else(no_service)?;
    let service = view.service(&name.service.namespace, &name.service.name);
    let service = service.ok_or_else(no_service)?;
    let mut profile = of_service(view, namespace, service, path.port());
    if name.instance.is_some() {
        profile.fully_qualified_name = Some(path.host().to_string());
    }
    Ok(profile)
}

fn of_address(view: &View<'_>, client_namespace: &str, address: SocketAddr) -> Profile {
    if let Some(service) = view.service_at(address.ip()) {
        return of_service(view, client_namespace, service, address.port());
    }
    let (endpoint, opaque) = match view.instance_at(address) {
        Some((instance, port)) => {
            let endpoint = endpoints::of_instance(view, instance, address, port);
            let opaque = endpoint.protocol_hint == ProtocolHint::Opaque;
            (endpoint, opaque)
        }
        None => {
            let opaque = view.mesh.opaque_ports.contains(address.port());
            (Endpoint::new(address), opaque)
        }
    };
    Profile {
        opaque,
        endpoint: Some(endpoint),
        retry_budget: Some(RETRY_BUDGET),
        ..Profile::default()
    }
}

fn of_service(view: &View<'_>, client_namespace: &str, service: &Service, port: u16) -> Profile {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let opaque = match ports.find(|found| found.port == i32::from(port)) {
        Some(port) => protocol::of_service_port(view, service, port) == PortProtocol::Opaque,
        None => false,
    };
    let full = view.mesh.service_name(namespace, name);
    let of_client = match client_namespace {
        "" => None,
        client => view.service_profile(client, &full),
    };
    let profile = of_client.or_else(|| view.service_profile(namespace, &full));
    let spec = profile.map(|profile| &profile.spec);
    let overrides = spec.and_then(|spec| spec.dst_overrides.as_deref()).unwrap_or_default();
    Profile {
        fully_qualified_name: Some(full),
        opaque,
        routes: spec.iter().flat_map(|spec| &spec.routes).filter_map(route).collect(),
        retry_budget: Some(
            spec.and_then(|spec| budget(spec.retry_budget.as_ref()?)).unwrap_or(RETRY_BUDGET),
        ),
        dst_overrides: overrides.iter().filter_map(|to| destination(view, to, port)).collect(),
        parent: Some(service_metadata(namespace, name, port)),
        profile: profile.map(|profile| {
            Metadata::new_resource(ResourceRef {
                group: "linkerd.io".to_string(),
                kind: "ServiceProfile".to_string(),
                name: profile.metadata.name.clone().unwrap_or_default(),
                namespace: profile.metadata.namespace.clone().unwrap_or_default(),
                ..ResourceRef::default()
            })
        }),
        ..Profile::default()
    }
}

fn service_metadata(namespace: &str, name: &str, port: u16) -> Metadata {
    Metadata::new_resource(ResourceRef {
        group: "core".to_string(),
        kind: "Service".to_string(),
        name: name.to_string(),
        namespace: namespace.to_string(),
        section: String::new(),
        port,
    })
}

/// None where its condition makes no sense: the rest of the profile stays.
fn route(route: &ProfileRouteSpec) -> Option<ProfileRoute> {
    let class = |class: &ResponseClassSpec| {
        Some(ResponseClass {
            condition: response_match(&class.condition, MATCH_DEPTH_MAX)?,
            is_failure: class.is_failure == Some(true),
        })
    };
    Some(ProfileRoute {
        condition: request_match(&route.condition, MATCH_DEPTH_MAX)?,
        response_classes: route.response_classes.iter().flatten().filter_map(class).collect(),
        labels: [("route", route.name.as_str())].into_iter().collect(),
        retryable: route.is_retryable == Some(true),
        timeout: Some(route.timeout.as_deref().and_then(duration::parse).unwrap_or(ROUTE_TIMEOUT)),
    })
}

/// `depth`: how deep this condition may still nest, itself included.
fn request_match(wanted: &RequestMatchSpec, depth: usize) -> Option<RequestMatch> {
    let depth = depth.checked_sub(1)?;
    let each = |parts: &[RequestMatchSpec]| {
        parts.iter().map(|part| request_match(part, depth)).collect::<Option<Vec<_>>>()
    };
    let mut parts = Vec::new();
    if let Some(all) = &wanted.all {
        parts.push(RequestMatch::All(each(all)?));
    }
    if let Some(any) = &wanted.any {
        parts.push(RequestMatch::Any(each(any)?));
    }
    if let Some(not) = &wanted.not {
        parts.push(RequestMatch::Not(Box::new(request_match(not, depth)?)));
    }
    if let Some(method) = &wanted.method {
        parts.push(RequestMatch::Method(http::Method::from_bytes(method.as_bytes()).ok()?));
    }
    if let Some(regex) = &wanted.path_regex {
        parts.push(RequestMatch::Path(Pattern::new(regex.as_str()).ok()?));
    }
    match parts.len() {
        0 => None,
        1 => parts.pop(),
        _ => Some(RequestMatch::All(parts)),
    }
}

/// `depth`: how deep this condition may still nest, itself included.
fn response_match(wanted: &ResponseMatchSpec, depth: usize) -> Option<ResponseMatch> {
    let depth = depth.checked_sub(1)?;
    let each = |parts: &[ResponseMatchSpec]| {
        parts.iter().map(|part| response_match(part, depth)).collect::<Option<Vec<_>>>()
    };
    let mut parts = Vec::new();
    if let Some(all) = &wanted.all {
        parts.push(ResponseMatch::All(each(all)?));
    }
    if let Some(any) = &wanted.any {
        parts.push(ResponseMatch::Any(each(any)?));
    }
    if let Some(not) = &wanted.not {
        parts.push(ResponseMatch::Not(Box::new(response_match(not, depth)?)));
    }
    if let Some(StatusRangeSpec { min, max }) = wanted.status {
        let (min, max) = (min.or(max)?, max.or(min)?);
        parts.push(ResponseMatch::Status { min, max });
    }
    match parts.len() {
        0 => None,
        1 => parts.pop(),
        _ => Some(ResponseMatch::All(parts)),
    }
}

fn budget(budget: &RetryBudgetSpec) -> Option<RetryBudget> {
    Some(RetryBudget {
        retry_ratio: Ratio::from_f64(budget.retry_ratio)?,
        min_retries_per_second: budget.min_retries_per_second,
        ttl: duration::parse(&budget.ttl)?,
    })
}

/// Without a port, the port that was asked for.
fn destination(
    view: &View<'_>,
    to: &WeightedDestinationSpec,
    port: u16,
) -> Option<WeightedDestination> {
    let authority = NameAddr::with_default_port(&to.authority, port).ok()?;
    let service = names::parse_full(view.mesh, authority.host()).map(|name| name.service);
    Some(WeightedDestination {
        weight: to.weight_thousandths()?,
        backend: service.map(|s| service_metadata(&s.namespace, &s.name, authority.port())),
        authority,
    })
}
