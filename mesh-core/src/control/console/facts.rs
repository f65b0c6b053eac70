//! What the index and the control plane itself say, as the views take it: who may use which port,
//! certificates, health. Reads, and keeps nothing.

use std::collections::BTreeSet;

use crate::control::index::{Instance, View};
use crate::control::policy;
use crate::control::viz::Viz;
use crate::model::server_policy::{
    Authentication, Authorization, IdentitySuffix, Network, ServerGrpcRoute, ServerHttpRoute,
    ServerPolicy, ServerProtocol,
};
use crate::resource::Kind;

use super::certificates::Authority;
use super::health;
use super::inventory::{Inventory, Name};
use super::policy::{ANYBODY, Allowed, Port};

/// Ports of workloads with a proxy that are shown; of more, the first.
const PORTS_MAX: usize = 5_000;

/// Who may use which port of a namespace's workloads, or of all where it is empty.
pub(crate) fn ports(view: &View<'_>, inventory: &Inventory, namespace: &str) -> Vec<Port> {
    let mut ports = Vec::new();
    for (name, workload) in inventory.of_namespace(namespace) {
        let Some((member, _)) = workload.members.iter().find(|(_, member)| member.is_meshed) else {
            continue;
        };
        let Some(instance) = view.instance(&name.namespace, member) else { continue };
        let declared: BTreeSet<u16> = declared_ports(instance);
        for port in declared {
            if ports.len() >= PORTS_MAX {
                return ports;
            }
            let compiled = policy::server::compile(view, &name.namespace, member, port);
            ports.extend(compiled.ok().map(|policy| of_policy(name, port, &policy)));
        }
    }
    ports
}

/// Ports of the application: not those of its proxy.
fn declared_ports(instance: Instance<'_>) -> BTreeSet<u16> {
    let declared = instance.declared_ports().into_iter().map(|(_, port)| port);
    let inbound = instance.inbound_port();
    declared.filter(|port| !instance.is_proxy_port(*port) && Some(*port) != inbound).collect()
}

fn of_policy(of: &Name, port: u16, policy: &ServerPolicy) -> Port {
    let is_default = policy.server.kind() == "default";
    let server = match is_default {
        true => format!("default {}", policy.server.name()),
        false => policy.server.name().to_string(),
    };
    Port {
        of: of.clone(),
        port,
        server,
        is_default,
        protocol: match policy.protocol {
            ServerProtocol::Detect { .. } => "detected",
            ServerProtocol::Http1(_) => "HTTP/1",
            ServerProtocol::Http2(_) => "HTTP/2",
            ServerProtocol::Grpc(_) => "gRPC",
            ServerProtocol::Opaque => "opaque",
            ServerProtocol::Tls => "TLS",
        },
        allowed: allowed(&policy.authorizations),
        routes: match &policy.protocol {
            ServerProtocol::Detect { routes, .. } => http_routes(routes),
            ServerProtocol::Http1(http) | ServerProtocol::Http2(http) => http_routes(&http.routes),
            ServerProtocol::Grpc(routes) => grpc_routes(routes),
            ServerProtocol::Opaque | ServerProtocol::Tls => Vec::new(),
        },
    }
}

fn http_routes(routes: &[ServerHttpRoute]) -> Vec<(String, Vec<Allowed>)> {
    let own = routes.iter().filter(|route| !route.authorizations.is_empty());
    own.map(|route| (route.metadata.name().to_string(), allowed(&route.authorizations))).collect()
}

fn grpc_routes(routes: &[ServerGrpcRoute]) -> Vec<(String, Vec<Allowed>)> {
    let own = routes.iter().filter(|route| !route.authorizations.is_empty());
    own.map(|route| (route.metadata.name().to_string(), allowed(&route.authorizations))).collect()
}

/// Whom authorizations allow; that the own host may is not told each time.
fn allowed(authorizations: &[Authorization]) -> Vec<Allowed> {
    let others = authorizations.iter();
    let others = others
        .filter(|one| !(one.metadata.kind() == "default" && one.metadata.name() == "localhost"));
    others
        .map(|one| Allowed {
            by: format!("{} {}", one.metadata.kind(), one.metadata.name()),
            who: who(&one.authentication),
            from: networks(&one.networks),
        })
        .collect()
}

fn who(authentication: &Authentication) -> String {
    let (identities, suffixes) = match authentication {
        Authentication::Unauthenticated => return ANYBODY.to_string(),
        Authentication::TlsUnauthenticated => return "anybody over mesh TLS".to_string(),
        Authentication::TlsAuthenticated { identities, suffixes } => (identities, suffixes),
    };
    let identities = identities.iter().map(|identity| short(identity.as_str()));
    let suffixes = suffixes.iter().map(|IdentitySuffix { parts }| match parts.as_slice() {
        [] => "anybody with an identity".to_string(),
        [namespace, next, ..] if next == "serviceaccount" => format!("everybody in {namespace}"),
        parts => format!("*.{}", parts.join(".")),
    });
    identities.chain(suffixes).collect::<Vec<_>>().join(", ")
}

/// `web.shop` of `web.shop.serviceaccount.identity.linkerd.cluster.local`.
fn short(identity: &str) -> String {
    let short = identity.split_once(".serviceaccount.identity.");
    short.map_or(identity, |(short, _)| short).to_string()
}

