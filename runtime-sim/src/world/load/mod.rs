//! Workloads: who sends what when, and what came of it. Clients are plain programs that know
//! nothing of the mesh.
//!
//! Law: every request that begins is recorded with one end, also where its sender is ended.

mod arrivals;
mod failure;
mod grpc;
mod http1;
mod http2;
mod lines;
mod message;
mod misbehave;
mod websocket;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::uri::Authority;
use tokio::sync::Mutex as AsyncMutex;

use mesh_core::runtime::net::TcpOptions;
use mesh_core::runtime::{BoxIo, Runtime};
use mesh_core::time::Timestamp;
use mesh_core::wire::drain::DrainWatch;
use mesh_core::wire::http::client::Http2Connection;
use mesh_core::wire::http::h1;
use mesh_core::wire::tls::Credentials;

use super::record::{Answer, Failure, FailureClass, Record, Request, Sequence};
use super::scenario::{Arrivals, Protocol, Size, Workload};
use super::speech;
use crate::lock;
use crate::random::Random;

use arrivals::Schedule;

/// What came of an attempt.
type Outcome = Result<Answer, Failure>;

/// A workload as one pod sends it. Cloning shares its connections.
#[derive(Clone)]
pub(super) struct Load(Arc<Shared>);

/// Who sends.
pub(super) struct Sender {
    /// The doors of its program.
    pub(super) runtime: Runtime,
    /// By which it learns that it is to finish: it begins nothing more.
    pub(super) drain: DrainWatch,
    pub(super) record: Record,
    pub(super) pod: Arc<str>,
}

struct Shared {
    runtime: Runtime,
    drain: DrainWatch,
    record: Record,
    plan: Workload,
    name: Arc<str>,
    sender: Arc<str>,
    /// Requests that it began before its program was started again.
    begun: u64,
    authority: Authority,
    stop: Timestamp,
    random: Mutex<Random>,
    http1: Mutex<Vec<(u64, h1::Connection)>>,
    http2: AsyncMutex<Option<(u64, Http2Connection)>>,
    /// Whom it trusts, where it speaks TLS.
    credentials: Option<Credentials>,
}

impl Load {
    /// A workload as a pod sends it, until `stop`; what the pod has sent of it already counts. What is
    /// wrong with it is told in words.
    pub(super) fn new(
        sender: Sender,
        workload: &Workload,
        seed: u64,
        stop: Timestamp,
    ) -> Result<Self, String> {
        let Sender { runtime, drain, record, pod: sender } = sender;
        let wrong = |fault: String| format!("workload {}: {fault}", workload.name);
        workload.check().map_err(|(field, fault)| wrong(format!("{field}: {fault}")))?;
        let authority: Authority =
            workload.to.parse().map_err(|error| wrong(format!("to: {error}")))?;
        let credentials = match workload.protocol {
            Protocol::Tls => {
                Some(speech::tls::credentials(&runtime, authority.host()).map_err(wrong)?)
            }
            _ => None,
        };
        let begun = record.begun(&workload.name, &sender);
        let purpose = match begun {
            0 => format!("workload {}", workload.name),
            _ => format!("workload {} after {begun}", workload.name),
        };
        let random = Random::new(seed, &sender, &purpose);
        Ok(Self(Arc::new(Shared {
            name: workload.name.as_str().into(),
            begun,
            drain,
            plan: workload.clone(),
            random: Mutex::new(random),
            http1: Mutex::default(),
            http2: AsyncMutex::default(),
            runtime,
            record,
            sender,
            authority,
            stop,
            credentials,
        })))
    }

    /// Begins, at once or at the workload's start.
    pub(super) fn start(self) {
        let plan = &self.0.plan;
        let now = self.0.runtime.now();
        let start = Timestamp::ZERO + plan.start.0;
        let requests = plan.requests.unwrap_or(u64::MAX).saturating_sub(self.0.begun);
        match plan.arrivals {
            Arrivals::Closed { concurrency, think } => {
                self.start_callers(concurrency, think.0, start.max(now), requests);
            }
            arrivals => {
                let mut schedule = match self.0.begun {
                    0 => Schedule::new(arrivals, start.max(now), self.0.stop),
                    _ => Schedule::new(arrivals, start, self.0.stop),
                };
                schedule.skip_to(now, &mut lock(&self.0.random));
                let runtime = self.0.runtime.clone();
                runtime.spawn("workload", self.send_on(schedule, requests));
            }
        }
    }

    async fn send_on(self, mut schedule: Schedule, requests: u64) {
        for _ in 0..requests {
            let next = schedule.next(&mut lock(&self.0.random));
            let Some(at) = next else { return };
            tokio::select! {
                biased;
                () = self.0.drain.draining() => return,
                () = self.0.runtime.clock.sleep_until(at) => {}
            }
            let load = self.clone();
            self.0.runtime.spawn("request", async move { load.request().await });
        }
    }

    fn start_callers(&self, callers: u32, think: Duration, start: Timestamp, requests: u64) {
        let left = Arc::new(Mutex::new(requests));
        for _ in 0..callers {
            let (load, left) = (self.clone(), left.clone());
            self.0.runtime.spawn("caller", async move {
                load.0.runtime.clock.sleep_until(start).await;
                let goes_on = || load.0.runtime.now() < load.0.stop && !load.0.drain.is_draining();
                while goes_on() && take_one(&left) {
                    load.request().await;
                    load.0.runtime.sleep(think.max(Duration::from_millis(1))).await;
                }
            });
        }
    }

