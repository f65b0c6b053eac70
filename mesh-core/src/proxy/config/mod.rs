//! What the proxy is told at its start: Linkerd's `LINKERD2_PROXY_*` environment, and `WEFT_*` for
//! what Linkerd has no word for. Read once, into types in which a wrong state cannot be written.
//!
//! Law: every fault is found and reported at once, each naming its variable and a remedy.

mod env;
mod parse;

pub use env::{ConfigError, ConfigErrors};
pub use parse::attribute_lines;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use crate::api::client::ControlAddress;
use crate::model::client_policy::Backoff;
use crate::model::identity::{Identity as Name, ServerTls};
use crate::model::target::NameAddr;
use crate::runtime::net::{ListenOptions, TcpOptions};
use crate::telemetry::access_log::AccessLogFormat;
use crate::wire::http::server::ServerOptions;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The way out, where this proxy takes it.
    pub outbound: Option<Outbound>,
    /// The way in, where this proxy takes it.
    pub inbound: Option<Inbound>,
    /// Where `/metrics`, `/ready`, `/live` and the like are served.
    pub admin: Admin,
    /// Who may look at requests; none: nobody, and nothing listens for them.
    pub tap: Option<Tap>,
    /// Who this proxy is and where it is certified.
    pub identity: Identity,
    /// Where policies and endpoints come from.
    pub discovery: Discovery,
    /// How long requests in flight may take after the first signal.
    pub shutdown_grace_period: Duration,
    /// Form of the access log; none where it is off.
    pub access_log: Option<AccessLogFormat>,
    /// How long label sets that nothing holds stay in `/metrics`.
    pub metrics_retain_idle: Duration,
    /// Label sets that a group of metric families keeps; the next are counted together.
    pub metrics_label_sets_max: usize,
    /// Where spans of requests are sent; none where they are not.
    pub tracing: Option<Tracing>,
    /// Variables that are set and do nothing, for a warning at start.
    pub inert: Vec<String>,
}

/// Spans of requests.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Where they are sent, as OTLP over gRPC.
    pub collector: ControlAddress,
    /// The name that this process has in traces.
    pub service_name: String,
    /// A file of lines `NAME="VALUE"`: labels of the pod.
    pub attributes_path: Option<PathBuf>,
    /// Further attributes of this process; of one name the last counts.
    pub attributes: Vec<(String, String)>,
    /// The share of requests that belong to no trace for which one begins here, 0 to 1.
    pub root_ratio: f64,
}

/// The way out.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Where traffic arrives.
    pub listeners: Vec<OutboundListener>,
    /// Sockets of accepted connections.
    pub accept: ListenOptions,
    /// Sockets to endpoints.
    pub connect: Connect,
    /// Time for the first bytes.
    pub detect_timeout: Duration,
    /// How long a destination nobody uses stays discovered.
    pub discovery_idle_timeout: Duration,
    /// Requests in flight; more are shed with 503.
    pub in_flight_max: usize,
    /// Requests that may wait for an endpoint.
    pub queue_capacity: usize,
    /// How long a backend may be without endpoints before what waits fails.
    pub failfast_timeout: Duration,
    /// How long an unused HTTP/1 connection is kept.
    pub http1_idle_timeout: Duration,
    /// Unused HTTP/1 connections kept for one endpoint.
    pub http1_idle_max: usize,
    /// Parameters of servers to applications.
    pub server: ServerOptions,
    /// Add `l5d-proxy-error` and such to responses that the proxy makes.
    pub informational_headers: bool,
    /// Dial the server while sniffing; see `docs/protocol-detection.md`.
    pub race_server_first: bool,
}

/// Where traffic arrives on the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundListener {
    /// The address listened on.
    pub at: SocketAddr,
    /// How a connection's destination is known.
    pub destination: OutboundDestination,
}

/// How a connection's destination is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundDestination {
    /// From the redirect rule that brought it here.
    Original,
    /// It is always this.
    Fixed(NameAddr),
    /// The client says: HTTP proxy semantics, absolute-form and CONNECT.
    HttpProxy,
}

