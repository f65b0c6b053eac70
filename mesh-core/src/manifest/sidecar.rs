//! The sidecar as Kubernetes wants it: its container, the init container that redirects the pod's
//! traffic to it, and their volumes. The names are Linkerd's, which people and tools look for.

use serde_json::{Map, Value, json};

use super::settings::Settings;
use super::values::{Quantities, Resources, Values};

/// The sidecar's container.
pub(super) const PROXY: &str = "linkerd-proxy";
/// What redirects traffic.
pub(super) const INIT: &str = "linkerd-init";
/// What checks that a CNI plugin has redirected it.
pub(super) const VALIDATOR: &str = "linkerd-network-validator";
/// Tools.
pub(super) const DEBUG: &str = "linkerd-debug";
/// Every container that an injection adds.
pub(super) const CONTAINERS: [&str; 4] = [PROXY, INIT, VALIDATOR, DEBUG];

const XTABLES_LOCK: &str = "linkerd-proxy-init-xtables-lock";
const END_ENTITY: &str = "linkerd-identity-end-entity";
const TOKEN: &str = "linkerd-identity-token";
/// Every volume that an injection adds.
pub(super) const VOLUMES: [&str; 3] = [XTABLES_LOCK, END_ENTITY, TOKEN];

const END_ENTITY_PATH: &str = "/var/run/linkerd/identity/end-entity";
const TOKEN_PATH: &str = "/var/run/secrets/tokens";
const TOKEN_SECONDS: u32 = 86_400;
const TOKEN_AUDIENCE: &str = "identity.l5d.io";

/// The volumes of the sidecar and of what redirects to it.
pub(super) fn volumes(settings: &Settings) -> Vec<Value> {
    let mut volumes = Vec::new();
    if !settings.values.cni_enabled {
        volumes.push(json!({"name": XTABLES_LOCK, "emptyDir": {}}));
    }
    volumes.push(json!({"name": END_ENTITY, "emptyDir": {"medium": "Memory"}}));
    let token = json!({"serviceAccountToken": {
        "path": TOKEN, "expirationSeconds": TOKEN_SECONDS, "audience": TOKEN_AUDIENCE,
    }});
    volumes.push(json!({"name": TOKEN, "projected": {"sources": [token]}}));
    volumes
}

/// What runs before everything else: it redirects the pod's traffic, or checks that a CNI plugin
/// has done so.
pub(super) fn init(settings: &Settings) -> Value {
    let values = &settings.values;
    let (proxy, init) = (&values.proxy, &values.proxy_init);
    let image = values.reference(&init.image);
    let pull_policy = values.pull_policy(&init.image);
    let resources = resources(&init.resources);
    if values.cni_enabled {
        let listen = format!("0.0.0.0:{}", proxy.ports.outbound);
        return json!({
            "name": VALIDATOR, "image": image, "imagePullPolicy": pull_policy,
            "command": ["weft-init"],
            "args": ["validate", "--connect-addr", "1.1.1.1:20001", "--listen-addr", listen],
            "resources": resources,
            "securityContext": restricted(65_534, -1),
            "terminationMessagePolicy": "FallbackToLogsOnError",
        });
    }
    let own = format!("{},{}", proxy.ports.control, proxy.ports.admin);
    let mut arguments = vec![
        format!("--firewall-mode={}", init.iptables_mode),
        format!("--incoming-proxy-port={}", proxy.ports.inbound),
        format!("--outgoing-proxy-port={}", proxy.ports.outbound),
        format!("--proxy-uid={}", proxy.uid),
        format!("--inbound-ports-to-ignore={}", joined(&own, &init.ignore_inbound_ports)),
        format!("--outbound-ports-to-ignore={}", init.ignore_outbound_ports),
    ];
    if proxy.gid >= 0 {
        arguments.push(format!("--proxy-gid={}", proxy.gid));
    }
    if !init.skip_subnets.is_empty() {
        arguments.push(format!("--subnets-to-ignore={}", init.skip_subnets));
    }
    if init.close_wait_timeout_secs > 0 {
        arguments.push(format!("--timeout-close-wait-secs={}", init.close_wait_timeout_secs));
    }
    if values.disable_ipv6 {
        arguments.push("--ipv6=false".into());
    }
    let sets_kernel = init.close_wait_timeout_secs > 0;
    json!({
        "name": INIT, "image": image, "imagePullPolicy": pull_policy,
        "command": ["weft-init"], "args": arguments, "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": sets_kernel,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": sets_kernel,
            "readOnlyRootFilesystem": true,
            // The kernel gives added capabilities to no other user.
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"mountPath": "/run", "name": XTABLES_LOCK}],
    })
}

