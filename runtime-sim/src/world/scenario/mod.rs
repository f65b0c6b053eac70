//! The `Scenario` document: what happens in a world and what must hold. Plain data as a file says
//! it; `parse` reads it, `run` plays it.

mod expect;
mod fault;
mod span;
mod workload;

use serde::Deserialize;

pub use expect::{Expectation, Window};
pub use fault::{Action, CrashKind, Fault};
pub use span::Span;
pub use workload::{
    Arrivals, Connections, Framing, Misbehaviour, Protocol, RequestShape, Retries, Senders, Size,
    StreamShape, Streaming, Workload,
};

/// A scenario's own part of a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What it shows, in a sentence.
    pub about: String,
    /// How long workloads run.
    pub duration: Span,
    /// Seeds it is run with where none is asked for.
    #[serde(default = "first_seed")]
    pub seeds: Vec<u64>,
    /// Requests, and who sends them.
    #[serde(default)]
    pub workloads: Vec<Workload>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What must hold.
    pub expect: Vec<Expectation>,
}

fn first_seed() -> Vec<u64> {
    vec![1]
}
