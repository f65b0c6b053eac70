//! The `Scenario` document: what happens in a world and what must hold. Plain data as a file says
//! it; `parse` reads it, `run` plays it.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Deserialize as DeriveDeserialize, Serialize};

/// A scenario's own part of a file.
#[derive(Clone, Debug, DeriveDeserialize)]
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

/// Requests from the pods of a deployment.
#[derive(Clone, Debug, DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Unique in the scenario.
    pub name: String,
    /// A Deployment of this file; its first pod sends.
    pub from: String,
    /// Host and port: `web.shop.svc.cluster.local:80`.
    pub to: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// When requests come.
    pub arrivals: Arrivals,
    /// Requests at most.
    pub requests: Option<u64>,
    /// When the first may come; after the mesh has started where nothing is said.
    #[serde(default = "after_start")]
    pub start: Span,
    /// When the last may come; the end of the scenario where nothing is said.
    pub stop: Option<Span>,
    /// How long one request may take.
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
}

fn after_start() -> Span {
    Span(Duration::from_secs(2))
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

/// What a workload speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveDeserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1 on pooled connections.
    Http1,
    /// HTTP/2 with prior knowledge on one connection.
    H2,
    /// A line each way per connection, the client first.
    Tcp,
    /// As `tcp`, after the server's greeting.
    ServerFirstTcp,
}

/// When requests come.
#[derive(Clone, Copy, Debug, DeriveDeserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// So many a second, whatever becomes of them.
    Constant {
        /// Requests per second.
        rate: f64,
    },
    /// So many callers, each of which sends the next when it has its answer.
    Closed {
        /// Callers.
        concurrency: u32,
        /// Between an answer and the next request.
        #[serde(default)]
        think: Span,
    },
}

/// Something that goes wrong, or is done to the cluster.
#[derive(Clone, Debug, DeriveDeserialize)]
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
#[derive(Clone, Debug, DeriveDeserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeriveDeserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashKind {
    /// The kernel closes their sockets.
    #[default]
    Process,
    /// The host falls silent.
    Power,
}

/// What must hold. Times are since the start of the run; a window left open is the whole run.
#[derive(Clone, Debug, DeriveDeserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expectation {
    /// So many requests were answered: nothing else is shown by too few.
    Requests {
        /// Which workload.
        workload: String,
        /// How many.
        at_least: u64,
    },
    /// The part of the requests that began in the window and succeeded.
    SuccessRate {
        /// Which workload.
        workload: String,
        /// From 0 to 1.
        at_least: f64,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// Requests that began in the window and failed.
    Failures {
        /// Which workload.
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
        workload: String,
        /// Times one request may be executed.
        #[serde(default = "once")]
        executions_at_most: u64,
    },
    /// A pod's part of the requests that reached any pod in the window.
    LoadShare {
        /// Which workload.
        workload: String,
        /// Which pod.
        pod: String,
        /// From 0 to 1.
        at_least: Option<f64>,
        /// From 0 to 1.
        at_most: Option<f64>,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// A quantile of the time that successes took.
    Latency {
        /// Which workload.
        workload: String,
        /// 0.5, 0.99…
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
        pod: String,
        /// Since when.
        after: Span,
    },
}

fn once() -> u64 {
    1
}

/// A part of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Its beginning; the run's where nothing is said.
    pub from: Option<Span>,
    /// Its end; the run's where nothing is said.
    pub to: Option<Span>,
}

/// A duration as people write it: `250us`, `20ms`, `1.5s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Reads a number and a unit.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| c.is_ascii_alphabetic());
        let (number, unit) = text.split_at(split.unwrap_or(text.len()));
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(format!("`{text}` has no unit of us, ms, s, m or h")),
        };
        let number: f64 = number.parse().map_err(|_| format!("`{text}` is no duration"))?;
        Duration::try_from_secs_f64(number * seconds)
            .map(Self)
            .map_err(|_| format!("`{text}` is no duration"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).map_err(D::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
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