/// The sidecar. `ports`: those of the application's containers.
pub(super) fn proxy(settings: &Settings, ports: &str) -> Value {
    let values = &settings.values;
    let proxy = &values.proxy;
    let is_native = proxy.native_sidecar;
    let probe = |path: &str| json!({"path": path, "port": proxy.ports.admin});
    let mut container = json!({
        "name": PROXY,
        "image": values.reference(&proxy.image),
        "imagePullPolicy": values.pull_policy(&proxy.image),
        "command": ["weft-proxy"],
        "env": env(settings, ports),
        "ports": [
            {"containerPort": proxy.ports.inbound, "name": "linkerd-proxy"},
            {"containerPort": proxy.ports.admin, "name": "linkerd-admin"},
        ],
        "livenessProbe": {"httpGet": probe("/live"), "initialDelaySeconds": 10, "timeoutSeconds": 1},
        "readinessProbe": {"httpGet": probe("/ready"), "initialDelaySeconds": 2, "timeoutSeconds": 1},
        "securityContext": restricted(proxy.uid, proxy.gid),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"mountPath": END_ENTITY_PATH, "name": END_ENTITY},
            {"mountPath": TOKEN_PATH, "name": TOKEN},
        ],
    });
    let resources = resources(&proxy.resources);
    if resources.as_object().is_some_and(|resources| !resources.is_empty()) {
        container["resources"] = resources;
    }
    let mut lifecycle = Map::new();
    if is_native {
        container["restartPolicy"] = "Always".into();
        container["startupProbe"] =
            json!({"httpGet": probe("/ready"), "periodSeconds": 1, "failureThreshold": 120});
    } else if proxy.await_ready {
        let port = format!("--port={}", proxy.ports.admin);
        let command = json!(["weft-init", "await", "--timeout=2m", port]);
        lifecycle.insert("postStart".into(), json!({"exec": {"command": command}}));
    }
    if proxy.wait_before_exit_seconds > 0 {
        let pause = proxy.wait_before_exit_seconds.to_string();
        let command = json!(["weft-init", "sleep", pause]);
        lifecycle.insert("preStop".into(), json!({"exec": {"command": command}}));
    }
    if !lifecycle.is_empty() {
        container["lifecycle"] = lifecycle.into();
    }
    container
}

