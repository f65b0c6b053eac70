//! One HTTP/2 connection to a control plane's service, made when it is needed, shared by all
//! streams, and made anew when it is gone; as tonic's generated clients want it.
//!
//! Not here: how long to wait for an answer, and when to ask again. Those who ask know.
//!
//! Law: without TLS nothing is sent but to a loopback address.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::combinators::MapErr;
use tokio::sync::watch;
use tonic::Status;
use tonic::codegen::{Body as _, http};

use super::client::{ApiError, ControlAddress};
use super::observe::{Call, ControlObserver};
use crate::model::protocol::KeepAlive;
use crate::runtime::net::TcpOptions;
use crate::runtime::{BoxFuture, BoxIo, Runtime};
use crate::time::Timestamp;
use crate::wire::http::client::{Http2ClientOptions, Http2Connection, connect};
use crate::wire::http::{self as wire, SendError};
use crate::wire::tls::{self, Credentials};

/// For name resolution, and for TCP, TLS and HTTP/2 to each address.
const STEP_TIMEOUT: Duration = Duration::from_secs(3);

/// Most addresses tried in one attempt; a control plane has three replicas or so.
const ADDRESSES_MAX: usize = 64;

/// Between attempts: this, doubled with each failure, and up to a quarter more by chance.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A dead controller is noticed after 13 s at most, whether or not a stream is open.
const KEEP_ALIVE: KeepAlive = KeepAlive {
    interval: Some(Duration::from_secs(10)),
    timeout: Some(Duration::from_secs(3)),
    while_idle: true,
};

/// Sends requests over the connection of the moment. Clones share it.
#[derive(Clone)]
pub(super) struct Channel(Arc<Shared>);

struct Shared {
    runtime: Runtime,
    address: ControlAddress,
    credentials: Credentials,
    observer: Option<Arc<dyn ControlObserver>>,
    /// Never held across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Http2Connection>,
    /// The attempt under way, which runs in a task of its own: those who wait for it may give up.
    attempt: Option<Attempt>,
    failures: u32,
    next_attempt: Timestamp,
}

/// What an attempt came to; `None` while it is under way.
type Attempt = watch::Receiver<Option<Result<Http2Connection, ApiError>>>;

impl Channel {
    pub(super) fn new(
        runtime: &Runtime,
        address: ControlAddress,
        credentials: Credentials,
        observer: Option<Arc<dyn ControlObserver>>,
    ) -> Self {
        Self(Arc::new(Shared {
            runtime: runtime.clone(),
            address,
            credentials,
            observer,
            state: Mutex::default(),
        }))
    }

    pub(super) fn address(&self) -> &ControlAddress {
        &self.0.address
    }

