//! What happened to requests: what their senders saw, what reached a pod, what crossed a link in the
//! clear, and when pods were there. Oracles read it.
//!
//! Law: writing an entry costs the same however many there are, and its order is that of the run.

mod tap;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_core::runtime::BoxIo;
use mesh_core::time::Timestamp;
use mesh_core::wire::counted::Counted;

use crate::lock;

pub use tap::{TapEvent, TapLog, TapMoment, TapSide};

/// The record of a run. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Entries>>);

/// Everything recorded.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// Requests in the order they began; the one of number `n` stands at `n - 1`.
    pub requests: Vec<Request>,
    /// What pods executed, in order.
    pub executions: Vec<Execution>,
    /// Connections that workloads opened, or tried to.
    pub connections: u64,
    /// Requests that ended though they were not under way: a fault of the harness.
    pub stray_ends: u64,
    /// The marker in the clear between hosts, by who sent it and who received it.
    pub plaintext: BTreeMap<(Arc<str>, Arc<str>), Sighting>,
    /// Whether pods were among their services' ready endpoints, since when.
    pub presence: BTreeMap<Arc<str>, Vec<(Timestamp, bool)>>,
    /// Connections that hosts tried to open; recorded where an expectation asks for them.
    pub attempts: Vec<Attempt>,
    /// What the programs of pods had of connections, by pod.
    pub traffic: BTreeMap<Arc<str>, Traffic>,
    /// What taps told, by their names.
    pub taps: BTreeMap<Arc<str>, TapLog>,
    under_way: usize,
}

/// A connection that a host tried to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// Which host.
    pub from: Arc<str>,
    /// To which.
    pub to: Arc<str>,
}

/// A program's connections and their bytes, as it saw them. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Those that it opened.
    pub opened: Tally,
    /// Those that it accepted.
    pub accepted: Tally,
}

/// Connections and their bytes.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many.
    pub connections: Arc<AtomicU64>,
    /// Bytes that were read from them.
    pub read_bytes: Arc<AtomicU64>,
    /// Bytes that were written to them.
    pub written_bytes: Arc<AtomicU64>,
}

impl Tally {
    /// Counts a connection, and from now on its bytes.
    pub fn count(&self, io: BoxIo) -> BoxIo {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Box::new(Counted::new(io, self.read_bytes.clone(), self.written_bytes.clone()))
    }
}

/// The messages of one request in one direction as their receiver sees them: each must be the one
/// after the last.
#[derive(Debug)]
pub struct Sequence {
    record: Record,
    /// Whose messages they are; nothing is known of one that carried no number.
    number: Option<u64>,
    receiver: Arc<str>,
    next: u64,
}

impl Sequence {
    /// Before the first message.
    pub fn new(record: &Record, number: Option<u64>, receiver: &Arc<str>) -> Self {
        Self { record: record.clone(), number, receiver: receiver.clone(), next: 0 }
    }

    /// A message comes. It says which request it is of, and which one of its direction.
    pub fn take(&mut self, now: Timestamp, said: Option<(u64, u64)>) {
        let Some(number) = self.number else { return };
        if said != Some((number, self.next)) {
            let got = said.map_or("something else".to_owned(), |(of, index)| match of == number {
                true => format!("message {index}"),
                false => format!("message {index} of request {of}"),
            });
            let what = format!("{} got {got} in place of message {}", self.receiver, self.next);
            self.record.tear(number, now, what);
        }
        self.next += 1;
    }
}

/// The marker in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When first.
    pub first: Timestamp,
    /// How often.
    pub count: u64,
}

/// A request, as its sender saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The workload's name.
    pub workload: Arc<str>,
    /// The pod that sent it.
    pub sender: Arc<str>,
    /// When it was sent.
    pub began: Timestamp,
    /// How often it was sent: 1, and the client's own retries.
    pub attempts: u32,
    /// The connection of the last attempt, where there was one; numbers are unique in the run.
    pub connection: Option<u64>,
    /// When the answer began: a response's head, or the first byte where there is none.
    pub first_byte: Option<Timestamp>,
    /// Messages of a stream that were sent.
    pub messages_sent: u64,
    /// Messages of a stream that came.
    pub messages_received: u64,
    /// Messages of it that reached the pod that executed it last.
    pub messages_delivered: u64,
    /// Messages that this pod sent.
    pub messages_answered: u64,
    /// The first message that was lost, doubled or overtaken, at either end.
    pub torn: Option<(Timestamp, String)>,
    /// How often it reached a pod.
    pub executions: u32,
    /// When it ended, and how.
    pub end: Option<(Timestamp, Result<Answer, Failure>)>,
}

