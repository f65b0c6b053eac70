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

/// What every message says of itself: of which request it is, and which one of its direction, the
/// first being 0.
pub(super) fn message(number: u64, index: u64) -> String {
    format!("{MARKER} {number} {index}")
}

/// What a text that ends with a message's own words says.
pub(super) fn said(text: &[u8]) -> Option<(u64, u64)> {
    // The words are short: what is before them need not be looked at.
    let tail = &text[text.len().saturating_sub(80)..];
    let tail = String::from_utf8_lossy(tail);
    let mut words = tail.split_ascii_whitespace().rev();
    let (index, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next()?.ends_with(MARKER).then_some((number, index))
}

/// What the body of an answer ends with.
pub(super) fn answer(number: Option<u64>) -> String {
    number.map_or_else(|| MARKER.to_owned(), |number| format!("{MARKER} {number}"))
}

/// A number that a field carries.
pub(super) fn number(headers: &http::HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_which_it_is_however_it_is_filled_up() {
        assert_eq!(said(message(7, 3).as_bytes()), Some((7, 3)));
        assert_eq!(said(&body::filled(&message(7, 3), 4_000)), Some((7, 3)));
        assert_eq!(said(format!("web-0 {}", message(12, 0)).as_bytes()), Some((12, 0)));
        for other in
            ["", "7 3", "..... 7 3", "weft-plaintext-marker 7", "weft-plaintext-marker x 3"]
        {
            assert_eq!(said(other.as_bytes()), None, "{other}");
        }
    }
}
