//! Stands for election: reads and renews the lease, and tells the writers of this control plane
//! until when they may write.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Election;
use crate::control::config::LeaseConfig;
use crate::control::metrics::ControlMetrics;
use crate::model::client_policy;
use crate::model::ratio::Ratio;
use crate::runtime::Runtime;
use crate::runtime::cluster::ClusterError;
use crate::time::Timestamp;
use crate::traffic::backoff::Backoff;
use crate::wire::drain::DrainWatch;

/// The longest that one request to the cluster may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Between attempts that fail.
const RETRY: client_policy::Backoff = client_policy::Backoff {
    min: Duration::from_millis(500),
    max: Duration::from_secs(5),
    jitter: Ratio::from_millionths(500_000),
    respect_retry_after: false,
};

/// Until when this control plane may write, where it may.
pub(in crate::control) type Leadership = watch::Receiver<Option<Timestamp>>;

/// Stands for election until the drain begins, then gives the lease back. `told` is told until when
/// this control plane may write.
pub(in crate::control) async fn stand(
    runtime: Runtime,
    config: LeaseConfig,
    told: watch::Sender<Option<Timestamp>>,
    metrics: Arc<ControlMetrics>,
    drain: DrainWatch,
) {
    let mut candidate = Candidate {
        election: Election::new(&config.holder, config.duration),
        runtime,
        config,
        told,
        metrics,
    };
    let mut backoff = Backoff::new(RETRY);
    let mut next = Timestamp::ZERO;
    loop {
        let now = candidate.runtime.now();
        if now >= next {
            next = match candidate.turn().await {
                Ok(()) => {
                    backoff.succeeded();
                    candidate.election.next(candidate.runtime.now())
                }
                Err(error) => {
                    mark!("lease-not-read-or-written");
                    if backoff.failures() == 0 {
                        let lease = &candidate.config.name;
                        tracing::warn!(lease, %error, "cannot read or write the lease");
                    }
                    candidate.runtime.now() + backoff.failed(candidate.runtime.entropy.next_u64())
                }
            };
        }
        let holds_until = candidate.tell();
        let wake = holds_until.map_or(next, |until| next.min(until));
        tokio::select! {
            biased;
            () = drain.draining() => break,
            () = candidate.runtime.clock.sleep_until(wake) => {}
        }
    }
    candidate.give_back().await;
}

struct Candidate {
    election: Election,
    runtime: Runtime,
    config: LeaseConfig,
    told: watch::Sender<Option<Timestamp>>,
    metrics: Arc<ControlMetrics>,
}

impl Candidate {
    /// Reads the lease, and writes it where this candidate may.
    async fn turn(&mut self) -> Result<(), ClusterError> {
        let name = &self.config.name;
        let lease = self.request(self.runtime.cluster.lease(name)).await?;
        let now = self.runtime.now();
        self.election.saw(now, lease);
        let Some(bid) = self.election.bid(now, self.runtime.clock.wall()) else {
            return Ok(());
        };
        match self.request(self.runtime.cluster.write_lease(name, bid)).await {
            Ok(written) => {
                self.election.won(now, written);
                Ok(())
            }
            Err(error) => {
                if matches!(error, ClusterError::Conflict(_)) {
                    mark!("lease-write-conflicted");
                }
                Err(error)
            }
        }
    }

    async fn request<T>(
        &self,
        request: impl Future<Output = Result<T, ClusterError>>,
    ) -> Result<T, ClusterError> {
        let answer = self.runtime.timeout(REQUEST_TIMEOUT, request).await;
        answer.unwrap_or_else(|_| Err(ClusterError::Unavailable("no answer in time".to_string())))
    }

    /// Tells the writers; returns until when they may write.
    fn tell(&self) -> Option<Timestamp> {
        let now = self.runtime.now();
        let until = self.election.holds_until().filter(|until| now < *until);
        let before = self.told.send_replace(until);
        if before.is_some() != until.is_some() {
            let lease = &self.config.name;
            match until {
                Some(_) => {
                    mark!("lease-taken");
                    self.metrics.leases_taken.increment();
                    tracing::info!(lease, holder = self.config.holder, "holds the lease");
                }
                None => {
                    mark!("lease-lost");
                    tracing::info!(lease, holder = self.config.holder, "no longer holds the lease");
                }
            }
            self.metrics.set_leader(until.is_some());
        }
        until
    }

    async fn give_back(&mut self) {
        let lease = self.election.give_back(self.runtime.clock.wall());
        self.tell();
        if let Some(lease) = lease {
            let written = self.runtime.cluster.write_lease(&self.config.name, lease);
            if let Err(error) = self.request(written).await {
                tracing::debug!(%error, "the lease was not given back; it runs out");
            }
        }
    }
}
