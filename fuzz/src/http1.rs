//! HTTP/1 as a stream of messages: what is accepted has one meaning, in every segmentation, and keeps
//! it when it is written again; what could have two is refused.

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING};
use http::{Method, Version};
use mesh_core::wire::http::h1::codec::{
    BodyDecoder, ConnectionField, Decoded, Framing, HEAD_BYTES_MAX, HEADERS_MAX, HeadDecoder,
    Refusal, RequestHead, ResponseHead, request_head, response_head,
};

use crate::http1_body::encode_body;
use crate::input::segments;

/// Requests on a connection.
pub fn request(input: &[u8]) {
    let (whole, segments) = segments(input);
    let at_once = read::<RequestHead>(&[&whole], &Method::GET);
    let in_segments = read::<RequestHead>(&segments, &Method::GET);
    assert_same(&at_once, &in_segments);
    for message in &at_once.messages {
        check_smuggling(&message.head.parts.headers, message.head.framing);
        check_request(&message.head);
        write_again(message, &Method::GET);
    }
}

/// Responses on a connection, to requests whose method the first byte tells.
pub fn response(input: &[u8]) {
    let [method, input @ ..] = input else {
        return;
    };
    let method = match method % 4 {
        0 => Method::HEAD,
        1 => Method::CONNECT,
        _ => Method::GET,
    };
    let (whole, segments) = segments(input);
    let at_once = read::<ResponseHead>(&[&whole], &method);
    let in_segments = read::<ResponseHead>(&segments, &method);
    assert_same(&at_once, &in_segments);
    for message in &at_once.messages {
        check_smuggling(&message.head.parts.headers, message.head.framing);
        write_again(message, &method);
    }
}

/// What was read of a connection.
#[derive(Debug)]
struct Conversation<H> {
    messages: Vec<Message<H>>,
    refusal: Option<Refusal>,
}

#[derive(Debug)]
struct Message<H> {
    head: H,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Its end was read.
    whole: bool,
}

/// A head of either kind.
trait Head: Sized + std::fmt::Debug {
    fn decode(
        decoder: &mut HeadDecoder,
        input: &mut BytesMut,
        method: &Method,
    ) -> Result<Option<Self>, Refusal>;
    fn framing(&self) -> Framing;
    fn write(&self, method: &Method) -> Vec<u8>;
    /// All that must survive, as text.
    fn meaning(&self) -> String;
    /// Whether another message may follow.
    fn goes_on(&self) -> bool;
}

impl Head for RequestHead {
    fn decode(
        decoder: &mut HeadDecoder,
        input: &mut BytesMut,
        _: &Method,
    ) -> Result<Option<Self>, Refusal> {
        decoder.request(input)
    }

    fn framing(&self) -> Framing {
        self.framing
    }

    fn write(&self, _: &Method) -> Vec<u8> {
        let mut bytes = Vec::new();
        let connection = if self.upgrade && self.parts.method != Method::CONNECT {
            ConnectionField::Upgrade
        } else {
            connection(self.parts.version, self.keep_alive)
        };
        let head = http::Request::from_parts(self.parts.clone(), ());
        request_head(&head, self.framing, connection, &mut bytes);
        bytes
    }

    fn meaning(&self) -> String {
        let parts = &self.parts;
        // `Connection` has one field: an upgrade that also closes is written as an upgrade.
        let keep_alive = self.keep_alive || self.upgrade;
        format!(
            "{} {:?} {:?} {:?} {:?} {keep_alive} {} {}",
            parts.method,
            parts.uri,
            parts.version,
            end_to_end(&parts.headers),
            self.framing,
            self.expects_continue,
            self.upgrade,
        )
    }

    fn goes_on(&self) -> bool {
        self.keep_alive && !self.upgrade
    }
}

impl Head for ResponseHead {
    fn decode(
        decoder: &mut HeadDecoder,
        input: &mut BytesMut,
        method: &Method,
    ) -> Result<Option<Self>, Refusal> {
        decoder.response(input, method)
    }

    fn framing(&self) -> Framing {
        self.framing
    }

    fn write(&self, method: &Method) -> Vec<u8> {
        let mut bytes = Vec::new();
        let version = self.parts.version;
        let connection = connection(version, self.keep_alive);
        response_head(&self.parts, method, version, self.framing, connection, &mut bytes);
        bytes
    }

    fn meaning(&self) -> String {
        let parts = &self.parts;
        format!(
            "{} {:?} {:?} {:?} {}",
            parts.status,
            parts.version,
            end_to_end(&parts.headers),
            self.framing,
            self.keep_alive,
        )
    }

    fn goes_on(&self) -> bool {
        self.keep_alive
    }
}

fn connection(version: Version, keep_alive: bool) -> ConnectionField {
    match (version, keep_alive) {
        (Version::HTTP_10, true) => ConnectionField::KeepAlive,
        (_, true) => ConnectionField::Absent,
        (_, false) => ConnectionField::Close,
    }
}

/// Fields that are neither framing nor of the connection, in order by name.
fn end_to_end(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    let own = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];
    let fields = headers.iter().filter(|(name, _)| !own.contains(name));
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (name.to_string(), Bytes::copy_from_slice(value.as_bytes())))
        .collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields
}

