//! What goes wrong, or is done to the cluster.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Target;
use super::text::{Bandwidth, Span};

/// Something that goes wrong, or is done to the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// A name that expectations may use.
    pub id: Option<String>,
    /// When.
    pub at: Span,
    /// How long; to the end where nothing is said.
    #[serde(rename = "for")]
    pub lasts: Option<Span>,
    /// Again and again: from one beginning to the next.
    pub every: Option<Span>,
    /// How often with `every`; until the end where nothing is said.
    #[schemars(range(min = 1))]
    pub times: Option<u32>,
    /// What.
    #[serde(rename = "do")]
    pub action: Action,
}

impl Fault {
    /// When it begins, each time, within a run of that duration.
    pub fn beginnings(&self, duration: Span) -> impl Iterator<Item = Duration> {
        let first = self.at.0;
        let every = self.every.map(|every| every.0.max(Duration::from_nanos(1)));
        let times = match every {
            Some(_) => self.times.unwrap_or(u32::MAX),
            None => 1,
        };
        let nth = move |n| first + every.unwrap_or_default().saturating_mul(n);
        (0..times).map(nth).take_while(move |at| *at <= duration.0)
    }
}

/// What a fault does. When it ends, what it did is undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Ends processes; they are started again when the fault ends.
    Crash {
        /// Whose.
        target: Target,
        /// How.
        #[serde(default)]
        how: CrashKind,
        /// Only this one.
        process: Option<Process>,
    },
    /// Ends what runs of a target and starts it again.
    Restart {
        /// Which.
        target: Target,
    },
    /// Stops a host, its kernel too: what is sent to it meanwhile is sent again when it goes on.
    Pause {
        /// Whose.
        target: Target,
    },
    /// Cuts two targets off from each other. What is under way is sent again after it.
    Partition {
        /// One side.
        a: Target,
        /// The other: all others where nothing is said.
        #[serde(default = "all")]
        b: Target,
        /// Only what `a` sends is lost.
        #[serde(default)]
        one_way: bool,
    },
    /// Makes packets take longer.
    Latency {
        /// One side.
        a: Target,
        /// The other: all others where nothing is said.
        #[serde(default = "all")]
        b: Target,
        /// Only what `a` sends.
        #[serde(default)]
        one_way: bool,
        /// By how much.
        by: Span,
        /// And by up to this, each packet by its own draw.
        #[serde(default)]
        jitter: Span,
    },
    /// Loses packets, which are sent again.
    Loss {
        /// One side.
        a: Target,
        /// The other: all others where nothing is said.
        #[serde(default = "all")]
        b: Target,
        /// Only what `a` sends.
        #[serde(default)]
        one_way: bool,
        /// The part of packets, 0 to 1.
        #[schemars(range(min = 0.0, max = 1.0))]
        rate: f64,
    },
    /// Lets less through.
    Bandwidth {
        /// One side.
        a: Target,
        /// The other: all others where nothing is said.
        #[serde(default = "all")]
        b: Target,
        /// Only what `a` sends.
        #[serde(default)]
        one_way: bool,
        /// The most that gets through.
        limit: Bandwidth,
    },
    /// Resets every connection between two targets, once.
    Reset {
        /// One side.
        a: Target,
        /// The other: all others where nothing is said.
        #[serde(default = "all")]
        b: Target,
    },
    /// Makes a pod's answers late.
    Slow {
        /// Which pods.
        target: Target,
        /// By how much.
        by: Span,
    },
    /// Makes a pod answer with errors, at once.
    Errors {
        /// Which pods.
        target: Target,
        /// The status.
        #[schemars(range(min = 100, max = 599))]
        status: u16,
        /// The part of requests, 0 to 1.
        #[serde(default = "always")]
        #[schemars(range(min = 0.0, max = 1.0))]
        rate: f64,
    },
    /// Makes a pod's program read nothing more of its connections.
    StopReading {
        /// Which pods.
        target: Target,
    },
    /// Takes an API of the control plane away. Connections to the control plane are reset; who asks for
    /// another API connects again.
    Outage {
        /// Which.
        component: Component,
        /// How.
        #[serde(default)]
        how: OutageKind,
    },
    /// Makes changes reach the controllers later.
    WatchLag {
        /// By how much.
        by: Span,
    },
    /// Breaks the controllers' watches, once; they go on where they were.
    WatchDisconnect {},
    /// Breaks the controllers' watches, once, as an API server does that forgot the history: they
    /// list anew.
    Relist {},
    /// Makes lists show the cluster as it was, as an API server does that answers from its cache.
    StaleList {
        /// How old.
        by: Span,
    },
    /// The next writes meet a conflict.
    WriteConflicts {
        /// How many.
        #[schemars(range(min = 1))]
        count: u32,
    },
    /// The API server is away.
    ApiOutage {
        /// For which controllers; for everyone where nothing is said.
        #[serde(default = "all", skip_serializing_if = "is_all")]
        target: Target,
    },
    /// Takes the leader's lease away, once.
    LeaseLoss {},
    /// Gives the control plane a new issuer below the same trust anchor.
    RotateIssuer {},
    /// A step of replacing the trust anchor.
    RotateTrustAnchor {
        /// Which.
        step: RotationStep,
    },
    /// Sets a wall clock wrong.
    ClockSkew {
        /// Whose.
        target: Target,
        /// How far ahead.
        #[serde(default)]
        ahead: Span,
        /// How far behind.
        #[serde(default)]
        behind: Span,
    },
    /// Makes a clock run too fast or too slowly.
    ClockDrift {
        /// Whose.
        target: Target,
        /// Millionths; below zero is too slow.
        #[schemars(range(min = -500_000, max = 500_000))]
        ppm: i32,
    },
    /// Makes name resolution fail.
    Dns {
        /// Who is affected: everyone where nothing is said.
        #[serde(default = "all")]
        target: Target,
        /// Only this name.
        name: Option<String>,
        /// How.
        how: DnsKind,
    },
    /// Replaces a Deployment's pods, as its strategy says.
    Rollout {
        /// Which.
        #[schemars(extend("format" = "deployment"))]
        deployment: String,
    },
    /// Changes a Deployment's number of pods.
    Scale {
        /// Which.
        #[schemars(extend("format" = "deployment"))]
        deployment: String,
        /// To how many.
        #[schemars(range(max = 5_000))]
        replicas: u32,
    },
    /// Applies objects: manifests as text.
    Apply {
        /// YAML, of any number of documents.
        #[schemars(extend("format" = "manifest"))]
        manifest: String,
    },
    /// Deletes an object. A Pod leaves its services' endpoints at once, is told to finish after its
    /// `preStop` sleep, and ends with its grace period; another takes its place.
    Delete {
        /// `Pod`, `Service`, `Server`…
        #[schemars(extend("format" = "kind"))]
        object: String,
        /// Its name.
        name: String,
        /// Its namespace.
        #[serde(default = "default_namespace")]
        namespace: String,
    },
    /// Replaces proxies: the old one drains until the fault ends; then what is left of it is ended, and
    /// the new one starts where it listened.
    UpgradeProxy {
        /// Whose.
        target: Target,
    },
    /// A node is gone with what runs on it; Kubernetes notices as it would.
    NodeLoss {
        /// Which.
        #[schemars(extend("format" = "node"))]
        node: String,
    },
    /// Every node of a zone is gone.
    ZoneLoss {
        /// Which.
        #[schemars(extend("format" = "zone"))]
        zone: String,
    },
}

