//! A world without hosts, for tests of oracles: it shows what it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::metrics::Metrics;
use super::watch::{Expected, Held, Scene};

#[derive(Default)]
pub(super) struct Still {
    /// Pods that may answer for every service; none where nobody says.
    pub(super) servers: Option<BTreeSet<Arc<str>>>,
    /// Most heap that each proxy had.
    pub(super) heap_peaks: BTreeMap<Arc<str>, u64>,
}

impl Scene for Still {
    fn names(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn metrics(&self, _: &str) -> Option<Metrics> {
        None
    }

    fn services(&self) -> BTreeMap<String, Expected> {
        BTreeMap::new()
    }

    fn known(&self, _: &str) -> Option<Vec<(String, BTreeMap<SocketAddr, bool>)>> {
        None
    }

    fn servers(&self, _: &str) -> Option<BTreeSet<Arc<str>>> {
        self.servers.clone()
    }

    fn held(&self, _: &str) -> Option<Held> {
        None
    }

    fn heap_peaks(&self) -> BTreeMap<Arc<str>, u64> {
        self.heap_peaks.clone()
    }
}
