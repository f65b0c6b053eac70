//! What a served connection's task and the current request's body share: the stream, and how far
//! the request has been read.
//!
//! The task writes; the body reads, on whatever task it is polled. While the body is not waiting to
//! read, the connection's task reads ahead a little, to learn of a client that went away.
//!
//! Law: a body reads nothing beyond its own request, and nothing once the connection has gone on
//! to the next one. The lock is never held while anything else is polled than the stream.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::codec::{BodyDecoder, Decoded, Framing, informational_head};
use super::error::Fault;
use super::transport::Transport;
use crate::runtime::BoxIo;
use crate::wire::http::{Body, Error};

/// Informational responses passed on for one request at most.
pub const INFORMATIONAL_MAX: u8 = 16;

/// Beyond this much unread input, nothing more is read ahead.
const READ_AHEAD_BYTES: usize = 8 * 1024;

/// How far the request has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// To its end.
    Ended,
    /// Its body is being read by whoever has it.
    Lent,
    /// Its body was dropped before its end.
    Dropped,
    /// No further: the connection is of no more use for reading.
    Failed(Fault),
}

/// The shared half of a served connection.
pub(super) struct Shared(Mutex<State>);

pub(super) struct State {
    /// `None` once the connection is over, or has left HTTP.
    transport: Option<Transport>,
    /// Counts requests, so that a body that outlives its request is known.
    exchange: u64,
    decoder: BodyDecoder,
    pub(super) intake: Intake,
    /// Bytes of data of the current request's body read so far.
    received: u64,
    /// The client waits for `100 Continue` and has not got it.
    pub(super) continue_due: bool,
    /// The final response's head is queued: nothing may come before it any more.
    pub(super) head_sent: bool,
    informational_left: u8,
    /// The connection's task.
    server: Option<Waker>,
    /// Who waits for more of the body.
    reader: Option<Waker>,
}

impl Shared {
    pub(super) fn new(io: BoxIo) -> Self {
        Self(Mutex::new(State {
            transport: Some(Transport::new(io)),
            exchange: 0,
            decoder: BodyDecoder::new(Framing::None),
            intake: Intake::Ended,
            received: 0,
            continue_due: false,
            head_sent: false,
            informational_left: 0,
            server: None,
            reader: None,
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request: its body, and the way for informational responses to it.
    pub(super) fn begin(
        self: &Arc<Self>,
        framing: Framing,
        expects_continue: bool,
    ) -> (Body, Informational) {
        let mut state = self.lock();
        state.exchange += 1;
        state.decoder = BodyDecoder::new(framing);
        state.received = 0;
        state.reader = None;
        state.continue_due = expects_continue;
        state.head_sent = false;
        state.informational_left = INFORMATIONAL_MAX;
        let exchange = state.exchange;
        let body = if state.decoder.is_end() {
            state.intake = Intake::Ended;
            Body::empty()
        } else {
            state.intake = Intake::Lent;
            Body::wrap(RequestBody { shared: self.clone(), exchange, ended: false })
        };
        let informational = Informational { shared: self.clone(), exchange };
        (body, informational)
    }

    /// Takes the stream away, for what comes after HTTP or to close it. A body still read fails.
    pub(super) fn take_transport(&self) -> Option<Transport> {
        let mut state = self.lock();
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        state.transport.take()
    }
}

impl State {
    /// The stream, as the connection's task sees it.
    ///
    /// # Errors
    /// [`Fault::Closed`] where it was taken away.
    pub(super) fn transport(&mut self) -> Result<&mut Transport, Fault> {
        self.transport.as_mut().ok_or(Fault::Closed)
    }

    /// Bytes of data of the current request's body read so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// What the connection's task does while it waits for somebody else: writes what is queued,
    /// notices a failed body, and reads ahead where nobody else is waiting to read. Completes only
    /// with what makes waiting senseless; a client that sends no more may still want its response.
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        remember(&mut self.server, cx);
        if let Intake::Failed(fault) = self.intake {
            return Poll::Ready(fault);
        }
        let may_read = match self.intake {
            Intake::Ended | Intake::Dropped => true,
            Intake::Lent => self.reader.is_none(),
            Intake::Failed(_) => false,
        };
        let transport = match self.transport() {
            Ok(transport) => transport,
            Err(fault) => return Poll::Ready(fault),
        };
        if !transport.is_written()
            && let Poll::Ready(Err(error)) = transport.poll_flush(cx)
        {
            return Poll::Ready(error.into());
        }
        while may_read && !transport.read_closed && transport.input.len() < READ_AHEAD_BYTES {
            if let Err(error) = ready!(transport.poll_fill(cx)) {
                return Poll::Ready(error.into());
            }
        }
        Poll::Pending
    }

    /// Completes when nobody reads the request's body any more.
    pub(super) fn poll_intake(&mut self, cx: &mut Context<'_>) -> Poll<Intake> {
        if self.intake == Intake::Lent {
            remember(&mut self.server, cx);
            return Poll::Pending;
        }
        Poll::Ready(self.intake)
    }

    /// The next part of the body, for the connection's task (when nobody else reads) or the body.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        loop {
            let Some(transport) = self.transport.as_mut() else {
                return Poll::Ready(Some(Err(Fault::Closed)));
            };
            let frame = match self.decoder.decode(&mut transport.input) {
                Ok(Decoded::More) => match ready!(transport.poll_fill(cx)) {
                    Ok(0) => return self.fail(Fault::Closed),
                    Ok(_) => continue,
                    Err(error) => return self.fail(error.into()),
                },
                Ok(Decoded::Data(data)) => {
                    self.received += data.len() as u64;
                    Some(Frame::data(data))
                }
                Ok(Decoded::Trailers(trailers)) => Some(Frame::trailers(trailers)),
                Ok(Decoded::End) => None,
                Err(refusal) => return self.fail(refusal.into()),
            };
            if self.decoder.is_end() {
                self.intake = Intake::Ended;
                self.wake_server();
            }
            return Poll::Ready(frame.map(Ok));
        }
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.intake = Intake::Failed(fault);
        self.wake_server();
        Poll::Ready(Some(Err(fault)))
    }

    /// Tells a client that waits for it to send its body, once.
    fn send_continue(&mut self) {
        if !self.continue_due || self.head_sent {
            return;
        }
        self.continue_due = false;
        if let Some(transport) = &mut self.transport {
            transport.out().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.wake_server();
        }
    }

    fn wake_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.wake();
        }
    }
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

