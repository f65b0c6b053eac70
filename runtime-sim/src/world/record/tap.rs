//! What taps told: of requests, of what was lost, and what else they said.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use mesh_core::time::Timestamp;

use super::Record;
use crate::lock;

/// What one tap told.
#[derive(Clone, Debug, Default)]
pub struct TapLog {
    /// The pods that it is about.
    pub pods: Vec<Arc<str>>,
    /// What it told of requests, in order.
    pub events: Vec<TapEvent>,
    /// Requests and events that each pod said it could not tell of.
    pub lost: BTreeMap<Arc<str>, u64>,
    /// What else it said: who is missing and why, that it is over.
    pub said: Vec<(Timestamp, String)>,
    /// Why it was refused, where it was.
    pub refused: Option<String>,
}

/// A moment of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapEvent {
    /// When it was read.
    pub at: Timestamp,
    /// Whose proxy told it.
    pub pod: Arc<str>,
    /// Where the proxy stands; none where it does not say.
    pub side: Option<TapSide>,
    /// The proxy's number of the request.
    pub stream: u64,
    /// Which moment.
    pub moment: TapMoment,
}

/// Which moment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapMoment {
    /// Its head came, with the number that its sender gave it.
    Request(Option<u64>),
    /// The response's head came.
    Response,
    /// It is over.
    End,
}

/// Where a proxy stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TapSide {
    /// At the server.
    Inbound,
    /// At the client.
    Outbound,
}

impl fmt::Display for TapSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        })
    }
}

impl Record {
    /// A tap tells something.
    pub fn tap(&self, name: &Arc<str>, note: impl FnOnce(&mut TapLog)) {
        note(lock(&self.0).taps.entry(name.clone()).or_default());
    }
}
