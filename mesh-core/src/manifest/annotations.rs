//! The annotations and labels that Linkerd's users write, by name. Not what they mean: that is
//! [`settings`](super::settings).

use std::collections::BTreeMap;

/// `enabled`, `ingress` or `disabled`, on pods and namespaces.
pub const INJECT: &str = "linkerd.io/inject";
/// What made the pod's sidecar.
pub const CREATED_BY: &str = "linkerd.io/created-by";
/// The sidecar's version.
pub const PROXY_VERSION: &str = "linkerd.io/proxy-version";
/// Which trust anchors the sidecar began with.
pub const TRUST_ROOT_SHA256: &str = "linkerd.io/trust-root-sha256";
/// The namespace of the control plane that a pod belongs to: a label.
pub const CONTROL_PLANE_NS: &str = "linkerd.io/control-plane-ns";
/// A pod's own namespace: a label.
pub const WORKLOAD_NS: &str = "linkerd.io/workload-ns";
/// `linkerd.io/proxy-deployment: web` and the like: labels.
pub const PROXY_OWNER_PREFIX: &str = "linkerd.io/proxy-";
/// What begins so is the mesh's own, but not its configuration.
pub const PREFIX: &str = "linkerd.io/";
/// What configures a sidecar begins so.
pub const CONFIG_PREFIX: &str = "config.linkerd.io/";
/// Opaque ports, on pods, services and namespaces.
pub const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";

/// No tap is served by the pod's sidecar.
pub const DISABLE_TAP: &str = "viz.linkerd.io/disable-tap";
/// How much of each body a tap may be shown, in bytes. Ours.
pub const TAP_BODY_BYTES: &str = "config.weft.sh/tap-body-bytes";

/// How long a sidecar goes on after it was told to end: in trial, as in Linkerd.
pub const WAIT_BEFORE_EXIT: &str = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds";

/// The names after [`CONFIG_PREFIX`].
const CONFIG: [&str; 47] = [
    "access-log",
    "admin-port",
    "admission-webhooks",
    "close-wait-timeout",
    "control-port",
    "debug-image",
    "debug-image-pull-policy",
    "debug-image-version",
    "default-inbound-policy",
    "enable-debug-sidecar",
    "enable-external-profiles",
    "enable-gateway",
    "image-pull-policy",
    "inbound-port",
    "opaque-ports",
    "outbound-port",
    "pod-inbound-ports",
    "proxy-additional-env",
    "proxy-admin-shutdown",
    "proxy-await",
    "proxy-cpu-limit",
    "proxy-cpu-ratio-limit",
    "proxy-cpu-request",
    "proxy-disable-inbound-protocol-detect-timeout",
    "proxy-disable-outbound-protocol-detect-timeout",
    "proxy-enable-native-sidecar",
    "proxy-ephemeral-storage-limit",
    "proxy-ephemeral-storage-request",
    "proxy-gid",
    "proxy-image",
    "proxy-inbound-connect-timeout",
    "proxy-inbound-discovery-cache-unused-timeout",
    "proxy-log-format",
    "proxy-log-http-headers",
    "proxy-log-level",
    "proxy-memory-limit",
    "proxy-memory-request",
    "proxy-metrics-hostname-labels",
    "proxy-outbound-connect-timeout",
    "proxy-outbound-discovery-cache-unused-timeout",
    "proxy-require-identity-inbound-ports",
    "proxy-uid",
    "proxy-version",
    "shutdown-grace-period",
    "skip-inbound-ports",
    "skip-outbound-ports",
    "skip-subnets",
];

/// The names that begin with `linkerd.io/`.
const OWN: [&str; 12] = [
    "linkerd.io/cni-resource",
    "linkerd.io/control-plane-component",
    CONTROL_PLANE_NS,
    CREATED_BY,
    "linkerd.io/extension",
    "linkerd.io/helm-release-version",
    "linkerd.io/identity-issuer-expiry",
    INJECT,
    "linkerd.io/is-control-plane",
    PROXY_VERSION,
    TRUST_ROOT_SHA256,
    WORKLOAD_NS,
];

/// The names that are still in trial, whole.
const TRIAL: [&str; 3] = [
    "config.alpha.linkerd.io/proxy-enable-native-sidecar",
    WAIT_BEFORE_EXIT,
    "config.beta.linkerd.io/proxy-enable-native-sidecar",
];

/// The names that are of others than Linkerd's core, whole.
const ELSEWHERE: [&str; 2] = [DISABLE_TAP, TAP_BODY_BYTES];

