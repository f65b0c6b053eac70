//! The identity of a run: SHA-256 over every byte on every link and every event, each with its
//! virtual time. Two runs are the same run where their hashes are.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use mesh_core::time::{Timestamp, WallTime};

use crate::lock;

/// Lines kept for people, of those last written.
const LINES_MAX: usize = 100_000;

/// Where a run's events and bytes go. Cloning shares it.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<State>>);

struct State {
    hash: Sha256,
    events: u64,
    bytes: u64,
    /// The last lines, where they are kept.
    lines: Option<VecDeque<String>>,
}

/// What a trace amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// SHA-256 in hexadecimal.
    pub hash: String,
    /// Events, deliveries of bytes among them.
    pub events: u64,
    /// Bytes delivered.
    pub bytes: u64,
}

impl Trace {
    /// An empty trace. `keep_lines` also keeps the last 100,000 events as text.
    pub fn new(keep_lines: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            hash: Sha256::new(),
            events: 0,
            bytes: 0,
            lines: keep_lines.then(VecDeque::new),
        })))
    }

    /// Something happened on a host.
    pub fn event(&self, now: Timestamp, host: &str, what: fmt::Arguments<'_>) {
        let line = format!("{now} {host} {what}");
        let mut state = lock(&self.0);
        state.hash.update(line.as_bytes());
        state.hash.update(b"\n");
        state.push(line);
    }

    /// Bytes reached a host, on a connection (a number), from its end 0 or 1.
    pub fn bytes(&self, now: Timestamp, host: &str, connection: u64, from: usize, bytes: &[u8]) {
        let mut state = lock(&self.0);
        let length = bytes.len() as u64;
        state.hash.update(now.as_nanos().to_le_bytes());
        state.hash.update(host.as_bytes());
        state.hash.update(connection.to_le_bytes());
        state.hash.update([from as u8]);
        state.hash.update(length.to_le_bytes());
        state.hash.update(bytes);
        state.bytes += length;
        let line = match state.lines {
            Some(_) => {
                let digest = Sha256::digest(bytes);
                let [a, b, c, d] = [digest[0], digest[1], digest[2], digest[3]];
                format!(
                    "{now} {host} c{connection} from {from}: {length} bytes \
                     {a:02x}{b:02x}{c:02x}{d:02x}"
                )
            }
            None => String::new(),
        };
        state.push(line);
    }

    /// The hash of all so far.
    pub fn digest(&self) -> Digested {
        let state = lock(&self.0);
        let hash = state.hash.clone().finalize();
        Digested {
            hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            events: state.events,
            bytes: state.bytes,
        }
    }

    /// The kept lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        let state = lock(&self.0);
        state.lines.iter().flatten().cloned().collect()
    }
}

impl State {
    fn push(&mut self, line: String) {
        self.events += 1;
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.digest()).finish()
    }
}

/// When simulated worlds begin: 2026-01-01T00:00:00Z.
pub(crate) const START: WallTime = WallTime::from_unix_secs(1_767_225_600);

/// Sees the bytes that hosts receive.
pub type Tap = Arc<dyn Fn(&Delivery<'_>) + Send + Sync>;

/// Bytes that reach a host.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// When.
    pub at: Timestamp,
    /// The host that sent them.
    pub from: IpAddr,
    /// The host that receives them: the same for what stays on a host.
    pub to: IpAddr,
    /// The connection and the end that sent them, unique in the run.
    pub stream: (u64, usize),
    /// The bytes, in the stream's order.
    pub bytes: &'a [u8],
}

/// A task that panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// What the task was.
    pub task: &'static str,
    /// The panic's message.
    pub message: String,
}

impl Panicked {
    pub(crate) fn new(task: &'static str, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self { task, message: text.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_covers_time_place_order_and_bytes() {
        let at = Timestamp::from_millis;
        let of = |events: &[(u64, &str, &[u8])]| {
            let trace = Trace::new(false);
            for (millis, host, bytes) in events {
                trace.bytes(at(*millis), host, 1, 0, bytes);
            }
            trace.digest().hash
        };
        let one = of(&[(1, "a", b"xy"), (1, "a", b"z")]);
        assert_eq!(one, of(&[(1, "a", b"xy"), (1, "a", b"z")]));
        assert_ne!(one, of(&[(1, "a", b"x"), (1, "a", b"yz")]));
        assert_ne!(one, of(&[(1, "a", b"z"), (1, "a", b"xy")]));
        assert_ne!(one, of(&[(2, "a", b"xy"), (2, "a", b"z")]));
        assert_ne!(one, of(&[(1, "b", b"xy"), (1, "a", b"z")]));
    }
}