    /// The open connection, or the next one.
    async fn connection(&self) -> Result<Http2Connection, ApiError> {
        let mut attempt = {
            let mut state = self.0.state();
            match &state.connection {
                Some(connection) if !connection.is_closed() => return Ok(connection.clone()),
                _ => state.connection = None,
            }
            match &state.attempt {
                Some(attempt) if attempt.has_changed().is_ok() => attempt.clone(),
                _ => {
                    let attempt = self.begin(state.next_attempt);
                    state.attempt.insert(attempt).clone()
                }
            }
        };
        match attempt.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(result)) => result.clone(),
            _ => Err(unavailable("the attempt to connect was abandoned")),
        }
    }

    fn begin(&self, at: Timestamp) -> Attempt {
        let (done, attempt) = watch::channel(None);
        let shared = self.0.clone();
        self.0.runtime.spawn("control connection", async move {
            shared.runtime.clock.sleep_until(at).await;
            let result = shared.connect().await;
            shared.finish(&result);
            done.send_replace(Some(result));
        });
        attempt
    }

    /// Sends a request; once more where the connection turned out to be gone before it was sent.
    async fn send(&self, mut request: wire::Request) -> Result<wire::Response, ApiError> {
        let mut attempts = 0;
        loop {
            let connection = self.connection().await?;
            attempts += 1;
            match connection.send(&mut request).await {
                Ok(response) => return Ok(response),
                Err(SendError::Unsent(error)) => {
                    self.0.forget(&connection);
                    if attempts == 2 {
                        return Err(unavailable(error));
                    }
                }
                Err(SendError::Failed(error)) => return Err(unavailable(error)),
            }
        }
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more requests to a connection that refused one. The one kept may be newer by now.
    fn forget(&self, refused: &Http2Connection) {
        let mut state = self.state();
        if !refused.is_ready() && state.connection.as_ref().is_some_and(|kept| !kept.is_ready()) {
            state.connection = None;
        }
    }

    fn finish(&self, result: &Result<Http2Connection, ApiError>) {
        let mut state = self.state();
        state.attempt = None;
        match result {
            Ok(connection) => {
                state.connection = Some(connection.clone());
                state.failures = 0;
                state.next_attempt = Timestamp::ZERO;
            }
            Err(error) => {
                let wait = backoff(state.failures, self.runtime.entropy.next_u64());
                state.failures = state.failures.saturating_add(1);
                state.next_attempt = self.runtime.now() + wait;
                tracing::debug!(authority = %self.address.authority, %error, ?wait, "not connected");
            }
        }
    }

    /// Tries every address in turn, starting at any of them.
    async fn connect(&self) -> Result<Http2Connection, ApiError> {
        let addresses = self.resolve().await?;
        let start = self.runtime.entropy.next_u64() % addresses.len().max(1) as u64;
        let (before, from) = addresses.split_at(start as usize);
        let mut last = unavailable(format_args!("{} has no address", self.address.authority));
        for &address in from.iter().chain(before) {
            let attempt = self.connect_to(address);
            match self.runtime.timeout(STEP_TIMEOUT, attempt).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(fault)) => last = unavailable(format_args!("{address}: {fault}")),
                Err(elapsed) => last = unavailable(format_args!("{address}: {elapsed}")),
            }
        }
        Err(last)
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, ApiError> {
        let authority = &self.address.authority;
        if let Some(address) = authority.as_address() {
            return Ok(vec![address]);
        }
        let resolve = self.runtime.net.resolve(authority.host());
        let resolved = self.runtime.timeout(STEP_TIMEOUT, resolve).await;
        if let Some(observer) = &self.observer {
            observer.resolved(matches!(resolved, Ok(Ok(_))));
        }
        let addresses = match resolved {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return Err(unavailable(format_args!("{authority}: {error}"))),
            Err(elapsed) => return Err(unavailable(format_args!("{authority}: {elapsed}"))),
        };
        let with_port = |address| SocketAddr::new(address, authority.port());
        Ok(addresses.into_iter().take(ADDRESSES_MAX).map(with_port).collect())
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<Http2Connection, String> {
        if self.address.tls.is_none() && !address.ip().is_loopback() {
            return Err("not on this host, and no identity to expect there is set".to_string());
        }
        let tcp = self.runtime.net.connect(address, TcpOptions::default()).await;
        let tcp: BoxIo = tcp.map_err(|error| error.to_string())?.io;
        let io = match &self.address.tls {
            None => tcp,
            Some(server) => {
                let session = tls::client::connect(tcp, &self.credentials, server, None).await;
                session.map_err(|error| error.to_string())?.io
            }
        };
        let options =
            Http2ClientOptions { keep_alive: Some(KEEP_ALIVE), ..Http2ClientOptions::default() };
        let connection = connect(&self.runtime, io, &options).await;
        connection.map_err(|error| error.to_string())
    }
}

fn backoff(failures: u32, random: u64) -> Duration {
    if planted!("backoff-absent") {
        return Duration::from_millis(1);
    }
    let wait = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    let quarter_nanos = wait.as_nanos() as u64 / 4;
    wait + Duration::from_nanos(random % quarter_nanos.max(1))
}

fn unavailable(reason: impl std::fmt::Display) -> ApiError {
    ApiError::Unavailable(reason.to_string())
}

/// A response's body, whose failures are the control plane's absence.
type ResponseBody = MapErr<wire::Body, fn(wire::Error) -> Status>;

impl tower_service::Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<ResponseBody>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let channel = self.clone();
        Box::pin(async move {
            let call = Call::new(&channel.0.runtime, channel.0.observer.as_ref());
            let response = channel.send(request.map(to_wire)).await;
            let response = response.map_err(|error| Status::unavailable(error.to_string()))?;
            let response = call.answered(response);
            let broken: fn(wire::Error) -> Status = |error| Status::unavailable(error.to_string());
            Ok(response.map(|body| body.map_err(broken)))
        })
    }
}

/// tonic's body as ours. It fails only where a message could not be encoded.
pub(super) fn to_wire(body: tonic::body::Body) -> wire::Body {
    if body.is_end_stream() {
        return wire::Body::empty();
    }
    wire::Body::wrap(body.map_err(|status| wire::Error::Invalid(status.to_string().into())))
}
