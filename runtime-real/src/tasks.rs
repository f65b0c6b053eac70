//! The door to background tasks: tokio's spawner.
//!
//! Law: a panic ends its own task alone; [`crate::logging`]'s panic hook reports it with the name
//! of the task that was running.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use mesh_core::runtime::{BoxFuture, Tasks};
use tokio::runtime::Handle;

thread_local! {
    /// The name of the task that this thread is running.
    static RUNNING: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// The name of the task that runs on this thread, if one of ours does.
pub fn running() -> Option<&'static str> {
    RUNNING.get()
}

/// Starts tasks on a tokio runtime.
#[derive(Clone, Debug)]
pub struct TokioTasks {
    handle: Handle,
}

impl TokioTasks {
    /// On the runtime of the caller.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn current() -> Self {
        Self { handle: Handle::current() }
    }
}

impl Tasks for TokioTasks {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.handle.spawn(Named { name, task });
    }
}

/// A task that says who it is while it runs.
struct Named {
    name: &'static str,
    task: BoxFuture<'static, ()>,
}

impl Future for Named {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let outer = RUNNING.replace(Some(self.name));
        let restore = Restore(outer);
        let polled = self.task.as_mut().poll(context);
        drop(restore);
        polled
    }
}

/// Sets the name back, after a panic too.
struct Restore(Option<&'static str>);

impl Drop for Restore {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_task_knows_its_name_and_a_panic_ends_it_alone() {
        let runtime = crate::current_thread().unwrap();
        let (names, seen) = mpsc::channel();
        runtime.block_on(async {
            let tasks = TokioTasks::current();
            tasks.spawn("broken", Box::pin(async { panic!("planted by a test") }));
            tasks.spawn("whole", Box::pin(async move { names.send(running()).unwrap() }));
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        });
        assert_eq!(seen.recv().unwrap(), Some("whole"));
        assert_eq!(running(), None);
    }
}
