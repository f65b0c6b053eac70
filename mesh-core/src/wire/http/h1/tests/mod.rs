//! Facts of served and client connections, over streams in memory and paused time.

mod client;
mod pair;
mod server;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

use crate::runtime::BoxFuture;
use crate::wire::http::{Body, Error, Request, Response, Service};

/// The other end of the stream, as bytes.
struct Peer {
    io: DuplexStream,
    /// Makes the connection fail, on this side's dropping, as a reset does.
    reset: Arc<AtomicBool>,
    /// Writes that the tested side made.
    writes: Arc<AtomicUsize>,
}

/// A stream for the tested side, and its other end.
fn stream() -> (Peer, Box<Tested>) {
    let (far, near) = tokio::io::duplex(64 * 1024);
    let reset = Arc::new(AtomicBool::new(false));
    let writes = Arc::new(AtomicUsize::new(0));
    let tested = Tested { io: near, reset: reset.clone(), writes: writes.clone() };
    let peer = Peer { io: far, reset, writes };
    (peer, Box::new(tested))
}

impl Peer {
    async fn send(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.expect("the stream is open");
    }

    /// Sends no more.
    async fn finish(&mut self) {
        self.io.shutdown().await.expect("the stream is open");
    }

    /// Reads exactly this.
    #[track_caller]
    fn expect<'a>(&'a mut self, text: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let mut found = vec![0; text.len()];
            let mut length = 0;
            while length < found.len() {
                match self.io.read(&mut found[length..]).await.expect("reads") {
                    0 => break,
                    read => length += read,
                }
            }
            let found = String::from_utf8_lossy(&found[..length]);
            assert_eq!(found, text, "at {caller}");
        }
    }

    /// Reads exactly this, then the end.
    #[track_caller]
    fn expect_last<'a>(&'a mut self, text: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let mut found = Vec::new();
            self.io.read_to_end(&mut found).await.expect("reads");
            assert_eq!(String::from_utf8_lossy(&found), text, "at {caller}");
        }
    }

    /// Nothing comes before everything else has come to a stand.
    async fn expect_nothing(&mut self) {
        let mut byte = [0];
        let mut read = Box::pin(self.io.read(&mut byte));
        let found = crate::runtime::testing::settles(&mut read).await;
        assert!(found.is_none(), "nothing was to come, and {found:?} came");
    }

    /// Goes away as a crashed peer does.
    fn reset(self) {
        self.reset.store(true, Ordering::Relaxed);
    }
}

/// A stream whose end may be made a reset.
struct Tested {
    io: DuplexStream,
    reset: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Tested {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() == before && self.reset.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tested {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        self.writes.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, &all));
        self.writes.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A body fed by the test. Dropping the sender without [`Feed::end`] breaks it.
struct Feed(mpsc::UnboundedSender<Option<Result<Frame<Bytes>, Error>>>);

impl Feed {
    fn body() -> (Self, Body) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), Body::wrap(Fed(receiver)))
    }

    fn data(&self, text: &str) {
        let data = Bytes::copy_from_slice(text.as_bytes());
        let _ = self.0.send(Some(Ok(Frame::data(data))));
    }

    fn trailers(&self, name: &'static str, value: &'static str) {
        let mut trailers = HeaderMap::new();
        trailers.insert(name, http::HeaderValue::from_static(value));
        let _ = self.0.send(Some(Ok(Frame::trailers(trailers))));
    }

    fn end(self) {
        let _ = self.0.send(None);
    }

    /// Whether somebody still has the body.
    fn is_wanted(&self) -> bool {
        !self.0.is_closed()
    }
}

struct Fed(mpsc::UnboundedReceiver<Option<Result<Frame<Bytes>, Error>>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(self.0.poll_recv(cx)) {
            Some(frame) => Poll::Ready(frame),
            None => Poll::Ready(Some(Err(Error::Canceled))),
        }
    }
}

/// A service whose requests the test answers by hand.
struct ByHand(mpsc::UnboundedSender<(Request, Answer)>);

/// Answers one request.
type Answer = tokio::sync::oneshot::Sender<Response>;

impl Service for ByHand {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let _ = self.0.send((request, answer));
        Box::pin(async move { answered.await.expect("the test answers") })
    }
}

/// Everything of a body as text, with `; name: value` for each trailer, and `!` for its failure.
async fn text(body: Body) -> String {
    use http_body_util::BodyExt;
    let mut body = body;
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => text += &String::from_utf8_lossy(&data),
            Ok(Err(frame)) => {
                for (name, value) in frame.into_trailers().expect("data or trailers") {
                    let name = name.expect("each is there once");
                    text += &format!("; {name}: {}", value.to_str().expect("text"));
                }
            }
            Err(error) => {
                text += &format!("! {error}");
                break;
            }
        }
    }
    text
}

fn response(body: impl Into<Body>) -> Response {
    http::Response::new(body.into())
}