fn all() -> Target {
    Target::All
}

fn is_all(target: &Target) -> bool {
    *target == Target::All
}

fn always() -> f64 {
    1.0
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// How processes end.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CrashKind {
    /// The kernel closes their sockets.
    #[default]
    Process,
    /// The host falls silent.
    Power,
    /// They live, and do nothing any more; their sockets stay.
    Hang,
}

/// A process of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// The program.
    App,
    /// The proxy beside it.
    Proxy,
}

/// An API of the control plane.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Endpoints and service profiles.
    Destination,
    /// Inbound and outbound policy.
    Policy,
    /// Certificates.
    Identity,
}

/// How an API is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutageKind {
    /// New connections are refused.
    #[default]
    Refuse,
    /// New connections are not answered.
    Silence,
}

/// A step of replacing the trust anchor, as an operator takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotationStep {
    /// A new anchor is trusted beside the old one, by what starts from now on.
    Add,
    /// The issuer is replaced by one below the new anchor.
    Switch,
    /// The old anchor is trusted no more, by what starts from now on.
    Remove,
}

/// How name resolution fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DnsKind {
    /// The name does not exist.
    NotFound,
    /// Nobody answers.
    Silence,
}

impl Action {
    /// Whether it happens at a moment: there is nothing to undo.
    pub fn is_momentary(&self) -> bool {
        match self {
            Self::Restart { .. }
            | Self::Reset { .. }
            | Self::WatchDisconnect {}
            | Self::Relist {}
            | Self::LeaseLoss {}
            | Self::RotateIssuer {}
            | Self::RotateTrustAnchor { .. }
            | Self::Rollout { .. }
            | Self::Apply { .. }
            | Self::Delete { .. } => true,
            Self::Crash { .. }
            | Self::Pause { .. }
            | Self::Partition { .. }
            | Self::Latency { .. }
            | Self::Loss { .. }
            | Self::Bandwidth { .. }
            | Self::Slow { .. }
            | Self::Errors { .. }
            | Self::StopReading { .. }
            | Self::Outage { .. }
            | Self::WatchLag { .. }
            | Self::StaleList { .. }
            | Self::WriteConflicts { .. }
            | Self::ApiOutage { .. }
            | Self::ClockSkew { .. }
            | Self::ClockDrift { .. }
            | Self::Dns { .. }
            | Self::Scale { .. }
            | Self::UpgradeProxy { .. }
            | Self::NodeLoss { .. }
            | Self::ZoneLoss { .. } => false,
        }
    }

