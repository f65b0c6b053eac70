//! Tells HTTP/2 and HTTP/1 from everything else.
//!
//! [`http()`] is Linkerd's rule for one read. [`HttpDetector`] applies the same rule to bytes that
//! arrive in pieces: it waits where Linkerd would have judged half a request line.

use super::Progress;

/// The first bytes of HTTP/2 with prior knowledge that Linkerd asks for. Also the length of the
/// shortest HTTP/1 request line, `GET / HTTP/1.1`.
const PREFACE: &[u8; 14] = b"PRI * HTTP/2.0";

/// As many bytes are looked at; a request line that is longer than this and good so far is HTTP/1.
pub const HTTP_BYTES_MAX: usize = 1024;

/// Methods whose beginning is worth waiting for: IANA's registry, and `PURGE`.
const METHODS: [&[u8]; 41] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"ACL ",
    b"BASELINE-CONTROL ",
    b"BIND ",
    b"CHECKIN ",
    b"CHECKOUT ",
    b"COPY ",
    b"LABEL ",
    b"LINK ",
    b"LOCK ",
    b"MERGE ",
    b"MKACTIVITY ",
    b"MKCALENDAR ",
    b"MKCOL ",
    b"MKREDIRECTREF ",
    b"MKWORKSPACE ",
    b"MOVE ",
    b"ORDERPATCH ",
    b"PROPFIND ",
    b"PROPPATCH ",
    b"PURGE ",
    b"QUERY ",
    b"REBIND ",
    b"REPORT ",
    b"SEARCH ",
    b"UNBIND ",
    b"UNCHECKOUT ",
    b"UNLINK ",
    b"UNLOCK ",
    b"UPDATE ",
    b"UPDATEREDIRECTREF ",
    b"VERSION-CONTROL ",
    b"PRI ",
];

/// What first bytes turn out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpFound {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Anything else: carry the bytes.
    NotHttp,
}

/// Linkerd's rule for one read of up to [`HTTP_BYTES_MAX`] bytes: at least 14 bytes; the preface is
/// HTTP/2; what may begin a request without headers, as httparse judges it, is HTTP/1.
pub fn http(first_read: &[u8]) -> HttpFound {
    let read = &first_read[..first_read.len().min(HTTP_BYTES_MAX)];
    if read.len() < PREFACE.len() {
        HttpFound::NotHttp
    } else if read.starts_with(PREFACE) {
        HttpFound::Http2
    } else {
        match request_line(read) {
            RequestLine::Good | RequestLine::Partial => HttpFound::Http1,
            RequestLine::Bad => HttpFound::NotHttp,
        }
    }
}

/// Detects HTTP in bytes that arrive in any segments.
///
/// For bytes that hold a whole request line the verdict is [`http()`]'s. Where fewer have come, and
/// they begin the preface or a request line with a registered method, it waits for more. So a
/// request is HTTP however it is cut, while Linkerd carries one opaquely whose first segment has
/// less than 14 bytes, and takes the first 14 bytes of `SSH-2.0-OpenSSH_9.6` for HTTP.
///
/// A first segment of less than 14 bytes that begins no registered method is not HTTP, at once, as
/// in Linkerd: waiting would stall protocols whose first message is a short word without a line
/// end. It is the exception to the law that segments do not matter: an unregistered method is
/// recognised only if 14 bytes come at once.
///
/// Holds at most [`HTTP_BYTES_MAX`] bytes, and none where the first segment decides.
#[derive(Clone, Debug, Default)]
pub struct HttpDetector {
    seen: Vec<u8>,
    found: Option<HttpFound>,
}

impl HttpDetector {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the bytes that follow those pushed before.
    pub fn push(&mut self, bytes: &[u8]) -> Progress<HttpFound> {
        if let Some(found) = self.found {
            return Progress::Done(found);
        }
        let progress = if self.seen.is_empty() {
            judge(bytes)
        } else {
            let room = HTTP_BYTES_MAX - self.seen.len();
            self.seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
            judge(&self.seen)
        };
        match progress {
            Progress::Done(found) => {
                self.found = Some(found);
                self.seen = Vec::new();
            }
            // Undecided bytes are fewer than HTTP_BYTES_MAX: `judge` decides there.
            Progress::More if self.seen.is_empty() => self.seen.extend_from_slice(bytes),
            Progress::More => {}
        }
        progress
    }

