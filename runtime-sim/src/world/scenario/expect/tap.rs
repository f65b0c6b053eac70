//! What must hold of taps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Window;
use crate::world::record::TapSide;

/// The requests of a workload that began in the window, succeeded, and passed a tapped pod on this side
/// were each told of once for each time that they passed, from the beginning to the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tapped {
    /// Which tap.
    #[schemars(extend("format" = "tap"))]
    pub tap: String,
    /// Which workload.
    #[schemars(extend("format" = "workload"))]
    pub workload: String,
    /// On which side of the connection the tapped proxies stand.
    pub side: TapSide,
    /// How many requests at least: nothing is shown by too few.
    #[serde(default = "one")]
    pub at_least: u64,
    /// When.
    #[serde(default)]
    pub window: Window,
}

fn one() -> u64 {
    1
}

/// A tap told of requests of this workload, and of no others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TapOnly {
    /// Which tap.
    #[schemars(extend("format" = "tap"))]
    pub tap: String,
    /// Which workload.
    #[schemars(extend("format" = "workload"))]
    pub workload: String,
}

/// Of the requests that began in the window and passed a tapped pod, as many were not told of as were told
/// to be lost, or fewer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TapLoss {
    /// Which tap.
    #[schemars(extend("format" = "tap"))]
    pub tap: String,
    /// Which workload.
    #[schemars(extend("format" = "workload"))]
    pub workload: String,
    /// On which side of the connection the tapped proxies stand.
    pub side: TapSide,
    /// How many were told to be lost at least.
    #[serde(default)]
    pub at_least: u64,
    /// When; it ends a second before the tap does, for the loss to be told.
    #[serde(default)]
    pub window: Window,
}

/// A tap said something beside what it told of requests: `missing default/web-0: …`, `end: …`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TapSays {
    /// Which tap.
    #[schemars(extend("format" = "tap"))]
    pub tap: String,
    /// A part of what it said.
    pub text: String,
    /// When.
    #[serde(default)]
    pub window: Window,
}

/// A tap was refused with this reason, and told of no request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TapRefused {
    /// Which tap.
    #[schemars(extend("format" = "tap"))]
    pub tap: String,
    /// A part of the reason.
    pub text: String,
}
