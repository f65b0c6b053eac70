//! Planted bugs as a gate: each mistake of `mesh_core::planted` with the oracle that must find it, in
//! which scenario and within how many seeds. Where one survives, the simulator fell short.
//!
//! Law: a bug counts as found by its own oracle alone, never by a task that panicked; and a scenario
//! finds nothing where nothing is planted.

use serde::Serialize;

use mesh_core::planted;

use super::parse::Scenario;
use super::run::{EngineKind, Report, run};

pub use mesh_core::planted::BUILT_IN;

/// A bug, and what must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The oracle that must find it.
    pub oracle: &'static str,
    /// In which scenario: the name of a file without `.yaml`.
    pub scenario: &'static str,
    /// Within how many seeds: 1, 2, 3…
    pub seeds: u64,
}

/// What came of a planted bug.
#[derive(Clone, Debug, Serialize)]
pub struct Hunt {
    /// The bug.
    #[serde(flatten)]
    pub bug: Bug,
    /// How many seeds it took; none where it survived.
    pub seeds_to_catch: Option<u64>,
    /// What its oracle found, or, where it did not, what else failed.
    pub found: String,
}

const fn bug(
    name: &'static str,
    oracle: &'static str,
    scenario: &'static str,
    about: &'static str,
) -> Bug {
    Bug { name, about, oracle, scenario, seeds: 3 }
}

/// Every bug, in order of name.
#[rustfmt::skip]
pub const BUGS: &[Bug] = &[
    bug("added-endpoint-ignored", "load_share", "endpoint-moved", "the control plane tells no endpoint that comes later"),
    bug("authorized-once", "denied", "authorization", "a connection's later requests are not authorized"),
    bug("backoff-absent", "connect_attempts", "reconnect", "who fails tries again at once"),
    bug("backoff-not-reset", "no_traffic_to_dead", "control-plane-flaps", "waits go on growing after a success"),
    bug("body-tail-cut", "success_rate", "streams", "the last chunk of a body is dropped"),
    bug("bytes-counted-twice", "metrics_agree", "bytes", "bytes read are counted twice"),
    bug("certificate-not-renewed", "success_rate", "certificates", "a certificate is left to run out"),
    bug("client-id-kept", "identity", "authorization", "a client's own l5d-client-id is passed on"),
    bug("client-identity-unchecked", "denied", "authorization", "any identity will do"),
    bug("connection-not-kept", "never", "replica-restarted", "every request opens a connection"),
    bug("dead-connection-kept", "load_share", "replica-restarted", "a closed HTTP/2 connection stays in use"),
    bug("deadline-forgotten", "latency", "deadline", "a route's time limit is not enforced"),
    bug("drain-not-awaited", "success_rate", "drain", "a proxy that is to finish ends at once"),
    bug("draws-ignored", "even_load", "replica-failing", "the first endpoint is always picked"),
    bug("endpoint-never-revived", "load_share", "replica-restarted", "an endpoint that was down stays down"),
    bug("failfast-absent", "in_flight", "nobody-there", "requests wait for endpoints without end"),
    bug("failing-replica-unpenalized", "load_share", "replica-failing", "a failure counts as a fast answer"),
    bug("first-subscriber-only", "no_traffic_to_dead", "endpoint-moved", "only the first of two proxies is told of changes"),
    bug("goaway-ignored", "success_rate", "drain", "requests go on over a connection whose peer is leaving"),
    bug("goaway-not-sent", "success_rate", "drain", "a proxy that is to finish does not tell those who send to it"),
    bug("half-close-forgotten", "no_leak", "bytes", "the end of one direction is not passed on"),
    bug("header-port-ignored", "success_rate", "authorization", "the transport header's port is not looked at"),
    bug("idle-destination-kept", "no_leak", "bytes", "what nobody uses is never dropped"),
    bug("in-flight-leaked", "load_share", "replica-slow", "requests that were given up count as in flight for ever"),
    bug("jitter-absent", "connect_attempts", "reconnect", "all wait equally long"),
    bug("lease-not-waited-for", "never", "lease", "a lease that is somebody's is taken all the same"),
    bug("new-list-merged", "converged", "control-plane-away", "endpoints that went during an outage stay"),
    bug("open-connections-leaked", "eventually", "bytes", "the gauge of open connections only rises"),
    bug("outage-clears-endpoints", "success_rate", "control-plane-away", "endpoints are forgotten with the control plane"),
    bug("plaintext-fallback", "no_plaintext", "impostor", "where TLS fails, the connection is made without"),
    bug("policy-forgotten-in-outage", "denied", "control-plane-away", "the default policy holds while the control plane is away"),
    bug("policy-update-ignored", "denied", "authorization", "the first policy of a port holds for ever"),
    bug("questions-left-out", "denied", "authorization", "every second question that a change touches is not answered again"),
    bug("queue-unbounded", "in_flight", "queue", "any number of requests waits for an endpoint"),
    bug("read-ahead-lost", "success_rate", "bytes", "what detection read of the server is not passed on"),
    bug("relist-misses-deletion", "denied", "authorization", "what a new list lacks is not deleted"),
    bug("removed-endpoint-kept", "no_traffic_to_dead", "endpoint-moved", "the proxy removes no endpoint"),
    bug("renewal-drops-connections", "success_rate", "certificates", "a new certificate ends the connections of the old"),
    bug("request-sent-again", "conserved", "replica-restarted", "a request that was sent is sent again"),
    bug("response-head-twice", "conserved", "authorization", "an HTTP/1 response begins twice"),
    bug("responses-counted-twice", "metrics_agree", "replica-restarted", "each response is counted twice"),
    bug("server-identity-unchecked", "no_traffic", "impostor", "any server of the mesh will do"),
    bug("server-never-dialed", "latency", "bytes", "a server that speaks first is not listened to"),
    bug("slice-takes-others-along", "success_rate", "second-slice", "one EndpointSlice's end is the end of all of its Service"),
    bug("stream-not-reopened", "no_traffic_to_dead", "control-plane-away", "a discovery stream that broke is not opened again"),
    bug("tap-client-unchecked", "tap_refused", "tap", "who is of the mesh may tap"),
    bug("tap-loss-untold", "tap_loss", "tap", "a tap is not told of what it does not see"),
    bug("tap-sees-unmatched", "tap_only", "tap", "a tap is told of every request"),
    bug("terminating-endpoint-kept", "no_traffic_to_dead", "endpoint-moved", "pods that are not ready get requests"),
    bug("token-audience-unchecked", "never", "token", "a token for the API server will do"),
    bug("trailers-lost", "success_rate", "streams", "trailers are dropped"),
    bug("upgrade-carried", "success_rate", "streams", "a request for an upgrade travels over HTTP/2"),
];

