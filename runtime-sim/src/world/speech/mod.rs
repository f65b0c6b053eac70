//! What clients and servers of a world share of the protocols they speak: sizes, fields, frames.
//! Knows neither workloads nor behaviours.

pub(super) mod body;
pub(super) mod grpc;
pub(super) mod sha1;
pub(super) mod tls;
pub(super) mod websocket;

/// The header that carries a request's number.
pub(super) const NUMBER: &str = "x-request-number";
/// The header that tells how many bytes a body has, that its receiver may check it.
pub(super) const BODY_BYTES: &str = "x-body-bytes";
/// The header that asks for an answer, or a message of one, of so many bytes.
pub(super) const RESPONSE_BYTES: &str = "x-response-bytes";
/// The header that asks for an answer without a length: `chunked`.
pub(super) const RESPONSE_FRAMING: &str = "x-response-framing";
/// The header that asks for so many messages of a gRPC server.
pub(super) const MESSAGES: &str = "x-messages";
/// The header that asks for a pause between messages, in microseconds.
pub(super) const INTERVAL_MICROS: &str = "x-interval-micros";
/// What every request carries, to be looked for between hosts.
pub(super) const MARKER: &str = "weft-plaintext-marker";
/// Bytes of a line, a message or a frame.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a request's or response's body.
pub(super) const BODY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A number that a field carries.
pub(super) fn number(headers: &http::HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
