//! One HTTP/2 connection as a client, shared by any number of requests. Pools and balancing are
//! its users' business; HTTP/1 connections are in `h1`.
//!
//! Law: a request is said to be [`SendError::Unsent`] only where the peer's application surely
//! saw nothing of it: it is safe to send it elsewhere, whatever its method.
//!
//! Requests beyond the peer's limit of concurrent streams wait for one, without a bound of their own:
//! callers bound what is in flight.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker, ready};

use ::h2::client::SendRequest;
use ::http::HeaderName;
use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::h2::{Driver, Exchange, Pulse, STREAMS_AT_FIRST, Slot, Streams};
use super::loan::Loan;
use super::{Body, Error, Request, Response};
use crate::model::protocol::{Http2Params, KeepAlive};
use crate::runtime::{BoxFuture, BoxIo, Runtime, Tasks};
use crate::wire::counted::Counted;

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing of it reached the peer's application: safe to try elsewhere. The request is again as
    /// it was, where it was taken from.
    #[error("request not sent: {0}")]
    Unsent(#[source] Error),
    /// It may have been processed. What is left of the request is of no use.
    #[error("request failed: {0}")]
    Failed(#[source] Error),
}

impl SendError {
    /// What went wrong.
    pub fn error(&self) -> &Error {
        match self {
            Self::Unsent(error) | Self::Failed(error) => error,
        }
    }

    /// What went wrong, by itself.
    pub fn into_error(self) -> Error {
        match self {
            Self::Unsent(error) | Self::Failed(error) => error,
        }
    }
}

/// Parameters of an HTTP/2 client connection. The windows are Linkerd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2ClientOptions {
    /// Receive window of each stream, in bytes.
    pub initial_stream_window_bytes: u32,
    /// Receive window of the connection, in bytes.
    pub initial_connection_window_bytes: u32,
    /// Grow the windows with the measured bandwidth-delay product.
    pub adaptive_windows: bool,
    /// Largest frame taken, in bytes.
    pub max_frame_bytes: u32,
    /// Most bytes of a response's head.
    pub header_bytes_max: u32,
    /// Bytes buffered per stream for writing.
    pub max_send_buffer_bytes: usize,
    /// Locally reset streams remembered. `None`: h2's own, 50.
    pub max_concurrent_reset_streams: Option<usize>,
    /// Pings that find a dead peer. `None`: no pings.
    pub keep_alive: Option<KeepAlive>,
    /// Send a copy of each request's head, so that one the peer refused is [`SendError::Unsent`].
    /// Costs about two allocations a request.
    pub recover_refused: bool,
    /// Believe a response that has [`UNSENT`]: its request is [`SendError::Unsent`], where its body
    /// is whole. For peers that are proxies of the mesh.
    pub heed_unsent: bool,
}

/// Marks a response by which a proxy says that nothing of the request reached its application, so
/// that it may be sent elsewhere. Never from or to an application.
pub const UNSENT: HeaderName = HeaderName::from_static("weft-unsent");

impl Default for Http2ClientOptions {
    fn default() -> Self {
        Self {
            initial_stream_window_bytes: 65_535,
            initial_connection_window_bytes: 1024 * 1024,
            adaptive_windows: false,
            max_frame_bytes: 16 * 1024,
            header_bytes_max: 64 * 1024,
            max_send_buffer_bytes: 64 * 1024,
            max_concurrent_reset_streams: None,
            keep_alive: None,
            recover_refused: true,
            heed_unsent: false,
        }
    }
}

impl Http2ClientOptions {
    /// These with what the control plane wants otherwise.
    #[must_use]
    pub fn with_params(mut self, params: &Http2Params) -> Self {
        if let Some(flow) = &params.flow_control {
            set(&mut self.initial_stream_window_bytes, flow.initial_stream_window_bytes);
            set(&mut self.initial_connection_window_bytes, flow.initial_connection_window_bytes);
            self.adaptive_windows = flow.adaptive;
        }
        if params.keep_alive.is_some() {
            self.keep_alive = params.keep_alive;
        }
        if let Some(internals) = &params.internals {
            set(&mut self.max_frame_bytes, internals.max_frame_bytes);
            if internals.max_send_buffer_bytes != 0 {
                self.max_send_buffer_bytes = internals.max_send_buffer_bytes as usize;
            }
            if internals.max_concurrent_reset_streams != 0 {
                self.max_concurrent_reset_streams =
                    Some(internals.max_concurrent_reset_streams as usize);
            }
        }
        self
    }
}

