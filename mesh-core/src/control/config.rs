//! What a control plane is told when it starts. Plain data: flags and charts are mapped to it by
//! whoever starts it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::identity::{Identity, InvalidIdentity};
use crate::model::protocol::{Http2Params, KeepAlive};

use super::viz::VizConfig;
use super::webhook::WebhookConfig;
use crate::resource::policy::DefaultPolicy;
use crate::resource::ports::PortSet;

/// How a control plane runs.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Where it serves; port 0 takes a free one.
    pub listen: ListenConfig,
    /// Which of the APIs it serves.
    pub serve: Roles,
    /// What it answers an API server that is about to store something.
    pub webhook: Option<WebhookConfig>,
    /// What it shows to people.
    pub viz: Option<VizConfig>,
    /// What it compiles for proxies.
    pub mesh: MeshConfig,
    /// How it issues certificates.
    pub identity: IdentityConfig,
    /// How several control planes agree on which of them writes.
    pub lease: LeaseConfig,
    /// How long a change waits for others of the same burst, so that proxies are sent one update.
    pub coalesce: Duration,
    /// Streams and distinct targets that are served at once; more are refused as unavailable.
    pub streams_max: usize,
}

/// Which parts of a control plane a process is. Each has ports, rights and secrets of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Destinations and policies, statuses and the lease to write them.
    pub destination: bool,
    /// Certificates for workloads.
    pub identity: bool,
    /// Sidecars for pods.
    pub injector: bool,
}

/// Where a control plane serves. Every API is served on each of the three ports; there are three
/// because Linkerd's proxies are told three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenConfig {
    /// Destination (Linkerd: 8086).
    pub destination: SocketAddr,
    /// Policy (Linkerd: 8090).
    pub policy: SocketAddr,
    /// Identity (Linkerd: 8080).
    pub identity: SocketAddr,
    /// `/metrics`, `/ready`, `/live`, plaintext (Linkerd: 9996).
    pub admin: SocketAddr,
}

/// Facts of the mesh that policies are compiled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshConfig {
    /// The control plane's namespace, a part of every identity.
    pub control_namespace: String,
    /// The suffix of service names.
    pub cluster_domain: String,
    /// The suffix of identities.
    pub trust_domain: String,
    /// Addresses that count as the cluster's for `cluster-*` default policies.
    pub cluster_networks: Vec<IpNet>,
    /// Addresses that probes come from.
    pub probe_networks: Vec<IpNet>,
    /// Who may use ports that no Server selects, unless annotations say otherwise.
    pub default_inbound_policy: DefaultPolicy,
    /// Ports that are opaque unless annotations say otherwise.
    pub opaque_ports: PortSet,
    /// Send meshed traffic to the peer's proxy port with a transport header (Linkerd's default);
    /// else only opaque traffic goes there.
    pub transport_header: bool,
    /// Of a pod that has addresses of both families, proxies are told the IPv6 one; else the other.
    pub prefer_ipv6: bool,
    /// Let proxies carry HTTP/1 over HTTP/2 between them.
    pub http2_upgrade: bool,
    /// What proxies do on HTTP/2 connections between them; their own way where nothing is said.
    pub http2_client: Option<Http2Params>,
    /// The namespace whose EgressNetworks are for every workload.
    pub egress_namespace: String,
}

/// How certificates are issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityConfig {
    /// The directory of `ca.crt`, `issuer.crt`, `issuer.key`, `token.key`; made on first start.
    pub state_directory: PathBuf,
    /// Files that a cluster gives, in place of the state directory.
    pub mounted: Option<MountedIdentity>,
    /// Life of a workload's certificate.
    pub certificate_lifetime: Duration,
    /// Certificates are valid from this much earlier, for clocks that are behind.
    pub clock_skew: Duration,
}

/// The authority as files that are mounted, and change when others change them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedIdentity {
    /// The directory of `crt.pem` and `key.pem`, or `tls.crt` and `tls.key`.
    pub issuer_directory: PathBuf,
    /// The trust anchors, PEM.
    pub trust_roots: PathBuf,
}

