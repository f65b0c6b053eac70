//! The balancer's figures: ten replicas under 400 requests a second, one of which misbehaves. Time
//! is simulated; the same seed gives the same run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use super::{EndpointSet, InFlight};
use crate::model::client_policy::Load;
use crate::model::endpoint::{Endpoint, EndpointUpdate};
use crate::model::labels::Labels;
use crate::time::Timestamp;

const REPLICAS: u16 = 10;
/// The replica that misbehaves.
const ODD: u16 = 3;

/// How a replica answers a request that begins at some second; `None`: well, in 16 to 24 ms.
type Behaviour = fn(replica: u16, secs: f64) -> Option<Answer>;

struct Answer {
    after: Duration,
    ok: bool,
}

/// The answer of the replica that misbehaves; the others answer well.
fn odd(replica: u16, after_ms: u64, ok: bool) -> Option<Answer> {
    (replica == ODD).then_some(Answer { after: Duration::from_millis(after_ms), ok })
}

struct Simulation {
    set: EndpointSet<()>,
    random: u64,
    /// Requests that end, in order of time.
    in_flight: BTreeMap<(Timestamp, u64), (InFlight, bool)>,
    /// When requests to the odd replica began, and when all began.
    odd_starts: Vec<f64>,
    starts: Vec<f64>,
}

impl Simulation {
    /// Requests arrive at random, `rate` a second, for `secs`.
    fn run(seed: u64, rate: f64, secs: f64, behaviour: Behaviour) -> Self {
        let mut simulation = Self {
            set: EndpointSet::new(Load::PeakEwma {
                default_rtt: Duration::from_millis(30),
                decay: Duration::from_secs(10),
            }),
            random: seed,
            in_flight: BTreeMap::new(),
            odd_starts: vec![],
            starts: vec![],
        };
        let update = EndpointUpdate::Add {
            endpoints: (0..REPLICAS).map(|r| Endpoint::new(address(r))).collect(),
            labels: Labels::default(),
        };
        simulation.set.apply(update, Timestamp::ZERO, |_, _, _| ());
        let mut now = Timestamp::ZERO;
        while now.as_nanos() as f64 / 1e9 < secs {
            let uniform = (simulation.draw() >> 11) as f64 / (1u64 << 53) as f64;
            now = now + Duration::from_secs_f64(-(1.0 - uniform).ln() / rate);
            simulation.end_before(now);
            simulation.begin(now, behaviour);
        }
        simulation
    }

    fn begin(&mut self, now: Timestamp, behaviour: Behaviour) {
        let secs = now.as_nanos() as f64 / 1e9;
        let (pick, jitter) = (self.draw(), self.draw() % 9);
        let member = self.set.pick(now, pick, &[]).unwrap();
        let replica = member.endpoint.address.port() - address(0).port();
        let answer = behaviour(replica, secs)
            .unwrap_or(Answer { after: Duration::from_millis(16 + jitter), ok: true });
        if replica == ODD {
            self.odd_starts.push(secs);
        }
        self.starts.push(secs);
        let id = self.starts.len() as u64;
        let in_flight = member.load.start(now);
        self.in_flight.insert((now + answer.after, id), (in_flight, answer.ok));
    }

    fn end_before(&mut self, now: Timestamp) {
        while let Some(first) = self.in_flight.first_entry()
            && first.key().0 <= now
        {
            let ((at, _), (request, ok)) = first.remove_entry();
            if ok {
                request.succeeded(at);
            } else {
                request.failed(at, None);
            }
        }
    }

    /// splitmix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Requests to the odd replica that began in `window` (seconds).
    fn odd_requests(&self, window: Range<f64>) -> usize {
        self.odd_starts.iter().filter(|at| window.contains(at)).count()
    }

    /// Their share of all, relative to a fair share: 1.0 is one tenth.
    fn share(&self, window: Range<f64>) -> f64 {
        let all = self.starts.iter().filter(|at| window.contains(at)).count();
        self.odd_requests(window) as f64 * f64::from(REPLICAS) / all as f64
    }
}

fn address(replica: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 8_000 + replica))
}

/// One of so many requests, by when it begins.
fn one_in(count: u64, secs: f64) -> bool {
    ((secs * 1e6) as u64).is_multiple_of(count)
}

const SEEDS: Range<u64> = 0..20;

