//! Sends the body of a request as the peer's windows allow.
//!
//! Law: one piece of the body is taken at a time, and none while the peer takes nothing. A body that
//! breaks resets its stream, with the body's own code where it has one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::{Reason, SendStream};
use bytes::Bytes;
use http_body::Body as _;

use crate::wire::http::{Body, Error, Reset};

/// A body on its way. Completes when all of it is with h2, or the stream has ended.
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    body: Body,
    /// What waits for the peer's window, and whether it is the last of it.
    waiting: Option<(Bytes, bool)>,
}

/// The stream has ended, whoever ended it: who waits for its response is told.
struct Ended;

impl From<::h2::Error> for Ended {
    fn from(_: ::h2::Error) -> Self {
        Self
    }
}

impl Upload {
    pub(super) fn new(stream: SendStream<Bytes>, body: Body) -> Self {
        Self { stream, body, waiting: None }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            if self.stream.poll_reset(cx)?.is_ready() {
                return Poll::Ready(Err(Ended));
            }
            if self.waiting.is_some() {
                ready!(self.poll_window(cx))?;
            }
            if let Some((data, is_last)) = self.waiting.take() {
                self.stream.send_data(data, is_last)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                self.stream.send_data(Bytes::new(), true)?;
                return Poll::Ready(Ok(()));
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    self.stream.send_reset(reason(&error));
                    return Poll::Ready(Err(Ended));
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    // Only now, lest a body that has nothing to say holds a part of the connection's
                    // window; and no more than says that there is something: h2 asks for the rest.
                    self.stream.reserve_capacity(usize::from(!data.is_empty()));
                    self.waiting = Some((data, self.body.is_end_stream()));
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        self.stream.send_trailers(trailers)?;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// Ready when what waits may be sent. What is empty needs no window.
    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let is_empty = self.waiting.as_ref().is_none_or(|(data, _)| data.is_empty());
        while !is_empty && self.stream.capacity() == 0 {
            ready!(self.stream.poll_capacity(cx)).ok_or(Ended)??;
        }
        Poll::Ready(Ok(()))
    }
}

impl Future for Upload {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_send(cx).map(drop)
    }
}

fn reason(error: &Error) -> Reason {
    Reason::from(error.reset_code().unwrap_or(Reset::INTERNAL_ERROR))
}