    /// One request, tried again as often as the client does.
    async fn request(&self) {
        let under_way = UnderWay::begin(self);
        let number = under_way.number;
        let mut retries = self.0.plan.retries.times;
        let outcome = loop {
            let outcome = self.attempt(number).await;
            if retries == 0 || !is_worth_a_retry(&outcome) {
                break outcome;
            }
            retries -= 1;
            self.0.runtime.sleep(self.0.plan.retries.backoff.0).await;
        };
        under_way.end(outcome);
    }

    async fn attempt(&self, number: u64) -> Outcome {
        self.note(number, |request| {
            request.attempts += 1;
            request.connection = None;
            request.first_byte = None;
            (request.messages_sent, request.messages_received) = (0, 0);
        });
        let plan = &self.0.plan;
        let whole = plan.timeout.0 + self.stream_length();
        let patience = plan.request.deadline.map_or(whole, |deadline| deadline.0.min(whole));
        match self.0.runtime.timeout(patience, self.exchange(number)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure { class: FailureClass::TimedOut, what: String::new() }),
        }
    }

    async fn exchange(&self, number: u64) -> Outcome {
        if let Some(misbehaviour) = self.0.plan.misbehave {
            return self.misbehave(number, misbehaviour).await;
        }
        match self.0.plan.protocol {
            Protocol::Http1 => self.http1(number).await,
            Protocol::H2 => self.http2(number).await,
            Protocol::Grpc => self.grpc(number).await,
            Protocol::Websocket => self.websocket(number).await,
            Protocol::Tcp => self.lines(number, false).await,
            Protocol::ServerFirstTcp => self.lines(number, true).await,
            Protocol::Tls => self.tls_lines(number).await,
        }
    }

    /// Opens a connection for a request.
    async fn connect(&self, number: u64) -> Result<BoxIo, Failure> {
        Ok(self.open(number).await?.1)
    }

    /// Opens a connection for a request, and tells its number.
    async fn open(&self, number: u64) -> Result<(u64, BoxIo), Failure> {
        let connection = self.0.record.connect();
        self.note(number, |request| request.connection = Some(connection));
        let net = &self.0.runtime.net;
        let resolved = net.resolve(self.0.authority.host()).await;
        let addresses = resolved.map_err(|error| Failure {
            class: FailureClass::Unresolved,
            what: error.to_string(),
        })?;
        let port = self.0.authority.port_u16().unwrap_or(80);
        let at = SocketAddr::new(addresses[0], port);
        let connecting = net.connect(at, TcpOptions::default());
        let opened = connecting.await.map_err(|error| failure::of_connect(&error))?;
        Ok((connection, self.0.record.traffic(&self.0.sender).opened.count(opened.io)))
    }

    fn note(&self, number: u64, change: impl FnOnce(&mut Request)) {
        self.0.record.note(number, change);
    }

    /// The answer begins.
    fn answered(&self, number: u64) {
        let now = self.0.runtime.now();
        self.note(number, |request| {
            request.first_byte.get_or_insert(now);
        });
    }

    /// The messages of a request's answer, as they come.
    fn sequence(&self, number: u64) -> Sequence {
        Sequence::new(&self.0.record, Some(number), &self.0.sender)
    }

    fn draw(&self, size: Size) -> u64 {
        match size {
            Size::Fixed(bytes) => bytes,
            Size::Uniform { from, to } => {
                from + lock(&self.0.random).below((to - from) as usize + 1) as u64
            }
        }
    }

    /// How long a stream that begins now is to last.
    fn stream_length(&self) -> Duration {
        let stream = &self.0.plan.stream;
        match stream.lasts {
            Some(lasts) => lasts.0.min(self.0.stop.since(self.0.runtime.now())),
            None => stream.interval.0 * stream.messages,
        }
    }

    /// How many messages a stream that begins now is to have.
    fn stream_messages(&self) -> u64 {
        let stream = &self.0.plan.stream;
        match stream.lasts {
            Some(_) => {
                let interval = stream.interval.0.as_nanos().max(1);
                let messages = self.stream_length().as_nanos() / interval;
                u64::try_from(messages).unwrap_or(u64::MAX).max(1)
            }
            None => u64::from(stream.messages),
        }
    }

    async fn pause(&self) {
        let interval = self.0.plan.stream.interval.0;
        if !interval.is_zero() {
            self.0.runtime.sleep(interval).await;
        }
    }
}

fn take_one(left: &Mutex<u64>) -> bool {
    let mut left = lock(left);
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

/// A client tries again what failed, and what a server answered with an error of its own.
fn is_worth_a_retry(outcome: &Outcome) -> bool {
    match outcome {
        Ok(answer) => answer.status >= 500 || matches!(answer.grpc_status, Some(2 | 8 | 13 | 14)),
        Err(_) => true,
    }
}

/// A request that has begun: ended as abandoned where its sender is ended first.
struct UnderWay {
    load: Load,
    number: u64,
    ended: bool,
}

impl UnderWay {
    fn begin(load: &Load) -> Self {
        let Shared { record, name, sender, runtime, .. } = &*load.0;
        let number = record.begin(name, sender, runtime.now());
        Self { load: load.clone(), number, ended: false }
    }

    fn end(mut self, outcome: Outcome) {
        self.ended = true;
        self.load.0.record.end(self.number, self.load.0.runtime.now(), outcome);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.ended {
            let failure = Failure { class: FailureClass::Abandoned, what: String::new() };
            self.load.0.record.end(self.number, self.load.0.runtime.now(), Err(failure));
        }
    }
}
