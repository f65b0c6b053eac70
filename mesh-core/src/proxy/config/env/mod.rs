//! Reads the configuration out of environment variables. All faults are collected.
//!
//! Here: the whole, and how one variable is read. `directions` reads the way out and the way in,
//! `listeners` where traffic arrives, `control` who this workload is and whom it asks.

mod control;
mod directions;
mod listeners;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Admin, Config, parse};
use crate::telemetry::LABEL_SETS_MAX;
use crate::telemetry::access_log::AccessLogFormat;

/// Linkerd's variables that this proxy does not act on: some it does not support yet, the last four
/// nothing reads in Linkerd's own either. Set, they are warned about.
const INERT: &[&str] = &[
    "LINKERD2_PROXY_INGRESS_MODE",
    "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES",
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
        tap: env.tap(),
        identity: env.identity(),
        discovery: env.discovery(),
        shutdown_grace_period: env.time("LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD", 120 * SECOND),
        access_log: env.optional("LINKERD2_PROXY_ACCESS_LOG", access_log).flatten(),
        metrics_retain_idle: env.time("LINKERD2_PROXY_METRICS_RETAIN_IDLE", 600 * SECOND),
        metrics_label_sets_max: env.count("WEFT_METRICS_LABEL_SETS_MAX", LABEL_SETS_MAX),
        tracing: env.tracing(),
        inert: INERT
            .iter()
            .filter(|name| variable(name).is_some())
            .map(ToString::to_string)
            .collect(),
    };
    env.refuse_loops(&config);
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

fn ip_addr(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "give an IP address".into())
}

fn access_log(text: &str) -> Result<Option<AccessLogFormat>, String> {
    match text {
        "apache" => Ok(Some(AccessLogFormat::Apache)),
        "json" => Ok(Some(AccessLogFormat::Json)),
        "none" => Ok(None),
        _ => Err("give apache, json or none".into()),
    }
}
