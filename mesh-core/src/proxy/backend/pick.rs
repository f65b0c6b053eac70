//! Which endpoint a request is sent to: picking one, trying another, and waiting where there is none.
//!
//! Law: an endpoint that is down, or that its breaker keeps out, is picked only where no other is
//! left. A request waits no longer than the backend's patience, and no more of them wait than its
//! queue holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::Backend;
use super::endpoint::Endpoint;
use crate::proxy::refusal::Refusal;
use crate::time::Timestamp;
use crate::traffic::balance::Member;

/// Endpoints tried for one request at most.
const ATTEMPTS_MAX: usize = 16;

/// How long what waits with all endpoints tried waits before it tries them again.
const RETRY_ALL: Duration = Duration::from_millis(100);

/// An endpoint as it was picked.
pub(super) type Picked = Arc<Member<Arc<Endpoint>>>;

/// What one request has tried.
pub(super) struct Tried {
    since: Timestamp,
    /// When an endpoint was last looked for.
    pub(super) at: Timestamp,
    attempts: usize,
    addresses: Vec<SocketAddr>,
}

impl Tried {
    pub(super) fn new(since: Timestamp) -> Self {
        Self { since, at: since, attempts: 0, addresses: Vec::new() }
    }

    /// A request that tried endpoints waits from its own start, one that found none from when the
    /// backend lost its last.
    fn since_floor(&self) -> Timestamp {
        if self.attempts > 0 { self.since } else { Timestamp::ZERO }
    }
}

impl Backend {
    /// Notes an endpoint that nothing was sent to. An error where no other is to be tried.
    /// `unreachable`: its proxy answered, and could not reach the application.
    pub(super) fn missed(
        &self,
        tried: &mut Tried,
        picked: &Picked,
        unreachable: bool,
        refused: Refusal,
    ) -> Result<(), Refusal> {
        tried.attempts += 1;
        let down = picked.state.is_down();
        let state = self.state();
        // A lone endpoint whose connection took no more requests is tried again on a new one.
        if state.endpoints.len() > 1 || down || unreachable {
            tried.addresses.push(picked.endpoint.address);
        }
        let all_tried =
            state.endpoints.iter().all(|m| tried.addresses.contains(&m.endpoint.address));
        tried.at = self.common.runtime.now();
        let waited = tried.at.since(tried.since);
        let give_up = (state.forward && (down || tried.attempts > 1))
            || (unreachable && all_tried)
            || tried.attempts >= ATTEMPTS_MAX
            || waited >= self.failfast_timeout;
        if give_up {
            mark!("request-gave-up-on-endpoints");
            return Err(refused);
        }
        mark!("request-tried-another-endpoint");
        Ok(())
    }

    /// An endpoint to send to, waiting for one where there is none (Linkerd's queue).
    pub(super) async fn ready(&self, tried: &mut Tried) -> Result<Picked, Refusal> {
        if let Some(endpoint) = self.ready_now(tried)? {
            return Ok(endpoint);
        }
        // Subscribed before another look, so that no change between the two is missed.
        let changed = self.common.changed.subscribe();
        match self.ready_now(tried)? {
            Some(endpoint) => Ok(endpoint),
            // On the heap, as it is rare.
            None => Box::pin(self.wait_ready(tried, changed)).await,
        }
    }

    fn ready_now(&self, tried: &Tried) -> Result<Option<Picked>, Refusal> {
        let picked = self.pick(&tried.addresses, tried.at)?;
        if picked.is_some() {
            self.metrics.passed();
        }
        Ok(picked)
    }

    async fn wait_ready(
        &self,
        tried: &mut Tried,
        mut changed: watch::Receiver<u64>,
    ) -> Result<Picked, Refusal> {
        mark!("request-waits-for-endpoint");
        let capacity = match planted!("queue-unbounded") {
            true => usize::MAX,
            false => self.queue_capacity,
        };
        let Some(place) = Place::take(&self.waiting, capacity) else {
            mark!("queue-full");
            return Err(Refusal::LoadShed);
        };
        let queued = self.metrics.queued();
        let began = self.common.runtime.now();
        loop {
            let since = self.state().unready_since.unwrap_or(tried.since).max(tried.since_floor());
            let patience = match planted!("failfast-absent") {
                true => Duration::from_secs(3600),
                false => self.failfast_timeout,
            };
            let give_up = since + patience;
            let again = (self.common.runtime.now() + RETRY_ALL).min(give_up);
            let wait = async {
                if changed.changed().await.is_err() {
                    std::future::pending().await
                }
            };
            let elapsed = self.common.runtime.deadline(again, wait).await.is_err();
            let now = self.common.runtime.now();
            tried.at = now;
            if elapsed && now >= give_up {
                self.shut_gate();
                return Err(Refusal::FailFast);
            }
            // All were tried: by now one may be reachable again.
            tried.addresses.clear();
            if let Some(endpoint) = self.pick(&[], now)? {
                queued.dispatched(now.since(began));
                drop(place);
                return Ok(endpoint);
            }
        }
    }

    /// The less loaded of two endpoints drawn at random; one that is down only where all are.
    /// None where there is none, or all were tried.
    fn pick(&self, tried: &[SocketAddr], now: Timestamp) -> Result<Option<Picked>, Refusal> {
        let mut state = self.state();
        if state.fails {
            return Err(Refusal::InvalidPolicy);
        }
        if state.endpoints.is_empty() {
            return if state.gate_shut { Err(Refusal::FailFast) } else { Ok(None) };
        }
        let random = self.common.runtime.entropy.next_u64();
        let untried = |member: &Member<Arc<Endpoint>>| !tried.contains(&member.endpoint.address);
        let admits =
            |member: &Member<Arc<Endpoint>>| untried(member) && member.state.is_admitting(now);
        let up = |member: &Member<Arc<Endpoint>>| !member.state.is_down() && admits(member);
        let picked = state.endpoints.pick_where(now, random, up);
        let picked = picked.or_else(|| state.endpoints.pick_where(now, random, admits)).cloned();
        // As where there is none: requests wait for one that is let in again, for a while.
        match (&picked, tried) {
            (Some(_), _) => {
                state.unready_since = None;
                if std::mem::take(&mut state.gate_shut) {
                    mark!("failfast-left");
                    self.metrics.gate_opened(self.common.runtime.clock.wall());
                }
            }
            (None, []) if state.gate_shut => return Err(Refusal::FailFast),
            (None, []) => state.unready_since = state.unready_since.or(Some(now)),
            (None, _) => {}
        }
        Ok(picked)
    }

    fn shut_gate(&self) {
        let mut state = self.state();
        if !state.gate_shut && state.unready_since.is_some() {
            mark!("failfast-entered");
            state.gate_shut = true;
            self.metrics.gate_shut(self.common.runtime.clock.wall());
        }
    }
}

/// A place in a queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, capacity: usize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(waiting);
        (before < capacity.max(1)).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
