//! Taps that people open on the mesh: plain data as a file says it. `world::taps` carries it out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// A tap, opened at the first controller as `weft tap` does. Headers are always asked for: requests are
/// known by the number in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tap {
    /// Unique among taps.
    pub name: String,
    /// Whose requests: `deploy/web`, `po/web-0`, `ns/shop`.
    pub resource: String,
    /// Where that is.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// What else is asked, by the names of the API: `{method: POST, to: svc/web, max_rps: "50"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ask: BTreeMap<String, String>,
    /// When it is opened.
    pub at: Span,
    /// How long it stays open; to the end where nothing is said.
    #[serde(rename = "for")]
    pub lasts: Option<Span>,
    /// It is open, and what it tells is not read before; read at once where nothing is said.
    pub read_from: Option<Span>,
    /// A pod whose program asks the proxy itself, through the sidecar beside it, in place of the control
    /// plane; `resource` is a pod then.
    #[schemars(extend("format" = "pod"))]
    pub by: Option<String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

impl Tap {
    /// The pod that it is about, where it is about one.
    pub fn pod(&self) -> Option<&str> {
        self.resource.strip_prefix("po/").or(self.resource.strip_prefix("pod/"))
    }
}
