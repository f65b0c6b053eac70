//! gRPC's framing over HTTP/2, for a service that is spoken by hand: messages in a body, and the
//! status behind it. Compression is not offered, so that nobody uses it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use super::http::{Body, Error, Response};

/// The type of every message.
pub const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Statuses of gRPC that are answered here.
pub const OK: u32 = 0;
/// The question makes no sense.
pub const INVALID_ARGUMENT: u32 = 3;
/// Not for this client.
pub const PERMISSION_DENIED: u32 = 7;
/// Too much is asked already.
pub const RESOURCE_EXHAUSTED: u32 = 8;
/// There is no such method.
pub const UNIMPLEMENTED: u32 = 12;

/// A message as it travels.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("messages are far smaller than 4 GiB"));
    frame.put_slice(message);
    frame.freeze()
}

/// The answer that is a status alone. What of `message` no header may hold is left out.
pub fn refuse(status: u32, message: &str) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, APPLICATION_GRPC);
    headers.insert("grpc-status", HeaderValue::from(status));
    let plain = |c: &char| matches!(c, ' '..='~') && *c != '%';
    let message: String = message.chars().filter(plain).collect();
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert("grpc-message", message);
    }
    response
}

/// What follows the last message of an answer that went well.
pub fn trailers_ok() -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from(OK))])
}

/// What an answer's head or trailers say: the status, and its text.
pub fn status(headers: &HeaderMap) -> Option<(u32, String)> {
    let status = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers.get("grpc-message").and_then(|value| value.to_str().ok());
    Some((status, message.unwrap_or_default().to_string()))
}

/// The messages of a body, one after the other.
#[derive(Debug)]
pub struct Messages {
    body: Body,
    read: BytesMut,
    bytes_max: usize,
    trailers: Option<HeaderMap>,
}

impl Messages {
    /// Of a body whose messages have `bytes_max` bytes at most.
    pub fn new(body: Body, bytes_max: usize) -> Self {
        Self { body, read: BytesMut::new(), bytes_max, trailers: None }
    }

    /// The next message; none at the body's end.
    ///
    /// # Errors
    /// As the body fails; [`Error::TooLarge`] and [`Error::Invalid`] where a message is too long,
    /// compressed or cut off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.next_frame().await.transpose()? else {
                return match self.read.is_empty() {
                    true => Ok(None),
                    false => Err(Error::Invalid("a message is cut off".into())),
                };
            };
            match frame.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    /// What followed the last message, once the body has ended.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    fn take(&mut self) -> Result<Option<Bytes>, Error> {
        let Some((prefix, _)) = self.read.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Err(Error::Invalid("a message is compressed".into()));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > self.bytes_max {
            return Err(Error::TooLarge("message"));
        }
        if self.read.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.read.advance(PREFIX_BYTES);
        Ok(Some(self.read.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], bytes_max: usize) -> Result<Vec<Bytes>, Error> {
        let mut messages = Messages::new(Body::full(bytes.to_vec()), bytes_max);
        let mut all = Vec::new();
        while let Some(message) = messages.next().await? {
            all.push(message);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn messages_come_as_they_were_framed() {
        let bytes = [frame(b"one"), frame(b""), frame(b"three")].concat();
        assert_eq!(read(&bytes, 5).await.unwrap(), ["one", "", "three"]);
    }

    #[tokio::test]
    async fn what_is_too_long_or_compressed_or_cut_off_is_refused() {
        assert!(matches!(read(&frame(b"three"), 4).await, Err(Error::TooLarge(_))));
        assert!(read(&[1, 0, 0, 0, 0], 4).await.is_err());
        assert!(read(&frame(b"three")[..7], 9).await.is_err());
    }

    #[test]
    fn a_refusal_is_a_status_with_a_text_that_a_header_holds() {
        let response = refuse(PERMISSION_DENIED, "not\nfor 100% of you");
        let said = status(response.headers());
        assert_eq!(said, Some((7, "notfor 100 of you".into())));
        assert_eq!(status(&trailers_ok()), Some((0, String::new())));
    }
}
