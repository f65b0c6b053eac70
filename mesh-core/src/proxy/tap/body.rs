//! Bodies that somebody looks at: the response's, which tells how it goes, and the beginning of
//! either.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body::{Body as _, Frame, SizeHint};

use super::record::{Tapped, failure_code};
use crate::model::tap::Captured;
use crate::proxy::config;
use crate::proxy::observe::each_data;
use crate::traffic::tap::redact;
use crate::wire::http::{Body, Error};

/// The beginning of a body, as it passes.
#[derive(Clone)]
pub struct Beginning {
    kept: Arc<Mutex<Captured>>,
    bytes_max: usize,
}

impl Beginning {
    /// Of the body of a message with these headers, where it may be shown.
    pub fn of(headers: &HeaderMap, config: &config::Tap) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let readable = redact::is_readable(content_type) && !headers.contains_key(CONTENT_ENCODING);
        let bytes_max = config.body_bytes_max;
        (bytes_max > 0 && readable).then(|| Self { kept: Arc::default(), bytes_max })
    }

    /// What was kept, without its secrets.
    pub fn shown(&self, config: &config::Tap) -> Captured {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let data = redact::body(&kept.data, &config.redacted_fields).into_bytes();
        Captured { data, truncated: kept.truncated }
    }

    fn keep(&self, data: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.bytes_max - kept.data.len();
        kept.truncated |= data.len() > free;
        kept.data.extend_from_slice(&data[..data.len().min(free)]);
    }
}

/// A request's body whose beginning is kept.
pub fn keep(body: &mut Body, beginning: Beginning) {
    each_data(body, || move |data: &Bytes| beginning.keep(data));
}

/// A response's body that tells its end. One that has ended already tells at once.
pub fn tell(body: Body, tapped: Box<Tapped>, beginning: Option<Beginning>) -> Body {
    if body.is_end_stream() {
        tapped.ended(None);
        return body;
    }
    Body::wrap(Telling { body, tapped: Some(tapped), beginning })
}

struct Telling {
    body: Body,
    /// None once told.
    tapped: Option<Box<Tapped>>,
    beginning: Option<Beginning>,
}

impl http_body::Body for Telling {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(data), Some(tapped)) = (frame.data_ref(), &mut this.tapped) {
                    tapped.data(data.len());
                    if let Some(beginning) = &this.beginning {
                        beginning.keep(data);
                    }
                }
                if (frame.is_trailers() || this.body.is_end_stream())
                    && let Some(tapped) = this.tapped.take()
                {
                    tapped.ended(frame.trailers_ref());
                }
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(tapped) = this.tapped.take() {
                    tapped.failed(failure_code(error));
                }
            }
            Poll::Ready(None) => {
                if let Some(tapped) = this.tapped.take() {
                    tapped.ended(None);
                }
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
