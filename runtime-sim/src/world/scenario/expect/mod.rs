//! What must hold. Plain data as a file says it; `oracle` judges by it.
//!
//! What every mesh owes its users is expected of every scenario without being written (see
//! [`DefaultOracle`]); a scenario that cannot hold one of those says so, and why.

mod display;
mod tap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use mesh_core::time::Timestamp;

use super::{Bytes, Span};

pub use tap::{TapLoss, TapOnly, TapRefused, TapSays, Tapped};

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
    /// success was executed; no answer was another request's. Of streams: every message arrived once,
    /// in order, at both ends.
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
    /// Every pod of a deployment had its fair part of the requests in the window.
    EvenLoad {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// Whose pods.
        #[schemars(extend("format" = "deployment"))]
        deployment: String,
        /// How far from the fair part, as a part of it: 0.2 is 20 % more or less.
        within: f64,
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
    NoPlaintext {
        /// Between which hosts.
        #[serde(default)]
        between: Between,
    },
    /// A pod was sent no request after a moment.
    NoTraffic {
        /// Which pod.
        #[schemars(extend("format" = "pod"))]
        pod: String,
        /// Since when.
        after: Span,
    },
    /// No pod got a request this long after it had left its services' ready endpoints, until it was
    /// back.
    NoTrafficToDead {
        /// How long the mesh may take to notice.
        within: Span,
    },
    /// This long after a fault ended, and until the next one began, every proxy that balances over a
    /// service had the endpoints that the cluster has of it, and none was down. One that differs is
    /// looked at once more a second later: the change may be on its way.
    Converged {
        /// How long it may take.
        within: Span,
    },
    /// What a process uses stayed below bounds.
    Bounded {
        /// Whose pod; every one where nothing is said.
        #[schemars(extend("format" = "pod"))]
        pod: Option<String>,
        /// Heap at most: `8MiB`.
        heap_at_most: Option<Bytes>,
        /// Connections and listeners at most.
        sockets_at_most: Option<u64>,
        /// Tasks at most.
        tasks_at_most: Option<u64>,
        /// In the end, each figure was at most this part above what it was before the workloads
        /// began: 0.1 is 10 %.
        growth_at_most: Option<f64>,
    },
    /// The server saw the sender's identity with each of the workload's requests, and it was right; and
    /// the server was a pod of the service that was asked for, or of those to which its routes lead.
    Identity {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// The identity, such as `client.shop.serviceaccount.identity.linkerd.cluster.local`; where
        /// nothing is said, that of the sender's service account, or none where it is not meshed.
        client: Option<String>,
    },
    /// Every request that began in the window was refused, and none was executed.
    Denied {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// No request that began in the window was executed, whatever became of it: of those that are
    /// denied, also where a fault keeps the refusal from them.
    NotExecuted {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// In every stretch of time, executions were at most this part above the requests.
    RetryBudget {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// 0.2 allows one more execution for every five requests.
        at_most: f64,
        /// The length of a stretch.
        #[serde(default = "ten_seconds")]
        per: Span,
        /// Executions that are always allowed above the requests in a stretch.
        #[serde(default)]
        free: u64,
    },
    /// In every stretch of time in the window, at most so many connections were tried to be opened, a SYN
    /// that is sent again not counted.
    ConnectAttempts {
        /// By which pod; by all hosts together where nothing is said.
        #[schemars(extend("format" = "pod"))]
        from: Option<String>,
        /// To which pod, or `controller`; to all hosts together where nothing is said.
        #[schemars(extend("format" = "pod"))]
        to: Option<String>,
        /// How many.
        at_most: u64,
        /// The length of a stretch.
        #[serde(default = "one_second")]
        per: Span,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// What the proxies counted is what the workloads counted, in the end.
    MetricsAgree {
        /// How many requests' difference is no fault: of those that a crash took with them.
        #[serde(default)]
        tolerance: u64,
    },
    /// A metric had a value, at least once in the window, or within a while after its beginning.
    Eventually {
        /// The metric: `outbound_http_balancer_endpoints{endpoint_state="ready"}`. Series that match
        /// are added up.
        metric: String,
        /// Whose proxy, or `controller`; every proxy of the mesh where nothing is said.
        #[schemars(extend("format" = "pod"))]
        pod: Option<String>,
        /// Exactly so much.
        equals: Option<f64>,
        /// No less.
        at_least: Option<f64>,
        /// No more.
        at_most: Option<f64>,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// A metric never had such a value in the window.
    Never {
        /// As of `eventually`.
        metric: String,
        /// Whose proxy; any where nothing is said.
        #[schemars(extend("format" = "pod"))]
        pod: Option<String>,
        /// Exactly so much.
        equals: Option<f64>,
        /// No less.
        at_least: Option<f64>,
        /// No more.
        at_most: Option<f64>,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// When the workloads had ended and idle times had passed, hosts had the tasks, connections and
    /// timers that they had before.
    NoLeak {
        /// How many more of each are no leak.
        #[serde(default = "leak_tolerance")]
        tolerance: u64,
    },
    /// No request of the workload hung beyond its timeout, and of those that began last, some
    /// succeeded.
    Live {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// How much of its end is looked at.
        #[serde(default = "five_seconds")]
        last: Span,
    },
    /// Requests of a workload that were under way at once.
    InFlight {
        /// Which workload.
        #[schemars(extend("format" = "workload"))]
        workload: String,
        /// How many.
        at_most: u64,
        /// When.
        #[serde(default)]
        window: Window,
    },
    /// A tap told of a workload's requests once, on one side.
    Tapped(Tapped),
    /// A tap told of one workload's requests alone.
    TapOnly(TapOnly),
    /// What a tap did not tell of, it told to be lost.
    TapLoss(TapLoss),
    /// A tap said who is missing, or that it is over.
    TapSays(TapSays),
    /// A tap was refused.
    TapRefused(TapRefused),
    /// What is expected of every scenario need not hold in this one.
    Relaxed {
        /// What.
        oracle: DefaultOracle,
        /// Only of this workload, where the oracle is of one.
        #[schemars(extend("format" = "workload"))]
        workload: Option<String>,
        /// Why, in a sentence.
        because: String,
    },
}

/// What is expected of every scenario. An expectation of the same name that a scenario writes takes
/// the place of the default.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DefaultOracle {
    /// Every workload is conserved.
    Conserved,
    /// No plaintext between pods that are both meshed.
    NoPlaintext,
    /// No task panics.
    NoPanics,
    /// Every workload succeeds in the end, and hangs never.
    Live,
    /// Nothing is left over in the end.
    NoLeak,
    /// Every proxy stayed within the heap that is a proxy's, where the scenario sets it no other bound.
    Memory,
}

/// Hosts between which plaintext is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Between {
    /// Pods that are both meshed.
    #[default]
    Meshed,
    /// Any two.
    All,
}

/// Values of a metric; all bounds must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Value {
    /// Exactly.
    pub equals: Option<f64>,
    /// No less.
    pub at_least: Option<f64>,
    /// No more.
    pub at_most: Option<f64>,
}

impl Value {
    /// Whether a number is one of these.
    pub fn contains(&self, number: f64) -> bool {
        self.equals.is_none_or(|equals| number == equals)
            && self.at_least.is_none_or(|least| number >= least)
            && self.at_most.is_none_or(|most| number <= most)
    }
}

fn once() -> u64 {
    1
}

fn leak_tolerance() -> u64 {
    8
}

fn one_second() -> Span {
    Span(std::time::Duration::from_secs(1))
}

fn five_seconds() -> Span {
    Span(std::time::Duration::from_secs(5))
}

fn ten_seconds() -> Span {
    Span(std::time::Duration::from_secs(10))
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

impl Window {
    /// Whether a moment is in it.
    pub fn contains(self, at: Timestamp) -> bool {
        let at = at.since(Timestamp::ZERO);
        self.from.is_none_or(|from| at >= from.0) && self.to.is_none_or(|to| at < to.0)
    }
}

impl Expectation {
    /// The values that `eventually` and `never` are about.
    pub fn value(&self) -> Value {
        match self {
            Self::Eventually { equals, at_least, at_most, .. }
            | Self::Never { equals, at_least, at_most, .. } => {
                Value { equals: *equals, at_least: *at_least, at_most: *at_most }
            }
            _ => Value::default(),
        }
    }

    /// Its name in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Requests { .. } => "requests",
            Self::SuccessRate { .. } => "success_rate",
            Self::Failures { .. } => "failures",
            Self::Conserved { .. } => "conserved",
            Self::LoadShare { .. } => "load_share",
            Self::EvenLoad { .. } => "even_load",
            Self::Latency { .. } => "latency",
            Self::NoPlaintext { .. } => "no_plaintext",
            Self::NoTraffic { .. } => "no_traffic",
            Self::NoTrafficToDead { .. } => "no_traffic_to_dead",
            Self::Converged { .. } => "converged",
            Self::Bounded { .. } => "bounded",
            Self::Identity { .. } => "identity",
            Self::Denied { .. } => "denied",
            Self::NotExecuted { .. } => "not_executed",
            Self::RetryBudget { .. } => "retry_budget",
            Self::ConnectAttempts { .. } => "connect_attempts",
            Self::MetricsAgree { .. } => "metrics_agree",
            Self::Eventually { .. } => "eventually",
            Self::Never { .. } => "never",
            Self::NoLeak { .. } => "no_leak",
            Self::Live { .. } => "live",
            Self::InFlight { .. } => "in_flight",
            Self::Tapped(_) => "tapped",
            Self::TapOnly(_) => "tap_only",
            Self::TapLoss(_) => "tap_loss",
            Self::TapSays(_) => "tap_says",
            Self::TapRefused(_) => "tap_refused",
            Self::Relaxed { .. } => "relaxed",
        }
    }

    /// The workload that it is about, where it is about one.
    pub fn workload(&self) -> Option<&str> {
        match self {
            Self::Requests { workload, .. }
            | Self::SuccessRate { workload, .. }
            | Self::Failures { workload, .. }
            | Self::Conserved { workload, .. }
            | Self::LoadShare { workload, .. }
            | Self::EvenLoad { workload, .. }
            | Self::Latency { workload, .. }
            | Self::Identity { workload, .. }
            | Self::Denied { workload, .. }
            | Self::NotExecuted { workload, .. }
            | Self::RetryBudget { workload, .. }
            | Self::Live { workload, .. }
            | Self::InFlight { workload, .. }
            | Self::Tapped(Tapped { workload, .. })
            | Self::TapOnly(TapOnly { workload, .. })
            | Self::TapLoss(TapLoss { workload, .. }) => Some(workload),
            Self::Relaxed { workload, .. } => workload.as_deref(),
            _ => None,
        }
    }

    /// The pod that it is about, where it is about one.
    pub fn pod(&self) -> Option<&str> {
        match self {
            Self::LoadShare { pod, .. } | Self::NoTraffic { pod, .. } => Some(pod),
            Self::Bounded { pod, .. } | Self::Eventually { pod, .. } | Self::Never { pod, .. } => {
                pod.as_deref()
            }
            _ => None,
        }
    }

    /// The deployment that it is about, where it is about one.
    pub fn deployment(&self) -> Option<&str> {
        match self {
            Self::EvenLoad { deployment, .. } => Some(deployment),
            _ => None,
        }
    }
}
