//! Compiles the routes of a service for its clients.
//!
//! Routes in the service's own namespace (its producer's) are for all clients. Where a client's
//! namespace has routes for the service (a consumer's), they alone are for clients there.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::control::index::View;
use crate::model::client_policy::{
    Backend, Dispatcher, Distribution, GrpcFilter, GrpcRetryConditions, GrpcRoute, HttpFilter,
    HttpRetryConditions, HttpRoute, RouteBackend, Rule, WeightedBackend,
};
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::route::grpc::GrpcMatch;
use crate::model::route::http::HttpMatch;
use crate::resource::route::{
    GrpcRouteRule, HttpRouteRule, ParentRef, Route, RouteBackendRef, RouteFilter, RouteSpec,
};
use crate::resource::{Kind, ObjectRef, duration};

use super::annotation::{self, LOAD};
use super::client::{QUEUE, is_external, tcp_port};
use super::route::{self, AnyFilter};

/// The routes of one of a parent's ports.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) http: Vec<HttpRoute>,
    pub(super) grpc: Vec<GrpcRoute>,
}

/// What every rule is compiled with.
struct Scope<'a, 'v> {
    view: &'a View<'v>,
    parent: &'a ObjectRef,
    meta: &'a ObjectMeta,
    /// Where rules without backends lead.
    default_backend: &'a Arc<Backend>,
}

/// The routes of `parent`, whose metadata is `meta`, for clients in `namespace`. `is_port`: of
/// references to the port that is meant.
pub(super) fn of_parent(
    view: &View<'_>,
    namespace: &str,
    (parent, meta): (&ObjectRef, &ObjectMeta),
    is_port: impl Fn(&ParentRef) -> bool,
    default_backend: &Arc<Backend>,
) -> Routes {
    let mut attached = route::attached(view, parent, is_port);
    let is_consumers = |route: &Route<'_>| route.namespace() == namespace;
    let in_force = if attached.iter().any(is_consumers) { namespace } else { &parent.namespace };
    attached.retain(|route| route.namespace() == in_force);
    let scope = Scope { view, parent, meta, default_backend };
    let mut routes = Routes::default();
    for attached in attached {
        match attached.spec {
            RouteSpec::Http(spec) => {
                let rules = spec.rules.iter().flatten();
                routes.http.push(HttpRoute {
                    metadata: route::metadata(&attached),
                    hosts: route::hosts(&attached),
                    rules: rules.filter_map(|rule| scope.http_rule(&attached, rule)).collect(),
                });
            }
            RouteSpec::Grpc(spec) => {
                let rules = spec.rules.iter().flatten();
                routes.grpc.push(GrpcRoute {
                    metadata: route::metadata(&attached),
                    hosts: route::hosts(&attached),
                    rules: rules.filter_map(|rule| scope.grpc_rule(&attached, rule)).collect(),
                });
            }
        }
    }
    routes
}

type HttpRule = Rule<HttpMatch, HttpFilter, HttpRetryConditions>;
type GrpcRule = Rule<GrpcMatch, GrpcFilter, GrpcRetryConditions>;

impl Scope<'_, '_> {
    /// None where none of its conditions makes sense.
    fn http_rule(&self, route: &Route<'_>, rule: &HttpRouteRule) -> Option<HttpRule> {
        let matches = route::matches(rule.matches.as_deref(), route::http_match)?;
        let (filters, valid) = http_filters(rule.filters.as_deref());
        let limit = |text: &Option<String>| {
            text.as_deref().and_then(duration::parse).filter(|time| !time.is_zero())
        };
        let own = rule.timeouts.as_ref();
        let mut timeouts = annotation::timeouts(Some(route.meta), self.meta);
        // What the rule itself says is nearest, `0s` for none.
        if let Some(request) = own.filter(|own| own.request.is_some()) {
            timeouts.request = limit(&request.request);
        }
        let each = own.and_then(|own| limit(&own.backend_request));
        let backends = match valid {
            true => {
                let refs = rule.backend_refs.as_deref();
                self.backends(route, refs, each, http_filters, |reason| {
                    HttpFilter::Failure(route::http_failure(reason))
                })
            }
            false => Distribution::Empty,
        };
        Some(Rule {
            matches,
            filters,
            backends,
            timeouts,
            retry: annotation::http_retry(Some(route.meta), self.meta),
            allow_l5d_request_headers: false,
        })
    }

    /// None where none of its conditions makes sense.
    fn grpc_rule(&self, route: &Route<'_>, rule: &GrpcRouteRule) -> Option<GrpcRule> {
        let matches = route::matches(rule.matches.as_deref(), route::grpc_match)?;
        let (filters, valid) = grpc_filters(rule.filters.as_deref());
        let backends = match valid {
            true => {
                let refs = rule.backend_refs.as_deref();
                self.backends(route, refs, None, grpc_filters, |reason| {
                    GrpcFilter::Failure(route::grpc_failure(reason))
                })
            }
            false => Distribution::Empty,
        };
        Some(Rule {
            matches,
            filters,
            backends,
            timeouts: annotation::timeouts(Some(route.meta), self.meta),
            retry: annotation::grpc_retry(Some(route.meta), self.meta),
            allow_l5d_request_headers: false,
        })
    }

