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

/// Reads and writes the cluster's objects. A source that only reads answers the methods that write
/// with [`ClusterError::ReadOnly`], as their bodies here do.
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

    /// The Secret of that name; none where there is none.
    ///
    /// # Errors
    /// [`ClusterError`]; `ReadOnly` where the source keeps no secrets.
    fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> BoxFuture<'static, Result<Option<Secret>, ClusterError>> {
        let error = keeps_no("secrets", namespace, name);
        Box::pin(async { Err(error) })
    }

    /// Makes a Secret, where it has no version and there is none of that name, or replaces the data
    /// of the one that still is of its version. Returns it with its new version.
    ///
    /// # Errors
    /// [`ClusterError`]; `Conflict` where somebody else wrote it first, `ReadOnly` where the source
    /// keeps no secrets.
    fn write_secret(
        &self,
        namespace: &str,
        name: &str,
        secret: Secret,
    ) -> BoxFuture<'static, Result<Secret, ClusterError>> {
        drop(secret);
        let error = keeps_no("secrets", namespace, name);
        Box::pin(async { Err(error) })
    }

    /// Tells the API server whose certificates to trust when it calls the webhooks of a
    /// configuration: sets the `caBundle` of each to these PEM certificates, and nothing else of
    /// it. Writes nothing where they are set.
    ///
    /// # Errors
    /// [`ClusterError`]; `NotFound` where there is no such configuration, `Conflict` where somebody
    /// else wrote it first, `ReadOnly` where the source keeps none.
    fn write_ca_bundle(
        &self,
        webhook: WebhookKind,
        name: &str,
        pem: &str,
    ) -> BoxFuture<'static, Result<(), ClusterError>> {
        let _ = (webhook, pem);
        let error = keeps_no("webhook configurations", "", name);
        Box::pin(async { Err(error) })
    }

    /// Records that something happened to an object, where `kubectl describe` shows it. What
    /// happens again may be counted rather than listed. An event that is lost is no harm.
    ///
    /// # Errors
    /// [`ClusterError`]; `ReadOnly` where the source keeps no events.
    fn record_event(&self, event: Event) -> BoxFuture<'static, Result<(), ClusterError>> {
        let error = keeps_no("events", &event.namespace, &event.name);
        Box::pin(async { Err(error) })
    }
}

fn keeps_no(what: &str, namespace: &str, name: &str) -> ClusterError {
    ClusterError::ReadOnly(format!("this source keeps no {what}: {namespace}/{name}"))
}

/// A Secret, as far as its keeper writes it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// Differs after every write; none in a secret that is to be made.
    pub version: Option<String>,
    /// `type`, such as `kubernetes.io/tls`; it cannot be changed later.
    pub kind: String,
    /// Files by name, as they are, without base64.
    pub data: BTreeMap<String, Vec<u8>>,
}

// Its content is nobody's to log.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("version", &self.version)
            .field("kind", &self.kind)
            .field("keys", &self.data.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Which webhook configurations of `admissionregistration.k8s.io/v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WebhookKind {
    /// MutatingWebhookConfiguration.
    Mutating,
    /// ValidatingWebhookConfiguration.
    Validating,
}

/// Something that happened to an object, as `v1` Event tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `apps/v1` and the like, of the object.
    pub api_version: String,
    /// `Deployment` and the like.
    pub kind: String,
    /// The object's namespace, and the event's; empty where it has none.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's uid, where it is known: some views show only events that have it.
    pub uid: Option<String>,
    /// It is a `Warning`, else it is `Normal`.
    pub is_warning: bool,
    /// In one word, such as `Injected`.
    pub reason: String,
    /// For people; the API server cuts what is longer than 1024 bytes.
    pub message: String,
    /// Who tells it, such as `linkerd-proxy-injector`.
    pub component: String,
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
    /// The source does not keep such things: they are for somebody else to keep.
    #[error("{0}")]
    ReadOnly(String),
    /// Somebody else wrote first; read again.
    #[error("conflict: {0}")]
    Conflict(String),
}
