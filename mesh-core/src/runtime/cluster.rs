//! The door to the cluster's objects. Three sources stand behind it: a Kubernetes API server, a
//! directory of YAML files, and the simulator's in-memory API server.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{BoxFuture, BoxStream};
use crate::resource::{Kind, Object, ObjectRef};
use crate::time::WallTime;

/// What a watch yields, in the shape of kube's watcher events.
///
/// Law: between `Init` and `InitDone` come exactly the objects that exist; those known before and
/// not listed are gone. `Apply` and `Delete` come in between only after `InitDone`.
///
/// One watch never goes back in time: a list is no older than what it told before, however it was
/// lost meanwhile, so what was seen to go comes back only where it was made again. A source that has
/// replicas asks them for lists that are recent enough, or refuses theirs. No more is promised: the
/// first list of a watch may be of an earlier moment than another watch showed, as after a restart,
/// and the watches of two kinds show two moments. Those are the reader's to cope with.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// A list begins, or begins again after the watch was lost.
    Init,
    /// An object of the list.
    InitApply(Object),
    /// The list is complete.
    InitDone,
    /// An object was made or changed.
    Apply(Object),
    /// An object was removed.
    Delete(ObjectRef),
}

/// Reads and writes the cluster's objects.
pub trait Cluster: Send + Sync {
    /// Lists the objects of a kind, then follows their changes. The stream does not end and mends
    /// itself: an error item tells of trouble and may be followed by more events.
    fn watch(&self, kind: Kind) -> BoxStream<Result<WatchEvent, ClusterError>>;

    /// Replaces the status of an object, and nothing else of it, where the object is still of the
    /// resource version that this one says; whatever it is where this one says none.
    ///
    /// # Errors
    /// [`ClusterError`]; `Conflict` where somebody else wrote it first, `NotFound` where it is gone,
    /// `ReadOnly` where the source keeps no statuses.
    fn write_status(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>>;

    /// The lease of that name, as `coordination.k8s.io/v1` Lease has it; none where there is none.
    ///
    /// # Errors
    /// [`ClusterError`].
    fn lease(&self, name: &str) -> BoxFuture<'static, Result<Option<Lease>, ClusterError>>;

    /// Makes a lease, where it has no version and there is none of that name, or replaces the one
    /// that still is of its version. Returns it with its new version. Who may is for those who ask
    /// to agree on: the source compares nothing else.
    ///
    /// # Errors
    /// [`ClusterError`]; `Conflict` where somebody else wrote it first.
    fn write_lease(
        &self,
        name: &str,
        lease: Lease,
    ) -> BoxFuture<'static, Result<Lease, ClusterError>>;

    /// Asks whose token this is, as `authentication.k8s.io/v1` TokenReview does.
    ///
    /// # Errors
    /// [`ClusterError`]; `Denied` where the token is not valid for `audience`.
    fn review_token(
        &self,
        token: &str,
        audience: &str,
    ) -> BoxFuture<'static, Result<TokenReview, ClusterError>>;
}

/// Who may write, for how long from each renewal.
///
/// The times are the holder's clock's, for people to read. Whoever waits for a lease to run out
/// counts from when it saw the lease change itself: clocks differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Differs after every write; none in a lease that is to be made.
    pub version: Option<String>,
    /// The holder's name; empty where it was given back.
    pub holder: String,
    /// How long it is the holder's after a renewal.
    pub duration: Duration,
    /// When the holder took it.
    pub acquired: WallTime,
    /// When it renewed it last.
    pub renewed: WallTime,
    /// Times that it went from one holder to another.
    pub transitions: u32,
}

/// Whose token it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenReview {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// Further facts, such as the pod's name.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why the source did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The source cannot be reached; try again.
    #[error("cluster unavailable: {0}")]
    Unavailable(String),
    /// An object as it was given is wrong. The text names the file or object, field and fault.
    #[error("{0}")]
    Invalid(String),
    /// Not allowed.
    #[error("denied: {0}")]
    Denied(String),
    /// There is no such object, or the source has none of this kind.
    #[error("not found: {0}")]
    NotFound(String),
    /// The source keeps nothing: statuses and leases are for somebody else to keep.
    #[error("{0}")]
    ReadOnly(String),
    /// Somebody else wrote first; read again.
    #[error("conflict: {0}")]
    Conflict(String),
}
