//! What an installation is made with, as far as sidecars need it. The names are those of
//! Linkerd's Helm chart, and so are the defaults.

use serde::{Deserialize, Serialize};

/// An installation's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Values {
    /// The control plane's namespace.
    pub linkerd_namespace: String,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Networks whose addresses belong to the cluster, comma-separated.
    pub cluster_networks: String,
    /// The domain at the end of every identity.
    pub identity_trust_domain: String,
    /// Trust anchors in PEM. Empty: the config map of the installation tells them.
    #[serde(rename = "identityTrustAnchorsPEM")]
    pub identity_trust_anchors_pem: String,
    /// The version of the control plane and of its sidecars.
    pub linkerd_version: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Traffic is redirected by a CNI plugin, not by an init container.
    pub cni_enabled: bool,
    /// No IPv6: neither redirected nor listened on.
    #[serde(rename = "disableIPv6")]
    pub disable_ipv6: bool,
    /// The sidecar.
    pub proxy: Proxy,
    /// What redirects a pod's traffic to it.
    pub proxy_init: ProxyInit,
}

/// The sidecar's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Proxy {
    /// Its image.
    pub image: Image,
    /// Where it listens.
    pub ports: Ports,
    /// What it may use.
    pub resources: Resources,
    /// Its log levels.
    pub log_level: String,
    /// `plain` or `json`.
    pub log_format: String,
    /// `apache` or `json`; empty: none.
    pub access_log: String,
    /// The user it runs as, whose traffic is not redirected.
    pub uid: u32,
    /// The group it runs as; negative: the image's.
    pub gid: i64,
    /// It starts before, and ends after, the pod's other containers.
    pub native_sidecar: bool,
    /// Where it is not native: the application waits until it is ready.
    pub await_ready: bool,
    /// What holds for ports without a Server.
    pub default_inbound_policy: String,
    /// Ports whose traffic is carried as bytes, comma-separated.
    pub opaque_ports: String,
    /// Its `/shutdown` works.
    pub enable_shutdown_endpoint: bool,
    /// How long a connection to the application may take.
    pub inbound_connect_timeout: String,
    /// How long a connection to a peer may take.
    pub outbound_connect_timeout: String,
    /// How long what was discovered is kept unused.
    pub inbound_discovery_cache_unused_timeout: String,
    /// How long what was discovered is kept unused.
    pub outbound_discovery_cache_unused_timeout: String,
    /// How long a drain may take; empty: the proxy's own default.
    pub shutdown_grace_period: String,
    /// How long it goes on after it was told to end.
    pub wait_before_exit_seconds: u32,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Image {
    /// Without its tag.
    pub name: String,
    /// Its tag; empty: the installation's version.
    pub version: String,
    /// Empty: the installation's.
    pub pull_policy: String,
}

/// Where a sidecar listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Ports {
    /// `/metrics`, `/ready`, `/live`.
    pub admin: u16,
    /// Tap.
    pub control: u16,
    /// Clients' traffic.
    pub inbound: u16,
    /// The application's traffic.
    pub outbound: u16,
}

/// What a container may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Resources {
    /// Of a core.
    pub cpu: Quantities,
    /// Bytes.
    pub memory: Quantities,
    /// Bytes.
    pub ephemeral_storage: Quantities,
}

/// What is asked for and what is allowed, as Kubernetes writes quantities; empty: unsaid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quantities {
    /// Asked for.
    pub request: String,
    /// Allowed.
    pub limit: String,
}

/// What redirects traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProxyInit {
    /// Its image.
    pub image: Image,
    /// `nft`, `legacy` or `plain`.
    pub iptables_mode: String,
    /// Ports of the pod that are not redirected, comma-separated.
    pub ignore_inbound_ports: String,
    /// Ports of peers that are not redirected, comma-separated.
    pub ignore_outbound_ports: String,
    /// The API server's ports, which init containers must reach without the sidecar.
    pub kube_api_server_ports: String,
    /// Networks of clients that are not redirected, comma-separated.
    pub skip_subnets: String,
    /// How long closed connections are remembered by the kernel, in seconds; 0: its default.
    pub close_wait_timeout_secs: u32,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            linkerd_namespace: "linkerd".into(),
            cluster_domain: "cluster.local".into(),
            cluster_networks: "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"
                .into(),
            identity_trust_domain: "cluster.local".into(),
            identity_trust_anchors_pem: String::new(),
            linkerd_version: env!("CARGO_PKG_VERSION").into(),
            image_pull_policy: "IfNotPresent".into(),
            cni_enabled: false,
            disable_ipv6: true,
            proxy: Proxy::default(),
            proxy_init: ProxyInit::default(),
        }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            image: Image::default(),
            ports: Ports::default(),
            resources: Resources::default(),
            log_level: "warn,weft=info".into(),
            log_format: "plain".into(),
            access_log: String::new(),
            uid: 2102,
            gid: -1,
            native_sidecar: true,
            await_ready: true,
            default_inbound_policy: "all-unauthenticated".into(),
            opaque_ports: "25,587,3306,4444,5432,6379,9300,11211".into(),
            enable_shutdown_endpoint: false,
            inbound_connect_timeout: "100ms".into(),
            outbound_connect_timeout: "1000ms".into(),
            inbound_discovery_cache_unused_timeout: "90s".into(),
            outbound_discovery_cache_unused_timeout: "5s".into(),
            shutdown_grace_period: String::new(),
            wait_before_exit_seconds: 0,
        }
    }
}

impl Default for Image {
    fn default() -> Self {
        Self { name: "weft/proxy".into(), version: String::new(), pull_policy: String::new() }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self { admin: 4191, control: 4190, inbound: 4143, outbound: 4140 }
    }
}

impl Default for ProxyInit {
    fn default() -> Self {
        Self {
            image: Image::default(),
            iptables_mode: "nft".into(),
            ignore_inbound_ports: "4567,4568".into(),
            ignore_outbound_ports: "4567,4568".into(),
            kube_api_server_ports: "443,6443".into(),
            skip_subnets: String::new(),
            close_wait_timeout_secs: 0,
        }
    }
}

impl Values {
    /// Reads values that differ from the defaults.
    ///
    /// # Errors
    /// What is wrong, with line, column and field.
    pub fn read(yaml: &str) -> Result<Self, String> {
        match yaml.trim() {
            "" => Ok(Self::default()),
            _ => serde_yaml_ng::from_str(yaml).map_err(|error| error.to_string()),
        }
    }

    /// Where an image is, with its tag.
    pub fn reference(&self, image: &Image) -> String {
        let version = or(&image.version, &self.linkerd_version);
        format!("{}:{version}", image.name)
    }

    /// An image's pull policy.
    pub fn pull_policy<'a>(&'a self, image: &'a Image) -> &'a str {
        or(&image.pull_policy, &self.image_pull_policy)
    }

    /// The identity of one of the control plane's service accounts.
    pub fn identity(&self, account: &str) -> String {
        let (namespace, domain) = (&self.linkerd_namespace, &self.identity_trust_domain);
        format!("{account}.{namespace}.serviceaccount.identity.{namespace}.{domain}")
    }

    /// The address of one of the control plane's services.
    pub fn service(&self, name: &str, port: u16) -> String {
        format!("{name}.{}.svc.{}.:{port}", self.linkerd_namespace, self.cluster_domain)
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
