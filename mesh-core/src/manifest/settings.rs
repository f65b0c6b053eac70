//! What one pod's sidecar is to be: the installation's values with what annotations want otherwise.
//!
//! Law: a value that cannot be used is an error that names the annotation and what it takes; none
//! is passed over.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::api::core::v1::EnvVar;

use super::annotations::names_of;
use super::values::Values;
use crate::resource::duration;

/// What may hold for ports that no Server selects.
pub(super) const DEFAULT_POLICIES: [&str; 8] = [
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "all-tls-unauthenticated",
    "cluster-tls-unauthenticated",
    "audit",
    "deny",
];

/// As the proxy takes it.
const TAP_BODY_BYTES_MAX: u32 = 64 * 1024;

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

/// An annotation whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {name}: `{value}` cannot be used; it takes {wanted}")]
pub struct BadAnnotation {
    /// Its whole name.
    pub name: String,
    /// What it says.
    pub value: String,
    /// What it takes.
    pub wanted: &'static str,
}

/// What one pod's sidecar is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The installation's values, overridden.
    pub values: Values,
    /// Destinations are taken from the `l5d-dst-override` header.
    pub ingress: bool,
    /// The application's ports; none: those its containers declare.
    pub pod_inbound_ports: Option<String>,
    /// Ports on which clients must have an identity.
    pub require_identity_inbound_ports: Option<String>,
    /// Also profiles of names outside of the cluster are asked for.
    pub enable_external_profiles: bool,
    /// Detection waits for as long as it takes.
    pub disable_outbound_detect_timeout: bool,
    /// As above, for clients' connections.
    pub disable_inbound_detect_timeout: bool,
    /// Names of hosts are labels of metrics.
    pub hostname_labels: bool,
    /// A gateway for other clusters.
    pub gateway: bool,
    /// Destinations and policies are served in the pod itself.
    pub local_destination: bool,
    /// Certificates are issued in the pod itself.
    pub local_identity: bool,
    /// A container with tools runs beside the sidecar: its image.
    pub debug_image: Option<String>,
    /// Threads of the sidecar, as a share of the node's cores.
    pub cores_max_ratio: Option<String>,
    /// Who may tap the sidecar; none: nobody.
    pub tap_service: Option<String>,
    /// How much of each body a tap may be shown, in bytes.
    pub tap_body_bytes: u32,
    /// What the pod says of itself to a collector of spans, one `NAME=VALUE` a line.
    pub trace_attributes: String,
    /// Further variables of the sidecar, which win over its own.
    pub additional_env: Vec<EnvVar>,
}

