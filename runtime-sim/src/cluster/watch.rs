//! A client's watch of one kind: lists, follows, loses its connection, resumes by version or lists
//! again. It is what a client library does over the network, in one place.
//!
//! Law: the door's. What is told never goes back in time: a replica that is behind what was told
//! already is refused and asked again, as a list is that must be "not older than" a version.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;

use mesh_core::resource::Kind;
use mesh_core::runtime::Clock;
use mesh_core::runtime::clock::BoxSleep;
use mesh_core::runtime::cluster::{ClusterError, WatchEvent};
use mesh_core::time::Timestamp;

use super::fault::ApiFault;
use super::store::{Change, Changed, Snapshot};
use super::{ApiServer, Item, State};
use crate::lock;

/// Between a lost connection and the next attempt; doubles while attempts fail (as kube's).
const RETRY_FIRST: Duration = Duration::from_millis(800);
/// The longest of these waits.
const RETRY_MAX: Duration = Duration::from_secs(30);

pub(super) struct Watch {
    server: ApiServer,
    client: Arc<str>,
    clock: Arc<dyn Clock>,
    kind: Kind,
    /// Names it at the server, which wakes it.
    id: u64,
    link: Link,
    backoff: Duration,
    /// The version up to which the client has been told everything; none before and within a list.
    told: Option<u64>,
    /// The latest version that it has been told anything of.
    seen: u64,
    /// Lists that the server had declared void when this one's began.
    voided: u64,
    /// Sent, and seen when its time comes.
    on_its_way: VecDeque<Sent>,
    sleep: Option<(Timestamp, BoxSleep)>,
}

struct Sent {
    due: Timestamp,
    /// What the client knows everything up to, once it has this.
    version: Option<u64>,
    item: Item,
}

enum Link {
    /// Tries again then.
    Down { retry: Timestamp },
    /// Everything up to `sent` is delivered or on its way.
    Up {
        /// Cuts that the server had made when this connection was opened.
        cuts: u64,
        sent: u64,
        /// The replica at its other end, where one stood still.
        replica: Option<Arc<Snapshot>>,
    },
}

impl Watch {
    pub(super) fn new(
        server: ApiServer,
        client: Arc<str>,
        clock: Arc<dyn Clock>,
        kind: Kind,
    ) -> Self {
        let id = lock(&server.0).next_watch();
        Self {
            server,
            client,
            clock,
            kind,
            id,
            link: Link::Down { retry: Timestamp::ZERO },
            backoff: RETRY_FIRST,
            told: None,
            seen: 0,
            voided: 0,
            on_its_way: VecDeque::new(),
            sleep: None,
        }
    }

    /// Takes from the server what it has for this watch, or opens the connection anew.
    fn advance(&mut self, now: Timestamp, waker: &Waker) {
        let server = self.server.clone();
        let mut state = lock(&server.0);
        state.wake_for(self.id, self.kind, waker);
        if let Link::Up { cuts, .. } = &self.link
            && *cuts != state.cuts(&self.client)
        {
            let error = ClusterError::Unavailable("the watch was cut".to_owned());
            self.lose(now, state.faults.refuse_watch(&self.client).err().unwrap_or(error));
        }
        if state.faults.meets(&self.client, ApiFault::Stall) {
            return;
        }
        if let Link::Down { retry } = self.link
            && retry <= now
            && let Err(error) = self.connect(now, &state)
        {
            self.lose(now, error);
        }
        self.follow(now, &state);
    }

    /// The connection is gone, and with it what was on its way.
    fn lose(&mut self, now: Timestamp, error: ClusterError) {
        self.on_its_way.clear();
        self.on_its_way.push_back(Sent { due: now, version: None, item: Err(error) });
        self.link = Link::Down { retry: now + self.backoff };
        self.backoff = (self.backoff * 2).min(RETRY_MAX);
    }

