//! What routes of clients and of servers have in common: which there are, in which order, and how
//! their parts read.
//!
//! Law: what of a route is not understood never lets more through. A condition that makes no sense
//! matches nothing; a filter that makes no sense fails the requests of its rule.

use std::num::NonZeroU16;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use k8s_openapi::api::core::v1::ServicePort;

use crate::control::index::View;
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::pattern::Pattern;
use crate::model::route::HostMatch;
use crate::model::route::grpc::{GrpcFailure, GrpcMatch};
use crate::model::route::http::{
    HeaderMatch, HeaderModifier, HttpFailure, HttpMatch, PathMatch, PathModifier, QueryParamMatch,
    Redirect, Share,
};
use crate::resource::ObjectRef;
use crate::resource::route::{
    GrpcRouteMatch, HeaderFilter, HttpRouteMatch, ParentRef, PathMatchType, RedirectFilter, Route,
    RouteFilter, ValueMatch, ValueMatchType,
};

/// gRPC's INTERNAL.
const GRPC_INTERNAL: u16 = 13;

/// Every request.
pub(super) const ALL: Share = Share { numerator: 1, denominator: 1 };

/// The routes of `parent`, the oldest first, then by namespace and name. `is_port`: of references
/// to the port that is meant.
pub(super) fn attached<'a>(
    view: &View<'a>,
    parent: &ObjectRef,
    is_port: impl Fn(&ParentRef) -> bool,
) -> Vec<Route<'a>> {
    let names_it = |route: &Route<'a>| {
        route.parent_refs().iter().any(|reference| {
            is_port(reference) && reference.target(route.namespace()).as_ref() == Some(parent)
        })
    };
    let mut routes: Vec<_> = view.routes(parent).filter(names_it).collect();
    routes.sort_by_key(|route| {
        let created = route.meta.creation_timestamp.as_ref().map(|at| at.0);
        (created.is_none(), created, route.namespace(), route.name(), route.kind)
    });
    routes
}

/// Whether a reference to a Service means this port of it.
pub(super) fn is_service_port(reference: &ParentRef, port: &ServicePort) -> bool {
    reference.port.is_none_or(|number| i32::from(number) == port.port)
        && (reference.section_name.is_none() || reference.section_name == port.name)
}

/// A route as an object.
pub(super) fn metadata(route: &Route<'_>) -> Metadata {
    Metadata::new_resource(ResourceRef {
        group: route.group().to_string(),
        kind: route.kind.name(),
        name: route.name().to_string(),
        namespace: route.namespace().to_string(),
        ..ResourceRef::default()
    })
}

/// Hosts of a route.
pub(super) fn hosts(route: &Route<'_>) -> Vec<HostMatch> {
    let host = |host: &String| match host.strip_prefix("*.") {
        Some(suffix) => HostMatch::Suffix(suffix.rsplit('.').map(str::to_string).collect()),
        None => HostMatch::Exact(host.clone()),
    };
    route.hostnames().iter().map(host).collect()
}

/// The conditions of a rule that make sense. None where there were some and none of them does: such
/// a rule matches nothing.
pub(super) fn matches<T, M>(
    wanted: Option<&[T]>,
    read: impl Fn(&T) -> Option<M>,
) -> Option<Vec<M>> {
    let wanted = wanted.unwrap_or_default();
    let matches: Vec<_> = wanted.iter().filter_map(read).collect();
    (wanted.is_empty() || !matches.is_empty()).then_some(matches)
}

/// A condition on HTTP requests; none where a part of it makes no sense.
pub(super) fn http_match(wanted: &HttpRouteMatch) -> Option<HttpMatch> {
    let path = wanted.path.as_ref().map(|path| {
        let value = path.value.clone().unwrap_or_else(|| "/".to_string());
        Some(match path.type_.unwrap_or_default() {
            PathMatchType::Exact => PathMatch::Exact(value),
            PathMatchType::PathPrefix => PathMatch::Prefix(value),
            PathMatchType::RegularExpression => PathMatch::Regex(Pattern::new(value).ok()?),
        })
    });
    let query = |wanted: &ValueMatch| {
        let (name, value) = (wanted.name.clone(), wanted.value.clone());
        Some(match wanted.type_.unwrap_or_default() {
            ValueMatchType::Exact => QueryParamMatch::Exact(name, value),
            ValueMatchType::RegularExpression => {
                QueryParamMatch::Regex(name, Pattern::new(value).ok()?)
            }
        })
    };
    let method = wanted.method.as_ref().map(|method| Method::from_bytes(method.as_bytes()).ok());
    Some(HttpMatch {
        path: transpose(path)?,
        headers: headers(wanted.headers.as_deref())?,
        query_params: wanted.query_params.iter().flatten().map(query).collect::<Option<_>>()?,
        method: transpose(method)?,
    })
}