/// The body of a request that is being served. Reads the connection when polled.
struct RequestBody {
    shared: Arc<Shared>,
    exchange: u64,
    /// Its end was yielded.
    ended: bool,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let mut state = this.shared.lock();
        if state.exchange != this.exchange || state.transport.is_none() {
            return Poll::Ready(Some(Err(Error::Canceled)));
        }
        if let Intake::Failed(fault) = state.intake {
            return Poll::Ready(Some(Err(fault.into())));
        }
        state.send_continue();
        match state.poll_body(cx) {
            Poll::Pending => {
                remember(&mut state.reader, cx);
                Poll::Pending
            }
            Poll::Ready(frame) => {
                state.reader = None;
                this.ended = state.decoder.is_end();
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended {
            return SizeHint::with_exact(0);
        }
        let state = self.shared.lock();
        match state.decoder.bytes_left() {
            Some(left) if state.exchange == self.exchange => SizeHint::with_exact(left),
            _ => SizeHint::new(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.shared.lock();
        if state.exchange == self.exchange && state.intake == Intake::Lent {
            state.intake = Intake::Dropped;
            state.reader = None;
            state.wake_server();
        }
    }
}

/// Passes informational (1xx) responses on to the client that is being served. With the body of
/// each HTTP/1.1 request; a client connection that carries the request out hands every 1xx but 100
/// and 101 to it. At most [`INFORMATIONAL_MAX`] for one request, and none after the final head.
#[derive(Clone)]
pub struct Informational {
    shared: Arc<Shared>,
    exchange: u64,
}

impl Informational {
    /// Sends one on; tells whether it will be sent.
    pub fn send(&self, parts: &http::response::Parts) -> bool {
        let mut state = self.shared.lock();
        if state.exchange != self.exchange
            || state.head_sent
            || state.informational_left == 0
            || !parts.status.is_informational()
        {
            return false;
        }
        let Some(transport) = &mut state.transport else {
            return false;
        };
        informational_head(parts, transport.out());
        state.informational_left -= 1;
        state.wake_server();
        true
    }
}

impl std::fmt::Debug for Informational {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Informational")
    }
}
