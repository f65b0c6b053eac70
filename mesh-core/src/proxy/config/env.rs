//! Reads the configuration out of environment variables. All faults are collected.

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{
    Admin, Config, Connect, DefaultPolicy, Discovery, Identity, Inbound, InboundListener, Outbound,
    OutboundDestination, OutboundListener, TrustAnchors, parse,
};
use crate::api::client::ControlAddress;
use crate::model::client_policy::Backoff;
use crate::model::identity::{DnsName, Identity as Name, ServerTls};
use crate::model::protocol::KeepAlive;
use crate::model::ratio::Ratio;
use crate::model::target::NameAddr;
use crate::runtime::net::{ListenOptions, TcpOptions};
use crate::telemetry::access_log::AccessLogFormat;
use crate::wire::http::server::ServerOptions;

/// Linkerd's variables that this proxy does not act on: some it does not support yet, the last four
/// nothing reads in Linkerd's own either. Set, they are warned about.
const INERT: &[&str] = &[
    "LINKERD2_PROXY_INGRESS_MODE",
    "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES",
    "LINKERD2_PROXY_TAP_SVC_NAME",
    "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR",
    "LINKERD2_PROXY_IDENTITY_SPIRE_WORKLOAD_API_ADDRESS",
    "LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY",
    "LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_TLS",
    "LINKERD2_PROXY_TRACE_ANNOTATIONS_PATH",
    "LINKERD2_PROXY_TRACE_PROTOCOL",
];

const SECOND: Duration = Duration::from_secs(1);

/// A fault of one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable's name.
    pub variable: String,
    /// Its value; none where it is not set. Never a secret: no variable holds one.
    pub value: Option<String>,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, value, remedy } = self;
        match value {
            Some(value) => write!(f, "{variable}={value:?} is not valid: {remedy}"),
            None => write!(f, "{variable} is not set: {remedy}"),
        }
    }
}

/// All faults of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "invalid configuration:")?;
        self.0.iter().try_for_each(|error| writeln!(f, "  {error}"))
    }
}

pub(super) fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let env = Env { variable, errors: RefCell::default() };
    let config = Config {
        outbound: env.outbound(),
        inbound: env.inbound(),
        admin: Admin {
            listen: env.or("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", local(4191), parse::socket_addr),
            shutdown_endpoint: env.flag("LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED", false),
        },
        identity: env.identity(),
        discovery: env.discovery(),
        shutdown_grace_period: env.time("LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD", 120 * SECOND),
        access_log: env.optional("LINKERD2_PROXY_ACCESS_LOG", access_log).flatten(),
        metrics_retain_idle: env.time("LINKERD2_PROXY_METRICS_RETAIN_IDLE", 600 * SECOND),
        inert: INERT
            .iter()
            .filter(|name| variable(name).is_some())
            .map(ToString::to_string)
            .collect(),
    };
    if config.outbound.is_none() && config.inbound.is_none() {
        env.fail("WEFT_MODE", "both directions are off; give both, outbound or inbound");
    }
    match env.errors.into_inner() {
        errors if errors.is_empty() => Ok(config),
        errors => Err(ConfigErrors(errors)),
    }
}

struct Env<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    errors: RefCell<Vec<ConfigError>>,
}

