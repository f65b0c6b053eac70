//! A watch of one kind: pages of a list, then its changes, for ever.
//!
//! Law: the door's. A list that is older than what was told is refused; whatever is lost, the next
//! list or the next change says so. A server that does not answer is noticed in bounded time.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use mesh_core::model::client_policy;
use mesh_core::model::ratio::Ratio;
use mesh_core::resource::{Kind, Object, ObjectRef};
use mesh_core::runtime::Entropy as _;
use mesh_core::runtime::cluster::{ClusterError, WatchEvent};
use mesh_core::traffic::backoff::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::client::{ApiClient, ApiError, JSON};
use super::decode::{self, Head, Line, Page};
use super::paths::{self, Versions};
use crate::entropy::SystemEntropy;

/// Objects of one page of a list.
const PAGE: u32 = 500;
/// Events that wait for their reader; then the server waits.
const EVENTS_WAITING: usize = 256;
/// The same trouble is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(60);

pub(super) type Item = Result<WatchEvent, ClusterError>;

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between attempts that fail: the first wait, which doubles, with half of it as jitter.
    pub retry_min: Duration,
    /// The longest of these waits.
    pub retry_max: Duration,
    /// Until a kind that the server has not is looked for again.
    pub absent: Duration,
    /// How long the server keeps a watch open, and up to a quarter more.
    pub watch: Duration,
    /// A watch that says nothing for this long, bookmarks included, is opened again.
    pub silence: Duration,
    /// Lists older than what was told are refused this long: then the server itself has gone back,
    /// as from a backup.
    pub older: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            absent: Duration::from_secs(30),
            watch: Duration::from_secs(240),
            silence: Duration::from_secs(90),
            older: Duration::from_secs(300),
        }
    }
}

/// The stream of a watch. Dropping it ends the watch.
pub(super) struct Watch {
    events: mpsc::Receiver<Item>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) fn new(
        client: ApiClient,
        versions: Versions,
        kind: Kind,
        patience: Patience,
    ) -> Self {
        let (tell, events) = mpsc::channel(EVENTS_WAITING);
        let retry = client_policy::Backoff {
            min: patience.retry_min,
            max: patience.retry_max,
            jitter: Ratio::from_millionths(500_000),
            respect_retry_after: false,
        };
        let follower = Follower {
            client,
            versions,
            kind,
            patience,
            tell,
            entropy: SystemEntropy::new(),
            backoff: Backoff::new(retry),
            known: BTreeMap::new(),
            at: None,
            seen: 0,
            refused_since: None,
            told: None,
            is_absent: false,
        };
        Self { events, task: tokio::spawn(follower.follow()) }
    }
}

impl Stream for Watch {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        self.events.poll_recv(context)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a list or a watch ended.
enum End {
    /// Nobody listens any more.
    Unheard,
    /// The server has none of this kind.
    Absent,
    /// The history from here is forgotten: list again.
    Gone,
    /// Go on from where it is.
    Over,
    /// Try again after a while, and at least after so long.
    Trouble(ClusterError, Option<Duration>),
}

struct Follower {
    client: ApiClient,
    versions: Versions,
    kind: Kind,
    patience: Patience,
    tell: mpsc::Sender<Item>,
    entropy: SystemEntropy,
    backoff: Backoff,
    /// What was told last, of each object. Shared with whoever keeps it.
    known: BTreeMap<ObjectRef, Object>,
    /// Everything up to this version was told; none where a list is due.
    at: Option<String>,
    /// The latest version that anything was told of.
    seen: u64,
    /// Lists have been refused as too old since then.
    refused_since: Option<Instant>,
    /// The trouble that was told last, and when.
    told: Option<(String, Instant)>,
    is_absent: bool,
}

impl Follower {
    async fn follow(mut self) {
        loop {
            let began = Instant::now();
            let resumed = self.at.clone();
            let end = match &resumed {
                None => self.list().await,
                Some(at) => self.watch(at).await,
            };
            let wait = match end {
                End::Unheard => return,
                End::Over => {
                    // A server that ends every watch at once is not asked in a loop.
                    let is_hasty = resumed.is_some() && began.elapsed() < self.patience.retry_min;
                    is_hasty.then_some(self.patience.retry_min)
                }
                End::Gone => {
                    tracing::debug!(kind = %self.kind, "the history is gone: listing again");
                    self.at = None;
                    (self.backoff.failures() > 0).then(|| self.next_wait())
                }
                End::Absent => {
                    self.at = None;
                    if !self.has_none().await {
                        return;
                    }
                    Some(self.patience.absent)
                }
                End::Trouble(error, least) => {
                    if !self.tell_trouble(error).await {
                        return;
                    }
                    Some(self.next_wait().max(least.unwrap_or_default()))
                }
            };
            if let Some(wait) = wait {
                tokio::select! {
                    biased;
                    () = self.tell.closed() => return,
                    () = sleep(wait) => {}
                }
            }
        }
    }

