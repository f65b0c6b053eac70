//! The door to background tasks.

use std::fmt;
use std::future::Future;

use tokio::sync::oneshot;

use super::BoxFuture;

/// Runs futures in the background.
pub trait Tasks: Send + Sync {
    /// Starts `task`. A panic in it is reported by the runtime and ends this task alone.
    /// `name` is for traces and leak checks: what the task is, not which one.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
}

/// Ends its task when dropped.
pub struct TaskGuard {
    /// Never sent on: its being dropped is the message.
    _cancel: oneshot::Sender<()>,
}

impl fmt::Debug for TaskGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskGuard")
    }
}

/// Starts a task that ends when the returned guard is dropped.
pub fn spawn_guarded(
    tasks: &dyn Tasks,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> TaskGuard {
    let (cancel, cancelled) = oneshot::channel();
    tasks.spawn(
        name,
        Box::pin(async move {
            tokio::select! {
                biased;
                _ = cancelled => {}
                () = task => {}
            }
        }),
    );
    TaskGuard { _cancel: cancel }
}
