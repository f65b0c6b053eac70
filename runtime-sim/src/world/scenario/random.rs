//! Faults that a seed draws.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Target;
use super::text::Span;

/// Faults that a seed draws, until `heal_by`: from then on the mesh must recover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomFaults {
    /// Of what kinds.
    #[schemars(length(min = 1))]
    pub classes: Vec<FaultClass>,
    /// When the first may come.
    #[serde(default = "after_start")]
    pub from: Span,
    /// From one to the next, on average.
    pub interval: Span,
    /// How long one lasts, at most.
    #[serde(default = "ten_seconds")]
    pub lasts_at_most: Span,
    /// When the last has ended.
    pub heal_by: Span,
    /// Who is spared.
    #[serde(default)]
    pub protect: Vec<Target>,
}

fn after_start() -> Span {
    Span(std::time::Duration::from_secs(2))
}

fn ten_seconds() -> Span {
    Span(std::time::Duration::from_secs(10))
}

/// Kinds of faults that can be drawn.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// A pod's processes end, its host loses power, or they hang.
    Crash,
    /// The controller's processes end.
    ControllerCrash,
    /// A pod is stopped and goes on.
    Pause,
    /// Two hosts are cut off from each other, one way or both.
    Partition,
    /// Packets take longer.
    Latency,
    /// Packets are lost.
    Loss,
    /// Less gets through.
    Bandwidth,
    /// Connections are reset.
    Reset,
    /// A pod is slow.
    Slow,
    /// A pod answers with errors.
    Errors,
    /// An API of the control plane is away.
    Outage,
    /// Watches lag, break or list anew.
    Watch,
    /// The API server is away.
    ApiOutage,
    /// A clock is wrong.
    Clock,
    /// Names are not resolved.
    Dns,
    /// A Deployment's pods are replaced.
    Rollout,
    /// A Deployment grows or shrinks, and is as before afterwards.
    Scale,
    /// A proxy is replaced.
    UpgradeProxy,
}

impl FaultClass {
    /// Every class.
    pub const ALL: [Self; 18] = [
        Self::Crash,
        Self::ControllerCrash,
        Self::Pause,
        Self::Partition,
        Self::Latency,
        Self::Loss,
        Self::Bandwidth,
        Self::Reset,
        Self::Slow,
        Self::Errors,
        Self::Outage,
        Self::Watch,
        Self::ApiOutage,
        Self::Clock,
        Self::Dns,
        Self::Rollout,
        Self::Scale,
        Self::UpgradeProxy,
    ];
}
