//! The way out and the way in: their times, bounds and sockets, with Linkerd's defaults.

use std::time::Duration;

use super::{Env, SECOND, ip_addr};
use crate::model::client_policy::Backoff;
use crate::model::protocol::KeepAlive;
use crate::model::ratio::Ratio;
use crate::proxy::config::{Connect, DefaultPolicy, Inbound, Outbound, parse};
use crate::runtime::net::{ListenOptions, TcpOptions};
use crate::wire::http::server::ServerOptions;

impl Env<'_> {
    pub(super) fn outbound(&self) -> Option<Outbound> {
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

    pub(super) fn inbound(&self) -> Option<Inbound> {
        if !self.mode_takes("inbound") {
            return None;
        }
        let listeners = self.inbound_listeners();
        Some(Inbound {
            direct_port: listeners[0].at.port(),
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
            race_server_first: self.flag("WEFT_INBOUND_RACE_SERVER_FIRST", true),
            authority_labels: (self.variable)("LINKERD2_PROXY_INBOUND_METRICS_AUTHORITY_LABELS")
                .is_some_and(|value| value == "unsafe"),
        })
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
