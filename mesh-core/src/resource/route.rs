//! Routes: Gateway API's HTTPRoute and GRPCRoute, and Linkerd's own HTTPRoute, which differs from
//! Gateway API's by its group alone. What their definitions have and the mesh does not do is read
//! too, so that it can be answered for instead of dropped.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Kind, ObjectRef};

/// Linkerd's group.
pub const POLICY_GROUP: &str = "policy.linkerd.io";
/// Gateway API's group.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Routes of HTTP requests, as Linkerd's definition has them.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "policy.linkerd.io",
    version = "v1beta3",
    kind = "HTTPRoute",
    root = "PolicyHTTPRoute",
    plural = "httproutes",
    status = "RouteStatus",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(transparent)]
pub struct PolicyHttpRouteSpec(pub HttpRouteSpec);

/// Routes of HTTP requests, as Gateway API has them.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    plural = "httproutes",
    status = "RouteStatus",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(transparent)]
pub struct GatewayHttpRouteSpec(pub HttpRouteSpec);

/// Routes of gRPC calls.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "GRPCRoute",
    plural = "grpcroutes",
    status = "RouteStatus",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRouteSpec {
    /// What it is a route of: Services or Servers.
    pub parent_refs: Option<Vec<ParentRef>>,
    /// Hosts; none for all.
    pub hostnames: Option<Vec<String>>,
    /// Rules.
    pub rules: Option<Vec<GrpcRouteRule>>,
}

/// Routes of HTTP requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRouteSpec {
    /// What it is a route of: Services or Servers.
    pub parent_refs: Option<Vec<ParentRef>>,
    /// Hosts; none for all.
    pub hostnames: Option<Vec<String>>,
    /// Rules.
    pub rules: Option<Vec<HttpRouteRule>>,
}

/// What a route is a route of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParentRef {
    /// API group; Gateway API's where none is given. `core` or empty for Services.
    pub group: Option<String>,
    /// Kind; `Gateway` where none is given.
    pub kind: Option<String>,
    /// Namespace; the route's own where none is given.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// A port of it by name; all where none is given.
    pub section_name: Option<String>,
    /// A port of it; all where none is given.
    pub port: Option<u16>,
}

/// A rule of an HTTPRoute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRouteRule {
    /// Name.
    pub name: Option<String>,
    /// One of which must hold; none for all requests.
    pub matches: Option<Vec<HttpRouteMatch>>,
    /// What is done to requests.
    pub filters: Option<Vec<RouteFilter>>,
    /// Where to; the Service itself where none is given.
    pub backend_refs: Option<Vec<RouteBackendRef>>,
    /// Time limits.
    pub timeouts: Option<RouteTimeouts>,
}

/// A condition on HTTP requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRouteMatch {
    /// On the path.
    pub path: Option<HttpPathMatch>,
    /// On headers; all must hold.
    pub headers: Option<Vec<ValueMatch>>,
    /// On query parameters; all must hold.
    pub query_params: Option<Vec<ValueMatch>>,
    /// On the method.
    pub method: Option<String>,
}

/// A condition on a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpPathMatch {
    /// How.
    #[serde(rename = "type")]
    pub type_: Option<PathMatchType>,
    /// With what; `/` where nothing is given.
    pub value: Option<String>,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PathMatchType {
    /// Equal.
    Exact,
    /// By whole elements from its start.
    #[default]
    PathPrefix,
    /// By a regular expression.
    RegularExpression,
}

/// A condition on a header or query parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValueMatch {
    /// How.
    #[serde(rename = "type")]
    pub type_: Option<ValueMatchType>,
    /// Of which.
    pub name: String,
    /// With what.
    pub value: String,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ValueMatchType {
    /// Equal.
    #[default]
    Exact,
    /// By a regular expression.
    RegularExpression,
}

/// A rule of a GRPCRoute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRouteRule {
    /// Name.
    pub name: Option<String>,
    /// One of which must hold; none for all calls.
    pub matches: Option<Vec<GrpcRouteMatch>>,
    /// What is done to calls.
    pub filters: Option<Vec<RouteFilter>>,
    /// Where to; the Service itself where none is given.
    pub backend_refs: Option<Vec<RouteBackendRef>>,
}

/// A condition on gRPC calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRouteMatch {
    /// On the service and method.
    pub method: Option<GrpcMethodMatch>,
    /// On metadata; all must hold.
    pub headers: Option<Vec<ValueMatch>>,
}

/// A condition on a gRPC service and method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcMethodMatch {
    /// How.
    #[serde(rename = "type")]
    pub type_: Option<ValueMatchType>,
    /// Service with its package.
    pub service: Option<String>,
    /// Method.
    pub method: Option<String>,
}

/// A backend of a rule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteBackendRef {
    /// API group; empty or `core` for Services.
    pub group: Option<String>,
    /// Kind; `Service` where none is given.
    pub kind: Option<String>,
    /// Namespace; the route's own where none is given.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Port.
    pub port: Option<u16>,
    /// Share relative to the others; 1 where none is given, 0 for nothing.
    pub weight: Option<u32>,
    /// What is done to requests that go there.
    pub filters: Option<Vec<RouteFilter>>,
}

/// Something done to requests. The part that `type` names is to be given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteFilter {
    /// What: `RequestHeaderModifier`, `ResponseHeaderModifier` or `RequestRedirect`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Changes request headers.
    pub request_header_modifier: Option<HeaderFilter>,
    /// Changes response headers.
    pub response_header_modifier: Option<HeaderFilter>,
    /// Redirects.
    pub request_redirect: Option<RedirectFilter>,
    /// Not supported.
    #[serde(rename = "urlRewrite")]
    pub url_rewrite: Option<Unsupported>,
    /// Not supported.
    pub request_mirror: Option<Unsupported>,
    /// Not supported.
    pub extension_ref: Option<Unsupported>,
    /// Not supported.
    pub cors: Option<Unsupported>,
}

