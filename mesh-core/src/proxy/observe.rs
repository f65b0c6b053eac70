//! A response body that tells how it went: its first data, each frame, and its end, once, whether
//! it ended, failed, ran out of time or was dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::runtime::Clock;
use crate::runtime::clock::BoxSleep;
use crate::telemetry::metrics::StreamError;
use crate::time::Timestamp;
use crate::traffic::classify::{Class, Head, grpc_status};
use crate::wire::http::{Body, Error, Reset, error};

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// The trailers' `grpc-status`, where there was one.
    pub grpc_status: Option<u16>,
    /// What broke it.
    pub error: Option<StreamError>,
    /// Whoever read it went away: that says nothing of who answered.
    pub abandoned: bool,
}

impl End {
    /// A whole end, or one that something broke.
    pub fn new(at: Timestamp, grpc_status: Option<u16>, error: Option<StreamError>) -> Self {
        Self { at, grpc_status, error, abandoned: false }
    }

    /// Whoever read it went away.
    pub fn abandoned(at: Timestamp) -> Self {
        Self { at, grpc_status: None, error: Some(StreamError::Cancel), abandoned: true }
    }

    /// The class of the response that ended so; `head` is none where there was no response. As in
    /// Linkerd, one that its reader abandons is classed by its head.
    pub fn class(&self, head: Option<Head>) -> Class {
        let of_head = head.map_or(Class::BROKEN, |head| head.end_with(self.grpc_status));
        let is_broken = self.error.is_some() && !self.abandoned;
        Class { is_failure: of_head.is_failure || is_broken, ..of_head }
    }
}

/// Is told how a body goes.
pub trait Observer: Send + Unpin + 'static {
    /// A frame of data passed.
    fn data(&mut self, at: Timestamp, bytes: usize);
    /// It is over.
    fn end(self, end: End);
}

/// Wraps a body for its observer. One that has ended already is told of at once.
pub fn observe<O: Observer>(
    body: Body,
    clock: &Arc<dyn Clock>,
    deadline: Option<Timestamp>,
    observer: O,
) -> Body {
    if body.is_end_stream() {
        observer.end(End::new(clock.now(), None, None));
        return body;
    }
    let deadline = deadline.map(|at| clock.sleep_until(at));
    Body::wrap(Observed { body, clock: clock.clone(), deadline, observer: Some(observer) })
}

/// An observer whose body is still to come. Dropped before that, the observer is told of a cancel.
pub struct Awaiting<O: Observer> {
    observer: Option<O>,
    clock: Arc<dyn Clock>,
}

impl<O: Observer> Awaiting<O> {
    /// Of an observer.
    pub fn new(observer: O, clock: &Arc<dyn Clock>) -> Self {
        Self { observer: Some(observer), clock: clock.clone() }
    }

    /// The observer, to be told of what happens before.
    pub fn get_mut(&mut self) -> &mut O {
        self.observer.as_mut().expect("taken only by `done`, by value")
    }

    /// The observer, whose body has come, or will not.
    pub fn done(mut self) -> O {
        self.observer.take().expect("taken only here, by value")
    }
}

impl<O: Observer> Drop for Awaiting<O> {
    fn drop(&mut self) {
        if let Some(observer) = self.observer.take() {
            observer.end(End::abandoned(self.clock.now()));
        }
    }
}

/// Shows each of a body's frames of data as it passes to what `see` makes, where it has any.
pub fn each_data<S>(body: &mut Body, see: impl FnOnce() -> S)
where
    S: FnMut(&Bytes) + Send + Unpin + 'static,
{
    body.wrap_in(|body| Frames { body, see: see() });
}

struct Frames<S> {
    body: Body,
    see: S,
}

impl<S: FnMut(&Bytes) + Unpin> http_body::Body for Frames<S> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            (self.see)(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Observed<O: Observer> {
    body: Body,
    clock: Arc<dyn Clock>,
    deadline: Option<BoxSleep>,
    /// None once told.
    observer: Option<O>,
}

impl<O: Observer> Observed<O> {
    fn tell(&mut self, grpc_status: Option<u16>, error: Option<StreamError>) {
        if self.observer.is_some() {
            self.tell_at(self.clock.now(), grpc_status, error);
        }
    }

    fn tell_at(&mut self, at: Timestamp, grpc_status: Option<u16>, error: Option<StreamError>) {
        if let Some(observer) = self.observer.take() {
            observer.end(End::new(at, grpc_status, error));
        }
    }
}

impl<O: Observer> http_body::Body for Observed<O> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame)))
                if planted!("trailers-lost") && frame.is_trailers()
                    || planted!("body-tail-cut")
                        && frame.is_data()
                        && this.body.is_end_stream() =>
            {
                this.tell(None, None);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                let now = this.clock.now();
                if let (Some(data), Some(observer)) = (frame.data_ref(), &mut this.observer) {
                    observer.data(now, data.len());
                }
                if let Some(trailers) = frame.trailers_ref() {
                    this.tell_at(now, grpc_status(trailers), None);
                } else if this.body.is_end_stream() {
                    this.tell_at(now, None, None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.tell(None, Some(stream_error(&error)));
                Poll::Ready(Some(Err(match error {
                    Error::Timeout(_) => Error::reset(Reset::CANCEL),
                    error => error,
                })))
            }
            Poll::Ready(None) => {
                this.tell(None, None);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let elapsed =
                    this.deadline.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
                if !elapsed {
                    return Poll::Pending;
                }
                this.deadline = None;
                this.body = Body::empty();
                this.tell(None, Some(StreamError::RequestTimeout));
                Poll::Ready(Some(Err(Error::reset(Reset::CANCEL))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<O: Observer> Drop for Observed<O> {
    fn drop(&mut self) {
        if let Some(observer) = self.observer.take() {
            observer.end(End::abandoned(self.clock.now()));
        }
    }
}

/// The name under which an error is counted.
pub fn stream_error(error: &Error) -> StreamError {
    match error {
        Error::Reset(reset) => match reset.code() {
            Reset::CANCEL => StreamError::Cancel,
            Reset::REFUSED_STREAM => StreamError::Refused,
            Reset::ENHANCE_YOUR_CALM => StreamError::EnhanceYourCalm,
            _ => StreamError::Reset,
        },
        Error::GoAway { .. } => StreamError::GoAway,
        Error::Io(_) | Error::Closed | Error::Unreachable => StreamError::Io,
        Error::Canceled => StreamError::Cancel,
        Error::Timeout(error::RESPONSE) => StreamError::ResponseStreamTimeout,
        Error::Timeout(error::IDLE) => StreamError::IdleTimeout,
        Error::Timeout(_) => StreamError::RequestTimeout,
        Error::Invalid(_) | Error::TooLarge(_) => StreamError::Unknown,
    }
}
