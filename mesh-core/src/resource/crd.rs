//! The custom resource definitions of the mesh, generated from the types that read them. Gateway
//! API's own are not among them: its project publishes them, for every user of them alike.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::CustomResourceExt;

use super::{
    AuthorizationPolicy, EgressNetwork, ExternalWorkload, HTTPLocalRateLimitPolicy, Kind,
    MeshTLSAuthentication, NetworkAuthentication, PolicyHTTPRoute, Server, ServerAuthorization,
    ServiceProfile, Workload,
};

/// Every definition, as YAML, by its name: `servers.policy.linkerd.io`.
///
/// # Errors
/// None in practice: the types are fixed.
pub fn definitions() -> Result<Vec<(String, String)>, serde_yaml_ng::Error> {
    let with_older = |mut definition, kind| {
        serve_older_versions(&mut definition, kind);
        definition
    };
    [
        with_older(Server::crd(), Kind::Server),
        with_older(ServerAuthorization::crd(), Kind::ServerAuthorization),
        with_older(PolicyHTTPRoute::crd(), Kind::PolicyHTTPRoute),
        with_older(ServiceProfile::crd(), Kind::ServiceProfile),
        with_older(ExternalWorkload::crd(), Kind::ExternalWorkload),
        AuthorizationPolicy::crd(),
        MeshTLSAuthentication::crd(),
        NetworkAuthentication::crd(),
        HTTPLocalRateLimitPolicy::crd(),
        EgressNetwork::crd(),
        Workload::crd(),
    ]
    .into_iter()
    .map(|definition| {
        let name = definition.metadata.name.clone().unwrap_or_default();
        serde_yaml_ng::to_string(&definition).map(|yaml| (name, yaml))
    })
    .collect()
}

/// Older versions are served with the stored version's schema: they lack fields, and none differs.
fn serve_older_versions(definition: &mut CustomResourceDefinition, kind: Kind) {
    let group = &definition.spec.group;
    let Some(stored) = definition.spec.versions.first().cloned() else {
        return;
    };
    let older = kind.versions().iter().rev().filter_map(|version| {
        let name = version.strip_prefix(group.as_str())?.strip_prefix('/')?;
        (name != stored.name).then(|| {
            let mut version = stored.clone();
            version.name = name.to_string();
            version.storage = false;
            version
        })
    });
    let older: Vec<_> = older.collect();
    definition.spec.versions.extend(older);
}
