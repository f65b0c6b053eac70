//! Values of the sidecar, and of what redirects a pod's traffic to it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Its threads.
    pub runtime: ProxyRuntime,
    /// Its log levels.
    pub log_level: String,
    /// `plain` or `json`.
    pub log_format: String,
    /// `off`, or `insecure`: requests and responses are logged with their headers.
    #[serde(rename = "logHTTPHeaders")]
    pub log_http_headers: String,
    /// `apache` or `json`; empty: none.
    pub access_log: String,
    /// The user it runs as, whose traffic is not redirected.
    pub uid: u32,
    /// The group it runs as; negative: the image's.
    pub gid: i64,
    /// It starts before, and ends after, the pod's other containers.
    pub native_sidecar: bool,
    /// Where it is not native: the application waits until it is ready.
    #[serde(rename = "await")]
    pub await_ready: bool,
    /// What holds for ports without a Server.
    pub default_inbound_policy: String,
    /// `transport-header`: meshed traffic goes to the peer's proxy port; `transparent`: to the
    /// application's.
    pub outbound_transport_mode: String,
    /// Ports whose traffic is carried as bytes, comma-separated.
    pub opaque_ports: String,
    /// The application's ports, comma-separated; empty: those its containers declare.
    pub pod_inbound_ports: String,
    /// Ports on which clients must have an identity, comma-separated.
    pub require_identity_on_inbound_ports: String,
    /// Also profiles of names outside of the cluster are asked for.
    pub enable_external_profiles: bool,
    /// A gateway for other clusters.
    pub is_gateway: bool,
    /// Destinations are taken from the `l5d-dst-override` header.
    pub is_ingress: bool,
    /// Detection waits for as long as it takes.
    pub disable_inbound_protocol_detect_timeout: bool,
    /// Detection waits for as long as it takes.
    pub disable_outbound_protocol_detect_timeout: bool,
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
    /// Its talk with the control plane.
    pub control: ProxyControl,
    /// What it counts.
    pub metrics: ProxyMetrics,
    /// Spans of its requests.
    pub tracing: ProxyTracing,
    /// How long a drain may take; empty: the proxy's own default.
    pub shutdown_grace_period: String,
    /// How long it goes on after it was told to end.
    pub wait_before_exit_seconds: u32,
    /// Further variables, as a container has them; they win over its own.
    pub additional_env: Vec<Value>,
}

/// A sidecar's threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProxyRuntime {
    /// Of traffic.
    pub workers: Workers,
}

/// A sidecar's threads of traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Workers {
    /// At least this many.
    pub minimum: u32,
    /// At most this share of the node's cores, 0 to 1; none: `minimum` of them.
    #[serde(rename = "maximumCPURatio")]
    pub maximum_cpu_ratio: Option<f64>,
}

/// A sidecar's talk with the control plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProxyControl {
    /// Its streams.
    pub streams: Streams,
}

/// A sidecar's streams from the control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Streams {
    /// Time for the first item.
    pub initial_timeout: String,
    /// A stream that is silent for as long is opened anew.
    pub idle_timeout: String,
    /// A stream as old is opened anew.
    pub lifetime: String,
}

/// What a sidecar counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProxyMetrics {
    /// Names of hosts are labels.
    pub hostname_labels: bool,
}

/// Spans of sidecars' requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProxyTracing {
    /// A collector is told of requests whose traces are recorded.
    pub enabled: bool,
    /// The name of sidecars in traces.
    pub trace_service_name: String,
    /// The collector.
    pub collector: TraceCollector,
}

/// A collector of spans.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TraceCollector {
    /// Its host and port, of OTLP over gRPC.
    pub endpoint: String,
    /// Whom to expect there: its pod is meshed.
    pub mesh_identity: MeshIdentity,
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MeshIdentity {
    /// Its name.
    pub service_account_name: String,
    /// Its namespace.
    pub namespace: String,
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
    /// The API server's ports, which the control plane reaches without its sidecars.
    #[serde(rename = "kubeAPIServerPorts")]
    pub kube_api_server_ports: String,
    /// Networks of clients that are not redirected, comma-separated.
    pub skip_subnets: String,
    /// How long closed connections are remembered by the kernel, in seconds; 0: its default.
    pub close_wait_timeout_secs: u32,
    /// What it may use.
    pub resources: Resources,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            image: Image::default(),
            ports: Ports::default(),
            resources: Resources::default(),
            runtime: ProxyRuntime::default(),
            log_level: "warn,linkerd=info,weft=info".into(),
            log_format: "plain".into(),
            log_http_headers: "off".into(),
            access_log: String::new(),
            uid: 2102,
            gid: -1,
            native_sidecar: true,
            await_ready: true,
            default_inbound_policy: "all-unauthenticated".into(),
            outbound_transport_mode: "transport-header".into(),
            opaque_ports: "25,587,3306,4444,5432,6379,9300,11211".into(),
            pod_inbound_ports: String::new(),
            require_identity_on_inbound_ports: String::new(),
            enable_external_profiles: false,
            is_gateway: false,
            is_ingress: false,
            disable_inbound_protocol_detect_timeout: false,
            disable_outbound_protocol_detect_timeout: false,
            enable_shutdown_endpoint: false,
            inbound_connect_timeout: "100ms".into(),
            outbound_connect_timeout: "1000ms".into(),
            inbound_discovery_cache_unused_timeout: "90s".into(),
            outbound_discovery_cache_unused_timeout: "5s".into(),
            control: ProxyControl::default(),
            metrics: ProxyMetrics::default(),
            tracing: ProxyTracing::default(),
            shutdown_grace_period: String::new(),
            wait_before_exit_seconds: 0,
            additional_env: Vec::new(),
        }
    }
}

impl Default for ProxyTracing {
    fn default() -> Self {
        Self {
            enabled: false,
            trace_service_name: "linkerd-proxy".into(),
            collector: TraceCollector::default(),
        }
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self { minimum: 1, maximum_cpu_ratio: None }
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self { initial_timeout: "3s".into(), idle_timeout: "5m".into(), lifetime: "1h".into() }
    }
}

impl Default for Image {
    fn default() -> Self {
        Self { name: "weft/weft".into(), version: String::new(), pull_policy: String::new() }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self { admin: 4191, control: 4190, inbound: 4143, outbound: 4140 }
    }
}

impl Default for ProxyInit {
    fn default() -> Self {
        let resource = |request: &str, limit: &str| Quantities {
            request: request.into(),
            limit: limit.into(),
        };
        Self {
            image: Image::default(),
            iptables_mode: "nft".into(),
            ignore_inbound_ports: "4567,4568".into(),
            ignore_outbound_ports: "4567,4568".into(),
            kube_api_server_ports: "443,6443".into(),
            skip_subnets: String::new(),
            close_wait_timeout_secs: 0,
            resources: Resources {
                cpu: resource("10m", ""),
                memory: resource("10Mi", "20Mi"),
                ephemeral_storage: Quantities::default(),
            },
        }
    }
}