impl Env<'_> {
    fn outbound(&self) -> Option<Outbound> {
        if !self.mode_takes("outbound") {
            return None;
        }
        Some(Outbound {
            listeners: self.outbound_listeners(),
            accept: self.accept("OUTBOUND"),
            connect: self.connect("OUTBOUND", SECOND, 60 * SECOND),
            detect_timeout: self.time("LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT", 10 * SECOND),
            discovery_idle_timeout: self
                .time("LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT", 5 * SECOND),
            in_flight_max: self.count("LINKERD2_PROXY_OUTBOUND_MAX_IN_FLIGHT", 100_000),
            queue_capacity: self.count("LINKERD2_PROXY_OUTBOUND_HTTP_QUEUE_CAPACITY", 10_000),
            failfast_timeout: self
                .time("LINKERD2_PROXY_OUTBOUND_HTTP_FAILFAST_TIMEOUT", 3 * SECOND),
            http1_idle_timeout: self
                .time("LINKERD2_PROXY_OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT", 3 * SECOND),
            http1_idle_max: self
                .count("LINKERD2_PROXY_OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT", 10_000),
            server: self.server("OUTBOUND"),
            informational_headers: !self
                .flag("LINKERD2_PROXY_OUTBOUND_DISABLE_INFORMATIONAL_HEADERS", false),
            race_server_first: self.flag("WEFT_OUTBOUND_RACE_SERVER_FIRST", true),
        })
    }

    fn outbound_listeners(&self) -> Vec<OutboundListener> {
        let redirected = self
            .optional("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS", addresses)
            .or_else(|| self.optional("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", addresses))
            .unwrap_or_else(|| vec![local(4140)]);
        let original = redirected
            .into_iter()
            .map(|at| OutboundListener { at, destination: OutboundDestination::Original });
        let fixed = self.optional("WEFT_OUTBOUND_LISTENERS", fixed_listeners).unwrap_or_default();
        let proxies = self.optional("WEFT_OUTBOUND_HTTP_PROXY_LISTEN_ADDRS", addresses);
        let proxies = proxies
            .into_iter()
            .flatten()
            .map(|at| OutboundListener { at, destination: OutboundDestination::HttpProxy });
        original.chain(fixed).chain(proxies).collect()
    }

    fn inbound(&self) -> Option<Inbound> {
        if !self.mode_takes("inbound") {
            return None;
        }
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 4143);
        let at = self.or("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", any, parse::socket_addr);
        let fixed = self.optional("WEFT_INBOUND_LISTENERS", forward_listeners).unwrap_or_default();
        let mut listeners = vec![InboundListener { at, forward: None }];
        listeners.extend(fixed);
        Some(Inbound {
            direct_port: at.port(),
            listeners,
            accept: self.accept("INBOUND"),
            connect: self.connect("INBOUND", SECOND * 3 / 10, 10 * SECOND),
            forward_ip: self.optional("WEFT_INBOUND_FORWARD_IP", ip_addr),
            detect_timeout: self.time("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT", 10 * SECOND),
            discovery_idle_timeout: self
                .time("LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT", 90 * SECOND),
            in_flight_max: self.count("LINKERD2_PROXY_INBOUND_MAX_IN_FLIGHT", 100_000),
            ports: self.or("LINKERD2_PROXY_INBOUND_PORTS", vec![], parse::ports),
            opaque_ports: self.or(
                "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
                vec![],
                parse::ports,
            ),
            own_ips: self
                .or("LINKERD2_PROXY_INBOUND_IPS", vec![], |text| parse::list(text, ip_addr)),
            default_policy: self.or(
                "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY",
                DefaultPolicy::AllUnauthenticated,
                default_policy,
            ),
            cluster_networks: self.networks("LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS", &[]),
            http1_idle_timeout: self
                .time("LINKERD2_PROXY_INBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT", 3 * SECOND),
            // Without INBOUND_ in its name, as in Linkerd.
            http1_idle_max: self.count("LINKERD2_PROXY_MAX_IDLE_CONNS_PER_ENDPOINT", 10_000),
            server: self.server("INBOUND"),
            authority_labels: (self.variable)("LINKERD2_PROXY_INBOUND_METRICS_AUTHORITY_LABELS")
                .is_some_and(|value| value == "unsafe"),
        })
    }

    fn identity(&self) -> Identity {
        let nobody = ServerTls {
            identity: Name::Dns(DnsName::new("unset").expect("a name")),
            server_name: DnsName::new("unset").expect("a name"),
        };
        Identity {
            local: self.local_identity().unwrap_or(nobody),
            trust_anchors: self.trust_anchors(),
            directory: self.optional("LINKERD2_PROXY_IDENTITY_DIR", path),
            token_file: self
                .required(
                    "LINKERD2_PROXY_IDENTITY_TOKEN_FILE",
                    "give the file that holds this workload's token",
                    path,
                )
                .unwrap_or_default(),
            service: self.control_address("IDENTITY"),
            min_refresh: self.time("LINKERD2_PROXY_IDENTITY_MIN_REFRESH", 10 * SECOND),
            max_refresh: self.time("LINKERD2_PROXY_IDENTITY_MAX_REFRESH", 86_400 * SECOND),
        }
    }

    fn local_identity(&self) -> Option<ServerTls> {
        let spiffe = self.optional("LINKERD2_PROXY_IDENTITY_SERVER_ID", identity);
        let server_name = self.optional("LINKERD2_PROXY_IDENTITY_SERVER_NAME", dns_name);
        if let (Some(identity), Some(server_name)) = (spiffe, server_name) {
            return Some(ServerTls { identity, server_name });
        }
        let remedy = "give this workload's identity, such as \
                      web.emojivoto.serviceaccount.identity.linkerd.cluster.local";
        let name = self.required("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", remedy, dns_name)?;
        Some(ServerTls { identity: Name::Dns(name.clone()), server_name: name })
    }

    fn trust_anchors(&self) -> TrustAnchors {
        if let Some(file) = self.optional("WEFT_IDENTITY_TRUST_ANCHORS_FILE", path) {
            return TrustAnchors::File(file);
        }
        let remedy = "give the anchors of trust in PEM, or their file in \
                      WEFT_IDENTITY_TRUST_ANCHORS_FILE";
        let pem = |text: &str| match text.contains("-----BEGIN CERTIFICATE-----") {
            true => Ok(text.to_string()),
            false => Err("give PEM: -----BEGIN CERTIFICATE-----".to_string()),
        };
        let pem = self.required("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", remedy, pem);
        TrustAnchors::Pem(pem.unwrap_or_default())
    }

    fn discovery(&self) -> Discovery {
        let private =
            ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"];
        let time = |name| self.optional(name, parse::duration);
        Discovery {
            destination: self.control_address("DESTINATION"),
            policy: self.control_address("POLICY"),
            context: (self.variable)("LINKERD2_PROXY_DESTINATION_CONTEXT").unwrap_or_default(),
            workload: self
                .required(
                    "LINKERD2_PROXY_POLICY_WORKLOAD",
                    "give this workload's name, such as {\"ns\":\"default\",\"pod\":\"web-1\"}",
                    |text| Ok(text.to_string()),
                )
                .unwrap_or_default(),
            profile_networks: self
                .networks("LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS", &private),
            initial_timeout: self.time("LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT", 3 * SECOND),
            idle_timeout: time("LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT"),
            lifetime: time("LINKERD2_PROXY_CONTROL_STREAM_LIFETIME"),
        }
    }

    /// A control-plane service. TLS is left out iff it is on this host, as in
    /// linkerd2-proxy: otherwise its name must be known.
    fn control_address(&self, service: &str) -> ControlAddress {
        let address = format!("LINKERD2_PROXY_{service}_SVC_ADDR");
        let name = format!("LINKERD2_PROXY_{service}_SVC_NAME");
        let unset = NameAddr::new("localhost", 1).expect("a name");
        let remedy = "give the service's host and port, such as linkerd-dst-headless:8086";
        let authority = self
            .required(&address, remedy, |text| {
                text.parse::<NameAddr>().map_err(|_| "give a host and a port".to_string())
            })
            .unwrap_or(unset);
        let loopback = match authority.as_address() {
            Some(address) => address.ip().is_loopback(),
            None => authority.host() == "localhost",
        };
        let tls = (!loopback)
            .then(|| self.required(&name, "give the service's identity", identity))
            .flatten()
            .and_then(|identity| match &identity {
                Name::Dns(server_name) => {
                    Some(ServerTls { server_name: server_name.clone(), identity })
                }
                Name::Uri(_) => {
                    self.fail(&name, "give a DNS identity");
                    None
                }
            });
        ControlAddress { authority, tls }
    }

    fn accept(&self, direction: &str) -> ListenOptions {
        let variable = |name: &str| format!("LINKERD2_PROXY_{direction}_{name}");
        ListenOptions {
            transparent: true,
            backlog: self.optional(&variable("TCP_LISTEN_BACKLOG"), parse::number_u32),
            tcp: TcpOptions {
                keepalive: self.optional(&variable("ACCEPT_KEEPALIVE"), parse::duration),
                user_timeout: self.optional(&variable("ACCEPT_USER_TIMEOUT"), parse::duration),
            },
        }
    }

    fn connect(&self, direction: &str, timeout: Duration, backoff_max: Duration) -> Connect {
        let variable = |name: &str| format!("LINKERD2_PROXY_{direction}_{name}");
        let backoff = |name: &str| variable(&format!("CONNECT_EXP_BACKOFF_{name}"));
        let jitter = self.or(&backoff("JITTER"), 0.1, parse::fraction);
        Connect {
            timeout: self.time(&variable("CONNECT_TIMEOUT"), timeout),
            backoff: Backoff {
                min: self.time(&backoff("MIN"), SECOND / 10),
                max: self.time(&backoff("MAX"), backoff_max),
                jitter: Ratio::from_f64(jitter).unwrap_or_default(),
                respect_retry_after: false,
            },
            tcp: TcpOptions {
                keepalive: self.optional(&variable("CONNECT_KEEPALIVE"), parse::duration),
                user_timeout: self.optional(&variable("CONNECT_USER_TIMEOUT"), parse::duration),
            },
        }
    }

    fn server(&self, direction: &str) -> ServerOptions {
        let variable = |name: &str| format!("LINKERD2_PROXY_{direction}_SERVER_HTTP2_{name}");
        let time = |name: &str| self.optional(&variable(name), parse::duration);
        let count = |name: &str| self.optional(&variable(name), parse::number_u32);
        let mut options = ServerOptions::default();
        let http2 = &mut options.http2;
        // Without a direction in its name the variable holds for both; with one it wins.
        let both =
            |name: &str| self.optional(&format!("LINKERD2_PROXY_HTTP2_{name}"), parse::number_u32);
        let stream = "INITIAL_STREAM_WINDOW_SIZE";
        if let Some(bytes) = count(stream).or_else(|| both(stream)) {
            http2.initial_stream_window_bytes = bytes;
        }
        let connection = "INITIAL_CONNECTION_WINDOW_SIZE";
        if let Some(bytes) = count(connection).or_else(|| both(connection)) {
            http2.initial_connection_window_bytes = bytes;
        }
        http2.adaptive_windows = self.flag(&variable("ADAPTIVE_FLOW_CONTROL"), false);
        if let Some(bytes) = count("MAX_SEND_BUF_SIZE") {
            http2.max_send_buffer_bytes = bytes as usize;
        }
        if let Some(streams) = count("MAX_PENDING_ACCEPT_RESET_STREAMS") {
            http2.max_pending_reset_streams = streams as usize;
        }
        if let Some(streams) = count("MAX_CONCURRENT_STREAMS") {
            http2.max_concurrent_streams = streams;
        }
        if let Some(bytes) = count("MAX_HEADER_LIST_SIZE") {
            options.header_bytes_max = bytes;
        }
        if let Some(bytes) = count("MAX_FRAME_SIZE") {
            options.http2.max_frame_bytes = bytes;
        }
        if let Some(interval) = time("KEEP_ALIVE_INTERVAL") {
            options.http2.keep_alive = Some(KeepAlive {
                interval: Some(interval),
                timeout: time("KEEP_ALIVE_TIMEOUT"),
                while_idle: true,
            });
        }
        options
    }

    /// Whether this proxy takes a direction: `WEFT_MODE` is `both`, `outbound` or `inbound`.
    fn mode_takes(&self, direction: &str) -> bool {
        match (self.variable)("WEFT_MODE").as_deref() {
            None | Some("" | "both") => true,
            Some(mode @ ("outbound" | "inbound")) => mode == direction,
            Some(_) => {
                if direction == "outbound" {
                    self.fail("WEFT_MODE", "give both, outbound or inbound");
                }
                true
            }
        }
    }

    fn fail(&self, variable: &str, remedy: impl Into<String>) {
        self.errors.borrow_mut().push(ConfigError {
            variable: variable.to_string(),
            value: (self.variable)(variable),
            remedy: remedy.into(),
        });
    }

    /// A variable's value; none where it is not set, empty, or wrong (which is noted).
    fn optional<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = (self.variable)(name).filter(|value| !value.trim().is_empty())?;
        parse(value.trim()).map_err(|remedy| self.fail(name, remedy)).ok()
    }

    fn required<T>(
        &self,
        name: &str,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if (self.variable)(name).is_none_or(|value| value.trim().is_empty()) {
            self.fail(name, remedy);
            return None;
        }
        self.optional(name, parse)
    }

    fn or<T>(&self, name: &str, default: T, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.optional(name, parse).unwrap_or(default)
    }

    fn time(&self, name: &str, default: Duration) -> Duration {
        self.or(name, default, parse::duration)
    }

    fn count(&self, name: &str, default: usize) -> usize {
        self.or(name, default, parse::number)
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.or(name, default, parse::boolean)
    }

    fn networks(&self, name: &str, default: &[&str]) -> Vec<ipnet::IpNet> {
        let read = |text: &str| parse::list(text, parse::network);
        let default = default.iter().map(|net| net.parse().expect("a network")).collect();
        self.or(name, default, read)
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    parse::list(text, parse::socket_addr)
}

