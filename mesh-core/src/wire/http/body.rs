//! A message's body, whatever it comes from: one type for both versions and both directions.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::Error;
use super::h1::Informational;
use super::h2::Received;
use super::loan::{self, Borrowed, Loan};

/// A body: data, then perhaps trailers. An error of it that is a reset makes the HTTP/2 stream
/// that it is sent on be reset with the same code.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    /// The way back for informational responses, where the request came by HTTP/1.1.
    informational: Option<Informational>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    /// A request's, of an HTTP/2 connection.
    Http2(Incoming),
    /// A response's, of an HTTP/2 connection.
    Received(Received),
    /// From anything else.
    Wrapped(Wrapped),
    /// Lent: who lent it may want it back.
    Lent(Borrowed),
}

type Wrapped = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Error> + Send>>;

impl Body {
    /// No data and no trailers.
    pub const fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    const fn of(kind: Kind) -> Self {
        Self { kind, informational: None }
    }

    /// Data already there.
    pub fn full(data: impl Into<Bytes>) -> Self {
        let data = data.into();
        if data.is_empty() { Self::empty() } else { Self::of(Kind::Full(data)) }
    }

    /// Any other body, on the heap.
    pub fn wrap(body: impl http_body::Body<Data = Bytes, Error = Error> + Send + 'static) -> Self {
        Self::of(Kind::Wrapped(Box::pin(body)))
    }

    /// Puts another body around this one, unless it has ended. The way back for informational
    /// responses stays.
    pub fn wrap_in<B>(&mut self, wrap: impl FnOnce(Self) -> B)
    where
        B: http_body::Body<Data = Bytes, Error = Error> + Send + 'static,
    {
        if !self.is_end_stream() {
            let informational = self.informational.take();
            let inner = std::mem::take(self);
            *self = Self { kind: Kind::Wrapped(Box::pin(wrap(inner))), informational };
        }
    }

    pub(super) fn http2(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::empty() } else { Self::of(Kind::Http2(incoming)) }
    }

    pub(super) const fn received(received: Received) -> Self {
        Self::of(Kind::Received(received))
    }

    /// The way back for informational responses to the request that this is the body of, where
    /// its client can take them.
    pub fn informational(&self) -> Option<&Informational> {
        self.informational.as_ref()
    }

    pub(super) fn with_informational(mut self, informational: Informational) -> Self {
        self.informational = Some(informational);
        self
    }

    /// All of the data, where it is at most `bytes_max`; trailers are dropped.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or as the body fails.
    pub async fn read_to_end(mut self, bytes_max: usize) -> Result<Bytes, Error> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            if first.len() + all.len() + data.len() > bytes_max {
                return Err(Error::TooLarge("body"));
            }
            if first.is_empty() && all.is_empty() {
                first = data;
                continue;
            }
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    pub(super) fn take_informational(&mut self) -> Option<Informational> {
        self.informational.take()
    }

    /// Splits off what can bring this body back where it is small, or nobody has read from it.
    pub(super) fn lend(self) -> (Self, Loan) {
        self.lend_up_to(loan::KEPT_BYTES_MAX)
    }

    /// Splits off what can bring this body back whole, where no more than `bytes_max` of it was read
    /// until then.
    pub fn lend_whole(self, bytes_max: usize) -> (Self, Replay) {
        let (body, loan) = self.lend_up_to(bytes_max);
        (body, Replay(loan))
    }

    /// The next frame; none at its end.
    pub async fn next_frame(&mut self) -> Option<Result<Frame<Bytes>, Error>> {
        self.frame().await
    }

    /// This body as it was before a frame of it was read.
    pub fn after(self, frame: Result<Frame<Bytes>, Error>) -> Self {
        Self::wrap(After { frame: Some(frame), rest: self })
    }

    fn lend_up_to(self, bytes_max: usize) -> (Self, Loan) {
        let informational = self.informational;
        let whole = |kind| Self { kind, informational };
        match self.kind {
            Kind::Empty => (Self::empty(), Loan::Copy(whole(Kind::Empty))),
            Kind::Full(data) => (Self::full(data.clone()), Loan::Copy(whole(Kind::Full(data)))),
            kind => {
                let (borrowed, lender) = loan::lend(whole(kind), bytes_max);
                (Self::of(Kind::Lent(borrowed)), Loan::Shared(lender))
            }
        }
    }
}

/// What brings a body back that was lent whole.
pub struct Replay(Loan);

impl Replay {
    /// The body as it was; `None` where too much of it has been read.
    pub fn call_in(self) -> Option<Body> {
        self.0.call_in()
    }
}

/// A body and a frame before it.
struct After {
    frame: Option<Result<Frame<Bytes>, Error>>,
    rest: Body,
}

impl http_body::Body for After {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.frame.take() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frame.is_none() && self.rest.is_end_stream()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(data) => {
                let data = std::mem::take(data);
                self.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Kind::Http2(incoming) => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
            Kind::Received(received) => Pin::new(received).poll_frame(cx),
            Kind::Wrapped(body) => body.as_mut().poll_frame(cx),
            Kind::Lent(borrowed) => {
                let (frame, own) = ready!(borrowed.poll_frame(cx));
                if let Some(own) = own {
                    *self = own;
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(data) => data.is_empty(),
            Kind::Http2(incoming) => incoming.is_end_stream(),
            Kind::Received(received) => received.is_end_stream(),
            Kind::Wrapped(body) => body.is_end_stream(),
            Kind::Lent(borrowed) => borrowed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(data) => SizeHint::with_exact(data.len() as u64),
            Kind::Http2(incoming) => incoming.size_hint(),
            Kind::Received(received) => received.size_hint(),
            Kind::Wrapped(body) => body.size_hint(),
            Kind::Lent(borrowed) => borrowed.size_hint(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(data: Bytes) -> Self {
        Self::full(data)
    }
}

impl From<&'static str> for Body {
    fn from(data: &'static str) -> Self {
        Self::full(data)
    }
}

impl From<String> for Body {
    fn from(data: String) -> Self {
        Self::full(data)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Empty => "Body(empty)",
            Kind::Full(_) => "Body(full)",
            Kind::Http2(_) | Kind::Received(_) => "Body(http/2)",
            Kind::Wrapped(_) => "Body(stream)",
            Kind::Lent(_) => "Body(lent)",
        })
    }
}

const _: () = assert!(size_of::<Body>() <= 56);
