//! `policy.linkerd.io`: servers and who may use them.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::route::RouteCondition;

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
    /// Which pods, and which Workloads. Either this or `externalWorkloadSelector`.
    pub pod_selector: Option<LabelSelector>,
    /// Which external workloads: Workloads alone.
    pub external_workload_selector: Option<LabelSelector>,
    /// The port, by number or by the container port's name.
    pub port: IntOrString,
    /// What it speaks.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Who may use it beside those whom AuthorizationPolicies allow, as default policies; `deny`
    /// where none is given.
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

/// Allows clients to use Servers: the older way, beside AuthorizationPolicy.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "policy.linkerd.io",
    version = "v1beta1",
    kind = "ServerAuthorization",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerAuthorizationSpec {
    /// Which Servers of its namespace.
    pub server: ServerSelectionSpec,
    /// Which clients.
    pub client: ClientSpec,
}

/// Servers: one by its name, or those that have labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerSelectionSpec {
    /// Its name. Either this or `selector`.
    pub name: Option<String>,
    /// Labels of the Servers themselves.
    pub selector: Option<LabelSelector>,
}

/// Clients: in one of the networks, and one of those that `unauthenticated` or `meshTLS` says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientSpec {
    /// Where they are; anywhere where nothing is said.
    pub networks: Option<Vec<NetworkSpec>>,
    /// Everybody.
    #[serde(default)]
    pub unauthenticated: bool,
    /// Meshed clients.
    #[serde(rename = "meshTLS")]
    pub mesh_tls: Option<MeshTlsSpec>,
}

/// Clients by their identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshTlsSpec {
    /// All that speak TLS, whether they have an identity or not.
    #[serde(rename = "unauthenticatedTLS", default)]
    pub unauthenticated_tls: bool,
    /// Whole names, names under `*.`, or `*` for all.
    pub identities: Option<Vec<String>>,
    /// ServiceAccounts.
    pub service_accounts: Option<Vec<ServiceAccountSpec>>,
}

/// A ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountSpec {
    /// Name.
    pub name: String,
    /// Namespace; the authorization's own where none is given.
    pub namespace: Option<String>,
}

/// Limits the requests of a Server.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "policy.linkerd.io",
    version = "v1alpha1",
    kind = "HTTPLocalRateLimitPolicy",
    plural = "httplocalratelimitpolicies",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HTTPLocalRateLimitPolicySpec {
    /// A Server.
    pub target_ref: LocalTargetRef,
    /// Of all clients together.
    pub total: Option<RateLimitSpec>,
    /// Of each identity; clients without one share one.
    pub identity: Option<RateLimitSpec>,
    /// Of named clients, instead of `identity`.
    pub overrides: Option<Vec<RateLimitOverrideSpec>>,
}

/// A limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimitSpec {
    /// Requests a second.
    pub requests_per_second: u32,
}

/// Another limit for named clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimitOverrideSpec {
    /// Requests a second.
    pub requests_per_second: u32,
    /// ServiceAccounts.
    pub client_refs: Vec<NamespacedTargetRef>,
}

/// Networks outside of the cluster, and whether workloads may reach them.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "policy.linkerd.io",
    version = "v1alpha1",
    kind = "EgressNetwork",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressNetworkSpec {
    /// Which; everything outside of the cluster where nothing is said.
    pub networks: Option<Vec<NetworkSpec>>,
    /// What becomes of traffic that no route is for.
    pub traffic_policy: TrafficPolicy,
}

/// What becomes of traffic that no route is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TrafficPolicy {
    /// It goes where it was going.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

/// What became of a policy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Conditions: `Accepted`.
    #[serde(default)]
    pub conditions: Vec<RouteCondition>,
    /// What a rate limit is of.
    pub target_ref: Option<LocalTargetRef>,
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

/// Who may use a port that no policy speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DefaultPolicy {
    /// Everybody.
    #[default]
    AllUnauthenticated,
    /// Every meshed client.
    AllAuthenticated,
    /// Everybody in the cluster's networks.
    ClusterUnauthenticated,
    /// Every meshed client in the cluster's networks.
    ClusterAuthenticated,
    /// Nobody.
    Deny,
    /// Everybody, and what no policy allows is logged.
    Audit,
}

impl DefaultPolicy {
    /// Every policy.
    pub const ALL: [Self; 6] = [
        Self::AllUnauthenticated,
        Self::AllAuthenticated,
        Self::ClusterUnauthenticated,
        Self::ClusterAuthenticated,
        Self::Deny,
        Self::Audit,
    ];

    /// The name, as annotations and `accessPolicy` have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllUnauthenticated => "all-unauthenticated",
            Self::AllAuthenticated => "all-authenticated",
            Self::ClusterUnauthenticated => "cluster-unauthenticated",
            Self::ClusterAuthenticated => "cluster-authenticated",
            Self::Deny => "deny",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for DefaultPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not a default policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a policy; use all-unauthenticated, all-authenticated, cluster-unauthenticated, \
     cluster-authenticated, deny or audit"
)]
pub struct InvalidPolicy(pub String);

impl FromStr for DefaultPolicy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| InvalidPolicy(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_read_as_they_print() {
        for policy in DefaultPolicy::ALL {
            assert_eq!(policy.as_str().parse(), Ok(policy));
        }
        assert!("allow".parse::<DefaultPolicy>().is_err());
    }
}
