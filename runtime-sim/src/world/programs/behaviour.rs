//! How a pod's program behaves: what its `env` says, and what faults change while it runs.
//!
//! Law: a decision is drawn when a request comes, from the pod's own random stream, whether or not
//! it has an effect; a change holds for requests that come after it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::super::scenario::Span;
use crate::lock;
use crate::random::Random;

/// How a program behaves.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::world) struct Conduct {
    /// `LATENCY`: the median time that an answer takes.
    pub(in crate::world) latency: Duration,
    /// `LATENCY_P99`: the 99th percentile of it; where it is not above the median, every answer
    /// takes just that.
    pub(in crate::world) latency_p99: Duration,
    /// On top of it: what a fault adds.
    pub(in crate::world) slow_by: Duration,
    /// `ERRORS`, as `503:0.1`: the part of requests that are answered with a status, at once.
    pub(in crate::world) errors: Option<(u16, f64)>,
    /// `RESETS`: the part of requests whose connection (HTTP/2: stream) is reset.
    pub(in crate::world) resets: f64,
    /// `SILENT`: the part of requests that are never answered.
    pub(in crate::world) silent: f64,
    /// `BODY_PAUSE`: a pause before each eighth of an answer's body.
    pub(in crate::world) body_pause: Duration,
    /// `STOPS_READING`: it accepts and reads no request's body, nor anything of a connection of
    /// bytes.
    pub(in crate::world) stops_reading: bool,
    /// `CLOSE_AFTER`: requests after which a connection is closed (`connection: close`).
    pub(in crate::world) close_after: Option<u32>,
    /// `ANSWERS_EARLY`: it answers before the request's body is read, and never reads it.
    pub(in crate::world) answers_early: bool,
    /// `CONCURRENCY`: requests worked on at once; further ones wait in their order.
    pub(in crate::world) concurrency: Option<u32>,
    /// `READY_AFTER`: how long after its start it listens.
    pub(in crate::world) ready_after: Duration,
    /// `GRACEFUL`: told to finish, it finishes what is under way; else it ends at once.
    pub(in crate::world) graceful: bool,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            latency_p99: Duration::ZERO,
            slow_by: Duration::ZERO,
            errors: None,
            resets: 0.0,
            silent: 0.0,
            body_pause: Duration::ZERO,
            stops_reading: false,
            close_after: None,
            answers_early: false,
            concurrency: None,
            ready_after: Duration::ZERO,
            graceful: true,
        }
    }
}

impl Conduct {
    /// Reads a container's environment. Names that no simulated program knows are errors.
    pub(in crate::world) fn from_env<'a>(
        variables: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        let mut conduct = Self::default();
        for (name, value) in variables {
            conduct.set(name, value).map_err(|fault| format!("env {name}: {fault}"))?;
        }
        Ok(conduct)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let span = || Span::read(value).map(|span| span.0);
        match name {
            "LATENCY" => self.latency = span()?,
            "LATENCY_P99" => self.latency_p99 = span()?,
            "ERRORS" => {
                let (status, rate) = value.split_once(':').unwrap_or((value, "1"));
                let status = status.parse().ok().filter(|status| (100..600).contains(status));
                let status = status.ok_or_else(|| format!("`{value}` is no status"))?;
                self.errors = Some((status, part(rate)?));
            }
            "RESETS" => self.resets = part(value)?,
            "SILENT" => self.silent = part(value)?,
            "BODY_PAUSE" => self.body_pause = span()?,
            "STOPS_READING" => self.stops_reading = truth(value)?,
            "CLOSE_AFTER" => self.close_after = Some(count(value)?),
            "ANSWERS_EARLY" => self.answers_early = truth(value)?,
            "CONCURRENCY" => self.concurrency = Some(count(value)?),
            "READY_AFTER" => self.ready_after = span()?,
            "GRACEFUL" => self.graceful = truth(value)?,
            _ => {
                return Err("no simulated program knows it; use LATENCY, LATENCY_P99, ERRORS, \
                     RESETS, SILENT, BODY_PAUSE, STOPS_READING, CLOSE_AFTER, ANSWERS_EARLY, \
                     CONCURRENCY, READY_AFTER or GRACEFUL"
                    .to_owned());
            }
        }
        Ok(())
    }
}

