//! Pings of a connection: they find a peer that is gone (RFC 9113, section 6.7), and measure how much
//! is on its way, so that receive windows can grow with it.
//!
//! Law: at most one ping is out. A peer from which nothing was read for an interval is pinged, and is
//! given up where it has not answered within the timeout; while no stream is open only where that is
//! asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::h2::{Ping, PingPong};

use crate::model::protocol::KeepAlive;
use crate::runtime::Clock;
use crate::runtime::clock::BoxSleep;
use crate::time::Timestamp;

/// How long an answer may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Windows do not grow beyond it.
const WINDOW_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// The pings of one connection.
pub(in super::super) struct Pulse {
    clock: Arc<dyn Clock>,
    pings: PingPong,
    /// All bytes read from the peer, and how many of them were seen here.
    read_bytes: Arc<AtomicU64>,
    seen_bytes: u64,
    last_read: Timestamp,
    sent_at: Option<Timestamp>,
    heart: Option<Heart>,
    windows: Option<Windows>,
}

/// What a connection is told by its pings.
pub(super) enum Beat {
    /// The receive windows are to be so large, in bytes.
    Windows(u32),
    /// The peer did not answer.
    Dead,
}

impl Pulse {
    /// `None` where neither is asked for. `windows`: the first size of receive windows that are to
    /// grow. `read_bytes`: what counts the bytes read from the peer.
    pub(in super::super) fn new(
        clock: &Arc<dyn Clock>,
        pings: PingPong,
        keep_alive: Option<KeepAlive>,
        windows: Option<u32>,
        read_bytes: Arc<AtomicU64>,
    ) -> Option<Self> {
        let heart = keep_alive.and_then(|keep_alive| {
            Some(Heart {
                interval: keep_alive.interval?,
                timeout: keep_alive.timeout.unwrap_or(TIMEOUT),
                while_idle: keep_alive.while_idle,
                state: State::Resting,
            })
        });
        let windows = windows.map(Windows::new);
        (heart.is_some() || windows.is_some()).then(|| Self {
            clock: clock.clone(),
            pings,
            read_bytes,
            seen_bytes: 0,
            last_read: clock.now(),
            sent_at: None,
            heart,
            windows,
        })
    }

    /// Sends pings and hears their answers. Polled before the connection.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_idle: bool) -> Option<Beat> {
        self.beat(cx, is_idle);
        let sent_at = self.sent_at?;
        match self.pings.poll_pong(cx) {
            Poll::Ready(Ok(_)) => {
                let now = self.clock.now();
                self.sent_at = None;
                self.last_read = now;
                if let Some(heart) = &mut self.heart
                    && matches!(heart.state, State::Awaiting(_))
                {
                    heart.state = State::Resting;
                }
                self.beat(cx, is_idle);
                let window = self.windows.as_mut()?.learn(now.since(sent_at), now)?;
                Some(Beat::Windows(window))
            }
            // The connection is ending.
            Poll::Ready(Err(_)) => None,
            Poll::Pending => {
                let Some(Heart { state: State::Awaiting(end), .. }) = &mut self.heart else {
                    return None;
                };
                if end.as_mut().poll(cx).is_pending() {
                    return None;
                }
                self.heart = None;
                Some(Beat::Dead)
            }
        }
    }

    /// Takes note of what the connection has read. Polled after it.
    pub(super) fn note_reads(&mut self) {
        let read = self.read_bytes.load(Ordering::Relaxed);
        let more = read - std::mem::replace(&mut self.seen_bytes, read);
        if more == 0 {
            return;
        }
        let now = self.clock.now();
        self.last_read = now;
        if let Some(windows) = &mut self.windows
            && windows.count(more, now)
        {
            self.send(now);
        }
    }

    fn send(&mut self, now: Timestamp) {
        if self.sent_at.is_none() && self.pings.send_ping(Ping::opaque()).is_ok() {
            self.sent_at = Some(now);
        }
    }

    /// Pings a peer that has been silent for an interval.
    fn beat(&mut self, cx: &mut Context<'_>, is_idle: bool) {
        let Some(heart) = &mut self.heart else {
            return;
        };
        let is_resting = is_idle && !heart.while_idle;
        loop {
            match &mut heart.state {
                State::Resting if is_resting => return,
                State::Resting => {
                    let due = self.last_read + heart.interval;
                    heart.state = State::Due(due, self.clock.sleep_until(due));
                }
                State::Due(due, sleep) => {
                    if sleep.as_mut().poll(cx).is_pending() {
                        return;
                    }
                    // Whatever was read since says that the peer is there.
                    if is_resting || self.last_read + heart.interval > *due {
                        heart.state = State::Resting;
                        continue;
                    }
                    let now = self.clock.now();
                    heart.state = State::Awaiting(self.clock.sleep_until(now + heart.timeout));
                    return self.send(now);
                }
                State::Awaiting(_) => return,
            }
        }
    }
}

