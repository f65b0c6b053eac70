//! Follows the cluster: its watches into the index, and changes out to proxies.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::resource::Kind;
use crate::runtime::Runtime;
use crate::runtime::cluster::{ClusterError, WatchEvent};

use super::metrics::ControlMetrics;
use super::publish::Publisher;

/// A cluster source's stream does not end; where one does, it is opened again after this.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Follows one kind. Does not end.
pub(super) async fn follow_kind(
    runtime: Runtime,
    kind: Kind,
    publisher: Publisher,
    changed: Arc<Notify>,
    metrics: Arc<ControlMetrics>,
) {
    loop {
        let mut events = runtime.cluster.watch(kind);
        while let Some(event) = poll_fn(|context| events.as_mut().poll_next(context)).await {
            match event {
                Ok(event) => {
                    metrics.events.increment();
                    publisher.apply(kind, event);
                    changed.notify_one();
                }
                // The source has none of this kind, as where a definition is not installed.
                Err(ClusterError::NotFound(reason)) => {
                    mark!("kind-not-installed");
                    tracing::debug!(%kind, reason, "the cluster has none of this kind");
                    publisher.apply(kind, WatchEvent::Init);
                    publisher.apply(kind, WatchEvent::InitDone);
                    changed.notify_one();
                }
                Err(error) => {
                    mark!("watch-failed");
                    metrics.watch_errors.increment();
                    tracing::error!(%kind, %error, "what was known before stays in force");
                }
            }
        }
        runtime.sleep(REOPEN_AFTER).await;
    }
}

/// Publishes after each burst of changes, and says so. Does not end.
pub(super) async fn publish_changes(
    runtime: Runtime,
    publisher: Publisher,
    changed: Arc<Notify>,
    refreshed: Arc<Notify>,
    coalesce: Duration,
    metrics: Arc<ControlMetrics>,
) {
    loop {
        changed.notified().await;
        runtime.sleep(coalesce).await;
        publisher.refresh();
        refreshed.notify_one();
        if !metrics.is_synced() && publisher.is_synced() {
            metrics.set_synced();
            let objects: usize = publisher.objects().iter().map(|(_, count)| count).sum();
            tracing::info!(objects, "ready: every kind has been listed");
        }
    }
}