#[test]
fn equal_replicas_get_equal_shares() {
    for seed in SEEDS {
        let run = Simulation::run(seed, 400.0, 30.0, |_, _| None);
        let share = run.share(5.0..30.0);
        assert!((0.8..1.2).contains(&share), "seed {seed}: {share:.2}");
    }
}

#[test]
fn a_replica_that_fails_at_once_gets_less_than_its_share_and_recovers() {
    for seed in SEEDS {
        let failing: Behaviour = |replica, secs| match secs {
            5.0..25.0 => odd(replica, 1, false),
            _ => None,
        };
        let run = Simulation::run(seed, 400.0, 35.0, failing);
        let (failing, after) = (run.share(5.0..25.0), run.share(30.0..35.0));
        println!("seed {seed}: 503 at once {failing:.3}, 5 s after {after:.2} of fair");
        assert!(failing < 0.15, "seed {seed}: {failing:.3} of its fair share");
        assert!(run.odd_requests(20.0..25.0) >= 1, "seed {seed}: not probed");
        assert!(after >= 0.6, "seed {seed}: {after:.2} of its fair share 5 s after");
    }
}

#[test]
fn a_replica_that_fails_from_the_start_gets_less_than_its_share() {
    for seed in SEEDS {
        let run = Simulation::run(seed, 400.0, 20.0, |replica, _| odd(replica, 1, false));
        let share = run.share(0.0..20.0);
        assert!(share < 0.15, "seed {seed}: {share:.3} of its fair share");
    }
}

#[test]
fn a_killed_replica_soon_gets_little() {
    for seed in SEEDS {
        let killed: Behaviour = |replica, secs| match secs {
            ..5.0 => None,
            _ => odd(replica, 0, false),
        };
        let run = Simulation::run(seed, 400.0, 15.0, killed);
        let (first, later) = (run.odd_requests(5.0..6.0), run.share(6.0..15.0));
        println!("seed {seed}: killed, {first} in the first second, then {later:.3} of fair");
        assert!(first <= 20, "seed {seed}: {first} of 40 in the first second");
        assert!(later < 0.05, "seed {seed}: {later:.3} of its fair share later");
    }
}

#[test]
fn a_slow_replica_gets_little_and_is_back_5_s_after_it_recovered() {
    for seed in SEEDS {
        let slow: Behaviour = |replica, secs| match secs {
            10.0..20.0 => odd(replica, 1_000, true),
            _ => None,
        };
        let run = Simulation::run(seed, 400.0, 30.0, slow);
        let (slow, after) = (run.share(11.0..20.0), run.share(25.0..30.0));
        let fifth = run.share(24.0..25.0);
        println!("seed {seed}: slow {slow:.3}, fifth second {fifth:.2}, then {after:.2} of fair");
        assert!(slow < 0.05, "seed {seed}: {slow:.3} of its fair share while slow");
        assert!(after >= 0.6, "seed {seed}: {after:.2} of its fair share after 5 s");
    }
}

#[test]
fn a_replica_that_fails_now_and_then_keeps_most_of_its_share() {
    for seed in SEEDS {
        let run = Simulation::run(seed, 400.0, 40.0, |replica, secs| {
            one_in(50, secs).then(|| odd(replica, 20, false))?
        });
        let share = run.share(5.0..40.0);
        println!("seed {seed}: 2 % failures {share:.2} of fair");
        assert!((0.5..1.1).contains(&share), "seed {seed}: {share:.2}");
    }
}

#[test]
fn little_traffic_hardly_tries_a_slow_replica() {
    for seed in SEEDS {
        let run = Simulation::run(seed, 4.0, 300.0, |replica, _| odd(replica, 1_000, true));
        let share = run.share(30.0..300.0);
        println!("seed {seed}: slow under 4 rps {share:.2} of fair");
        assert!(share < 0.7, "seed {seed}: {share:.2}");
    }
}

#[test]
fn replicas_that_all_fail_now_and_then_share_alike() {
    for seed in SEEDS {
        let run = Simulation::run(seed, 400.0, 40.0, |_, secs| {
            one_in(10, secs).then_some(Answer { after: Duration::from_millis(1), ok: false })
        });
        let share = run.share(5.0..40.0);
        println!("seed {seed}: all fail 10 % {share:.2} of fair");
        assert!((0.7..1.3).contains(&share), "seed {seed}: {share:.2}");
    }
}
