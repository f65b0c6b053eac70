//! Events for people, recorded beside the work that they tell of: nothing waits for one, and what
//! is too much is dropped.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::runtime::Runtime;
use crate::runtime::cluster::{ClusterError, Event};

/// Events that wait to be recorded; beyond, they are dropped.
const WAITING_MAX: usize = 256;
/// How long recording one may take.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes events. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Recorder(mpsc::Sender<Event>);

impl Recorder {
    /// One whose events are recorded by a task of `runtime`, until the last clone is dropped or the
    /// cluster keeps no events.
    pub(super) fn new(runtime: &Runtime) -> Self {
        let (recorder, mut events) = mpsc::channel::<Event>(WAITING_MAX);
        let (of_task, cluster) = (runtime.clone(), Arc::clone(&runtime.cluster));
        runtime.spawn("control events", async move {
            while let Some(event) = events.recv().await {
                let (reason, name) = (event.reason.clone(), event.name.clone());
                let recorded = of_task.timeout(RECORD_TIMEOUT, cluster.record_event(event)).await;
                match recorded {
                    Ok(Ok(())) => {}
                    Ok(Err(ClusterError::ReadOnly(_))) => return,
                    Ok(Err(error)) => tracing::debug!(reason, name, %error, "event not recorded"),
                    Err(_) => tracing::debug!(reason, name, "event not recorded in time"),
                }
            }
        });
        Self(recorder)
    }

    /// Has an event recorded, as soon as may be.
    pub(super) fn record(&self, event: Event) {
        // Full, or nobody records: an event that is lost is no harm.
        let _ = self.0.try_send(event);
    }
}