/// A container with tools, beside the sidecar.
pub(super) fn debug(settings: &Settings, image: &str) -> Value {
    let values = &settings.values;
    let pull_policy = values.pull_policy(&values.debug_container.image);
    json!({
        "name": DEBUG, "image": image, "imagePullPolicy": pull_policy,
        "securityContext": {"capabilities": {"add": ["NET_RAW"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// The rights of a container that needs none.
pub(super) fn restricted(uid: u32, gid: i64) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "runAsUser": uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if gid >= 0 {
        context["runAsGroup"] = gid.into();
    }
    context
}

/// What a container may use, as Kubernetes writes it.
pub(super) fn resources(all: &Resources) -> Value {
    let of = |choose: fn(&Quantities) -> &String| {
        let named = [
            ("cpu", &all.cpu),
            ("memory", &all.memory),
            ("ephemeral-storage", &all.ephemeral_storage),
        ];
        let said = named.map(|(name, quantities)| (name, choose(quantities)));
        let said = said.into_iter().filter(|(_, quantity)| !quantity.is_empty());
        said.map(|(name, quantity)| (name.to_string(), Value::from(quantity.as_str()))).collect()
    };
    let named: [(&str, Map<String, Value>); 2] =
        [("requests", of(|q| &q.request)), ("limits", of(|q| &q.limit))];
    let named = named.into_iter().filter(|(_, quantities)| !quantities.is_empty());
    named
        .map(|(name, quantities)| (name.to_string(), quantities.into()))
        .collect::<Map<_, _>>()
        .into()
}

/// The sidecar's environment. Kubernetes expands `$(NAME)` from variables that come before.
fn env(settings: &Settings, ports: &str) -> Vec<Value> {
    let mut env = Env(Vec::new());
    pod(&mut env);
    listeners(&mut env, settings, ports);
    control_plane(&mut env, settings);
    behaviour(&mut env, settings);
    tracing(&mut env, settings);
    identity(&mut env, &settings.values);
    for variable in &settings.additional_env {
        env.0.retain(|known| known["name"] != variable.name.as_str());
        env.0.push(serde_json::to_value(variable).expect("a variable is plain data"));
    }
    env.0
}

fn pod(env: &mut Env) {
    for (name, path) in [
        ("_pod_name", "metadata.name"),
        ("_pod_ns", "metadata.namespace"),
        ("_pod_uid", "metadata.uid"),
        ("_pod_nodeName", "spec.nodeName"),
        ("_pod_sa", "spec.serviceAccountName"),
    ] {
        env.field(name, path);
    }
    env.field("LINKERD2_PROXY_INBOUND_IPS", "status.podIPs");
    let context = r#"{"ns":"$(_pod_ns)", "nodeName":"$(_pod_nodeName)", "pod":"$(_pod_name)"}"#;
    env.set("LINKERD2_PROXY_DESTINATION_CONTEXT", context);
    env.set("LINKERD2_PROXY_POLICY_WORKLOAD", r#"{"ns":"$(_pod_ns)", "pod":"$(_pod_name)"}"#);
}

fn listeners(env: &mut Env, settings: &Settings, ports: &str) {
    let values = &settings.values;
    let proxy = &values.proxy;
    let (any, outbound) = match values.disable_ipv6 {
        true => ("0.0.0.0", format!("127.0.0.1:{}", proxy.ports.outbound)),
        false => ("[::]", format!("127.0.0.1:{0},[::1]:{0}", proxy.ports.outbound)),
    };
    env.set("LINKERD2_PROXY_CONTROL_LISTEN_ADDR", format!("{any}:{}", proxy.ports.control));
    env.set("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", format!("{any}:{}", proxy.ports.admin));
    let first = format!("127.0.0.1:{}", proxy.ports.outbound);
    env.set("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", first);
    env.set("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS", outbound);
    env.set("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", format!("{any}:{}", proxy.ports.inbound));
    let ports = settings.pod_inbound_ports.as_deref().unwrap_or(ports);
    env.set("LINKERD2_PROXY_INBOUND_PORTS", ports);
    let opaque = &proxy.opaque_ports;
    env.set("LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", opaque.as_str());
    if let Some(ports) = &settings.require_identity_inbound_ports {
        env.set("LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY", ports.as_str());
    }
    for direction in ["INBOUND_ACCEPT", "OUTBOUND_CONNECT"] {
        env.set(&format!("LINKERD2_PROXY_{direction}_KEEPALIVE"), "10000ms");
        env.set(&format!("LINKERD2_PROXY_{direction}_USER_TIMEOUT"), "30s");
    }
    for direction in ["INBOUND", "OUTBOUND"] {
        let name = format!("LINKERD2_PROXY_{direction}_SERVER_HTTP2_KEEP_ALIVE");
        env.set(&format!("{name}_INTERVAL"), "10s");
        env.set(&format!("{name}_TIMEOUT"), "3s");
    }
}

fn control_plane(env: &mut Env, settings: &Settings) {
    let Settings { values, local_destination, local_identity, .. } = settings;
    for (name, service, port, account, is_local) in [
        ("DESTINATION", "linkerd-dst-headless", 8086, "linkerd-destination", local_destination),
        ("POLICY", "linkerd-policy", 8090, "linkerd-destination", local_destination),
        ("IDENTITY", "linkerd-identity-headless", 8080, "linkerd-identity", local_identity),
    ] {
        let address = match is_local {
            true => format!("localhost.:{port}"),
            false => values.service(service, port),
        };
        env.set(&format!("LINKERD2_PROXY_{name}_SVC_ADDR"), address);
        env.set(&format!("LINKERD2_PROXY_{name}_SVC_NAME"), values.identity(account));
    }
    if let Some(service) = &settings.tap_service {
        env.set("LINKERD2_PROXY_TAP_SVC_NAME", service.as_str());
        if settings.tap_body_bytes > 0 {
            env.set("WEFT_TAP_BODY_BYTES", settings.tap_body_bytes.to_string());
        }
    }
    let networks = values.cluster_networks.as_str();
    env.set("LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS", networks);
    env.set("LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS", networks);
    let streams = &values.proxy.control.streams;
    env.set("LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT", streams.initial_timeout.as_str());
    env.set("LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT", streams.idle_timeout.as_str());
    env.set("LINKERD2_PROXY_CONTROL_STREAM_LIFETIME", streams.lifetime.as_str());
}

fn behaviour(env: &mut Env, settings: &Settings) {
    let values = &settings.values;
    let proxy = &values.proxy;
    env.set("LINKERD2_PROXY_LOG", proxy.log_level.as_str());
    env.set("LINKERD2_PROXY_LOG_FORMAT", proxy.log_format.as_str());
    env.set("LINKERD2_PROXY_INBOUND_DEFAULT_POLICY", proxy.default_inbound_policy.as_str());
    env.set("LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED", proxy.enable_shutdown_endpoint.to_string());
    env.set("LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT", proxy.inbound_connect_timeout.as_str());
    env.set("LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT", proxy.outbound_connect_timeout.as_str());
    let kept = proxy.outbound_discovery_cache_unused_timeout.as_str();
    env.set("LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT", kept);
    let kept = proxy.inbound_discovery_cache_unused_timeout.as_str();
    env.set("LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT", kept);
    let suffixes = match settings.enable_external_profiles {
        true => ".".to_string(),
        false => format!("svc.{}.", values.cluster_domain),
    };
    env.set("LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES", suffixes);
    let cores_min = proxy.runtime.workers.minimum;
    let optional = [
        ("ACCESS_LOG", (!proxy.access_log.is_empty()).then(|| proxy.access_log.clone())),
        (
            "SHUTDOWN_GRACE_PERIOD",
            Some(&proxy.shutdown_grace_period).filter(|grace| !grace.is_empty()).cloned(),
        ),
        ("CORES_MIN", Some(cores_min).filter(|cores| *cores > 1).map(|cores| cores.to_string())),
        ("CORES_MAX_RATIO", settings.cores_max_ratio.clone()),
        ("INGRESS_MODE", settings.ingress.then(|| "true".into())),
        (
            "INBOUND_GATEWAY_SUFFIXES",
            settings.gateway.then(|| format!("svc.{}.", values.cluster_domain)),
        ),
        ("OUTBOUND_METRICS_HOSTNAME_LABELS", settings.hostname_labels.then(|| "true".into())),
        // Linkerd's word for never.
        (
            "OUTBOUND_DETECT_TIMEOUT",
            settings.disable_outbound_detect_timeout.then(|| "365d".into()),
        ),
        ("INBOUND_DETECT_TIMEOUT", settings.disable_inbound_detect_timeout.then(|| "365d".into())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            env.set(&format!("LINKERD2_PROXY_{name}"), value);
        }
    }
}

fn tracing(env: &mut Env, settings: &Settings) {
    let Settings { values, trace_attributes, .. } = settings;
    let tracing = &values.proxy.tracing;
    if !tracing.enabled {
        return;
    }
    let collector = &tracing.collector;
    let (namespace, domain) = (&values.linkerd_namespace, &values.identity_trust_domain);
    let (account, of) =
        (&collector.mesh_identity.service_account_name, &collector.mesh_identity.namespace);
    let name = format!("{account}.{of}.serviceaccount.identity.{namespace}.{domain}");
    env.set("LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR", collector.endpoint.as_str());
    env.set("LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME", name);
    env.set("LINKERD2_PROXY_TRACE_SERVICE_NAME", tracing.trace_service_name.as_str());
    let own = format!("{TRACE_ATTRIBUTES}{trace_attributes}");
    env.set("LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES", own);
}

/// What every sidecar says of itself to a collector of spans.
const TRACE_ATTRIBUTES: &str = "k8s.namespace.name=$(_pod_ns)\nk8s.pod.name=$(_pod_name)\n\
    k8s.pod.uid=$(_pod_uid)\nk8s.node.name=$(_pod_nodeName)\nk8s.container.name=linkerd-proxy\n";

fn identity(env: &mut Env, values: &Values) {
    let (namespace, domain) = (&values.linkerd_namespace, &values.identity_trust_domain);
    env.set("_l5d_ns", namespace.as_str());
    env.set("_l5d_trustdomain", domain.as_str());
    env.set("LINKERD2_PROXY_IDENTITY_DIR", END_ENTITY_PATH);
    match values.identity_trust_anchors_pem.as_str() {
        "" => env.0.push(json!({
            "name": "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS",
            "valueFrom": {"configMapKeyRef": {
                "name": "linkerd-identity-trust-roots", "key": "ca-bundle.crt",
            }},
        })),
        anchors => env.set("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", anchors),
    }
    env.set("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", format!("{TOKEN_PATH}/{TOKEN}"));
    let own = format!("$(_pod_sa).$(_pod_ns).serviceaccount.identity.{namespace}.{domain}");
    env.set("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", own);
}

struct Env(Vec<Value>);

impl Env {
    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(json!({"name": name, "value": value.into()}));
    }

    fn field(&mut self, name: &str, path: &str) {
        self.0.push(json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}));
    }
}

fn joined(first: &str, second: &str) -> String {
    match second {
        "" => first.to_string(),
        second => format!("{first},{second}"),
    }
}
