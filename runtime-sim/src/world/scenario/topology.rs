//! What the cluster is made of, and how quickly it follows a change.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::Span;

/// What the cluster is made of: one node in one zone with one controller where nothing is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Topology {
    /// Zones and the names of their nodes: `{a: ["1", "2"], b: ["3"]}`. Pods are spread over all
    /// nodes in turn.
    pub zones: BTreeMap<String, Vec<String>>,
    /// Controllers, named `controller-0` and on where there are several.
    #[schemars(range(min = 1, max = 9))]
    pub controllers: u32,
    /// A new pod takes the address of one that has ended before it takes a new one.
    pub reuse_addresses: bool,
    /// How long EndpointSlices lag behind pods.
    pub slice_lag: Span,
    /// How long kube-proxy's rules and DNS lag behind EndpointSlices.
    pub rules_lag: Span,
    /// How long kubelet takes to start a pod's containers.
    pub pod_start: Span,
    /// Who finds out which pods are ready.
    pub readiness: Readiness,
    /// How long pods stay on a node that is marked NotReady: five minutes where nothing is said.
    pub eviction_after: Span,
}

/// Who finds out which pods and controllers are ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Kubelets: what has ended is not ready a second later, nor what is not certified; what hangs
    /// after half a minute.
    #[default]
    Probed,
    /// Nobody: what has started stays ready until it is deleted, whatever becomes of it.
    None,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            zones: BTreeMap::new(),
            controllers: 1,
            reuse_addresses: false,
            slice_lag: Span::default(),
            rules_lag: Span::default(),
            pod_start: Span::default(),
            readiness: Readiness::default(),
            eviction_after: Span(Duration::from_secs(300)),
        }
    }
}

/// Lifetimes of certificates, so that they end within a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lifetimes {
    /// A workload's certificate; 24 hours where nothing is said.
    pub leaf: Option<Span>,
    /// The issuer's; a year where nothing is said.
    pub issuer: Option<Span>,
    /// The trust anchor's; ten years where nothing is said.
    pub anchor: Option<Span>,
}
