//! One request under way: its body is sent, and the head of its response waited for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::h2::client::{ResponseFuture, SendRequest};
use ::h2::{RecvStream, SendStream};
use ::http::header::CONTENT_LENGTH;
use ::http::{HeaderValue, Method, Request, StatusCode};
use bytes::Bytes;
use http_body::Body as _;

use super::received::Received;
use super::streams::Slot;
use super::tunnel::Tunnel;
use super::upload::Upload;
use crate::runtime::Tasks;
use crate::wire::http::{Body, Error, Response, Upgraded};

/// A request that was handed to h2. Completes with its response's head; dropped before, it resets
/// its stream (CANCEL).
pub(in super::super) struct Exchange {
    response: ResponseFuture,
    sending: Sending,
    slot: Option<Slot>,
    tasks: Arc<dyn Tasks>,
}

/// What goes the peer's way.
enum Sending {
    /// All of the request was sent.
    Nothing,
    Body(Upload),
    /// What comes after a CONNECT that is taken.
    Tunnel(SendStream<Bytes>),
}

impl Exchange {
    /// Hands a request to h2: its stream has a number when this returns.
    ///
    /// # Errors
    /// Where h2 refuses the message.
    pub(in super::super) fn begin(
        sender: &mut SendRequest<Bytes>,
        mut head: Request<()>,
        body: Body,
        slot: Slot,
        tasks: &Arc<dyn Tasks>,
    ) -> Result<Self, ::h2::Error> {
        let is_connect = *head.method() == Method::CONNECT;
        let has_ended = !is_connect && body.is_end_stream();
        if let Some(bytes) = body.size_hint().exact()
            && (bytes != 0 || usually_has_a_body(head.method()))
            && !head.headers().contains_key(CONTENT_LENGTH)
        {
            head.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes));
        }
        let (response, stream) = sender.send_request(head, has_ended)?;
        let sending = match (is_connect, has_ended) {
            (true, _) => Sending::Tunnel(stream),
            (false, true) => Sending::Nothing,
            (false, false) => Sending::Body(Upload::new(stream, body)),
        };
        Ok(Self { response, sending, slot: Some(slot), tasks: tasks.clone() })
    }

    fn answered(&mut self, response: ::http::Response<RecvStream>, slot: Slot) -> Response {
        let (head, stream) = response.into_parts();
        let mut response = Response::from_parts(head, Body::empty());
        match std::mem::replace(&mut self.sending, Sending::Nothing) {
            Sending::Tunnel(send) if response.status() == StatusCode::OK => {
                let tunnel = Upgraded::new(Box::new(Tunnel::new(send, stream, slot)));
                response.extensions_mut().insert(tunnel);
                return response;
            }
            // The peer hears as long as the client speaks.
            Sending::Body(upload) => self.tasks.spawn("http2 upload", Box::pin(upload)),
            Sending::Tunnel(_) | Sending::Nothing => {}
        }
        if !stream.is_end_stream() {
            let received = Received::new(stream, response.headers(), slot);
            *response.body_mut() = Body::received(received);
        }
        response
    }
}

impl Future for Exchange {
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Sending::Body(upload) = &mut this.sending
            && Pin::new(upload).poll(cx).is_ready()
        {
            this.sending = Sending::Nothing;
        }
        let response = ready!(Pin::new(&mut this.response).poll(cx));
        let Some(slot) = this.slot.take() else {
            return Poll::Ready(Err(Error::Canceled));
        };
        Poll::Ready(match response {
            Ok(response) => Ok(this.answered(response, slot)),
            Err(error) => Err(Error::from_h2(&error)),
        })
    }
}

/// Methods of which a body is expected: where there is none, that is said.
fn usually_has_a_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT)
}
