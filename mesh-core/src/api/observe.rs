//! Tells an observer how the talk with a service of the control plane goes. Counts nothing itself.
//!
//! Law: each request that was sent ends once, however it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as _, Frame, SizeHint};

use crate::runtime::Runtime;
use crate::time::Timestamp;
use crate::wire::http::{Body, Error, Response};

/// Is told how the talk with one service of the control plane goes.
pub trait ControlObserver: Send + Sync + 'static {
    /// Its name was looked up, or could not be.
    fn resolved(&self, found: bool);

    /// A request was made.
    fn requested(&self);

    /// It is over.
    fn ended(&self, end: ControlEnd);
}

/// How a request to the control plane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlEnd {
    /// The answer's status; none where there was no answer.
    pub status: Option<StatusCode>,
    /// gRPC's status, where it came.
    pub grpc_status: Option<u16>,
    /// Whether all of the answer came.
    pub whole: bool,
    /// From the request to this end.
    pub latency: Duration,
}

/// One request under way. Dropped before its end, it was given up or broke.
pub(super) struct Call(Option<Observed>);

struct Observed {
    runtime: Runtime,
    observer: Arc<dyn ControlObserver>,
    began: Timestamp,
    status: Option<StatusCode>,
    grpc_status: Option<u16>,
    whole: bool,
}

impl Call {
    pub(super) fn new(runtime: &Runtime, observer: Option<&Arc<dyn ControlObserver>>) -> Self {
        Self(observer.map(|observer| {
            observer.requested();
            Observed {
                runtime: runtime.clone(),
                observer: observer.clone(),
                began: runtime.now(),
                status: None,
                grpc_status: None,
                whole: false,
            }
        }))
    }

    /// Goes on with the answer's body.
    pub(super) fn answered(self, response: Response) -> Response {
        let Some(mut observed) = self.0 else {
            return response;
        };
        observed.status = Some(response.status());
        observed.grpc_status = grpc_status(response.headers());
        if response.body().is_end_stream() {
            observed.whole = true;
            return response;
        }
        response.map(|body| Body::wrap(Answer { body, observed }))
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.observer.ended(ControlEnd {
            status: self.status,
            grpc_status: self.grpc_status,
            whole: self.whole,
            latency: self.runtime.now().since(self.began),
        });
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

struct Answer {
    body: Body,
    observed: Observed,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.observed.grpc_status = grpc_status(trailers);
                    self.observed.whole = true;
                }
            }
            Some(Err(_)) => {}
            None => self.observed.whole = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
