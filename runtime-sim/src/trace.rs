//! The identity of a run: SHA-256 over every byte on every link and every event, each with its
//! virtual time. Two runs are the same run where their hashes are.
//!
//! Every thousandth event leaves a checkpoint, so that where two runs part is found without keeping
//! either: [`first_divergence`] names the thousand events, [`Trace::of_window`] keeps their lines.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use mesh_core::time::{Timestamp, WallTime};

use crate::lock;

/// Lines kept for people, of those last written.
const LINES_MAX: usize = 100_000;

/// Events between two checkpoints.
pub const CHECKPOINT_EVENTS: u64 = 1_000;
/// Checkpoints kept; beyond them (a thousand million events) a divergence is not located.
const CHECKPOINTS_MAX: usize = 1_000_000;
/// Bytes hashed at once: small facts gather here first.
const GATHERED_BYTES: usize = 16 * 1024;

/// Where a run's events and bytes go. Cloning shares it.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<State>>);

struct State {
    hash: Sha256,
    /// Not hashed yet.
    gathered: Vec<u8>,
    events: u64,
    bytes: u64,
    /// Which events' lines are kept, by number.
    keep: Range<u64>,
    lines: VecDeque<String>,
    checkpoints: Vec<Checkpoint>,
    checkpoints_max: usize,
}

/// What a run was up to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Events so far.
    pub events: u64,
    /// When the last of them was.
    pub at: Timestamp,
    /// The first bytes of the hash so far.
    pub hash: u64,
}

/// The numbers of the events among which two runs part; none where one is the other's beginning or
/// they are the same, as far as checkpoints tell.
pub fn first_divergence(one: &[Checkpoint], other: &[Checkpoint]) -> Option<Range<u64>> {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    if same == one.len().min(other.len()) {
        return None;
    }
    let start = same as u64 * CHECKPOINT_EVENTS;
    Some(start..start + CHECKPOINT_EVENTS)
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
        Self::of_window(if keep_lines { 0..u64::MAX } else { 0..0 })
    }

    /// An empty trace that keeps the text of the events of these numbers, the first being 0.
    pub fn of_window(keep: Range<u64>) -> Self {
        Self(Arc::new(Mutex::new(State {
            hash: Sha256::new(),
            gathered: Vec::with_capacity(GATHERED_BYTES),
            events: 0,
            bytes: 0,
            keep,
            lines: VecDeque::new(),
            checkpoints: Vec::new(),
            checkpoints_max: CHECKPOINTS_MAX,
        })))
    }

    /// An empty trace that keeps nothing but the hash: it does not grow with the run.
    pub fn of_hash_alone() -> Self {
        let trace = Self::new(false);
        lock(&trace.0).checkpoints_max = 0;
        trace
    }

    /// Something happened on a host.
    pub fn event(&self, now: Timestamp, host: &str, what: fmt::Arguments<'_>) {
        let line = format!("{now} {host} {what}");
        let mut state = lock(&self.0);
        state.hash(line.as_bytes());
        state.hash(b"\n");
        state.count(now, || line);
    }

    /// Bytes reached a host, on a connection (a number), from its end 0 or 1.
    pub fn bytes(&self, now: Timestamp, host: &str, connection: u64, from: usize, bytes: &[u8]) {
        let mut state = lock(&self.0);
        let length = bytes.len() as u64;
        state.hash(&now.as_nanos().to_le_bytes());
        state.hash(host.as_bytes());
        state.hash(&connection.to_le_bytes());
        state.hash(&[from as u8]);
        state.hash(&length.to_le_bytes());
        state.hash(bytes);
        state.bytes += length;
        state.count(now, || {
            let digest = Sha256::digest(bytes);
            let [a, b, c, d] = [digest[0], digest[1], digest[2], digest[3]];
            format!(
                "{now} {host} c{connection} from {from}: {length} bytes {a:02x}{b:02x}{c:02x}{d:02x}"
            )
        });
    }

    /// A step of the engine itself: a timer, an acknowledgement, a poll of a task. `kind` and
    /// `number` tell which.
    pub fn step(&self, now: Timestamp, kind: &'static str, number: u64) {
        let mut state = lock(&self.0);
        state.hash(&now.as_nanos().to_le_bytes());
        state.hash(kind.as_bytes());
        state.hash(&number.to_le_bytes());
        state.count(now, || format!("{now} {kind} {number}"));
    }

    /// The hash of all so far.
    pub fn digest(&self) -> Digested {
        let state = lock(&self.0);
        let hash = state.hash.clone().chain_update(&state.gathered).finalize();
        Digested {
            hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            events: state.events,
            bytes: state.bytes,
        }
    }

    /// What the run was at every thousandth event.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        lock(&self.0).checkpoints.clone()
    }

    /// The kept lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.0).lines.iter().cloned().collect()
    }
}

