//! One endpoint of a backend: its connections, and whether it can be reached.
//!
//! An endpoint that cannot be connected to is *down*: it is picked only where all others are too,
//! and a task of its own tries again with growing waits, so that no request pays for the attempt.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::burst::{Bursts, QUIET};
use super::pool::Http1Pool;
use crate::model::client_policy::{self, FailureAccrual};
use crate::model::endpoint::Endpoint as Facts;
use crate::model::protocol::HttpVersion;
use crate::proxy::connect::{ConnectError, Connector, Session};
use crate::proxy::metered::meter;
use crate::proxy::orig_proto;
use crate::runtime::{BoxIo, Runtime, TaskGuard};
use crate::telemetry::TransferCost;
use crate::telemetry::metrics::{BalancerMetrics, HttpMetrics, TransportMetrics};
use crate::time::Timestamp;
use crate::traffic::backoff::Backoff;
use crate::traffic::breaker::{Breaker, Outcome, Ticket};
use crate::wire::counted::Counted;
use crate::wire::http::client::{self, Http2ClientOptions, Http2Connection};
use crate::wire::http::hop_by_hop::strip_hop_by_hop_but_upgrade;
use crate::wire::http::{Error, Request, Response, SendError};

/// What endpoints have in common.
pub struct Common {
    /// The outside.
    pub runtime: Runtime,
    /// Opens connections.
    pub connector: Connector,
    /// Waits between attempts to reach a down endpoint.
    pub backoff: client_policy::Backoff,
    /// How long an unused HTTP/1 connection is kept.
    pub http1_idle_timeout: Duration,
    /// Unused HTTP/1 connections kept for one endpoint.
    pub http1_idle_max: usize,
    /// Told when endpoints come, go or come up again.
    pub changed: watch::Sender<u64>,
    /// How many endpoints there are, and how many of them are down.
    pub health: Health,
    /// When endpoints that fail are taken out.
    pub accrual: Option<FailureAccrual>,
}

/// Counts endpoints by state.
#[derive(Default)]
pub struct Health {
    counts: Mutex<(usize, usize)>,
    metrics: Option<Arc<BalancerMetrics>>,
}

impl Health {
    /// No endpoints yet.
    pub fn new(metrics: Option<Arc<BalancerMetrics>>) -> Self {
        Self { counts: Mutex::default(), metrics }
    }

    /// Changes the numbers of all endpoints, and of those that are down.
    fn change(&self, all: isize, down: isize) {
        let mut counts = lock(&self.counts);
        counts.0 = counts.0.saturating_add_signed(all);
        counts.1 = counts.1.saturating_add_signed(down);
        if let Some(metrics) = &self.metrics {
            metrics.endpoint_states(counts.0.saturating_sub(counts.1), counts.1);
        }
    }
}

/// Where an endpoint is counted.
#[derive(Clone)]
pub struct EndpointMetrics {
    /// Its connections.
    pub transport: Arc<TransportMetrics>,
    /// What its bytes cost, where they leave the workload.
    pub cost: Option<Arc<TransferCost>>,
    /// Its requests, where they are counted by endpoint.
    pub http: Option<Arc<HttpMetrics>>,
}

impl EndpointMetrics {
    fn meter(&self, io: BoxIo) -> BoxIo {
        match &self.cost {
            Some(cost) => {
                let io = Counted::new(io, cost.received_bytes(), cost.sent_bytes());
                meter(io, &self.transport)
            }
            None => meter(io, &self.transport),
        }
    }
}

/// An endpoint and its connections.
pub struct Endpoint {
    /// What discovery says of it.
    pub facts: Facts,
    /// Where it is counted.
    pub metrics: EndpointMetrics,
    common: Arc<Common>,
    http2: ArcSwapOption<Http2Connection>,
    bursts: Bursts,
    /// The attempt to open an HTTP/2 connection that is under way.
    attempt: Mutex<Option<Attempt>>,
    http1: Arc<Http1Pool>,
    /// Takes it out while it keeps failing, where the policy says so.
    breaker: Option<Mutex<Breaker>>,
    /// Changes while `revival` is locked, so that what is down has a revival.
    down: AtomicBool,
    revival: Mutex<Option<TaskGuard>>,
}

/// Told that a connection is there.
type Connected<'a> = &'a mut (dyn FnMut() + Send);