/// A request's answer, received whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's status; 0 without HTTP.
    pub status: u16,
    /// gRPC's, where it is gRPC.
    pub grpc_status: Option<u16>,
}

impl Answer {
    /// An answer with a status.
    pub const fn status(status: u16) -> Self {
        Self { status, grpc_status: None }
    }
}

/// Why a request has no answer, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it is a case of.
    pub class: FailureClass,
    /// What happened, in words.
    pub what: String,
}

/// What a failure is a case of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureClass {
    /// The name has no address.
    Unresolved,
    /// Nobody listens there.
    Refused,
    /// The connection could not be made for another reason.
    Unreachable,
    /// The connection, or the stream, was reset.
    Reset,
    /// The connection was closed before a byte of the answer. So does a proxy that denies a
    /// protocol without statuses.
    Closed,
    /// The answer began, and broke off.
    BrokenOff,
    /// It took too long.
    TimedOut,
    /// TLS of the application failed.
    Tls,
    /// What came is not what was asked for.
    Wrong,
    /// The sender itself was ended.
    Abandoned,
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unresolved => "unresolved",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::BrokenOff => "broken off",
            Self::TimedOut => "timed out",
            Self::Tls => "TLS",
            Self::Wrong => "wrong answer",
            Self::Abandoned => "abandoned",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what.is_empty() {
            true => self.class.fmt(f),
            false => write!(f, "{}: {}", self.class, self.what),
        }
    }
}

/// A request, as a pod saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// When it arrived.
    pub at: Timestamp,
    /// The pod's name.
    pub pod: Arc<str>,
    /// The request's number; none where it carried none.
    pub number: Option<u64>,
    /// Whom the proxy says it is from (`l5d-client-id`).
    pub client: Option<Arc<str>>,
}

impl Request {
    /// Whether it was answered, and not with a server's error.
    pub fn succeeded(&self) -> bool {
        let answered =
            |answer: &Answer| answer.status < 500 && answer.grpc_status.unwrap_or(0) == 0;
        matches!(&self.end, Some((_, Ok(answer))) if answered(answer))
    }

    /// Whether it was denied: 403, gRPC's PERMISSION_DENIED, or a connection that was closed or
    /// reset before a byte of an answer.
    pub fn was_denied(&self) -> bool {
        match &self.end {
            Some((_, Ok(answer))) => answer.status == 403 || answer.grpc_status == Some(7),
            Some((_, Err(failure))) => {
                self.first_byte.is_none()
                    && matches!(failure.class, FailureClass::Closed | FailureClass::Reset)
            }
            None => false,
        }
    }

    /// What it failed with, where it did.
    pub fn failure(&self) -> Option<FailureClass> {
        match &self.end {
            Some((_, Err(failure))) => Some(failure.class),
            _ => None,
        }
    }

    /// How long it took, where it has ended.
    pub fn latency(&self) -> Option<Duration> {
        self.end.as_ref().map(|(at, _)| at.since(self.began))
    }
}

impl Entries {
    /// The request of a number.
    pub fn request(&self, number: u64) -> Option<&Request> {
        self.requests.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    fn request_mut(&mut self, number: u64) -> Option<&mut Request> {
        self.requests.get_mut(usize::try_from(number.checked_sub(1)?).ok()?)
    }
}

impl Record {
    /// A pod sends a request. Returns its number.
    pub fn begin(&self, workload: &Arc<str>, sender: &Arc<str>, now: Timestamp) -> u64 {
        let mut entries = lock(&self.0);
        let number = entries.requests.len() as u64 + 1;
        let request = Request {
            workload: workload.clone(),
            sender: sender.clone(),
            began: now,
            attempts: 0,
            connection: None,
            first_byte: None,
            messages_sent: 0,
            messages_received: 0,
            messages_delivered: 0,
            messages_answered: 0,
            torn: None,
            executions: 0,
            end: None,
        };
        entries.under_way += 1;
        entries.requests.push(request);
        number
    }

    /// How many requests of a workload a pod has begun.
    pub fn begun(&self, workload: &str, sender: &str) -> u64 {
        let entries = lock(&self.0);
        let of = |request: &&Request| *request.workload == *workload && *request.sender == *sender;
        entries.requests.iter().filter(of).count() as u64
    }

    /// Something happens to a request that is under way.
    pub fn note(&self, number: u64, change: impl FnOnce(&mut Request)) {
        let mut entries = lock(&self.0);
        let request = entries.request_mut(number);
        if let Some(request) = request.filter(|request| request.end.is_none()) {
            change(request);
        }
    }

