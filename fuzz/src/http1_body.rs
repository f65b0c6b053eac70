//! Chunked bodies: every segmentation is read the same, nothing is lost, and what is written again is
//! read again.

use bytes::BytesMut;
use http::HeaderMap;
use mesh_core::wire::http::h1::codec::{BodyDecoder, BodyEncoder, Decoded, Framing, Refusal};

use crate::input::segments;

/// A chunked body, and perhaps bytes after it.
pub fn chunked(input: &[u8]) {
    let (whole, segments) = segments(input);
    let at_once = decode(&[&whole]);
    assert_eq!(decode(&segments), at_once);
    let bytes: Vec<_> = whole.chunks(1).collect();
    assert_eq!(decode(&bytes), at_once);
    assert!(at_once.data.len() <= whole.len());
    if at_once.end != Ok(true) {
        return;
    }
    let mut written = Vec::new();
    encode_body(Framing::Chunked, &at_once.data, at_once.trailers.as_ref(), &mut written);
    written.extend_from_slice(&at_once.after);
    assert_eq!(decode(&[&written]), at_once);
}

/// Writes a body in two pieces and its end.
pub(crate) fn encode_body(
    framing: Framing,
    body: &[u8],
    trailers: Option<&HeaderMap>,
    out: &mut Vec<u8>,
) {
    let mut encoder = BodyEncoder::new(framing);
    let (first, second) = body.split_at(body.len() / 2);
    for piece in [first, second].into_iter().filter(|p| !p.is_empty()) {
        let after = encoder.data(piece.len(), false, out).expect("it fits");
        out.extend_from_slice(piece);
        out.extend_from_slice(after);
    }
    encoder.end(trailers, out).expect("it is whole");
}

#[derive(Debug, PartialEq)]
struct Body {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Whether it ended, or why it was refused.
    end: Result<bool, Refusal>,
    /// What belongs to the next message.
    after: Vec<u8>,
}

fn decode(segments: &[&[u8]]) -> Body {
    let mut body = Body { data: Vec::new(), trailers: None, end: Ok(false), after: Vec::new() };
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let mut input = BytesMut::new();
    for segment in segments {
        input.extend_from_slice(segment);
        while body.end == Ok(false) {
            match decoder.decode(&mut input) {
                Ok(Decoded::Data(data)) => body.data.extend_from_slice(&data),
                Ok(Decoded::Trailers(trailers)) => body.trailers = Some(trailers),
                Ok(Decoded::End) => body.end = Ok(true),
                Ok(Decoded::More) => break,
                Err(refusal) => body.end = Err(refusal),
            }
        }
    }
    if body.end == Ok(true) {
        assert!(decoder.is_end());
        body.after = input.to_vec();
    }
    body
}