fn set(value: &mut u32, wanted: u32) {
    if wanted != 0 {
        *value = wanted;
    }
}

/// An HTTP/2 connection. Clones share it; it closes when the last is dropped and the last
/// response has ended.
#[derive(Clone)]
pub struct Http2Connection {
    sender: SendRequest<Bytes>,
    shared: Arc<Shared>,
}

/// What the clones of a connection share.
struct Shared {
    tasks: Arc<dyn Tasks>,
    streams: Arc<Streams>,
    /// The sender is dropped when the connection takes no more requests.
    closed: watch::Receiver<()>,
    /// Tells the connection's task that nobody is left, by being dropped.
    _user: oneshot::Sender<Infallible>,
    recover_refused: bool,
    heed_unsent: bool,
}

/// Opens an HTTP/2 connection over `io` and runs it in the background.
///
/// # Errors
/// [`Error`] where the preface could not be written.
pub async fn connect(
    runtime: &Runtime,
    io: BoxIo,
    options: &Http2ClientOptions,
) -> Result<Http2Connection, Error> {
    let read_bytes = Arc::<AtomicU64>::default();
    let io = Counted::new(io, read_bytes.clone(), Arc::default());
    let handshake = http2_builder(options).handshake::<_, Bytes>(io).await;
    let (sender, mut connection) = handshake.map_err(|error| Error::from_h2(&error))?;
    let windows = options.adaptive_windows.then_some(options.initial_stream_window_bytes);
    let pulse = connection.ping_pong().and_then(|pings| {
        Pulse::new(&runtime.clock, pings, options.keep_alive, windows, read_bytes)
    });
    let streams = Arc::new(Streams::new());
    let (open, closed) = watch::channel(());
    let (user, users) = oneshot::channel();
    let driver = Driver {
        connection,
        pulse,
        streams: streams.clone(),
        sender: Some(sender.clone()),
        users,
        open: Some(open),
    };
    runtime.spawn("http2 client connection", async move {
        if let Err(error) = driver.await {
            tracing::debug!(error = %Error::from_h2(&error), "HTTP/2 connection ended");
        }
    });
    let shared = Shared {
        tasks: runtime.tasks.clone(),
        streams,
        closed,
        _user: user,
        recover_refused: options.recover_refused,
        heed_unsent: options.heed_unsent,
    };
    Ok(Http2Connection { sender, shared: Arc::new(shared) })
}

fn http2_builder(options: &Http2ClientOptions) -> ::h2::client::Builder {
    let mut builder = ::h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(STREAMS_AT_FIRST)
        .initial_window_size(options.initial_stream_window_bytes)
        .initial_connection_window_size(options.initial_connection_window_bytes)
        .max_frame_size(options.max_frame_bytes.clamp(16_384, 16_777_215))
        .max_header_list_size(options.header_bytes_max)
        .max_send_buffer_size(options.max_send_buffer_bytes);
    if let Some(max) = options.max_concurrent_reset_streams {
        builder.max_concurrent_reset_streams(max);
    }
    builder
}

