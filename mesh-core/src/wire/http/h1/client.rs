//! One HTTP/1 connection as a client: a request out, its response in. Pools and balancing are its
//! users' business.
//!
//! No task is started but in one rare case: the response ended before the request's body was sent
//! and the connection may live on. Otherwise [`Connection::send`], and then the response's body,
//! carry both directions whenever they are polled.
//!
//! Law: a request is said to be [`SendError::Unsent`] only where sending it elsewhere cannot do
//! anything twice. That is where
//! - no byte of it was written and nothing was taken from its body, or
//! - the connection had carried a request before, its peer closed or reset it without one byte of
//!   a response, nothing was taken from the request's body (or it has none), and its method is
//!   idempotent (RFC 9110, section 9.2.2). Peers close idle connections at any time, so this
//!   happens without anybody's fault.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::header::EXPECT;
use http::{Method, StatusCode, Version};
use http_body::Body as _;

use super::codec::{
    BodyDecoder, ConnectionField, Framing, HEAD_BYTES_MAX, HeadDecoder, Refusal, ResponseHead,
    request_head,
};
use super::error::Fault;
use super::intake::{INFORMATIONAL_MAX, Informational};
use super::response::ResponseBody;
use super::transport::Transport;
use super::upload::{Upload, UploadError};
use crate::runtime::{BoxIo, Clock, Runtime, Tasks};
use crate::wire::http::hop_by_hop::{connection_names, is_upgrade};
use crate::wire::http::{Body, Error, Request, Response, SendError, Upgraded};
use crate::wire::rewind::rewind;

/// How long to wait for `100 Continue` before the body is sent without it (RFC 9110, section
/// 10.1.1: a client need not wait for ever, as the server may not know of it).
pub const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Takes back a connection that can carry another request.
pub trait Recycle: Send + Sync + 'static {
    /// Called once for each request after which the connection can be used again: when both its
    /// response and its body have ended.
    fn recycle(&self, connection: Connection);
}

impl<F: Fn(Connection) + Send + Sync + 'static> Recycle for F {
    fn recycle(&self, connection: Connection) {
        self(connection);
    }
}

/// An idle HTTP/1 connection. Holds no buffers. Dropping it closes it.
pub struct Connection(pub(super) Box<Link>);

/// A connection, idle or not.
pub(super) struct Link {
    pub(super) transport: Transport,
    /// It has carried a request before.
    reused: bool,
    /// Bytes of a response's head at most.
    head_bytes_max: usize,
    clock: Arc<dyn Clock>,
    pub(super) tasks: Arc<dyn Tasks>,
}

impl Connection {
    /// A connection over an open stream, on which nothing was sent yet.
    pub fn new(runtime: &Runtime, io: BoxIo) -> Self {
        Self(Box::new(Link {
            transport: Transport::new(io),
            reused: false,
            head_bytes_max: HEAD_BYTES_MAX,
            clock: runtime.clock.clone(),
            tasks: runtime.tasks.clone(),
        }))
    }

    /// With another bound on the bytes of a response's head.
    #[must_use]
    pub fn with_head_bytes_max(mut self, head_bytes_max: usize) -> Self {
        self.0.head_bytes_max = head_bytes_max;
        self
    }

    /// Whether it has carried a request before.
    pub fn is_reused(&self) -> bool {
        self.0.reused
    }

    /// Looks, without waiting, whether the peer has closed the connection, or has sent what nobody
    /// asked for; then it is of no more use.
    pub fn is_alive(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.poll_closed(&mut cx).is_pending()
    }

    /// Completes when [`Self::is_alive`] would turn false.
    pub async fn closed(&mut self) {
        poll_fn(|cx| self.poll_closed(cx)).await;
    }

    /// [`Self::closed`], to be polled.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let transport = &mut self.0.transport;
        if !transport.input.is_empty() {
            return Poll::Ready(());
        }
        transport.poll_fill(cx).map(|_| ())
    }

    /// Sends a request and waits for the head of its response. What is left of the request's body
    /// goes out while the response's is read; dropping either closes the connection, as does an
    /// error. `recycle` gets the connection back when both have ended, possibly before this returns.
    ///
    /// The target is written in the form that the request's URI has: absolute where it has a
    /// scheme; that of an HTTP/2 request becomes a path and, where missing, `Host`. Framing fields and `Connection` are written anew: `close` where the request has it,
    /// `upgrade` where it offers one. With `Expect: 100-continue` the body is not asked for before
    /// the server wants it (by 100 or by a 2xx) or [`CONTINUE_TIMEOUT`] has passed; where another
    /// response is over before that, the connection is closed.
    ///
    /// A response that leaves HTTP (101, or 2xx to CONNECT) has the raw stream as [`Upgraded`].
    /// Informational responses but 100 and 101 go to the [`Informational`] of the request's body.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(
        mut self,
        request: &mut Request,
        recycle: Option<Arc<dyn Recycle>>,
    ) -> Result<Response, SendError> {
        if !self.is_alive() {
            return Err(SendError::Unsent(Error::Closed));
        }
        let mut exchange = Exchange::begin(self.0, request);
        let method = request.method();
        let received = poll_fn(|cx| exchange.poll_head(cx, method)).await;
        match received {
            Ok(head) => exchange.respond(request, head, recycle).map_err(SendError::Failed),
            Err(error) if exchange.is_unsent(method, &error) => {
                *request.body_mut() = exchange.upload.into_body();
                Err(SendError::Unsent(error))
            }
            Err(error) => Err(SendError::Failed(error)),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("reused", &self.0.reused).finish_non_exhaustive()
    }
}