    fn backends<F>(
        &self,
        route: &Route<'_>,
        refs: Option<&[RouteBackendRef]>,
        request_timeout: Option<Duration>,
        filters: impl Fn(Option<&[RouteFilter]>) -> (Vec<F>, bool),
        fail: impl Fn(String) -> F,
    ) -> Distribution<F> {
        let refs = refs.unwrap_or_default();
        if refs.is_empty() {
            let backend = self.default_backend.clone();
            let backend = RouteBackend { backend, filters: Vec::new(), request_timeout };
            return Distribution::FirstAvailable(vec![backend]);
        }
        let weighted = refs.iter().filter(|reference| reference.weight != Some(0));
        let weighted: Vec<_> = weighted
            .map(|reference| WeightedBackend {
                backend: match self.backend(route, reference) {
                    Ok(backend) => {
                        let (filters, valid) = filters(reference.filters.as_deref());
                        let backend = if valid { backend } else { no_backend() };
                        RouteBackend { backend, filters, request_timeout }
                    }
                    Err(reason) => RouteBackend {
                        backend: no_backend(),
                        filters: vec![fail(reason)],
                        request_timeout,
                    },
                },
                weight: reference.weight.unwrap_or(1),
            })
            .collect();
        if weighted.is_empty() {
            return Distribution::Empty;
        }
        Distribution::RandomAvailable(weighted)
    }

    /// # Errors
    /// Why there is no such backend.
    fn backend(
        &self,
        route: &Route<'_>,
        reference: &RouteBackendRef,
    ) -> Result<Arc<Backend>, String> {
        let unsupported = || {
            let kind = reference.kind.as_deref().unwrap_or_default();
            format!("unsupported backend type {kind}")
        };
        let name = reference.target(route.namespace()).ok_or_else(unsupported)?;
        if name.kind == Kind::EgressNetwork {
            // What goes there goes where it was going.
            let is_own = name == *self.parent;
            return is_own.then(|| self.default_backend.clone()).ok_or_else(unsupported);
        }
        let ObjectRef { namespace, name, .. } = &name;
        let service = self.view.service(namespace, name).filter(|service| !is_external(service));
        let service = service.ok_or_else(|| format!("Service not found {name}"))?;
        let port = reference.port.ok_or_else(|| format!("missing port of Service {name}"))?;
        if tcp_port(service, port).is_none() {
            return Err(format!("Service {name} has no port {port}"));
        }
        Ok(balanced(self.view, namespace, name, port))
    }
}

/// The endpoints of a service as a backend.
pub(super) fn balanced(view: &View<'_>, namespace: &str, name: &str, port: u16) -> Arc<Backend> {
    Arc::new(Backend {
        metadata: Metadata::new_resource(ResourceRef {
            group: "core".to_string(),
            kind: "Service".to_string(),
            name: name.to_string(),
            namespace: namespace.to_string(),
            section: String::new(),
            port,
        }),
        queue: QUEUE,
        dispatcher: Dispatcher::Balance {
            path: format!("{}:{port}", view.mesh.service_name(namespace, name)),
            load: view
                .service(namespace, name)
                .map_or(LOAD, |service| annotation::load(&service.metadata)),
        },
    })
}

fn no_backend() -> Arc<Backend> {
    Arc::new(Backend {
        metadata: Metadata::new_default("invalid"),
        queue: QUEUE,
        dispatcher: Dispatcher::Fail,
    })
}

/// And whether all are valid; where not, what fails every request.
fn http_filters(wanted: Option<&[RouteFilter]>) -> (Vec<HttpFilter>, bool) {
    let filters = route::filters(wanted, |filter| {
        Some(match filter {
            AnyFilter::RequestHeaders(modifier) => HttpFilter::RequestHeaders(modifier),
            AnyFilter::ResponseHeaders(modifier) => HttpFilter::ResponseHeaders(modifier),
            AnyFilter::Redirect(redirect) => HttpFilter::Redirect(redirect),
        })
    });
    match filters {
        Ok(filters) => (filters, true),
        Err(reason) => (vec![HttpFilter::Failure(route::http_failure(reason))], false),
    }
}

fn grpc_filters(wanted: Option<&[RouteFilter]>) -> (Vec<GrpcFilter>, bool) {
    let filters = route::filters(wanted, |filter| match filter {
        AnyFilter::RequestHeaders(modifier) => Some(GrpcFilter::RequestHeaders(modifier)),
        AnyFilter::ResponseHeaders(_) | AnyFilter::Redirect(_) => None,
    });
    match filters {
        Ok(filters) => (filters, true),
        Err(reason) => (vec![GrpcFilter::Failure(route::grpc_failure(reason))], false),
    }
}
