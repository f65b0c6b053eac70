//! A destination's profile (`destination.DestinationProfile`): opaqueness, the endpoint behind a
//! pod address, and the routes, retries and splits of ServiceProfiles.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::labels::Labels;
use super::metadata::Metadata;
use super::pattern::Pattern;
use super::ratio::Ratio;
use super::target::NameAddr;

/// What is known of a destination address besides its policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The service's name, where the destination is one.
    pub fully_qualified_name: Option<String>,
    /// Do not detect: carry the bytes.
    pub opaque: bool,
    /// Routes, in order.
    pub routes: Vec<ProfileRoute>,
    /// Limits retries of all routes.
    pub retry_budget: Option<RetryBudget>,
    /// Traffic split.
    pub dst_overrides: Vec<WeightedDestination>,
    /// The endpoint itself, where the destination is one pod.
    pub endpoint: Option<Endpoint>,
    /// The service as an object.
    pub parent: Option<Metadata>,
    /// The ServiceProfile as an object.
    pub profile: Option<Metadata>,
}

/// A route of a ServiceProfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileRoute {
    /// Which requests.
    pub condition: RequestMatch,
    /// Which responses are failures; the first that matches decides.
    pub response_classes: Vec<ResponseClass>,
    /// Metric labels.
    pub labels: Labels,
    /// Failures may be retried.
    pub retryable: bool,
    /// Time for the whole request.
    pub timeout: Option<Duration>,
}

/// A condition on requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestMatch {
    /// All of them hold.
    All(Vec<RequestMatch>),
    /// One of them holds.
    Any(Vec<RequestMatch>),
    /// It does not hold.
    Not(Box<RequestMatch>),
    /// The path matches.
    Path(Pattern),
    /// The method is this.
    Method(http::Method),
}

/// How deep conditions may be nested; deeper ones are refused while decoding.
pub const MATCH_DEPTH_MAX: usize = 32;

/// Classifies responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseClass {
    /// Which responses.
    pub condition: ResponseMatch,
    /// Whether they are failures.
    pub is_failure: bool,
}

/// A condition on responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseMatch {
    /// All of them hold.
    All(Vec<ResponseMatch>),
    /// One of them holds.
    Any(Vec<ResponseMatch>),
    /// It does not hold.
    Not(Box<ResponseMatch>),
    /// The status lies in this range, both ends included.
    Status {
        /// Lowest.
        min: u16,
        /// Highest.
        max: u16,
    },
}

/// Limits retries to a share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Retries per request.
    pub retry_ratio: Ratio,
    /// Retries that are always allowed.
    pub min_retries_per_second: u32,
    /// How long a request counts.
    pub ttl: Duration,
}

/// A share of a traffic split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedDestination {
    /// Where to.
    pub authority: NameAddr,
    /// Relative weight.
    pub weight: u32,
    /// The backend as an object.
    pub backend: Option<Metadata>,
}