/// A request under way whose response has not begun.
struct Exchange {
    link: Box<Link>,
    upload: Upload,
    decoder: HeadDecoder,
    /// The request does not keep the connection from being used again.
    keep_alive: bool,
    /// The way back for informational responses.
    informational: Option<Informational>,
    informational_left: u8,
    /// Some byte of a response came.
    answered: bool,
    /// The peer closed or reset the connection.
    closed: bool,
}

impl Exchange {
    /// Takes the body and leaves the head.
    fn begin(mut link: Box<Link>, request: &mut Request) -> Self {
        let body = std::mem::take(request.body_mut());
        let (version, headers) = (request.version(), request.headers());
        let framing = Framing::to_send_request(request.method(), headers, body.size_hint().exact());
        let close = connection_names(headers, "close");
        let connection = if version != Version::HTTP_10 && is_upgrade(headers) {
            ConnectionField::Upgrade
        } else if close {
            ConnectionField::Close
        } else {
            ConnectionField::Absent
        };
        request_head(request, framing, connection, link.transport.out());
        let informational = body.informational().cloned();
        let clock = &link.clock;
        let patience =
            expects_continue(request).then(|| clock.sleep_until(clock.now() + CONTINUE_TIMEOUT));
        let upload = Upload::new(framing, body, patience);
        Self {
            informational,
            decoder: HeadDecoder::new(link.head_bytes_max),
            link,
            upload,
            keep_alive: version != Version::HTTP_10 && !close,
            informational_left: INFORMATIONAL_MAX,
            answered: false,
            closed: false,
        }
    }

    /// Sends, and reads until the final head is there.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<ResponseHead, Error>> {
        loop {
            match self.upload.poll(cx, &mut self.link.transport) {
                // The peer may have answered before it stopped reading.
                Poll::Ready(Err(UploadError::Write) | Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(UploadError::Body(error))) => return Poll::Ready(Err(error)),
            }
            let head = ready!(self.poll_any_head(cx, method))?;
            let status = head.parts.status;
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                // It answers as it reads: each would wait for the other's body. Asked for now, so
                // that the client may still be told to continue. After any other head, patience
                // may still run out before the response has ended.
                if status.is_success() && self.upload.is_held() {
                    self.upload.release();
                    if let Poll::Ready(Err(UploadError::Body(error))) =
                        self.upload.poll(cx, &mut self.link.transport)
                    {
                        return Poll::Ready(Err(error));
                    }
                }
                return Poll::Ready(Ok(head));
            }
            self.informational_left =
                self.informational_left.checked_sub(1).ok_or(Refusal::TooManyInformational)?;
            if status == StatusCode::CONTINUE {
                self.upload.release();
            } else if let Some(informational) = &self.informational {
                informational.send(&head.parts);
            }
            self.decoder = HeadDecoder::new(self.link.head_bytes_max);
        }
    }

    fn poll_any_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<ResponseHead, Error>> {
        loop {
            let input = &mut self.link.transport.input;
            if !input.is_empty() {
                self.answered = true;
                if let Some(head) = self.decoder.response(input, method)? {
                    return Poll::Ready(Ok(head));
                }
            }
            match ready!(self.link.transport.poll_fill(cx)) {
                Ok(0) => {
                    self.closed = true;
                    let written = self.upload.take_write_error().map(Error::from);
                    return Poll::Ready(Err(written.unwrap_or(Error::Closed)));
                }
                Ok(_) => {}
                Err(error) => {
                    self.closed = is_close(&error);
                    return Poll::Ready(Err(Fault::from(error).into()));
                }
            }
        }
    }

    /// The rule at the top of this file.
    fn is_unsent(&self, method: &Method, error: &Error) -> bool {
        let broken = matches!(error, Error::Io(_) | Error::Closed);
        broken
            && self.upload.is_untouched()
            && (!self.link.transport.has_written()
                || (self.link.reused && self.closed && !self.answered && method.is_idempotent()))
    }

    /// The response to hand out.
    fn respond(
        self,
        request: &Request,
        head: ResponseHead,
        recycle: Option<Arc<dyn Recycle>>,
    ) -> Result<Response, Error> {
        let mut parts = head.parts;
        let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        if switching && !is_upgrade(request.headers()) {
            return Err(Error::Invalid("101 to a request without upgrade".into()));
        }
        if switching || (*request.method() == Method::CONNECT && parts.status.is_success()) {
            let (io, ahead) = self.link.transport.into_parts();
            parts.extensions.insert(Upgraded::new(rewind(ahead, io)));
            return Ok(Response::from_parts(parts, Body::empty()));
        }
        let keep_alive = self.keep_alive && head.keep_alive && !self.upload.is_held();
        let body = ResponseBody::new(
            self.link,
            self.upload,
            BodyDecoder::new(head.framing),
            keep_alive,
            recycle,
        );
        Ok(Response::from_parts(parts, body.into_body()))
    }
}

impl Link {
    /// As it is between two requests.
    pub(super) fn into_idle(mut self: Box<Self>) -> Connection {
        self.reused = true;
        self.transport.next_message();
        Connection(self)
    }
}

fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotConnected
    )
}

fn expects_continue(request: &Request) -> bool {
    request.version() != Version::HTTP_10
        && request
            .headers()
            .get_all(EXPECT)
            .iter()
            .any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