fn networks(networks: &[Network]) -> String {
    let is_everywhere =
        |network: &Network| network.net.prefix_len() == 0 && network.except.is_empty();
    if networks.iter().any(is_everywhere) {
        return String::new();
    }
    let text = |network: &Network| match network.except.as_slice() {
        [] => network.net.to_string(),
        except => {
            let except: Vec<_> = except.iter().map(ToString::to_string).collect();
            format!("{} but not {}", network.net, except.join(", "))
        }
    };
    networks.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Anchors and issuer, where this process issues certificates.
pub(crate) fn authorities(viz: &Viz) -> Vec<Authority> {
    let Some(issuer) = &viz.parts().issuer else { return Vec::new() };
    let authority = issuer.authority();
    let anchors = authority.anchors().iter().map(|anchor| Authority {
        title: "Trust anchor".to_string(),
        fingerprint: anchor.fingerprint.clone(),
        expires: anchor.expires,
    });
    let issuer = Authority {
        title: "Issuer".to_string(),
        fingerprint: fingerprint(authority.issuer_der()),
        expires: authority.expires(),
    };
    [issuer].into_iter().chain(anchors).collect()
}

/// The first 16 hexadecimal digits of a certificate's SHA-256.
fn fingerprint(der: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(der);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What the control plane knows of itself; nothing of what proxies count.
pub(crate) fn health(viz: &Viz, inventory: &Inventory) -> health::View {
    let parts = viz.parts();
    let (mesh, metrics) = (&parts.mesh, &parts.metrics);
    let objects = parts.publisher.objects();
    health::View {
        version: env!("CARGO_PKG_VERSION"),
        namespace: mesh.control_namespace.clone(),
        trust_domain: mesh.trust_domain.clone(),
        cluster_domain: mesh.cluster_domain.clone(),
        default_policy: mesh.default_inbound_policy.as_str(),
        now: parts.runtime.clock.wall(),
        is_synced: parts.publisher.is_synced(),
        objects: objects.into_iter().map(|(kind, count)| (kind.to_string(), count)).collect(),
        counts: vec![
            ("Streams to proxies, open", metrics.streams.value()),
            ("Connections of proxies, open", metrics.connections.value()),
            ("Answers that changed", metrics.updates.value()),
            ("Events of the cluster", metrics.events.value()),
            ("Certificates issued", metrics.certificates_issued.value()),
            ("Certificate requests refused", metrics.certificates_refused.value()),
            ("TLS handshakes that failed", metrics.handshake_errors.value()),
            ("Statuses written", metrics.statuses.written.value()),
        ],
        watch_errors: metrics.watch_errors.value(),
        reload_errors: metrics.reload_errors.value(),
        authorities: authorities(viz),
        unmeshed: unmeshed(inventory),
        conditions: parts.publisher.read(conditions),
        ..health::View::default()
    }
}

/// Instances without a proxy, in namespaces where others have one.
fn unmeshed(inventory: &Inventory) -> Vec<String> {
    let workloads = inventory.workloads.iter();
    let meshed: BTreeSet<&str> = workloads
        .clone()
        .filter(|(_, workload)| workload.meshed > 0)
        .map(|(name, _)| name.namespace.as_str())
        .collect();
    let beside = workloads.filter(|(name, _)| meshed.contains(name.namespace.as_str()));
    beside
        .flat_map(|(name, workload)| {
            let members = workload.members.iter().filter(|(_, member)| !member.is_meshed);
            members.map(move |(member, _)| format!("{}/{member}", name.namespace))
        })
        .collect()
}

/// Objects whose conditions say that they are not in force as written.
fn conditions(view: &View<'_>) -> Vec<(String, String)> {
    let kinds = Kind::ALL.iter().filter(|kind| kind.has_status());
    let objects = kinds.flat_map(|kind| view.objects(*kind));
    objects
        .flat_map(|object| {
            let wrong = object.conditions().filter(|condition| condition.status == "False");
            wrong.map(move |condition| {
                let why = format!("{}: {}", condition.reason, condition.message);
                (object.object_ref().to_string(), why)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::MeshConfig;
    use crate::control::testing;

    const MANIFEST: &str = "
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {addresses: [10.0.0.2], service: web, ports: [{port: 80}, {port: 81}], proxy: {}}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web-http, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: 80, proxyProtocol: HTTP/1}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: from-front, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web-http}
  requiredAuthenticationRefs:
  - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: front}
  - {group: policy.linkerd.io, kind: NetworkAuthentication, name: near}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: front, namespace: shop}
spec:
  identities: [front.shop.serviceaccount.identity.linkerd.cluster.local]
  identityRefs: [{kind: Namespace, name: ops}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: near, namespace: shop}
spec: {networks: [{cidr: 10.0.0.0/8, except: [10.9.0.0/16]}]}
";

    #[test]
    fn a_port_says_whom_it_lets_in_and_by_what() {
        let (index, mesh) = (testing::index(MANIFEST), MeshConfig::default());
        let view = View::new(&index, &mesh);
        let ports = ports(&view, &Inventory::read(&view), "shop");
        let lines = ports.iter().map(|port| {
            let allowed = port.allowed.iter();
            let allowed: Vec<_> =
                allowed.map(|one| format!("{} [{}] by {}", one.who, one.from, one.by)).collect();
            format!("{} {} {}: {}", port.port, port.server, port.protocol, allowed.join("; "))
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
        80 web-http HTTP/1: front.shop, everybody in ops [10.0.0.0/8 but not 10.9.0.0/16] by authorizationpolicy from-front
        81 default all-unauthenticated detected: anybody [] by default all-unauthenticated
        ");
    }
}
