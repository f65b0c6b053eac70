//! An API server in memory, shared by the hosts of a world. It obeys the law of watches also under
//! its faults: lag, outages (changes missed, then a new list), relists, conflicts.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc;

use mesh_core::resource::{Kind, Object, ObjectRef};
use mesh_core::runtime::clock::BoxSleep;
use mesh_core::runtime::cluster::{ClusterError, Lease, TokenReview, WatchEvent};
use mesh_core::runtime::{BoxFuture, BoxStream, Clock, Cluster};
use mesh_core::time::Timestamp;

use crate::lock;

/// The objects of a world. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct ApiServer(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectRef, Object>,
    watches: Vec<(Kind, mpsc::UnboundedSender<Item>)>,
    leases: BTreeMap<String, Lease>,
    tokens: BTreeMap<String, Token>,
    down: bool,
    lag: Duration,
    conflicts: u32,
}

#[derive(Debug)]
struct Token {
    username: String,
    audience: String,
}

type Item = Result<WatchEvent, ClusterError>;

impl ApiServer {
    /// Makes or replaces an object.
    pub fn apply(&self, object: Object) {
        let mut state = lock(&self.0);
        state.objects.insert(object.object_ref(), object.clone());
        state.tell(object.kind(), &Ok(WatchEvent::Apply(object)));
    }

    /// Removes an object. Tells whether there was one.
    pub fn delete(&self, name: &ObjectRef) -> bool {
        let mut state = lock(&self.0);
        let existed = state.objects.remove(name).is_some();
        if existed {
            state.tell(name.kind, &Ok(WatchEvent::Delete(name.clone())));
        }
        existed
    }

    /// The object of that name.
    pub fn find(&self, name: &ObjectRef) -> Option<Object> {
        lock(&self.0).objects.get(name).cloned()
    }

    /// The objects of a kind, by namespace and name.
    pub fn list(&self, kind: Kind) -> Vec<Object> {
        let state = lock(&self.0);
        let of_kind = state.objects.values().filter(|object| object.kind() == kind);
        of_kind.cloned().collect()
    }

    /// A token for a service account, valid for one audience and the whole run.
    pub fn issue_token(&self, namespace: &str, account: &str, audience: &str) -> String {
        let token = format!("simulated-token/{namespace}/{account}/{audience}");
        let known = Token {
            username: format!("system:serviceaccount:{namespace}:{account}"),
            audience: audience.to_owned(),
        };
        lock(&self.0).tokens.insert(token.clone(), known);
        token
    }

    /// Every event from now on reaches its watch this much later.
    pub fn set_lag(&self, lag: Duration) {
        lock(&self.0).lag = lag;
    }

    /// Goes away: requests fail and changes are missed. Comes back: every watch lists again.
    pub fn set_available(&self, available: bool) {
        let mut state = lock(&self.0);
        if state.down == available {
            state.down = !available;
            if available {
                state.relist();
            } else {
                let error = ClusterError::Unavailable("simulated outage".to_owned());
                state.watches.retain(|(_, watch)| watch.send(Err(error.clone())).is_ok());
            }
        }
    }

    /// Breaks every watch, which lists again, as a server does that has forgotten the history.
    pub fn relist(&self) {
        lock(&self.0).relist();
    }

    /// The next `count` writes meet a conflict.
    pub fn set_conflicts(&self, count: u32) {
        lock(&self.0).conflicts = count;
    }

    /// The door of a host, whose clock times lag and leases.
    pub fn door(&self, clock: Arc<dyn Clock>) -> Arc<dyn Cluster> {
        Arc::new(Door { server: self.clone(), clock })
    }
}

impl State {
    fn tell(&mut self, kind: Kind, item: &Item) {
        if self.down {
            return;
        }
        self.watches.retain(|(watched, watch)| {
            if *watched == kind { watch.send(item.clone()).is_ok() } else { !watch.is_closed() }
        });
    }

    fn relist(&mut self) {
        if self.down {
            return;
        }
        let Self { watches, objects, .. } = self;
        watches.retain(|(kind, watch)| list(objects, *kind, watch).is_ok());
    }

    fn available(&self) -> Result<(), ClusterError> {
        match self.down {
            true => Err(ClusterError::Unavailable("simulated outage".to_owned())),
            false => Ok(()),
        }
    }

