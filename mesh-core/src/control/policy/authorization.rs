//! Compiles who may use a port.
//!
//! Law: what is not understood allows nobody. An AuthorizationPolicy whose authentications are
//! missing or make no sense is left out, which can only deny.

use ipnet::IpNet;

use crate::control::config::MeshConfig;
use crate::control::index::View;
use crate::control::select::matches_labels;
use crate::model::identity::Identity;
use crate::model::labels::Labels;
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::server_policy::{Authentication, Authorization, IdentitySuffix, Network};
use crate::resource::check::{AuthenticationKind, parse_network};
use crate::resource::policy::{
    DefaultPolicy, LocalTargetRef, MeshTLSAuthenticationSpec, NamespacedTargetRef, NetworkSpec,
    ServerSelectionSpec,
};
use crate::resource::route::Route;
use crate::resource::{AuthorizationPolicy, Server, ServerAuthorization};

/// Clients on the same host, who could reach the application without the proxy.
pub fn localhost() -> Authorization {
    let networks: [IpNet; 2] = [
        "127.0.0.0/8".parse().expect("a network written here"),
        "::1/128".parse().expect("a network written here"),
    ];
    Authorization {
        metadata: Metadata::new_default("localhost"),
        networks: self::networks(&networks),
        authentication: Authentication::Unauthenticated,
        labels: Labels::default(),
    }
}

/// Whom a default policy allows.
pub fn of_default(mesh: &MeshConfig, policy: DefaultPolicy) -> Option<Authorization> {
    let (in_cluster, authenticated) = match policy {
        DefaultPolicy::AllUnauthenticated | DefaultPolicy::Audit => (false, false),
        DefaultPolicy::AllAuthenticated => (false, true),
        DefaultPolicy::ClusterUnauthenticated => (true, false),
        DefaultPolicy::ClusterAuthenticated => (true, true),
        DefaultPolicy::Deny => return None,
    };
    Some(Authorization {
        metadata: Metadata::new_default(policy.as_str()),
        networks: if in_cluster { networks(&mesh.cluster_networks) } else { everywhere() },
        authentication: if authenticated {
            any_identity()
        } else {
            Authentication::Unauthenticated
        },
        labels: Labels::default(),
    })
}

/// What the AuthorizationPolicies of a namespace allow on one of its Servers.
pub fn of_server<'a>(
    view: &View<'a>,
    namespace: &'a str,
    server: &str,
) -> impl Iterator<Item = Authorization> {
    policies_of_server(view, namespace, server)
        .into_iter()
        .filter_map(|policy| of_policy(view, namespace, policy).ok())
        .collect::<Vec<_>>()
        .into_iter()
}

/// The AuthorizationPolicies of a namespace that are about one of its Servers.
pub(in crate::control) fn policies_of_server<'a>(
    view: &View<'a>,
    namespace: &'a str,
    server: &str,
) -> Vec<&'a AuthorizationPolicy> {
    let targets = |target: &LocalTargetRef| {
        let group = target.group.as_deref().unwrap_or_default();
        match (group, target.kind.as_str()) {
            ("policy.linkerd.io", "Server") => target.name == server,
            ("" | "core", "Namespace") => target.name == namespace,
            _ => false,
        }
    };
    view.authorizations(namespace).filter(|policy| targets(&policy.spec.target_ref)).collect()
}

/// What the ServerAuthorizations of a Server's namespace allow on it.
pub fn of_server_authorizations(
    view: &View<'_>,
    namespace: &str,
    server: &Server,
) -> Vec<Authorization> {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let label = |label: &str| server.metadata.labels.as_ref()?.get(label).map(String::as_str);
    let targets = |policy: &&ServerAuthorization| match &policy.spec.server {
        ServerSelectionSpec { name: Some(wanted), selector: None } => wanted == name,
        ServerSelectionSpec { name: None, selector: Some(selector) } => {
            matches_labels(selector, label)
        }
        _ => false,
    };
    view.server_authorizations(namespace)
        .filter(targets)
        .filter_map(|policy| of_server_authorization(view.mesh, namespace, policy))
        .collect()
}

fn of_server_authorization(
    mesh: &MeshConfig,
    namespace: &str,
    policy: &ServerAuthorization,
) -> Option<Authorization> {
    let client = &policy.spec.client;
    let authentication = match &client.mesh_tls {
        _ if client.unauthenticated => Authentication::Unauthenticated,
        Some(mesh_tls) if mesh_tls.unauthenticated_tls => Authentication::TlsUnauthenticated,
        Some(mesh_tls) => {
            let accounts = mesh_tls.service_accounts.iter().flatten();
            let accounts = accounts.map(|account| NamespacedTargetRef {
                kind: "ServiceAccount".to_string(),
                name: account.name.clone(),
                namespace: account.namespace.clone(),
                group: None,
            });
            let spec = MeshTLSAuthenticationSpec {
                identities: mesh_tls.identities.clone(),
                identity_refs: Some(accounts.collect()),
            };
            of_mesh_tls(mesh, namespace, &spec)?
        }
        None => return None,
    };
    let networks = of_networks(client.networks.as_deref().unwrap_or_default())?;
    Some(Authorization {
        metadata: Metadata::new_resource(ResourceRef {
            group: "policy.linkerd.io".to_string(),
            kind: "serverauthorization".to_string(),
            name: policy.metadata.name.clone().unwrap_or_default(),
            namespace: policy.metadata.namespace.clone().unwrap_or_default(),
            ..ResourceRef::default()
        }),
        networks: if networks.is_empty() { everywhere() } else { networks },
        authentication,
        labels: Labels::default(),
    })
}

