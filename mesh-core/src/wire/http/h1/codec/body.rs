//! Bodies, decoded. Data shares the input's memory; nothing is copied or held back.

use std::mem;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};

use crate::wire::http::hop_by_hop::{KEEP_ALIVE, PROXY_CONNECTION};

use super::lines::{self, Scan};
use super::{CHUNK_EXTENSION_BYTES_MAX, Framing, HEAD_BYTES_MAX, Refusal};

/// What a step of decoding found.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A part of the body, not empty.
    Data(Bytes),
    /// The trailers, which are the last before the end.
    Trailers(HeaderMap),
    /// The body has ended; what is left of the input belongs to the next message.
    End,
    /// More input is needed.
    More,
}

/// Decodes one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyDecoder(State);

#[derive(Clone, Copy, Debug)]
enum State {
    /// Bytes left.
    Length(u64),
    Chunked {
        step: Chunk,
        /// Bytes of extensions that may still come.
        extensions_left: u32,
    },
    UntilClose,
    End,
}

/// Where in the chunked coding the next byte lies.
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size {
        digits: u8,
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLineFeed {
        size: u64,
    },
    /// Bytes of the chunk left, not zero.
    Data {
        left: u64,
    },
    DataCarriageReturn,
    DataLineFeed,
    Trailers(Scan),
}

const FIRST: Chunk = Chunk::Size { digits: 0, size: 0 };

impl BodyDecoder {
    /// For a body that ends so.
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::None | Framing::Length(0) => State::End,
            Framing::Length(left) => State::Length(left),
            Framing::Chunked => {
                State::Chunked { step: FIRST, extensions_left: CHUNK_EXTENSION_BYTES_MAX }
            }
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// Whether the body has ended, trailers and all.
    pub fn is_end(&self) -> bool {
        matches!(self.0, State::End)
    }

    /// Whether the connection's end is the body's.
    pub fn is_until_close(&self) -> bool {
        matches!(self.0, State::UntilClose)
    }

    /// Bytes left, where they are known.
    pub fn bytes_left(&self) -> Option<u64> {
        match self.0 {
            State::Length(left) => Some(left),
            State::End => Some(0),
            State::Chunked { .. } | State::UntilClose => None,
        }
    }

    /// Takes the next part off the front of `input`.
    ///
    /// # Errors
    /// [`Refusal`]; the connection's bytes have no meaning from there on.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, Refusal> {
        match &mut self.0 {
            State::End => Ok(Decoded::End),
            _ if input.is_empty() => Ok(Decoded::More),
            State::UntilClose => Ok(Decoded::Data(mem::take(input).freeze())),
            State::Length(left) => {
                let data = take(input, left);
                if *left == 0 {
                    self.0 = State::End;
                }
                Ok(Decoded::Data(data))
            }
            State::Chunked { step, extensions_left } => {
                let decoded = chunked(step, extensions_left, input)?;
                match &decoded {
                    Decoded::End | Decoded::Trailers(_) => self.0 = State::End,
                    // So that who reads it learns the end with the last data, not later.
                    Decoded::Data(_) => self.end_with(input),
                    Decoded::More => {}
                }
                Ok(decoded)
            }
        }
    }

    fn end_with(&mut self, input: &mut BytesMut) {
        const LAST: &[u8] = b"\r\n0\r\n\r\n";
        let State::Chunked { step, .. } = &self.0 else {
            return;
        };
        if matches!(step, Chunk::DataCarriageReturn) && input.starts_with(LAST) {
            input.advance(LAST.len());
            self.0 = State::End;
        }
    }
}

/// At most `left` bytes off the front of `input`, which is not empty.
fn take(input: &mut BytesMut, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= length as u64;
    if length == input.len() {
        return mem::take(input).freeze();
    }
    input.split_to(length).freeze()
}

