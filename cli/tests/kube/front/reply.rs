//! Answers: JSON at once, statuses as Kubernetes words them, and lines that come when they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A body.
pub enum Reply {
    Whole(Option<Bytes>),
    Lines(mpsc::Receiver<Bytes>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(Frame::data).map(Ok)),
            Self::Lines(lines) => {
                lines.poll_recv(context).map(|line| line.map(Frame::data).map(Ok))
            }
        }
    }
}

pub fn json_reply(code: StatusCode, json: &Value) -> Response<Reply> {
    let bytes = Bytes::from(json.to_string());
    let reply = Response::builder().status(code).header("content-type", "application/json");
    reply.body(Reply::Whole(Some(bytes))).expect("a plain answer")
}

/// A refusal.
pub fn status(code: StatusCode, message: &str) -> Response<Reply> {
    json_reply(code, &status_json(code, message))
}

pub fn status_json(code: StatusCode, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code.as_u16(),
    })
}

pub fn line(what: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": what, "object": object })))
}
