//! `policy.linkerd.io`: servers and who may use them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A port of the selected pods.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "policy.linkerd.io",
    version = "v1beta3",
    kind = "Server",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerSpec {
    /// Which pods. Either this or `externalWorkloadSelector`.
    pub pod_selector: Option<LabelSelector>,
    /// Which external workloads.
    pub external_workload_selector: Option<LabelSelector>,
    /// The port, by number or by the container port's name.
    pub port: IntOrString,
    /// What it speaks.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Who may use it where no AuthorizationPolicy says so; `deny` where none is given.
    pub access_policy: Option<String>,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ProxyProtocol {
    /// Find out.
    #[default]
    #[serde(rename = "unknown")]
    Unknown,
    /// HTTP/1.
    #[serde(rename = "HTTP/1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "HTTP/2")]
    Http2,
    /// gRPC.
    #[serde(rename = "gRPC")]
    Grpc,
    /// Bytes.
    #[serde(rename = "opaque")]
    Opaque,
    /// TLS that the application terminates.
    #[serde(rename = "TLS")]
    Tls,
}

/// Allows clients that satisfy every one of the authentications.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "policy.linkerd.io",
    version = "v1alpha1",
    kind = "AuthorizationPolicy",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationPolicySpec {
    /// A Server, an HTTPRoute, a GRPCRoute or a Namespace.
    pub target_ref: LocalTargetRef,
    /// MeshTLSAuthentications, NetworkAuthentications or ServiceAccounts; empty allows all.
    pub required_authentication_refs: Vec<NamespacedTargetRef>,
}

/// An object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalTargetRef {
    /// API group; empty or `core` for Kubernetes' own.
    pub group: Option<String>,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// An object in this namespace or another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespacedTargetRef {
    /// API group; empty or `core` for Kubernetes' own.
    pub group: Option<String>,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; the referrer's own where none is given.
    pub namespace: Option<String>,
}

/// Identities.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "policy.linkerd.io",
    version = "v1alpha1",
    kind = "MeshTLSAuthentication",
    plural = "meshtlsauthentications",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshTLSAuthenticationSpec {
    /// Whole names, names under `*.`, or `*` for all.
    pub identities: Option<Vec<String>>,
    /// ServiceAccounts, or Namespaces for all in them.
    pub identity_refs: Option<Vec<NamespacedTargetRef>>,
}

/// Networks.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "policy.linkerd.io",
    version = "v1alpha1",
    kind = "NetworkAuthentication",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkAuthenticationSpec {
    /// One of which a client must be in.
    pub networks: Vec<NetworkSpec>,
}

/// A network without parts of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    /// An address or a network: `10.0.0.0/8`.
    pub cidr: String,
    /// Addresses or networks in it that do not count.
    pub except: Option<Vec<String>>,
}
