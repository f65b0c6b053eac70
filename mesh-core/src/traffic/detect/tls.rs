//! Reads a TLS ClientHello as far as its server name (RFC 8446 4.1.2, RFC 6066 3). Decrypts and
//! verifies nothing, and keeps of the bytes only the name, so that a hello of any size in any
//! number of segments and records costs one small machine.
//!
//! Law: every length is checked against the length that encloses it; what breaks one is not TLS.

use super::Progress;
use crate::model::identity::DnsName;

/// As many bytes may be pushed before a verdict, record headers included; more are not TLS.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

/// What first bytes turn out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFound {
    /// A ClientHello to this server.
    Sni(DnsName),
    /// A ClientHello that names no server, or one that is no DNS name.
    NoSni,
    /// Anything else.
    NotTls,
}

/// Detects TLS and its server name in bytes that arrive in any segments.
#[derive(Clone, Debug)]
pub struct TlsDetector {
    seen_bytes: usize,
    record: Record,
    message: Message,
    found: Option<TlsFound>,
}

impl Default for TlsDetector {
    fn default() -> Self {
        Self {
            seen_bytes: 0,
            record: Record::Header(Number::default()),
            message: Message::new(),
            found: None,
        }
    }
}

impl TlsDetector {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the bytes that follow those pushed before.
    pub fn push(&mut self, bytes: &[u8]) -> Progress<TlsFound> {
        for &byte in bytes {
            if self.found.is_some() {
                break;
            }
            self.found = self.byte(byte).unwrap_or(Some(TlsFound::NotTls));
        }
        match &self.found {
            Some(found) => Progress::Done(found.clone()),
            None => Progress::More,
        }
    }

    fn byte(&mut self, byte: u8) -> Result<Option<TlsFound>, NotTls> {
        if self.seen_bytes == CLIENT_HELLO_BYTES_MAX {
            return Err(NotTls);
        }
        self.seen_bytes += 1;
        match &mut self.record {
            Record::Header(header) => {
                header.add(byte);
                // A handshake record (22) of major version 3.
                let wrong = match header.filled {
                    1 => byte != 22,
                    2 => byte != 3,
                    _ => false,
                };
                if wrong {
                    return Err(NotTls);
                }
                if header.filled == 5 {
                    let left = header.value as u16;
                    if left == 0 || left > 16 * 1024 {
                        return Err(NotTls);
                    }
                    self.record = Record::Payload { left };
                }
                Ok(None)
            }
            Record::Payload { left } => {
                *left -= 1;
                if *left == 0 {
                    self.record = Record::Header(Number::default());
                }
                self.message.byte(byte)
            }
        }
    }
}

/// The bytes are not a ClientHello.
struct NotTls;

/// A big-endian number that is being read; of more than eight bytes, the last eight.
#[derive(Clone, Copy, Debug, Default)]
struct Number {
    value: u64,
    filled: u8,
}

impl Number {
    fn add(&mut self, byte: u8) {
        self.value = self.value << 8 | u64::from(byte);
        self.filled += 1;
    }
}

/// Where in a TLS record the next byte lies.
#[derive(Clone, Debug)]
enum Record {
    Header(Number),
    Payload { left: u16 },
}

/// Where in the handshake message the next byte lies.
#[derive(Clone, Debug)]
struct Message {
    field: Field,
    number: Number,
    /// Bytes to pass over before the field.
    skip: usize,
    /// Bytes that are left of the message's body.
    left: usize,
}

/// Fields of a ClientHello that matter, in order.
#[derive(Clone, Debug)]
enum Field {
    /// Type and length.
    Header,
    Version,
    /// Length of the legacy session identifier, after the random.
    SessionId,
    /// Length of the cipher suites.
    CipherSuites,
    /// Length of the legacy compression methods.
    Compression,
    /// Length of all extensions.
    Extensions,
    /// Type and length of the next extension.
    Extension,
    /// Length of the server names, in an extension of this many bytes.
    NameList {
        extension: usize,
    },
    /// Type and length of the next name, in a list of which these many bytes are left.
    Name {
        list: usize,
    },
    /// The name itself.
    HostName {
        length: usize,
        name: Vec<u8>,
    },
}

