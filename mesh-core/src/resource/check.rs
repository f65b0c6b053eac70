//! What a schema cannot say of an object: that an address is one, that selectors exclude each
//! other, that references are to kinds that can be meant. Pure; used for files and for admission.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::check_route::{check_profile, check_route};
use super::external::{ExternalWorkloadSpec, ExternalWorkloadTls};
use super::policy::{
    AuthorizationPolicySpec, DefaultPolicy, HTTPLocalRateLimitPolicySpec,
    MeshTLSAuthenticationSpec, NamespacedTargetRef, NetworkSpec, ServerAuthorizationSpec,
    ServerSpec,
};
use super::ports::PortSet;
use super::traffic;
use super::workload::WorkloadSpec;
use super::{EndpointSlice, Kind, Object, Service};

/// Annotation: ports that are carried as bytes. Replaces the default list.
pub const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";
/// Annotation: ports that do not go through the proxy.
pub const SKIP_INBOUND_PORTS: &str = "config.linkerd.io/skip-inbound-ports";
/// Annotation: ports that are connected to without going through the proxy.
pub const SKIP_OUTBOUND_PORTS: &str = "config.linkerd.io/skip-outbound-ports";
/// Annotation: ports whose clients must be meshed.
pub const REQUIRE_IDENTITY_PORTS: &str = "config.linkerd.io/proxy-require-identity-inbound-ports";
/// Annotation: who may use ports that no Server selects.
pub const DEFAULT_INBOUND_POLICY: &str = "config.linkerd.io/default-inbound-policy";

/// Something wrong with a field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field: `spec.ports[0].port`.
    pub field: String,
    /// What is wrong.
    pub fault: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Everything that is wrong with an object; nothing where it is good.
pub fn check(object: &Object) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    check_meta(object.kind(), object.meta(), &mut faults);
    match object {
        Object::Service(service) => check_service(service, &mut faults),
        Object::EndpointSlice(slice) => check_slice(slice, &mut faults),
        Object::Workload(workload) => check_workload(&workload.spec, &mut faults),
        Object::Server(server) => check_server(&server.spec, &mut faults),
        Object::AuthorizationPolicy(policy) => {
            let namespace = policy.metadata.namespace.as_deref();
            check_authorization(&policy.spec, namespace, &mut faults);
        }
        Object::ServerAuthorization(policy) => {
            check_server_authorization(&policy.spec, &mut faults);
        }
        Object::MeshTLSAuthentication(mesh) => check_mesh_tls(&mesh.spec, &mut faults),
        Object::NetworkAuthentication(network) => {
            check_networks(&network.spec.networks, &mut faults);
        }
        Object::HTTPLocalRateLimitPolicy(policy) => check_rate_limit(&policy.spec, &mut faults),
        Object::EgressNetwork(network) => {
            if let Some(networks) = &network.spec.networks {
                check_networks(networks, &mut faults);
            }
        }
        Object::ServiceProfile(profile) => {
            let name = profile.metadata.name.as_deref().unwrap_or_default();
            check_profile(name, &profile.spec, &mut faults);
        }
        Object::ExternalWorkload(workload) => check_external(&workload.spec, &mut faults),
        Object::PolicyHTTPRoute(_) | Object::HTTPRoute(_) | Object::GRPCRoute(_) => {}
        Object::Namespace(_) | Object::ServiceAccount(_) | Object::Pod(_) => {}
        Object::Node(_) | Object::ReplicaSet(_) | Object::Job(_) => {}
    }
    if let Some(route) = object.route() {
        check_route(&route, &mut faults);
    }
    faults.0
}

/// An address or a network: `10.0.0.1`, `10.0.0.0/8`.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).ok()
}

/// Whether a text is a Kubernetes name: labels of `a-z`, `0-9` and `-`, with dots between them.
pub fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(
        &mut self,
        field: impl Into<String>,
        fault: impl Into<String>,
        remedy: &'static str,
    ) {
        self.0.push(Fault { field: field.into(), fault: fault.into(), remedy });
    }

    pub(super) fn require(&mut self, good: bool, field: &str, value: &str, remedy: &'static str) {
        if !good {
            self.add(field, format!("{value:?} is not valid"), remedy);
        }
    }
}