    /// The verdict where no more bytes come, because the client closed its side or the time is up:
    /// [`http()`]'s on what was seen.
    pub fn end(&self) -> HttpFound {
        self.found.unwrap_or_else(|| http(&self.seen))
    }
}

fn judge(seen: &[u8]) -> Progress<HttpFound> {
    let seen = &seen[..seen.len().min(HTTP_BYTES_MAX)];
    if seen.starts_with(PREFACE) {
        return Progress::Done(HttpFound::Http2);
    }
    if PREFACE.starts_with(seen) {
        return Progress::More;
    }
    if seen.len() < PREFACE.len() && !begins_known_method(seen) {
        return Progress::Done(HttpFound::NotHttp);
    }
    match request_line(seen) {
        RequestLine::Good => Progress::Done(HttpFound::Http1),
        RequestLine::Bad => Progress::Done(HttpFound::NotHttp),
        RequestLine::Partial if seen.len() == HTTP_BYTES_MAX => Progress::Done(HttpFound::Http1),
        RequestLine::Partial => Progress::More,
    }
}

fn begins_known_method(seen: &[u8]) -> bool {
    METHODS.iter().any(|method| method.starts_with(seen) || seen.starts_with(method))
}

enum RequestLine {
    Good,
    Partial,
    Bad,
}

