//! Compiles how many requests a Server takes.

use crate::control::index::View;
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::server_policy::{RateLimit, RateLimitOverride};
use crate::resource::policy::{LocalTargetRef, NamespacedTargetRef};
use crate::resource::{HTTPLocalRateLimitPolicy, Server};

/// The rate limit of a Server: of several the oldest, of those the first by name.
pub(super) fn of_server(view: &View<'_>, server: &Server) -> Option<RateLimit> {
    let namespace = server.metadata.namespace.as_deref().unwrap_or_default();
    let name = server.metadata.name.as_deref().unwrap_or_default();
    in_force(view, namespace, name).map(|policy| compile(view, namespace, policy))
}

/// Whether a rate limit is of a Server of that name.
fn is_of(target: &LocalTargetRef, server: &str) -> bool {
    let group = target.group.as_deref();
    group == Some("policy.linkerd.io") && target.kind == "Server" && target.name == server
}

/// Which of a Server's rate limits is in force.
pub(in crate::control) fn in_force<'a>(
    view: &View<'a>,
    namespace: &str,
    server: &str,
) -> Option<&'a HTTPLocalRateLimitPolicy> {
    let of_server =
        view.rate_limits(namespace).filter(|policy| is_of(&policy.spec.target_ref, server));
    of_server.min_by_key(|policy| {
        let created = policy.metadata.creation_timestamp.as_ref().map(|at| at.0);
        (created.is_none(), created)
    })
}

fn compile(view: &View<'_>, namespace: &str, policy: &HTTPLocalRateLimitPolicy) -> RateLimit {
    let client = |reference: &NamespacedTargetRef| {
        let namespace = reference.namespace.as_deref().unwrap_or(namespace);
        view.mesh.identity(namespace, &reference.name).ok()
    };
    let spec = &policy.spec;
    let limit = |requests: u32| (requests > 0).then_some(requests);
    let overrides = spec.overrides.iter().flatten();
    RateLimit {
        metadata: Metadata::new_resource(ResourceRef {
            group: "policy.linkerd.io".to_string(),
            // Lower case, as Linkerd's metrics have it.
            kind: "httplocalratelimitpolicy".to_string(),
            name: policy.metadata.name.clone().unwrap_or_default(),
            ..ResourceRef::default()
        }),
        total: spec.total.and_then(|total| limit(total.requests_per_second)),
        identity: spec.identity.and_then(|each| limit(each.requests_per_second)),
        overrides: overrides
            .filter(|each| each.requests_per_second > 0)
            .map(|each| RateLimitOverride {
                requests_per_second: each.requests_per_second,
                clients: each.client_refs.iter().filter_map(client).collect(),
            })
            .collect(),
    }
}