fn check_meta(kind: Kind, meta: &ObjectMeta, faults: &mut Faults) {
    const NAMES: &str = "use lower-case letters, digits, '-' and '.', such as web-1";
    match meta.name.as_deref() {
        None | Some("") => faults.add("metadata.name", "is missing", "give the object a name"),
        Some(name) => faults.require(is_name(name), "metadata.name", name, NAMES),
    }
    if let Some(namespace) = meta.namespace.as_deref().filter(|_| kind.is_namespaced()) {
        faults.require(is_label(namespace), "metadata.namespace", namespace, NAMES);
    }
    for (name, value) in meta.annotations.iter().flatten() {
        let field = format!("metadata.annotations.{name}");
        match name.as_str() {
            SKIP_INBOUND_PORTS | REQUIRE_IDENTITY_PORTS => faults.require(
                value.parse::<PortSet>().is_ok(),
                &field,
                value,
                "list ports and ranges: 25,8080-8090",
            ),
            // Names of ports are allowed here: each is looked up where it is used.
            OPAQUE_PORTS => faults.require(
                value.split(',').map(str::trim).all(is_port_item),
                &field,
                value,
                "list ports, ranges and names of ports: 25,8080-8090,db",
            ),
            DEFAULT_INBOUND_POLICY => check_policy(&field, value, faults),
            name => {
                if let Some(remedy) = traffic::fault(name, value) {
                    faults.require(false, &field, value, remedy);
                }
            }
        }
    }
}

fn is_port_item(item: &str) -> bool {
    item.is_empty() || item.parse::<PortSet>().is_ok() || is_port_name(item)
}

/// An IANA service name, as names of ports are.
fn is_port_name(text: &str) -> bool {
    text.len() <= 15 && is_label(text) && text.bytes().any(|b| b.is_ascii_lowercase())
}

fn check_policy(field: &str, value: &str, faults: &mut Faults) {
    if let Err(error) = value.parse::<DefaultPolicy>() {
        faults.add(field, error.to_string(), "use one of these");
    }
}

pub(super) fn check_port(field: &str, port: i32, faults: &mut Faults) {
    faults.require(
        (1..=65_535).contains(&port),
        field,
        &port.to_string(),
        "use a port from 1 to 65535",
    );
}

fn check_port_or_name(field: &str, port: &IntOrString, faults: &mut Faults) {
    match port {
        IntOrString::Int(port) => check_port(field, *port, faults),
        IntOrString::String(name) => {
            faults.require(is_port_name(name), field, name, "use a port's number or its name")
        }
    }
}

fn check_service(service: &Service, faults: &mut Faults) {
    let Some(spec) = &service.spec else {
        return faults.add("spec", "is missing", "give the service ports");
    };
    let addresses = spec.cluster_ips.iter().flatten();
    for address in spec.cluster_ip.iter().chain(addresses) {
        let good = matches!(address.as_str(), "" | "None") || address.parse::<IpAddr>().is_ok();
        let remedy = "use an IP address, None, or leave it out";
        faults.require(good, "spec.clusterIP", address, remedy);
    }
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        check_port(&format!("spec.ports[{index}].port"), port.port, faults);
        if let Some(target) = &port.target_port {
            check_port_or_name(&format!("spec.ports[{index}].targetPort"), target, faults);
        }
    }
}

fn check_slice(slice: &EndpointSlice, faults: &mut Faults) {
    if slice.address_type == "FQDN" {
        return;
    }
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        for address in &endpoint.addresses {
            faults.require(
                address.parse::<IpAddr>().is_ok(),
                &format!("endpoints[{index}].addresses"),
                address,
                "use IP addresses",
            );
        }
    }
    for (index, port) in slice.ports.iter().flatten().enumerate() {
        if let Some(port) = port.port {
            check_port(&format!("ports[{index}].port"), port, faults);
        }
    }
}

