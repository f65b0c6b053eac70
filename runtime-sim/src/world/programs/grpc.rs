//! A gRPC server: one method for each way of streaming. A request says how many messages it asks
//! for, how long, and how far apart.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body::Frame;

use mesh_core::wire::http::{Body, Request, Response};

use super::Server;
use super::behaviour::{Ending, Fate};
use super::http::reset;
use super::speech::body::{Frames, channel, filled};
use super::speech::grpc::{self, Messages, SERVICE};
use super::speech::{self, INTERVAL_MICROS, MESSAGES, NUMBER, RESPONSE_BYTES, number};
use crate::world::record::Sequence;

/// The messages of a request, which must come in order.
type Incoming = (Messages, Sequence);

/// A call that is served.
struct Call {
    server: Server,
    number: Option<u64>,
    fate: Fate,
    messages: u64,
    interval: Duration,
    response_bytes: u64,
}

/// Answers a call: the head at once, messages and trailers by a task of their own.
pub(super) async fn answer(server: Server, request: Request) -> Response {
    let seat = server.behaviour.seat().await;
    let fate = server.behaviour.next();
    if fate.stops_reading {
        let _request = request;
        return std::future::pending().await;
    }
    let method = request.uri().path().strip_prefix(SERVICE).unwrap_or_default().to_owned();
    let headers = request.headers();
    let call = Call {
        messages: number(headers, MESSAGES).unwrap_or(1),
        interval: Duration::from_micros(number(headers, INTERVAL_MICROS).unwrap_or(0)),
        response_bytes: number(headers, RESPONSE_BYTES).unwrap_or(0),
        number: number(headers, NUMBER),
        server,
        fate,
    };
    let sequence = call.server.sequence(call.number);
    let mut incoming = (Messages::new(request.into_body()), sequence);
    let runtime = call.server.runtime.clone();
    runtime.sleep(fate.latency).await;
    match fate.ending {
        Ending::Status(200) => {}
        Ending::Status(status) => return refused(grpc::status_of(status)),
        Ending::Reset => return reset(),
        Ending::Silence => return std::future::pending().await,
    }
    let (frames, body) = channel(None);
    runtime.spawn("grpc call", async move {
        let _seat = seat;
        let status = match &*method {
            "Unary" => call.unary(&mut incoming, &frames).await,
            "Server" => call.server(&mut incoming, &frames).await,
            "Client" => call.client(&mut incoming, &frames).await,
            "Bidirectional" => call.bidirectional(&mut incoming, &frames).await,
            _ => Some(12),
        };
        // Without a status the client is gone, and nobody waits for the trailers.
        if let Some(status) = status {
            let _ = frames.send(Ok(Frame::trailers(grpc::trailers(status)))).await;
        }
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    response
}

/// An answer of trailers alone.
fn refused(status: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = grpc::trailers(status);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    response
}

impl Call {
    /// The next message, which must be the one after the last.
    async fn next(&self, incoming: &mut Incoming) -> Option<Option<Bytes>> {
        let (messages, sequence) = incoming;
        let message = messages.next().await.ok()?;
        if let Some(message) = &message {
            sequence.take(self.server.runtime.now(), speech::said(message));
            self.server.record.conversed(self.number, 1, 0);
        }
        Some(message)
    }

    async fn unary(&self, incoming: &mut Incoming, frames: &Frames) -> Option<u16> {
        if self.next(incoming).await?.is_none() {
            return Some(3);
        }
        self.send(frames, self.message(0)).await?;
        Some(0)
    }

    async fn server(&self, incoming: &mut Incoming, frames: &Frames) -> Option<u16> {
        self.next(incoming).await?;
        for sent in 0..self.messages {
            if sent > 0 && !self.interval.is_zero() {
                self.server.runtime.sleep(self.interval).await;
            }
            self.send(frames, self.message(sent)).await?;
        }
        Some(0)
    }

    async fn client(&self, incoming: &mut Incoming, frames: &Frames) -> Option<u16> {
        while self.next(incoming).await?.is_some() {}
        self.send(frames, self.message(0)).await?;
        Some(0)
    }

    async fn bidirectional(&self, incoming: &mut Incoming, frames: &Frames) -> Option<u16> {
        while let Some(message) = self.next(incoming).await? {
            let text = String::from_utf8_lossy(&message);
            self.send(frames, filled(&text, self.response_bytes)).await?;
        }
        Some(0)
    }

    fn message(&self, index: u64) -> Bytes {
        let text = speech::message(self.number.unwrap_or_default(), index);
        filled(&format!("{} {text}", self.server.pod), self.response_bytes)
    }

    async fn send(&self, frames: &Frames, message: Bytes) -> Option<()> {
        if !self.fate.body_pause.is_zero() {
            self.server.runtime.sleep(self.fate.body_pause).await;
        }
        // Counted before it goes: who gets it may be done with the call at once.
        self.server.record.conversed(self.number, 0, 1);
        frames.send(Ok(Frame::data(grpc::frame(&message)))).await.ok()
    }
}