    /// Whom it is done to, both sides of a link among them.
    pub fn targets(&self) -> Vec<Target> {
        self.clone().targets_mut().into_iter().map(|target| target.clone()).collect()
    }

    /// As `targets`, to be changed.
    pub fn targets_mut(&mut self) -> Vec<&mut Target> {
        match self {
            Self::Crash { target, .. }
            | Self::Restart { target }
            | Self::Pause { target }
            | Self::Slow { target, .. }
            | Self::Errors { target, .. }
            | Self::StopReading { target }
            | Self::ClockSkew { target, .. }
            | Self::ClockDrift { target, .. }
            | Self::Dns { target, .. }
            | Self::ApiOutage { target }
            | Self::UpgradeProxy { target } => vec![target],
            Self::Partition { a, b, .. }
            | Self::Latency { a, b, .. }
            | Self::Loss { a, b, .. }
            | Self::Bandwidth { a, b, .. }
            | Self::Reset { a, b } => vec![a, b],
            Self::Outage { .. }
            | Self::WatchLag { .. }
            | Self::WatchDisconnect {}
            | Self::Relist {}
            | Self::StaleList { .. }
            | Self::WriteConflicts { .. }
            | Self::LeaseLoss {}
            | Self::RotateIssuer {}
            | Self::RotateTrustAnchor { .. }
            | Self::Rollout { .. }
            | Self::Scale { .. }
            | Self::Apply { .. }
            | Self::Delete { .. }
            | Self::NodeLoss { .. }
            | Self::ZoneLoss { .. } => Vec::new(),
        }
    }
}

impl Component {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Destination, Self::Policy, Self::Identity];

    /// Its name in the proxy's variables.
    pub fn service(self) -> &'static str {
        match self {
            Self::Destination => "DESTINATION",
            Self::Policy => "POLICY",
            Self::Identity => "IDENTITY",
        }
    }

    /// The port of its service, and where the controller serves it.
    pub fn port(self) -> u16 {
        match self {
            Self::Destination => 8086,
            Self::Policy => 8090,
            Self::Identity => 8080,
        }
    }
}

impl Process {
    /// Its name on a host.
    pub fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Proxy => "proxy",
        }
    }
}

impl fmt::Display for Action {
    /// As it stands in a file: `partition {a: zone/a, b: zone/b}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = serde_json::to_value(self).map_err(|_| fmt::Error)?;
        let (name, fields) = match &value {
            serde_json::Value::Object(map) => map.iter().next().ok_or(fmt::Error)?,
            _ => return Err(fmt::Error),
        };
        f.write_str(name)?;
        let fields = fields.as_object().into_iter().flatten();
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.lines().next().unwrap_or_default().to_owned(),
            other => other.to_string(),
        };
        let fields = fields
            .filter(|(_, value)| !value.is_null() && **value != serde_json::Value::Bool(false))
            .map(|(name, value)| format!("{name}: {}", text(value)));
        let fields: Vec<_> = fields.collect();
        match fields.is_empty() {
            true => Ok(()),
            false => write!(f, " {{{}}}", fields.join(", ")),
        }
    }
}
