//! Parts of policies that are decoded but not enforced yet: counted, and logged once, when a policy
//! that has them comes into force. Nothing is dropped silently.

use crate::model::client_policy::{ClientPolicy, ClientProtocol, Distribution, RouteBackend, Rule};
use crate::model::profile::Profile;
use crate::model::server_policy::{ServerPolicy, ServerProtocol, ServerRoute};
use crate::telemetry::Telemetry;
use crate::traffic::filter::{self, Filter};

/// Of a client's policy.
pub fn report_client(policy: &ClientPolicy, telemetry: &Telemetry) {
    match &policy.protocol {
        ClientProtocol::Detect { http1, http2, .. } => {
            for routes in [http1, http2] {
                routes.routes.iter().flat_map(|r| &r.rules).for_each(|r| rule(r, telemetry));
            }
        }
        ClientProtocol::Http1(routes) | ClientProtocol::Http2(routes) => {
            routes.routes.iter().flat_map(|r| &r.rules).for_each(|r| rule(r, telemetry));
        }
        ClientProtocol::Grpc(routes) => {
            routes.routes.iter().flat_map(|r| &r.rules).for_each(|r| rule(r, telemetry));
        }
        ClientProtocol::Opaque(_) | ClientProtocol::Tls(_) => {}
    }
}

/// Of a destination's profile.
pub fn report_profile(profile: &Profile, telemetry: &Telemetry) {
    if !profile.routes.is_empty() {
        telemetry.record_unenforced("ServiceProfileRoutes");
    }
    if !profile.dst_overrides.is_empty() {
        telemetry.record_unenforced("ServiceProfileDstOverrides");
    }
}

/// Of a server's policy.
pub fn report_server(policy: &ServerPolicy, telemetry: &Telemetry) {
    match &policy.protocol {
        ServerProtocol::Detect { routes, .. } => filters_of(routes, telemetry),
        ServerProtocol::Http1(http) | ServerProtocol::Http2(http) => {
            filters_of(&http.routes, telemetry);
        }
        ServerProtocol::Grpc(routes) => filters_of(routes, telemetry),
        ServerProtocol::Opaque | ServerProtocol::Tls => {}
    }
}

fn rule<M, F: Filter, C>(rule: &Rule<M, F, C>, telemetry: &Telemetry) {
    if rule.allow_l5d_request_headers {
        telemetry.record_unenforced("L5dRequestHeaders");
    }
    filters(&rule.filters, telemetry);
    let each = |backend: &RouteBackend<F>| filters(&backend.filters, telemetry);
    match &rule.backends {
        Distribution::Empty => {}
        Distribution::FirstAvailable(backends) => backends.iter().for_each(each),
        Distribution::RandomAvailable(backends) => {
            backends.iter().for_each(|weighted| each(&weighted.backend));
        }
    }
}

fn filters_of<M, F: Filter>(routes: &[ServerRoute<M, F>], telemetry: &Telemetry) {
    let rules = routes.iter().flat_map(|route| &route.rules);
    rules.for_each(|rule| filters(&rule.filters, telemetry));
}

fn filters<F: Filter>(list: &[F], telemetry: &Telemetry) {
    if let Ok(ignored) = filter::apply(list) {
        ignored.iter().for_each(|kind| telemetry.record_unenforced(kind.name()));
    }
}