/// `127.0.0.1:9001=web.default.svc.cluster.local:80,…`
fn fixed_listeners(text: &str) -> Result<Vec<OutboundListener>, String> {
    let remedy = "give LISTEN=HOST:PORT, such as 127.0.0.1:9001=web.default.svc.cluster.local:80";
    parse::list(text, |item| {
        let (at, to) = item.split_once('=').ok_or(remedy)?;
        let destination = to.parse().map_err(|_| remedy)?;
        let at = parse::socket_addr(at)?;
        Ok(OutboundListener { at, destination: OutboundDestination::Fixed(destination) })
    })
}

/// `0.0.0.0:8080=127.0.0.1:8081,…`
fn forward_listeners(text: &str) -> Result<Vec<InboundListener>, String> {
    let remedy = "give LISTEN=ADDRESS:PORT, such as 0.0.0.0:8080=127.0.0.1:8081";
    parse::list(text, |item| {
        let (at, to) = item.split_once('=').ok_or(remedy)?;
        let forward = Some(parse::socket_addr(to)?);
        Ok(InboundListener { at: parse::socket_addr(at)?, forward })
    })
}

fn ip_addr(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "give an IP address".into())
}

fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

fn identity(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|_| "give a DNS name or a spiffe:// URI".into())
}

fn dns_name(text: &str) -> Result<DnsName, String> {
    DnsName::new(text).map_err(|_| "give a DNS name".into())
}

