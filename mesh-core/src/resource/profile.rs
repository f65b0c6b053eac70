//! `linkerd.io`: ServiceProfiles, the older way to say routes, retries, timeouts and splits.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Routes of a service, as its clients see them. Its name is the service's whole name.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "linkerd.io",
    version = "v1alpha2",
    kind = "ServiceProfile",
    shortname = "sp",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceProfileSpec {
    /// Routes; the first that matches is used.
    #[serde(default)]
    pub routes: Vec<ProfileRouteSpec>,
    /// Limits retries of all routes.
    pub retry_budget: Option<RetryBudgetSpec>,
    /// Other destinations that take the traffic, by weight.
    pub dst_overrides: Option<Vec<WeightedDestinationSpec>>,
    /// Ports that are carried as bytes: read, and without effect since annotations say it.
    pub opaque_ports: Option<Vec<String>>,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileRouteSpec {
    /// Name, as metrics have it.
    pub name: String,
    /// Which requests.
    pub condition: RequestMatchSpec,
    /// Which responses are failures; the first that matches decides.
    pub response_classes: Option<Vec<ResponseClassSpec>>,
    /// Whether failures may be tried again.
    pub is_retryable: Option<bool>,
    /// Time for the whole request: `300ms`.
    pub timeout: Option<String>,
}

/// A condition on requests. Several parts at once must all hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestMatchSpec {
    /// All of these.
    pub all: Option<Vec<RequestMatchSpec>>,
    /// One of these.
    pub any: Option<Vec<RequestMatchSpec>>,
    /// Not this.
    pub not: Option<Box<RequestMatchSpec>>,
    /// The whole path, by a regular expression.
    pub path_regex: Option<String>,
    /// The method.
    pub method: Option<String>,
}

/// Which responses are failures.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResponseClassSpec {
    /// Which responses.
    pub condition: ResponseMatchSpec,
    /// Whether they are failures.
    pub is_failure: Option<bool>,
}

/// A condition on responses. Several parts at once must all hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResponseMatchSpec {
    /// All of these.
    pub all: Option<Vec<ResponseMatchSpec>>,
    /// One of these.
    pub any: Option<Vec<ResponseMatchSpec>>,
    /// Not this.
    pub not: Option<Box<ResponseMatchSpec>>,
    /// The status.
    pub status: Option<StatusRangeSpec>,
}

/// A range of statuses, both ends included. One end alone is that status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusRangeSpec {
    /// Lowest.
    pub min: Option<u16>,
    /// Highest.
    pub max: Option<u16>,
}

/// Limits retries to a share of requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryBudgetSpec {
    /// Retries per request.
    pub retry_ratio: f64,
    /// Retries that are always allowed.
    pub min_retries_per_second: u32,
    /// How long a request counts: `10s`.
    pub ttl: String,
}

/// A share of a split.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightedDestinationSpec {
    /// Where to: the whole name of a service, with its port where it is another than was asked for.
    pub authority: String,
    /// Relative weight: a number, or a quantity such as `500m`.
    pub weight: IntOrString,
}

/// Conditions nest without end, which a definition cannot say.
macro_rules! recursive_schema {
    ($($type:ident),*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                })
            }
        }
    )*};
}

recursive_schema!(RequestMatchSpec, ResponseMatchSpec);

impl WeightedDestinationSpec {
    /// The weight in thousandths, as Linkerd counts; none where it is no quantity.
    pub fn weight_thousandths(&self) -> Option<u32> {
        match &self.weight {
            IntOrString::Int(weight) => u32::try_from(*weight).ok()?.checked_mul(1000),
            IntOrString::String(text) => match text.strip_suffix('m') {
                Some(thousandths) => thousandths.parse().ok(),
                None => text.parse::<u32>().ok()?.checked_mul(1000),
            },
        }
    }
}