/// Plays a scenario with a bug, or with none.
///
/// # Errors
/// As [`run`]'s.
pub fn run_with(bug: Option<&Bug>, scenario: &Scenario, seed: u64) -> Result<Report, String> {
    if bug.is_some() && !BUILT_IN {
        return Err("there are no bugs to plant: build with the feature `planted`".to_owned());
    }
    let _planted = planted::plant(bug.map(|bug| bug.name));
    run(scenario, seed, EngineKind::Des, false)
}

/// Plays a bug's scenario with one seed after another until its oracle finds it.
///
/// # Errors
/// As [`run`]'s.
pub fn hunt(bug: Bug, scenario: &Scenario) -> Result<Hunt, String> {
    let mut found = "nothing failed".to_owned();
    for seed in 1..=bug.seeds {
        let report = run_with(Some(&bug), scenario, seed)?;
        let mut failed = report.expectations.iter().filter(|judged| !judged.passes());
        if let Some(judged) = failed.clone().find(|judged| judged.oracle == bug.oracle) {
            let found = format!("{}: {}", judged.expected, judged.found);
            return Ok(Hunt { bug, seeds_to_catch: Some(seed), found });
        }
        if let Some(other) = failed.next() {
            found = format!("only {} failed: {}", other.expected, other.found);
        }
    }
    Ok(Hunt { bug, seeds_to_catch: None, found })
}

/// The bugs of these names, or all where there are none.
///
/// # Errors
/// The name that is no bug's, and those that are.
pub fn chosen(names: &[String]) -> Result<Vec<Bug>, String> {
    if names.is_empty() {
        return Ok(BUGS.to_vec());
    }
    let find = |name: &String| {
        let known = BUGS.iter().find(|bug| bug.name == name).copied();
        known.ok_or_else(|| {
            let known: Vec<_> = BUGS.iter().map(|bug| bug.name).collect();
            format!("there is no bug `{name}`; there are {}", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_that_can_be_planted_is_in_the_table_once() {
        let names: Vec<_> = BUGS.iter().map(|bug| bug.name).collect();
        assert_eq!(names, mesh_core::planted::KNOWN);
    }

    #[test]
    fn a_bug_that_is_not_there_is_an_error_that_names_those_that_are() {
        let fault = chosen(&["nobody".to_owned()]).expect_err("no such bug");
        assert!(fault.contains("`nobody`") && fault.contains("dead-connection-kept"), "{fault}");
    }
}
