//! The body of a response, which owns its connection until it has ended, and gives it back then.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::client::{Link, Recycle};
use super::codec::{BodyDecoder, Decoded};
use super::error::Fault;
use super::upload::{Upload, UploadError};
use crate::wire::http::{Body, Error};

/// A response's body, and the connection that it is read from.
pub(super) struct ResponseBody {
    /// `None` once the body has ended or failed: the connection has gone on, or is closed.
    download: Option<Download>,
    decoder: BodyDecoder,
}

struct Download {
    link: Box<Link>,
    upload: Upload,
    /// The response does not keep the connection from being used again.
    keep_alive: bool,
    recycle: Option<Arc<dyn Recycle>>,
}

impl ResponseBody {
    pub(super) fn new(
        link: Box<Link>,
        upload: Upload,
        decoder: BodyDecoder,
        keep_alive: bool,
        recycle: Option<Arc<dyn Recycle>>,
    ) -> Self {
        Self { download: Some(Download { link, upload, keep_alive, recycle }), decoder }
    }

    /// As a body; where there is nothing to read, the connection goes on at once.
    pub(super) fn into_body(mut self) -> Body {
        if self.decoder.is_end() {
            self.finish();
            return Body::empty();
        }
        Body::wrap(self)
    }

    fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<Result<Decoded, Error>> {
        let Some(download) = &mut self.download else {
            return Poll::Ready(Ok(Decoded::End));
        };
        if !download.upload.is_over()
            && let Poll::Ready(Err(UploadError::Body(error))) =
                download.upload.poll(cx, &mut download.link.transport)
        {
            return Poll::Ready(Err(error));
        }
        let transport = &mut download.link.transport;
        loop {
            match self.decoder.decode(&mut transport.input)? {
                Decoded::More => {}
                decoded => return Poll::Ready(Ok(decoded)),
            }
            match ready!(transport.poll_fill(cx)) {
                Ok(0) if self.decoder.is_until_close() => return Poll::Ready(Ok(Decoded::End)),
                Ok(0) => return Poll::Ready(Err(Error::Closed)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(Fault::from(error).into())),
            }
        }
    }

    /// Lets go of the connection: back to where it came from if it can be used again.
    fn finish(&mut self) {
        let Some(download) = self.download.take() else {
            return;
        };
        if !download.keep_alive || !download.link.transport.input.is_empty() {
            return;
        }
        if download.upload.is_over() {
            download.recycle();
        } else {
            let tasks = download.link.tasks.clone();
            tasks.spawn("http1 upload", Box::pin(download.finish_upload()));
        }
    }
}

impl Download {
    fn recycle(self) {
        if self.upload.is_sent()
            && !self.link.transport.read_closed
            && let Some(recycle) = self.recycle
        {
            recycle.recycle(self.link.into_idle());
        }
    }

    /// Sends the rest of a body whose response is complete. Ends where the server stops reading.
    async fn finish_upload(mut self) {
        let sent = poll_fn(|cx| {
            let transport = &mut self.link.transport;
            if let Poll::Ready(sent) = self.upload.poll(cx, transport) {
                return Poll::Ready(sent.is_ok());
            }
            // Nothing can come but the end.
            transport.poll_fill(cx).map(|_| false)
        })
        .await;
        if sent {
            self.recycle();
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let decoded = ready!(self.poll_decode(cx));
        let frame = match decoded {
            Ok(Decoded::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Decoded::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Decoded::End | Decoded::More) => {
                self.finish();
                None
            }
            Err(error) => {
                self.download = None;
                Some(Err(error))
            }
        };
        if self.decoder.is_end() {
            self.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.download.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.decoder.bytes_left() {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::new(),
        }
    }
}
