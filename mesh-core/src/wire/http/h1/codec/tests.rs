//! Facts and laws of the codec as a whole.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Version};
use proptest::prelude::*;

use super::*;

/// Decodes a whole request and its body, fed in pieces of the given sizes (then all the rest).
/// Returns what was read in a text form, or the refusal.
fn request(input: &[u8], cuts: &[usize]) -> Result<String, Refusal> {
    let mut stream = Pieces::new(input, cuts);
    let mut decoder = HeadDecoder::default();
    let head = loop {
        if let Some(head) = decoder.request(&mut stream.buffer)? {
            break head;
        }
        if !stream.feed() {
            return Ok("incomplete".to_owned());
        }
    };
    let mut text = format!(
        "{} {} {:?} {:?} {:?}",
        head.parts.method, head.parts.uri, head.parts.version, head.parts.headers, head.framing
    );
    let (data, trailers) = match stream.body(head.framing)? {
        Some(body) => body,
        None => return Ok(text + " incomplete"),
    };
    write!(text, " {:?} {trailers:?}", Bytes::from(data)).expect("strings take everything");
    Ok(text)
}

/// What a client reads of a response to a request of this method.
fn response(method: Method, input: &[u8]) -> Result<String, Refusal> {
    let mut stream = Pieces::new(input, &[]);
    stream.feed();
    let Some(head) = HeadDecoder::default().response(&mut stream.buffer, &method)? else {
        return Ok("incomplete".to_owned());
    };
    Ok(format!(
        "{} {:?} keep-alive={} reason={:?}",
        head.parts.status.as_u16(),
        head.framing,
        head.keep_alive,
        head.parts.extensions.get::<Reason>().map(|reason| &reason.0)
    ))
}

struct Pieces<'a> {
    left: &'a [u8],
    cuts: std::slice::Iter<'a, usize>,
    buffer: BytesMut,
}

impl<'a> Pieces<'a> {
    fn new(input: &'a [u8], cuts: &'a [usize]) -> Self {
        Self { left: input, cuts: cuts.iter(), buffer: BytesMut::new() }
    }

    fn feed(&mut self) -> bool {
        if self.left.is_empty() {
            return false;
        }
        let length = self.cuts.next().map_or(self.left.len(), |cut| (*cut).max(1));
        let (piece, left) = self.left.split_at(length.min(self.left.len()));
        self.buffer.extend_from_slice(piece);
        self.left = left;
        true
    }

    fn body(&mut self, framing: Framing) -> Result<Option<(Vec<u8>, HeaderMap)>, Refusal> {
        let mut decoder = BodyDecoder::new(framing);
        let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
        loop {
            match decoder.decode(&mut self.buffer)? {
                Decoded::Data(piece) => data.extend_from_slice(&piece),
                Decoded::Trailers(found) => trailers = found,
                Decoded::End => return Ok(Some((data, trailers))),
                Decoded::More if self.feed() => {}
                Decoded::More => return Ok(None),
            }
        }
    }
}