fn chunked(
    step: &mut Chunk,
    extensions_left: &mut u32,
    input: &mut BytesMut,
) -> Result<Decoded, Refusal> {
    loop {
        match step {
            Chunk::Data { left } => {
                if input.is_empty() {
                    return Ok(Decoded::More);
                }
                let data = take(input, left);
                if *left == 0 {
                    *step = Chunk::DataCarriageReturn;
                }
                return Ok(Decoded::Data(data));
            }
            Chunk::Trailers(scan) => return trailers(scan, input),
            _ => {
                let Some(byte) = input.first().copied() else {
                    return Ok(Decoded::More);
                };
                input.advance(1);
                *step = size_line(*step, byte, extensions_left)?;
            }
        }
    }
}

/// The step after `byte`, in a line that tells a size or in the end of line after a chunk's data.
fn size_line(step: Chunk, byte: u8, extensions_left: &mut u32) -> Result<Chunk, Refusal> {
    match (step, byte) {
        (Chunk::Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
            if digits == 16 {
                return Err(Refusal::ChunkSizeOverflow);
            }
            let digit = char::from(byte).to_digit(16).unwrap_or_default();
            Ok(Chunk::Size { digits: digits + 1, size: size << 4 | u64::from(digit) })
        }
        (Chunk::Size { digits: 0, .. }, _) => Err(Refusal::ChunkSize),
        (Chunk::Size { size, .. } | Chunk::Extension { size }, b'\r') => {
            Ok(Chunk::SizeLineFeed { size })
        }
        (Chunk::Size { .. } | Chunk::Extension { .. }, b'\n') => Err(Refusal::BareLf),
        (Chunk::Size { size, .. }, b';') => Ok(Chunk::Extension { size }),
        (Chunk::Size { .. }, _) => Err(Refusal::ChunkSize),
        (Chunk::Extension { .. }, 0..=8 | 10..=31 | 127) => Err(Refusal::Control(byte)),
        (Chunk::Extension { .. }, _) => {
            *extensions_left = extensions_left.checked_sub(1).ok_or(Refusal::ChunkExtensions)?;
            Ok(step)
        }
        (Chunk::SizeLineFeed { size: 0 }, b'\n') => Ok(Chunk::Trailers(Scan::default())),
        (Chunk::SizeLineFeed { size }, b'\n') => Ok(Chunk::Data { left: size }),
        (Chunk::SizeLineFeed { .. }, _) => Err(Refusal::BareCr),
        (Chunk::DataCarriageReturn, b'\r') => Ok(Chunk::DataLineFeed),
        (Chunk::DataLineFeed, b'\n') => Ok(FIRST),
        _ => Err(Refusal::ChunkEnd),
    }
}

fn trailers(scan: &mut Scan, input: &mut BytesMut) -> Result<Decoded, Refusal> {
    let Some(end) = scan.end(input, HEAD_BYTES_MAX)? else {
        return Ok(Decoded::More);
    };
    let section = input.split_to(end).freeze();
    if section.len() == b"\r\n".len() {
        return Ok(Decoded::End);
    }
    let mut slots = [httparse::EMPTY_HEADER; super::HEADERS_MAX];
    let fields = match httparse::parse_headers(&section, &mut slots) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        Ok(httparse::Status::Partial) => return Err(Refusal::HeaderName),
        Err(error) => return Err(lines::refusal(&section, error, Refusal::HeaderName)),
    };
    let trailers = lines::header_map(&section, fields)?;
    if FORBIDDEN.iter().any(|name| trailers.contains_key(name)) {
        return Err(Refusal::Trailer);
    }
    Ok(Decoded::Trailers(trailers))
}

/// What frames or routes a message has no place after it (RFC 9110, section 6.5.1), nor has what
/// belongs to a connection: HTTP/2, in which the other hop may be, cannot carry it.
pub(super) const FORBIDDEN: [HeaderName; 8] = [
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    HOST,
    CONNECTION,
    TE,
    UPGRADE,
    KEEP_ALIVE,
    PROXY_CONNECTION,
];