    fn write_status(&mut self, object: Object) -> Result<(), ClusterError> {
        self.available()?;
        let name = object.object_ref();
        if self.conflicts > 0 {
            self.conflicts -= 1;
            return Err(ClusterError::Conflict(name.to_string()));
        }
        if !self.objects.contains_key(&name) {
            return Err(ClusterError::NotFound(name.to_string()));
        }
        self.objects.insert(name, object.clone());
        self.tell(object.kind(), &Ok(WatchEvent::Apply(object)));
        Ok(())
    }
}

fn list(
    objects: &BTreeMap<ObjectRef, Object>,
    kind: Kind,
    watch: &mpsc::UnboundedSender<Item>,
) -> Result<(), mpsc::error::SendError<Item>> {
    watch.send(Ok(WatchEvent::Init))?;
    for object in objects.values().filter(|object| object.kind() == kind) {
        watch.send(Ok(WatchEvent::InitApply(object.clone())))?;
    }
    watch.send(Ok(WatchEvent::InitDone))
}

struct Door {
    server: ApiServer,
    clock: Arc<dyn Clock>,
}

impl Cluster for Door {
    fn watch(&self, kind: Kind) -> BoxStream<Item> {
        let (tell, told) = mpsc::unbounded_channel();
        let mut state = lock(&self.server.0);
        // Cannot fail: the receiver is in hand.
        let _ = match state.down {
            true => tell.send(Err(ClusterError::Unavailable("simulated outage".to_owned()))),
            false => list(&state.objects, kind, &tell),
        };
        state.watches.push((kind, tell));
        drop(state);
        Box::pin(Watch {
            server: self.server.clone(),
            clock: self.clock.clone(),
            told,
            late: VecDeque::new(),
            sleep: None,
        })
    }

    fn write_status(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        let result = lock(&self.server.0).write_status(object);
        Box::pin(async { result })
    }

    fn hold_lease(
        &self,
        name: &str,
        holder: &str,
        duration: Duration,
    ) -> BoxFuture<'static, Result<Lease, ClusterError>> {
        let now = self.clock.wall();
        let mut state = lock(&self.server.0);
        let result = state.available().map(|()| {
            let held = state.leases.get(name).filter(|lease| lease.expires > now);
            match held {
                Some(lease) if lease.holder != holder => lease.clone(),
                _ => {
                    let lease = Lease { holder: holder.to_owned(), expires: now + duration };
                    state.leases.insert(name.to_owned(), lease.clone());
                    lease
                }
            }
        });
        Box::pin(async { result })
    }

    fn review_token(
        &self,
        token: &str,
        audience: &str,
    ) -> BoxFuture<'static, Result<TokenReview, ClusterError>> {
        let state = lock(&self.server.0);
        let result = state.available().and_then(|()| match state.tokens.get(token) {
            Some(known) if known.audience == audience => {
                Ok(TokenReview { username: known.username.clone(), extra: BTreeMap::new() })
            }
            Some(_) => Err(ClusterError::Denied("token for another audience".to_owned())),
            None => Err(ClusterError::Denied("unknown token".to_owned())),
        });
        Box::pin(async { result })
    }
}

/// One watch's events, held back by the server's lag.
struct Watch {
    server: ApiServer,
    clock: Arc<dyn Clock>,
    told: mpsc::UnboundedReceiver<Item>,
    /// Events with the time at which they may be seen, in order.
    late: VecDeque<(Timestamp, Item)>,
    sleep: Option<BoxSleep>,
}

impl Stream for Watch {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        let lag = lock(&self.server.0).lag;
        let now = self.clock.now();
        while let Poll::Ready(Some(item)) = self.told.poll_recv(context) {
            let due = match self.late.back() {
                Some((last, _)) => (now + lag).max(*last),
                None => now + lag,
            };
            self.late.push_back((due, item));
        }
        loop {
            let Some((due, _)) = self.late.front() else {
                return Poll::Pending;
            };
            if *due <= self.clock.now() {
                self.sleep = None;
                return Poll::Ready(self.late.pop_front().map(|(_, item)| item));
            }
            let due = *due;
            let sleep = match self.sleep.take() {
                Some(sleep) => sleep,
                None => self.clock.sleep_until(due),
            };
            if self.sleep.insert(sleep).as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
    }
}
