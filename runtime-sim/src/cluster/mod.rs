//! An API server in memory, shared by the hosts of a world. Each host is a client of its own, with
//! faults of its own: lag, broken and stalled watches, lost history, replicas that are behind,
//! conflicts, outages.
//!
//! Law: what a client is told keeps the law of the `cluster` door under every fault, and whatever
//! is not faulty is told at once.
//!
//! Modules: `store` has objects and history, `fault` what is wrong and for whom, `watch` is the
//! client's end, `served` shows it to clients that keep their own place, `lease`, `secret`, `token`
//! and `metrics` what their names say.

mod fault;
mod lease;
mod metrics;
mod secret;
pub mod served;
mod store;
#[cfg(test)]
mod tests;
mod token;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use mesh_core::resource::{Kind, Object, ObjectRef};
use mesh_core::runtime::cluster::{
    ClusterError, Event, Lease, Secret, TokenReview, WatchEvent, WebhookKind,
};
use mesh_core::runtime::{BoxFuture, BoxStream, Clock, Cluster};
use mesh_core::time::{Timestamp, WallTime};
use tokio::sync::Notify;

use crate::lock;
use crate::trace::START;

use fault::Faults;
use lease::Leases;
use secret::Secrets;
use store::Store;
use token::Tokens;
use watch::Watch;

pub use fault::ApiFault;
pub use token::TokenSpec;

/// Most events that are kept; the oldest go first, as they do after an hour from a real server.
pub const EVENTS_MAX: usize = 1000;

/// The objects of a world, and who serves them. Cloning shares it. Where a method takes a client,
/// it is a host's name; nobody named means every client.
#[derive(Clone, Debug, Default)]
pub struct ApiServer(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    store: Store,
    faults: Faults,
    leases: Leases,
    tokens: Tokens,
    secrets: Secrets,
    /// Whose certificates webhooks are called with, by configuration.
    ca_bundles: BTreeMap<(WebhookKind, String), String>,
    /// The latest events, oldest first.
    events: VecDeque<Event>,
    /// Writes still to meet a conflict, beside those of [`ApiFault::Conflict`].
    conflicts: u32,
    /// Times that connections were cut, of everyone and of each client.
    cuts: Counts,
    /// Times that histories were declared void.
    voided: Counts,
    /// The version at which that was done last.
    voided_at: u64,
    /// Tells those who are served from outside that something may be different.
    changed: Arc<Notify>,
    watches: BTreeMap<u64, (Kind, Waker)>,
    watches_made: u64,
    /// Statuses that each client wrote, and how many of those while another held a lease.
    writes: BTreeMap<String, (u64, u64)>,
    /// The time that passes for the server: that of its first client.
    clock: Option<Ticking>,
    /// The wall clock when the run began; [`START`] where nothing is said.
    start: Option<WallTime>,
}

struct Ticking(Arc<dyn Clock>);

impl std::fmt::Debug for Ticking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticking")
    }
}

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    by_client: BTreeMap<String, u64>,
}

type Item = Result<WatchEvent, ClusterError>;

impl ApiServer {
    /// One in a world that begins at this time of the wall clock, and not in 2026.
    pub fn beginning_at(start: WallTime) -> Self {
        Self(Arc::new(Mutex::new(State { start: Some(start), ..State::default() })))
    }

    /// One that goes on with the versions of another, which it replaces: whatever happened until this
    /// version is not remembered, and whoever asks for it must list again.
    pub fn resuming_after(version: u64) -> Self {
        let store = Store::resuming_after(version);
        Self(Arc::new(Mutex::new(State { store, voided_at: version, ..State::default() })))
    }

    /// The wall clock when the run began.
    pub fn start(&self) -> WallTime {
        lock(&self.0).start()
    }

    /// Makes or replaces an object. Its resource version and uid are the server's to give.
    pub fn apply(&self, object: Object) {
        let kind = object.kind();
        let mut state = lock(&self.0);
        let now = state.now();
        if state.store.put(object, now) {
            let woken = state.watchers_of(kind);
            drop(state);
            wake(woken);
        }
    }