/// The way in.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Where traffic arrives.
    pub listeners: Vec<InboundListener>,
    /// The port that takes meshed traffic with transport headers.
    pub direct_port: u16,
    /// Sockets of accepted connections.
    pub accept: ListenOptions,
    /// Sockets to the application.
    pub connect: Connect,
    /// Where the application listens, where that is not the address the client dialed.
    pub forward_ip: Option<IpAddr>,
    /// Time for the first bytes.
    pub detect_timeout: Duration,
    /// How long a port nobody uses stays discovered.
    pub discovery_idle_timeout: Duration,
    /// Requests in flight; more are shed with 503.
    pub in_flight_max: usize,
    /// Ports whose policies are fetched at start.
    pub ports: Vec<u16>,
    /// Ports whose bytes are carried without detection, whatever their policy says.
    pub opaque_ports: Vec<u16>,
    /// This workload's own addresses; connections to others are refused. Empty: no such check.
    pub own_ips: Vec<IpAddr>,
    /// What holds for a port until its policy is known.
    pub default_policy: DefaultPolicy,
    /// What `cluster-…` default policies call the cluster.
    pub cluster_networks: Vec<IpNet>,
    /// How long an unused HTTP/1 connection is kept.
    pub http1_idle_timeout: Duration,
    /// Unused HTTP/1 connections kept for one port.
    pub http1_idle_max: usize,
    /// Parameters of servers to clients.
    pub server: ServerOptions,
    /// Dial the application while a silent client is waited for.
    pub race_server_first: bool,
    /// Label metrics with the request's authority, which clients choose.
    pub authority_labels: bool,
}

/// Where traffic arrives on the way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundListener {
    /// The address listened on.
    pub at: SocketAddr,
    /// Where connections go: as redirected, or always here.
    pub forward: Option<SocketAddr>,
}

/// How connections are opened.
#[derive(Clone, Copy, Debug)]
pub struct Connect {
    /// Time for one.
    pub timeout: Duration,
    /// Time between attempts to an endpoint that fails.
    pub backoff: Backoff,
    /// Socket options.
    pub tcp: TcpOptions,
}

/// Linkerd's default inbound policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultPolicy {
    /// Anybody.
    AllUnauthenticated,
    /// Meshed clients, from anywhere.
    AllAuthenticated,
    /// Anybody in the cluster's networks.
    ClusterUnauthenticated,
    /// Meshed clients in the cluster's networks.
    ClusterAuthenticated,
    /// Nobody.
    Deny,
    /// Anybody, and what would be denied is logged.
    Audit,
}

/// The admin server.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// `POST /shutdown` from this host ends the proxy.
    pub shutdown_endpoint: bool,
}

/// Taps.
#[derive(Clone, Debug)]
pub struct Tap {
    /// Where they are asked for.
    pub listen: SocketAddr,
    /// Who may.
    pub client: Name,
    /// Bytes of each body that are shown at most; 0: bodies are not.
    pub body_bytes_max: usize,
    /// Headers whose values are never shown.
    pub redacted_headers: Vec<HeaderName>,
    /// Fields of bodies whose values are never shown.
    pub redacted_fields: Vec<String>,
}

/// Who this proxy is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name, and what peers call it in SNI.
    pub local: ServerTls,
    /// Anchors of trust, in PEM.
    pub trust_anchors: TrustAnchors,
    /// Directory with `key.p8` and `csr.der`, where they are given; else made in process.
    pub directory: Option<PathBuf>,
    /// The token shown for certificates; read anew each time.
    pub token_file: PathBuf,
    /// Who certifies.
    pub service: ControlAddress,
    /// Shortest time between renewals.
    pub min_refresh: Duration,
    /// Longest time between renewals.
    pub max_refresh: Duration,
}

/// Where the anchors of trust come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustAnchors {
    /// Given.
    Pem(String),
    /// A file, read again when it changes.
    File(PathBuf),
}

/// Where policies and endpoints come from.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Endpoints and profiles.
    pub destination: ControlAddress,
    /// Client and server policies.
    pub policy: ControlAddress,
    /// Sent with endpoint requests.
    pub context: String,
    /// This workload, as policies know it.
    pub workload: String,
    /// Addresses that profiles are asked for.
    pub profile_networks: Vec<IpNet>,
    /// Time for a stream's first item.
    pub initial_timeout: Duration,
    /// Time without an item after which a stream is made anew. None: never.
    pub idle_timeout: Option<Duration>,
    /// Time after which a stream is made anew. None: never.
    pub lifetime: Option<Duration>,
}

impl Config {
    /// Reads the configuration out of an environment.
    ///
    /// # Errors
    /// All faults at once.
    pub fn from_env(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        env::read(variable)
    }
}
