//! Streams of answers: the state now, then each later state that the client was there to take.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::watch;

use crate::model::endpoint::EndpointUpdate;
use crate::runtime::BoxFuture;

use super::destination::endpoints::EndpointSet;
use super::destination::place::{Place, Placed};
use super::metrics::GaugeGuard;
use super::publish::Answer;

/// Whole states, each replacing the one before.
pub(super) struct AnswerStream<T> {
    changes: Changes,
    pick: fn(&Answer) -> Option<T>,
    _open: GaugeGuard,
}

/// Changes of an endpoint set, as a client sees it from where it is.
pub(super) struct UpdateStream {
    changes: Changes,
    /// Of the client's zone, where its node is known.
    zone: Option<Changes>,
    place: Place,
    /// All that there is, wherever the client is.
    placed: Option<Arc<Placed>>,
    sent: Option<Arc<EndpointSet>>,
    /// The rest of what turns `sent`'s predecessor into it: two updates at most.
    unsent: VecDeque<EndpointUpdate>,
    _open: GaugeGuard,
}

impl<T> AnswerStream<T> {
    /// `pick` takes the answer out of its kind; other kinds end the stream.
    pub(super) fn new(
        answers: watch::Receiver<Answer>,
        pick: fn(&Answer) -> Option<T>,
        open: GaugeGuard,
    ) -> Self {
        Self { changes: Changes::new(answers), pick, _open: open }
    }
}

impl UpdateStream {
    /// `zone`: of `node`, where that is known.
    pub(super) fn new(
        answers: watch::Receiver<Answer>,
        node: String,
        zone: Option<watch::Receiver<Answer>>,
        open: GaugeGuard,
    ) -> Self {
        Self {
            changes: Changes::new(answers),
            zone: zone.map(Changes::new),
            place: Place { node, zone: String::new() },
            placed: None,
            sent: None,
            unsent: VecDeque::new(),
            _open: open,
        }
    }
}

impl<T> Stream for AnswerStream<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.get_mut();
        let pick = this.pick;
        let answer = ready!(this.changes.poll_next(context));
        Poll::Ready(answer.as_ref().and_then(pick))
    }
}

impl Stream for UpdateStream {
    type Item = EndpointUpdate;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<EndpointUpdate>> {
        let this = self.get_mut();
        loop {
            if let Some(update) = this.unsent.pop_front() {
                return Poll::Ready(Some(update));
            }
            let moved = match this.zone.as_mut().map(|zone| zone.poll_next(context)) {
                Some(Poll::Ready(Some(Answer::Zone(zone)))) => {
                    this.place.zone = zone;
                    true
                }
                // The publisher ends every question at once.
                Some(Poll::Ready(_)) => return Poll::Ready(None),
                Some(Poll::Pending) | None => false,
            };
            match this.changes.poll_next(context) {
                Poll::Ready(Some(Answer::Endpoints(placed))) => this.placed = Some(placed),
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending if moved => {}
                Poll::Pending => return Poll::Pending,
            }
            let Some(placed) = &this.placed else { continue };
            let set = placed.seen_from(&this.place);
            this.unsent.extend(set.updates_since(this.sent.as_deref()));
            this.sent = Some(set);
        }
    }
}

/// The newest answer, whenever there is a newer one than was taken.
struct Changes {
    next: Option<BoxFuture<'static, (Option<Answer>, watch::Receiver<Answer>)>>,
}

impl Changes {
    fn new(mut answers: watch::Receiver<Answer>) -> Self {
        answers.mark_changed();
        Self { next: Some(Box::pin(newest(answers))) }
    }

    /// `None` where the publisher ended it. Not to be polled after that: stays `None`.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let (answer, answers) = ready!(Pin::new(next).poll(context));
        self.next = match answer {
            Some(Answer::Gone(_)) | None => None,
            Some(_) => Some(Box::pin(newest(answers))),
        };
        Poll::Ready(answer)
    }
}

async fn newest(mut answers: watch::Receiver<Answer>) -> (Option<Answer>, watch::Receiver<Answer>) {
    loop {
        if answers.changed().await.is_err() {
            return (None, answers);
        }
        let answer = answers.borrow_and_update().clone();
        if answer != Answer::Pending {
            return (Some(answer), answers);
        }
    }
}