    /// Removes an object. Tells whether there was one. Tokens of a service account end with it,
    /// and those that are bound to a pod with that.
    pub fn delete(&self, name: &ObjectRef) -> bool {
        let mut state = lock(&self.0);
        let now = state.now();
        if !state.store.remove(name, now) {
            return false;
        }
        match name.kind {
            Kind::ServiceAccount => state.tokens.revoke_account(&name.namespace, &name.name),
            Kind::Pod => state.tokens.revoke_pod(&name.namespace, &name.name),
            _ => {}
        }
        let woken = state.watchers_of(name.kind);
        drop(state);
        wake(woken);
        true
    }

    /// The object of that name.
    pub fn find(&self, name: &ObjectRef) -> Option<Object> {
        lock(&self.0).store.find(name).cloned()
    }

    /// The objects of a kind, by namespace and name.
    pub fn list(&self, kind: Kind) -> Vec<Object> {
        lock(&self.0).store.list(kind).cloned().collect()
    }

    /// The version of the latest write.
    pub fn version(&self) -> u64 {
        lock(&self.0).store.version()
    }

    /// A token for a service account, valid for one audience and the whole run, or as long as the
    /// account lives.
    pub fn issue_token(&self, namespace: &str, account: &str, audience: &str) -> String {
        self.issue(TokenSpec {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            audience: audience.to_owned(),
            pod: None,
            expires: None,
        })
    }

    /// A token.
    pub fn issue(&self, spec: TokenSpec) -> String {
        lock(&self.0).tokens.issue(spec)
    }

    /// Ends the tokens of a service account.
    pub fn revoke_account(&self, namespace: &str, account: &str) {
        lock(&self.0).tokens.revoke_account(namespace, account);
    }

    /// Sets a fault until it is cleared, in place of another of its sort for the same clients.
    pub fn set_fault(&self, client: Option<&str>, fault: ApiFault) {
        let mut state = lock(&self.0);
        let now = state.now();
        let State { faults, store, .. } = &mut *state;
        faults.set(client, fault, store, now);
        if matches!(fault, ApiFault::Outage | ApiFault::WatchOutage | ApiFault::Forbidden) {
            state.cuts.add(client);
        }
        self.changed(state);
    }

    /// Clears the fault of that sort that was set for the same clients. What it says beside its
    /// sort, as a lag's length, does not matter.
    pub fn clear_fault(&self, client: Option<&str>, fault: ApiFault) {
        let mut state = lock(&self.0);
        state.faults.clear(client, fault);
        self.changed(state);
    }

    /// Clears all faults that were set for these clients; nobody named: every fault.
    pub fn clear_faults(&self, client: Option<&str>) {
        let mut state = lock(&self.0);
        state.faults.clear_all(client);
        self.changed(state);
    }

    /// Breaks watches, once: what was on its way is lost. They resume where they were.
    pub fn disconnect(&self, client: Option<&str>) {
        let mut state = lock(&self.0);
        state.cuts.add(client);
        self.changed(state);
    }

    /// Breaks watches, once, and has them list again, as a server does that has forgotten the
    /// history (410 Gone).
    pub fn relist(&self, client: Option<&str>) {
        let mut state = lock(&self.0);
        state.cuts.add(client);
        state.voided.add(client);
        state.voided_at = state.store.version();
        self.changed(state);
    }

    /// The next `count` writes meet a conflict.
    pub fn set_conflicts(&self, count: u32) {
        lock(&self.0).conflicts = count;
    }

    /// The lease of that name.
    pub fn lease(&self, name: &str) -> Option<Lease> {
        lock(&self.0).leases.find(name)
    }

    /// Times that a lease went from one holder to another.
    pub fn lease_transitions(&self, name: &str) -> u32 {
        lock(&self.0).leases.transitions(name)
    }

    /// Gives a lease to somebody, whoever holds it, or to nobody.
    pub fn set_lease(&self, name: &str, lease: Option<Lease>) {
        let mut state = lock(&self.0);
        match lease {
            Some(lease) => drop(state.leases.put(name, lease)),
            None => drop(state.leases.take_away(name)),
        }
    }

