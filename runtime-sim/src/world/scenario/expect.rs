//! What must hold.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// What must hold. Times are since the start of the run; a window left open is the whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expectation {
    /// So many requests were answered: nothing else is shown by too few.
    Requests {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// How many.
        at_least: u64,
    },
    /// The part of the requests that began in the window and succeeded.
    SuccessRate {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// From 0 to 1.
        #[schemars(range(min = 0.0, max = 1.0))]
        at_least: f64,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// Requests that began in the window and failed.
    Failures {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// How many.
        at_most: u64,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// Every request ended exactly once; none was executed more often than allowed, and every
    /// success was executed.
    Conserved {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// Times one request may be executed.
        #[serde(default = "once")]
        executions_at_most: u64,
    },
    /// A pod's part of the requests that reached any pod in the window.
    LoadShare {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// Which pod.
        #[schemars(extend("format" = "pod"))]
        pod: String,
        /// From 0 to 1.
        #[schemars(range(min = 0.0, max = 1.0))]
        at_least: Option<f64>,
        /// From 0 to 1.
        #[schemars(range(min = 0.0, max = 1.0))]
        at_most: Option<f64>,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// A quantile of the time that successes took.
    Latency {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// 0.5, 0.99…
        #[schemars(range(min = 0.0, max = 1.0))]
        quantile: f64,
        /// How long.
        at_most: Span,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// The text that every request carries crossed no link between hosts in the clear.
    NoPlaintext {},
    /// A pod was sent no request after a moment.
    NoTraffic {
        /// Which pod.
        #[schemars(extend("format" = "pod"))]
        pod: String,
        /// Since when.
        after: Span,
    },
}

fn once() -> u64 {
    1
}

/// A part of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Its beginning; the run's where nothing is said.
    pub from: Option<Span>,
    /// Its end; the run's where nothing is said.
    pub to: Option<Span>,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (None, None) => Ok(()),
            (Some(from), None) => write!(f, " from {from}"),
            (None, Some(to)) => write!(f, " until {to}"),
            (Some(from), Some(to)) => write!(f, " from {from} to {to}"),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests { workload, at_least } => {
                write!(f, "{workload}: at least {at_least} answered requests")
            }
            Self::SuccessRate { workload, at_least, window } => {
                write!(f, "{workload}: success rate at least {at_least}{window}")
            }
            Self::Failures { workload, at_most, window } => {
                write!(f, "{workload}: at most {at_most} failed requests{window}")
            }
            Self::Conserved { workload, .. } => {
                write!(f, "{workload}: every request accounted for exactly once")
            }
            Self::LoadShare { workload, pod, at_least, at_most, window } => {
                write!(f, "{workload}: load share of {pod}")?;
                if let Some(at_least) = at_least {
                    write!(f, " at least {at_least}")?;
                }
                if let Some(at_most) = at_most {
                    write!(f, " at most {at_most}")?;
                }
                write!(f, "{window}")
            }
            Self::Latency { workload, quantile, at_most, window } => {
                write!(f, "{workload}: latency quantile {quantile} at most {at_most}{window}")
            }
            Self::NoPlaintext {} => f.write_str("no plaintext between hosts"),
            Self::NoTraffic { pod, after } => write!(f, "no traffic to {pod} after {after}"),
        }
    }
}