fn check_workload(spec: &WorkloadSpec, faults: &mut Faults) {
    const IP: &str = "use an IPv4 or IPv6 address";
    if spec.addresses.is_empty() {
        faults.add("spec.addresses", "is empty", "give the host's address");
    }
    for (index, address) in spec.addresses.iter().enumerate() {
        let field = format!("spec.addresses[{index}]");
        faults.require(address.parse::<IpAddr>().is_ok(), &field, address, IP);
    }
    let names = [("spec.serviceAccount", &spec.service_account), ("spec.service", &spec.service)];
    for (field, name) in names {
        if let Some(name) = name {
            faults.require(is_name(name), field, name, "use the object's name alone");
        }
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}].port");
        check_port(&field, i32::from(port.port), faults);
        let before = &spec.ports[..index];
        if port.name.is_some() && before.iter().any(|other| other.name == port.name) {
            let name = port.name.as_deref().unwrap_or_default();
            let fault = format!("{name:?} names two ports");
            faults.add(format!("spec.ports[{index}].name"), fault, "give each its own");
        }
    }
    if let Some(proxy) = &spec.proxy {
        let ports = [
            ("spec.proxy.inboundPort", proxy.inbound_port),
            ("spec.proxy.adminPort", proxy.admin_port),
            ("spec.proxy.controlPort", proxy.control_port),
        ];
        for (field, port) in ports {
            check_port(field, port.map_or(1, i32::from), faults);
        }
    }
}

fn check_external(spec: &ExternalWorkloadSpec, faults: &mut Faults) {
    let ips = spec.workload_ips.as_deref().unwrap_or_default();
    if ips.is_empty() {
        faults.add("spec.workloadIPs", "is empty", "give the workload's address");
    }
    for (index, ip) in ips.iter().enumerate() {
        let field = format!("spec.workloadIPs[{index}].ip");
        let remedy = "use an IPv4 or IPv6 address";
        faults.require(ip.ip.parse::<IpAddr>().is_ok(), &field, &ip.ip, remedy);
    }
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        check_port(&format!("spec.ports[{index}].port"), i32::from(port.port), faults);
    }
    let ExternalWorkloadTls { identity, server_name } = &spec.mesh_tls;
    let name = identity.strip_prefix("spiffe://").is_some() || is_name(identity);
    faults.require(name, "spec.meshTLS.identity", identity, "use a DNS name or a SPIFFE ID");
    let field = "spec.meshTLS.serverName";
    faults.require(is_name(server_name), field, server_name, "use a DNS name");
}

fn check_server(spec: &ServerSpec, faults: &mut Faults) {
    let selectors = [&spec.pod_selector, &spec.external_workload_selector];
    if selectors.iter().filter(|selector| selector.is_some()).count() != 1 {
        faults.add(
            "spec",
            "needs either podSelector or externalWorkloadSelector",
            "give one of them; `podSelector: {}` selects all",
        );
    }
    for selector in selectors.into_iter().flatten() {
        check_selector("spec.podSelector", selector, faults);
    }
    check_port_or_name("spec.port", &spec.port, faults);
    if let Some(policy) = &spec.access_policy {
        check_policy("spec.accessPolicy", policy, faults);
    }
}

fn check_selector(field: &str, selector: &LabelSelector, faults: &mut Faults) {
    for (index, rule) in selector.match_expressions.iter().flatten().enumerate() {
        let has_values = rule.values.as_ref().is_some_and(|values| !values.is_empty());
        let good = match rule.operator.as_str() {
            "In" | "NotIn" => has_values,
            "Exists" | "DoesNotExist" => !has_values,
            _ => false,
        };
        faults.require(
            good,
            &format!("{field}.matchExpressions[{index}]"),
            &rule.operator,
            "use In or NotIn with values, or Exists or DoesNotExist without",
        );
    }
}

