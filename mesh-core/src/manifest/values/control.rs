//! Values of the control plane alone: its identity, its webhooks, its pods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::proxy::{Image, Resources};

/// Who certifies workloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Identity {
    /// Somebody else makes the config map of trust anchors, and keeps it.
    #[serde(rename = "externalCA")]
    pub external_ca: bool,
    /// What workloads' certificates are signed with.
    pub issuer: Issuer,
}

/// What workloads' certificates are signed with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Issuer {
    /// `linkerd.io/tls`: a secret that the installation makes. `kubernetes.io/tls`: one that
    /// somebody else makes and renews, such as cert-manager.
    pub scheme: String,
    /// Certificates are valid from this much earlier, for clocks that are behind.
    pub clock_skew_allowance: String,
    /// Life of a workload's certificate.
    pub issuance_lifetime: String,
    /// The certificate and its key.
    pub tls: IssuerTls,
}

/// An issuer's certificate and key, PEM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerTls {
    /// The certificate.
    #[serde(rename = "crtPEM")]
    pub certificate_pem: String,
    /// The key. No config map has it.
    #[serde(rename = "keyPEM")]
    pub key_pem: String,
}

/// Policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PolicyController {
    /// Networks that probes come from.
    pub probe_networks: Vec<String>,
}

/// A webhook of the control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Webhook {
    /// Somebody else makes its secret, and keeps it.
    pub external_secret: bool,
    /// The webhook's own certificate, PEM; empty: the control plane makes one.
    #[serde(rename = "crtPEM")]
    pub certificate_pem: String,
    /// Its key.
    #[serde(rename = "keyPEM")]
    pub key_pem: String,
    /// Whom the API server trusts for it, PEM; empty: the control plane says so itself.
    pub ca_bundle: String,
    /// cert-manager writes that from this certificate.
    pub inject_ca_from: String,
    /// cert-manager writes that from this secret.
    pub inject_ca_from_secret: String,
    /// Namespaces it is asked about.
    pub namespace_selector: Value,
    /// Objects it is asked about.
    pub object_selector: Value,
    /// How long the API server waits for it.
    pub timeout_seconds: u32,
    /// Further annotations of its pods.
    pub pod_annotations: BTreeMap<String, String>,
}

/// What the Prometheus operator is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PodMonitor {
    /// PodMonitors are made.
    pub enabled: bool,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// Between two scrapes.
    pub scrape_interval: String,
    /// Of a scrape.
    pub scrape_timeout: String,
    /// The one of the control plane.
    pub controller: MonitorOf,
    /// The one of sidecars.
    pub proxy: MonitorOf,
}

/// One PodMonitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MonitorOf {
    /// It is made.
    pub enabled: bool,
    /// Namespaces; empty: the control plane's for its own pods, and all for sidecars.
    pub namespace_selector: Value,
}

/// The console, and what commands such as `weft stat` ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Viz {
    /// It is there. One pod, that nobody reaches but through the API server.
    pub enabled: bool,
    /// What it may use.
    pub resources: Resources,
    /// What its sidecar may use; unsaid: what every sidecar may.
    pub proxy_resources: Resources,
}

/// Traffic that leaves the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Egress {
    /// The namespace whose EgressNetworks are every workload's.
    pub global_egress_network_namespace: String,
}

/// What the control plane's deployments have in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Deployments {
    /// How many may be down at once.
    pub pod_disruption_budget: Budget,
}

/// How many pods may be down at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Budget {
    /// Of each deployment.
    pub max_unavailable: u32,
}

/// A container with tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DebugContainer {
    /// Its image.
    pub image: Image,
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            scheme: "linkerd.io/tls".into(),
            clock_skew_allowance: "20s".into(),
            issuance_lifetime: "24h0m0s".into(),
            tls: IssuerTls::default(),
        }
    }
}

impl Default for PolicyController {
    fn default() -> Self {
        Self { probe_networks: vec!["0.0.0.0/0".into(), "::/0".into()] }
    }
}

impl Webhook {
    /// A webhook that is asked about namespaces that do not opt out of it.
    pub(super) fn validator() -> Self {
        Self {
            namespace_selector: json!({"matchExpressions": [
                {"key": "config.linkerd.io/admission-webhooks", "operator": "NotIn",
                 "values": ["disabled"]},
            ]}),
            ..Self::plain()
        }
    }

    /// The injector's, which is not asked about the cluster's and the control plane's own pods.
    pub(super) fn injector() -> Self {
        Self {
            namespace_selector: json!({"matchExpressions": [
                {"key": "config.linkerd.io/admission-webhooks", "operator": "NotIn",
                 "values": ["disabled"]},
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn",
                 "values": ["kube-system", "cert-manager"]},
            ]}),
            object_selector: json!({"matchExpressions": [
                {"key": "linkerd.io/control-plane-component", "operator": "DoesNotExist"},
                {"key": "linkerd.io/cni-resource", "operator": "DoesNotExist"},
            ]}),
            ..Self::plain()
        }
    }

    fn plain() -> Self {
        Self {
            external_secret: false,
            certificate_pem: String::new(),
            key_pem: String::new(),
            ca_bundle: String::new(),
            inject_ca_from: String::new(),
            inject_ca_from_secret: String::new(),
            namespace_selector: json!({}),
            object_selector: json!({}),
            timeout_seconds: 10,
            pod_annotations: BTreeMap::new(),
        }
    }
}

impl Default for Webhook {
    fn default() -> Self {
        Self::validator()
    }
}

impl Default for PodMonitor {
    fn default() -> Self {
        Self {
            enabled: false,
            labels: BTreeMap::new(),
            scrape_interval: "10s".into(),
            scrape_timeout: "10s".into(),
            controller: MonitorOf::default(),
            proxy: MonitorOf::default(),
        }
    }
}

impl Default for MonitorOf {
    fn default() -> Self {
        Self { enabled: true, namespace_selector: json!({}) }
    }
}

impl Default for Viz {
    fn default() -> Self {
        let (resources, proxy_resources) = (Resources::default(), Resources::default());
        Self { enabled: true, resources, proxy_resources }
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self { global_egress_network_namespace: "linkerd-egress".into() }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { max_unavailable: 1 }
    }
}

impl Default for DebugContainer {
    fn default() -> Self {
        Self { image: Image { name: "weft/debug".into(), ..Image::default() } }
    }
}
