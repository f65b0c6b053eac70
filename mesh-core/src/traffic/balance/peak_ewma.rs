//! An endpoint's load: a peak-sensitive moving average of its latency, times the requests that it
//! has in flight, raised while it fails. Holds no clock: every call is told the time.
//!
//! As in Linkerd a sample above the average becomes the average at once, and the average falls with
//! a time constant (`decay`). Linkerd's weaknesses are repaired:
//! - **A failure is no fast answer.** It never lowers the average, and a moving rate of failures
//!   multiplies the load, by up to [`FAILING_FACTOR`]. A single failure hardly counts.
//! - **What lies idle is tried again.** An endpoint that nobody measured for [`IDLE_GRACE`], has
//!   nothing in flight and lost draws meanwhile is forgotten with the time constant [`IDLE_DECAY`],
//!   until it wins one request. A slow answer restores what was remembered; a good one is believed:
//!   while on trial the average follows each sample, not the clock.
//! - **A new endpoint is tried at once**, by one request, and then is on trial: the default latency, which
//!   is far above that of a good one, is soon replaced by its own.
//!
//! Lost draws bound the cost of trying: under little traffic nothing is forgotten sooner than
//! Linkerd would, and under much a bad endpoint gets one request each second or so.
//!
//! Law: the load is finite and positive; a request that ends in whatever way is no longer in flight.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::client_policy::Load;
use crate::time::Timestamp;

/// How long an endpoint lies idle before it is forgotten faster.
pub const IDLE_GRACE: Duration = Duration::from_millis(500);
/// Time constant of forgetting an idle endpoint.
pub const IDLE_DECAY: Duration = Duration::from_millis(500);
/// Draws an idle endpoint must lose for each time constant of forgetting.
const LOST_DRAWS: f64 = 4.0;
/// Weight of an answer in the average while on trial.
const TRIAL_WEIGHT: f64 = 0.25;
/// A trial is over where the average is at most this many times the sample.
const TRIAL_RATIO: f64 = 1.25;
/// Weight of an answer in the rate of failures.
const FAILURE_WEIGHT: f64 = 0.125;
/// The load of an endpoint that only fails, relative to one that never does. The factor grows with
/// the square of the rate.
pub const FAILING_FACTOR: f64 = 101.0;

/// One endpoint's load, shared by those who pick and those who measure.
#[derive(Debug)]
pub struct PeakEwma {
    parameters: Parameters,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct Parameters {
    decay_secs: f64,
    penalty: Option<Penalty>,
}

/// `PenaltyPeakEwma`: a failure also counts as this latency.
#[derive(Clone, Copy, Debug)]
struct Penalty {
    latency: Duration,
    max_retry_after: Duration,
    decay_secs: f64,
}

#[derive(Debug)]
struct State {
    /// Moving average of latency, as of `measured_at`.
    rtt_nanos: f64,
    /// When the last answer came.
    measured_at: Timestamp,
    /// Moving rate of failures, as of `measured_at`.
    failing: f64,
    /// Latency that failures count as, as of `penalized_at`.
    penalty_nanos: f64,
    penalized_at: Timestamp,
    /// Requests in flight.
    in_flight: u32,
    /// When the first of those began.
    busy_since: Timestamp,
    /// Draws lost since the last answer, while nothing was in flight.
    lost: u32,
    /// The average is a guess: follow each answer.
    on_trial: bool,
    /// Nothing was asked of it yet.
    is_new: bool,
}

/// How far what was measured is out of date, in time constants.
struct Age {
    time: f64,
    idle: f64,
}

impl Age {
    fn keeps(&self) -> f64 {
        (-self.time.max(self.idle)).exp()
    }
}

impl PeakEwma {
    /// Of an endpoint that is first known of at `now`.
    pub fn new(load: &Load, now: Timestamp) -> Self {
        let (default_rtt, decay, penalty) = match *load {
            Load::PeakEwma { default_rtt, decay } => (default_rtt, decay, None),
            Load::PenaltyPeakEwma {
                default_rtt,
                decay,
                penalty,
                max_retry_after,
                penalty_decay,
            } => {
                let penalty = Penalty {
                    latency: penalty,
                    max_retry_after,
                    decay_secs: positive_secs(penalty_decay),
                };
                (default_rtt, decay, Some(penalty))
            }
        };
        Self {
            parameters: Parameters { decay_secs: positive_secs(decay), penalty },
            state: Mutex::new(State {
                rtt_nanos: nanos(default_rtt),
                measured_at: now,
                failing: 0.0,
                penalty_nanos: 0.0,
                penalized_at: now,
                in_flight: 0,
                busy_since: now,
                lost: 0,
                on_trial: true,
                is_new: true,
            }),
        }
    }

