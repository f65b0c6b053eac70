//! The mesh's own programs in a world: the same code that ships, started as their binaries start
//! it, with what an installation would have given them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use mesh_core::control::metrics::ControlMetrics;
use mesh_core::control::token::AUDIENCE;
use mesh_core::control::{ControlConfig, Controller, VizConfig, state};
use mesh_core::proxy::{self, EndpointsSlot, Process, TelemetrySlot, config::Config};
use mesh_core::runtime::Runtime;
use mesh_core::wire::http::DrainWatch;

use crate::cluster::ApiServer;
use crate::files::MemoryFiles;
use crate::lock;

use super::kubernetes::{CONTROL_NAMESPACE, PodPlan};
use super::oracle::PodFacts;
use super::scenario::{Component, Lifetimes};

/// The process of a controller.
pub(super) const CONTROLLER: &str = "controller";
/// Where a controller answers people of its host.
pub(super) const VIZ: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8084);
const STATE_DIRECTORY: &str = "/var/lib/weft";

/// A file of a controller's state.
pub(super) fn state_file(name: &str) -> PathBuf {
    Path::new(STATE_DIRECTORY).join(name)
}

/// The address of the control plane's services.
const SERVICES_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 255, 1));

/// The address of an API's service.
pub(super) fn component_address(component: Component) -> SocketAddr {
    SocketAddr::new(SERVICES_IP, component.port())
}

/// The name of an API's service, by which proxies know it.
pub(super) fn component_name(component: Component) -> String {
    let service = match component {
        Component::Destination => "linkerd-dst",
        Component::Policy => "linkerd-policy",
        Component::Identity => "linkerd-identity",
    };
    format!("{service}.{CONTROL_NAMESPACE}.svc.cluster.local")
}

/// Where what a proxy counts and what endpoints it knows are found once it has them.
pub(super) type Seen = (TelemetrySlot, EndpointsSlot);

/// Pods whose proxies have finished: their processes end, as the program does.
pub(super) type Ended = Arc<Mutex<Vec<Arc<str>>>>;

/// Where what a controller counts is found once it has its ports.
pub(super) type MetricsSlot = Arc<OnceLock<Arc<ControlMetrics>>>;

/// Starts a controller.
pub(super) fn start_controller(
    runtime: &Runtime,
    name: &str,
    lifetimes: &Lifetimes,
    has_viz: bool,
    drain: DrainWatch,
) -> MetricsSlot {
    let viz = has_viz.then(|| VizConfig::new(VIZ));
    let mut config = ControlConfig { viz, ..ControlConfig::default() };
    config.identity.state_directory = PathBuf::from(STATE_DIRECTORY);
    config.lease.holder = name.to_owned();
    if let Some(leaf) = lifetimes.leaf {
        config.identity.certificate_lifetime = leaf.0;
    }
    let inner = runtime.clone();
    let metrics = MetricsSlot::default();
    let slot = metrics.clone();
    runtime.spawn("controller", async move {
        match Controller::bind(inner, config).await {
            Ok(controller) => {
                let _ = slot.set(controller.metrics());
                controller.serve(drain).await;
            }
            // In a world nobody reads logs: what keeps the controller from starting must be seen.
            Err(error) => panic!("the controller cannot start: {error}"),
        }
    });
    metrics
}

/// The trust anchors that the controller made on its first start, once it has made all its state.
pub(super) fn trust_anchors(files: &MemoryFiles) -> Option<String> {
    let content = |name: &str| files.content(&Path::new(STATE_DIRECTORY).join(name));
    content(state::TOKEN_KEY)?;
    String::from_utf8(content(state::ANCHORS)?).ok()
}

/// Gives a controller the state of another.
pub(super) fn share_state(of: &MemoryFiles, with: &MemoryFiles) {
    let files =
        [state::ANCHORS, state::ANCHOR_KEY, state::ISSUER, state::ISSUER_KEY, state::TOKEN_KEY];
    for file in files {
        let path = Path::new(STATE_DIRECTORY).join(file);
        if let Some(content) = of.content(&path) {
            with.put(path, &content);
        }
    }
}

const TOKEN_FILE: &str = "/var/run/secrets/tokens/linkerd-identity-token";

