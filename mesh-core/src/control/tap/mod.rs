//! Taps of the mesh: the pods of a resource are asked what passes through them, all at once, and
//! what they tell is one stream.
//!
//! `question` reads what is asked for, `targets` finds whom to ask, `follow` asks one proxy,
//! `render` says it in Linkerd's words.
//!
//! Law: what is left out is told: pods that cannot be tapped with the reason, and how much each
//! proxy could not tell. A reader that is slow makes proxies lose events, and nobody wait.

mod follow;
mod question;
pub mod render;
mod targets;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::StatusCode;
use futures_core::Stream;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::dial::Dialer;
use super::public_api::ApiError;
use super::public_api::query::Query;
use super::publish::Publisher;
use super::viz::Viz;
use super::viz::events::{self, Event};
use crate::runtime::{BoxStream, Runtime, TaskGuard};
use crate::wire::http::Response;
use follow::Following;
pub use question::TapQuestion;
use targets::{Found, Target};

/// Taps that people have open at once.
const TAPS_MAX: usize = 16;

/// Events on the way to one reader. Beyond, proxies are not read, and lose what they cannot keep.
const EVENTS_MAX: usize = 256;

/// The taps that are open.
#[derive(Clone)]
pub struct Taps(Arc<Semaphore>);

impl Default for Taps {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TAPS_MAX)))
    }
}

/// Answers a question with a stream of events: one `start`, then events as messages, `missing` for a
/// pod that cannot be tapped, `lost` for what a proxy could not tell, `end` where nobody is left.
///
/// # Errors
/// [`ApiError`] where the question is wrong, or there is nobody to ask.
pub(super) fn answer(viz: &Viz, query: &Query) -> Result<Response, ApiError> {
    let parts = viz.parts();
    Ok(events::response(&parts.runtime, &parts.drain, open(viz, query)?))
}

/// The stream that [`answer`] answers with.
///
/// # Errors
/// As [`answer`]'s.
pub(super) fn open(viz: &Viz, query: &Query) -> Result<BoxStream<Event>, ApiError> {
    let parts = viz.parts();
    let question = TapQuestion::read(query)?;
    let place = parts.taps.0.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{TAPS_MAX} taps are open already");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, message, "end one of them")
    })?;
    let dialer = Dialer::new(&parts.runtime, parts.credentials.clone());
    let told = tap(&parts.runtime, &parts.publisher, &dialer, &question, place)?;
    Ok(Box::pin(told))
}

/// Asks everybody whom a question is about.
fn tap(
    runtime: &Runtime,
    publisher: &Publisher,
    dialer: &Dialer,
    question: &TapQuestion,
    place: OwnedSemaphorePermit,
) -> Result<Told, ApiError> {
    let found = publisher.read(|view| targets::find(view, question))?;
    let per_pod = question.per_pod(found.targets.len());
    let observe = question.observe(per_pod);
    let start = start(&found, per_pod);
    let (teller, told) = mpsc::channel(EVENTS_MAX);
    let follow = |(index, target): (usize, Target)| {
        let following = Following {
            runtime: runtime.clone(),
            publisher: publisher.clone(),
            dialer: dialer.clone(),
            base: u32::try_from(index + 1).unwrap_or(u32::MAX),
            target,
            observe: observe.clone(),
            teller: teller.clone(),
        };
        runtime.spawn_guarded("tap", following.run())
    };
    let tasks = found.targets.into_iter().enumerate().map(follow).collect();
    Ok(Told { start: Some(start), told, _tasks: tasks, _place: place, over: false })
}

/// What comes first: who is tapped, and who is not.
fn start(found: &Found, per_pod: u32) -> Event {
    let pods: Vec<_> = found.targets.iter().map(|target| target.name.to_string()).collect();
    let missing = found
        .missing
        .iter()
        .map(|missing| json!({"pod": missing.name.to_string(), "reason": missing.reason}));
    let start = json!({
        "pods": pods,
        "missing": missing.collect::<Vec<_>>(),
        "max_rps_per_pod": per_pod,
        "is_partial": !found.missing.is_empty(),
    });
    Event::named("start", start.to_string())
}

/// What is told to one reader. Dropped, the tap ends.
struct Told {
    start: Option<Event>,
    told: mpsc::Receiver<Event>,
    _tasks: Vec<TaskGuard>,
    _place: OwnedSemaphorePermit,
    over: bool,
}

impl Stream for Told {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(start));
        }
        match self.told.poll_recv(cx) {
            Poll::Ready(None) if !self.over => {
                self.over = true;
                let end = json!({"reason": "no pod is left that could be tapped"});
                Poll::Ready(Some(Event::named("end", end.to_string())))
            }
            polled => polled,
        }
    }
}
