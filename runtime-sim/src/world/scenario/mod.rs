//! The `Scenario` document: what happens in a world and what must hold. Plain data as a file says
//! it; `parse` reads it, `run` plays it.
//!
//! Law: what is written is what was read: `Spec` to YAML and back is the same `Spec`.

mod app;
mod expect;
mod fault;
mod network;
mod random;
mod tap;
mod target;
mod text;
mod topology;
mod workload;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use app::App;
pub use expect::{
    Between, DefaultOracle, Expectation, TapLoss, TapOnly, TapRefused, TapSays, Tapped, Value,
    Window,
};
pub use fault::{Action, Component, CrashKind, DnsKind, Fault, OutageKind, Process, RotationStep};
pub use network::{LatencySpec, LinkSpec, NamedLink, Network};
pub use random::{FaultClass, RandomFaults};
pub use tap::Tap;
pub use target::Target;
pub use text::{Bandwidth, Bytes, Moment, Span};
pub use topology::{Lifetimes, Readiness, Topology};
pub use workload::{
    Arrivals, Connections, Framing, Misbehaviour, Protocol, RequestShape, Retries, Senders, Size,
    StreamShape, Streaming, Workload,
};

/// A scenario's own part of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What it shows, in a sentence.
    pub about: String,
    /// How long workloads run.
    pub duration: Span,
    /// The wall clock when it begins; 2026-01-01T00:00:00Z where nothing is said.
    pub start: Option<Moment>,
    /// Seeds it is run with where none is asked for.
    #[serde(default)]
    pub seeds: Seeds,
    /// Files with manifests, relative to this one, that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Deployments in short, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub apps: BTreeMap<String, App>,
    /// What the cluster is made of.
    #[serde(default)]
    pub topology: Topology,
    /// What the network is like.
    #[serde(default)]
    pub network: Network,
    /// Lifetimes of certificates.
    #[serde(default)]
    pub lifetimes: Lifetimes,
    /// Requests, and who sends them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Workload>,
    /// Taps, and what they ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taps: Vec<Tap>,
    /// What goes wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What else goes wrong, drawn by the seed.
    pub random_faults: Option<RandomFaults>,
    /// What must hold.
    pub expect: Vec<Expectation>,
}

/// Seeds: a list, or which to play always and how many more to play when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SeedsForm")]
pub struct Seeds {
    /// Played always.
    pub pinned: Vec<u64>,
    /// More that are played for every change.
    pub ci: u32,
    /// More that are played every night.
    pub nightly: u32,
}

/// Both ways to write seeds.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum SeedsForm {
    /// Played always.
    List(Vec<u64>),
    /// Played always, and how many more are played when.
    #[serde(rename_all = "snake_case")]
    Sets {
        /// Played always.
        #[serde(default)]
        pinned: Vec<u64>,
        /// More that are played for every change: 1, 2, 3…
        #[serde(default)]
        ci: u32,
        /// More that are played every night: 1, 2, 3…
        #[serde(default)]
        nightly: u32,
    },
}

impl From<SeedsForm> for Seeds {
    fn from(form: SeedsForm) -> Self {
        match form {
            SeedsForm::List(pinned) => Self { pinned, ci: 0, nightly: 0 },
            SeedsForm::Sets { pinned, ci, nightly } => Self { pinned, ci, nightly },
        }
    }
}

impl Default for Seeds {
    fn default() -> Self {
        Self { pinned: vec![1], ci: 0, nightly: 0 }
    }
}

impl JsonSchema for Seeds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Seeds".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        SeedsForm::json_schema(generator)
    }
}

impl Seeds {
    /// The seeds for every change: the pinned, and so many of 1, 2, 3… beside them.
    pub fn ci(&self) -> Vec<u64> {
        self.with(self.ci)
    }

    /// The seeds for every night.
    pub fn nightly(&self) -> Vec<u64> {
        self.with(self.nightly.max(self.ci))
    }

    fn with(&self, more: u32) -> Vec<u64> {
        let fresh = (1..).filter(|seed| !self.pinned.contains(seed)).take(more as usize);
        self.pinned.iter().copied().chain(fresh).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_list_or_sets_and_none_is_played_twice() {
        let read = |text: &str| serde_yaml_ng::from_str::<Seeds>(text).expect("seeds");
        assert_eq!(read("[3, 4]").ci(), [3, 4]);
        let sets = read("{pinned: [2], ci: 2, nightly: 4}");
        assert_eq!((sets.pinned.clone(), sets.ci()), (vec![2], vec![2, 1, 3]));
        assert_eq!(sets.nightly(), [2, 1, 3, 4, 5]);
    }
}