fn part(value: &str) -> Result<f64, String> {
    let part = value.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| format!("`{value}` is no number from 0 to 1"))
}

fn count(value: &str) -> Result<u32, String> {
    let count = value.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("`{value}` is no number from 1 on"))
}

fn truth(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("`{value}` is neither true nor false"))
}

/// How a pod behaves now. Cloning shares it; it outlives the pod's restarts.
#[derive(Clone, Debug)]
pub(in crate::world) struct Behaviour(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    ready: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    conduct: Conduct,
    /// As the environment says.
    plan: Conduct,
    /// Requests that may be worked on at once, where that is bounded.
    seats: Option<Arc<Semaphore>>,
    draw: Random,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fate {
    pub(super) ending: Ending,
    /// After how long.
    pub(super) latency: Duration,
    pub(super) body_pause: Duration,
    pub(super) stops_reading: bool,
    pub(super) answers_early: bool,
    pub(super) close_after: Option<u32>,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With a status.
    Status(u16),
    /// Its connection, or stream, is reset.
    Reset,
    /// Never, by the server.
    Silence,
}

impl Behaviour {
    /// A pod that behaves as its environment says. `draw`: its own random stream.
    pub(in crate::world) fn new(plan: Conduct, draw: Random) -> Self {
        let state = State { conduct: plan.clone(), seats: seats(&plan), plan, draw };
        let (ready, _) = watch::channel(false);
        Self(Arc::new(Shared { state: Mutex::new(state), ready }))
    }

    /// Changes how the pod behaves from now on: `behaviour.change(|c| c.errors = Some((503, 1.0)))`.
    /// A change of `concurrency` holds for requests that come later.
    pub(in crate::world) fn change(&self, change: impl FnOnce(&mut Conduct)) {
        let mut state = lock(&self.0.state);
        let before = state.conduct.concurrency;
        change(&mut state.conduct);
        if state.conduct.concurrency != before {
            state.seats = seats(&state.conduct);
        }
    }

    /// Undoes changes: `restore` is given how it is now and how the environment has it.
    /// `behaviour.restore(|now, plan| now.errors = plan.errors)`.
    pub(in crate::world) fn restore(&self, restore: impl FnOnce(&mut Conduct, &Conduct)) {
        let plan = lock(&self.0.state).plan.clone();
        self.change(|conduct| restore(conduct, &plan));
    }

    /// Makes answers late, beyond what they take anyway.
    pub(in crate::world) fn set_slow(&self, by: Duration) {
        self.change(|conduct| conduct.slow_by = by);
    }

    /// A status instead of an answer, and for which part of requests; none: as the environment has
    /// it.
    pub(in crate::world) fn set_errors(&self, errors: Option<(u16, f64)>) {
        self.restore(|conduct, plan| conduct.errors = errors.or(plan.errors));
    }

    /// Whether it stops reading.
    pub(in crate::world) fn set_stops_reading(&self, stops: bool) {
        self.restore(|conduct, plan| conduct.stops_reading = stops || plan.stops_reading);
    }

    /// How it behaves now.
    pub(super) fn conduct(&self) -> Conduct {
        lock(&self.0.state).conduct.clone()
    }

    /// Whether the program is ready, as its readiness probe finds it: it listens, and has not been
    /// told to finish. Follows it while it is held.
    pub(in crate::world) fn readiness(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    /// Says whether the program is ready.
    pub(super) fn set_ready(&self, ready: bool) {
        self.0.ready.send_replace(ready);
    }

    /// Waits for a seat, where they are bounded. Held until the request is answered.
    pub(super) async fn seat(&self) -> Option<OwnedSemaphorePermit> {
        let seats = lock(&self.0.state).seats.clone();
        seats?.acquire_owned().await.ok()
    }

    /// What becomes of the next request.
    pub(super) fn next(&self) -> Fate {
        let mut state = lock(&self.0.state);
        let State { conduct, draw, .. } = &mut *state;
        let (error, reset, silence) = (draw.unit(), draw.unit(), draw.unit());
        let latency = log_normal(conduct.latency, conduct.latency_p99, draw.normal());
        let (ending, latency) = match conduct.errors {
            Some((status, rate)) if error < rate => (Ending::Status(status), Duration::ZERO),
            _ if reset < conduct.resets => (Ending::Reset, latency + conduct.slow_by),
            _ if silence < conduct.silent => (Ending::Silence, Duration::ZERO),
            _ => (Ending::Status(200), latency + conduct.slow_by),
        };
        Fate {
            ending,
            latency,
            body_pause: conduct.body_pause,
            stops_reading: conduct.stops_reading,
            answers_early: conduct.answers_early,
            close_after: conduct.close_after,
        }
    }
}

fn seats(conduct: &Conduct) -> Option<Arc<Semaphore>> {
    conduct.concurrency.map(|seats| Arc::new(Semaphore::new(seats as usize)))
}

/// Log-normal: `normal` is a draw of the standard normal distribution.
fn log_normal(median: Duration, p99: Duration, normal: f64) -> Duration {
    if p99 <= median || median.is_zero() {
        return median;
    }
    let sigma = (p99.as_secs_f64() / median.as_secs_f64()).ln() / 2.326;
    median.mul_f64((sigma * normal).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conduct(variables: &[(&str, &str)]) -> Result<Conduct, String> {
        Conduct::from_env(variables.iter().copied())
    }

    fn behaviour(variables: &[(&str, &str)]) -> Behaviour {
        let plan = conduct(variables).expect("an environment");
        Behaviour::new(plan, Random::new(1, "pod", "behaviour"))
    }

    #[test]
    fn an_environment_is_read_and_its_faults_are_told() {
        let read = conduct(&[("ERRORS", "503:0.25"), ("LATENCY", "5ms"), ("GRACEFUL", "false")]);
        let read = read.expect("an environment");
        assert_eq!(read.errors, Some((503, 0.25)));
        assert_eq!(read.latency, Duration::from_millis(5));
        assert!(!read.graceful);
        let fault = conduct(&[("ERRORS", "503:2")]).expect_err("wrong");
        assert_eq!(fault, "env ERRORS: `2` is no number from 0 to 1");
        let fault = conduct(&[("LATNECY", "5ms")]).expect_err("wrong");
        assert!(fault.contains("use LATENCY,"), "{fault}");
    }

    #[test]
    fn a_fault_ends_with_what_the_environment_says() {
        let behaviour = behaviour(&[("ERRORS", "500:0")]);
        behaviour.change(|conduct| conduct.errors = Some((503, 1.0)));
        assert_eq!(behaviour.next().ending, Ending::Status(503));
        behaviour.restore(|conduct, plan| conduct.errors = plan.errors);
        assert_eq!(behaviour.next().ending, Ending::Status(200));
        assert_eq!(behaviour.conduct().errors, Some((500, 0.0)));
    }

    #[test]
    fn latencies_are_around_their_median_and_below_their_99th_percentile() {
        let behaviour = behaviour(&[("LATENCY", "10ms"), ("LATENCY_P99", "100ms")]);
        let mut drawn: Vec<_> = (0..10_000).map(|_| behaviour.next().latency).collect();
        drawn.sort_unstable();
        let millis = |rank: usize| drawn[rank].as_millis();
        assert!((9..=11).contains(&millis(5_000)), "{}", millis(5_000));
        assert!((85..=115).contains(&millis(9_900)), "{}", millis(9_900));
    }

    #[test]
    fn requests_beyond_the_concurrency_wait_for_a_seat() {
        let behaviour = behaviour(&[("CONCURRENCY", "1")]);
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        let mut first = Box::pin(behaviour.seat());
        let std::task::Poll::Ready(seat) = first.as_mut().poll(&mut context) else {
            panic!("no seat");
        };
        let mut second = Box::pin(behaviour.seat());
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(seat);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }
}
