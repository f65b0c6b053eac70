//! Finds out what a stream speaks from its first bytes: reads them, has `traffic::detect` judge,
//! and gives the stream back with all of them still to be read.
//!
//! A racing sniff also dials the server where the client says nothing: in a protocol where the server
//! speaks first, waiting for the client would stall both. The server's first bytes end the sniff;
//! they too are given back. The client is listened to all the while.
//!
//! Law: no byte of either stream is lost, doubled or moved, whatever the segments and the outcome.
//! At most a detector's own bound is read. Memory is held only for bytes that came.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use super::rewind::rewind;
use crate::runtime::clock::BoxSleep;
use crate::runtime::{BoxIo, Clock};
use crate::traffic::detect::{
    CLIENT_HELLO_BYTES_MAX, HTTP_BYTES_MAX, HttpDetector, HttpFound, Progress, TlsDetector,
    TlsFound,
};

/// How a sniff ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed<T> {
    /// By a verdict on what the client sent.
    Found(T),
    /// By time: the client sent nothing, or no whole ClientHello.
    TimedOut,
    /// By the server's speaking, or closing, first.
    ServerFirst,
}

/// How a racing sniff ended, and both streams with all of their bytes.
pub struct Raced<T, S> {
    /// The verdict.
    pub sniffed: Sniffed<T>,
    /// The client's stream.
    pub client: BoxIo,
    /// The server's stream, with what its dialer knows of it; none where it was not open yet.
    pub server: Option<(BoxIo, S)>,
}

/// Looks for a ClientHello and its server name.
///
/// # Errors
/// As the stream's; `UnexpectedEof` where it ends without a byte.
pub async fn sniff_tls(
    clock: &dyn Clock,
    io: BoxIo,
    timeout: Duration,
) -> io::Result<(Sniffed<TlsFound>, BoxIo)> {
    sniff(TlsDetector::new(), clock, io, timeout).await
}

/// Looks for HTTP/1 or HTTP/2.
///
/// # Errors
/// As the stream's; `UnexpectedEof` where it ends without a byte.
pub async fn sniff_http(
    clock: &dyn Clock,
    io: BoxIo,
    timeout: Duration,
) -> io::Result<(Sniffed<HttpFound>, BoxIo)> {
    sniff(HttpDetector::new(), clock, io, timeout).await
}

/// Looks for a ClientHello until the server speaks. Where that is not open yet, `dial` opens it; it is
/// not begun, nor goes on, once the client has spoken. None where it may not be dialed, or cannot.
///
/// # Errors
/// As either stream's; `UnexpectedEof` where the client's ends without a byte and there is no
/// server. Where there is one, that is no error: it is not TLS.
pub async fn race_tls<S>(
    clock: &dyn Clock,
    client: BoxIo,
    dialed: Option<(BoxIo, S)>,
    dial: impl Future<Output = Option<(BoxIo, S)>>,
    timeout: Duration,
) -> io::Result<Raced<TlsFound, S>> {
    race(TlsDetector::new(), clock, client, dialed, dial, timeout).await
}

/// Looks for HTTP/1 or HTTP/2 until the server speaks. Where that is not open yet, `dial` opens it; it is
/// not begun, nor goes on, once the client has spoken. None where it may not be dialed, or cannot.
///
/// # Errors
/// As either stream's; `UnexpectedEof` where the client's ends without a byte and there is no
/// server. Where there is one, that is no error: it is not HTTP.
pub async fn race_http<S>(
    clock: &dyn Clock,
    client: BoxIo,
    dialed: Option<(BoxIo, S)>,
    dial: impl Future<Output = Option<(BoxIo, S)>>,
    timeout: Duration,
) -> io::Result<Raced<HttpFound, S>> {
    race(HttpDetector::new(), clock, client, dialed, dial, timeout).await
}

/// What drives a detector of either kind.
trait Detector {
    type Found;
    const BYTES_MAX: usize;
    fn push(&mut self, bytes: &[u8]) -> Progress<Self::Found>;
    /// The verdict where the stream ends.
    fn end(&self) -> Self::Found;
    /// The verdict where some bytes came, but no more in time.
    fn late(&self) -> Sniffed<Self::Found>;
}