/// How an attempt to connect goes: none while it does.
type Attempt = watch::Receiver<Option<Result<Arc<Http2Connection>, ConnectError>>>;

impl Endpoint {
    /// An endpoint without connections.
    pub fn new(facts: Facts, metrics: EndpointMetrics, common: &Arc<Common>) -> Arc<Self> {
        let http1 =
            Http1Pool::new(&common.runtime, common.http1_idle_timeout, common.http1_idle_max);
        common.health.change(1, 0);
        Arc::new(Self {
            facts,
            metrics,
            common: common.clone(),
            http2: ArcSwapOption::empty(),
            bursts: Bursts::default(),
            attempt: Mutex::default(),
            http1: Arc::new(http1),
            breaker: common.accrual.as_ref().and_then(Breaker::new).map(Mutex::new),
            down: AtomicBool::new(false),
            revival: Mutex::default(),
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.facts.address
    }

    /// Whether the last attempt to reach it failed.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Whether its breaker takes a request now.
    pub fn is_admitting(&self, now: Timestamp) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| lock(breaker).is_ready(now))
    }

    /// A request is about to be sent: what its breaker is told of with the outcome.
    pub fn admit(&self, now: Timestamp) -> Option<Ticket> {
        self.breaker.as_ref().map(|breaker| lock(breaker).admit(now))
    }

    /// A request ended so, or without saying anything of the endpoint.
    pub fn ended(&self, now: Timestamp, ticket: Ticket, outcome: Option<Outcome>) {
        let Some(breaker) = &self.breaker else { return };
        let mut breaker = lock(breaker);
        let was_tripped = breaker.is_tripped();
        match outcome {
            Some(outcome) => {
                breaker.ended(now, ticket, outcome, self.common.runtime.entropy.next_u64());
            }
            None => breaker.abandoned(now, ticket),
        }
        let change = isize::from(breaker.is_tripped()) - isize::from(was_tripped);
        drop(breaker);
        if change != 0 {
            self.common.health.change(0, change);
            self.common.changed.send_modify(|version| *version = version.wrapping_add(1));
        }
    }

    /// Sends a request over a connection fit for it, opening one where there is none. `connected` is
    /// called where one had to be waited for, before the request goes out.
    ///
    /// # Errors
    /// [`SendError::Unsent`] where nothing of it reached the endpoint's application.
    pub async fn send(
        self: &Arc<Self>,
        request: &mut Request,
        connected: Connected<'_>,
    ) -> Result<Response, SendError> {
        let client_version = request.version();
        let carried =
            self.common.connector.carries_http1(&self.facts) && orig_proto::can_carry(request);
        if !carried && client_version != http::Version::HTTP_2 {
            return self.send_http1(request, connected).await;
        }
        if carried {
            let fallback = || self.facts.address.to_string();
            if orig_proto::carry(request, fallback).is_err() {
                return Err(SendError::Failed(Error::Invalid("no usable host".into())));
            }
        }
        let mut sent = self.send_http2(request, connected).await;
        if carried {
            match &mut sent {
                Ok(response) => orig_proto::restore_response(response, client_version),
                Err(SendError::Unsent(_)) => drop(orig_proto::restore(request)),
                Err(SendError::Failed(_)) => {}
            }
        }
        sent
    }

    async fn send_http1(
        self: &Arc<Self>,
        request: &mut Request,
        connected: Connected<'_>,
    ) -> Result<Response, SendError> {
        strip_hop_by_hop_but_upgrade(request.headers_mut());
        // A pooled connection may have been closed by the peer meanwhile; each such is passed over.
        while let Some(connection) = self.http1.take() {
            match connection.send(request, Some(self.http1.clone())).await {
                Err(SendError::Unsent(_)) => {
                    mark!("pooled-connection-was-closed");
                }
                other => return other.map(strip_response),
            }
        }
        // What is rare is on the heap, lest every request's future be as large.
        let io = match Box::pin(self.open(Session::Http(HttpVersion::Http1))).await {
            Ok(io) => io,
            Err(error) => return Err(SendError::Unsent(unreached(error))),
        };
        connected();
        self.http1.connection(io).send(request, Some(self.http1.clone())).await.map(strip_response)
    }

