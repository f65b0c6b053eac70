//! Server-sent events (WHATWG HTML, section 9.2): a stream of values as a response that does not end
//! while its reader listens.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::HeaderValue;
use ::http::header::CONTENT_TYPE;
use bytes::Bytes;
use http_body::Frame;

use crate::runtime::clock::BoxSleep;
use crate::runtime::{BoxFuture, BoxStream, Runtime};
use crate::wire::drain::DrainWatch;
use crate::wire::http::{Body, Error, Response};

/// A comment goes out after so long a silence: a reader that is gone is found out, and what is
/// between keeps the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is; a browser's `addEventListener` takes it. None: `message`.
    pub name: Option<&'static str>,
    /// What it says: any text, of any number of lines.
    pub data: String,
}

impl Event {
    /// A message.
    pub fn message(data: impl Into<String>) -> Self {
        Self { name: None, data: data.into() }
    }

    /// An event with a name.
    pub fn named(name: &'static str, data: impl Into<String>) -> Self {
        Self { name: Some(name), data: data.into() }
    }

    fn encode(&self) -> String {
        let mut text = String::with_capacity(self.data.len() + 16);
        if let Some(name) = self.name {
            text.push_str("event: ");
            text.push_str(name);
            text.push('\n');
        }
        // Carriage returns end lines as well.
        for line in self.data.split(['\n', '\r']) {
            text.push_str("data: ");
            text.push_str(line);
            text.push('\n');
        }
        text.push('\n');
        text
    }
}

/// A response of events. It ends with them, or when the drain begins. They are asked for as the
/// reader takes them: what makes them bounds what waits.
pub fn response(runtime: &Runtime, drain: &DrainWatch, events: BoxStream<Event>) -> Response {
    let drain = drain.clone();
    let body = Events {
        events,
        runtime: runtime.clone(),
        heartbeat: runtime.clock.sleep_until(runtime.now() + HEARTBEAT),
        draining: Box::pin(async move { drain.draining().await }),
    };
    let mut response = Response::new(Body::wrap(body));
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

struct Events {
    events: BoxStream<Event>,
    runtime: Runtime,
    heartbeat: BoxSleep,
    draining: BoxFuture<'static, ()>,
}

impl Events {
    fn beat_later(&mut self) {
        self.heartbeat = self.runtime.clock.sleep_until(self.runtime.now() + HEARTBEAT);
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.draining.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(event) = this.events.as_mut().poll_next(cx) {
            this.beat_later();
            return Poll::Ready(event.map(|event| Ok(Frame::data(event.encode().into()))));
        }
        if this.heartbeat.as_mut().poll(cx).is_ready() {
            this.beat_later();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b":\n\n")))));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_its_lines_one_by_one() {
        assert_eq!(Event::message("{}").encode(), "data: {}\n\n");
        let two = Event::named("rows", "a\nb\rc");
        assert_eq!(two.encode(), "event: rows\ndata: a\ndata: b\ndata: c\n\n");
        assert_eq!(Event::message("").encode(), "data: \n\n");
    }
}
