//! One HTTP/2 connection as a client, shared by any number of requests. Pools and balancing are
//! its users' business; HTTP/1 connections are in `h1`.
//!
//! Law: a request comes back as [`SendError::Unsent`] only where the peer's application surely
//! saw nothing of it: it is safe to send it elsewhere, whatever its method.
//!
//! Requests beyond the peer's limit of concurrent streams wait inside hyper, without a bound of its
//! own: callers bound what is in flight.

use std::fmt;
use std::future::Future;

use ::http::{Extensions, HeaderName, Method, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::watch;

use super::loan::Loan;
use super::runtime::{Executor, Stream, Timer, Tunnel};
use super::{Body, Error, Request, Response, Upgraded};
use crate::model::protocol::{Http2Params, KeepAlive};
use crate::runtime::{BoxIo, Runtime};

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
    sender: SendRequest<Body>,
    /// The sender is dropped with the connection's task.
    closed: watch::Receiver<()>,
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
    let builder = http2_builder(runtime, options);
    let (sender, connection) = builder.handshake::<_, Body>(Stream::new(io)).await?;
    let (open, closed) = watch::channel(());
    runtime.spawn("http2 client connection", async move {
        let _open = open;
        if let Err(error) = connection.await {
            tracing::debug!(error = %Error::from(error), "HTTP/2 connection ended");
        }
    });
    Ok(Http2Connection {
        sender,
        closed,
        recover_refused: options.recover_refused,
        heed_unsent: options.heed_unsent,
    })
}

fn http2_builder(
    runtime: &Runtime,
    options: &Http2ClientOptions,
) -> hyper::client::conn::http2::Builder<Executor> {
    let mut builder = hyper::client::conn::http2::Builder::new(Executor {
        tasks: runtime.tasks.clone(),
        name: "http2 client",
    });
    builder
        .timer(Timer(runtime.clock.clone()))
        .initial_stream_window_size(options.initial_stream_window_bytes)
        .initial_connection_window_size(options.initial_connection_window_bytes)
        .max_frame_size(options.max_frame_bytes.clamp(16_384, 16_777_215))
        .max_header_list_size(options.header_bytes_max)
        .max_send_buf_size(options.max_send_buffer_bytes);
    if options.adaptive_windows {
        builder.adaptive_window(true);
    }
    if let Some(max) = options.max_concurrent_reset_streams {
        builder.max_concurrent_reset_streams(max);
    }
    if let Some(keep_alive) = &options.keep_alive {
        builder
            .keep_alive_interval(keep_alive.interval)
            .keep_alive_while_idle(keep_alive.while_idle);
        if let Some(timeout) = keep_alive.timeout {
            builder.keep_alive_timeout(timeout);
        }
    }
    builder
}

impl Http2Connection {
    /// Sends a request, now; the future waits for the head of its response. Dropping it resets the
    /// stream (CANCEL).
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(
        &self,
        mut request: Request,
    ) -> impl Future<Output = Result<Response, SendError>> + Send + use<> {
        // hyper has no use for the extensions; they stay here lest the request comes back.
        let extensions = std::mem::take(request.extensions_mut());
        let connect = *request.method() == Method::CONNECT;
        let (request, spare) = Spare::split(request, extensions, self.recover_refused);
        let response = self.sender.clone().try_send_request(request);
        let heed_unsent = self.heed_unsent;
        async move {
            match response.await {
                Ok(response) if connect => Ok(Box::pin(with_tunnel(response)).await),
                Ok(response) if heed_unsent && response.headers().contains_key(UNSENT) => {
                    spare.unsent_or(response.map(Body::http2))
                }
                Ok(response) => Ok(response.map(Body::http2)),
                Err(mut failure) => {
                    let unsent = failure.take_message();
                    Err(spare.error(unsent, failure.into_error().into()))
                }
            }
        }
    }

    /// Whether a request sent now has a chance.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether the connection takes no more requests. It may still bring responses.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.closed.has_changed().is_err()
    }

    /// Completes once the connection takes no more requests.
    pub async fn closed(&self) {
        while self.closed.clone().changed().await.is_ok() {}
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

    /// `unsent`: the request, where hyper still had it.
    fn error(self, unsent: Option<Request>, error: Error) -> SendError {
        let request = match (unsent, self.rest) {
            (Some(request), None) => Some(request),
            (Some(request), Some((_, loan))) => {
                let (head, _) = request.into_parts();
                loan.call_in().map(|body| Request::from_parts(head, body))
            }
            (None, Some((head, loan)))
                if error.is_unprocessed() || planted!("request-sent-again") =>
            {
                loan.call_in().map(|body| Request::from_parts(head, body))
            }
            (None, _) => None,
        };
        match request {
            Some(mut request) => {
                *request.extensions_mut() = self.extensions;
                SendError::Unsent { request, error }
            }
            None => SendError::Failed(error),
        }
    }
}

/// Makes the stream behind a successful CONNECT available as [`Upgraded`].
async fn with_tunnel(mut response: ::http::Response<Incoming>) -> Response {
    if response.status() == StatusCode::OK
        && let Ok(upgraded) = hyper::upgrade::on(&mut response).await
    {
        let tunnel = Upgraded::new(Box::new(Tunnel(upgraded)));
        response.extensions_mut().insert(tunnel);
    }
    response.map(Body::http2)
}