/// A condition on gRPC calls; none where a part of it makes no sense.
pub(super) fn grpc_match(wanted: &GrpcRouteMatch) -> Option<GrpcMatch> {
    let method = wanted.method.as_ref();
    // The API between the planes has no regular expressions here.
    if method.is_some_and(|method| method.type_ == Some(ValueMatchType::RegularExpression)) {
        return None;
    }
    Some(GrpcMatch {
        service: method.and_then(|method| method.service.clone()),
        method: method.and_then(|method| method.method.clone()),
        headers: headers(wanted.headers.as_deref())?,
    })
}

fn headers(wanted: Option<&[ValueMatch]>) -> Option<Vec<HeaderMatch>> {
    let header = |wanted: &ValueMatch| {
        let name = HeaderName::from_bytes(wanted.name.as_bytes()).ok()?;
        Some(match wanted.type_.unwrap_or_default() {
            ValueMatchType::Exact => {
                HeaderMatch::Exact(name, HeaderValue::from_str(&wanted.value).ok()?)
            }
            ValueMatchType::RegularExpression => {
                HeaderMatch::Regex(name, Pattern::new(wanted.value.as_str()).ok()?)
            }
        })
    };
    wanted.unwrap_or_default().iter().map(header).collect()
}

/// `None` where there is something and it makes no sense.
fn transpose<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        Some(None) => None,
        Some(part) => Some(part),
        None => Some(None),
    }
}

/// A filter of whatever plane and protocol; each takes those that it knows.
pub(super) enum AnyFilter {
    /// Changes request headers.
    RequestHeaders(HeaderModifier),
    /// Changes response headers.
    ResponseHeaders(HeaderModifier),
    /// Redirects.
    Redirect(Redirect),
}

/// The filters of a rule, as `take` takes them, or why the rule's requests fail.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn filters<F>(
    wanted: Option<&[RouteFilter]>,
    take: impl Fn(AnyFilter) -> Option<F>,
) -> Result<Vec<F>, String> {
    let read = |wanted: &RouteFilter| {
        let filter = filter(wanted).and_then(&take);
        filter.ok_or_else(|| format!("invalid filter {}", wanted.type_))
    };
    wanted.unwrap_or_default().iter().map(read).collect()
}

fn filter(wanted: &RouteFilter) -> Option<AnyFilter> {
    match wanted.type_.as_str() {
        "RequestHeaderModifier" => {
            modifier(wanted.request_header_modifier.as_ref()?).map(AnyFilter::RequestHeaders)
        }
        "ResponseHeaderModifier" => {
            modifier(wanted.response_header_modifier.as_ref()?).map(AnyFilter::ResponseHeaders)
        }
        "RequestRedirect" => redirect(wanted.request_redirect.as_ref()?).map(AnyFilter::Redirect),
        _ => None,
    }
}

fn modifier(wanted: &HeaderFilter) -> Option<HeaderModifier> {
    let headers = |list: &Option<Vec<crate::resource::route::HeaderValue>>| {
        let header = |header: &crate::resource::route::HeaderValue| {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(&header.value).ok()?))
        };
        list.iter().flatten().map(header).collect::<Option<Vec<_>>>()
    };
    let remove = wanted.remove.iter().flatten();
    Some(HeaderModifier {
        add: headers(&wanted.add)?,
        set: headers(&wanted.set)?,
        remove: remove
            .map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            .collect::<Option<_>>()?,
    })
}

fn redirect(wanted: &RedirectFilter) -> Option<Redirect> {
    let path = wanted.path.as_ref().map(|path| match path.type_.as_str() {
        "ReplaceFullPath" => path.replace_full_path.clone().map(PathModifier::Full),
        "ReplacePrefixMatch" => path.replace_prefix_match.clone().map(PathModifier::Prefix),
        _ => None,
    });
    let scheme = wanted.scheme.as_deref().map(|scheme| scheme.parse().ok());
    Some(Redirect {
        scheme: transpose(scheme)?,
        host: wanted.hostname.clone(),
        path: transpose(path)?,
        port: wanted.port.and_then(NonZeroU16::new),
        // Gateway API's default; the API between the planes has another.
        status: Some(StatusCode::from_u16(wanted.status_code.unwrap_or(302)).ok()?),
    })
}

/// Fails every request, and says why.
pub(super) fn http_failure(message: String) -> HttpFailure {
    HttpFailure { status: StatusCode::INTERNAL_SERVER_ERROR, message, share: ALL }
}

/// Fails every call, and says why.
pub(super) fn grpc_failure(message: String) -> GrpcFailure {
    GrpcFailure { code: GRPC_INTERNAL, message, share: ALL }
}