fn check_authorization(
    spec: &AuthorizationPolicySpec,
    namespace: Option<&str>,
    faults: &mut Faults,
) {
    let target = &spec.target_ref;
    let group = target.group.as_deref().unwrap_or_default();
    let known = matches!(
        (group, target.kind.as_str()),
        ("policy.linkerd.io", "Server" | "HTTPRoute")
            | ("gateway.networking.k8s.io", "HTTPRoute" | "GRPCRoute")
            | ("" | "core", "Namespace")
    );
    faults.require(
        known,
        "spec.targetRef",
        &format!("{group}/{}", target.kind),
        "target a Server or HTTPRoute of policy.linkerd.io, or a Namespace of core",
    );
    let is_other = namespace.is_some_and(|namespace| target.name != namespace);
    if target.kind == "Namespace" && is_other {
        let fault = format!("{:?} is another namespace", target.name);
        faults.add("spec.targetRef.name", fault, "target the policy's own namespace");
    }
    let (mut identities, mut networks) = (0, 0);
    for (index, required) in spec.required_authentication_refs.iter().enumerate() {
        match AuthenticationKind::of(required) {
            Some(AuthenticationKind::Network) => networks += 1,
            Some(_) => identities += 1,
            None => faults.add(
                format!("spec.requiredAuthenticationRefs[{index}].kind"),
                format!("{:?} is no authentication", required.kind),
                "refer to a MeshTLSAuthentication or NetworkAuthentication of policy.linkerd.io, \
                 or to a ServiceAccount",
            ),
        }
    }
    if identities > 1 || networks > 1 {
        faults.add(
            "spec.requiredAuthenticationRefs",
            "holds two of a kind, which no client satisfies in general",
            "merge them into one MeshTLSAuthentication and one NetworkAuthentication",
        );
    }
}

/// What a required authentication refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationKind {
    /// A MeshTLSAuthentication.
    MeshTls,
    /// A NetworkAuthentication.
    Network,
    /// A ServiceAccount.
    ServiceAccount,
}

impl AuthenticationKind {
    /// What `required` refers to, where that can be an authentication.
    pub fn of(required: &NamespacedTargetRef) -> Option<Self> {
        match (required.group.as_deref(), required.kind.as_str()) {
            (Some("policy.linkerd.io"), "MeshTLSAuthentication") => Some(Self::MeshTls),
            (Some("policy.linkerd.io"), "NetworkAuthentication") => Some(Self::Network),
            (None | Some("" | "core"), "ServiceAccount") => Some(Self::ServiceAccount),
            _ => None,
        }
    }
}

fn check_mesh_tls(spec: &MeshTLSAuthenticationSpec, faults: &mut Faults) {
    let identities = spec.identities.as_deref().unwrap_or_default();
    let refs = spec.identity_refs.as_deref().unwrap_or_default();
    if identities.is_empty() && refs.is_empty() {
        let remedy = "list identities or identityRefs; \"*\" is every meshed client";
        faults.add("spec", "allows nobody", remedy);
    }
    check_identities("spec.identities", identities, faults);
    for (index, reference) in refs.iter().enumerate() {
        let group = reference.group.as_deref().unwrap_or_default();
        let good = matches!(group, "" | "core")
            && matches!(reference.kind.as_str(), "ServiceAccount" | "Namespace");
        faults.require(
            good,
            &format!("spec.identityRefs[{index}].kind"),
            &reference.kind,
            "refer to a ServiceAccount or a Namespace",
        );
        if reference.kind == "Namespace" && reference.namespace.is_some() {
            let field = format!("spec.identityRefs[{index}].namespace");
            faults.add(field, "a Namespace is in no namespace", "leave it out");
        }
    }
}

fn check_identities(field: &str, identities: &[String], faults: &mut Faults) {
    for (index, identity) in identities.iter().enumerate() {
        let label = |label: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(plain)
        };
        let name = identity.strip_prefix("*.").unwrap_or(identity);
        let good = identity == "*"
            || identity.starts_with("spiffe://")
            || (name.len() <= 253 && name.split('.').all(label));
        faults.require(
            good,
            &format!("{field}[{index}]"),
            identity,
            "use a whole name, *.SUFFIX, * or spiffe://…",
        );
    }
}

