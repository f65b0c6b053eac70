//! The doors on tokio and Linux, and what the binaries on them share: logging, process figures, the
//! proxy's `main`.
//!
//! Law: nothing is decided here. What a policy, a route or a certificate means is in `mesh-core`;
//! this crate carries bytes, time, files and randomness in and out.

pub mod clock;
pub mod cores;
pub mod crypto;
pub mod directory;
pub mod entropy;
pub mod files;
#[cfg(feature = "kube")]
pub mod kube;
pub mod logging;
pub mod memory;
pub mod net;
pub mod no_cluster;
pub mod process;
mod proxy_main;
pub mod tasks;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::runtime::{Cluster, Runtime};
use tokio::runtime::Builder;

pub use proxy_main::proxy_main;

/// The doors of a real process. Call it inside of a tokio runtime: tasks are started on that one.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn runtime(cluster: Arc<dyn Cluster>) -> Runtime {
    Runtime {
        clock: Arc::new(clock::SystemClock::new()),
        net: Arc::new(net::TcpNet),
        tasks: Arc::new(tasks::TokioTasks::current()),
        entropy: Arc::new(entropy::SystemEntropy::new()),
        crypto: Arc::new(crypto::AwsLc::new()),
        files: Arc::new(files::SystemFiles),
        cluster,
    }
}

/// A current-thread tokio runtime, sized for a proxy: one thread for everything but file access and
/// name resolution, which borrow at most four short-lived threads with small stacks.
///
/// # Errors
/// Where the kernel gives no epoll instance.
pub fn current_thread() -> io::Result<tokio::runtime::Runtime> {
    sized(Builder::new_current_thread())
}

/// A tokio runtime of so many threads, otherwise as [`current_thread`].
///
/// # Errors
/// Where the kernel gives no epoll instance or no threads.
pub fn multi_thread(workers: usize) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers);
    sized(builder)
}

fn sized(mut builder: Builder) -> io::Result<tokio::runtime::Runtime> {
    builder
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(512 * 1024)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
}
