//! What the control plane says, kept current: policies, profiles and endpoint sets as streams that
//! are made again whenever they end.
//!
//! Law: the last good state stays in force through control-plane outages of any length.

pub mod inbound;
pub mod outbound;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::api::client::{ApiError, ApiStream, ControlClient};
use crate::model::client_policy;
use crate::model::ratio::Ratio;
use crate::proxy::config;
use crate::runtime::Runtime;
use crate::traffic::backoff::Backoff;

/// Between attempts to open a stream.
const RETRY: client_policy::Backoff = client_policy::Backoff {
    min: Duration::from_millis(100),
    max: Duration::from_secs(10),
    jitter: Ratio::from_millionths(500_000),
    respect_retry_after: false,
};

/// What a stream says.
#[derive(Debug)]
pub enum News<T> {
    /// This is so. `fresh`: the first item of a stream.
    Value {
        /// What is so.
        value: T,
        /// Whether it replaces all that earlier streams said.
        fresh: bool,
    },
    /// The control plane knows nothing of it: not found, or not for it to know.
    Absent,
    /// The control plane cannot be asked now.
    Unreachable,
}

/// How one stream stands: whether what it said could be heard again. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<AtomicU8>);

/// Something was heard.
const HEARD: u8 = 1;
/// The last that was heard is that the control plane cannot be asked.
const UNREACHABLE: u8 = 2;

impl Standing {
    /// Whether what the stream said would be lost with it: something was heard, and could not be
    /// heard again now.
    pub fn is_irreplaceable(&self) -> bool {
        self.0.load(Ordering::Relaxed) == HEARD | UNREACHABLE
    }

    fn heard(&self) {
        self.0.store(HEARD, Ordering::Relaxed);
    }

    fn unreachable(&self) {
        self.0.fetch_or(UNREACHABLE, Ordering::Relaxed);
    }
}

/// The clients that discovery asks. Cloning shares them.
#[derive(Clone)]
pub struct Clients {
    runtime: Runtime,
    destination: ControlClient,
    policy: ControlClient,
    config: Arc<config::Discovery>,
}

impl Clients {
    /// Clients of the two services.
    pub fn new(
        runtime: &Runtime,
        destination: ControlClient,
        policy: ControlClient,
        config: config::Discovery,
    ) -> Self {
        Self { runtime: runtime.clone(), destination, policy, config: config.into() }
    }

    /// Follows a stream for ever: opens it, passes its items on, opens it again.
    async fn follow<T, F>(
        &self,
        what: &str,
        standing: &Standing,
        open: impl Fn() -> F,
        mut publish: impl FnMut(News<T>) + Send,
    ) where
        F: Future<Output = Result<ApiStream<T>, ApiError>>,
    {
        let mut backoff = Backoff::new(RETRY);
        loop {
            let mut pass_on = |value, fresh| {
                backoff.succeeded();
                standing.heard();
                publish(News::Value { value, fresh });
            };
            if let Ended::Failed(error) = self.follow_once(&open, &mut pass_on).await {
                tracing::debug!(what, %error, "discovery stream ended");
                let absent = is_absent(&error);
                match absent {
                    true => {
                        mark!("discovery-knows-nothing");
                        standing.heard();
                    }
                    false => {
                        mark!("discovery-stream-broke");
                        standing.unreachable();
                    }
                }
                publish(if absent { News::Absent } else { News::Unreachable });
                if planted!("stream-not-reopened") {
                    return std::future::pending().await;
                }
                let wait = backoff.failed(self.runtime.entropy.next_u64());
                self.runtime.sleep(wait).await;
            }
        }
    }

    async fn follow_once<T, F>(
        &self,
        open: impl Fn() -> F,
        publish: &mut (dyn FnMut(T, bool) + Send),
    ) -> Ended
    where
        F: Future<Output = Result<ApiStream<T>, ApiError>>,
    {
        let first = async {
            let mut stream = open().await?;
            let item = stream.next().await.unwrap_or(Err(closed()))?;
            Ok((stream, item))
        };
        let (mut stream, item) =
            match self.runtime.timeout(self.config.initial_timeout, first).await {
                Ok(Ok(opened)) => opened,
                Ok(Err(error)) => return Ended::Failed(error),
                Err(_) => {
                    mark!("discovery-gave-no-answer");
                    return Ended::Failed(ApiError::Unavailable("no first item in time".into()));
                }
            };
        publish(item, true);
        let end = self.config.lifetime.map(|lifetime| self.runtime.now() + lifetime);
        loop {
            let idle = self.config.idle_timeout.map(|idle| self.runtime.now() + idle);
            let until = [end, idle].into_iter().flatten().min();
            let item = match until {
                Some(until) => match self.runtime.deadline(until, stream.next()).await {
                    Ok(item) => item,
                    Err(_) => {
                        mark!("discovery-stream-renewed");
                        return Ended::Routine;
                    }
                },
                None => stream.next().await,
            };
            match item {
                Some(Ok(value)) => publish(value, false),
                // Undecodable: the last good state holds, and the stream may say better things.
                Some(Err(ApiError::Decode(error))) => {
                    mark!("discovery-update-not-understood");
                    tracing::warn!(%error, "update not understood; the last good one holds");
                }
                Some(Err(error)) => return Ended::Failed(error),
                None => return Ended::Failed(closed()),
            }
        }
    }
}

enum Ended {
    /// Idle or old: made again at once.
    Routine,
    /// Made again after a wait.
    Failed(ApiError),
}

fn closed() -> ApiError {
    ApiError::Unavailable("the stream ended".into())
}

/// Whether the control plane says that there is nothing to know, which Linkerd's proxy takes for
/// an answer.
fn is_absent(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::NotFound(_) | ApiError::Unimplemented(_) | ApiError::InvalidArgument(_)
    )
}
