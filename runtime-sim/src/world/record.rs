//! What happened to requests: what their senders saw, and what reached a pod. Oracles read it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_core::time::Timestamp;

use crate::lock;

/// The record of a run. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Entries>>);

/// Everything recorded.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// Requests by number, which is unique in the run.
    pub requests: BTreeMap<u64, Request>,
    /// What pods executed, in order.
    pub executions: Vec<Execution>,
    /// Connections that workloads opened, or tried to.
    pub connections: u64,
    /// Requests that ended though they were not under way: a fault of the harness.
    pub stray_ends: u64,
    /// Deliveries between hosts in which the marker stood.
    pub plaintext: u64,
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
            end: None,
        };
        entries.requests.insert(number, request);
        number
    }

    /// Something happens to a request that is under way.
    pub fn note(&self, number: u64, change: impl FnOnce(&mut Request)) {
        let mut entries = lock(&self.0);
        let request = entries.requests.get_mut(&number);
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
        match entries.requests.get_mut(&number) {
            Some(request) if request.end.is_none() => request.end = Some((now, result)),
            _ => entries.stray_ends += 1,
        }
    }

    /// A request reaches a pod.
    pub fn execute(&self, execution: Execution) {
        lock(&self.0).executions.push(execution);
    }

    /// The marker stood in a delivery between hosts.
    pub fn saw_plaintext(&self) {
        lock(&self.0).plaintext += 1;
    }

    /// Requests that have not ended.
    pub fn under_way(&self) -> usize {
        let entries = lock(&self.0);
        entries.requests.values().filter(|request| request.end.is_none()).count()
    }

    /// What is recorded so far.
    pub fn entries(&self) -> Entries {
        lock(&self.0).clone()
    }
}