fn check_server_authorization(spec: &ServerAuthorizationSpec, faults: &mut Faults) {
    let ServerAuthorizationSpec { server, client } = spec;
    if server.name.is_some() == server.selector.is_some() {
        let remedy = "give one of them; `selector: {}` selects every Server of the namespace";
        faults.add("spec.server", "needs either name or selector", remedy);
    }
    if let Some(selector) = &server.selector {
        check_selector("spec.server.selector", selector, faults);
    }
    for (index, network) in client.networks.iter().flatten().enumerate() {
        check_network(&format!("spec.client.networks[{index}]"), network, faults);
    }
    let Some(mesh_tls) = &client.mesh_tls else {
        if !client.unauthenticated {
            let remedy = "give meshTLS, or `unauthenticated: true` for everybody";
            faults.add("spec.client", "allows nobody", remedy);
        }
        return;
    };
    if client.unauthenticated {
        let remedy = "give meshTLS or unauthenticated, not both";
        faults.add("spec.client.unauthenticated", "allows everybody, beside meshTLS", remedy);
    }
    let identities = mesh_tls.identities.as_deref().unwrap_or_default();
    check_identities("spec.client.meshTLS.identities", identities, faults);
    let names_some =
        !identities.is_empty() || mesh_tls.service_accounts.iter().flatten().count() > 0;
    let field = "spec.client.meshTLS";
    match (mesh_tls.unauthenticated_tls, names_some) {
        (true, true) => {
            let remedy = "give unauthenticatedTLS, or identities and serviceAccounts, not both";
            faults.add(field, "allows everybody who speaks TLS, beside some by name", remedy);
        }
        (false, false) => {
            let remedy = "list identities or serviceAccounts; \"*\" is every meshed client";
            faults.add(field, "allows nobody", remedy);
        }
        _ => {}
    }
}

fn check_rate_limit(spec: &HTTPLocalRateLimitPolicySpec, faults: &mut Faults) {
    let target = &spec.target_ref;
    let good = target.group.as_deref() == Some("policy.linkerd.io") && target.kind == "Server";
    let remedy = "refer to a Server of policy.linkerd.io";
    faults.require(good, "spec.targetRef.kind", &target.kind, remedy);
    let overrides = spec.overrides.as_deref().unwrap_or_default();
    if spec.total.is_none() && spec.identity.is_none() && overrides.is_empty() {
        faults.add("spec", "limits nothing", "give total, identity or overrides");
    }
    let limits = [("spec.total", &spec.total), ("spec.identity", &spec.identity)];
    let limits = limits.into_iter().filter_map(|(field, limit)| {
        limit.as_ref().map(|limit| (field.to_string(), limit.requests_per_second))
    });
    let named = overrides.iter().enumerate();
    let named =
        named.map(|(index, each)| (format!("spec.overrides[{index}]"), each.requests_per_second));
    for (field, limit) in limits.chain(named) {
        let field = format!("{field}.requestsPerSecond");
        faults.require(limit > 0, &field, &limit.to_string(), "use a number above 0");
    }
    for (index, each) in overrides.iter().enumerate() {
        for (client, reference) in each.client_refs.iter().enumerate() {
            let group = reference.group.as_deref().unwrap_or_default();
            let good = matches!(group, "" | "core") && reference.kind == "ServiceAccount";
            let field = format!("spec.overrides[{index}].clientRefs[{client}].kind");
            faults.require(good, &field, &reference.kind, "refer to a ServiceAccount");
        }
    }
}

fn check_networks(networks: &[NetworkSpec], faults: &mut Faults) {
    if networks.is_empty() {
        faults.add("spec.networks", "is empty", "list a network; 0.0.0.0/0 is all of IPv4");
    }
    for (index, network) in networks.iter().enumerate() {
        check_network(&format!("spec.networks[{index}]"), network, faults);
    }
}

fn check_network(at: &str, network: &NetworkSpec, faults: &mut Faults) {
    const NETWORK: &str = "use an address or a network such as 10.0.0.0/8";
    let field = format!("{at}.cidr");
    let whole = parse_network(&network.cidr);
    faults.require(whole.is_some(), &field, &network.cidr, NETWORK);
    for (part, text) in network.except.iter().flatten().enumerate() {
        let field = format!("{at}.except[{part}]");
        match (parse_network(text), whole) {
            (Some(part), Some(whole)) if part.contains(&whole) => faults.add(
                field,
                format!("{text:?} leaves nothing of {:?}", network.cidr),
                "except only parts of the network",
            ),
            (Some(part), Some(whole)) if !whole.contains(&part) => faults.add(
                field,
                format!("{text:?} is not a part of {:?}", network.cidr),
                "except only parts of the network",
            ),
            (parsed, _) => faults.require(parsed.is_some(), &field, text, NETWORK),
        }
    }
}