fn access_log(text: &str) -> Result<Option<AccessLogFormat>, String> {
    match text {
        "apache" => Ok(Some(AccessLogFormat::Apache)),
        "json" => Ok(Some(AccessLogFormat::Json)),
        "none" => Ok(None),
        _ => Err("give apache, json or none".into()),
    }
}

fn default_policy(text: &str) -> Result<DefaultPolicy, String> {
    Ok(match text {
        "all-unauthenticated" => DefaultPolicy::AllUnauthenticated,
        "all-authenticated" => DefaultPolicy::AllAuthenticated,
        "cluster-unauthenticated" => DefaultPolicy::ClusterUnauthenticated,
        "cluster-authenticated" => DefaultPolicy::ClusterAuthenticated,
        "deny" => DefaultPolicy::Deny,
        "audit" => DefaultPolicy::Audit,
        _ => {
            return Err("give all-unauthenticated, all-authenticated, cluster-unauthenticated, \
                        cluster-authenticated, deny or audit"
                .into());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &[(&str, &str)] = &[
        ("LINKERD2_PROXY_DESTINATION_SVC_ADDR", "127.0.0.1:8086"),
        ("LINKERD2_PROXY_POLICY_SVC_ADDR", "localhost:8090"),
        ("LINKERD2_PROXY_IDENTITY_SVC_ADDR", "linkerd-identity:8080"),
        ("LINKERD2_PROXY_IDENTITY_SVC_NAME", "linkerd-identity.linkerd.example"),
        ("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", "web.ns.serviceaccount.identity.linkerd.example"),
        ("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", "/token"),
        ("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", "-----BEGIN CERTIFICATE-----"),
        ("LINKERD2_PROXY_POLICY_WORKLOAD", "ns:web-1"),
    ];

    fn read_with(changes: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        read(&|name| {
            let of = |list: &[(&str, &str)]| {
                list.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string())
            };
            of(changes).or_else(|| of(MINIMAL))
        })
    }

    #[test]
    fn the_defaults_are_linkerds() {
        let config = read_with(&[]).unwrap();
        let outbound = config.outbound.unwrap();
        assert_eq!(outbound.listeners[0].at, local(4140));
        assert_eq!(outbound.failfast_timeout, 3 * SECOND);
        let inbound = config.inbound.unwrap();
        assert_eq!(inbound.direct_port, 4143);
        assert_eq!(inbound.connect.timeout, Duration::from_millis(300));
        assert!(config.discovery.policy.tls.is_none());
        assert!(config.identity.service.tls.is_some());
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_remedy() {
        let errors = read_with(&[
            ("LINKERD2_PROXY_POLICY_SVC_ADDR", "linkerd-policy:8090"),
            ("LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT", "10"),
            ("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", ""),
            ("WEFT_OUTBOUND_LISTENERS", "9001=web"),
            ("WEFT_MODE", "sideways"),
        ])
        .unwrap_err();
        insta::assert_snapshot!(errors.to_string(), @r#"
        invalid configuration:
          WEFT_MODE="sideways" is not valid: give both, outbound or inbound
          WEFT_OUTBOUND_LISTENERS="9001=web" is not valid: "9001=web": give LISTEN=HOST:PORT, such as 127.0.0.1:9001=web.default.svc.cluster.local:80
          LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT="10" is not valid: give a unit: ms, s, m, h or d
          LINKERD2_PROXY_IDENTITY_LOCAL_NAME="" is not valid: give this workload's identity, such as web.emojivoto.serviceaccount.identity.linkerd.cluster.local
          LINKERD2_PROXY_POLICY_SVC_NAME is not set: give the service's identity
        "#);
    }

    #[test]
    fn explicit_listeners_are_read() {
        let config = read_with(&[
            ("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "none"),
            ("WEFT_OUTBOUND_LISTENERS", "127.0.0.1:9001=web.ns.svc.cluster.local:80"),
            ("WEFT_OUTBOUND_HTTP_PROXY_LISTEN_ADDRS", "127.0.0.1:4141"),
            ("WEFT_INBOUND_LISTENERS", "0.0.0.0:8080=127.0.0.1:8081"),
        ])
        .unwrap();
        let listeners = config.outbound.unwrap().listeners;
        assert_eq!(listeners.len(), 2);
        assert_eq!(listeners[1].destination, OutboundDestination::HttpProxy);
        assert_eq!(
            config.inbound.unwrap().listeners[1].forward,
            Some("127.0.0.1:8081".parse().unwrap())
        );
    }

    #[test]
    fn a_mode_leaves_the_other_direction_out() {
        let config = read_with(&[("WEFT_MODE", "inbound")]).unwrap();
        assert!(config.outbound.is_none() && config.inbound.is_some());
    }

    #[test]
    fn every_variable_that_is_read_is_documented() {
        let documentation = include_str!("../../../../docs/environment.md");
        let asked = RefCell::new(std::collections::BTreeSet::new());
        let minimal = |name: &str| {
            asked.borrow_mut().insert(name.to_string());
            let found = MINIMAL.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| value.to_string())
        };
        read(&minimal).unwrap();
        let missing: Vec<String> = asked
            .into_inner()
            .into_iter()
            .filter(|name| !documentation.contains(&format!("`{name}`")))
            .collect();
        assert!(missing.is_empty(), "not in docs/environment.md: {missing:#?}");
    }
}