    /// A new connection that carries bytes.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn open_opaque(self: &Arc<Self>) -> Result<BoxIo, ConnectError> {
        self.open(Session::Opaque).await
    }

    async fn send_http2(
        self: &Arc<Self>,
        request: &mut Request,
        connected: Connected<'_>,
    ) -> Result<Response, SendError> {
        let (_sent, burst_begins) = self.bursts.sent();
        if burst_begins {
            let replacing = replace_after_burst(Arc::downgrade(self), self.common.clone());
            self.common.runtime.spawn("replace-connection", replacing);
        }
        let Some(connection) = self.open_http2() else {
            return Box::pin(self.send_new_http2(request, connected)).await;
        };
        match connection.send(request).await {
            Err(SendError::Unsent(error))
                if ends_connection(&error) && planted!("goaway-ignored") =>
            {
                Err(SendError::Failed(error))
            }
            // The peer ended a connection that was good until then: a new one may do.
            Err(SendError::Unsent(error))
                if ends_connection(&error) && !planted!("dead-connection-kept") =>
            {
                mark!("http2-connection-replaced");
                drop(self.http2.compare_and_swap(&connection, None));
                Box::pin(self.send_new_http2(request, connected)).await
            }
            sent => sent,
        }
    }

    async fn send_new_http2(
        self: &Arc<Self>,
        request: &mut Request,
        connected: Connected<'_>,
    ) -> Result<Response, SendError> {
        match self.connect_http2().await {
            Ok(connection) => {
                connected();
                connection.send(request).await
            }
            Err(error) => Err(SendError::Unsent(unreached(error))),
        }
    }

    /// The one HTTP/2 connection, where it is open.
    fn open_http2(&self) -> Option<Arc<Http2Connection>> {
        let is_dead_kept = planted!("dead-connection-kept");
        let is_leaving_kept = planted!("goaway-ignored");
        let connection = self.http2.load_full()?;
        (!connection.is_closed() || is_dead_kept || is_leaving_kept).then_some(connection)
    }

    /// Opens the one HTTP/2 connection, or waits for whoever is at it. All that wait share one
    /// attempt, and it goes on where they give up: their successors need it.
    async fn connect_http2(self: &Arc<Self>) -> Result<Arc<Http2Connection>, ConnectError> {
        if let Some(connection) = self.open_http2() {
            return Ok(connection);
        }
        let mut attempt = self.attempt();
        // On the heap, as it is rare.
        Box::pin(async move {
            let ended = attempt.wait_for(Option::is_some).await;
            match ended.as_deref() {
                Ok(Some(opened)) => opened.clone(),
                _ => Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
            }
        })
        .await
    }

    fn attempt(self: &Arc<Self>) -> Attempt {
        let mut under_way = lock(&self.attempt);
        if let Some(attempt) = &*under_way {
            mark!("connect-attempt-shared");
            return attempt.clone();
        }
        let (told, attempt) = watch::channel(None);
        let endpoint = self.clone();
        self.common.runtime.spawn("connect-endpoint", async move {
            let opened = match endpoint.open(Session::Http(HttpVersion::Http2)).await {
                Ok(io) => endpoint.keep_http2(io).await,
                Err(error) => Err(error),
            };
            lock(&endpoint.attempt).take();
            told.send_replace(Some(opened));
        });
        *under_way = Some(attempt.clone());
        attempt
    }

    async fn keep_http2(&self, io: BoxIo) -> Result<Arc<Http2Connection>, ConnectError> {
        let mut options = Http2ClientOptions {
            heed_unsent: self.common.connector.tls(&self.facts).is_ok(),
            ..Http2ClientOptions::default()
        };
        if let Some(params) = &self.facts.http2 {
            options = options.with_params(params);
        }
        let connection = client::connect(&self.common.runtime, io, &options)
            .await
            .map_err(std::io::Error::other)?;
        let connection = Arc::new(connection);
        if !planted!("connection-not-kept") {
            self.http2.store(Some(connection.clone()));
        }
        Ok(connection)
    }

    async fn open(self: &Arc<Self>, session: Session) -> Result<BoxIo, ConnectError> {
        match self.common.connector.connect(&self.facts, session).await {
            Ok(io) => {
                self.came_up();
                Ok(self.metrics.meter(io))
            }
            Err(error) => {
                tracing::debug!(endpoint = %self.address(), %error, "cannot connect");
                self.went_down(session);
                Err(error)
            }
        }
    }

    /// Marks the endpoint as down and starts trying to reach it again.
    fn went_down(self: &Arc<Self>, session: Session) {
        let mut revival = lock(&self.revival);
        if !self.down.swap(true, Ordering::Relaxed) {
            mark!("endpoint-went-down");
            self.common.health.change(0, 1);
        }
        if revival.is_none() {
            let task = revive(Arc::downgrade(self), self.common.clone(), session);
            *revival = Some(self.common.runtime.spawn_guarded("revive-endpoint", task));
        }
    }

    /// Marks the endpoint as up, and ends its revival.
    fn came_up(&self) {
        let mut revival = lock(&self.revival);
        if self.down.swap(false, Ordering::Relaxed) {
            self.common.health.change(0, -1);
        }
        drop(revival.take());
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let is_tripped = self.breaker.as_ref().is_some_and(|breaker| lock(breaker).is_tripped());
        let pending = isize::from(self.is_down()) + isize::from(is_tripped);
        self.common.health.change(-1, -pending);
    }
}

