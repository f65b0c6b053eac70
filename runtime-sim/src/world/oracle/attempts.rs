//! Connections that hosts tried to open, whether or not it came to one: who fails must not try again
//! without end, nor all at the same moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use mesh_core::time::Timestamp;

use super::plaintext::Names;
use super::{Evidence, Finding, Offence};
use crate::lock;
use crate::trace::{Capture, Packet};
use crate::world::record::{Attempt, Record};
use crate::world::scenario::Window;

/// A capture that records each connection's first SYN, and hands every packet on.
pub fn watch(names: Names, record: Record, next: Option<Capture>) -> Capture {
    let seen = Mutex::new(BTreeMap::<(SocketAddr, SocketAddr), u32>::new());
    std::sync::Arc::new(move |packet: &Packet| {
        if let Some(next) = &next {
            next(packet);
        }
        let opens = packet.flags.syn && !packet.flags.ack;
        if !opens || packet.from.ip().is_loopback() || packet.to.ip().is_loopback() {
            return;
        }
        // One that is sent again has the number of the first.
        let before = lock(&seen).insert((packet.from, packet.to), packet.sequence);
        if before == Some(packet.sequence) {
            return;
        }
        let names = lock(&names);
        let name = |at: SocketAddr| {
            let known = names.get(&at.ip()).cloned();
            known.unwrap_or_else(|| at.ip().to_string().into())
        };
        let (from, to) = (name(packet.from), name(packet.to));
        drop(names);
        record.attempt(Attempt { at: packet.at, from, to });
    })
}

/// Counts over a stretch of time that slides from attempt to attempt.
pub(super) fn judge(
    evidence: &Evidence<'_>,
    [from, to]: [Option<&str>; 2],
    at_most: u64,
    per: Duration,
    window: Window,
) -> Finding {
    let is = |wanted: Option<&str>, name: &str| wanted.is_none_or(|wanted| wanted == name);
    let ours = |attempt: &&Attempt| {
        is(from, &attempt.from) && is(to, &attempt.to) && window.contains(attempt.at)
    };
    let tried: Vec<_> = evidence.entries.attempts.iter().filter(ours).collect();
    let (mut first_of, mut most, mut first) = (0, 0, None);
    for (index, attempt) in tried.iter().enumerate() {
        let start = attempt.at.since(Timestamp::ZERO).saturating_sub(per);
        while tried[first_of].at.since(Timestamp::ZERO) < start {
            first_of += 1;
        }
        let count = (index + 1 - first_of) as u64;
        most = most.max(count);
        if count > at_most && first.is_none() {
            let what = format!("{count} connections tried in {per:?}, the last to {}", attempt.to);
            first = Some(Offence::at(attempt.at, what).of_pod(&attempt.from));
        }
    }
    match tried.is_empty() {
        true => Finding::new(false, "nobody tried to open a connection"),
        false => Finding::of(format!("{} in all, at most {most} in {per:?}", tried.len()), first),
    }
}