impl Field {
    fn width(&self) -> u8 {
        match self {
            Self::Header | Self::Extension => 4,
            Self::Name { .. } => 3,
            Self::Version | Self::CipherSuites | Self::Extensions | Self::NameList { .. } => 2,
            Self::SessionId | Self::Compression | Self::HostName { .. } => 1,
        }
    }
}

const RANDOM_BYTES: usize = 32;

impl Message {
    fn new() -> Self {
        Self { field: Field::Header, number: Number::default(), skip: 0, left: 4 }
    }

    fn byte(&mut self, byte: u8) -> Result<Option<TlsFound>, NotTls> {
        self.left = self.left.checked_sub(1).ok_or(NotTls)?;
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(self.end_of_extensions());
        }
        self.number.add(byte);
        if self.number.filled < self.field.width() {
            return if self.left == 0 { Err(NotTls) } else { Ok(None) };
        }
        let value = std::mem::take(&mut self.number).value as usize;
        self.field(value)
    }

    /// Takes a field that is complete.
    fn field(&mut self, value: usize) -> Result<Option<TlsFound>, NotTls> {
        match &mut self.field {
            Field::Header => {
                // ClientHello is type 1.
                if value >> 24 != 1 || value & 0xff_ffff > CLIENT_HELLO_BYTES_MAX {
                    return Err(NotTls);
                }
                self.left = value & 0xff_ffff;
                self.go(Field::Version, 0)
            }
            Field::Version if value >> 8 == 3 => self.go(Field::SessionId, RANDOM_BYTES),
            Field::SessionId if value <= 32 => self.go(Field::CipherSuites, value),
            Field::CipherSuites if value >= 2 && value.is_multiple_of(2) => {
                self.go(Field::Compression, value)
            }
            Field::Compression if value >= 1 => {
                if self.left == value {
                    // TLS 1.2 without extensions.
                    return Ok(Some(TlsFound::NoSni));
                }
                self.go(Field::Extensions, value)
            }
            Field::Extensions if value == self.left => {
                self.field = Field::Extension;
                Ok(self.end_of_extensions())
            }
            Field::Extension => {
                let (kind, length) = (value >> 16, value & 0xffff);
                if length > self.left {
                    return Err(NotTls);
                }
                if kind == 0 {
                    return self.go(Field::NameList { extension: length }, 0);
                }
                self.skip = length;
                Ok(self.end_of_extensions())
            }
            Field::NameList { extension } if value + 2 == *extension => {
                self.go(Field::Name { list: value }, 0)
            }
            Field::Name { list } => {
                let (kind, length) = (value >> 16, value & 0xffff);
                let rest = list.checked_sub(3 + length).ok_or(NotTls)?;
                match (kind, rest) {
                    (0, _) if length > 0 => self.go(
                        Field::HostName { length, name: Vec::with_capacity(length.min(256)) },
                        0,
                    ),
                    (0, _) => Err(NotTls),
                    (_, 0) => {
                        self.field = Field::Extension;
                        self.skip = length;
                        Ok(self.end_of_extensions())
                    }
                    (_, list) => self.go(Field::Name { list }, length),
                }
            }
            Field::HostName { length, name } => {
                name.push(value as u8);
                if name.len() < *length {
                    return Ok(None);
                }
                let dns = std::str::from_utf8(name).ok().and_then(|n| DnsName::new(n).ok());
                Ok(Some(dns.map_or(TlsFound::NoSni, TlsFound::Sni)))
            }
            _ => Err(NotTls),
        }
    }

    /// Goes on to a field after passing over `skip` bytes, both of which must fit.
    fn go(&mut self, field: Field, skip: usize) -> Result<Option<TlsFound>, NotTls> {
        if skip + usize::from(field.width()) > self.left {
            return Err(NotTls);
        }
        self.field = field;
        self.skip = skip;
        Ok(None)
    }

    /// The hello ended with its last extension, and none of them was a server name.
    fn end_of_extensions(&self) -> Option<TlsFound> {
        let ended = self.left == 0 && self.skip == 0 && matches!(self.field, Field::Extension);
        ended.then_some(TlsFound::NoSni)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_length(width: usize, bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u32).to_be_bytes()[4 - width..], bytes].concat()
    }

    fn extension(kind: u16, bytes: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &with_length(2, bytes)].concat()
    }

    fn server_name(name: &[u8]) -> Vec<u8> {
        extension(0, &with_length(2, &[&[0][..], &with_length(2, name)].concat()))
    }

    /// A ClientHello as a handshake message.
    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(with_length(1, &[9; 32]));
        body.extend(with_length(2, &[0x13, 1, 0x13, 2]));
        body.extend(with_length(1, &[0]));
        if !extensions.is_empty() {
            body.extend(with_length(2, &extensions.concat()));
        }
        [&[1][..], &with_length(3, &body)].concat()
    }

    fn in_records(message: &[u8], record_bytes: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[22, 3, 1][..], &with_length(2, part)].concat();
        message.chunks(record_bytes).flat_map(record).collect()
    }

    /// A key share such as X25519MLKEM768's makes hellos larger than 1 KB.
    fn post_quantum(name: &str) -> Vec<u8> {
        hello(&[extension(43, &[2, 3, 4]), extension(51, &[5; 1216]), server_name(name.as_bytes())])
    }

    fn detect(stream: &[u8]) -> Progress<TlsFound> {
        TlsDetector::new().push(stream)
    }

    fn in_segments(stream: &[u8], segment_bytes: usize) -> Progress<TlsFound> {
        let mut detector = TlsDetector::new();
        let mut last = Progress::More;
        for segment in stream.chunks(segment_bytes) {
            last = detector.push(segment);
        }
        last
    }

    fn sni(name: &str) -> Progress<TlsFound> {
        Progress::Done(TlsFound::Sni(DnsName::new(name).unwrap()))
    }

    #[test]
    fn the_table_of_verdicts() {
        let whole = |message: Vec<u8>| in_records(&message, 16_384);
        let mut truncated_list = hello(&[server_name(b"web.example")]);
        // The low byte of the name's length.
        let at = truncated_list.len() - 12;
        truncated_list[at] += 9;
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("small hello", whole(hello(&[server_name(b"web.example")]))),
            ("post-quantum hello", whole(post_quantum("web.example"))),
            ("upper case, trailing dot", whole(hello(&[server_name(b"WEB.Example.")]))),
            ("no server name", whole(hello(&[extension(43, &[2, 3, 4])]))),
            ("no extensions", whole(hello(&[]))),
            ("server name is no DNS name", whole(hello(&[server_name(b"a b")]))),
            ("server name is not UTF-8", whole(hello(&[server_name(b"\xff\xfe")]))),
            ("empty server name", whole(hello(&[server_name(b"")]))),
            ("a name of another type", whole(hello(&[extension(0, &[0, 4, 1, 0, 1, 9])]))),
            ("name longer than its list", whole(truncated_list)),
            ("half a hello", whole(post_quantum("web.example"))[..600].to_vec()),
            ("nothing", vec![]),
            ("an empty record", vec![22, 3, 1, 0, 0]),
            ("a record too large", vec![22, 3, 1, 0x40, 1]),
            ("an alert", vec![21, 3, 1, 0, 2, 2, 40]),
            ("SSL 2", vec![0x80, 0x2e, 1, 3, 1]),
            ("another major version", vec![22, 4, 1, 0, 200]),
            ("a ServerHello", in_records(&[2, 0, 0, 70, 3, 3], 100)),
            ("a hello larger than the limit", in_records(&[1, 0, 0x41, 0, 3, 3], 100)),
            ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ];
        let mut table = String::new();
        for (name, stream) in cases {
            let verdict = detect(&stream);
            assert_eq!(in_segments(&stream, 1), verdict, "{name}");
            table += &format!("{name:<30} {verdict:?}\n");
        }
        insta::assert_snapshot!(table, @r#"
        small hello                    Done(Sni(DnsName("web.example")))
        post-quantum hello             Done(Sni(DnsName("web.example")))
        upper case, trailing dot       Done(Sni(DnsName("web.example")))
        no server name                 Done(NoSni)
        no extensions                  Done(NoSni)
        server name is no DNS name     Done(NoSni)
        server name is not UTF-8       Done(NoSni)
        empty server name              Done(NotTls)
        a name of another type         Done(NoSni)
        name longer than its list      Done(NotTls)
        half a hello                   More
        nothing                        More
        an empty record                Done(NotTls)
        a record too large             Done(NotTls)
        an alert                       Done(NotTls)
        SSL 2                          Done(NotTls)
        another major version          Done(NotTls)
        a ServerHello                  Done(NotTls)
        a hello larger than the limit  Done(NotTls)
        HTTP                           Done(NotTls)
        "#);
    }

    #[test]
    fn a_hello_up_to_16_kib_is_read_over_records_and_segments() {
        let large = hello(&[extension(51, &[5; 15_000]), server_name(b"web.example")]);
        for record_bytes in [64, 500, 1400, 16_384] {
            let stream = in_records(&large, record_bytes);
            if stream.len() > CLIENT_HELLO_BYTES_MAX {
                continue;
            }
            for segment_bytes in [1, 3, 536, 1460, 20_000] {
                assert_eq!(in_segments(&stream, segment_bytes), sni("web.example"));
            }
        }
    }

    #[test]
    fn record_headers_count_against_the_limit() {
        let large = hello(&[extension(51, &[5; 8_000]), server_name(b"web.example")]);
        assert_eq!(detect(&in_records(&large, 1)), Progress::Done(TlsFound::NotTls));
    }

    #[test]
    fn the_machine_is_small() {
        assert!(size_of::<TlsDetector>() <= 160, "{}", size_of::<TlsDetector>());
    }

    proptest! {
        #[test]
        fn segments_and_records_do_not_matter(
            padding in 0usize..3000,
            labels in "[a-z]{1,20}(\\.[a-z0-9-]{1,10}){0,4}",
            record_bytes in 1usize..2000,
            segment_bytes in 1usize..2000,
        ) {
            let message = hello(&[extension(21, &vec![0; padding]), server_name(labels.as_bytes())]);
            let stream = in_records(&message, record_bytes);
            prop_assume!(stream.len() <= CLIENT_HELLO_BYTES_MAX);
            prop_assert_eq!(in_segments(&stream, segment_bytes), sni(&labels));
        }

        #[test]
        fn a_damaged_hello_is_judged_the_same_in_every_segmentation(
            flips in prop::collection::vec((0usize..1400, any::<u8>()), 1..6),
            cut in 0usize..1500,
            segment_bytes in 1usize..200,
        ) {
            let mut stream = in_records(&post_quantum("web.example"), 700);
            for (at, with) in flips {
                let at = at % stream.len();
                stream[at] ^= with;
            }
            stream.truncate(cut.max(1));
            prop_assert_eq!(in_segments(&stream, segment_bytes), detect(&stream));
        }

        #[test]
        fn garbage_is_judged_the_same_in_every_segmentation(
            tail in prop::collection::vec(any::<u8>(), 0..300),
            segment_bytes in 1usize..20,
        ) {
            let stream = [&[22, 3, 1, 1, 0, 1, 0, 0, 240, 3, 3][..], &tail].concat();
            prop_assert_eq!(in_segments(&stream, segment_bytes), detect(&stream));
        }
    }
}
