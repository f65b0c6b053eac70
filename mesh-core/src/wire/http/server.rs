//! Serves one connection: HTTP/2 by hyper, HTTP/1 by `h1`.
//!
//! Law: a drain finishes what is in flight. HTTP/2 says GOAWAY, takes no further stream and ends
//! when the last one has.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::Method;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::h1;
use super::runtime::{Executor, Stream, Timer, Tunnel};
use super::{Body, Error, Reset, Response, Service, Upgraded};
use crate::model::protocol::{HttpVersion, KeepAlive};
use crate::runtime::{BoxFuture, BoxIo, Runtime};
use crate::wire::drain::DrainWatch;
use crate::wire::opaque;

/// The client's connection preface (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// Bounds of a served connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Most bytes of a request's head; beyond it 431 (HTTP/1) or a reset stream (HTTP/2).
    pub header_bytes_max: u32,
    /// How long a request's head (HTTP/1) or the connection's preface (HTTP/2) may take, counted
    /// from its first moment.
    pub header_timeout: Duration,
    /// How long an HTTP/1 connection may wait for its next request. `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// What concerns HTTP/2 alone.
    pub http2: Http2ServerOptions,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            header_bytes_max: 64 * 1024,
            header_timeout: Duration::from_secs(10),
            idle_timeout: None,
            http2: Http2ServerOptions::default(),
        }
    }
}

/// Parameters of a served HTTP/2 connection. The windows are Linkerd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2ServerOptions {
    /// Receive window of each stream, in bytes.
    pub initial_stream_window_bytes: u32,
    /// Receive window of the connection, in bytes.
    pub initial_connection_window_bytes: u32,
    /// Grow the windows with the measured bandwidth-delay product.
    pub adaptive_windows: bool,
    /// Streams open at once; a further one is refused (REFUSED_STREAM).
    pub max_concurrent_streams: u32,
    /// Largest frame taken, in bytes.
    pub max_frame_bytes: u32,
    /// Bytes buffered per stream for writing.
    pub max_send_buffer_bytes: usize,
    /// Streams that the peer reset before they were looked at, beyond which the connection ends.
    pub max_pending_reset_streams: usize,
    /// Pings that find a dead peer. `None`: no pings.
    pub keep_alive: Option<KeepAlive>,
}

impl Default for Http2ServerOptions {
    fn default() -> Self {
        Self {
            initial_stream_window_bytes: 65_535,
            initial_connection_window_bytes: 1024 * 1024,
            adaptive_windows: false,
            max_concurrent_streams: 10_000,
            max_frame_bytes: 16 * 1024,
            max_send_buffer_bytes: 64 * 1024,
            max_pending_reset_streams: 20,
            keep_alive: None,
        }
    }
}

/// Serves one connection until it ends or a drain has finished.
///
/// # Errors
/// What broke the connection; its peer going away between requests is none.
pub async fn serve(
    runtime: &Runtime,
    io: BoxIo,
    version: HttpVersion,
    options: &ServerOptions,
    service: Arc<dyn Service>,
    drain: DrainWatch,
) -> Result<(), Error> {
    match version {
        HttpVersion::Http1 => h1::server::serve(runtime, io, options, service, drain).await,
        // On the heap, lest every HTTP/1 connection be as large.
        HttpVersion::Http2 => Box::pin(serve_http2(runtime, io, options, service, drain)).await,
    }
}

async fn serve_http2(
    runtime: &Runtime,
    io: BoxIo,
    options: &ServerOptions,
    service: Arc<dyn Service>,
    drain: DrainWatch,
) -> Result<(), Error> {
    let deadline = runtime.now() + options.header_timeout;
    let preface_deadline = runtime.clock.sleep_until(deadline);
    let stream = Stream::with_first_bytes(io, PREFACE_BYTES, preface_deadline);
    let service = Http2Service { runtime: runtime.clone(), service };
    let connection = http2_builder(runtime, options).serve_connection(stream, service);
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        result = connection.as_mut() => return result.map_err(Error::from),
        () = drain.draining() => if !planted!("goaway-not-sent") {
            connection.as_mut().graceful_shutdown();
        },
    }
    connection.await.map_err(Error::from)
}

fn http2_builder(
    runtime: &Runtime,
    options: &ServerOptions,
) -> hyper::server::conn::http2::Builder<Executor> {
    let http2 = &options.http2;
    let mut builder = hyper::server::conn::http2::Builder::new(Executor {
        tasks: runtime.tasks.clone(),
        name: "http2 server stream",
    });
    builder
        .timer(Timer(runtime.clock.clone()))
        .auto_date_header(false)
        .initial_stream_window_size(http2.initial_stream_window_bytes)
        .initial_connection_window_size(http2.initial_connection_window_bytes)
        .max_concurrent_streams(http2.max_concurrent_streams)
        .max_frame_size(http2.max_frame_bytes.clamp(16_384, 16_777_215))
        .max_header_list_size(options.header_bytes_max)
        .max_pending_accept_reset_streams(http2.max_pending_reset_streams)
        .max_send_buf_size(http2.max_send_buffer_bytes);
    if http2.adaptive_windows {
        builder.adaptive_window(true);
    }
    if let Some(keep_alive) = &http2.keep_alive {
        builder.keep_alive_interval(keep_alive.interval);
        if let Some(timeout) = keep_alive.timeout {
            builder.keep_alive_timeout(timeout);
        }
    }
    builder
}

/// A [`Service`] as hyper wants it.
struct Http2Service {
    runtime: Runtime,
    service: Arc<dyn Service>,
}

impl hyper::service::Service<::http::Request<Incoming>> for Http2Service {
    type Response = Response;
    type Error = Error;
    type Future = Answer;

    fn call(&self, mut request: ::http::Request<Incoming>) -> Answer {
        let tunnel = (*request.method() == Method::CONNECT)
            .then(|| request.extensions_mut().remove::<OnUpgrade>())
            .flatten()
            .map(|upgrade| Box::new((self.runtime.clone(), upgrade)));
        Answer { response: self.service.call(request.map(Body::http2)), tunnel }
    }
}

/// A response on its way to hyper.
struct Answer {
    response: BoxFuture<'static, Response>,
    /// What is needed to join a CONNECT's stream with the upstream's.
    tunnel: Option<Box<(Runtime, OnUpgrade)>>,
}

impl Future for Answer {
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.response.as_mut().poll(cx));
        if let Some(reset) = response.extensions_mut().remove::<Reset>() {
            return Poll::Ready(Err(Error::Reset(reset)));
        }
        if let Some(tunnel) = self.tunnel.take()
            && response.status().is_success()
            && let Some(upstream) = response.extensions_mut().remove::<Upgraded>()
        {
            let (runtime, client) = *tunnel;
            runtime.spawn("http2 tunnel", join(client, upstream));
        }
        Poll::Ready(Ok(response))
    }
}

/// Joins a CONNECT's stream with the upstream's once hyper has sent the response's head.
async fn join(client: OnUpgrade, upstream: Upgraded) {
    let (Ok(client), Some(upstream)) = (client.await, upstream.take()) else {
        return;
    };
    if let Err(error) = opaque::copy_bidirectional(Box::new(Tunnel(client)), upstream, None).await {
        tracing::debug!(%error, "tunnel ended");
    }
}
