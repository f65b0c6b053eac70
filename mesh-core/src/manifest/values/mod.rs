//! What an installation is made with. The names are those of Linkerd's Helm chart, and so are the
//! defaults where Weft has the same thing to say.

mod check;
mod control;
pub mod layers;
mod proxy;
mod schema;
pub mod set;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use control::{
    Budget, DebugContainer, Deployments, Egress, Identity, Issuer, IssuerTls, MonitorOf,
    PodMonitor, PolicyController, Viz, Webhook,
};
pub use layers::ValuesError;
pub use proxy::{
    Image, Ports, Proxy, ProxyControl, ProxyInit, ProxyMetrics, ProxyRuntime, Quantities,
    Resources, Streams, Workers,
};
pub use schema::schema;

/// An installation's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Values {
    /// The control plane's namespace.
    pub linkerd_namespace: String,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Networks whose addresses belong to the cluster, comma-separated.
    pub cluster_networks: String,
    /// The domain at the end of every identity.
    pub identity_trust_domain: String,
    /// Trust anchors in PEM. Empty: the config map of the installation tells them.
    #[serde(rename = "identityTrustAnchorsPEM")]
    pub identity_trust_anchors_pem: String,
    /// Who certifies workloads.
    pub identity: Identity,
    /// The version of the control plane and of its sidecars.
    pub linkerd_version: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Secrets that images are pulled with.
    pub image_pull_secrets: Vec<Value>,
    /// Traffic is redirected by a CNI plugin, not by an init container.
    pub cni_enabled: bool,
    /// No IPv6: neither redirected nor listened on.
    #[serde(rename = "disableIPv6")]
    pub disable_ipv6: bool,
    /// Proxies may carry HTTP/1 over HTTP/2 between them.
    #[serde(rename = "enableH2Upgrade")]
    pub enable_h2_upgrade: bool,
    /// The control plane's image, without its tag.
    pub controller_image: String,
    /// Its tag; empty: the installation's version.
    pub controller_image_version: String,
    /// Pods of each of the control plane's deployments.
    pub controller_replicas: u32,
    /// The user the control plane runs as.
    #[serde(rename = "controllerUID")]
    pub controller_uid: u32,
    /// The group it runs as; negative: the image's.
    #[serde(rename = "controllerGID")]
    pub controller_gid: i64,
    /// The control plane's log levels.
    pub controller_log_level: String,
    /// `plain` or `json`.
    pub controller_log_format: String,
    /// What a container of the control plane may use, where nothing is said of it alone.
    pub controller_resources: Resources,
    /// What destination may use.
    pub destination_resources: Resources,
    /// What its sidecar may use; unsaid: what every sidecar may.
    pub destination_proxy_resources: Resources,
    /// What identity may use.
    pub identity_resources: Resources,
    /// What its sidecar may use.
    pub identity_proxy_resources: Resources,
    /// What the injector may use.
    pub proxy_injector_resources: Resources,
    /// What its sidecar may use.
    pub proxy_injector_proxy_resources: Resources,
    /// What the deployments have in common.
    pub controller: Deployments,
    /// No two pods of a deployment share a node.
    pub enable_pod_anti_affinity: bool,
    /// PodDisruptionBudgets are made.
    pub enable_pod_disruption_budget: bool,
    /// How deployments change their pods, as Kubernetes writes it.
    pub deployment_strategy: Value,
    /// Old replica sets that are kept.
    pub revision_history_limit: u32,
    /// The priority of the control plane's pods; empty: the cluster's default.
    pub priority_class_name: String,
    /// What runs the control plane's containers; empty: the cluster's default.
    pub runtime_class_name: String,
    /// Nodes the control plane runs on, by their labels.
    pub node_selector: BTreeMap<String, String>,
    /// Nodes the control plane prefers or needs, as Kubernetes writes it.
    pub node_affinity: Value,
    /// Taints the control plane tolerates.
    pub tolerations: Vec<Value>,
    /// Further annotations of the control plane's pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// Further labels of the control plane's pods.
    pub pod_labels: BTreeMap<String, String>,
    /// Further labels of everything that is made.
    pub common_labels: BTreeMap<String, String>,
    /// What happens while a webhook does not answer: `Ignore` or `Fail`.
    pub webhook_failure_policy: String,
    /// The injector.
    pub proxy_injector: Webhook,
    /// What looks at ServiceProfiles before they are taken.
    pub profile_validator: Webhook,
    /// What looks at policies before they are taken.
    pub policy_validator: Webhook,
    /// Policies.
    pub policy_controller: PolicyController,
    /// Traffic that leaves the cluster.
    pub egress: Egress,
    /// What the Prometheus operator is told.
    pub pod_monitor: PodMonitor,
    /// The console, and what commands ask.
    pub viz: Viz,
    /// A Prometheus that has the proxies' metrics, for statistics; empty: the controller scrapes them
    /// itself.
    pub prometheus_url: String,
    /// The container with tools.
    pub debug_container: DebugContainer,
    /// The sidecar.
    pub proxy: Proxy,
    /// What redirects a pod's traffic to it.
    pub proxy_init: ProxyInit,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            linkerd_namespace: "linkerd".into(),
            cluster_domain: "cluster.local".into(),
            cluster_networks: "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"
                .into(),
            identity_trust_domain: "cluster.local".into(),
            identity_trust_anchors_pem: String::new(),
            identity: Identity::default(),
            linkerd_version: env!("CARGO_PKG_VERSION").into(),
            image_pull_policy: "IfNotPresent".into(),
            image_pull_secrets: Vec::new(),
            cni_enabled: false,
            disable_ipv6: true,
            enable_h2_upgrade: true,
            controller_image: Image::default().name,
            controller_image_version: String::new(),
            controller_replicas: 1,
            controller_uid: 65_532,
            controller_gid: 65_532,
            controller_log_level: "warn,weft=info".into(),
            controller_log_format: "plain".into(),
            controller_resources: Resources::default(),
            destination_resources: Resources::default(),
            destination_proxy_resources: Resources::default(),
            identity_resources: Resources::default(),
            identity_proxy_resources: Resources::default(),
            proxy_injector_resources: Resources::default(),
            proxy_injector_proxy_resources: Resources::default(),
            controller: Deployments::default(),
            enable_pod_anti_affinity: false,
            enable_pod_disruption_budget: false,
            deployment_strategy: json!({"rollingUpdate": {
                "maxSurge": "25%", "maxUnavailable": "25%",
            }}),
            revision_history_limit: 10,
            priority_class_name: String::new(),
            runtime_class_name: String::new(),
            node_selector: BTreeMap::from([("kubernetes.io/os".into(), "linux".into())]),
            node_affinity: json!({}),
            tolerations: Vec::new(),
            pod_annotations: BTreeMap::new(),
            pod_labels: BTreeMap::new(),
            common_labels: BTreeMap::new(),
            webhook_failure_policy: "Ignore".into(),
            proxy_injector: Webhook::injector(),
            profile_validator: Webhook::validator(),
            policy_validator: Webhook::validator(),
            policy_controller: PolicyController::default(),
            egress: Egress::default(),
            pod_monitor: PodMonitor::default(),
            viz: Viz::default(),
            prometheus_url: String::new(),
            debug_container: DebugContainer::default(),
            proxy: Proxy::default(),
            proxy_init: ProxyInit::default(),
        }
    }
}