impl Settings {
    /// An installation's values with what the annotations of a pod want otherwise, over those of
    /// its namespace.
    ///
    /// # Errors
    /// Every annotation that cannot be used.
    pub fn new(
        values: &Values,
        namespace: &BTreeMap<String, String>,
        pod: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<BadAnnotation>> {
        let mut settings = Self::of_values(values);
        let mut read = Annotations { namespace, pod, bad: Vec::new() };
        settings.images(&mut read);
        settings.listeners(&mut read);
        settings.resources(&mut read);
        settings.behaviour(&mut read);
        settings.times(&mut read);
        settings.trace_attributes = trace_attributes(pod);
        if read.bad.is_empty() { Ok(settings) } else { Err(read.bad) }
    }

    /// What the installation alone says.
    pub(super) fn of_values(values: &Values) -> Self {
        let proxy = &values.proxy;
        let said = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let env = proxy.additional_env.iter();
        Self {
            values: values.clone(),
            ingress: proxy.is_ingress,
            pod_inbound_ports: said(&proxy.pod_inbound_ports),
            require_identity_inbound_ports: said(&proxy.require_identity_on_inbound_ports),
            enable_external_profiles: proxy.enable_external_profiles,
            disable_outbound_detect_timeout: proxy.disable_outbound_protocol_detect_timeout,
            disable_inbound_detect_timeout: proxy.disable_inbound_protocol_detect_timeout,
            hostname_labels: proxy.metrics.hostname_labels,
            gateway: proxy.is_gateway,
            local_destination: false,
            local_identity: false,
            debug_image: None,
            tap_service: values.viz.enabled.then(|| values.identity("linkerd-viz")),
            tap_body_bytes: 0,
            cores_max_ratio: proxy.runtime.workers.maximum_cpu_ratio.map(|r| r.to_string()),
            trace_attributes: String::new(),
            additional_env: env
                .filter_map(|variable| serde_json::from_value(variable.clone()).ok())
                .collect(),
        }
    }

    fn images(&mut self, read: &mut Annotations<'_>) {
        let Values {
            proxy, proxy_init, image_pull_policy, linkerd_version, debug_container, ..
        } = &mut self.values;
        for image in [&mut proxy.image, &mut proxy_init.image] {
            read.text("proxy-image", &mut image.name);
            read.text("proxy-version", &mut image.version);
        }
        read.choice("image-pull-policy", &PULL_POLICIES, image_pull_policy);
        let mut is_debugged = false;
        read.truth("enable-debug-sidecar", &mut is_debugged);
        if is_debugged {
            let image = &mut debug_container.image;
            read.text("debug-image", &mut image.name);
            read.text("debug-image-version", &mut image.version);
            let version = if image.version.is_empty() { linkerd_version } else { &image.version };
            self.debug_image = Some(format!("{}:{version}", image.name));
            read.choice("debug-image-pull-policy", &PULL_POLICIES, &mut image.pull_policy);
        }
    }

    fn listeners(&mut self, read: &mut Annotations<'_>) {
        let Values { proxy, proxy_init, .. } = &mut self.values;
        let ports = &mut proxy.ports;
        read.port("admin-port", &mut ports.admin);
        read.port("control-port", &mut ports.control);
        read.port("inbound-port", &mut ports.inbound);
        read.port("outbound-port", &mut ports.outbound);
        read.ports("opaque-ports", &mut proxy.opaque_ports);
        read.ports("skip-inbound-ports", &mut proxy_init.ignore_inbound_ports);
        read.ports("skip-outbound-ports", &mut proxy_init.ignore_outbound_ports);
        read.networks("skip-subnets", &mut proxy_init.skip_subnets);
        let mut inbound = self.pod_inbound_ports.take().unwrap_or_default();
        let mut identity = self.require_identity_inbound_ports.take().unwrap_or_default();
        read.ports("pod-inbound-ports", &mut inbound);
        read.ports("proxy-require-identity-inbound-ports", &mut identity);
        self.pod_inbound_ports = Some(inbound).filter(|ports| !ports.is_empty());
        self.require_identity_inbound_ports = Some(identity).filter(|ports| !ports.is_empty());
    }

    fn resources(&mut self, read: &mut Annotations<'_>) {
        let resources = &mut self.values.proxy.resources;
        read.quantity("proxy-cpu-request", &mut resources.cpu.request);
        read.quantity("proxy-cpu-limit", &mut resources.cpu.limit);
        read.quantity("proxy-memory-request", &mut resources.memory.request);
        read.quantity("proxy-memory-limit", &mut resources.memory.limit);
        let storage = &mut resources.ephemeral_storage;
        read.quantity("proxy-ephemeral-storage-request", &mut storage.request);
        read.quantity("proxy-ephemeral-storage-limit", &mut storage.limit);
        let share = read.parsed("proxy-cpu-ratio-limit", "a share from 0 to 1", |text| {
            let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
            share.map(|_: f64| text.to_string())
        });
        self.cores_max_ratio = share.or(self.cores_max_ratio.take());
    }

    fn behaviour(&mut self, read: &mut Annotations<'_>) {
        let Values { proxy, .. } = &mut self.values;
        read.number("proxy-uid", &mut proxy.uid);
        read.number("proxy-gid", &mut proxy.gid);
        read.text("proxy-log-level", &mut proxy.log_level);
        read.choice("proxy-log-format", &["plain", "json"], &mut proxy.log_format);
        read.choice("access-log", &["apache", "json"], &mut proxy.access_log);
        let policy = &mut proxy.default_inbound_policy;
        read.choice("default-inbound-policy", &DEFAULT_POLICIES, policy);
        read.enabled("proxy-admin-shutdown", &mut proxy.enable_shutdown_endpoint);
        read.enabled("proxy-await", &mut proxy.await_ready);
        read.truth("proxy-enable-native-sidecar", &mut proxy.native_sidecar);
        read.truth("enable-external-profiles", &mut self.enable_external_profiles);
        let disables = &mut self.disable_outbound_detect_timeout;
        read.truth("proxy-disable-outbound-protocol-detect-timeout", disables);
        let disables = &mut self.disable_inbound_detect_timeout;
        read.truth("proxy-disable-inbound-protocol-detect-timeout", disables);
        read.truth("proxy-metrics-hostname-labels", &mut self.hostname_labels);
        read.truth("enable-gateway", &mut self.gateway);
        let mut is_untapped = false;
        read.truth("disable-tap", &mut is_untapped);
        self.tap_service = self.tap_service.take().filter(|_| !is_untapped);
        read.set("tap-body-bytes", &mut self.tap_body_bytes, "bytes, 65536 at most", |text| {
            text.parse().ok().filter(|bytes| *bytes <= TAP_BODY_BYTES_MAX)
        });
        self.ingress |=
            read.pod.get(super::annotations::INJECT).is_some_and(|mode| mode == "ingress");
        // Known, and without effect: this proxy logs no headers.
        read.choice("proxy-log-http-headers", &["off", "insecure"], &mut proxy.log_http_headers);
        let wanted = "a list of variables in JSON: [{\"name\": \"A\", \"value\": \"b\"}]";
        let env = read.parsed("proxy-additional-env", wanted, |t| serde_json::from_str(t).ok());
        if let Some(env) = env {
            self.additional_env = env;
        }
    }

    fn times(&mut self, read: &mut Annotations<'_>) {
        let Values { proxy, proxy_init, .. } = &mut self.values;
        read.duration("proxy-inbound-connect-timeout", &mut proxy.inbound_connect_timeout);
        read.duration("proxy-outbound-connect-timeout", &mut proxy.outbound_connect_timeout);
        let kept = &mut proxy.inbound_discovery_cache_unused_timeout;
        read.duration("proxy-inbound-discovery-cache-unused-timeout", kept);
        let kept = &mut proxy.outbound_discovery_cache_unused_timeout;
        read.duration("proxy-outbound-discovery-cache-unused-timeout", kept);
        read.duration("shutdown-grace-period", &mut proxy.shutdown_grace_period);
        read.number("proxy-wait-before-exit-seconds", &mut proxy.wait_before_exit_seconds);
        if let Some(secs) = read.parsed("close-wait-timeout", "a duration such as 30s", |text| {
            duration::parse(text).and_then(|time| u32::try_from(time.as_secs()).ok())
        }) {
            proxy_init.close_wait_timeout_secs = secs;
        }
    }
}

/// Annotations `resource.opentelemetry.io/NAME` of a pod, as lines.
fn trace_attributes(pod: &BTreeMap<String, String>) -> String {
    let named = pod.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("resource.opentelemetry.io/")?;
        // A line ends where it ends: a value of two would be two attributes.
        Some(format!("{name}={}\n", value.replace(['\n', '\r'], " ")))
    });
    named.collect()
}

