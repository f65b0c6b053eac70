//! One request as it is told to those who look at it: that it came, that it was answered, how that
//! ended.

use std::sync::Arc;

use http::HeaderMap;
use http::header::HOST;

use super::body::{self, Beginning};
use super::{Meta, Tap};
use crate::model::tap::{Captured, End, Event, Headers, StreamId, What};
use crate::proxy::config;
use crate::runtime::{Clock, Runtime};
use crate::time::Timestamp;
use crate::traffic::classify::grpc_status;
use crate::traffic::tap::redact::REDACTED;
use crate::wire::http::{Error, Request, Reset, Response};

/// Bytes of the headers of one message that are told at most; those after them are left out.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Bytes of an authority or a path that are told at most.
const TARGET_BYTES_MAX: usize = 4 * 1024;

/// What of a request's head is told beside its method.
pub(super) struct Head {
    /// To whom; empty where nobody is named.
    pub(super) authority: String,
}

impl Head {
    /// Of a request.
    pub(super) fn of(request: &Request) -> Self {
        let host = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let named = request.uri().authority().map(|authority| authority.as_str()).or_else(host);
        Self { authority: named.unwrap_or_default().to_string() }
    }
}

/// A request that somebody was told of. Dropped before its end was told, it was canceled.
pub struct Tapped {
    clock: Arc<dyn Clock>,
    config: Arc<config::Tap>,
    taps: Vec<Arc<Tap>>,
    meta: Meta,
    id: StreamId,
    began: Timestamp,
    answered: Option<Timestamp>,
    response_bytes: u64,
    /// What the response's head said.
    grpc_status: Option<u16>,
    request_body: Option<Beginning>,
    response_body: Option<Beginning>,
    ended: bool,
}

impl Tapped {
    pub(super) fn begin(
        runtime: &Runtime,
        config: &Arc<config::Tap>,
        taps: Vec<Arc<Tap>>,
        (meta, id): (Meta, StreamId),
        head: Head,
        request: &mut Request,
    ) -> Box<Self> {
        let mut tapped = Box::new(Self {
            clock: runtime.clock.clone(),
            config: config.clone(),
            taps,
            meta,
            id,
            began: runtime.now(),
            answered: None,
            response_bytes: 0,
            grpc_status: None,
            request_body: None,
            response_body: None,
            ended: false,
        });
        if tapped.shows_bodies() {
            tapped.request_body = Beginning::of(request.headers(), config);
        }
        tapped.tell_request(&head, request);
        if let Some(beginning) = tapped.request_body.clone() {
            body::keep(request.body_mut(), beginning);
        }
        tapped
    }

    fn shows_bodies(&self) -> bool {
        self.config.body_bytes_max > 0 && self.taps.iter().any(|tap| tap.observe.bodies)
    }

    fn tell_request(&self, head: &Head, request: &Request) {
        let authority = cut(&head.authority);
        let path = cut(request.uri().path());
        let scheme = request.uri().scheme();
        let pseudo = [
            (":method", Some(request.method().as_str())),
            (":scheme", scheme.map(|scheme| scheme.as_str())),
            (":authority", Some(authority).filter(|text| !text.is_empty())),
            (":path", Some(path)),
        ];
        self.tell(|tap| What::RequestInit {
            id: self.id,
            method: request.method().clone(),
            scheme: scheme.cloned(),
            authority: authority.to_string(),
            path: path.to_string(),
            headers: self.headers(tap, &pseudo, request.headers()),
        });
    }

    /// The response's head has come; its body tells the rest.
    pub fn answered(mut self: Box<Self>, response: Response) -> Response {
        let now = self.clock.now();
        self.answered = Some(now);
        self.grpc_status = grpc_status(response.headers());
        let status = response.status();
        self.tell(|tap| What::ResponseInit {
            id: self.id,
            since_request: now.since(self.began),
            status: status.as_u16(),
            headers: self.headers(tap, &[(":status", Some(status.as_str()))], response.headers()),
        });
        if self.shows_bodies() {
            self.response_body = Beginning::of(response.headers(), &self.config);
        }
        let beginning = self.response_body.clone();
        response.map(|body| body::tell(body, self, beginning))
    }

    /// There is no response, or no more of one: an error code of HTTP/2.
    pub(super) fn failed(mut self: Box<Self>, code: u32) {
        self.end(Some(End::Reset(code)), None);
    }

    /// The response is over.
    pub(super) fn ended(mut self: Box<Self>, trailers: Option<&HeaderMap>) {
        let status = trailers.and_then(grpc_status).or(self.grpc_status);
        self.end(status.map(|status| End::Grpc(u32::from(status))), trailers);
    }

    /// Data of the response passed.
    pub(super) fn data(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    fn end(&mut self, end: Option<End>, trailers: Option<&HeaderMap>) {
        self.ended = true;
        let now = self.clock.now();
        let shown = |tap: &Tap, beginning: &Option<Beginning>| -> Option<Captured> {
            let beginning = beginning.as_ref().filter(|_| tap.observe.bodies)?;
            Some(beginning.shown(&self.config))
        };
        self.tell(|tap| What::ResponseEnd {
            id: self.id,
            since_request: now.since(self.began),
            since_response: self.answered.map(|answered| now.since(answered)),
            bytes: self.response_bytes,
            end,
            trailers: trailers.map_or_else(Vec::new, |all| self.headers(tap, &[], all)),
            request_body: shown(tap, &self.request_body),
            response_body: shown(tap, &self.response_body),
        });
    }

    fn tell(&self, what: impl Fn(&Tap) -> What) {
        for tap in &self.taps {
            tap.queue.push(Event {
                source: Some(self.meta.source),
                source_labels: self.meta.source_labels.clone(),
                destination: Some(self.meta.destination),
                destination_labels: self.meta.destination_labels.clone(),
                route_labels: self.meta.route_labels.clone(),
                direction: self.meta.direction,
                what: Some(what(tap)),
                lost: 0,
            });
        }
    }

    /// The headers that a tap asked for, without the values of those that are secret.
    fn headers(&self, tap: &Tap, pseudo: &[(&str, Option<&str>)], all: &HeaderMap) -> Headers {
        if !tap.observe.extract_headers {
            return Vec::new();
        }
        let pseudo = pseudo.iter().filter_map(|(name, value)| {
            value.map(|value| (name.to_string(), value.as_bytes().to_vec()))
        });
        let mut told: Headers = pseudo.collect();
        let mut bytes = 0;
        for (name, value) in all {
            let value = match self.config.redacted_headers.contains(name) {
                true => REDACTED.as_bytes(),
                false => value.as_bytes(),
            };
            bytes += name.as_str().len() + value.len();
            if bytes > HEADER_BYTES_MAX {
                break;
            }
            told.push((name.to_string(), value.to_vec()));
        }
        told
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Some(End::Reset(Reset::CANCEL)), None);
        }
    }
}

/// A request that somebody may have been told of has failed.
pub fn failed(tapped: Option<Box<Tapped>>, error: &Error) {
    if let Some(tapped) = tapped {
        tapped.failed(failure_code(error));
    }
}

/// The error code of HTTP/2 that stands for a failure.
pub(super) fn failure_code(error: &Error) -> u32 {
    match error {
        Error::Reset(reset) => reset.code(),
        Error::Canceled | Error::Timeout(_) => Reset::CANCEL,
        _ => Reset::INTERNAL_ERROR,
    }
}

/// The beginning of a text, as much as is told of one.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TARGET_BYTES_MAX)]
}
