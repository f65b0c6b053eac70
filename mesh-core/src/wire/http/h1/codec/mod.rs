//! HTTP/1.0 and HTTP/1.1 as bytes (RFC 9112): heads, framing and bodies, decoded and encoded. Does
//! no input or output and knows no time.
//!
//! Law: what two implementations could read differently is refused ([`Refusal`]), so that a message
//! that passes here has one meaning for every hop behind. Decoding does not depend on how the
//! bytes were cut into reads.

mod body;
mod encode;
mod framing;
mod head;
mod lines;
mod refusal;
#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, Decoded};
pub use encode::{
    BodyEncoder, ConnectionField, EncodeError, informational_head, request_head, response_head,
};
pub use framing::Framing;
pub use head::{HeadDecoder, RequestHead, ResponseHead};
pub use refusal::Refusal;

use bytes::Bytes;

/// Header fields of a head, or of a trailer section, at most.
pub const HEADERS_MAX: usize = 128;

/// Bytes of a head, or of a trailer section, at most, unless told otherwise.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Bytes of all chunk extensions of one body at most. They are read and forgotten, so this bounds
/// work, not memory.
pub const CHUNK_EXTENSION_BYTES_MAX: u32 = 16 * 1024;

/// A response's reason phrase, as an extension of the response, where it is not the usual one for
/// its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(Bytes);

impl Reason {
    /// The phrase.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