impl Detector for TlsDetector {
    type Found = TlsFound;
    const BYTES_MAX: usize = CLIENT_HELLO_BYTES_MAX;

    fn push(&mut self, bytes: &[u8]) -> Progress<TlsFound> {
        Self::push(self, bytes)
    }

    fn end(&self) -> TlsFound {
        TlsFound::NotTls
    }

    fn late(&self) -> Sniffed<TlsFound> {
        Sniffed::TimedOut
    }
}

impl Detector for HttpDetector {
    type Found = HttpFound;
    const BYTES_MAX: usize = HTTP_BYTES_MAX;

    fn push(&mut self, bytes: &[u8]) -> Progress<HttpFound> {
        Self::push(self, bytes)
    }

    fn end(&self) -> HttpFound {
        Self::end(self)
    }

    fn late(&self) -> Sniffed<HttpFound> {
        Sniffed::Found(Self::end(self))
    }
}

async fn sniff<D: Detector>(
    detector: D,
    clock: &dyn Clock,
    mut io: BoxIo,
    timeout: Duration,
) -> io::Result<(Sniffed<D::Found>, BoxIo)> {
    let mut sniff = Sniff::new(detector, clock, timeout);
    let sniffed = poll_fn(|cx| sniff.poll(cx, &mut io)).await?;
    let sniffed = sniffed.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((sniffed, rewind(sniff.seen, io)))
}

async fn race<D: Detector, S>(
    detector: D,
    clock: &dyn Clock,
    mut client: BoxIo,
    dialed: Option<(BoxIo, S)>,
    dial: impl Future<Output = Option<(BoxIo, S)>>,
    timeout: Duration,
) -> io::Result<Raced<D::Found, S>> {
    let mut sniff = Sniff::new(detector, clock, timeout);
    let mut dial = pin!(dial);
    let mut server = match dialed {
        Some((io, known)) => Server::Open(io, known),
        None => Server::Closed,
    };
    let mut server_seen = Vec::new();
    let sniffed = poll_fn(|cx| {
        if let Poll::Ready(sniffed) = sniff.poll(cx, &mut client)? {
            return Poll::Ready(Ok(sniffed));
        }
        if !sniff.seen.is_empty() {
            return Poll::Pending;
        }
        if matches!(server, Server::Closed) {
            server = match ready!(dial.as_mut().poll(cx)) {
                Some((io, known)) => Server::Open(io, known),
                None => Server::Away,
            };
        }
        let Server::Open(io, _) = &mut server else {
            return Poll::Pending;
        };
        ready!(poll_read_more(cx, io, &mut server_seen, FIRST_BYTES_MAX))?;
        Poll::Ready(io::Result::Ok(Some(Sniffed::ServerFirst)))
    })
    .await?;
    let server = match server {
        Server::Open(io, known) if planted!("read-ahead-lost") => Some((io, known)),
        Server::Open(io, known) => Some((rewind(server_seen, io), known)),
        Server::Closed | Server::Away => None,
    };
    let sniffed = match sniffed {
        Some(sniffed) => sniffed,
        None if server.is_some() => Sniffed::Found(sniff.detector.end()),
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    Ok(Raced { sniffed, client: rewind(sniff.seen, client), server })
}

/// The server of a race.
enum Server<S> {
    /// Not open yet.
    Closed,
    /// Open.
    Open(BoxIo, S),
    /// Not to be had.
    Away,
}

/// What is read at once, from a server that speaks first too.
const FIRST_BYTES_MAX: usize = 4096;

struct Sniff<D> {
    detector: D,
    seen: Vec<u8>,
    timeout: BoxSleep,
}

impl<D: Detector> Sniff<D> {
    fn new(detector: D, clock: &dyn Clock, timeout: Duration) -> Self {
        Self { detector, seen: Vec::new(), timeout: clock.sleep_until(clock.now() + timeout) }
    }

    /// `None`: the stream ended without a byte.
    #[allow(clippy::type_complexity)] // Named, it would be no plainer.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut BoxIo,
    ) -> Poll<io::Result<Option<Sniffed<D::Found>>>> {
        loop {
            let seen_before = self.seen.len();
            match poll_read_more(cx, io, &mut self.seen, D::BYTES_MAX) {
                Poll::Ready(Ok(0)) if seen_before == 0 => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Ok(Some(Sniffed::Found(self.detector.end()))));
                }
                Poll::Ready(Ok(_)) => {
                    if let Progress::Done(found) = self.detector.push(&self.seen[seen_before..]) {
                        return Poll::Ready(Ok(Some(Sniffed::Found(found))));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(self.timeout.as_mut().poll(cx));
                    return Poll::Ready(Ok(Some(match seen_before {
                        0 => Sniffed::TimedOut,
                        _ => self.detector.late(),
                    })));
                }
            }
        }
    }
}

