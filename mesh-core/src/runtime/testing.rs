//! A runtime for this crate's own tests: tokio's clock and tasks, and no outside. Not for
//! production, and not the simulator: it has no network (but see [`net`]), files, cluster or TLS.
//!
//! Law: with tokio's time paused (`#[tokio::test(start_paused = true)]`), a test waits for no real
//! time, and the same test draws the same random numbers in every run.

pub(crate) mod net;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use rustls::crypto::CryptoProvider;
use tokio::time::Instant;

use super::clock::BoxSleep;
use super::cluster::{ClusterError, Lease, TokenReview, WatchEvent};
use super::crypto::{CryptoError, KeyPair};
use super::files::Privacy;
use super::net::{ListenOptions, TcpOptions};
use super::{
    BoxFuture, BoxStream, Clock, Cluster, Connection, Crypto, Entropy, Files, Listener, Net,
    Runtime, Tasks,
};
use crate::resource::{Kind, Object};
use crate::time::{Timestamp, WallTime};

/// A runtime whose clock starts now and whose wall clock starts on 2026-01-01. Must be called, and
/// used, inside a tokio test. Replace a door by assigning its field.
pub(crate) fn runtime() -> Runtime {
    Runtime {
        clock: Arc::new(TestClock { start: Instant::now() }),
        net: Arc::new(Closed),
        tasks: Arc::new(TestTasks),
        entropy: Arc::new(SplitMix(AtomicU64::new(0))),
        crypto: Arc::new(Closed),
        files: Arc::new(Closed),
        cluster: Arc::new(Closed),
    }
}

/// Polls `future` until nothing more happens at this instant of paused time, at most; tells
/// whether it completed.
pub(crate) async fn settles<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    for _ in 0..64 {
        let now = poll_fn(|cx| match Pin::new(&mut *future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        if now.is_some() {
            return now;
        }
        tokio::task::yield_now().await;
    }
    None
}

struct TestClock {
    start: Instant,
}

/// 2026-01-01T00:00:00Z.
const WALL_START_SECS: u64 = 1_767_225_600;

impl TestClock {
    fn elapsed(&self) -> Duration {
        Instant::now() - self.start
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.elapsed()
    }

    fn wall(&self) -> WallTime {
        WallTime::from_unix_secs(WALL_START_SECS) + self.elapsed()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxSleep {
        if deadline == Timestamp::MAX {
            return Box::pin(std::future::pending());
        }
        let at = self.start + deadline.since(Timestamp::ZERO);
        Box::pin(tokio::time::sleep_until(at))
    }
}

struct TestTasks;

impl Tasks for TestTasks {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

/// Sebastiano Vigna's splitmix64, seeded with zero.
struct SplitMix(AtomicU64);

impl Entropy for SplitMix {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }

    fn next_u64(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A door with nothing behind it.
struct Closed;

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the testing runtime has no outside")
}

impl Net for Closed {
    fn connect(
        &self,
        _to: SocketAddr,
        _options: TcpOptions,
    ) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(async { Err(unsupported()) })
    }

    fn listen(
        &self,
        _at: SocketAddr,
        _options: ListenOptions,
    ) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(unsupported()) })
    }

    fn resolve(&self, _name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async { Err(unsupported()) })
    }
}

impl Crypto for Closed {
    fn tls_provider(&self) -> Arc<CryptoProvider> {
        panic!("the testing runtime has no TLS");
    }

    fn generate_key(&self) -> Result<Arc<dyn KeyPair>, CryptoError> {
        Err(CryptoError(unsupported().to_string()))
    }

    fn load_key(&self, _pkcs8_der: &[u8]) -> Result<Arc<dyn KeyPair>, CryptoError> {
        Err(CryptoError(unsupported().to_string()))
    }
}

impl Files for Closed {
    fn read(&self, _path: &Path, _bytes_max: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        Box::pin(async { Err(unsupported()) })
    }

    fn list(&self, _directory: &Path) -> BoxFuture<'static, io::Result<Vec<PathBuf>>> {
        Box::pin(async { Err(unsupported()) })
    }

    fn write(
        &self,
        _path: &Path,
        _content: &[u8],
        _privacy: Privacy,
    ) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async { Err(unsupported()) })
    }

    fn watch(&self, _path: &Path) -> BoxStream<()> {
        Box::pin(Silent::<()>(Mutex::new(None)))
    }
}

impl Cluster for Closed {
    fn watch(&self, _kind: Kind) -> BoxStream<Result<WatchEvent, ClusterError>> {
        Box::pin(Silent(Mutex::new(Some(Err(ClusterError::Unavailable(
            unsupported().to_string(),
        ))))))
    }

    fn write_status(&self, _object: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        Box::pin(async { Err(ClusterError::Unavailable(unsupported().to_string())) })
    }

    fn lease(&self, _name: &str) -> BoxFuture<'static, Result<Option<Lease>, ClusterError>> {
        Box::pin(async { Err(ClusterError::Unavailable(unsupported().to_string())) })
    }

    fn write_lease(
        &self,
        _name: &str,
        _lease: Lease,
    ) -> BoxFuture<'static, Result<Lease, ClusterError>> {
        Box::pin(async { Err(ClusterError::Unavailable(unsupported().to_string())) })
    }

    fn review_token(
        &self,
        _token: &str,
        _audience: &str,
    ) -> BoxFuture<'static, Result<TokenReview, ClusterError>> {
        Box::pin(async { Err(ClusterError::Unavailable(unsupported().to_string())) })
    }
}

/// Yields what it holds, then nothing for ever.
struct Silent<T>(Mutex<Option<T>>);

impl<T> Stream for Silent<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.0.lock().expect("no holder panics").take() {
            Some(item) => Poll::Ready(Some(item)),
            None => Poll::Pending,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sleep_takes_its_time_on_the_clock_and_none_for_real() {
    let runtime = runtime();
    let mut sleep = Box::pin(runtime.sleep(Duration::from_secs(3600)));
    assert_eq!(settles(&mut sleep).await, None);
    sleep.await;
    assert_eq!(runtime.now(), Timestamp::from_millis(3_600_000));
}