fn read<H: Head>(segments: &[&[u8]], method: &Method) -> Conversation<H> {
    const MESSAGES_MAX: usize = 64;
    let mut conversation = Conversation { messages: Vec::new(), refusal: None };
    let mut input = BytesMut::new();
    let mut heads = HeadDecoder::default();
    let mut body: Option<BodyDecoder> = None;
    for segment in segments {
        input.extend_from_slice(segment);
        loop {
            let step = match &mut body {
                None if !may_follow(&conversation) => return conversation,
                None => read_head(&mut heads, &mut input, method, &mut conversation, &mut body),
                Some(decoder) => read_body(decoder, &mut input, &mut conversation),
            };
            match step {
                Ok(Step::More) => break,
                Ok(Step::Taken) => {}
                Ok(Step::Ended) => {
                    body = None;
                    heads = HeadDecoder::default();
                    if conversation.messages.len() == MESSAGES_MAX {
                        return conversation;
                    }
                }
                Err(refusal) => {
                    conversation.refusal = Some(refusal);
                    return conversation;
                }
            }
        }
    }
    conversation
}

fn may_follow<H: Head>(conversation: &Conversation<H>) -> bool {
    let last = conversation.messages.last();
    last.is_none_or(|last| last.head.goes_on())
}

enum Step {
    More,
    Taken,
    Ended,
}

fn read_head<H: Head>(
    heads: &mut HeadDecoder,
    input: &mut BytesMut,
    method: &Method,
    conversation: &mut Conversation<H>,
    body: &mut Option<BodyDecoder>,
) -> Result<Step, Refusal> {
    let Some(head) = H::decode(heads, input, method)? else {
        assert!(input.len() < HEAD_BYTES_MAX, "held without a bound");
        return Ok(Step::More);
    };
    *body = Some(BodyDecoder::new(head.framing()));
    conversation.messages.push(Message { head, body: Vec::new(), trailers: None, whole: false });
    Ok(Step::Taken)
}

fn read_body<H: Head>(
    decoder: &mut BodyDecoder,
    input: &mut BytesMut,
    conversation: &mut Conversation<H>,
) -> Result<Step, Refusal> {
    let message = conversation.messages.last_mut().expect("its head came");
    let left = decoder.bytes_left();
    match decoder.decode(input)? {
        Decoded::More => {
            let held = input.len();
            assert!(held < HEAD_BYTES_MAX, "held without a bound");
            return Ok(Step::More);
        }
        Decoded::Data(data) => {
            assert!(!data.is_empty());
            assert!(left.is_none_or(|left| left >= data.len() as u64));
            message.body.extend_from_slice(&data);
        }
        Decoded::Trailers(trailers) => message.trailers = Some(trailers),
        Decoded::End => {
            message.whole = true;
            return Ok(Step::Ended);
        }
    }
    Ok(Step::Taken)
}

fn assert_same<H: Head>(a: &Conversation<H>, b: &Conversation<H>) {
    assert_eq!(a.refusal, b.refusal);
    assert_eq!(a.messages.len(), b.messages.len());
    for (a, b) in a.messages.iter().zip(&b.messages) {
        assert_eq!(a.head.meaning(), b.head.meaning());
        assert_eq!(a.body, b.body);
        assert_eq!(a.trailers, b.trailers);
        assert_eq!(a.whole, b.whole);
    }
}

/// Nobody behind can read another end into an accepted message.
fn check_smuggling(headers: &HeaderMap, framing: Framing) {
    let count = |name| headers.get_all(name).iter().count();
    let (lengths, codings) = (count(CONTENT_LENGTH), count(TRANSFER_ENCODING));
    assert!(lengths == 0 || codings == 0, "both lengths");
    assert!(lengths <= 1, "a repeated length");
    for coding in headers.get_all(TRANSFER_ENCODING) {
        assert!(coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    }
    if let Some(length) = headers.get(CONTENT_LENGTH) {
        assert!(length.as_bytes().iter().all(u8::is_ascii_digit));
    }
    if framing == Framing::Chunked {
        assert_eq!(codings, 1);
    }
    if let (Framing::Length(_), length) = (framing, headers.get(CONTENT_LENGTH)) {
        assert!(length.is_some());
    }
    assert!(headers.len() <= HEADERS_MAX);
    let values = headers.values().flat_map(|value| value.as_bytes());
    assert!(values.into_iter().all(|byte| !b"\r\n\0".contains(byte)));
}

fn check_request(head: &RequestHead) {
    let hosts = head.parts.headers.get_all(HOST).iter().count();
    match head.parts.version {
        Version::HTTP_10 => assert!(hosts <= 1),
        Version::HTTP_11 => assert_eq!(hosts, 1),
        version => panic!("{version:?}"),
    }
    assert_ne!(head.framing, Framing::UntilClose, "a request never ends so");
    if head.parts.version == Version::HTTP_10 {
        assert_ne!(head.framing, Framing::Chunked);
    }
}

/// Written and read again, a message is the same.
fn write_again<H: Head>(message: &Message<H>, method: &Method) {
    let mut bytes = message.head.write(method);
    let ends = bytes.windows(4).filter(|bytes| bytes == b"\r\n\r\n").count();
    assert!(ends == 1 && bytes.ends_with(b"\r\n\r\n"), "one end");
    let framing_fields = |name: &[u8]| {
        let lines = bytes.split(|byte| *byte == b'\n');
        let name = [name, b":"].concat();
        lines.filter(|line| line.to_ascii_lowercase().starts_with(&name)).count()
    };
    let lengths = framing_fields(b"content-length");
    assert!(lengths + framing_fields(b"transfer-encoding") <= 1);

    if message.whole || message.head.framing() == Framing::UntilClose {
        encode_body(message.head.framing(), &message.body, message.trailers.as_ref(), &mut bytes);
    }
    let again = read::<H>(&[&bytes], method);
    assert_eq!(again.refusal, None, "{}", bytes.escape_ascii());
    let [again] = &again.messages[..] else {
        panic!("one message became {}", again.messages.len());
    };
    assert_eq!(again.head.meaning(), message.head.meaning());
    assert_eq!(again.whole, message.whole);
    if message.whole {
        assert_eq!(again.body, message.body);
        assert_eq!(again.trailers, message.trailers);
    }
}