/// Appends what can be read, so that `seen` holds at most `bytes_max`. Returns how much came: 0 at
/// the stream's end, and where `seen` is full.
fn poll_read_more(
    cx: &mut Context<'_>,
    io: &mut BoxIo,
    seen: &mut Vec<u8>,
    bytes_max: usize,
) -> Poll<io::Result<usize>> {
    let mut stack = [const { MaybeUninit::<u8>::uninit() }; FIRST_BYTES_MAX];
    let room = FIRST_BYTES_MAX.min(bytes_max - seen.len());
    if room == 0 {
        return Poll::Ready(Ok(0));
    }
    let mut buf = ReadBuf::uninit(&mut stack[..room]);
    ready!(Pin::new(io).poll_read(cx, &mut buf))?;
    seen.extend_from_slice(buf.filled());
    Poll::Ready(Ok(buf.filled().len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::runtime::testing;

    const SECOND: Duration = Duration::from_secs(1);

    fn pipe() -> (DuplexStream, BoxIo) {
        let (far, near) = duplex(1 << 16);
        (far, Box::new(near))
    }

    async fn read_all(mut io: BoxIo) -> Vec<u8> {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_times_out_and_may_still_speak() {
        let clock = testing::runtime().clock;
        let (mut client, io) = pipe();
        let (sniffed, io) = sniff_http(&*clock, io, SECOND).await.unwrap();
        assert_eq!(sniffed, Sniffed::TimedOut);
        client.write_all(b"hello").await.unwrap();
        drop(client);
        assert_eq!(read_all(io).await, b"hello");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_speaks_first_ends_the_race() {
        let clock = testing::runtime().clock;
        let (mut client, client_io) = pipe();
        let (mut server, server_io) = pipe();
        server.write_all(b"220 mail ready\r\n").await.unwrap();
        let raced =
            race_http(&*clock, client_io, Some((server_io, ())), never(), SECOND).await.unwrap();
        assert_eq!(raced.sniffed, Sniffed::ServerFirst);
        client.write_all(b"EHLO weft\r\n").await.unwrap();
        drop((client, server));
        assert_eq!(read_all(raced.client).await, b"EHLO weft\r\n");
        assert_eq!(read_all(raced.server.unwrap().0).await, b"220 mail ready\r\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_speaks_first_wins_the_race() {
        let clock = testing::runtime().clock;
        let (mut client, client_io) = pipe();
        let (server, server_io) = pipe();
        client.write_all(b"GET / HTTP/1.1\r\nhost: weft\r\n").await.unwrap();
        let raced =
            race_http(&*clock, client_io, Some((server_io, ())), never(), SECOND).await.unwrap();
        assert_eq!(raced.sniffed, Sniffed::Found(HttpFound::Http1));
        drop((client, server));
        assert_eq!(read_all(raced.client).await, b"GET / HTTP/1.1\r\nhost: weft\r\n");
        assert_eq!(read_all(raced.server.unwrap().0).await, b"");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_without_a_byte_is_an_error_unless_a_server_is_there() {
        let clock = testing::runtime().clock;
        let (client, io) = pipe();
        drop(client);
        let error = sniff_tls(&*clock, io, SECOND).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (client, client_io) = pipe();
        let (_server, server_io) = pipe();
        drop(client);
        let raced =
            race_tls(&*clock, client_io, Some((server_io, ())), never(), SECOND).await.unwrap();
        assert_eq!(raced.sniffed, Sniffed::Found(TlsFound::NotTls));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_heard_while_its_server_is_dialed() {
        let clock = testing::runtime().clock;
        let (mut client, io) = pipe();
        let speak = async {
            tokio::time::sleep(SECOND / 10).await;
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        };
        let (raced, ()) = tokio::join!(race_http(&*clock, io, None, never(), SECOND), speak);
        let raced = raced.unwrap();
        assert_eq!(raced.sniffed, Sniffed::Found(HttpFound::Http1));
        assert!(raced.server.is_none());
        assert_eq!(clock.now(), crate::time::Timestamp::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_cannot_be_dialed_does_not_end_the_sniff() {
        let clock = testing::runtime().clock;
        let (_client, io) = pipe();
        let away = std::future::ready(None::<(BoxIo, ())>);
        let raced = race_http(&*clock, io, None, away, SECOND).await.unwrap();
        assert_eq!(raced.sniffed, Sniffed::TimedOut);
        let (client, io) = pipe();
        drop(client);
        let away = std::future::ready(None::<(BoxIo, ())>);
        let ended = race_http(&*clock, io, None, away, SECOND).await;
        assert_eq!(ended.err().unwrap().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_midway_is_judged_by_what_it_sent() {
        let clock = testing::runtime().clock;
        let (mut client, io) = pipe();
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let (sniffed, _) = sniff_http(&*clock, io, SECOND).await.unwrap();
        assert_eq!(sniffed, Sniffed::Found(HttpFound::Http1));
        let (mut client, io) = pipe();
        client.write_all(b"\x16\x03\x01").await.unwrap();
        let (sniffed, _) = sniff_tls(&*clock, io, SECOND).await.unwrap();
        assert_eq!(sniffed, Sniffed::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_never_decide_are_bounded() {
        let clock = testing::runtime().clock;
        let (mut client, io) = pipe();
        let endless: Vec<u8> = [&b"GET /"[..], &[b'a'; 20_000]].concat();
        client.write_all(&endless).await.unwrap();
        drop(client);
        let (sniffed, io) = sniff_http(&*clock, io, SECOND).await.unwrap();
        assert_eq!(sniffed, Sniffed::Found(HttpFound::Http1));
        assert_eq!(read_all(io).await, endless);
    }

    /// A dial that does not end.
    async fn never() -> Option<(BoxIo, ())> {
        std::future::pending().await
    }

    fn first_bytes() -> impl Strategy<Value = Vec<u8>> {
        let http1 = Just(b"GET /a HTTP/1.1\r\nhost: weft\r\n\r\nand more".to_vec());
        let http2 = Just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec());
        let hello = Just([&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], &[7; 600]].concat());
        let garbage = proptest::collection::vec(any::<u8>(), 1..3000);
        prop_oneof![http1, http2, hello, garbage]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn no_byte_is_lost_or_moved_whatever_the_segments(
            bytes in first_bytes(),
            cuts in proptest::collection::vec(1_usize..700, 1..40),
            tls: bool,
            server_speaks: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let (client, server) = runtime.block_on(async {
                let clock = testing::runtime().clock;
                let (mut far_client, client) = pipe();
                let (mut far_server, server) = pipe();
                let sent = bytes.clone();
                tokio::spawn(async move {
                    let mut rest = &sent[..];
                    for cut in cuts.into_iter().cycle() {
                        let (segment, after) = rest.split_at(cut.min(rest.len()));
                        far_client.write_all(segment).await.unwrap();
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        rest = after;
                        if rest.is_empty() {
                            break;
                        }
                    }
                });
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(35)).await;
                    if server_speaks {
                        far_server.write_all(b"220 ready").await.unwrap();
                    }
                });
                let (client, server) = if tls {
                    let raced = race_tls(&*clock, client, Some((server, ())), never(), SECOND).await.unwrap();
                    (raced.client, raced.server.unwrap().0)
                } else {
                    let raced = race_http(&*clock, client, Some((server, ())), never(), SECOND).await.unwrap();
                    (raced.client, raced.server.unwrap().0)
                };
                tokio::join!(read_all(client), read_all(server))
            });
            prop_assert_eq!(client, bytes);
            prop_assert_eq!(&server[..], if server_speaks { &b"220 ready"[..] } else { b"" });
        }
    }
}
