//! Compiles the routes of a Server: what of its port each AuthorizationPolicy may be about.

use crate::control::index::View;
use crate::model::server_policy::{
    ServerGrpcFilter, ServerGrpcRoute, ServerHttpFilter, ServerHttpRoute, ServerRule,
};
use crate::resource::route::{Route, RouteFilter, RouteSpec};
use crate::resource::{Kind, ObjectRef, Server};

use super::authorization;
use super::route::{self, AnyFilter};

/// The routes of `server`.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) http: Vec<ServerHttpRoute>,
    pub(super) grpc: Vec<ServerGrpcRoute>,
}

/// The routes of `server` that are in its own namespace: nobody else may grant there.
pub(super) fn of_server(view: &View<'_>, server: &Server) -> Routes {
    let parent = ObjectRef {
        kind: Kind::Server,
        namespace: server.metadata.namespace.clone().unwrap_or_default(),
        name: server.metadata.name.clone().unwrap_or_default(),
    };
    let mut routes = Routes::default();
    for attached in route::attached(view, &parent, |_| true) {
        if attached.namespace() != parent.namespace {
            continue;
        }
        add(view, &attached, &mut routes);
    }
    routes
}

fn add(view: &View<'_>, attached: &Route<'_>, routes: &mut Routes) {
    let authorizations = authorization::of_route(view, attached);
    match attached.spec {
        RouteSpec::Http(spec) => {
            let rules = spec.rules.iter().flatten().filter_map(|rule| {
                Some(ServerRule {
                    matches: route::matches(rule.matches.as_deref(), route::http_match)?,
                    filters: http_filters(rule.filters.as_deref()),
                })
            });
            routes.http.push(ServerHttpRoute {
                metadata: route::metadata(attached),
                hosts: route::hosts(attached),
                authorizations,
                rules: rules.collect(),
            });
        }
        RouteSpec::Grpc(spec) => {
            let rules = spec.rules.iter().flatten().filter_map(|rule| {
                Some(ServerRule {
                    matches: route::matches(rule.matches.as_deref(), route::grpc_match)?,
                    filters: grpc_filters(rule.filters.as_deref()),
                })
            });
            routes.grpc.push(ServerGrpcRoute {
                metadata: route::metadata(attached),
                hosts: route::hosts(attached),
                authorizations,
                rules: rules.collect(),
            });
        }
    }
}

fn http_filters(wanted: Option<&[RouteFilter]>) -> Vec<ServerHttpFilter> {
    let filters = route::filters(wanted, |filter| match filter {
        AnyFilter::RequestHeaders(modifier) => Some(ServerHttpFilter::RequestHeaders(modifier)),
        AnyFilter::Redirect(redirect) => Some(ServerHttpFilter::Redirect(redirect)),
        // The API between the planes has none for servers.
        AnyFilter::ResponseHeaders(_) => None,
    });
    filters.unwrap_or_else(|reason| vec![ServerHttpFilter::Failure(route::http_failure(reason))])
}

fn grpc_filters(wanted: Option<&[RouteFilter]>) -> Vec<ServerGrpcFilter> {
    let filters = route::filters(wanted, |filter| match filter {
        AnyFilter::RequestHeaders(modifier) => Some(ServerGrpcFilter::RequestHeaders(modifier)),
        AnyFilter::ResponseHeaders(_) | AnyFilter::Redirect(_) => None,
    });
    filters.unwrap_or_else(|reason| vec![ServerGrpcFilter::Failure(route::grpc_failure(reason))])
}