impl State {
    fn hash(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() > GATHERED_BYTES {
            self.hash.update(&self.gathered);
            self.gathered.clear();
        }
        match bytes.len() > GATHERED_BYTES {
            true => self.hash.update(bytes),
            false => self.gathered.extend_from_slice(bytes),
        }
    }

    /// One more event, which `line` writes for people.
    fn count(&mut self, now: Timestamp, line: impl FnOnce() -> String) {
        if self.keep.contains(&self.events) {
            if self.lines.len() == LINES_MAX {
                self.lines.pop_front();
            }
            self.lines.push_back(line());
        }
        self.events += 1;
        if self.events.is_multiple_of(CHECKPOINT_EVENTS)
            && self.checkpoints.len() < self.checkpoints_max
        {
            let hash = self.hash.clone().chain_update(&self.gathered).finalize();
            let hash = hash.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            self.checkpoints.push(Checkpoint { events: self.events, at: now, hash });
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

/// Sees packets, in the order in which they are sent.
pub type Capture = Arc<dyn Fn(&Packet) + Send + Sync>;

/// A TCP segment, as its sender puts it on the wire: retransmissions are packets of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When it was sent.
    pub at: Timestamp,
    /// Its sender's address.
    pub from: SocketAddr,
    /// Where it is going: on loopback after a redirect rule, between hosts before one, as on a wire.
    pub to: SocketAddr,
    /// What it says.
    pub flags: Flags,
    /// The number of its first byte; SYN and FIN take one. Wraps.
    pub sequence: u32,
    /// The number of the byte expected next, where `flags.ack`.
    pub acknowledges: u32,
    /// Its payload, up to 32 KiB, as segmentation offload shows it.
    pub payload: Bytes,
    /// Whether a cut or loss swallowed it.
    pub lost: bool,
}

/// The flags of a TCP segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Opens.
    pub syn: bool,
    /// Acknowledges.
    pub ack: bool,
    /// Carries bytes that the reader should see now.
    pub psh: bool,
    /// Ends this direction.
    pub fin: bool,
    /// Ends the connection, in disorder.
    pub rst: bool,
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

    #[test]
    fn two_runs_part_where_their_checkpoints_do_and_the_window_shows_the_line() {
        let run = |trace: &Trace, odd: u64| {
            for number in 0..5_000u64 {
                let kind = if number == odd { "odd" } else { "timer" };
                trace.step(at(number), kind, number);
            }
        };
        let [one, same, other] = [Trace::new(false), Trace::new(false), Trace::new(false)];
        run(&one, u64::MAX);
        run(&same, u64::MAX);
        run(&other, 3_456);
        assert_eq!(first_divergence(&one.checkpoints(), &same.checkpoints()), None);
        let window = first_divergence(&one.checkpoints(), &other.checkpoints()).expect("apart");
        assert_eq!(window, 3_000..4_000);
        let lines = |odd| {
            let trace = Trace::of_window(window.clone());
            run(&trace, odd);
            trace.lines()
        };
        let (one, other) = (lines(u64::MAX), lines(3_456));
        let first = one.iter().zip(&other).find(|(a, b)| a != b).expect("a line");
        assert_eq!(first.1, &format!("{} odd 3456", at(3_456)));
        assert_eq!(one.len(), 1_000);
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }
}