/// Tries to reach a down endpoint until it is up or gone.
async fn revive(endpoint: Weak<Endpoint>, common: Arc<Common>, session: Session) {
    if planted!("endpoint-never-revived") {
        return;
    }
    let mut backoff = Backoff::new(common.backoff);
    loop {
        common.runtime.sleep(backoff.failed(common.runtime.entropy.next_u64())).await;
        let Some(endpoint) = endpoint.upgrade() else {
            return;
        };
        let Ok(io) = common.connector.connect(&endpoint.facts, session).await else {
            continue;
        };
        let io = endpoint.metrics.meter(io);
        match session {
            Session::Http(HttpVersion::Http2) => {
                if endpoint.keep_http2(io).await.is_err() {
                    continue;
                }
            }
            Session::Http(HttpVersion::Http1) => endpoint.http1.put(endpoint.http1.connection(io)),
            Session::Opaque => drop(io),
        }
        mark!("endpoint-revived");
        // Ends this very task, which goes on to its next await: there is none.
        endpoint.came_up();
        common.changed.send_modify(|version| *version = version.wrapping_add(1));
        return;
    }
}

/// Waits for the end of a burst and replaces the connection that carried it. Requests go on over the
/// old one until the new one is there; it ends with the last of them.
async fn replace_after_burst(endpoint: Weak<Endpoint>, common: Arc<Common>) {
    loop {
        match endpoint.upgrade() {
            Some(endpoint) => endpoint.bursts.look(),
            None => return,
        }
        common.runtime.sleep(QUIET).await;
        let Some(endpoint) = endpoint.upgrade() else {
            return;
        };
        if !endpoint.bursts.is_quiet() {
            continue;
        }
        endpoint.bursts.over();
        // One that has ended has given all back, and nobody may want another.
        if endpoint.open_http2().is_none() {
            return;
        }
        let session = Session::Http(HttpVersion::Http2);
        match common.connector.connect(&endpoint.facts, session).await {
            Ok(io) => {
                mark!("http2-connection-replaced-after-burst");
                let io = endpoint.metrics.meter(io);
                if let Err(error) = endpoint.keep_http2(io).await {
                    tracing::debug!(endpoint = %endpoint.address(), %error, "not replaced");
                }
            }
            // The old one is as good as it was.
            Err(error) => {
                tracing::debug!(endpoint = %endpoint.address(), %error, "not replaced");
            }
        }
        return;
    }
}

fn strip_response(mut response: Response) -> Response {
    strip_hop_by_hop_but_upgrade(response.headers_mut());
    response
}

/// Whether a request came back because its connection had ended.
fn ends_connection(error: &Error) -> bool {
    matches!(error, Error::GoAway { .. } | Error::Closed | Error::Io(_) | Error::Canceled)
}

fn unreached(error: ConnectError) -> Error {
    match error {
        ConnectError::TimedOut => Error::Timeout("connect"),
        ConnectError::Io(error) => Error::Io(std::io::Error::new(error.kind(), error.to_string())),
        error @ (ConnectError::Tls(_) | ConnectError::Loop(_)) => {
            Error::Io(std::io::Error::other(error.to_string()))
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