fn request_line(bytes: &[u8]) -> RequestLine {
    match httparse::Request::new(&mut []).parse(bytes) {
        Ok(httparse::Status::Complete(_)) | Err(httparse::Error::TooManyHeaders) => {
            RequestLine::Good
        }
        Ok(httparse::Status::Partial) => RequestLine::Partial,
        Err(_) => RequestLine::Bad,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The verdict on a stream pushed in segments that end at `cuts`.
    fn in_segments(stream: &[u8], cuts: &[usize]) -> HttpFound {
        let mut detector = HttpDetector::new();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        let mut start = 0;
        for end in cuts {
            if end == start {
                continue;
            }
            if let Progress::Done(found) = detector.push(&stream[start..end]) {
                return found;
            }
            start = end;
        }
        detector.end()
    }

    const STREAMS: [&[u8]; 26] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\n\n",
        b"GET / HTTP/1.1",
        b"POST /a?b=c HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0",
        b"PRI * HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\0: a\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        b"GET /only-a-beginning",
        b"GET /",
        b"GETX / HTTP/1.1\r\n\r\n",
        b"ruok",
        b"PING\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"EHLO client.example\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaa",
        b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\0\0\0",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];

    #[test]
    fn the_table_of_verdicts() {
        let mut table = String::from("at once  bytewise\n");
        for stream in STREAMS {
            let bytewise: Vec<usize> = (0..stream.len()).collect();
            table += &format!(
                "{:<8} {:<8} {}\n",
                format!("{:?}", in_segments(stream, &[])),
                format!("{:?}", in_segments(stream, &bytewise)),
                stream.escape_ascii()
            );
        }
        insta::assert_snapshot!(table, @r#"
        at once  bytewise
        Http1    Http1    GET / HTTP/1.1\r\nHost: a\r\n\r\n
        Http1    Http1    GET / HTTP/1.1\r\n\r\n
        Http1    Http1    GET / HTTP/1.0\n\n
        Http1    Http1    GET / HTTP/1.1
        Http1    Http1    POST /a?b=c HTTP/1.1\r\nContent-Length: 1\r\n\r\nx
        Http1    Http1    CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n
        Http1    Http1    GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n
        Http1    Http1    PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n
        Http1    NotHttp  BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n
        Http2    Http2    PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n
        Http2    Http2    PRI * HTTP/2.0
        Http1    Http1    PRI * HTTP/1.1\r\n\r\n
        NotHttp  NotHttp  GET / HTTP/1.1\r\n\x00: a\r\n\r\n
        NotHttp  NotHttp  GET / HTTP/3.0\r\nHost: a\r\n\r\n
        Http1    Http1    GET /only-a-beginning
        NotHttp  NotHttp  GET /
        Http1    NotHttp  GETX / HTTP/1.1\r\n\r\n
        NotHttp  NotHttp  ruok
        NotHttp  NotHttp  PING\r\n
        NotHttp  NotHttp  *1\r\n$4\r\nPING\r\n
        NotHttp  NotHttp  SSH-2.0-OpenSSH_9.6\r\n
        NotHttp  NotHttp  EHLO client.example\r\n
        NotHttp  NotHttp  PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n
        NotHttp  NotHttp  \x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaa
        NotHttp  NotHttp  \x00\x00\x00\x08\x04\xd2\x16/\x00\x00\x00\x00\x00\x00
        Http1    NotHttp  \r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n
        "#);
    }

    #[test]
    fn a_whole_request_line_has_linkerds_verdict() {
        for stream in STREAMS {
            assert_eq!(in_segments(stream, &[]), http(stream), "{}", stream.escape_ascii());
        }
    }

    #[test]
    fn a_request_line_longer_than_the_buffer_is_http1() {
        let long = [b"GET /".as_slice(), &[b'a'; 2000]].concat();
        assert_eq!(HttpDetector::new().push(&long).done(), Some(HttpFound::Http1));
        assert_eq!(in_segments(&long, &[1, 7, 900, 1100]), HttpFound::Http1);
    }

    #[test]
    fn a_short_word_that_begins_no_method_is_judged_at_once() {
        let first = |bytes: &[u8]| HttpDetector::new().push(bytes);
        assert_eq!(first(b"ruok"), Progress::Done(HttpFound::NotHttp));
        assert_eq!(first(b"PING"), Progress::Done(HttpFound::NotHttp));
        assert_eq!(first(b"P"), Progress::More);
        assert_eq!(first(b"DELETE"), Progress::More);
    }

    #[test]
    fn a_decided_detector_stays_decided() {
        let mut detector = HttpDetector::new();
        assert_eq!(detector.push(b"\0"), Progress::Done(HttpFound::NotHttp));
        assert_eq!(detector.push(b"GET / HTTP/1.1\r\n"), Progress::Done(HttpFound::NotHttp));
        assert_eq!(detector.end(), HttpFound::NotHttp);
    }

    proptest! {
        /// Streams that begin like HTTP, with whatever after: every segmentation agrees.
        #[test]
        fn segments_do_not_matter(
            head in prop::sample::select(vec![
                "GET ", "GET / HTTP/1.1\r\n", "PUT /x HTTP/1.0\n", "PRI * HTTP/2.0", "PRI * HT",
                "PATCH /a HTTP/1.1\r\nA: b\r\n", "HEAD\t", "MKCOL /", "DELETE /a?b HTTP/",
            ]),
            tail in prop::collection::vec(prop_oneof![any::<u8>(), 32..127u8, Just(b'\n')], 0..80),
            cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let stream = [head.as_bytes(), &tail].concat();
            prop_assert_eq!(in_segments(&stream, &cuts), in_segments(&stream, &[]));
        }

        /// Any stream, once 14 bytes have come together: every further segmentation agrees.
        #[test]
        fn later_segments_do_not_matter(
            stream in prop::collection::vec(prop_oneof![any::<u8>(), 32..127u8], 14..80),
            cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let cuts: Vec<_> =
                cuts.into_iter().map(|cut| 14 + cut % (stream.len() - 13)).collect();
            prop_assert_eq!(in_segments(&stream, &cuts), in_segments(&stream, &[]));
        }

        /// Wherever Linkerd finds HTTP in one read, so do we; a bad request line never is HTTP.
        #[test]
        fn one_read_is_judged_as_linkerd_does(
            stream in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            prop_assert_eq!(in_segments(&stream, &[]), http(&stream));
        }
    }
}
