//! What can be wrong with an API server, for one client or for all.

use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::runtime::cluster::ClusterError;
use mesh_core::time::Timestamp;

use super::store::{Snapshot, Store};

/// What is wrong with an API server, until it is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFault {
    /// It cannot be reached: requests fail and watches break. They resume when it is back, with
    /// all that changed meanwhile, or list again where the history does not reach so far.
    Outage,
    /// Watches break and cannot be opened. Other requests go on.
    WatchOutage,
    /// What watches tell comes so much later.
    Lag(Duration),
    /// Watches stay open and say nothing, as over a dead connection; new ones do not open.
    Stall,
    /// Who lists or resumes from now on does so at a replica that stands still, and stood so much
    /// before now. Watches that are open stay where they are.
    Stale(Duration),
    /// No history is kept: a watch that broke is told 410 Gone and lists again.
    Compacted,
    /// Every write meets a conflict.
    Conflict,
    /// Everything is denied, as where a role binding was taken away.
    Forbidden,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<InForce>);

#[derive(Debug)]
struct InForce {
    /// Whom it meets; everyone where nobody is named.
    client: Option<Arc<str>>,
    fault: ApiFault,
    /// Where the replica of [`ApiFault::Stale`] stands.
    replica: Option<Arc<Snapshot>>,
}

impl Faults {
    /// Sets a fault, in place of another of its sort that meets the same clients.
    pub(super) fn set(
        &mut self,
        client: Option<&str>,
        fault: ApiFault,
        store: &Store,
        now: Timestamp,
    ) {
        self.clear(client, fault);
        let replica = match fault {
            ApiFault::Stale(by) => Some(Arc::new(store.snapshot_before(now, by))),
            _ => None,
        };
        self.0.push(InForce { client: client.map(Arc::from), fault, replica });
    }

    /// Clears the fault of that sort that was set for the same clients.
    pub(super) fn clear(&mut self, client: Option<&str>, fault: ApiFault) {
        self.0.retain(|known| {
            known.client.as_deref() != client || discriminant(&known.fault) != discriminant(&fault)
        });
    }

    /// Clears all that were set for these clients, or every one.
    pub(super) fn clear_all(&mut self, client: Option<&str>) {
        self.0.retain(|known| client.is_some() && known.client.as_deref() != client);
    }

    /// Whether a client meets a fault.
    pub(super) fn meets(&self, client: &str, fault: ApiFault) -> bool {
        self.of(client).any(|known| known.fault == fault)
    }

    /// How late a client is told of changes.
    pub(super) fn lag(&self, client: &str) -> Duration {
        let lags = self.of(client).filter_map(|known| match known.fault {
            ApiFault::Lag(lag) => Some(lag),
            _ => None,
        });
        lags.max().unwrap_or_default()
    }

    /// The replica that answers a client who lists now, where it stands still.
    pub(super) fn replica(&self, client: &str) -> Option<Arc<Snapshot>> {
        let replicas = self.of(client).filter_map(|known| known.replica.clone());
        replicas.min_by_key(|replica| replica.version)
    }

    /// Why a client's request fails, where it does.
    pub(super) fn refuse(&self, client: &str) -> Result<(), ClusterError> {
        if self.meets(client, ApiFault::Outage) {
            return Err(ClusterError::Unavailable("simulated outage".to_owned()));
        }
        match self.meets(client, ApiFault::Forbidden) {
            true => Err(ClusterError::Denied("simulated loss of rights".to_owned())),
            false => Ok(()),
        }
    }

    /// Why a client's watch cannot be opened or go on, where that is so.
    pub(super) fn refuse_watch(&self, client: &str) -> Result<(), ClusterError> {
        self.refuse(client)?;
        match self.meets(client, ApiFault::WatchOutage) {
            true => Err(ClusterError::Unavailable("simulated outage of watches".to_owned())),
            false => Ok(()),
        }
    }

    fn of(&self, client: &str) -> impl Iterator<Item = &InForce> {
        self.0.iter().filter(move |known| known.client.as_deref().is_none_or(|c| c == client))
    }
}
