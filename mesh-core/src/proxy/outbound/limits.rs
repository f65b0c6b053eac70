//! Time limits of a request beside that of the whole: from the request's end to the response's, and
//! without a frame either way. On the heap where a route has them; most have none.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::Notify;

use crate::model::route::http::Timeouts;
use crate::proxy::refusal::Refusal;
use crate::runtime::Clock;
use crate::runtime::clock::BoxSleep;
use crate::time::Timestamp;
use crate::wire::http::error::{IDLE, RESPONSE};
use crate::wire::http::{Body, Error};

/// The limits of one request. Clones share its progress.
#[derive(Clone)]
pub(super) struct Limits {
    response: Option<Duration>,
    idle: Option<Duration>,
    progress: Arc<Progress>,
    clock: Arc<dyn Clock>,
}

struct Progress {
    /// When the last frame passed, in nanoseconds.
    moved: AtomicU64,
    /// When the request had been read to its end, in nanoseconds.
    sent: AtomicU64,
    /// The request has been read to its end.
    ended: Notify,
}

/// The request's end has not been seen.
const NOT_YET: u64 = u64::MAX;

/// What ran out.
#[derive(Clone, Copy)]
enum Late {
    Response,
    Idle,
}

impl Limits {
    /// The limits of a route; none where it has none.
    pub(super) fn new(timeouts: &Timeouts, clock: &Arc<dyn Clock>) -> Option<Self> {
        let limit = |time: Option<Duration>| time.filter(|time| !time.is_zero());
        let (response, idle) = (limit(timeouts.response), limit(timeouts.idle));
        if response.is_none() && idle.is_none() {
            return None;
        }
        let progress = Arc::new(Progress {
            moved: AtomicU64::new(clock.now().as_nanos()),
            sent: AtomicU64::new(NOT_YET),
            ended: Notify::new(),
        });
        Some(Self { response, idle, progress, clock: clock.clone() })
    }

    /// Sees a request's body pass.
    pub(super) fn request(&self, body: &mut Body) {
        if body.is_end_stream() {
            self.request_ended();
        }
        body.wrap_in(|body| Sent { body, limits: self.clone() });
    }

    /// What `answer` gives, where it does in time.
    ///
    /// # Errors
    /// [`Refusal::ResponseTimeout`], [`Refusal::IdleTimeout`].
    pub(super) async fn head<F: Future>(&self, answer: F) -> Result<F::Output, Refusal> {
        let mut answer = pin!(answer);
        loop {
            let due = self.due();
            if let Some((at, late)) = due
                && self.clock.now() >= at
            {
                return Err(match late {
                    Late::Response => Refusal::ResponseTimeout,
                    Late::Idle => Refusal::IdleTimeout,
                });
            }
            let wait = async {
                match due {
                    Some((at, _)) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = answer.as_mut() => return Ok(answer),
                () = self.progress.ended.notified() => {}
                () = wait => {}
            }
        }
    }

    /// Sees a response's body pass, and ends it where it is late.
    pub(super) fn response(self, body: Body) -> Body {
        self.moved();
        if body.is_end_stream() {
            return body;
        }
        Body::wrap(Answered { body, limits: self, sleep: None })
    }

    fn moved(&self) {
        self.progress.moved.store(self.clock.now().as_nanos(), Ordering::Relaxed);
    }

    fn request_ended(&self) {
        self.moved();
        let now = self.clock.now().as_nanos();
        let sent = &self.progress.sent;
        if sent.compare_exchange(NOT_YET, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.progress.ended.notify_one();
        }
    }

    /// When the first of the limits runs out, as things stand.
    fn due(&self) -> Option<(Timestamp, Late)> {
        let at = |nanos: &AtomicU64| Timestamp::from_nanos(nanos.load(Ordering::Relaxed));
        let sent = at(&self.progress.sent);
        let response = self.response.filter(|_| sent.as_nanos() != NOT_YET);
        let response = response.map(|limit| (sent + limit, Late::Response));
        let idle = self.idle.map(|limit| (at(&self.progress.moved) + limit, Late::Idle));
        response.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }
}

type NextFrame = Option<Result<Frame<Bytes>, Error>>;

/// A request's body.
struct Sent {
    body: Body,
    limits: Limits,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<NextFrame> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            match frame {
                Some(Ok(_)) if !this.body.is_end_stream() => this.limits.moved(),
                _ => this.limits.request_ended(),
            }
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

/// A response's body.
struct Answered {
    body: Body,
    limits: Limits,
    sleep: Option<(Timestamp, BoxSleep)>,
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<NextFrame> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.limits.moved();
            return Poll::Ready(frame);
        }
        loop {
            let Some((at, late)) = this.limits.due() else {
                return Poll::Pending;
            };
            if this.limits.clock.now() >= at {
                this.body = Body::empty();
                return Poll::Ready(Some(Err(Error::Timeout(match late {
                    Late::Response => RESPONSE,
                    Late::Idle => IDLE,
                }))));
            }
            let mut sleep = match this.sleep.take() {
                Some((until, sleep)) if until == at => sleep,
                _ => this.limits.clock.sleep_until(at),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                this.sleep = Some((at, sleep));
                return Poll::Pending;
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
