//! What the network is like before anything goes wrong.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Target;
use super::text::{Bandwidth, Span};

/// The network: what every link is like, and those that are different.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Every link that is not named: 300us (p99 1ms), no loss and no limit where nothing is said.
    #[serde(default)]
    pub default: LinkSpec,
    /// Links that are different; a later one wins over an earlier.
    #[serde(default)]
    pub links: Vec<NamedLink>,
}

/// What one direction of a link is like; what is not said is as the default has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// How long a packet takes.
    pub latency: Option<LatencySpec>,
    /// The most that gets through.
    pub bandwidth: Option<Bandwidth>,
    /// The part of packets that are lost and sent again, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub loss: Option<f64>,
}

/// How long a packet takes: log-normal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencySpec {
    /// Half of them take less.
    pub median: Span,
    /// One in a hundred takes more; the median where nothing is said.
    pub p99: Option<Span>,
}

/// Links between two sets of hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedLink {
    /// One side.
    pub a: Target,
    /// The other.
    pub b: Target,
    /// Only from `a` to `b`.
    #[serde(default)]
    pub one_way: bool,
    /// How long a packet takes.
    pub latency: Option<LatencySpec>,
    /// The most that gets through.
    pub bandwidth: Option<Bandwidth>,
    /// The part of packets that are lost and sent again, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub loss: Option<f64>,
}
