//! Garbage: random and damaged byte streams into whole proxies, outbound and inbound.
//!
//! Laws: no panic; no connection outlives its timeouts; memory does not grow with what has passed;
//! afterwards a good request is answered.

pub mod mesh;
pub mod net;
pub mod streams;

use std::fmt;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::mutate::Draw;
use mesh::{APPLICATION, INBOUND, MESHED, Mesh, OUTBOUND, PLAIN, SERVER_NAME, at};
use net::MemoryNet;
use streams::segments;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

/// Streams at once.
const STREAMS_AT_ONCE: usize = 400;

/// How long a connection may last once its client said its last: the proxies' detection (500 ms)
/// on both sides, the application's patience, and time to spare on a busy machine.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How long a silent client stays before it ends its side.
const SILENCE: Duration = Duration::from_millis(700);

/// What became of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Streams that were sent.
    pub streams: u64,
    /// Streams whose connection did not end in time, by their numbers; the first few.
    pub hung: Vec<u64>,
    /// Panics, in any task.
    pub panics: u64,
    /// Memory of the process in bytes when a quarter had passed, and at the end.
    pub resident_bytes: (u64, u64),
    /// How long it took.
    pub took: Duration,
    /// What was wrong with the good request that followed.
    pub fault: Option<String>,
}

impl Outcome {
    /// Memory that the last three quarters added.
    pub fn growth_bytes(&self) -> u64 {
        self.resident_bytes.1.saturating_sub(self.resident_bytes.0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        let (quarter, end) = self.resident_bytes;
        writeln!(f, "{} streams in {seconds:.0} s", self.streams)?;
        writeln!(f, "panics: {}", self.panics)?;
        writeln!(f, "connections that did not end in time: {:?}", self.hung)?;
        writeln!(
            f,
            "memory after a quarter: {} KiB, at the end: {} KiB",
            quarter >> 10,
            end >> 10
        )?;
        match &self.fault {
            None => write!(f, "afterwards a good request is answered"),
            Some(fault) => write!(f, "afterwards: {fault}"),
        }
    }
}

/// Sends so many streams. The same seed sends the same.
///
/// # Errors
/// Why the mesh does not start.
pub async fn run(streams: u64, seed: u64) -> Result<Outcome, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mesh = Mesh::start(directory.path()).await?;
    let panics = count_panics();
    let began = Instant::now();
    let places = Arc::new(Semaphore::new(STREAMS_AT_ONCE));
    let hung = Arc::new(Mutex::new(Vec::new()));
    let mut outcome = Outcome { streams, ..Outcome::default() };
    for nth in 0..streams {
        if nth == streams / 4 {
            outcome.resident_bytes.0 = resident_bytes();
        }
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        let (net, hung) = (mesh.net.clone(), hung.clone());
        tokio::spawn(async move {
            if !send(&net, &mut Draw::new((seed << 32) ^ nth)).await {
                let mut hung = hung.lock().unwrap_or_else(PoisonError::into_inner);
                if hung.len() < 10 {
                    hung.push(nth);
                }
            }
            drop(place);
        });
    }
    let all = u32::try_from(STREAMS_AT_ONCE).expect("a small number");
    let _ended = places.acquire_many(all).await.expect("it is never closed");
    outcome.took = began.elapsed();
    outcome.fault = mesh.check().await.err();
    outcome.resident_bytes.1 = resident_bytes();
    outcome.panics = panics.load(Ordering::Relaxed);
    outcome.hung = std::mem::take(&mut *hung.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(outcome)
}

/// Sends one stream to one of the ways in. Whether its connection ended in time.
async fn send(net: &MemoryNet, draw: &mut Draw) -> bool {
    let (listener, original_dst) = match draw.below(100) {
        0..45 => (OUTBOUND, PLAIN),
        45..48 => (OUTBOUND, MESHED),
        48..92 => (INBOUND, APPLICATION),
        _ => (INBOUND, INBOUND),
    };
    let dialed = net.dial(at(listener), Some(at(original_dst))).await;
    let Ok((io, _)) = dialed else { return false };
    let (mut read, mut write) = tokio::io::split(io);
    let segments = segments(draw, &[SERVER_NAME, "app"]);
    let manner = draw.below(20);
    let talk = async move {
        for segment in segments {
            if write.write_all(&segment).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        if manner == 0 {
            tokio::time::sleep(SILENCE).await;
        }
        // It fails where the connection has ended, as it is to.
        let _ = write.shutdown().await;
    };
    // Some are gone without a word.
    let leaves = (1..4).contains(&manner);
    let listen = async {
        let mut buffer = vec![0; 4096];
        while !leaves && matches!(read.read(&mut buffer).await, Ok(1..)) {}
    };
    tokio::time::timeout(END_WITHIN, async { tokio::join!(talk, listen) }).await.is_ok()
}

/// Counts panics from now on, and shows the first few.
fn count_panics() -> Arc<AtomicU64> {
    let panics = Arc::new(AtomicU64::new(0));
    let (counted, show) = (panics.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        if counted.fetch_add(1, Ordering::Relaxed) < 3 {
            show(info);
        }
    }));
    panics
}

/// Memory of this process; zero where the system does not tell.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}
