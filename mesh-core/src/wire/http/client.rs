//! One HTTP/2 connection as a client, shared by any number of requests. Pools and balancing are
//! its users' business; HTTP/1 connections are in `h1`.
//!
//! Law: a request comes back as [`SendError::Unsent`] only where the peer's application surely
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
use ::http::{Extensions, HeaderName};
use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::h2::{Driver, Exchange, Pulse, STREAMS_AT_FIRST, Slot, Streams};
use super::loan::Loan;
use super::{Error, Request, Response};
use crate::model::protocol::{Http2Params, KeepAlive};
use crate::runtime::{BoxFuture, BoxIo, Runtime, Tasks};
use crate::wire::counted::Counted;

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
#[allow(clippy::large_enum_variant)] // It carries the request back, and lives briefly.
pub enum SendError {
    /// Nothing of it reached the peer's application: safe to try elsewhere.
    #[error("request not sent: {error}")]
    Unsent {
        /// The request as it was given.
        request: Request,
        /// What went wrong.
        #[source]
        error: Error,
    },
    /// It may have been processed.
    #[error("request failed: {0}")]
    Failed(#[source] Error),
}

impl SendError {
    /// What went wrong.
    pub fn error(&self) -> &Error {
        match self {
            Self::Unsent { error, .. } | Self::Failed(error) => error,
        }
    }

    /// What went wrong, without the request.
    pub fn into_error(self) -> Error {
        match self {
            Self::Unsent { error, .. } | Self::Failed(error) => error,
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
    /// Keep a copy of each request's head, so that one the peer refused comes back as
    /// [`SendError::Unsent`]. Costs about two allocations a request.
    pub recover_refused: bool,
    /// Believe a response that has [`UNSENT`]: its request comes back as [`SendError::Unsent`],
    /// where its body is whole. For peers that are proxies of the mesh.
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
    /// belong to one connection.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Response, SendError>> + Send + use<> {
        let begun = match self.shared.streams.try_enter() {
            Some(slot) => self.begin(request, slot),
            None => Begun::Waiting(Box::pin(enter(self.clone(), request))),
        };
        Sent { begun, shared: self.shared.clone() }
    }

    fn begin(&self, mut request: Request, slot: Slot) -> Begun {
        let mut sender = self.sender.clone();
        // Never pending, as this sender has no stream of its own.
        let ready = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Err(error)) = ready {
            let error = Error::from_h2(&error);
            return Begun::Refused(Box::new(SendError::Unsent { request, error }));
        }
        // h2 has no use for the extensions; they stay here lest the request comes back.
        let extensions = std::mem::take(request.extensions_mut());
        let (request, spare) = Spare::split(request, extensions, self.shared.recover_refused);
        let (head, body) = request.into_parts();
        match Exchange::begin(&mut sender, head, body, slot, &self.shared.tasks) {
            Ok(exchange) => Begun::Sent(exchange, spare),
            Err(error) => Begun::Refused(Box::new(spare.error(Error::from_h2(&error)))),
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
struct Sent {
    begun: Begun,
    shared: Arc<Shared>,
}

/// How far a request has come.
#[allow(clippy::large_enum_variant)] // Nearly all are sent.
enum Begun {
    Sent(Exchange, Spare),
    /// As many streams are open as the peer allows.
    Waiting(BoxFuture<'static, Begun>),
    Refused(Box<SendError>),
    Over,
}

impl Future for Sent {
    type Output = Result<Response, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Begun::Waiting(waiting) = &mut self.begun {
            self.begun = ready!(waiting.as_mut().poll(cx));
        }
        let result = match &mut self.begun {
            Begun::Sent(exchange, _) => ready!(Pin::new(exchange).poll(cx)),
            _ => Err(Error::Canceled),
        };
        Poll::Ready(match std::mem::replace(&mut self.begun, Begun::Over) {
            Begun::Sent(_, spare) => self.shared.ended(result, spare),
            Begun::Refused(error) => Err(*error),
            Begun::Waiting(_) | Begun::Over => Err(SendError::Failed(Error::Canceled)),
        })
    }
}

/// Waits until the peer allows another stream.
async fn enter(connection: Http2Connection, request: Request) -> Begun {
    match connection.shared.streams.enter().await {
        Ok(slot) => connection.begin(request, slot),
        Err(_) => Begun::Refused(Box::new(SendError::Unsent { request, error: Error::Closed })),
    }
}

impl Shared {
    fn ended(&self, result: Result<Response, Error>, spare: Spare) -> Result<Response, SendError> {
        match result {
            Ok(response) if self.heed_unsent && response.headers().contains_key(UNSENT) => {
                spare.unsent_or(response)
            }
            Ok(response) => Ok(response),
            Err(_) if self.streams.is_timed_out() => {
                Err(SendError::Failed(Error::Timeout("http/2 keep-alive")))
            }
            Err(error) => Err(spare.error(error)),
        }
    }
}

impl fmt::Debug for Http2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Connection").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// What brings a request back.
struct Spare {
    extensions: Extensions,
    /// The head where it is kept, and the body.
    rest: Option<(::http::request::Parts, Loan)>,
}

impl Spare {
    fn split(request: Request, extensions: Extensions, keep: bool) -> (Request, Self) {
        if !keep {
            return (request, Self { extensions, rest: None });
        }
        let (head, body) = request.into_parts();
        let (body, loan) = body.lend();
        let rest = Some((head.clone(), loan));
        (Request::from_parts(head, body), Self { extensions, rest })
    }

    /// The request where it is whole, else the response that says it was not sent.
    fn unsent_or(self, mut response: Response) -> Result<Response, SendError> {
        response.headers_mut().remove(UNSENT);
        let request = self
            .rest
            .and_then(|(head, loan)| loan.call_in().map(|body| Request::from_parts(head, body)));
        let Some(mut request) = request else {
            return Ok(response);
        };
        *request.extensions_mut() = self.extensions;
        let error = Error::Unreachable;
        Err(SendError::Unsent { request, error })
    }

    /// The request where it is whole and the peer saw nothing of it.
    fn error(self, error: Error) -> SendError {
        let is_unsent = error.is_unprocessed() || planted!("request-sent-again");
        let request = self
            .rest
            .filter(|_| is_unsent)
            .and_then(|(head, loan)| Some(Request::from_parts(head, loan.call_in()?)));
        match request {
            Some(mut request) => {
                *request.extensions_mut() = self.extensions;
                SendError::Unsent { request, error }
            }
            None => SendError::Failed(error),
        }
    }
}
