//! Deployments in short: what a scenario's reader needs to know of them in one line.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::Span;

/// A Deployment in short. It has a ServiceAccount of its name, and a Service where it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct App {
    /// Pods.
    #[schemars(range(max = 5_000))]
    pub replicas: u32,
    /// What it serves: `http`, `tcp`… as images have it after `simulated/`; nothing where nothing
    /// is said: then workloads send from it.
    pub serves: Option<String>,
    /// How long an answer takes.
    pub latency: Option<Span>,
    /// The Service's port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The container's port; 8080 for port 80, else the Service's.
    #[schemars(range(min = 1))]
    pub target_port: Option<u16>,
    /// Its namespace.
    pub namespace: String,
    /// Whether a proxy is beside it.
    pub meshed: bool,
    /// Its `preStop` sleep, in whole seconds.
    pub pre_stop: Option<Span>,
    /// The container's environment.
    pub env: BTreeMap<String, String>,
    /// Labels of its pods, beside `app: NAME`.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its pods.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of its Service.
    pub service_annotations: BTreeMap<String, String>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            replicas: 1,
            serves: None,
            latency: None,
            port: 80,
            target_port: None,
            namespace: "default".to_owned(),
            meshed: true,
            pre_stop: None,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            service_annotations: BTreeMap::new(),
        }
    }
}
