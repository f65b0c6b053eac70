//! HTTP requests as a workload shapes them, and the check that an answer is whole.

use std::time::Duration;

use http::{Method, Version, header};

use mesh_core::wire::http::{Body, Request, Response};

use super::{Load, Outcome, failure};
use crate::world::programs::send_body;
use crate::world::record::Answer;
use crate::world::scenario::{Connections, Framing};
use crate::world::speech::body::{PIECE_BYTES, filled, read};
use crate::world::speech::{self, BODY_BYTES, MARKER, NUMBER, RESPONSE_BYTES, RESPONSE_FRAMING};

/// What an answer must have to be whole.
pub(super) struct Expected {
    response_bytes: u64,
    has_body: bool,
}

impl Load {
    /// A request, and what its answer must have.
    pub(super) fn message(&self, number: u64, version: Version) -> (Request, Expected) {
        let shape = &self.0.plan.request;
        let mut request = self.head(&shape.method, &shape.path, number, version);
        let response_bytes = self.draw(shape.response);
        if response_bytes > 0 {
            request = request.header(RESPONSE_BYTES, response_bytes);
        }
        if shape.response_framing == Framing::Chunked {
            request = request.header(RESPONSE_FRAMING, "chunked");
        }
        let bytes = self.draw(shape.body);
        let bodiless = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE];
        let empty = bytes == 0 && bodiless.iter().any(|method| *method == *shape.method);
        let text = match empty {
            true => String::new(),
            false => format!("{MARKER} {number}"),
        };
        let all = filled(&text, bytes);
        request = request.header(BODY_BYTES, all.len());
        let body = match shape.framing {
            Framing::Length => Body::full(all),
            Framing::Chunked => send_body(&self.0.runtime, all, PIECE_BYTES, Duration::ZERO, None),
        };
        let has_body = *shape.method != Method::HEAD;
        (request.body(body).expect(CHECKED), Expected { response_bytes, has_body })
    }

    /// The head of a request, with the workload's own fields.
    pub(super) fn head(
        &self,
        method: &str,
        path: &str,
        number: u64,
        version: Version,
    ) -> http::request::Builder {
        let http2 = version == Version::HTTP_2;
        let uri = match http2 {
            true => format!("http://{}{path}", self.0.plan.to),
            false => path.to_owned(),
        };
        let request = http::Request::builder().method(method).uri(uri).version(version);
        let mut request = request.header(NUMBER, number);
        if !http2 {
            request = request.header(header::HOST, &self.0.plan.to);
        }
        if !http2 && self.0.plan.connections == Connections::PerRequest {
            request = request.header(header::CONNECTION, "close");
        }
        for (name, value) in &self.0.plan.request.headers {
            request = request.header(name, value);
        }
        request
    }

    /// Reads the whole answer: one that breaks off is a failure.
    pub(super) async fn finish(
        &self,
        number: u64,
        response: Response,
        expected: Expected,
    ) -> Outcome {
        self.answered(number);
        let status = response.status().as_u16();
        let end = speech::answer(Some(number));
        let received = read(response.into_body(), end.len()).await;
        let received = received.map_err(|(_, error)| failure::of_http(&error, true))?;
        let whole = received.tail == end.as_bytes() && received.bytes >= expected.response_bytes;
        match whole || status != 200 || !expected.has_body {
            true => Ok(Answer::status(status)),
            false => {
                let (bytes, tail) = (received.bytes, String::from_utf8_lossy(&received.tail));
                let what = format!("an answer of {bytes} bytes ends with {tail:?}, not {end:?}");
                Err(failure::wrong(what))
            }
        }
    }
}

/// Why a request can be built.
pub(super) const CHECKED: &str = "the workload's method, path and headers were checked";