    /// Resumes where the client was, or lists.
    fn connect(&mut self, now: Timestamp, state: &State) -> Result<(), ClusterError> {
        state.faults.refuse_watch(&self.client)?;
        let replica = state.faults.replica(&self.client);
        let version = replica.as_ref().map_or(state.store.version(), |replica| replica.version);
        if self.seen > version {
            let reason = "too large resource version: this replica is behind";
            return Err(ClusterError::Unavailable(reason.to_owned()));
        }
        let cuts = state.cuts(&self.client);
        let known = self.told.filter(|told| {
            self.voided == state.voided(&self.client)
                && !state.faults.meets(&self.client, ApiFault::Compacted)
                && state.store.changes(self.kind, *told, u64::MAX).is_some()
        });
        let sent = match known {
            Some(told) => told,
            None => {
                self.list(now, state, replica.as_deref(), version);
                version
            }
        };
        self.link = Link::Up { cuts, sent, replica };
        self.backoff = RETRY_FIRST;
        Ok(())
    }

    fn list(&mut self, now: Timestamp, state: &State, replica: Option<&Snapshot>, version: u64) {
        self.voided = state.voided(&self.client);
        // Until the list is complete, there is nothing to resume from.
        self.send(now, state, None, Ok(WatchEvent::Init));
        let objects: Vec<_> = match replica {
            Some(replica) => replica.list(self.kind).cloned().collect(),
            None => state.store.list(self.kind).cloned().collect(),
        };
        for object in objects {
            self.send(now, state, None, Ok(WatchEvent::InitApply(object)));
        }
        self.send(now, state, Some(version), Ok(WatchEvent::InitDone));
    }

    fn follow(&mut self, now: Timestamp, state: &State) {
        let Link::Up { sent, replica, .. } = &mut self.link else {
            return;
        };
        // A replica that stands no longer still has all that the others have.
        let still = state.faults.replica(&self.client);
        if let (Some(mine), now) = (&*replica, &still)
            && !now.as_ref().is_some_and(|now| Arc::ptr_eq(mine, now))
        {
            *replica = None;
        }
        let limit = replica.as_ref().map_or(u64::MAX, |replica| replica.version);
        let after = *sent;
        let Some(changes) = state.store.changes(self.kind, after, limit) else {
            let gone = ClusterError::Unavailable("too old resource version".to_owned());
            return self.lose(now, gone);
        };
        let changes: Vec<_> = changes.cloned().collect();
        *sent = limit.min(state.store.version()).max(after);
        for Changed { version, change, .. } in changes {
            let event = match change {
                Change::Put(object) => WatchEvent::Apply(object),
                Change::Gone(name) => WatchEvent::Delete(name),
            };
            self.send(now, state, Some(version), Ok(event));
        }
    }

    fn send(&mut self, now: Timestamp, state: &State, version: Option<u64>, item: Item) {
        let due = now + state.faults.lag(&self.client);
        let last = self.on_its_way.back().map_or(due, |last| last.due);
        self.on_its_way.push_back(Sent { due: due.max(last), version, item });
    }

    fn deliver(&mut self) -> Option<Item> {
        let sent = self.on_its_way.pop_front()?;
        match &sent.item {
            // A list takes the place of all that was known.
            Ok(WatchEvent::Init) => self.told = None,
            _ => self.told = sent.version.or(self.told),
        }
        self.seen = self.told.unwrap_or(0).max(self.seen);
        Some(sent.item)
    }

    /// When there may be something to do that the server does not tell of.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let retry = match self.link {
            Link::Down { retry } => Some(retry).filter(|retry| *retry > now),
            Link::Up { .. } => None,
        };
        self.on_its_way.front().map(|sent| sent.due).into_iter().chain(retry).min()
    }
}

impl Stream for Watch {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            let now = self.clock.now();
            self.advance(now, context.waker());
            if self.on_its_way.front().is_some_and(|sent| sent.due <= now) {
                return Poll::Ready(self.deliver());
            }
            let Some(at) = self.next(now) else {
                self.sleep = None;
                return Poll::Pending;
            };
            let mut sleep = match self.sleep.take() {
                Some((until, sleep)) if until == at => sleep,
                _ => self.clock.sleep_until(at),
            };
            if sleep.as_mut().poll(context).is_pending() {
                self.sleep = Some((at, sleep));
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.server.0).forget_watch(self.id);
    }
}
