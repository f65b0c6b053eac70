//! What the API server shows to clients that keep their own place: lists with their version, and
//! the changes after one. A front of another protocol serves this.
//!
//! Law: a client that lists and then takes every change after its list has the objects that exist.

use std::sync::Arc;

use mesh_core::resource::{Kind, Object};
use mesh_core::runtime::cluster::ClusterError;
use tokio::sync::Notify;

use super::fault::ApiFault;
use super::store::{Change, Changed};
use super::{ApiServer, State};
use crate::lock;

/// The objects of a kind at a version.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Of the server, and so of the list.
    pub version: u64,
    /// By namespace and name.
    pub objects: Vec<Object>,
}

/// What became of an object.
#[derive(Clone, Debug)]
pub enum ServedChange {
    /// Made, where there was none.
    Added(Object),
    /// Changed.
    Modified(Object),
    /// Removed: what it was until then.
    Deleted(Object),
}

/// What happened after a version.
#[derive(Clone, Debug)]
pub enum Served {
    /// That is no longer known (410).
    Gone,
    /// Changes with their versions, and up to which version these are all.
    Changes {
        /// In order.
        changes: Vec<(u64, ServedChange)>,
        /// Nothing else happened until then.
        upto: u64,
    },
}

impl ApiServer {
    /// The objects of a kind, as a client is shown them.
    ///
    /// # Errors
    /// Where the client meets an outage, or may not.
    pub fn serve_list(&self, client: &str, kind: Kind) -> Result<Listed, ClusterError> {
        let state = lock(&self.0);
        state.faults.refuse(client)?;
        Ok(match state.faults.replica(client) {
            Some(replica) => {
                let objects = replica.list(kind).cloned().collect();
                Listed { version: replica.version, objects }
            }
            None => {
                let objects = state.store.list(kind).cloned().collect();
                Listed { version: state.store.version(), objects }
            }
        })
    }

    /// What happened to a kind after a version, as a client is shown it.
    ///
    /// # Errors
    /// Where the client's watches meet an outage, or it may not.
    pub fn serve_changes(
        &self,
        client: &str,
        kind: Kind,
        after: u64,
    ) -> Result<Served, ClusterError> {
        let state = lock(&self.0);
        state.faults.refuse_watch(client)?;
        if state.faults.meets(client, ApiFault::Stall) {
            return Ok(Served::Changes { changes: Vec::new(), upto: after });
        }
        Ok(state.served(client, kind, after))
    }

    /// Notified whenever something may be different.
    pub fn changes(&self) -> Arc<Notify> {
        lock(&self.0).changed.clone()
    }

    /// Times that connections of a client were cut.
    pub fn cuts(&self, client: &str) -> u64 {
        lock(&self.0).cuts(client)
    }
}

impl State {
    fn served(&self, client: &str, kind: Kind, after: u64) -> Served {
        let version = self.store.version();
        let replica = self.faults.replica(client);
        let upto = replica.map_or(version, |replica| replica.version);
        let is_compacted = self.faults.meets(client, ApiFault::Compacted) && after < version;
        if is_compacted || after < self.voided_at {
            return Served::Gone;
        }
        let Some(changes) = self.store.changes(kind, after, upto) else {
            return Served::Gone;
        };
        let changes = changes.map(|changed| (changed.version, served(changed)));
        Served::Changes { changes: changes.collect(), upto: upto.max(after) }
    }
}

fn served(changed: &Changed) -> ServedChange {
    match (&changed.change, &changed.before) {
        (Change::Put(object), None) => ServedChange::Added(object.clone()),
        (Change::Put(object), Some(_)) => ServedChange::Modified(object.clone()),
        (Change::Gone(name), before) => {
            let before = before.clone();
            let mut last = before.unwrap_or_else(|| panic!("{name} went, and never was"));
            last.meta_mut().resource_version = Some(changed.version.to_string());
            ServedChange::Deleted(last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::resource::Namespace;

    fn namespace(name: &str) -> Object {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        namespace.into()
    }

    #[test]
    fn a_list_and_the_changes_after_it_are_everything() {
        let server = ApiServer::default();
        server.apply(namespace("a"));
        let listed = server.serve_list("one", Kind::Namespace).expect("served");
        server.apply(namespace("b"));
        server.delete(&namespace("a").object_ref());
        let served = server.serve_changes("one", Kind::Namespace, listed.version);
        let Ok(Served::Changes { changes, upto }) = served else { panic!("{served:?}") };
        assert_eq!((listed.objects.len(), changes.len(), upto), (1, 2, 3));
        assert!(matches!(changes[0].1, ServedChange::Added(_)));
        assert!(matches!(changes[1].1, ServedChange::Deleted(_)));
    }

    #[test]
    fn what_was_declared_void_is_gone() {
        let server = ApiServer::default();
        server.apply(namespace("a"));
        server.apply(namespace("b"));
        server.relist(None);
        let after = |version| server.serve_changes("one", Kind::Namespace, version);
        assert!(matches!(after(1), Ok(Served::Gone)));
        assert!(matches!(after(2), Ok(Served::Changes { .. })));
    }

    #[test]
    fn a_server_that_replaces_another_has_its_clients_list_again() {
        let server = ApiServer::resuming_after(100);
        server.apply(namespace("a"));
        let after = |version| server.serve_changes("one", Kind::Namespace, version);
        assert!(matches!(after(99), Ok(Served::Gone)));
        assert!(matches!(after(100), Ok(Served::Changes { upto: 101, .. })));
        assert_eq!(server.serve_list("one", Kind::Namespace).map(|list| list.version), Ok(101));
    }
}
