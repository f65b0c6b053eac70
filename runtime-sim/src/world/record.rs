//! What happened to requests: what their senders saw, and what reached a pod. Oracles read it.

use std::collections::BTreeMap;
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
    /// When it was sent.
    pub began: Timestamp,
    /// When it ended, and how: the answer's status (0 without HTTP), or what went wrong.
    pub end: Option<(Timestamp, Result<u16, String>)>,
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
}

impl Request {
    /// Whether it was answered, and not with a server's error.
    pub fn succeeded(&self) -> bool {
        matches!(&self.end, Some((_, Ok(status))) if *status < 500)
    }

    /// How long it took, where it has ended.
    pub fn latency(&self) -> Option<Duration> {
        self.end.as_ref().map(|(at, _)| at.since(self.began))
    }
}

impl Record {
    /// A request is sent. Returns its number.
    pub fn begin(&self, workload: &Arc<str>, now: Timestamp) -> u64 {
        let mut entries = lock(&self.0);
        let number = entries.requests.len() as u64 + 1;
        let request = Request { workload: workload.clone(), began: now, end: None };
        entries.requests.insert(number, request);
        number
    }

    /// A request ends.
    pub fn end(&self, number: u64, now: Timestamp, result: Result<u16, String>) {
        let mut entries = lock(&self.0);
        match entries.requests.get_mut(&number) {
            Some(request) if request.end.is_none() => request.end = Some((now, result)),
            _ => entries.stray_ends += 1,
        }
    }

    /// A request reaches a pod.
    pub fn execute(&self, at: Timestamp, pod: &Arc<str>, number: Option<u64>) {
        let pod = pod.clone();
        lock(&self.0).executions.push(Execution { at, pod, number });
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