/// What the AuthorizationPolicies of a route's namespace allow on that route.
pub fn of_route(view: &View<'_>, route: &Route<'_>) -> Vec<Authorization> {
    let namespace = route.namespace();
    let targets = |target: &LocalTargetRef| {
        target.group.as_deref() == Some(route.group())
            && target.kind == route.kind.name()
            && target.name == route.name()
    };
    view.authorizations(namespace)
        .filter(|policy| targets(&policy.spec.target_ref))
        .filter_map(|policy| of_policy(view, namespace, policy).ok())
        .collect()
}

/// What one policy allows: clients that satisfy every one of its authentications.
///
/// # Errors
/// Why it is left out.
pub(in crate::control) fn of_policy(
    view: &View<'_>,
    namespace: &str,
    policy: &AuthorizationPolicy,
) -> Result<Authorization, String> {
    let mut networks = None;
    let mut authentication = None;
    for required in &policy.spec.required_authentication_refs {
        let namespace = required.namespace.as_deref().unwrap_or(namespace);
        let named = || format!("{} {namespace}/{}", required.kind, required.name);
        let none = || format!("there is no {}", named());
        let wrong = || format!("{} makes no sense", named());
        let kind = AuthenticationKind::of(required);
        // Two of a kind would have to hold both, which the API cannot say.
        match kind.ok_or_else(|| format!("{} is no authentication", required.kind))? {
            AuthenticationKind::Network if networks.is_none() => {
                let network = view.network(namespace, &required.name).ok_or_else(none)?;
                networks = Some(of_networks(&network.spec.networks).ok_or_else(wrong)?);
            }
            AuthenticationKind::MeshTls if authentication.is_none() => {
                let mesh_tls = view.mesh_tls(namespace, &required.name).ok_or_else(none)?;
                let read = of_mesh_tls(view.mesh, namespace, &mesh_tls.spec);
                authentication = Some(read.ok_or_else(wrong)?);
            }
            AuthenticationKind::ServiceAccount if authentication.is_none() => {
                let identity = view.mesh.identity(namespace, &required.name);
                authentication = Some(Authentication::TlsAuthenticated {
                    identities: vec![identity.map_err(|_| wrong())?],
                    suffixes: Vec::new(),
                });
            }
            _ => return Err("it requires two of one sort, which nobody could satisfy".into()),
        }
    }
    Ok(Authorization {
        metadata: Metadata::new_resource(ResourceRef {
            group: "policy.linkerd.io".to_string(),
            kind: "authorizationpolicy".to_string(),
            name: policy.metadata.name.clone().unwrap_or_default(),
            namespace: policy.metadata.namespace.clone().unwrap_or_default(),
            ..ResourceRef::default()
        }),
        networks: networks.unwrap_or_else(everywhere),
        authentication: authentication.unwrap_or(Authentication::Unauthenticated),
        labels: Labels::default(),
    })
}

fn of_mesh_tls(
    mesh: &MeshConfig,
    namespace: &str,
    spec: &MeshTLSAuthenticationSpec,
) -> Option<Authentication> {
    let (mut identities, mut suffixes) = (Vec::new(), Vec::new());
    for text in spec.identities.iter().flatten() {
        match text.strip_prefix('*') {
            Some("") => suffixes.push(IdentitySuffix { parts: Vec::new() }),
            Some(suffix) => suffixes.push(suffix_of(suffix.strip_prefix('.')?)),
            None => identities.push(Identity::new(text).ok()?),
        }
    }
    for reference in spec.identity_refs.iter().flatten() {
        if !matches!(reference.group.as_deref(), None | Some("" | "core")) {
            return None;
        }
        match reference.kind.as_str() {
            "ServiceAccount" => {
                let namespace = reference.namespace.as_deref().unwrap_or(namespace);
                identities.push(mesh.identity(namespace, &reference.name).ok()?);
            }
            "Namespace" => {
                let MeshConfig { control_namespace, trust_domain, .. } = mesh;
                suffixes.push(suffix_of(&format!(
                    "{}.serviceaccount.identity.{control_namespace}.{trust_domain}",
                    reference.name
                )));
            }
            _ => return None,
        }
    }
    let somebody = !identities.is_empty() || !suffixes.is_empty();
    somebody.then_some(Authentication::TlsAuthenticated { identities, suffixes })
}

fn suffix_of(name: &str) -> IdentitySuffix {
    IdentitySuffix { parts: name.split('.').map(str::to_ascii_lowercase).collect() }
}

fn any_identity() -> Authentication {
    Authentication::TlsAuthenticated {
        identities: Vec::new(),
        suffixes: vec![IdentitySuffix { parts: Vec::new() }],
    }
}

fn of_networks(networks: &[NetworkSpec]) -> Option<Vec<Network>> {
    let network = |network: &NetworkSpec| {
        let except = network.except.iter().flatten();
        Some(Network {
            net: parse_network(&network.cidr)?,
            except: except.map(|part| parse_network(part)).collect::<Option<_>>()?,
        })
    };
    networks.iter().map(network).collect()
}

/// Whole networks.
pub fn networks(networks: &[IpNet]) -> Vec<Network> {
    let whole = |net: &IpNet| Network { net: *net, except: Vec::new() };
    networks.iter().map(whole).collect()
}

fn everywhere() -> Vec<Network> {
    let all: [IpNet; 2] = [
        "0.0.0.0/0".parse().expect("a network written here"),
        "::/0".parse().expect("a network written here"),
    ];
    networks(&all)
}
