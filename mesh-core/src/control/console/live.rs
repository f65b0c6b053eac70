//! Pages that change while they are looked at: the parts that differ from what was last sent, as
//! server-sent events.
//!
//! Law: what a browser shows after any number of events is what it would have got by loading the
//! page anew.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use crate::control::viz::Viz;
use crate::control::viz::events::Event;
use crate::runtime::BoxStream;

use super::link::Asked;
use super::shell::Page;

/// How often a page is made anew for whoever looks at it.
const EVERY: Duration = Duration::from_secs(2);
/// A page that takes long to make is made less often: so much of the time is left for others.
const REST: u32 = 9;

/// What is to be told, what was sent by then, and how long to wait before the next.
type Step = (Option<Event>, Sent, Duration);
type Next = Pin<Box<dyn Future<Output = Step> + Send>>;

/// What was sent: each part by its id.
type Sent = BTreeMap<&'static str, String>;

/// The events of a page. The first tells of everything: it may have changed since it was loaded.
pub(crate) fn events(viz: &Viz, asked: Asked) -> BoxStream<Event> {
    let next = step(viz.clone(), asked.clone(), Sent::new(), Duration::ZERO);
    Box::pin(Events { viz: viz.clone(), asked, next: Box::pin(next) })
}

struct Events {
    viz: Viz,
    asked: Asked,
    next: Next,
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            let Poll::Ready((event, sent, after)) = self.next.as_mut().poll(cx) else {
                return Poll::Pending;
            };
            let next = step(self.viz.clone(), self.asked.clone(), sent, after);
            self.next = Box::pin(next);
            if let Some(event) = event {
                return Poll::Ready(Some(event));
            }
        }
    }
}

async fn step(viz: Viz, asked: Asked, sent: Sent, after: Duration) -> Step {
    let runtime = &viz.parts().runtime;
    runtime.sleep(after).await;
    let began = runtime.now();
    let page = super::page(&viz, &asked).await;
    let (event, sent) = difference(&page, sent);
    (event, sent, EVERY.max(runtime.now().since(began) * REST))
}

/// What of a page is not as it was sent; no event where all of it is.
fn difference(page: &Page, mut sent: Sent) -> (Option<Event>, Sent) {
    let mut changed = serde_json::Map::new();
    for (id, html) in &page.parts {
        if sent.get(id).is_some_and(|before| before == html.as_str()) {
            continue;
        }
        changed.insert(id.to_string(), html.as_str().into());
        sent.insert(id, html.as_str().to_string());
    }
    let event = (!changed.is_empty())
        .then(|| Event::named("parts", serde_json::Value::Object(changed).to_string()));
    (event, sent)
}

#[cfg(test)]
mod tests {
    use super::super::html::Html;
    use super::super::shell::Section;
    use super::*;

    #[test]
    fn only_what_changed_is_sent() {
        let page = |a: &'static str, b: &'static str| {
            Page::new(Section::Overview, "x").part("a", Html::text(a)).part("b", Html::text(b))
        };
        let (event, sent) = difference(&page("1", "<2>"), Sent::new());
        assert_eq!(event.unwrap().data, r#"{"a":"1","b":"&lt;2&gt;"}"#);
        let (event, sent) = difference(&page("1", "<2>"), sent);
        assert_eq!(event, None);
        let (event, _) = difference(&page("1", "3"), sent);
        assert_eq!(event.unwrap().data, r#"{"b":"3"}"#);
    }
}
