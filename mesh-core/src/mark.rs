//! Coverage marks: names of rare states of the proxy and the control plane. Where one is reached,
//! `mark!("its-name")` counts it, so that a simulation can tell which it has never seen.
//!
//! Not a metric: nothing in the product reads them, and without the feature `marks`, which no shipped
//! program has, a mark is no code at all. Law: counting is deterministic and of one thread; every
//! name in the code is in [`KNOWN`], and the other way round.

/// Every mark, in order.
pub const KNOWN: &[&str] = &[
    "accept-failed",
    "backoff-at-maximum",
    "breaker-closed",
    "breaker-opened",
    "certificate-due",
    "certificate-refused",
    "certification-failed",
    "connect-attempt-shared",
    "connection-denied",
    "connection-ended-by-policy",
    "connections-at-bound",
    "control-connection-without-credentials",
    "control-connections-at-bound",
    "control-drain-deadline-hit",
    "control-handshake-failed",
    "control-streams-at-bound",
    "copy-waits-for-its-reader",
    "detection-timed-out",
    "discovery-gave-no-answer",
    "discovery-knows-nothing",
    "discovery-stream-broke",
    "discovery-stream-renewed",
    "discovery-update-not-understood",
    "drain-deadline-hit",
    "endpoint-revived",
    "endpoint-went-down",
    "endpoints-at-bound",
    "endpoints-listed-again",
    "failfast-entered",
    "failfast-left",
    "http2-connection-replaced",
    "http2-connection-replaced-after-burst",
    "idle-dropped",
    "idle-kept-in-outage",
    "idle-table-full",
    "inbound-requests-at-bound",
    "issuer-replaced",
    "kind-not-installed",
    "label-sets-at-bound",
    "lease-lost",
    "lease-not-read-or-written",
    "lease-taken",
    "lease-write-conflicted",
    "object-gone-in-new-list",
    "outbound-requests-at-bound",
    "own-certificate-kept",
    "pooled-connection-was-closed",
    "queue-full",
    "rate-limited-identities-at-bound",
    "request-denied",
    "request-gave-up-on-endpoints",
    "request-head-timed-out",
    "request-rate-limited",
    "request-retried",
    "request-tried-another-endpoint",
    "request-waits-for-endpoint",
    "required-identity-refused",
    "server-spoke-first",
    "silent-client-closed",
    "status-write-conflicted",
    "status-write-failed",
    "status-written",
    "statuses-waiting-at-bound",
    "tap-denied",
    "tap-event-lost",
    "taps-at-bound",
    "tls-handshake-failed",
    "tls-handshake-timed-out",
    "trust-anchors-kept",
    "trust-anchors-read-again",
    "viz-request-refused",
    "watch-failed",
    "watch-listed-again",
];

/// Counts that the code came by.
macro_rules! mark {
    ($name:literal) => {
        #[cfg(feature = "marks")]
        $crate::mark::visit($name)
    };
}

#[cfg(feature = "marks")]
mod counts {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    thread_local! {
        static COUNTS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Counts one visit on this thread.
    pub fn visit(name: &'static str) {
        COUNTS.with_borrow_mut(|counts| *counts.entry(name).or_default() += 1);
    }

    /// What this thread has counted since it was last asked.
    pub fn take() -> BTreeMap<&'static str, u64> {
        COUNTS.take()
    }
}

#[cfg(feature = "marks")]
pub use counts::{take, visit};
