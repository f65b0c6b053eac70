//! Accepting connections: one task per connection, bounded in number, until the drain.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::runtime::{Connection, Listener, Runtime};
use crate::wire::http::DrainWatch;

/// Connections of one listener at once; more wait in the kernel's backlog.
/// x about 20 KiB each = 200 MiB at the very worst.
pub const CONNECTIONS_MAX: usize = 10_000;

/// Pause after a failed accept, so that a lack of descriptors is not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves each accepted connection in a task of its own until the drain begins. Tasks hold a
/// drain watch, so that the drain waits for them.
pub async fn accept_loop<F>(
    runtime: Runtime,
    listener: Box<dyn Listener>,
    drain: DrainWatch,
    name: &'static str,
    serve: impl Fn(Connection, DrainWatch) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The drain is heard also while every slot is taken.
        if slots.available_permits() == 0 {
            mark!("connections-at-bound");
        }
        let slot = tokio::select! {
            biased;
            () = drain.draining() => return,
            slot = slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            biased;
            () = drain.draining() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => {
                let task = serve(connection, drain.clone());
                runtime.spawn(name, async move {
                    task.await;
                    drop(slot);
                });
            }
            Err(error) => {
                mark!("accept-failed");
                tracing::info!(%error, listener = %listener.local_addr(), "cannot accept");
                runtime.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