#[test]
fn whatever_two_hops_could_read_differently_is_refused() {
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n") + body;
    let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
    let large = format!("a: {}\r\n", "b".repeat(HEAD_BYTES_MAX));
    let extensions = "5;".to_owned() + &"x".repeat(CHUNK_EXTENSION_BYTES_MAX as usize + 1);
    let trailers = "0\r\na: ".to_owned() + &"b".repeat(HEAD_BYTES_MAX);
    let cases: Vec<(&str, String)> = vec![
        ("length and coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        ("coding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
        ("differing lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n")),
        ("equal lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n")),
        ("list of lengths", post("Content-Length: 5, 5\r\n")),
        ("signed length", post("Content-Length: +5\r\n")),
        ("hexadecimal length", post("Content-Length: 0x5\r\n")),
        ("inner space in length", post("Content-Length: 5 5\r\n")),
        ("empty length", post("Content-Length:\r\n")),
        ("length of 2^64", post("Content-Length: 18446744073709551616\r\n")),
        ("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n")),
        ("identity", post("Transfer-Encoding: identity\r\n")),
        ("chunked in quotes", post("Transfer-Encoding: \"chunked\"\r\n")),
        ("chunked with parameter", post("Transfer-Encoding: chunked;q=1\r\n")),
        ("xchunked", post("Transfer-Encoding: xchunked\r\n")),
        ("chunked with form feed", post("Transfer-Encoding: \x0cchunked\r\n")),
        ("chunked, chunked", post("Transfer-Encoding: chunked, chunked\r\n")),
        (
            "chunked in two fields",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ),
        ("chunked then empty", post("Transfer-Encoding: chunked,\r\n")),
        ("no coding", post("Transfer-Encoding:\r\n")),
        ("coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        ("bare LF after request line", "GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned()),
        ("bare LF after field", "GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned()),
        ("bare LF ends head", "GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned()),
        ("bare LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("bare CR in value", post("X: a\rb\r\n")),
        ("bare CR before field", post("\rX: a\r\n")),
        ("two CR", post("X: a\r\r\n")),
        ("folded with space", post("X: a\r\n b\r\n")),
        ("folded with tab", post("X: a\r\n\tb\r\n")),
        ("space before first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned()),
        ("space before colon", post("Content-Length : 5\r\n")),
        ("tab before colon", post("Transfer-Encoding\t: chunked\r\n")),
        ("no colon", post("X\r\n")),
        ("no name", post(": a\r\n")),
        ("space in name", post("X Y: a\r\n")),
        ("byte above 127 in name", post("X\u{e9}: a\r\n")),
        ("NUL in value", post("X: a\0b\r\n")),
        ("NUL in name", post("X\0: a\r\n")),
        ("DEL in value", post("X: a\x7f\r\n")),
        ("vertical tab in value", post("X: a\x0b\r\n")),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("two hosts", post("Host: a\r\n")),
        ("two hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        ("host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".to_owned()),
        ("host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned()),
        ("host with space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned()),
        ("host with bad port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n".to_owned()),
        ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n".to_owned()),
        ("HTTP/2.0", "PRI * HTTP/2.0\r\n\r\n".to_owned()),
        ("HTTP/0.9", "GET /\r\n\r\n".to_owned()),
        ("no such version", "GET / HTTQ/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("tab in request line", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("space at end of request line", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned()),
        ("bad method", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("authority form without connect", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("asterisk without options", "GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("connect to a path", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (
            "connect with body",
            "CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n".to_owned(),
        ),
        ("too many fields", post(&many)),
        ("too large", post(&large)),
        ("chunk size of 2^64", chunked("10000000000000000\r\n")),
        ("signed chunk size", chunked("+5\r\nhello\r\n")),
        ("prefixed chunk size", chunked("0x5\r\nhello\r\n")),
        ("empty chunk size", chunked("\r\nhello\r\n")),
        ("space before chunk size", chunked(" 5\r\nhello\r\n")),
        ("space after chunk size", chunked("5 \r\nhello\r\n")),
        ("bare LF after chunk size", chunked("5\nhello\r\n")),
        ("bare CR after chunk size", chunked("5\rhello\r\n")),
        ("bare LF after extension", chunked("5;a\nhello\r\n")),
        ("bare CR in extension", chunked("5;a\rb\r\nhello\r\n")),
        ("NUL in extension", chunked("5;\0\r\nhello\r\n")),
        ("endless extension", chunked(&extensions)),
        ("data longer than chunk", chunked("5\r\nhello!\r\n")),
        ("bare LF after data", chunked("5\r\nhello\n0\r\n\r\n")),
        ("bare CR after data", chunked("5\r\nhello\r0\r\n\r\n")),
        ("bare LF in trailers", chunked("0\r\na: b\n\r\n")),
        ("folded trailer", chunked("0\r\na: b\r\n c\r\n\r\n")),
        ("space before colon in trailers", chunked("0\r\na : b\r\n\r\n")),
        ("length in trailers", chunked("0\r\nContent-Length: 5\r\n\r\n")),
        ("upgrade in trailers", chunked("0\r\nUpgrade: websocket\r\n\r\n")),
        ("keep-alive in trailers", chunked("0\r\nKeep-Alive: timeout=5\r\n\r\n")),
        ("proxy-connection in trailers", chunked("0\r\nProxy-Connection: close\r\n\r\n")),
        ("host in trailers", chunked("0\r\nHost: b\r\n\r\n")),
        ("large trailers", chunked(&trailers)),
    ];
    let mut table = String::new();
    for (name, input) in cases {
        let refusal = request(input.as_bytes(), &[]).expect_err(name);
        writeln!(table, "{name}: {refusal} ({})", refusal.status().as_u16())
            .expect("strings take everything");
    }
    insta::assert_snapshot!(table);
}

#[test]
fn what_is_unusual_but_has_one_meaning_is_read() {
    let cases = [
        "\r\n\r\nGET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET http://b:80/c?d HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "M-SEARCH / HTTP/1.1\r\nHost: a\r\nX:\t b \r\nX: \r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
         00005;a=\"b\"\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello",
    ];
    let mut table = String::new();
    for input in cases {
        let read = request(input.as_bytes(), &[]).expect(input);
        writeln!(table, "{read}").expect("strings take everything");
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_responses_framing_follows_the_request_and_the_status() {
    let cases: [(Method, &str); 19] = [
        (Method::GET, "HTTP/1.1 200 OK\r\n\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Method::GET, "HTTP/1.1 103 Early Hints\r\n\r\n"),
        (Method::CONNECT, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (Method::CONNECT, "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n"),
        (Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (Method::GET, "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 5\r\n\r\n"),
        (Method::GET, "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n"),
        (Method::GET, "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"),
        (Method::GET, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Method::GET, "HTTP/2 200 OK\r\n\r\n"),
        (Method::GET, "HTTP/1.1 20 OK\r\n\r\n"),
    ];
    let mut table = String::new();
    for (method, input) in cases {
        let read = response(method.clone(), input.as_bytes())
            .unwrap_or_else(|refusal| format!("refused: {refusal}"));
        writeln!(table, "{method} {input:?}: {read}").expect("strings take everything");
    }
    insta::assert_snapshot!(table);
}

fn field_lines() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(("x-[a-z]{1,8}", "[!-~]([ -~\t]{0,20}[!-~])?|"), 0..6)
}

fn header_map(lines: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            http::HeaderName::from_bytes(name.as_bytes()).expect("the strategy makes names"),
            http::HeaderValue::from_str(value).expect("the strategy makes values"),
        );
    }
    headers
}

/// A request as bytes, by the encoder: its parts, pieces of body, trailers.
fn encode(
    fields: &[(String, String)],
    pieces: &[Vec<u8>],
    trailers: Option<&[(String, String)]>,
) -> Vec<u8> {
    let mut request = http::Request::new(());
    *request.method_mut() = Method::PUT;
    *request.uri_mut() = "/a?b=c".parse().expect("a good target");
    *request.headers_mut() = header_map(fields);
    let size = pieces.iter().map(Vec::len).sum::<usize>() as u64;
    let framing = if trailers.is_some() { Framing::Chunked } else { Framing::Length(size) };
    let mut out = Vec::new();
    request_head(&request, framing, ConnectionField::Absent, &mut out);
    let mut encoder = BodyEncoder::new(framing);
    for piece in pieces {
        let after = encoder.data(piece.len(), false, &mut out).expect("the size is right");
        out.extend_from_slice(piece);
        out.extend_from_slice(after);
    }
    let trailers = trailers.map(header_map);
    encoder.end(trailers.as_ref(), &mut out).expect("the size is right");
    assert!(encoder.is_end());
    out
}

proptest! {
    #[test]
    fn decoding_undoes_encoding_however_the_bytes_are_cut(
        fields in field_lines(),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        trailers in prop::option::of(field_lines()),
        cuts in prop::collection::vec(1_usize..20, 0..200),
    ) {
        let bytes = encode(&fields, &pieces, trailers.as_deref());
        let mut stream = Pieces::new(&bytes, &cuts);
        let mut decoder = HeadDecoder::default();
        let head = loop {
            prop_assert!(stream.feed());
            if let Some(head) = decoder.request(&mut stream.buffer).expect("it is good") {
                break head;
            }
        };
        prop_assert_eq!(&head.parts.method, Method::PUT);
        prop_assert_eq!(head.parts.uri.to_string(), "/a?b=c");
        prop_assert_eq!(head.parts.version, Version::HTTP_11);
        let mut headers = head.parts.headers;
        headers.remove("host");
        headers.remove("content-length");
        headers.remove("transfer-encoding");
        prop_assert_eq!(headers, header_map(&fields));
        let (data, found) = stream.body(head.framing).expect("it is good").expect("it is whole");
        prop_assert_eq!(data, pieces.concat());
        prop_assert_eq!(found, header_map(trailers.as_deref().unwrap_or_default()));
        prop_assert!(stream.buffer.is_empty() && !stream.feed());
    }

    #[test]
    fn cuts_change_nothing_for_good_and_bad_bytes_alike(
        bytes in "(GET|PUT) /( |\r)HTTP/1.1\r\n(Host: a\r\n){0,2}\
                  (Content-Length: [0-9]\r\n|Transfer-Encoding: chunked\r\n|X: [ab\r\n\t ]{0,4}\r\n){0,2}\
                  \r\n([0-3](;a)?\r\n|\r\n|abc|a: b\r\n){0,6}",
        cuts in prop::collection::vec(1_usize..8, 0..100),
    ) {
        let whole = request(bytes.as_bytes(), &[]);
        let cut = request(bytes.as_bytes(), &cuts);
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn garbage_is_refused_or_read_without_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = request(&bytes, &[]);
        let mut chunked = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        chunked.extend_from_slice(&bytes);
        let _ = request(&chunked, &[]);
    }
}
