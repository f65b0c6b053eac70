//! What one tap was told and its client has not taken yet: bounded, and lossy.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::api::Message as _;
use crate::model::labels::Labels;
use crate::model::tap::{Direction, Event};
use crate::wire::grpc;

/// Events that wait at most (Linkerd's number), and their bytes; more are lost.
const EVENTS_MAX: usize = 400;
/// See [`EVENTS_MAX`].
pub const BYTES_MAX: usize = 1024 * 1024;

/// A queue of framed events.
#[derive(Default)]
pub struct Queue(Mutex<State>);

#[derive(Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Events and requests that nobody was told of.
    lost: u64,
    /// What the client knows of that.
    lost_told: u64,
    /// Nothing more comes.
    closed: bool,
    reader: Option<Waker>,
}

impl Queue {
    /// Tells an event, or loses it.
    pub fn push(&self, mut event: Event) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        event.lost = state.lost;
        let frame = grpc::frame(&event.to_bytes());
        if state.frames.len() >= EVENTS_MAX || state.bytes + frame.len() > BYTES_MAX {
            mark!("tap-event-lost");
            state.lost += 1;
            return;
        }
        state.lost_told = state.lost;
        state.bytes += frame.len();
        state.frames.push_back(frame);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// A request that matches is not told of.
    pub fn lose(&self) {
        self.state().lost += 1;
    }

    /// An event that tells of nothing but what was lost since it was last told, where something was.
    pub fn lost(&self) -> Option<Bytes> {
        let mut state = self.state();
        if state.lost == state.lost_told {
            return None;
        }
        state.lost_told = state.lost;
        let event = Event {
            source: None,
            source_labels: Labels::default(),
            destination: None,
            destination_labels: Labels::default(),
            route_labels: Labels::default(),
            direction: Direction::Unknown,
            what: None,
            lost: state.lost,
        };
        Some(grpc::frame(&event.to_bytes()))
    }

    /// Nothing more comes.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// The next frame; none at the end.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state();
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.len();
            return Poll::Ready(Some(frame));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tap::{StreamId, What};
    use crate::wire::grpc::Messages;
    use crate::wire::http::Body;

    fn event(stream: u64) -> Event {
        Event {
            source: None,
            source_labels: Labels::default(),
            destination: None,
            destination_labels: Labels::default(),
            route_labels: Labels::default(),
            direction: Direction::Inbound,
            what: Some(What::ResponseInit {
                id: StreamId { base: 1, stream },
                since_request: std::time::Duration::ZERO,
                status: 200,
                headers: Vec::new(),
            }),
            lost: 0,
        }
    }

    async fn read(queue: &Queue) -> Vec<Event> {
        let mut frames = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = queue.poll_next(&mut cx) {
            frames.extend_from_slice(&frame);
        }
        let mut messages = Messages::new(Body::full(frames), 1 << 20);
        let mut events = Vec::new();
        while let Some(message) = messages.next().await.unwrap() {
            events.push(Event::from_bytes(&message).unwrap());
        }
        events
    }

    #[tokio::test]
    async fn a_full_queue_loses_what_is_new_and_says_how_much() {
        let queue = Queue::default();
        for stream in 0..EVENTS_MAX as u64 + 3 {
            queue.push(event(stream));
        }
        let events = read(&queue).await;
        assert_eq!(events.len(), EVENTS_MAX);
        assert!(events.iter().all(|event| event.lost == 0));
        queue.push(event(7));
        assert_eq!(read(&queue).await[0].lost, 3);
        assert_eq!(queue.lost(), None);
    }

    #[tokio::test]
    async fn what_was_lost_at_the_end_is_told_by_itself() {
        let queue = Queue::default();
        queue.lose();
        queue.lose();
        let frame = queue.lost().unwrap();
        let told = Event::from_bytes(&frame[5..]).unwrap();
        assert_eq!((told.lost, told.what), (2, None));
        assert_eq!(queue.lost(), None);
    }

    #[tokio::test]
    async fn bytes_are_bounded_as_events_are() {
        let queue = Queue::default();
        let large = |stream| {
            let mut event = event(stream);
            if let Some(What::ResponseInit { headers, .. }) = &mut event.what {
                headers.push(("x".into(), vec![0; BYTES_MAX / 2]));
            }
            event
        };
        queue.push(large(1));
        queue.push(large(2));
        assert_eq!(read(&queue).await.len(), 1);
    }

    #[test]
    fn a_closed_queue_ends_after_what_it_holds() {
        let queue = Queue::default();
        let mut cx = Context::from_waker(Waker::noop());
        queue.push(event(1));
        queue.close();
        queue.push(event(2));
        assert!(matches!(queue.poll_next(&mut cx), Poll::Ready(Some(_))));
        assert_eq!(queue.poll_next(&mut cx), Poll::Ready(None));
    }
}