/// What an installation gives every proxy.
#[derive(Clone, Copy)]
pub(super) struct Installed<'a> {
    pub(super) trust_anchors: &'a str,
    /// The control plane may tap.
    pub(super) has_taps: bool,
}

/// Starts a pod's proxy, with the environment that the injector would have given it.
pub(super) fn start_proxy(
    runtime: &Runtime,
    files: &MemoryFiles,
    api: &ApiServer,
    pod: &PodPlan,
    installed: Installed<'_>,
    drain: DrainWatch,
    ended: &Ended,
) -> Result<Seen, String> {
    let audience = pod.token_audience().unwrap_or(AUDIENCE);
    let token = api.issue_token(&pod.namespace, &pod.account, audience);
    files.put(TOKEN_FILE, token.as_bytes());
    let environment = environment(pod, installed);
    let config = Config::from_env(&|name| environment.get(name).cloned())
        .map_err(|errors| format!("pod {}: {errors}", pod.name))?;
    let process = Process::default();
    let seen = (process.telemetry.clone(), process.endpoints.clone());
    let inner = runtime.clone();
    let (name, ended) = (pod.name.clone(), ended.clone());
    runtime.spawn("proxy", async move {
        if let Err(error) = proxy::run(inner, config, process, drain).await {
            panic!("the proxy cannot start: {error}");
        }
        lock(&ended).push(name);
    });
    Ok(seen)
}

/// Who may tap: the control plane, as where it has no sidecar.
pub(super) fn tap_service() -> String {
    identity("linkerd-destination", CONTROL_NAMESPACE)
}

fn identity(account: &str, namespace: &str) -> String {
    format!("{account}.{namespace}.serviceaccount.identity.{CONTROL_NAMESPACE}.cluster.local")
}

/// What oracles know of a pod.
pub(super) fn facts(pod: &PodPlan) -> PodFacts {
    PodFacts {
        deployment: pod.deployment.clone(),
        identity: pod.meshed.then(|| identity(&pod.account, &pod.namespace)),
    }
}

fn environment(pod: &PodPlan, installed: Installed<'_>) -> BTreeMap<String, String> {
    let workload = format!("{{\"ns\":\"{}\",\"pod\":\"{}\"}}", pod.namespace, pod.name);
    let mut environment = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        environment.insert(format!("LINKERD2_PROXY_{name}"), value);
    };
    for component in Component::ALL {
        let (api, name) = (component.service(), component_name(component));
        let account = format!("linkerd-{}", api.to_ascii_lowercase());
        set(&format!("{api}_SVC_ADDR"), format!("{name}:{}", component.port()));
        set(&format!("{api}_SVC_NAME"), identity(&account, CONTROL_NAMESPACE));
    }
    set("IDENTITY_LOCAL_NAME", identity(&pod.account, &pod.namespace));
    set("IDENTITY_TRUST_ANCHORS", installed.trust_anchors.to_owned());
    if installed.has_taps {
        set("TAP_SVC_NAME", tap_service());
    }
    set("IDENTITY_TOKEN_FILE", TOKEN_FILE.to_owned());
    let (ns, node, name) = (&pod.namespace, &pod.node, &pod.name);
    let context = format!("{{\"ns\":\"{ns}\",\"nodeName\":\"{node}\",\"pod\":\"{name}\"}}");
    set("DESTINATION_CONTEXT", context);
    set("POLICY_WORKLOAD", workload);
    set("INBOUND_IPS", pod.ip.to_string());
    set("INBOUND_PORTS", pod.port.to_string());
    set("ADMIN_LISTEN_ADDR", "0.0.0.0:4191".to_owned());
    if let Some(policy) = pod.default_inbound_policy() {
        set("INBOUND_DEFAULT_POLICY", policy.to_owned());
    }
    // As the chart has them.
    for side in ["INBOUND_ACCEPT", "OUTBOUND_CONNECT"] {
        set(&format!("{side}_KEEPALIVE"), "10s".to_owned());
        set(&format!("{side}_USER_TIMEOUT"), "30s".to_owned());
    }
    environment
        .extend(pod.proxy_variables().map(|(name, value)| (name.to_owned(), value.to_owned())));
    environment
}