    /// Takes every lease from whoever holds it. Tells how many there were.
    pub fn revoke_leases(&self) -> usize {
        lock(&self.0).leases.take_all()
    }

    /// The Secret of that name.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        lock(&self.0).secrets.find(namespace, name)
    }

    /// Removes a Secret. Tells whether there was one.
    pub fn delete_secret(&self, namespace: &str, name: &str) -> bool {
        lock(&self.0).secrets.remove(namespace, name)
    }

    /// Whose certificates the webhooks of a configuration are called with, in PEM.
    pub fn ca_bundle(&self, webhook: WebhookKind, name: &str) -> Option<String> {
        lock(&self.0).ca_bundles.get(&(webhook, name.to_owned())).cloned()
    }

    /// The latest events, oldest first, at most [`EVENTS_MAX`].
    pub fn events(&self) -> Vec<Event> {
        lock(&self.0).events.iter().cloned().collect()
    }

    /// What it shows of itself, in Prometheus' text format: leases, writes of statuses, conditions.
    pub fn metrics(&self) -> String {
        metrics::render(&lock(&self.0))
    }

    /// The door of a host, by whose clock it waits.
    pub fn door(&self, client: &str, clock: Arc<dyn Clock>) -> Arc<dyn Cluster> {
        lock(&self.0).clock.get_or_insert_with(|| Ticking(clock.clone()));
        Arc::new(Door { server: self.clone(), client: client.into(), clock })
    }

    fn changed(&self, mut state: std::sync::MutexGuard<'_, State>) {
        let woken = state.watches.values().map(|(_, waker)| waker.clone()).collect();
        state.watches.clear();
        state.changed.notify_waiters();
        drop(state);
        wake(woken);
    }
}

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

impl Counts {
    fn add(&mut self, client: Option<&str>) {
        match client {
            Some(client) => *self.by_client.entry(client.to_owned()).or_default() += 1,
            None => self.all += 1,
        }
    }

    fn of(&self, client: &str) -> u64 {
        self.all + self.by_client.get(client).copied().unwrap_or(0)
    }
}

impl State {
    fn start(&self) -> WallTime {
        self.start.unwrap_or(START)
    }

    fn now(&self) -> Timestamp {
        self.clock.as_ref().map_or(Timestamp::ZERO, |clock| clock.0.now())
    }

    fn next_watch(&mut self) -> u64 {
        self.watches_made += 1;
        self.watches_made
    }

    /// Has a watch woken, once, when its kind or a fault changes.
    fn wake_for(&mut self, watch: u64, kind: Kind, waker: &Waker) {
        self.watches.insert(watch, (kind, waker.clone()));
    }

    fn forget_watch(&mut self, watch: u64) {
        self.watches.remove(&watch);
    }

    fn watchers_of(&mut self, kind: Kind) -> Vec<Waker> {
        self.changed.notify_waiters();
        let watching = self.watches.extract_if(.., |_, (watched, _)| *watched == kind);
        watching.map(|(_, (_, waker))| waker).collect()
    }

    fn cuts(&self, client: &str) -> u64 {
        self.cuts.of(client)
    }

    fn voided(&self, client: &str) -> u64 {
        self.voided.of(client)
    }

    /// A conflict, where the next write of a client is to meet one.
    fn conflict(&mut self, client: &str, what: &str) -> Result<(), ClusterError> {
        self.faults.refuse(client)?;
        if self.conflicts > 0 {
            self.conflicts -= 1;
        } else if !self.faults.meets(client, ApiFault::Conflict) {
            return Ok(());
        }
        Err(ClusterError::Conflict(what.to_owned()))
    }