/// Annotations of a pod and its namespace, and what was wrong with them.
struct Annotations<'a> {
    namespace: &'a BTreeMap<String, String>,
    pod: &'a BTreeMap<String, String>,
    bad: Vec<BadAnnotation>,
}

impl Annotations<'_> {
    /// What an annotation says: the stable name, else one in trial; the pod's before the namespace's.
    fn find(&self, name: &str) -> Option<(String, String)> {
        [self.pod, self.namespace].into_iter().find_map(|annotations| {
            let mut names = names_of(name);
            names.find_map(|name| Some((annotations.get(&name)?.trim().to_string(), name)))
        })
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        wanted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (value, name) = self.find(name)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.bad.push(BadAnnotation { name, value, wanted });
        }
        parsed
    }

    fn set<T>(
        &mut self,
        name: &str,
        into: &mut T,
        wanted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) {
        if let Some(value) = self.parsed(name, wanted, parse) {
            *into = value;
        }
    }

    fn text(&mut self, name: &str, into: &mut String) {
        self.set(name, into, "a text", |text| (!text.is_empty()).then(|| text.to_string()));
    }

    fn choice(&mut self, name: &str, choices: &'static [&'static str], into: &mut String) {
        let wanted = match choices {
            ["plain", "json"] => "one of: plain, json",
            ["apache", "json"] => "one of: apache, json",
            ["off", "insecure"] => "one of: off, insecure",
            ["Always", ..] => "one of: Always, IfNotPresent, Never",
            _ => {
                "one of: all-unauthenticated, all-authenticated, cluster-unauthenticated, \
                 cluster-authenticated, all-tls-unauthenticated, cluster-tls-unauthenticated, \
                 audit, deny"
            }
        };
        self.set(name, into, wanted, |text| choices.contains(&text).then(|| text.to_string()));
    }

    fn port(&mut self, name: &str, into: &mut u16) {
        self.set(name, into, "a port from 1 to 65535", |text| text.parse().ok().filter(|p| *p > 0));
    }

    fn number<T: FromStr>(&mut self, name: &str, into: &mut T) {
        self.set(name, into, "a number", |text| text.parse().ok());
    }

    fn ports(&mut self, name: &str, into: &mut String) {
        let wanted = "ports and ranges separated by commas: 25,80-90";
        self.set(name, into, wanted, |text| are_ports(text).then(|| text.replace(' ', "")));
    }

    fn networks(&mut self, name: &str, into: &mut String) {
        let is_network = |text: &str| text.trim().parse::<ipnet::IpNet>().is_ok();
        self.set(name, into, "networks separated by commas: 10.0.0.0/8", |text| {
            text.split(',').all(is_network).then(|| text.replace(' ', ""))
        });
    }

    fn quantity(&mut self, name: &str, into: &mut String) {
        self.set(name, into, "a quantity such as 100m, 20Mi or 1Gi", |text| {
            is_quantity(text).then(|| text.to_string())
        });
    }

    fn duration(&mut self, name: &str, into: &mut String) {
        self.set(name, into, "a duration such as 100ms, 10s or 5m", |text| {
            duration::parse(text).map(|_| text.to_string())
        });
    }

    fn truth(&mut self, name: &str, into: &mut bool) {
        self.set(name, into, "true or false", |text| text.parse().ok());
    }

    /// `enabled` and `disabled`, and what a boolean is.
    fn enabled(&mut self, name: &str, into: &mut bool) {
        self.set(name, into, "enabled or disabled", |text| match text {
            "enabled" | "true" => Some(true),
            "disabled" | "false" => Some(false),
            _ => None,
        });
    }
}

/// `25,80-90`. Nothing is a list of no ports.
pub(super) fn are_ports(text: &str) -> bool {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let is_range = |text: &str| match text.split_once('-') {
        None => port(text).is_some(),
        Some((first, last)) => match (port(first), port(last)) {
            (Some(first), Some(last)) => first <= last,
            _ => false,
        },
    };
    text.is_empty() || text.split(',').all(is_range)
}

/// A number with a unit of Kubernetes.
pub(super) fn is_quantity(text: &str) -> bool {
    const UNITS: [&str; 15] =
        ["m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "n", "u"];
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let is_number = digits.parse::<f64>().is_ok_and(|number| number >= 0.0 && number.is_finite());
    is_number && (unit.is_empty() || UNITS.contains(&unit))
}
