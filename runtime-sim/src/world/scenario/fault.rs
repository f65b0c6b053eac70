//! What goes wrong, or is done to the cluster.

use serde::Deserialize;

use super::Span;

/// Something that goes wrong, or is done to the cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When.
    pub at: Span,
    /// How long; to the end where nothing is said.
    #[serde(rename = "for")]
    pub lasts: Option<Span>,
    /// What.
    #[serde(rename = "do")]
    pub action: Action,
}

/// What a fault does. Targets are pods' names, or `controller`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Ends processes; started again when the fault ends.
    Crash {
        /// Whose.
        target: String,
        /// How.
        #[serde(default)]
        how: CrashKind,
        /// Only this one: `app` or `proxy`.
        process: Option<String>,
    },
    /// Starts a target again that crashed.
    Restart {
        /// Which.
        target: String,
    },
    /// Stops processes, not their kernel.
    Pause {
        /// Whose.
        target: String,
    },
    /// Cuts two targets off from each other.
    Partition {
        /// One side.
        a: String,
        /// The other.
        b: String,
        /// Only what `a` sends is lost.
        #[serde(default)]
        one_way: bool,
    },
    /// Makes a pod's answers late.
    Slow {
        /// Which pod.
        target: String,
        /// By how much.
        by: Span,
    },
    /// Makes a pod answer with errors, at once.
    Errors {
        /// Which pod.
        target: String,
        /// The status.
        status: u16,
        /// The part of requests, 0 to 1.
        #[serde(default = "all")]
        rate: f64,
    },
    /// Applies objects: manifests as text.
    Apply {
        /// YAML, of any number of documents.
        manifest: String,
    },
    /// Deletes an object. A Pod leaves its services' endpoints at once, is told to finish after its
    /// `preStop` sleep, and ends five seconds later.
    Delete {
        /// `Pod`, `Service`, `Server`…
        object: String,
        /// Its name.
        name: String,
        /// Its namespace.
        #[serde(default = "default_namespace")]
        namespace: String,
    },
}

fn all() -> f64 {
    1.0
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// How processes end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashKind {
    /// The kernel closes their sockets.
    #[default]
    Process,
    /// The host falls silent.
    Power,
}
