//! WebSockets (RFC 6455): the handshake's answer, and frames. Messages are not fragmented.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{MESSAGE_BYTES_MAX, sha1};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// A message of text.
    Text,
    /// The end, by one side; answered by the other.
    Close,
    /// Answered by a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    const fn code(self) -> u8 {
        match self {
            Self::Text => 0x1,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }
}

/// A whole message or control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: Opcode,
    pub(crate) payload: Vec<u8>,
}

/// What `sec-websocket-accept` must be for a `sec-websocket-key`.
pub(crate) fn accept(key: &str) -> String {
    base64(&sha1::digest(format!("{key}{GUID}").as_bytes()))
}

/// A client's key.
pub(crate) fn key(random: [u8; 16]) -> String {
    base64(&random)
}

/// Reads a frame; none at the end of the stream between two.
pub(crate) async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let invalid = |what: &str| io::Error::new(ErrorKind::InvalidData, format!("frame: {what}"));
    let mut head = [0; 2];
    if io.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    io.read_exact(&mut head[1..]).await?;
    let opcode = match head[0] {
        0x81 => Opcode::Text,
        0x88 => Opcode::Close,
        0x89 => Opcode::Ping,
        0x8a => Opcode::Pong,
        other => return Err(invalid(&format!("begins with {other:#x}"))),
    };
    let length = match head[1] & 0x7f {
        126 => usize::from(io.read_u16().await?),
        127 => usize::try_from(io.read_u64().await?).unwrap_or(usize::MAX),
        short => usize::from(short),
    };
    if length > MESSAGE_BYTES_MAX {
        return Err(invalid("too long"));
    }
    let mut mask = [0; 4];
    let masked = head[1] & 0x80 != 0;
    if masked {
        io.read_exact(&mut mask).await?;
    }
    let mut payload = vec![0; length];
    io.read_exact(&mut payload).await?;
    apply(mask, &mut payload);
    Ok(Some(Frame { opcode, payload }))
}

/// Writes a frame. `mask`: as clients must, and servers must not.
pub(crate) async fn write(
    io: &mut (impl AsyncWrite + Unpin),
    opcode: Opcode,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) -> io::Result<()> {
    let mut frame = vec![0x80 | opcode.code()];
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..126 => frame.push(masked | length as u8),
        length @ 126..0x1_0000 => {
            frame.push(masked | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(masked | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask.unwrap_or_default()[..if mask.is_some() { 4 } else { 0 }]);
    let at = frame.len();
    frame.extend_from_slice(payload);
    apply(mask.unwrap_or_default(), &mut frame[at..]);
    io.write_all(&frame).await?;
    io.flush().await
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let all = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..4 {
            match digit <= chunk.len() {
                true => text.push(ALPHABET[(all >> (18 - 6 * digit)) as usize & 63] as char),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_answered_as_in_the_standards_example() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test]
    async fn frames_of_every_length_are_read_as_they_were_written() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let payload = vec![b'x'; length];
                let mut wire = Vec::new();
                write(&mut wire, Opcode::Text, &payload, mask).await.expect("written");
                let read = read(&mut &wire[..]).await.expect("read");
                assert_eq!(read, Some(Frame { opcode: Opcode::Text, payload }));
            }
        }
    }
}