    /// A write of a status as a client makes it: refused where it knows an older version of the
    /// object. The rest of the object stays as it is.
    fn write_status(&mut self, client: &str, object: &Object) -> Result<(), ClusterError> {
        let name = object.object_ref();
        self.conflict(client, &name.to_string())?;
        let Some(current) = self.store.find(&name) else {
            return Err(ClusterError::NotFound(name.to_string()));
        };
        let known = object.meta().resource_version.as_ref();
        if known.is_some() && known != current.meta().resource_version.as_ref() {
            return Err(ClusterError::Conflict(name.to_string()));
        }
        let mut merged = current.clone();
        if !merged.take_status(object) {
            return Err(ClusterError::Invalid(format!("{name} has no status")));
        }
        let now = self.now();
        self.store.put(merged, now);
        let leases = self.leases.all();
        let is_anothers =
            |(_, lease): (&String, &Lease)| !lease.holder.is_empty() && *lease.holder != *client;
        let strays = leases.filter(|lease| is_anothers(*lease)).count();
        let writes = self.writes.entry(client.to_owned()).or_default();
        writes.0 += 1;
        writes.1 += strays as u64;
        Ok(())
    }

    fn write_lease(
        &mut self,
        client: &str,
        name: &str,
        lease: Lease,
    ) -> Result<Lease, ClusterError> {
        self.conflict(client, name)?;
        self.leases.write(name, lease)
    }
}

struct Door {
    server: ApiServer,
    client: Arc<str>,
    clock: Arc<dyn Clock>,
}

impl Cluster for Door {
    fn watch(&self, kind: Kind) -> BoxStream<Item> {
        let (server, client, clock) =
            (self.server.clone(), self.client.clone(), self.clock.clone());
        Box::pin(Watch::new(server, client, clock, kind))
    }

    fn write_status(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        let kind = object.kind();
        let mut state = lock(&self.server.0);
        let result = state.write_status(&self.client, &object);
        let woken = state.watchers_of(kind);
        drop(state);
        wake(woken);
        Box::pin(async { result })
    }

    fn lease(&self, name: &str) -> BoxFuture<'static, Result<Option<Lease>, ClusterError>> {
        let state = lock(&self.server.0);
        let result = state.faults.refuse(&self.client).map(|()| state.leases.find(name));
        Box::pin(async { result })
    }

    fn write_lease(
        &self,
        name: &str,
        lease: Lease,
    ) -> BoxFuture<'static, Result<Lease, ClusterError>> {
        let result = lock(&self.server.0).write_lease(&self.client, name, lease);
        Box::pin(async { result })
    }

    fn review_token(
        &self,
        token: &str,
        audience: &str,
    ) -> BoxFuture<'static, Result<TokenReview, ClusterError>> {
        let state = lock(&self.server.0);
        // The server's clock is right, whatever its client's shows.
        let now = state.start() + state.now().since(Timestamp::ZERO);
        let reviewed = state.faults.refuse(&self.client);
        let result = reviewed.and_then(|()| state.tokens.review(token, audience, now));
        Box::pin(async { result })
    }

    fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> BoxFuture<'static, Result<Option<Secret>, ClusterError>> {
        let state = lock(&self.server.0);
        let found = || state.secrets.find(namespace, name);
        let result = state.faults.refuse(&self.client).map(|()| found());
        Box::pin(async { result })
    }

    fn write_secret(
        &self,
        namespace: &str,
        name: &str,
        secret: Secret,
    ) -> BoxFuture<'static, Result<Secret, ClusterError>> {
        let mut state = lock(&self.server.0);
        let result = state
            .conflict(&self.client, &format!("secret {namespace}/{name}"))
            .and_then(|()| state.secrets.write(namespace, name, secret));
        Box::pin(async { result })
    }

    fn write_ca_bundle(
        &self,
        webhook: WebhookKind,
        name: &str,
        pem: &str,
    ) -> BoxFuture<'static, Result<(), ClusterError>> {
        let mut state = lock(&self.server.0);
        let result = state.conflict(&self.client, name).map(|()| {
            state.ca_bundles.insert((webhook, name.to_owned()), pem.to_owned());
        });
        Box::pin(async { result })
    }

    fn record_event(&self, event: Event) -> BoxFuture<'static, Result<(), ClusterError>> {
        let mut state = lock(&self.server.0);
        let result = state.faults.refuse(&self.client).map(|()| {
            state.events.push_back(event);
            let over = state.events.len().saturating_sub(EVENTS_MAX);
            state.events.drain(..over);
        });
        Box::pin(async { result })
    }
}
