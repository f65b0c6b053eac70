//! Planted bugs: mistakes that one could make here, each behind a name. A simulation that switches
//! one on must fail by the oracle that is to find such mistakes; where it passes, it fell short.
//!
//! Not a switch of the product: without the feature `planted`, which no shipped program has, each is
//! `false` when compiled, and the code behind it is not there. Law: of one thread at most one bug is
//! planted, by [`plant`] alone; every name in the code is in [`KNOWN`], and the other way round.

use std::cell::Cell;

/// Whether bugs are built in.
pub const BUILT_IN: bool = cfg!(feature = "planted");

/// Every bug that can be planted, in order.
pub const KNOWN: &[&str] = &[
    "added-endpoint-ignored",
    "authorized-once",
    "backoff-absent",
    "backoff-not-reset",
    "body-tail-cut",
    "bytes-counted-twice",
    "certificate-not-renewed",
    "client-id-kept",
    "client-identity-unchecked",
    "connection-not-kept",
    "dead-connection-kept",
    "deadline-forgotten",
    "drain-not-awaited",
    "draws-ignored",
    "endpoint-never-revived",
    "failfast-absent",
    "failing-replica-unpenalized",
    "first-subscriber-only",
    "goaway-ignored",
    "goaway-not-sent",
    "half-close-forgotten",
    "header-port-ignored",
    "idle-destination-kept",
    "in-flight-leaked",
    "jitter-absent",
    "lease-not-waited-for",
    "new-list-merged",
    "open-connections-leaked",
    "outage-clears-endpoints",
    "plaintext-fallback",
    "policy-forgotten-in-outage",
    "policy-update-ignored",
    "questions-left-out",
    "queue-unbounded",
    "read-ahead-lost",
    "relist-misses-deletion",
    "removed-endpoint-kept",
    "renewal-drops-connections",
    "request-sent-again",
    "response-head-twice",
    "responses-counted-twice",
    "server-identity-unchecked",
    "server-never-dialed",
    "slice-takes-others-along",
    "stream-not-reopened",
    "tap-client-unchecked",
    "tap-loss-untold",
    "tap-sees-unmatched",
    "terminating-endpoint-kept",
    "token-audience-unchecked",
    "trailers-lost",
    "upgrade-carried",
];

/// Whether a bug is planted: `false` when compiled, but for simulations.
macro_rules! planted {
    ($name:literal) => {{
        #[cfg(feature = "planted")]
        let is_planted = $crate::planted::current() == Some($name);
        #[cfg(not(feature = "planted"))]
        let is_planted = false;
        is_planted
    }};
}

thread_local! {
    static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// A bug is planted on this thread as long as this lives.
#[derive(Debug)]
pub struct Planted(());

/// Plants a bug on this thread. Nothing is planted where there is none of that name, or bugs are not
/// built in.
pub fn plant(name: Option<&str>) -> Planted {
    let known = KNOWN.iter().copied().find(|known| name == Some(known));
    PLANTED.set(known.filter(|_| BUILT_IN));
    Planted(())
}

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

/// The bug that is planted on this thread.
pub fn current() -> Option<&'static str> {
    PLANTED.get()
}
