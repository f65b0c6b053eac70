//! `top` as a stream: the events of a tap go in, and once a second the rows come out.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use serde_json::json;

use super::ApiError;
use super::query::Query;
use super::top::{Top, TopOptions};
use crate::control::tap;
use crate::control::viz::Viz;
use crate::control::viz::events::{self, Event};
use crate::runtime::clock::BoxSleep;
use crate::runtime::{BoxStream, Runtime};
use crate::wire::http::Response;

/// From rows to rows.
const EVERY: Duration = Duration::from_secs(1);
/// Events that are summed up in one go, before others have their turn.
const AT_ONCE: usize = 256;

/// Answers the question of a tap with its rows: `rows` events, and what a tap tells besides its
/// events.
///
/// # Errors
/// As a tap's.
pub(super) fn answer(viz: &Viz, query: &Query) -> Result<Response, ApiError> {
    let options = TopOptions {
        hide_sources: query.is_set("hide_sources"),
        by_route: query.is_set("by_route"),
    };
    let tapped = tap::open(viz, &query.without(&["hide_sources", "by_route"]))?;
    let parts = viz.parts();
    let rows = Rows::new(&parts.runtime, tapped, options);
    Ok(events::response(&parts.runtime, &parts.drain, Box::pin(rows)))
}

struct Rows {
    tapped: BoxStream<Event>,
    top: Top,
    runtime: Runtime,
    next: BoxSleep,
}

impl Rows {
    fn new(runtime: &Runtime, tapped: BoxStream<Event>, options: TopOptions) -> Self {
        let next = runtime.clock.sleep_until(runtime.now() + EVERY);
        Self { tapped, top: Top::new(options), runtime: runtime.clone(), next }
    }

    fn rows(&self) -> Event {
        let rows = json!({"rows": self.top.rows(), "left_out": self.top.left_out()});
        Event::named("rows", rows.to_string())
    }
}

impl Stream for Rows {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        if this.next.as_mut().poll(cx).is_ready() {
            this.next = this.runtime.clock.sleep_until(this.runtime.now() + EVERY);
            return Poll::Ready(Some(this.rows()));
        }
        for _ in 0..AT_ONCE {
            match this.tapped.as_mut().poll_next(cx) {
                Poll::Ready(Some(Event { name: None, data })) => {
                    if let Ok(event) = serde_json::from_str(&data) {
                        this.top.see(&event);
                    }
                }
                Poll::Ready(other) => return Poll::Ready(other),
                Poll::Pending => {
                    // The sleep that was polled above, or its successor, wakes us.
                    let _ = this.next.as_mut().poll(cx);
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc;

    use super::*;
    use crate::runtime::testing::runtime;

    /// Events that a test tells.
    struct Told(mpsc::UnboundedReceiver<Event>);

    impl Stream for Told {
        type Item = Event;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
            self.0.poll_recv(cx)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rows_come_every_second_and_what_else_a_tap_tells_at_once() {
        let (tell, told) = mpsc::unbounded_channel();
        let runtime = runtime();
        let mut rows = Rows::new(&runtime, Box::pin(Told(told)), TopOptions::default());
        let mut next = async || poll_fn(|cx| Pin::new(&mut rows).poll_next(cx)).await;
        let id = json!({"base": 1, "stream": 1});
        let end = json!({"nanos": 1_000_000});
        for event in [
            json!({"requestInitEvent": {"id": id, "method": "GET", "path": "/"}}),
            json!({"responseInitEvent": {"id": id, "httpStatus": 200}}),
            json!({"responseEndEvent": {"id": id, "sinceRequestInit": end}}),
        ] {
            tell.send(Event::message(event.to_string())).unwrap();
        }
        tell.send(Event::named("lost", "{}")).unwrap();
        assert_eq!(next().await, Some(Event::named("lost", "{}")));
        for second in 1..=2 {
            let event = next().await.unwrap();
            assert_eq!(event.name, Some("rows"));
            assert!(event.data.contains(r#""count":1"#), "{}", event.data);
            assert_eq!(runtime.now().as_nanos() / 1_000_000_000, second);
        }
        drop(tell);
        assert_eq!(next().await, None);
    }
}
