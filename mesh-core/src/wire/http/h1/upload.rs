//! A request's body on its way to the server, behind its head.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::Body as _;

use super::codec::{BodyEncoder, Framing};
use super::transport::Transport;
use crate::runtime::clock::BoxSleep;
use crate::wire::http::{Body, Error};

/// What is left to send.
pub(super) struct Upload {
    body: Body,
    encoder: BodyEncoder,
    state: State,
    /// Something was asked of the body.
    touched: bool,
    /// How long the body is held back.
    patience: Option<BoxSleep>,
    write_error: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Only the head goes out until the server wants more, or patience is over.
    Held,
    Sending,
    /// Everything is written and flushed.
    Sent,
    /// The stream takes no more.
    Broken,
}

/// Why an upload stopped.
pub(super) enum UploadError {
    /// The stream takes no more, see [`Upload::take_write_error`]; there may be something to read
    /// from it still.
    Write,
    /// The body failed or does not fit its head. The connection must end.
    Body(Error),
}

impl Upload {
    /// `patience`: wait for [`Self::release`] before anything is asked of the body, or for so long.
    pub(super) fn new(framing: Framing, body: Body, patience: Option<BoxSleep>) -> Self {
        let encoder = BodyEncoder::new(framing);
        let patience = patience.filter(|_| !encoder.is_end());
        Self {
            body,
            encoder,
            state: if patience.is_some() { State::Held } else { State::Sending },
            touched: false,
            patience,
            write_error: None,
        }
    }

    /// The server wants the body.
    pub(super) fn release(&mut self) {
        if self.state == State::Held {
            self.state = State::Sending;
            self.patience = None;
        }
    }

    /// Whether the body still waits to be wanted.
    pub(super) fn is_held(&self) -> bool {
        self.state == State::Held
    }

    /// Whether everything has been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.state == State::Sent
    }

    /// Whether there is nothing more to do.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Sent | State::Broken)
    }

    /// Whether the body is as it was given.
    pub(super) fn is_untouched(&self) -> bool {
        !self.touched
    }

    pub(super) fn into_body(self) -> Body {
        self.body
    }

    pub(super) fn take_write_error(&mut self) -> Option<io::Error> {
        self.write_error.take()
    }

    /// Sends what can be sent now; completes when all is. Small pieces are gathered until none is
    /// ready, and the head goes with the first.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            match self.state {
                State::Sent => return Poll::Ready(Ok(())),
                State::Broken => return Poll::Ready(Err(UploadError::Write)),
                State::Held => {
                    ready!(self.flush(cx, transport))?;
                    if let Some(patience) = &mut self.patience {
                        ready!(patience.as_mut().poll(cx));
                    }
                    self.release();
                }
                State::Sending if self.encoder.is_end() => {
                    ready!(self.flush(cx, transport))?;
                    self.state = State::Sent;
                    // What it came from (a stream, a connection) is done with.
                    if self.touched {
                        self.body = Body::empty();
                    }
                }
                State::Sending => {
                    if transport.is_full()
                        && let Err(error) = ready!(transport.poll_write(cx))
                    {
                        return Poll::Ready(Err(self.broken(error)));
                    }
                    self.touched = true;
                    let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                        ready!(self.flush(cx, transport))?;
                        return Poll::Pending;
                    };
                    self.queue(frame, transport).map_err(UploadError::Body)?;
                }
            }
        }
    }

    fn queue(
        &mut self,
        frame: Option<Result<http_body::Frame<bytes::Bytes>, Error>>,
        transport: &mut Transport,
    ) -> Result<(), Error> {
        let Some(frame) = frame.transpose()? else {
            return Ok(self.encoder.end(None, transport.out())?);
        };
        let last = self.body.is_end_stream();
        match frame.into_data() {
            Ok(data) => {
                let after = self.encoder.data(data.len(), last, transport.out())?;
                transport.push(data, after);
            }
            Err(frame) => {
                let trailers = frame.into_trailers().ok();
                self.encoder.end(trailers.as_ref(), transport.out())?;
            }
        }
        Ok(())
    }

    fn flush(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<Result<(), UploadError>> {
        let flushed = ready!(transport.poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.broken(error)))
    }

    fn broken(&mut self, error: io::Error) -> UploadError {
        self.state = State::Broken;
        self.write_error = Some(error);
        UploadError::Write
    }
}