impl Http2Connection {
    /// Sends a request, now, where the peer allows another stream; the future waits for the head of
    /// its response. Dropping it resets the stream (CANCEL). The request's header has no fields that
    /// belong to one connection. The request stays where it is, as it may have to be sent elsewhere.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send<'r>(
        &self,
        request: &'r mut Request,
    ) -> impl Future<Output = Result<Response, SendError>> + Send + use<'r> {
        let begun = match self.shared.streams.try_enter() {
            Some(slot) => self.begin(request, slot),
            None => Begun::Waiting(Box::pin(enter(self.clone()))),
        };
        Sent { begun, request, shared: self.shared.clone() }
    }

    fn begin(&self, request: &mut Request, slot: Slot) -> Begun {
        let mut sender = self.sender.clone();
        // Never pending, as this sender has no stream of its own.
        let ready = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Err(error)) = ready {
            return Begun::Refused(SendError::Unsent(Error::from_h2(&error)));
        }
        let shared = &*self.shared;
        let mut head = ::http::Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        let body = std::mem::take(request.body_mut());
        let (body, loan) = if shared.recover_refused {
            *head.headers_mut() = request.headers().clone();
            let (body, loan) = body.lend();
            (body, Some(loan))
        } else {
            *head.headers_mut() = std::mem::take(request.headers_mut());
            (body, None)
        };
        match Exchange::begin(&mut sender, head, body, slot, &shared.tasks) {
            Ok(exchange) => Begun::Sent(exchange, loan),
            Err(error) => {
                let error = Error::from_h2(&error);
                Begun::Refused(failed(request.body_mut(), loan, error))
            }
        }
    }

    /// Whether a request sent now has a chance.
    pub fn is_ready(&self) -> bool {
        !self.is_closed()
    }

    /// Whether the connection takes no more requests. It may still bring responses.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.has_changed().is_err()
    }

    /// Completes once the connection takes no more requests.
    pub async fn closed(&self) {
        while self.shared.closed.clone().changed().await.is_ok() {}
    }
}

/// A request on its way, and its response.
struct Sent<'r> {
    begun: Begun,
    request: &'r mut Request,
    shared: Arc<Shared>,
}

/// How far a request has come.
#[allow(clippy::large_enum_variant)] // Nearly all are sent.
enum Begun {
    /// With what brings the body back.
    Sent(Exchange, Option<Loan>),
    /// As many streams are open as the peer allows.
    Waiting(BoxFuture<'static, Result<(Http2Connection, Slot), SendError>>),
    Refused(SendError),
    Over,
}

impl Future for Sent<'_> {
    type Output = Result<Response, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Begun::Waiting(waiting) = &mut this.begun {
            this.begun = match ready!(waiting.as_mut().poll(cx)) {
                Ok((connection, slot)) => connection.begin(this.request, slot),
                Err(error) => Begun::Refused(error),
            };
        }
        if let Begun::Sent(exchange, loan) = &mut this.begun {
            let answered = ready!(Pin::new(exchange).poll(cx));
            let loan = loan.take();
            this.begun = Begun::Over;
            return Poll::Ready(this.shared.ended(answered, this.request.body_mut(), loan));
        }
        Poll::Ready(Err(match std::mem::replace(&mut this.begun, Begun::Over) {
            Begun::Refused(error) => error,
            _ => SendError::Failed(Error::Canceled),
        }))
    }
}

/// Waits until the peer allows another stream.
async fn enter(connection: Http2Connection) -> Result<(Http2Connection, Slot), SendError> {
    match connection.shared.streams.enter().await {
        Ok(slot) => Ok((connection, slot)),
        Err(_) => Err(SendError::Unsent(Error::Closed)),
    }
}

impl Shared {
    /// What comes of a request, whose body is brought back where it may be sent elsewhere.
    fn ended(
        &self,
        answered: Result<Response, Error>,
        body: &mut Body,
        loan: Option<Loan>,
    ) -> Result<Response, SendError> {
        match answered {
            Ok(mut response) if self.heed_unsent && response.headers().contains_key(UNSENT) => {
                match bring_back(body, loan) {
                    true => Err(SendError::Unsent(Error::Unreachable)),
                    false => {
                        response.headers_mut().remove(UNSENT);
                        Ok(response)
                    }
                }
            }
            Ok(response) => Ok(response),
            Err(_) if self.streams.is_timed_out() => {
                Err(SendError::Failed(Error::Timeout("http/2 keep-alive")))
            }
            Err(error) => Err(failed(body, loan, error)),
        }
    }
}

/// What an error says of a request: nothing of it was sent where its peer saw nothing of it, and it is
/// whole.
fn failed(body: &mut Body, loan: Option<Loan>, error: Error) -> SendError {
    let is_unsent = error.is_unprocessed() || planted!("request-sent-again");
    match is_unsent && bring_back(body, loan) {
        true => SendError::Unsent(error),
        false => SendError::Failed(error),
    }
}

/// Whether a body is whole again.
fn bring_back(body: &mut Body, loan: Option<Loan>) -> bool {
    let back = loan.and_then(Loan::call_in);
    let is_whole = back.is_some();
    *body = back.unwrap_or_default();
    is_whole
}

impl fmt::Debug for Http2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Connection").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}