    /// A workload opens a connection. Returns its number.
    pub fn connect(&self) -> u64 {
        let mut entries = lock(&self.0);
        entries.connections += 1;
        entries.connections
    }

    /// A request ends.
    pub fn end(&self, number: u64, now: Timestamp, result: Result<Answer, Failure>) {
        let mut entries = lock(&self.0);
        match entries.request_mut(number) {
            Some(request) if request.end.is_none() => {
                request.end = Some((now, result));
                entries.under_way -= 1;
            }
            _ => entries.stray_ends += 1,
        }
    }

    /// A request reaches a pod.
    pub fn execute(&self, execution: Execution) {
        let mut entries = lock(&self.0);
        if let Some(request) = execution.number.and_then(|number| entries.request_mut(number)) {
            request.executions += 1;
            (request.messages_delivered, request.messages_answered) = (0, 0);
        }
        entries.executions.push(execution);
    }

    /// Messages of a request's stream reached a pod, or were sent by it.
    pub fn conversed(&self, number: Option<u64>, delivered: u64, answered: u64) {
        let mut entries = lock(&self.0);
        if let Some(request) = number.and_then(|number| entries.request_mut(number)) {
            request.messages_delivered += delivered;
            request.messages_answered += answered;
        }
    }

    /// A host tries to open a connection.
    pub fn attempt(&self, attempt: Attempt) {
        lock(&self.0).attempts.push(attempt);
    }

    /// What a pod's program has of connections.
    pub fn traffic(&self, pod: &Arc<str>) -> Traffic {
        lock(&self.0).traffic.entry(pod.clone()).or_default().clone()
    }

    /// A message of a stream came that is not the one after the last: it was lost, doubled or
    /// overtaken. Whoever received it tells.
    pub fn tear(&self, number: u64, now: Timestamp, what: String) {
        if let Some(request) = lock(&self.0).request_mut(number) {
            request.torn.get_or_insert((now, what));
        }
    }

    /// The marker crossed from one host to another in the clear.
    pub fn saw_plaintext(&self, from: &Arc<str>, to: &Arc<str>, now: Timestamp) {
        let mut entries = lock(&self.0);
        let seen = entries.plaintext.entry((from.clone(), to.clone()));
        seen.or_insert(Sighting { first: now, count: 0 }).count += 1;
    }

    /// A pod is among its services' ready endpoints from now on, or is not.
    pub fn set_present(&self, pod: &Arc<str>, present: bool, now: Timestamp) {
        let mut entries = lock(&self.0);
        let history = entries.presence.entry(pod.clone()).or_default();
        if history.last().is_none_or(|(_, last)| *last != present) {
            history.push((now, present));
        }
    }

    /// Requests that have not ended.
    pub fn under_way(&self) -> usize {
        lock(&self.0).under_way
    }

    /// What is recorded so far.
    pub fn entries(&self) -> Entries {
        lock(&self.0).clone()
    }

    /// Takes what is recorded, and leaves nothing.
    pub fn take(&self) -> Entries {
        std::mem::take(&mut *lock(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::ZERO;

    #[test]
    fn requests_are_under_way_until_they_end() {
        let record = Record::default();
        let numbers = [(); 2].map(|()| record.begin(&"w".into(), &"client-0".into(), NOW));
        assert_eq!((numbers, record.under_way()), ([1, 2], 2));
        record.end(2, NOW, Ok(Answer::status(200)));
        record.end(2, NOW, Ok(Answer::status(200)));
        record.end(9, NOW, Ok(Answer::status(200)));
        assert_eq!((record.under_way(), record.entries().stray_ends), (1, 2));
    }

    #[test]
    fn a_message_lost_doubled_overtaken_or_of_another_request_tears_a_stream() {
        for said in [Some((1, 2)), Some((1, 0)), Some((2, 1)), None] {
            let record = Record::default();
            let number = record.begin(&"w".into(), &"client-0".into(), NOW);
            let mut sequence = Sequence::new(&record, Some(number), &"web-0".into());
            sequence.take(NOW, Some((1, 0)));
            assert_eq!(record.entries().requests[0].torn, None);
            sequence.take(NOW, said);
            assert!(record.entries().requests[0].torn.is_some(), "{said:?}");
        }
    }

    #[test]
    fn presence_is_a_list_of_changes() {
        let (record, pod) = (Record::default(), "pod".into());
        for (millis, present) in [(1, true), (2, true), (3, false), (4, true)] {
            record.set_present(&pod, present, Timestamp::from_millis(millis));
        }
        let at = Timestamp::from_millis;
        let expected = vec![(at(1), true), (at(3), false), (at(4), true)];
        assert_eq!(record.entries().presence[&pod], expected);
    }
}
