//! The header that a meshed client writes first on a connection to a peer's proxy port, so that
//! one port serves all (ALPN `transport.l5d.io/v1`).
//!
//! On the wire: `transport.l5d.io/v1\r\n\r\n`, a big-endian u32 length, and a protobuf message
//! `Header { int32 port = 1; string name = 2; SessionProtocol session_protocol = 3 }` where
//! `SessionProtocol { oneof kind { Http1 http1 = 1; Http2 http2 = 2 } }` and both kinds are empty
//! messages. Three fields do not earn a code generator: they are read and written here by hand.
//!
//! Law: `read` takes exactly the header's bytes from the stream, however they are split, and no
//! more than [`MESSAGE_BYTES_MAX`]; what follows stays for the protocol.

use std::io;
use std::num::NonZeroU16;

use bytes::{Buf, BufMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::model::identity::DnsName;
use crate::model::protocol::HttpVersion;

/// The ALPN protocol that says a transport header follows.
pub const ALPN: &[u8] = b"transport.l5d.io/v1";

/// What every header begins with.
const PREFACE: &[u8; 23] = b"transport.l5d.io/v1\r\n\r\n";

/// Longest message taken; Linkerd's reader has a buffer of 64 KiB for preface, length and message.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 - PREFACE.len() - 4;

/// Where a connection wants to go, and what it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportHeader {
    /// The application's port.
    pub port: NonZeroU16,
    /// The name to go to by way of a gateway; `None` for the workload behind this very proxy.
    pub name: Option<DnsName>,
    /// What the connection speaks; `None`: opaque.
    pub protocol: Option<HttpVersion>,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum TransportHeaderError {
    /// The stream failed or ended before the header did.
    #[error("transport header not read: {0}")]
    Io(#[from] io::Error),
    /// The stream begins with something else.
    #[error("not a transport header")]
    NotAHeader,
    /// The message is longer than [`MESSAGE_BYTES_MAX`].
    #[error("transport header of {0} bytes exceeds {MESSAGE_BYTES_MAX}")]
    TooLarge(u32),
    /// The message is not protobuf, or a field has the wrong type.
    #[error("malformed transport header: {0}")]
    Malformed(&'static str),
    /// The port is not in 1..=65535.
    #[error("transport header port {0} is not in 1..=65535")]
    InvalidPort(u64),
    /// The name is not a DNS name.
    #[error("transport header name: {0}")]
    InvalidName(#[from] crate::model::identity::InvalidIdentity),
}

/// The header's bytes, preface and length included.
pub fn encode(header: &TransportHeader) -> Vec<u8> {
    let mut message = Vec::with_capacity(16);
    message.put_u8(PORT_TAG);
    put_varint(&mut message, header.port.get().into());
    if let Some(name) = &header.name {
        message.put_u8(NAME_TAG);
        put_varint(&mut message, name.as_str().len() as u64);
        message.put_slice(name.as_str().as_bytes());
    }
    if let Some(protocol) = header.protocol {
        let kind = match protocol {
            HttpVersion::Http1 => HTTP1_TAG,
            HttpVersion::Http2 => HTTP2_TAG,
        };
        message.put_slice(&[SESSION_PROTOCOL_TAG, 2, kind, 0]);
    }
    let mut bytes = Vec::with_capacity(PREFACE.len() + 4 + message.len());
    bytes.put_slice(PREFACE);
    // A port, a name of at most 253 bytes and a kind are far below 4 GiB.
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(&message);
    bytes
}

/// Reads a header and nothing beyond it. Has no timeout: the caller sets its own.
///
/// # Errors
/// [`TransportHeaderError`]; the stream is of no use afterwards.
pub async fn read(
    io: &mut (impl AsyncRead + Unpin),
) -> Result<TransportHeader, TransportHeaderError> {
    let mut start = [0; PREFACE.len() + 4];
    io.read_exact(&mut start).await?;
    let (preface, mut length) = start.split_at(PREFACE.len());
    if preface != PREFACE {
        return Err(TransportHeaderError::NotAHeader);
    }
    let length = length.get_u32();
    if length as usize > MESSAGE_BYTES_MAX {
        return Err(TransportHeaderError::TooLarge(length));
    }
    let mut message = vec![0; length as usize];
    io.read_exact(&mut message).await?;
    decode(&message)
}

const PORT_TAG: u8 = 1 << 3;
const NAME_TAG: u8 = 2 << 3 | 2;
const SESSION_PROTOCOL_TAG: u8 = 3 << 3 | 2;
const HTTP1_TAG: u8 = 1 << 3 | 2;
const HTTP2_TAG: u8 = 2 << 3 | 2;

/// Reads the message. Later values of a field replace earlier ones; unknown fields are skipped.
fn decode(mut message: &[u8]) -> Result<TransportHeader, TransportHeaderError> {
    let mut port = 0;
    let mut name: &[u8] = &[];
    let mut protocol = None;
    while !message.is_empty() {
        match field(&mut message)? {
            (1, Value::Varint(value)) => port = value,
            (2, Value::Bytes(bytes)) => name = bytes,
            (3, Value::Bytes(bytes)) => protocol = decode_protocol(bytes)?.or(protocol),
            (1..=3, _) => return Err(Malformed("a field has the wrong type")),
            _ => {}
        }
    }
    let port = u16::try_from(port)
        .ok()
        .and_then(NonZeroU16::new)
        .ok_or(TransportHeaderError::InvalidPort(port))?;
    let name = std::str::from_utf8(name).map_err(|_| Malformed("the name is not UTF-8"))?;
    let name = (!name.is_empty()).then(|| DnsName::new(name)).transpose()?;
    Ok(TransportHeader { port, name, protocol })
}

fn decode_protocol(mut message: &[u8]) -> Result<Option<HttpVersion>, TransportHeaderError> {
    let mut protocol = None;
    while !message.is_empty() {
        match field(&mut message)? {
            (1, Value::Bytes(_)) => protocol = Some(HttpVersion::Http1),
            (2, Value::Bytes(_)) => protocol = Some(HttpVersion::Http2),
            (1 | 2, _) => return Err(Malformed("a protocol has the wrong type")),
            _ => {}
        }
    }
    Ok(protocol)
}

use TransportHeaderError::Malformed;

/// A field's value, as far as this message needs to tell.
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// Takes one field: its number and value.
fn field<'a>(message: &mut &'a [u8]) -> Result<(u64, Value<'a>), TransportHeaderError> {
    let key = varint(message)?;
    let value = match key & 7 {
        0 => Value::Varint(varint(message)?),
        1 => take(message, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = varint(message)?;
            Value::Bytes(take(message, length)?)
        }
        5 => take(message, 4).map(|_| Value::Fixed)?,
        _ => return Err(Malformed("unknown wire type")),
    };
    match key >> 3 {
        0 => Err(Malformed("field number 0")),
        number => Ok((number, value)),
    }
}

fn take<'a>(message: &mut &'a [u8], length: u64) -> Result<&'a [u8], TransportHeaderError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (taken, rest) =
        message.split_at_checked(length).ok_or(Malformed("a field is longer than the message"))?;
    *message = rest;
    Ok(taken)
}

fn varint(message: &mut &[u8]) -> Result<u64, TransportHeaderError> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let [byte, rest @ ..] = *message else {
            return Err(Malformed("a number is cut off"));
        };
        *message = rest;
        if shift == 63 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("a number is longer than 64 bits"))
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn header(port: u16, name: Option<&str>, protocol: Option<HttpVersion>) -> TransportHeader {
        TransportHeader {
            port: NonZeroU16::new(port).unwrap(),
            name: name.map(|name| DnsName::new(name).unwrap()),
            protocol,
        }
    }

    fn read_all(bytes: &[u8]) -> Result<(TransportHeader, Vec<u8>), TransportHeaderError> {
        let mut rest = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let header = runtime.block_on(read(&mut rest))?;
        Ok((header, rest.to_vec()))
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = (message.len() as u32).to_be_bytes();
        [PREFACE.as_slice(), &length, message].concat()
    }

    #[test]
    fn the_bytes_are_linkerds() {
        let bytes = encode(&header(4143, Some("web.example"), Some(HttpVersion::Http2)));
        let expected =
            b"transport.l5d.io/v1\r\n\r\n\0\0\0\x14\x08\xaf\x20\x12\x0bweb.example\x1a\x02\x12\0";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn every_fault_is_told_apart() {
        use TransportHeaderError as E;
        let error = |message: &[u8]| read_all(&framed(message)).unwrap_err();
        assert!(matches!(read_all(b"GET / HTTP/1.1\r\nhost: weft\r\n\r\n"), Err(E::NotAHeader)));
        assert!(matches!(read_all(&PREFACE[..9]), Err(E::Io(_))));
        assert!(matches!(
            read_all(b"transport.l5d.io/v1\r\n\r\n\xff\xff\xff\xff"),
            Err(E::TooLarge(u32::MAX))
        ));
        assert!(matches!(error(b""), E::InvalidPort(0)));
        assert!(matches!(error(b"\x08\x80\x80\x04"), E::InvalidPort(65_536)));
        assert!(matches!(error(b"\x0a\x01a"), E::Malformed(_)));
        assert!(matches!(error(b"\x08"), E::Malformed(_)));
        assert!(matches!(error(b"\x12\x09web"), E::Malformed(_)));
        assert!(matches!(error(b"\x08\x01\x12\x02\xff\xff"), E::Malformed(_)));
        assert!(matches!(error(b"\x08\x01\x12\x02.."), E::InvalidName(_)));
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let message = b"\x20\x01\x29\0\0\0\0\0\0\0\0\x32\x02hi\x3d\0\0\0\0\x08\x50";
        assert_eq!(read_all(&framed(message)).unwrap().0, header(80, None, None));
    }

    #[tokio::test]
    async fn a_header_may_come_a_byte_at_a_time() {
        let (mut near, mut far) = tokio::io::duplex(1);
        let sent = header(8080, None, Some(HttpVersion::Http1));
        let bytes = encode(&sent);
        let (read, written) = tokio::join!(read(&mut near), far.write_all(&bytes));
        written.unwrap();
        assert_eq!(read.unwrap(), sent);
    }

    proptest! {
        #[test]
        fn reading_undoes_writing_and_leaves_what_follows(
            port in 1..=u16::MAX,
            name in proptest::option::of("[a-z]{1,9}(\\.[a-z0-9]{1,9}){0,4}"),
            protocol in proptest::option::of(
                prop_oneof![Just(HttpVersion::Http1), Just(HttpVersion::Http2)]),
            after in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let sent = header(port, name.as_deref(), protocol);
            let bytes = [encode(&sent), after.clone()].concat();
            prop_assert_eq!(read_all(&bytes).unwrap(), (sent, after));
        }

        #[test]
        fn garbage_never_panics(message in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&message);
        }
    }
}