impl Values {
    /// Reads values that differ from the defaults.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn read(yaml: &str) -> Result<Self, ValuesError> {
        let layer = layers::parse("values", yaml)?;
        layers::merge(&[layer]).map(|merged| merged.values)
    }

    /// What of the defaults differs in an installation that stays up while nodes go.
    pub fn ha() -> Value {
        let resources = |cpu: &str, request: &str| json!({"cpu": {"request": cpu}, "memory": {"request": request, "limit": "250Mi"}});
        json!({
            "controllerReplicas": 3,
            "enablePodAntiAffinity": true,
            "enablePodDisruptionBudget": true,
            "deploymentStrategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
            "webhookFailurePolicy": "Fail",
            "controllerResources": resources("100m", "50Mi"),
            "identityResources": resources("100m", "10Mi"),
            "proxy": {"resources": resources("100m", "20Mi")},
        })
    }

    /// The values as the cluster keeps them for its injector and for upgrades: without keys.
    pub fn without_keys(&self) -> Self {
        let mut values = self.clone();
        values.identity.issuer.tls.key_pem.clear();
        for webhook in [
            &mut values.proxy_injector,
            &mut values.profile_validator,
            &mut values.policy_validator,
        ] {
            webhook.key_pem.clear();
        }
        values
    }

    /// Where an image is, with its tag.
    pub fn reference(&self, image: &Image) -> String {
        let version = or(&image.version, &self.linkerd_version);
        format!("{}:{version}", image.name)
    }

    /// Where the control plane's image is, with its tag.
    pub fn controller_reference(&self) -> String {
        let version = or(&self.controller_image_version, &self.linkerd_version);
        format!("{}:{version}", self.controller_image)
    }

    /// An image's pull policy.
    pub fn pull_policy<'a>(&'a self, image: &'a Image) -> &'a str {
        or(&image.pull_policy, &self.image_pull_policy)
    }

    /// The identity of one of the control plane's service accounts.
    pub fn identity(&self, account: &str) -> String {
        let (namespace, domain) = (&self.linkerd_namespace, &self.identity_trust_domain);
        format!("{account}.{namespace}.serviceaccount.identity.{namespace}.{domain}")
    }

    /// The address of one of the control plane's services.
    pub fn service(&self, name: &str, port: u16) -> String {
        format!("{name}.{}.svc.{}.:{port}", self.linkerd_namespace, self.cluster_domain)
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
