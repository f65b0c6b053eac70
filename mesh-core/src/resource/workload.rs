//! `workload.weft.sh`: workloads on plain hosts, where no cluster makes Pods and EndpointSlices.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An instance of a workload on a host, with the services it serves: what a Pod, a Service's
/// selector and an EndpointSlice say on Kubernetes, in one short object.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "workload.weft.sh",
    version = "v1alpha1",
    kind = "Workload",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    /// Its addresses, IPv4 or IPv6; at least one.
    pub addresses: Vec<String>,
    /// Its service account: with the namespace, its identity. `default` where none is given.
    pub service_account: Option<String>,
    /// The service it serves; none for a client.
    pub service: Option<String>,
    /// The application's ports, by name. Where there are any, connections to other ports of its
    /// addresses are somebody else's; where there are none, every port is the workload's.
    #[serde(default)]
    pub ports: Vec<WorkloadPort>,
    /// How its proxy is reached; none where it has no proxy.
    pub proxy: Option<WorkloadProxy>,
    /// Whether it takes traffic. True where nothing is said.
    pub ready: Option<bool>,
    /// Metric labels of its own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A port of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadPort {
    /// Name, as a Service's `targetPort` may say.
    pub name: Option<String>,
    /// Number on the workload's addresses.
    pub port: u16,
}

/// The proxy of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadProxy {
    /// The port that takes meshed traffic with transport headers; 4143 where none is given.
    pub inbound_port: Option<u16>,
    /// The port of `/metrics`; 4191 where none is given.
    pub admin_port: Option<u16>,
    /// The port that serves taps; 4190 where none is given.
    pub control_port: Option<u16>,
}
