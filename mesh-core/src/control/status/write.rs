//! Writes statuses while this control plane holds the lease: one at a time, again where somebody
//! else wrote first, and nothing once the lease has run out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::board::tell_people;
use crate::control::lease::lead::Leadership;
use crate::control::metrics::ControlMetrics;
use crate::control::publish::Publisher;
use crate::model::client_policy;
use crate::model::ratio::Ratio;
use crate::resource::ObjectRef;
use crate::runtime::Runtime;
use crate::runtime::cluster::ClusterError;
use crate::time::Timestamp;
use crate::traffic::backoff::Backoff;

/// The longest that one write may take (Linkerd: 5 s).
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Between attempts to write one object, and between attempts while the cluster is away.
const RETRY: client_policy::Backoff = client_policy::Backoff {
    min: Duration::from_millis(50),
    max: Duration::from_secs(10),
    jitter: Ratio::from_millionths(500_000),
    respect_retry_after: false,
};

/// Statuses that meet conflicts and wait for their next attempt; beyond, the one that waited
/// longest is tried at once.
const WAITING_MAX: usize = 1_000;

/// Writes what is due whenever `leadership` allows it. Does not end.
pub(in crate::control) async fn write_statuses(
    runtime: Runtime,
    publisher: Publisher,
    mut leadership: Leadership,
    refreshed: Arc<Notify>,
    metrics: Arc<ControlMetrics>,
) {
    let mut writer = Writer { runtime, publisher, metrics, waiting: BTreeMap::new() };
    loop {
        // Not one that has run out and of which nobody was told yet: whoever is to tell must run.
        let clock = writer.runtime.clock.clone();
        let holds = |until: &Option<_>| until.is_some_and(|until| clock.now() < until);
        let Ok(until) = leadership.wait_for(holds).await.map(|until| *until) else {
            return;
        };
        writer.publisher.keep_statuses(true);
        let mut until = until;
        while let Some(end) = until {
            let wake = writer.write_due(end).await;
            tokio::select! {
                biased;
                changed = leadership.changed() => if changed.is_err() { return },
                () = refreshed.notified() => {}
                () = writer.runtime.clock.sleep_until(wake.min(end)) => {}
            }
            until = *leadership.borrow_and_update();
            until = until.filter(|end| writer.runtime.now() < *end);
        }
        writer.waiting.clear();
        writer.publisher.keep_statuses(false);
    }
}

struct Writer {
    runtime: Runtime,
    publisher: Publisher,
    metrics: Arc<ControlMetrics>,
    /// Objects that met a conflict, and when they are tried again: none where they are due.
    waiting: BTreeMap<ObjectRef, (Option<Timestamp>, Backoff)>,
}

impl Writer {
    /// Writes all that is due before `end`. Returns when to look again.
    async fn write_due(&mut self, end: Timestamp) -> Timestamp {
        let mut away = Backoff::new(RETRY);
        loop {
            let now = self.runtime.now();
            self.wake(now);
            if now >= end {
                return end;
            }
            let Some(object) = self.publisher.next_status(self.runtime.clock.wall()) else {
                let next = self.waiting.values().filter_map(|(at, _)| *at).min();
                return next.unwrap_or(end);
            };
            let name = object.object_ref();
            self.metrics.statuses.dequeued.increment();
            let deadline = (now + WRITE_TIMEOUT).min(end);
            let told = object.clone();
            let write = self.runtime.cluster.write_status(object);
            match self.runtime.deadline(deadline, write).await {
                Ok(Ok(())) => {
                    mark!("status-written");
                    self.metrics.statuses.written.increment();
                    self.waiting.remove(&name);
                    away.succeeded();
                }
                Ok(Err(ClusterError::ReadOnly(_))) => {
                    tell_people(&told);
                    self.publisher.status_told(&name);
                }
                // The watch has not told yet.
                Ok(Err(ClusterError::NotFound(_))) => drop(self.waiting.remove(&name)),
                Ok(Err(ClusterError::Conflict(reason))) => {
                    mark!("status-write-conflicted");
                    tracing::debug!(%name, reason, "somebody else wrote first");
                    self.metrics.statuses.refused.increment();
                    self.wait(name, now);
                }
                failed => {
                    let error = match failed {
                        Ok(Err(error)) => {
                            self.metrics.statuses.refused.increment();
                            error
                        }
                        _ => {
                            self.metrics.statuses.timed_out.increment();
                            ClusterError::Unavailable("no answer in time".to_string())
                        }
                    };
                    mark!("status-write-failed");
                    if away.failures() == 0 {
                        tracing::warn!(%name, %error, "cannot write a status");
                    }
                    self.publisher.status_put_back(&name);
                    let wait = away.failed(self.runtime.entropy.next_u64());
                    self.runtime.clock.sleep_until((self.runtime.now() + wait).min(end)).await;
                }
            }
        }
    }

    /// What has waited long enough is due again.
    fn wake(&mut self, now: Timestamp) {
        for (name, (at, _)) in &mut self.waiting {
            if at.take_if(|at| *at <= now).is_some() {
                self.publisher.status_put_back(name);
            }
        }
    }

    fn wait(&mut self, name: ObjectRef, now: Timestamp) {
        if self.waiting.len() >= WAITING_MAX {
            mark!("statuses-waiting-at-bound");
            let first = self.waiting.iter().min_by_key(|(_, (at, _))| *at);
            if let Some(first) = first.map(|(name, _)| name.clone()) {
                self.waiting.remove(&first);
                self.publisher.status_put_back(&first);
            }
        }
        let (at, backoff) = self.waiting.entry(name).or_insert((None, Backoff::new(RETRY)));
        *at = Some(now + backoff.failed(self.runtime.entropy.next_u64()));
    }
}