/// How several control planes agree on which of them writes statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// The lease's name.
    pub name: String,
    /// This control plane's name, which no other one has: its host's.
    pub holder: String,
    /// How long the lease is for, after each renewal.
    pub duration: Duration,
}

impl Default for LeaseConfig {
    /// As Linkerd's policy controllers have it.
    fn default() -> Self {
        Self {
            name: "policy-controller-write".to_string(),
            holder: "weft-controller".to_string(),
            duration: Duration::from_secs(30),
        }
    }
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            listen: ListenConfig::default(),
            serve: Roles::default(),
            webhook: None,
            viz: None,
            mesh: MeshConfig::default(),
            identity: IdentityConfig::default(),
            lease: LeaseConfig::default(),
            coalesce: Duration::from_millis(10),
            streams_max: 100_000,
        }
    }
}

impl Default for Roles {
    /// All that a mesh of plain hosts needs: nobody there asks for sidecars.
    fn default() -> Self {
        Self { destination: true, identity: true, injector: false }
    }
}

impl Default for ListenConfig {
    /// Linkerd's ports on every IPv4 address.
    fn default() -> Self {
        let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Self { destination: at(8086), policy: at(8090), identity: at(8080), admin: at(9996) }
    }
}

impl ListenConfig {
    /// Free ports of the loopback address, for demos and tests.
    pub fn loopback() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { destination: any, policy: any, identity: any, admin: any }
    }
}

impl Default for MeshConfig {
    /// As Linkerd's chart has it.
    fn default() -> Self {
        let net = |text: &str| text.parse().expect("a network written here");
        Self {
            control_namespace: "linkerd".to_string(),
            cluster_domain: "cluster.local".to_string(),
            trust_domain: "cluster.local".to_string(),
            cluster_networks: [
                "10.0.0.0/8",
                "100.64.0.0/10",
                "172.16.0.0/12",
                "192.168.0.0/16",
                "fd00::/8",
            ]
            .map(net)
            .to_vec(),
            probe_networks: ["0.0.0.0/0", "::/0"].map(net).to_vec(),
            default_inbound_policy: DefaultPolicy::AllUnauthenticated,
            opaque_ports: [25, 587, 3306, 4444, 5432, 6379, 9300, 11211].into_iter().collect(),
            transport_header: true,
            prefer_ipv6: false,
            http2_upgrade: true,
            http2_client: Some(Http2Params {
                keep_alive: Some(KeepAlive {
                    interval: Some(Duration::from_secs(10)),
                    timeout: Some(Duration::from_secs(3)),
                    while_idle: true,
                }),
                ..Http2Params::default()
            }),
            egress_namespace: "linkerd-egress".to_string(),
        }
    }
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            state_directory: PathBuf::from("weft-state"),
            mounted: None,
            certificate_lifetime: Duration::from_secs(24 * 60 * 60),
            clock_skew: Duration::from_secs(20),
        }
    }
}

impl MeshConfig {
    /// The identity of a service account:
    /// `NAME.NAMESPACE.serviceaccount.identity.CONTROL-NAMESPACE.TRUST-DOMAIN`.
    ///
    /// # Errors
    /// [`InvalidIdentity`] where that is not a DNS name.
    pub fn identity(&self, namespace: &str, account: &str) -> Result<Identity, InvalidIdentity> {
        let Self { control_namespace, trust_domain, .. } = self;
        Identity::new(&format!(
            "{account}.{namespace}.serviceaccount.identity.{control_namespace}.{trust_domain}"
        ))
    }

    /// The name of a service: `NAME.NAMESPACE.svc.CLUSTER-DOMAIN`.
    pub fn service_name(&self, namespace: &str, name: &str) -> String {
        format!("{name}.{namespace}.svc.{}", self.cluster_domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_carry_the_control_namespace() {
        let identity = MeshConfig::default().identity("emojivoto", "web").unwrap();
        assert_eq!(
            identity.as_str(),
            "web.emojivoto.serviceaccount.identity.linkerd.cluster.local"
        );
    }
}
