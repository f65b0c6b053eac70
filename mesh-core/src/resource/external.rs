//! `workload.linkerd.io`: Linkerd's workloads outside of the cluster.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An instance of a workload outside of the cluster. Services select it by its labels.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "workload.linkerd.io",
    version = "v1beta1",
    kind = "ExternalWorkload",
    status = "ExternalWorkloadStatus",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalWorkloadSpec {
    /// Who it is to its clients.
    #[serde(rename = "meshTLS", alias = "meshTls")]
    pub mesh_tls: ExternalWorkloadTls,
    /// Its ports.
    pub ports: Option<Vec<ExternalWorkloadPort>>,
    /// Its addresses.
    #[serde(rename = "workloadIPs")]
    pub workload_ips: Option<Vec<ExternalWorkloadIp>>,
}

/// Who an external workload is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalWorkloadTls {
    /// Its identity: a DNS name, or a SPIFFE ID.
    pub identity: String,
    /// The name that its clients ask for in TLS.
    pub server_name: String,
}

/// A port of an external workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalWorkloadPort {
    /// Name, as a Service's `targetPort` may say.
    pub name: Option<String>,
    /// Number.
    pub port: u16,
    /// `TCP` where none is given.
    pub protocol: Option<String>,
}

/// An address of an external workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalWorkloadIp {
    /// IPv4 or IPv6.
    pub ip: String,
}

/// How an external workload is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalWorkloadStatus {
    /// Conditions: `Ready`.
    pub conditions: Option<Vec<ExternalWorkloadCondition>>,
}

/// A condition of an external workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalWorkloadCondition {
    /// Of what.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in a word.
    pub reason: Option<String>,
    /// Why, for people.
    pub message: Option<String>,
    /// When it was last heard of, RFC 3339.
    pub last_probe_time: Option<String>,
    /// When it last changed, RFC 3339.
    pub last_transition_time: Option<String>,
}

impl ExternalWorkload {
    /// Whether it takes traffic: its condition `Ready` says so. Where nobody keeps conditions, as
    /// in a directory of manifests, it does.
    pub fn is_ready(&self) -> bool {
        let conditions = self.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_none_or(|conditions| {
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
            ready.is_some_and(|condition| condition.status == "True")
        })
    }
}