    /// The load; only comparisons with others mean something.
    pub fn load(&self, now: Timestamp) -> f64 {
        let state = self.state();
        if state.is_new {
            return 1.0;
        }
        let keeps = state.age(now, &self.parameters).keeps();
        let failing = state.failing * keeps;
        let latency = state.rtt_nanos * keeps + state.penalty(now, &self.parameters) + 1.0;
        let factor = 1.0 + (FAILING_FACTOR - 1.0) * failing * failing;
        latency * f64::from(state.in_flight.saturating_add(1)) * factor
    }

    /// Tells that it was drawn and another one chosen. Without this an endpoint that was slow or
    /// failed is forgotten only with `decay`, and recovers late.
    pub fn passed_over(&self) {
        let mut state = self.state();
        if state.in_flight == 0 {
            state.lost = state.lost.saturating_add(1);
        }
    }

    /// A request begins. It is in flight until the value is consumed or dropped.
    pub fn start(self: &Arc<Self>, now: Timestamp) -> InFlight {
        let mut state = self.state();
        if state.in_flight == 0 {
            state.busy_since = now;
        }
        state.in_flight = state.in_flight.saturating_add(1);
        state.is_new = false;
        drop(state);
        InFlight { endpoint: self.clone(), started: now }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.state().in_flight
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every update leaves a usable state, so a panic elsewhere is no reason to stop balancing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight. Dropping it measures nothing.
#[derive(Debug)]
#[must_use = "a request is in flight only as long as this is held"]
pub struct InFlight {
    endpoint: Arc<PeakEwma>,
    started: Timestamp,
}

impl InFlight {
    /// Only now does the endpoint have it, as where its connection had to be opened first. Linkerd
    /// measures from a ready connection too.
    pub fn began(&mut self, now: Timestamp) {
        self.started = now;
    }

    /// The answer has begun: its head, or the first of its body where there is one.
    pub fn succeeded(self, now: Timestamp) {
        let state = &mut self.endpoint.state();
        state.succeeded(now, nanos(now.since(self.started)), &self.endpoint.parameters);
    }

    /// It failed: the endpoint answered 5xx, 429 or such a gRPC status, broke off, timed out, or
    /// could not be reached. `retry_after`: how long the endpoint asked to be left alone, heeded
    /// only with `PenaltyPeakEwma`.
    pub fn failed(self, now: Timestamp, retry_after: Option<Duration>) {
        let latency = nanos(now.since(self.started));
        let state = &mut self.endpoint.state();
        state.failed(now, latency, retry_after, &self.endpoint.parameters);
    }

    /// The client gave up waiting: the latency is not known, but it is at least this long.
    pub fn canceled(self, now: Timestamp) {
        let latency = nanos(now.since(self.started));
        let state = &mut self.endpoint.state();
        let keeps = state.age(now, &self.endpoint.parameters).keeps();
        if latency > state.rtt_nanos * keeps {
            state.failing *= keeps;
            state.measured(now, latency);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.endpoint.state();
        state.in_flight = state.in_flight.saturating_sub(1);
    }
}

impl State {
    fn age(&self, now: Timestamp, parameters: &Parameters) -> Age {
        // With a request in flight an answer is coming: wait for it before forgetting more.
        let until = if self.in_flight > 0 { self.busy_since } else { now };
        let idle = until.since(self.measured_at).saturating_sub(IDLE_GRACE);
        let idle = idle.as_secs_f64() / IDLE_DECAY.as_secs_f64();
        Age {
            time: now.since(self.measured_at).as_secs_f64() / parameters.decay_secs,
            idle: idle.min(f64::from(self.lost) / LOST_DRAWS),
        }
    }

    fn penalty(&self, now: Timestamp, parameters: &Parameters) -> f64 {
        let Some(penalty) = parameters.penalty else {
            return 0.0;
        };
        let age = now.since(self.penalized_at).as_secs_f64() / penalty.decay_secs;
        self.penalty_nanos * (-age).exp()
    }

    fn succeeded(&mut self, now: Timestamp, latency: f64, parameters: &Parameters) {
        let age = self.age(now, parameters);
        self.failing *= age.keeps() * (1.0 - FAILURE_WEIGHT);
        let mut weight = 1.0 - (-age.time).exp();
        let mut rtt = self.rtt_nanos;
        if age.idle > age.time {
            rtt *= age.keeps();
            self.on_trial = true;
        }
        if self.on_trial {
            weight = weight.max(TRIAL_WEIGHT);
        }
        if latency < rtt {
            rtt += (latency - rtt) * weight;
        } else {
            rtt = latency;
        }
        self.on_trial &= rtt > latency * TRIAL_RATIO;
        self.measured(now, rtt);
    }

    fn failed(
        &mut self,
        now: Timestamp,
        latency: f64,
        retry_after: Option<Duration>,
        parameters: &Parameters,
    ) {
        if planted!("failing-replica-unpenalized") {
            return self.succeeded(now, latency, parameters);
        }
        let failing = self.failing * self.age(now, parameters).keeps();
        self.failing = failing + (1.0 - failing) * FAILURE_WEIGHT;
        if let Some(penalty) = parameters.penalty {
            let asked = retry_after.unwrap_or_default().min(penalty.max_retry_after);
            let counts_as = latency.max(nanos(penalty.latency.max(asked)));
            self.penalty_nanos = self.penalty(now, parameters).max(counts_as);
            self.penalized_at = now;
        }
        self.measured(now, self.rtt_nanos.max(latency));
    }

    fn measured(&mut self, now: Timestamp, rtt_nanos: f64) {
        self.rtt_nanos = rtt_nanos;
        self.measured_at = now;
        self.lost = 0;
    }
}

fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// Time constants come from policies; none may divide by zero.
fn positive_secs(duration: Duration) -> f64 {
    duration.max(Duration::from_millis(1)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOAD: Load =
        Load::PeakEwma { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10) };

    const fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn endpoint() -> Arc<PeakEwma> {
        Arc::new(PeakEwma::new(&LOAD, at(0)))
    }

    /// Load in milliseconds.
    fn load(endpoint: &PeakEwma, millis: u64) -> f64 {
        (endpoint.load(at(millis)) / 1e5).round() / 10.0
    }

    /// One answered every 10 ms from `from` for `count` times, each after `latency` ms.
    fn answer(endpoint: &Arc<PeakEwma>, from: u64, count: u64, latency: u64) {
        for i in 0..count {
            let start = from + i * 10;
            endpoint.start(at(start)).succeeded(at(start + latency));
        }
    }

    #[test]
    fn a_new_endpoint_is_tried_and_has_the_default_latency_until_it_answers() {
        let endpoint = endpoint();
        assert_eq!(load(&endpoint, 0), 0.0);
        drop(endpoint.start(at(0)));
        assert_eq!(load(&endpoint, 0), 30.0);
        answer(&endpoint, 0, 20, 2);
        assert!(load(&endpoint, 200) < 3.0, "{}", load(&endpoint, 200));
    }

    #[test]
    fn the_wait_for_a_connection_is_not_the_endpoints_answer() {
        let endpoint = endpoint();
        let mut request = endpoint.start(at(0));
        request.began(at(200));
        assert_eq!(endpoint.in_flight(), 1);
        request.succeeded(at(210));
        assert!(load(&endpoint, 210) < 30.0, "{}", load(&endpoint, 210));
    }

    #[test]
    fn requests_in_flight_multiply() {
        let endpoint = endpoint();
        let first = endpoint.start(at(0));
        let second = endpoint.start(at(0));
        assert_eq!(load(&endpoint, 0), 90.0);
        drop(first);
        assert_eq!(load(&endpoint, 0), 60.0);
        second.succeeded(at(30));
        assert_eq!((load(&endpoint, 30), endpoint.in_flight()), (30.0, 0));
    }

    #[test]
    fn a_peak_counts_at_once_and_falls_slowly_while_others_follow() {
        let endpoint = endpoint();
        answer(&endpoint, 0, 50, 5);
        endpoint.start(at(500)).succeeded(at(700));
        assert_eq!(load(&endpoint, 700), 200.0);
        answer(&endpoint, 700, 100, 5);
        let later = load(&endpoint, 1_695);
        assert!((170.0..190.0).contains(&later), "{later}");
    }

    #[test]
    fn a_failure_never_lowers_the_load_and_many_raise_it() {
        let endpoint = endpoint();
        answer(&endpoint, 0, 50, 20);
        let before = load(&endpoint, 510);
        let mut loads = vec![];
        for i in 0..20 {
            endpoint.start(at(510 + i)).failed(at(511 + i), None);
            loads.push(load(&endpoint, 511 + i) / before);
        }
        assert!(loads.is_sorted(), "{loads:?}");
        assert!((2.0..3.5).contains(&loads[0]), "{loads:?}");
        assert!(loads[19] > 80.0 && loads[19] < FAILING_FACTOR, "{loads:?}");
        // And successes bring it back.
        answer(&endpoint, 600, 40, 20);
        assert!(load(&endpoint, 1_010) < before * 1.1);
    }

    #[test]
    fn what_lies_idle_and_loses_draws_is_forgotten() {
        let slow = endpoint();
        slow.start(at(0)).succeeded(at(1_000));
        assert_eq!(load(&slow, 1_500), 951.2);
        // Without lost draws only time counts.
        assert_eq!(load(&slow, 4_000), 740.8);
        (0..100).for_each(|_| slow.passed_over());
        assert_eq!(load(&slow, 1_500), 951.2);
        assert!(load(&slow, 4_000) < 10.0);
        // A request in flight stops it, and a slow answer restores it.
        let probe = slow.start(at(3_500));
        assert!(load(&slow, 3_500) > 10.0 && load(&slow, 4_500) > 10.0);
        probe.succeeded(at(4_500));
        assert_eq!(load(&slow, 4_500), 1_000.0);
    }

    #[test]
    fn a_good_answer_on_trial_is_believed() {
        let slow = endpoint();
        slow.start(at(0)).succeeded(at(1_000));
        (0..100).for_each(|_| slow.passed_over());
        answer(&slow, 3_000, 10, 20);
        assert!(load(&slow, 3_110) < 30.0, "{}", load(&slow, 3_110));
    }

    #[test]
    fn a_failed_trial_forgets_nothing_of_the_latency() {
        let endpoint = endpoint();
        answer(&endpoint, 0, 50, 20);
        let before = load(&endpoint, 510);
        for cycle in 1..20 {
            (0..100).for_each(|_| endpoint.passed_over());
            let now = 510 + cycle * 3_000;
            endpoint.start(at(now)).failed(at(now + 1), None);
            assert!(load(&endpoint, now + 1) > before * 2.0);
        }
    }

    #[test]
    fn who_gave_up_waiting_tells_how_long() {
        let endpoint = endpoint();
        endpoint.start(at(0)).canceled(at(10));
        assert!(load(&endpoint, 10) <= 30.0);
        endpoint.start(at(10)).canceled(at(5_010));
        assert_eq!(load(&endpoint, 5_010), 5_000.0);
    }

    #[test]
    fn penalties_count_as_latency_and_heed_retry_after() {
        let load_policy = Load::PenaltyPeakEwma {
            default_rtt: Duration::from_millis(30),
            decay: Duration::from_secs(10),
            penalty: Duration::from_secs(5),
            max_retry_after: Duration::from_secs(300),
            penalty_decay: Duration::from_secs(10),
        };
        let endpoint = Arc::new(PeakEwma::new(&load_policy, at(0)));
        endpoint.start(at(0)).failed(at(1), None);
        let once = load(&endpoint, 1);
        assert!(once > 5_000.0, "{once}");
        endpoint.start(at(1)).failed(at(2), Some(Duration::from_secs(3_000)));
        assert!(load(&endpoint, 2) > 300_000.0);
        assert!(load(&endpoint, 60_002) < 5_000.0);
    }

    proptest! {
        #[test]
        fn the_load_is_finite_and_positive_and_nothing_stays_in_flight(
            steps in prop::collection::vec((0u8..6, any::<u32>()), 0..60),
            default_rtt in any::<u64>(), decay in any::<u64>(),
        ) {
            let load = Load::PenaltyPeakEwma {
                default_rtt: Duration::from_nanos(default_rtt),
                decay: Duration::from_nanos(decay),
                penalty: Duration::from_nanos(decay),
                max_retry_after: Duration::MAX,
                penalty_decay: Duration::from_nanos(default_rtt),
            };
            let endpoint = Arc::new(PeakEwma::new(&load, at(0)));
            let (mut now, mut in_flight) = (at(0), vec![]);
            for (kind, nanos) in steps {
                now = now + Duration::from_nanos(u64::from(nanos) * 10);
                match (kind, in_flight.pop()) {
                    (0, Some(request)) => InFlight::succeeded(request, now),
                    (1, Some(request)) => request.failed(now, Some(Duration::MAX)),
                    (2, Some(request)) => request.canceled(now),
                    (3, Some(request)) => drop(request),
                    (4, request) => {
                        in_flight.extend(request);
                        endpoint.passed_over();
                    }
                    (_, request) => {
                        in_flight.extend(request);
                        in_flight.push(endpoint.start(now));
                    }
                }
                prop_assert_eq!(endpoint.in_flight() as usize, in_flight.len());
                let load = endpoint.load(now);
                prop_assert!(load.is_finite() && load > 0.0, "{}", load);
            }
        }

        /// While nothing happens a load only falls, and one more request in flight only raises it.
        #[test]
        fn an_untouched_load_decays(
            answers in prop::collection::vec((0u64..2_000, any::<bool>()), 0..20),
            lost in 0u32..50,
            waits in prop::collection::vec(0u64..20_000, 1..10),
        ) {
            let endpoint = endpoint();
            // Asked of, so no longer new.
            drop(endpoint.start(at(0)));
            let mut now = 0;
            for (latency, good) in answers {
                let request = endpoint.start(at(now));
                now += latency;
                if good { request.succeeded(at(now)) } else { request.failed(at(now), None) }
            }
            (0..lost).for_each(|_| endpoint.passed_over());
            let mut before = endpoint.load(at(now));
            for wait in waits {
                now += wait;
                let after = endpoint.load(at(now));
                prop_assert!(after <= before, "{after} after {before}");
                before = after;
            }
            let request = endpoint.start(at(now));
            prop_assert!(endpoint.load(at(now)) > before);
            drop(request);
            prop_assert_eq!(endpoint.load(at(now)), before);
        }

        /// An answer slower than the average is the average at once: never less than Linkerd's.
        #[test]
        fn a_peak_counts_at_once(
            latencies in prop::collection::vec(1u64..500, 0..20),
            peak in 500u64..10_000,
        ) {
            let endpoint = endpoint();
            let mut now = 0;
            for latency in latencies {
                let request = endpoint.start(at(now));
                now += latency;
                request.succeeded(at(now));
            }
            let request = endpoint.start(at(now));
            request.succeeded(at(now + peak));
            prop_assert!(load(&endpoint, now + peak) >= peak as f64);
        }
    }
}
