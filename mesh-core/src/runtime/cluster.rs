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

    /// Makes or replaces an object's status, where the source can be written.
    ///
    /// # Errors
    /// [`ClusterError`]; `Conflict` where somebody else wrote it first.
    fn write_status(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>>;

    /// Takes or renews a lease for `holder`, as `coordination.k8s.io/v1` Lease does. Tells who
    /// holds it now, which is somebody else while theirs has not run out.
    ///
    /// # Errors
    /// [`ClusterError`].
    fn hold_lease(
        &self,
        name: &str,
        holder: &str,
        duration: Duration,
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

/// Who holds a lease, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The holder's name.
    pub holder: String,
    /// When it runs out unless renewed.
    pub expires: WallTime,
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
    /// Somebody else wrote first; read again.
    #[error("conflict: {0}")]
    Conflict(String),
}