/// What the mesh does not do.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Unsupported(pub serde_json::Value);

impl JsonSchema for Unsupported {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Unsupported".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }
}

/// Changes of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderFilter {
    /// Replaced.
    pub set: Option<Vec<HeaderValue>>,
    /// Appended.
    pub add: Option<Vec<HeaderValue>>,
    /// Removed.
    pub remove: Option<Vec<String>>,
}

/// A header and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderValue {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A redirect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedirectFilter {
    /// New scheme.
    pub scheme: Option<String>,
    /// New host.
    pub hostname: Option<String>,
    /// New path.
    pub path: Option<PathFilter>,
    /// New port.
    pub port: Option<u16>,
    /// Status; 302 where none is given.
    pub status_code: Option<u16>,
}

/// A new path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathFilter {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The whole path.
    pub replace_full_path: Option<String>,
    /// The prefix that matched.
    pub replace_prefix_match: Option<String>,
}

/// Time limits of a rule, as Gateway API writes them: `10s`, `1m30s`, `0s` for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTimeouts {
    /// The whole request.
    pub request: Option<String>,
    /// Each attempt at a backend.
    pub backend_request: Option<String>,
}

/// What became of a route, by parent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// Of each parent and controller.
    #[serde(default)]
    pub parents: Vec<RouteParentStatus>,
}

/// What became of a route at one parent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The parent as the route names it.
    pub parent_ref: ParentRef,
    /// Who says so.
    pub controller_name: String,
    /// Conditions: `Accepted`, `ResolvedRefs`.
    #[serde(default)]
    pub conditions: Vec<RouteCondition>,
}

/// A condition of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteCondition {
    /// Of what.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in a word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// The route's generation that was looked at.
    pub observed_generation: Option<i64>,
    /// When it last changed, RFC 3339.
    pub last_transition_time: String,
}

/// A route of any kind.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Metadata.
    pub meta: &'a ObjectMeta,
    /// What it says.
    pub spec: RouteSpec<'a>,
}

/// What a route says.
#[derive(Clone, Copy, Debug)]
pub enum RouteSpec<'a> {
    /// Of HTTP requests.
    Http(&'a HttpRouteSpec),
    /// Of gRPC calls.
    Grpc(&'a GrpcRouteSpec),
}

impl<'a> Route<'a> {
    /// Its namespace.
    pub fn namespace(self) -> &'a str {
        self.meta.namespace.as_deref().unwrap_or_default()
    }

    /// Its name.
    pub fn name(self) -> &'a str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    /// Its group.
    pub fn group(self) -> &'static str {
        match self.kind {
            Kind::PolicyHTTPRoute => POLICY_GROUP,
            _ => GATEWAY_GROUP,
        }
    }

    /// What it names as parents.
    pub fn parent_refs(self) -> &'a [ParentRef] {
        let parents = match self.spec {
            RouteSpec::Http(spec) => &spec.parent_refs,
            RouteSpec::Grpc(spec) => &spec.parent_refs,
        };
        parents.as_deref().unwrap_or_default()
    }

    /// Its hosts; none for all.
    pub fn hostnames(self) -> &'a [String] {
        let hosts = match self.spec {
            RouteSpec::Http(spec) => &spec.hostnames,
            RouteSpec::Grpc(spec) => &spec.hostnames,
        };
        hosts.as_deref().unwrap_or_default()
    }

    /// The backends of each rule.
    pub fn backend_refs(self) -> Vec<&'a [RouteBackendRef]> {
        fn of(refs: &Option<Vec<RouteBackendRef>>) -> &[RouteBackendRef] {
            refs.as_deref().unwrap_or_default()
        }
        match self.spec {
            RouteSpec::Http(spec) => {
                spec.rules.iter().flatten().map(|rule| of(&rule.backend_refs)).collect()
            }
            RouteSpec::Grpc(spec) => {
                spec.rules.iter().flatten().map(|rule| of(&rule.backend_refs)).collect()
            }
        }
    }
}

impl ParentRef {
    /// The Service, Server or EgressNetwork that a route in `namespace` means; none where it is another kind.
    pub fn target(&self, namespace: &str) -> Option<ObjectRef> {
        let group = self.group.as_deref().unwrap_or(GATEWAY_GROUP);
        let kind = match (group, self.kind.as_deref().unwrap_or("Gateway")) {
            ("" | "core", "Service") => Kind::Service,
            (POLICY_GROUP, "Server") => Kind::Server,
            (POLICY_GROUP, "EgressNetwork") => Kind::EgressNetwork,
            _ => return None,
        };
        let namespace = self.namespace.as_deref().unwrap_or(namespace).to_string();
        Some(ObjectRef { kind, namespace, name: self.name.clone() })
    }
}

impl RouteBackendRef {
    /// The Service or EgressNetwork that a route in `namespace` means; none where it is another kind.
    pub fn target(&self, namespace: &str) -> Option<ObjectRef> {
        let group = self.group.as_deref().unwrap_or_default();
        let kind = self.kind.as_deref().unwrap_or("Service");
        let is_service = matches!(group, "" | "core") && kind == "Service";
        let namespace = self.namespace.as_deref().unwrap_or(namespace).to_string();
        let is_network = group == POLICY_GROUP && kind == "EgressNetwork";
        if is_network {
            let kind = Kind::EgressNetwork;
            return Some(ObjectRef { kind, namespace, name: self.name.clone() });
        }
        is_service.then(|| ObjectRef { kind: Kind::Service, namespace, name: self.name.clone() })
    }
}