/// The names that stand for a setting, the stable one first.
pub(super) fn names_of(setting: &str) -> impl Iterator<Item = String> {
    let stable = CONFIG.contains(&setting).then(|| format!("{CONFIG_PREFIX}{setting}"));
    let is_of = |name: &&&str| name.split_once('/').is_some_and(|(_, name)| name == setting);
    // `beta` before `alpha`.
    let trial = TRIAL.iter().rev().chain(&ELSEWHERE).filter(is_of).map(ToString::to_string);
    stable.into_iter().chain(trial.collect::<Vec<_>>())
}

/// Names that look as if they were the mesh's and mean nothing, each with the name that was
/// probably meant, and those that this mesh knows and that have no effect in it.
pub fn unknown(annotations: &BTreeMap<String, String>) -> Vec<String> {
    annotations
        .iter()
        .filter_map(|(name, value)| remark(name).or_else(|| inert(name, value)))
        .collect()
}

/// What is known, and changes nothing.
fn inert(name: &str, value: &str) -> Option<String> {
    let is_headers = name.strip_prefix(CONFIG_PREFIX) == Some("proxy-log-http-headers");
    (is_headers && value == "insecure")
        .then(|| format!("annotation {name} has no effect: this proxy logs no headers; remove it"))
}

fn remark(name: &str) -> Option<String> {
    let domain = name.split_once('/')?.0;
    let is_ours = ["linkerd.io", "weft.sh"]
        .iter()
        .any(|ours| domain == *ours || domain.ends_with(&format!(".{ours}")));
    let is_checked = is_ours && (domain == "linkerd.io" || domain.starts_with("config."));
    if !is_checked || name.starts_with(PROXY_OWNER_PREFIX) || known().any(|known| known == name) {
        return None;
    }
    let nearest = known().min_by_key(|known| strsim::levenshtein(known, name))?;
    match strsim::levenshtein(&nearest, name) {
        0..=3 => Some(format!("annotation {name} means nothing; did you mean {nearest}?")),
        _ => Some(format!("annotation {name} means nothing; remove it, or see the list in docs")),
    }
}

fn known() -> impl Iterator<Item = String> {
    let config = CONFIG.iter().map(|name| format!("{CONFIG_PREFIX}{name}"));
    config.chain(OWN.iter().chain(&TRIAL).chain(&ELSEWHERE).map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_annotation_is_told_with_what_was_meant() {
        let annotations = [
            ("config.linkerd.io/skip-inbound-port", "80"),
            ("config.linkerd.io/opaque-ports", "25"),
            ("config.linkerd.io/entirely-else", ""),
            ("linkerd.io/injct", "enabled"),
            ("linkerd.io/proxy-deployment", "web"),
            ("viz.linkerd.io/tap-enabled", "true"),
            ("config.weft.sh/tap-body-bytes", "1"),
            ("config.weft.sh/tap-body-byte", "1"),
            ("example.com/linkerd.io", ""),
            ("config.linkerd.io/proxy-log-http-headers", "insecure"),
            ("config.linkerd.io/trace-collector", "a:4317"),
            ("config.linkerd.io/proxy-wait-before-exit-seconds", "5"),
            ("config.alpha.linkerd.io/proxy-wait-before-exit-seconds", "5"),
            ("config.alpha.linkerd.io/proxy-uid", "5"),
        ];
        let annotations = annotations.map(|(name, value)| (name.into(), value.into()));
        insta::assert_snapshot!(unknown(&annotations.into()).join("\n"), @r"
        annotation config.alpha.linkerd.io/proxy-uid means nothing; remove it, or see the list in docs
        annotation config.linkerd.io/entirely-else means nothing; remove it, or see the list in docs
        annotation config.linkerd.io/proxy-log-http-headers has no effect: this proxy logs no headers; remove it
        annotation config.linkerd.io/proxy-wait-before-exit-seconds means nothing; remove it, or see the list in docs
        annotation config.linkerd.io/skip-inbound-port means nothing; did you mean config.linkerd.io/skip-inbound-ports?
        annotation config.linkerd.io/trace-collector means nothing; remove it, or see the list in docs
        annotation config.weft.sh/tap-body-byte means nothing; did you mean config.weft.sh/tap-body-bytes?
        annotation linkerd.io/injct means nothing; did you mean linkerd.io/inject?
        ");
    }

    #[test]
    fn a_setting_in_trial_has_its_names_in_trial_and_no_other() {
        let names = |setting| names_of(setting).collect::<Vec<_>>();
        assert_eq!(names("proxy-uid"), ["config.linkerd.io/proxy-uid"]);
        let wait = "proxy-wait-before-exit-seconds";
        assert_eq!(names(wait), ["config.alpha.linkerd.io/proxy-wait-before-exit-seconds"]);
        assert_eq!(
            names("proxy-enable-native-sidecar"),
            [
                "config.linkerd.io/proxy-enable-native-sidecar",
                "config.beta.linkerd.io/proxy-enable-native-sidecar",
                "config.alpha.linkerd.io/proxy-enable-native-sidecar",
            ]
        );
    }
}
