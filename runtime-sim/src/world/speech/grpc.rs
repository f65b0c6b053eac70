//! gRPC's framing over HTTP/2: length-prefixed messages, trailers with the status. Messages are text,
//! not protobuf: the mesh does not look into them.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;

use mesh_core::wire::http::{Body, Error};

use super::MESSAGE_BYTES_MAX;

/// The service's path; a method's name follows.
pub(crate) const SERVICE: &str = "/simulated.Work/";
/// The trailer with the result.
pub(crate) const STATUS: &str = "grpc-status";
pub(crate) const CONTENT_TYPE: &str = "application/grpc";

/// A message with its prefix, uncompressed.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame.freeze()
}

/// Trailers with a status.
pub(crate) fn trailers(status: u16) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(STATUS), HeaderValue::from(status))])
}

/// The status that head or trailers carry.
pub(crate) fn status(fields: &HeaderMap) -> Option<u16> {
    fields.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// The gRPC status that is most like an HTTP status.
pub(crate) fn status_of(http: u16) -> u16 {
    match http {
        200..300 => 0,
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        408 | 504 => 4,
        409 => 10,
        429 => 8,
        501 => 12,
        502 | 503 => 14,
        _ => 13,
    }
}

/// A duration as `grpc-timeout` says it.
pub(crate) fn timeout(duration: std::time::Duration) -> String {
    format!("{}m", duration.as_millis().clamp(1, 99_999_999))
}

/// Takes messages out of a body.
pub(crate) struct Messages {
    body: Body,
    buffer: BytesMut,
    trailers: Option<HeaderMap>,
}

impl Messages {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), trailers: None }
    }

    /// The next message; none where there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(Error::Closed),
                };
            };
            match frame?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(prefix) = self.buffer.get(..5) else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(Error::TooLarge("message"));
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// The status of the trailers, where they have come with one.
    pub(crate) fn status(&self) -> Option<u16> {
        status(self.trailers.as_ref()?)
    }
}