    /// What is asked for: of some kinds the metadata is enough.
    fn form(&self, partial: &str) -> String {
        match self.kind.is_metadata() {
            true => format!("application/json;as={partial};g=meta.k8s.io;v=v1,application/json"),
            false => JSON.to_owned(),
        }
    }

    fn next_wait(&mut self) -> Duration {
        self.backoff.failed(self.entropy.next_u64())
    }

    /// Lists the newest version that the server has.
    async fn list(&mut self) -> End {
        for version in self.kind.api_versions() {
            match self.list_version(&version).await {
                End::Absent => {}
                end => {
                    if matches!(end, End::Over) {
                        self.versions.set(self.kind, version);
                        self.backoff.succeeded();
                        self.told = None;
                        self.is_absent = false;
                    }
                    return end;
                }
            }
        }
        End::Absent
    }

    async fn list_version(&mut self, version: &str) -> End {
        let collection = paths::collection(self.kind, version);
        let mut next = None::<String>;
        let mut listed = BTreeMap::new();
        let mut is_first = true;
        loop {
            let mut path = format!("{collection}?limit={PAGE}");
            if let Some(next) = &next {
                path.push_str("&continue=");
                path.push_str(&paths::escaped(next));
            }
            let answer =
                match self.client.find_as(&path, &self.form("PartialObjectMetadataList")).await {
                    Ok(answer) => answer,
                    Err(error) => return self.failed("list", error),
                };
            let Ok(page) = serde_json::from_slice::<Page<'_>>(&answer) else {
                let error = format!("list {}: the answer is no list", self.kind);
                return End::Trouble(ClusterError::Unavailable(error), None);
            };
            if is_first {
                if let Some(trouble) = self.refuses(&page.metadata.resource_version) {
                    return trouble;
                }
                if !self.send(Ok(WatchEvent::Init)).await {
                    return End::Unheard;
                }
                is_first = false;
            }
            for item in page.items.unwrap_or_default() {
                let object = match decode::object(self.kind, item) {
                    Ok(object) => Some(object),
                    Err(error) => {
                        if !self.send(Err(error)).await {
                            return End::Unheard;
                        }
                        // What it was before it became wrong stays in force.
                        self.known.get(&Head::of(item).object_ref(self.kind)).cloned()
                    }
                };
                let Some(object) = object else { continue };
                // A name twice: pages of a server that does not keep them apart.
                if listed.insert(object.object_ref(), object.clone()).is_none()
                    && !self.send(Ok(WatchEvent::InitApply(object))).await
                {
                    return End::Unheard;
                }
            }
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(token) => next = Some(token),
                None => {
                    self.known = listed;
                    self.see(&page.metadata.resource_version);
                    self.at = Some(page.metadata.resource_version);
                    return match self.send(Ok(WatchEvent::InitDone)).await {
                        true => End::Over,
                        false => End::Unheard,
                    };
                }
            }
        }
    }

    /// Whether a list of this version is older than what was told, and cannot be used.
    fn refuses(&mut self, version: &str) -> Option<End> {
        let is_older = version.parse::<u64>().is_ok_and(|version| version < self.seen);
        if !is_older {
            self.refused_since = None;
            return None;
        }
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        let (kind, seen) = (self.kind, self.seen);
        if since.elapsed() >= self.patience.older {
            tracing::error!(%kind, version, seen, "the API server has gone back in time: taken");
            (self.seen, self.refused_since) = (0, None);
            return None;
        }
        let error = format!(
            "list {kind}: the API server is behind: its list is of version {version}, and {seen} \
             was seen already"
        );
        Some(End::Trouble(ClusterError::Unavailable(error), None))
    }

    fn see(&mut self, version: &str) {
        self.seen = version.parse().unwrap_or(0).max(self.seen);
    }

    /// Follows changes from a version on, until the server ends it or something fails.
    async fn watch(&mut self, at: &str) -> End {
        let Some(version) = self.versions.find(self.kind) else {
            return End::Gone;
        };
        let Patience { watch, silence, .. } = self.patience;
        let jitter =
            watch.mul_f64(0.25 * (self.entropy.next_u64() >> 11) as f64 / (1u64 << 53) as f64);
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
            paths::collection(self.kind, &version),
            paths::escaped(at),
            (watch + jitter).as_secs().max(1),
        );
        let mut lines = match self.client.lines(&path, &self.form("PartialObjectMetadata")).await {
            Ok(lines) => lines,
            // The definition is gone: the list says so.
            Err(error) if error.is(StatusCode::NOT_FOUND) => return End::Gone,
            Err(error) => return self.failed("watch", error),
        };
        loop {
            let line = tokio::select! {
                biased;
                () = self.tell.closed() => return End::Unheard,
                line = timeout(silence, lines.next()) => line,
            };
            let line = match line {
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => return End::Over,
                Ok(Err(error)) => {
                    // Servers cut watches at any time; whether there is trouble, opening it tells.
                    tracing::debug!(kind = %self.kind, reason = error.reason, "the watch broke off");
                    return End::Over;
                }
                Err(_) => {
                    tracing::debug!(kind = %self.kind, "the watch is silent: opened again");
                    return End::Over;
                }
            };
            let Ok(line) = serde_json::from_slice::<Line<'_>>(&line) else {
                let error = format!("watch {}: a line is no event", self.kind);
                return End::Trouble(ClusterError::Unavailable(error), None);
            };
            if let Some(end) = self.take(&line).await {
                return end;
            }
            self.backoff.succeeded();
            self.told = None;
        }
    }

    /// Tells of an event. Returns how the watch ends by it, where it does.
    async fn take(&mut self, line: &Line<'_>) -> Option<End> {
        let event = match &*line.what {
            "ADDED" | "MODIFIED" => match decode::object(self.kind, line.object) {
                Ok(object) => {
                    let name = object.object_ref();
                    let is_new = self.known.get(&name) != Some(&object);
                    self.known.insert(name, object.clone());
                    is_new.then_some(Ok(WatchEvent::Apply(object)))
                }
                // What it was before it became wrong stays in force.
                Err(error) => Some(Err(error)),
            },
            "DELETED" => {
                let name = Head::of(line.object).object_ref(self.kind);
                self.known.remove(&name).map(|_| Ok(WatchEvent::Delete(name)))
            }
            "BOOKMARK" => None,
            "ERROR" => {
                let status: Status = serde_json::from_str(line.object.get()).unwrap_or_default();
                let code = status.code.and_then(|code| u16::try_from(code).ok());
                let status_code = code.and_then(|code| StatusCode::from_u16(code).ok());
                let reason = status.message.unwrap_or_else(|| "watch failed".to_owned());
                let error = ApiError { status: status_code, reason, retry_after: None };
                return Some(self.failed("watch", error));
            }
            what => {
                tracing::debug!(kind = %self.kind, what, "an event of no known type");
                None
            }
        };
        if let Some(event) = event
            && !self.send(event).await
        {
            return Some(End::Unheard);
        }
        let version = Head::of(line.object).metadata.resource_version;
        if !version.is_empty() {
            self.see(&version);
            self.at = Some(version);
        }
        None
    }

    fn failed(&self, verb: &str, error: ApiError) -> End {
        let what = format!("{verb} {}", self.kind);
        match error.status {
            Some(StatusCode::GONE) => End::Gone,
            Some(StatusCode::NOT_FOUND) => End::Absent,
            // A kind of our own for plain hosts: nobody has to let us read it in a cluster.
            Some(StatusCode::FORBIDDEN) if self.kind == Kind::Workload => End::Absent,
            Some(StatusCode::FORBIDDEN) => {
                let resource = paths::resource(self.kind);
                let error = ApiError {
                    reason: format!(
                        "{}; let its role get, list and watch {resource}",
                        error.reason
                    ),
                    ..error
                };
                End::Trouble(error.told_as(&what), None)
            }
            _ => {
                let wait = error.retry_after;
                End::Trouble(error.told_as(&what), wait)
            }
        }
    }

    /// Tells, once, that there is none of this kind. `false` where nobody listens.
    async fn has_none(&mut self) -> bool {
        if std::mem::replace(&mut self.is_absent, true) {
            return !self.tell.is_closed();
        }
        let (kind, version) = (self.kind, self.kind.api_version());
        match kind.is_built_in() {
            true => tracing::error!(%kind, version, "the API server has none of this version"),
            false => tracing::info!(%kind, version, "not installed: the mesh does without"),
        }
        self.known.clear();
        self.send(Ok(WatchEvent::Init)).await && self.send(Ok(WatchEvent::InitDone)).await
    }

    async fn tell_trouble(&mut self, error: ClusterError) -> bool {
        let text = error.to_string();
        let is_known =
            self.told.as_ref().is_some_and(|(told, at)| *told == text && at.elapsed() < TELL_AGAIN);
        if is_known {
            return !self.tell.is_closed();
        }
        self.told = Some((text, Instant::now()));
        self.send(Err(error)).await
    }

    /// `false` where nobody listens any more.
    async fn send(&self, item: Item) -> bool {
        self.tell.send(item).await.is_ok()
    }
}