/// When the peer is asked whether it is there.
struct Heart {
    interval: Duration,
    timeout: Duration,
    while_idle: bool,
    state: State,
}

enum State {
    /// Nothing is planned.
    Resting,
    /// A ping is sent then, unless something is read before.
    Due(Timestamp, BoxSleep),
    /// A ping is out; the peer is given up then.
    Awaiting(BoxSleep),
}

/// How large receive windows should be: twice what arrives in one round trip.
struct Windows {
    window_bytes: u32,
    /// What has arrived since the ping was sent.
    arrived_bytes: u64,
    /// The most that was seen, in bytes a second.
    best_bandwidth: f64,
    /// The mean of round trips, in seconds; the first counts whole, each later one an eighth.
    round_trip_secs: Option<f64>,
    next: Timestamp,
    pause: Duration,
    /// Answers in a row that changed nothing.
    unchanged: u32,
}

impl Windows {
    const PAUSE_MAX: Duration = Duration::from_secs(10);

    fn new(window_bytes: u32) -> Self {
        Self {
            window_bytes,
            arrived_bytes: 0,
            best_bandwidth: 0.0,
            round_trip_secs: None,
            next: Timestamp::ZERO,
            pause: Duration::from_millis(100),
            unchanged: 0,
        }
    }

    /// Counts what arrived. Whether a ping should be out.
    fn count(&mut self, bytes: u64, now: Timestamp) -> bool {
        if now < self.next || self.window_bytes == WINDOW_BYTES_MAX {
            return false;
        }
        self.arrived_bytes += bytes;
        true
    }

    /// What the windows are to be, where the answer to a ping says that they are too small.
    fn learn(&mut self, round_trip: Duration, now: Timestamp) -> Option<u32> {
        let arrived = std::mem::take(&mut self.arrived_bytes);
        let secs = round_trip.as_secs_f64();
        let mean = self.round_trip_secs.map_or(secs, |mean| mean + (secs - mean) / 8.0);
        self.round_trip_secs = Some(mean);
        let bandwidth = arrived as f64 / mean.max(1e-6);
        let is_best = bandwidth > self.best_bandwidth;
        self.best_bandwidth = self.best_bandwidth.max(bandwidth);
        let grows = is_best && 3 * arrived >= 2 * u64::from(self.window_bytes);
        if grows {
            let twice = u32::try_from(2 * arrived).unwrap_or(WINDOW_BYTES_MAX);
            self.window_bytes = twice.min(WINDOW_BYTES_MAX);
            self.unchanged = 0;
            self.pause /= 2;
        } else {
            self.unchanged += 1;
            if self.unchanged.is_multiple_of(2) {
                self.pause = (4 * self.pause).min(Self::PAUSE_MAX);
            }
        }
        self.next = now + self.pause;
        grows.then_some(self.window_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_with_what_a_round_trip_brings_and_not_beyond_their_bound() {
        let ms = Duration::from_millis;
        let mut now = Timestamp::ZERO;
        let mut windows = Windows::new(65_535);
        assert!(windows.count(60_000, now));
        now = now + ms(10);
        assert_eq!(windows.learn(ms(10), now), Some(120_000));
        // Not at once again, and not where less arrives.
        assert!(!windows.count(1, now));
        now = now + ms(100);
        assert!(windows.count(30_000, now));
        assert_eq!(windows.learn(ms(10), now), None);
        for _ in 0..20 {
            now = now + Windows::PAUSE_MAX;
            if !windows.count(u64::from(windows.window_bytes), now) {
                break;
            }
            windows.learn(ms(10), now);
        }
        assert_eq!(windows.window_bytes, WINDOW_BYTES_MAX);
        assert!(!windows.count(1, now + Windows::PAUSE_MAX));
    }
}
