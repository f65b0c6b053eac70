//! Serves one HTTP/1 connection: one request after the other, each answered by a [`Service`].
//!
//! No task is started: the connection's own future runs the service, writes the response, and lets
//! the request's body (polled wherever it went) read the same stream meanwhile.
//!
//! Law: every request that was read whole gets its response or the end of the connection, in order;
//! what follows a refused or broken message is never read as a request. A response that breaks
//! midway ends the connection so that the client notices. An idle connection holds no buffer.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use http_body::{Body as _, Frame};

use super::codec::{
    BodyEncoder, ConnectionField, EncodeError, Framing, HeadDecoder, Refusal, RequestHead,
    response_head,
};
use super::error::Fault;
use super::intake::{Intake, Shared, State};
use crate::runtime::{BoxFuture, BoxIo, Runtime};
use crate::wire::http::hop_by_hop::connection_names;
use crate::wire::http::server::ServerOptions;
use crate::wire::http::{Body, DrainWatch, Error, Reset, Response, Service, Upgraded};
use crate::wire::opaque;
use crate::wire::rewind::rewind;

/// Of a request's body that nobody wanted, so much is read and forgotten to keep the connection.
const UNREAD_BYTES_MAX: u64 = 64 * 1024;

/// How long after its response a request's body may come to a stand before the connection ends,
/// and how long its unwanted rest is read.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait, before the connection is closed, for the client to stop sending: closed
/// earlier, it would be reset and might lose the response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a response's body may take to say that it is over once all of it is written.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves one connection until it ends, leaves HTTP and ends, or a drain has finished.
///
/// # Errors
/// What broke the connection; its client going away between requests is none.
pub async fn serve(
    runtime: &Runtime,
    io: BoxIo,
    options: &ServerOptions,
    service: Arc<dyn Service>,
    drain: DrainWatch,
) -> Result<(), Error> {
    let session = Session { runtime, shared: Arc::new(Shared::new(io)), options, service, drain };
    while let Some(Call { asked, answer }) = session.next_call().await? {
        let response = session.answered(answer).await?;
        match session.begin_response(&asked, response)? {
            Begun::Response(sending) => {
                if !session.send_response(sending).await? {
                    Box::pin(session.close()).await;
                    return Ok(());
                }
            }
            Begun::Upgrade(upstream) => return Box::pin(session.join(upstream)).await,
        }
    }
    Ok(())
}

struct Session<'a> {
    runtime: &'a Runtime,
    shared: Arc<Shared>,
    options: &'a ServerOptions,
    service: Arc<dyn Service>,
    drain: DrainWatch,
}

impl Drop for Session<'_> {
    /// Closes the stream even where a request's body lives on.
    fn drop(&mut self) {
        drop(self.shared.take_transport());
    }
}

/// What of a request matters for its response.
struct Asked {
    method: Method,
    version: Version,
    keep_alive: bool,
    upgrade: bool,
}

/// A request in the service's hands.
struct Call {
    asked: Asked,
    answer: BoxFuture<'static, Response>,
}

/// A response whose head is queued.
enum Begun {
    Response(Sending),
    /// The connection leaves HTTP with it, to be joined with this.
    Upgrade(Upgraded),
}

/// The rest of a response.
struct Sending {
    body: Body,
    encoder: BodyEncoder,
    /// The connection lives on after it.
    keep_alive: bool,
}

/// A head that did not come in time, or not at all.
enum NoHead {
    Fault(Fault),
    TimedOut,
}

impl Session<'_> {
    /// Waits for the next request and hands it to the service. `None`: there is none to come.
    async fn next_call(&self) -> Result<Option<Call>, Error> {
        self.shared.lock().transport()?.next_message();
        if self.shared.lock().transport()?.input.is_empty() {
            tokio::select! {
                biased;
                filled = self.fill() => match filled {
                    // A client that goes away between requests may do so as it likes.
                    Ok(0) | Err(_) => return Ok(None),
                    Ok(_) => {}
                },
                () = self.drain.draining() => return Ok(None),
                () = self.idle() => return Ok(None),
            }
        }
        let mut decoder = HeadDecoder::new(self.options.header_bytes_max as usize);
        // Most heads come in one piece; the others' future, with its timer, is on the heap.
        match self.decode(&mut decoder) {
            Ok(Some(call)) => Ok(Some(call)),
            Ok(None) => Box::pin(self.finish_head(decoder)).await,
            Err(fault) => Err(self.fail(fault).await),
        }
    }

    /// Reads the rest of a head in its time. `None`: there was nothing but empty lines.
    async fn finish_head(&self, decoder: HeadDecoder) -> Result<Option<Call>, Error> {
        match self.read_head(decoder).await {
            Ok(call) => Ok(call),
            Err(NoHead::Fault(fault)) => Err(self.fail(fault).await),
            Err(NoHead::TimedOut) => {
                self.refuse(StatusCode::REQUEST_TIMEOUT).await;
                mark!("request-head-timed-out");
                Err(Error::Timeout("request head"))
            }
        }
    }

    async fn read_head(&self, mut decoder: HeadDecoder) -> Result<Option<Call>, NoHead> {
        let rest = async {
            loop {
                if self.fill().await? == 0 {
                    return match self.shared.lock().transport()?.input.is_empty() {
                        true => Ok(None),
                        false => Err(NoHead::Fault(Fault::Closed)),
                    };
                }
                if let Some(call) = self.decode(&mut decoder)? {
                    return Ok(Some(call));
                }
            }
        };
        match self.runtime.timeout(self.options.header_timeout, rest).await {
            Ok(head) => head,
            Err(_) => Err(NoHead::TimedOut),
        }
    }

    fn decode(&self, decoder: &mut HeadDecoder) -> Result<Option<Call>, Fault> {
        let head = decoder.request(&mut self.shared.lock().transport()?.input)?;
        Ok(head.map(|head| self.call(head)))
    }

    async fn fill(&self) -> Result<usize, Fault> {
        poll_fn(|cx| match self.shared.lock().transport() {
            Ok(transport) => transport.poll_fill(cx).map_err(Fault::from),
            Err(fault) => Poll::Ready(Err(fault)),
        })
        .await
    }

    async fn idle(&self) {
        match self.options.idle_timeout {
            Some(timeout) => self.runtime.sleep(timeout).await,
            None => std::future::pending().await,
        }
    }

    /// Hands a request to the service.
    fn call(&self, head: RequestHead) -> Call {
        let asked = Asked {
            method: head.parts.method.clone(),
            version: head.parts.version,
            keep_alive: head.keep_alive,
            upgrade: head.upgrade,
        };
        let (mut body, informational) = self.shared.begin(head.framing, head.expects_continue);
        if asked.version == Version::HTTP_11 {
            body = body.with_informational(informational);
        }
        let answer = self.service.call(http::Request::from_parts(head.parts, body));
        Call { asked, answer }
    }

    /// Waits for the service's response. A client that breaks the request or the connection
    /// ends the service's work.
    async fn answered(&self, mut answer: BoxFuture<'static, Response>) -> Result<Response, Error> {
        let answered = tokio::select! {
            biased;
            response = &mut answer => Ok(response),
            fault = poll_fn(|cx| self.shared.lock().poll_client(cx)) => Err(fault),
        };
        drop(answer);
        // Whatever the service would make of a body that it could not read, the client broke it.
        let intake = self.shared.lock().intake;
        match (intake, answered) {
            (Intake::Failed(fault), _) | (_, Err(fault)) => Err(self.fail(fault).await),
            (_, Ok(response)) => Ok(response),
        }
    }

    /// Queues a response's head, and decides what follows it.
    fn begin_response(&self, asked: &Asked, mut response: Response) -> Result<Begun, Error> {
        if let Some(reset) = response.extensions_mut().remove::<Reset>() {
            return Err(Error::Reset(reset));
        }
        let upgraded = response.extensions_mut().remove::<Upgraded>();
        let status = response.status();
        if leaves_http(asked, status) {
            match upgraded {
                Some(upstream) if asked.upgrade => {
                    self.write_last_head(asked, &response.into_parts().0)?;
                    return Ok(Begun::Upgrade(upstream));
                }
                // Nothing could follow such a head.
                _ => *response.status_mut() = StatusCode::BAD_GATEWAY,
            }
        } else if status.is_informational() {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
        let (parts, body) = response.into_parts();
        let framing = Framing::to_send_response(
            &asked.method,
            asked.version,
            parts.status,
            &parts.headers,
            body.size_hint().exact(),
        );
        Ok(Begun::Response(Sending {
            keep_alive: self.write_head(asked, &parts, framing)?,
            encoder: BodyEncoder::new(framing),
            // A body where there must be none is not looked at.
            body: if framing == Framing::None { Body::empty() } else { body },
        }))
    }

    /// Queues a response's head; tells whether the connection may live on after it.
    fn write_head(
        &self,
        asked: &Asked,
        parts: &http::response::Parts,
        framing: Framing,
    ) -> Result<bool, Fault> {
        let mut state = self.shared.lock();
        // A client still waiting for `100 Continue` may send its body or not: from here on nobody
        // could tell it from the next request.
        let keep = asked.keep_alive
            && framing != Framing::UntilClose
            && !state.continue_due
            && !self.drain.is_draining()
            && !connection_names(&parts.headers, "close");
        let connection = match (keep, asked.version) {
            (true, Version::HTTP_10) => ConnectionField::KeepAlive,
            (true, _) | (false, Version::HTTP_10) => ConnectionField::Absent,
            (false, _) => ConnectionField::Close,
        };
        state.head_sent = true;
        let out = state.transport()?.out();
        if planted!("response-head-twice") {
            response_head(parts, &asked.method, asked.version, framing, connection, out);
        }
        response_head(parts, &asked.method, asked.version, framing, connection, out);
        Ok(keep)
    }

    /// Queues the last head of a connection that leaves HTTP.
    fn write_last_head(&self, asked: &Asked, parts: &http::response::Parts) -> Result<(), Error> {
        let mut state = self.shared.lock();
        if state.intake != Intake::Ended {
            return Err(Error::Invalid("upgrade within a request's body".into()));
        }
        let connection = match parts.status {
            StatusCode::SWITCHING_PROTOCOLS => ConnectionField::Upgrade,
            _ => ConnectionField::Absent,
        };
        state.head_sent = true;
        let out = state.transport()?.out();
        let (method, version) = (&asked.method, asked.version);
        response_head(parts, method, version, Framing::None, connection, out);
        Ok(())
    }

    /// Sends a response's body; tells whether the connection is at the beginning of another
    /// request then.
    async fn send_response(&self, mut sending: Sending) -> Result<bool, Error> {
        let Sending { body, encoder, .. } = &mut sending;
        poll_fn(|cx| self.poll_response(cx, body, encoder)).await?;
        if !body.is_end_stream() {
            self.end(body).await?;
        }
        if !sending.keep_alive {
            return Ok(false);
        }
        drop(sending);
        let intake = self.shared.lock().intake;
        match intake {
            Intake::Ended => Ok(true),
            Intake::Failed(_) => Ok(false),
            // On the heap, as it is rare.
            Intake::Lent | Intake::Dropped => Ok(Box::pin(self.settle()).await),
        }
    }

    /// Writes a response's body. Small pieces are gathered until none is ready or they are worth
    /// a write; the head goes with the first.
    fn poll_response(
        &self,
        cx: &mut Context<'_>,
        body: &mut Body,
        encoder: &mut BodyEncoder,
    ) -> Poll<Result<(), Error>> {
        loop {
            {
                let mut state = self.shared.lock();
                let transport = state.transport()?;
                if encoder.is_end() {
                    if transport.poll_flush(cx)?.is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                    return pending_unless_gone(&mut state, cx);
                }
                if transport.is_full() && transport.poll_write(cx)?.is_pending() {
                    return pending_unless_gone(&mut state, cx);
                }
            }
            // Not under the lock: the body may be the request's own.
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let last = body.is_end_stream();
                    queue_frame(&mut self.shared.lock(), encoder, frame, last)?;
                }
                Poll::Ready(None) => {
                    encoder.end(None, self.shared.lock().transport()?.out())?;
                }
                Poll::Ready(Some(Err(error))) => {
                    // What came before the failure may pass, without waiting for it.
                    let _ = self.shared.lock().transport()?.poll_flush(cx);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    return pending_unless_gone(&mut self.shared.lock(), cx);
                }
            }
        }
    }

    /// Lets a body whose last byte is written say that it is over, as its sender's bookkeeping (an
    /// HTTP/2 stream, a pooled connection) depends on it.
    async fn end(&self, body: &mut Body) -> Result<(), Error> {
        let end = poll_fn(|cx| {
            loop {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                        Some(data) if !data.is_empty() => return Poll::Ready(false),
                        _ => {}
                    },
                    Poll::Ready(_) => return Poll::Ready(true),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        // Most bodies are over at the first look, and then no timer is made.
        let over = tokio::select! {
            biased;
            over = end => over,
            () = self.runtime.sleep(END_TIMEOUT) => true,
        };
        if over { Ok(()) } else { Err(EncodeError::TooLong.into()) }
    }

    /// Joins a connection that has left HTTP with what it was for.
    async fn join(&self, upstream: Upgraded) -> Result<(), Error> {
        self.flush().await?;
        let (Some(transport), Some(upstream)) = (self.shared.take_transport(), upstream.take())
        else {
            return Err(Error::Canceled);
        };
        let (io, ahead) = transport.into_parts();
        if let Err(error) = opaque::copy_bidirectional(rewind(ahead, io), upstream, None).await {
            tracing::debug!(%error, "upgraded connection ended");
        }
        Ok(())
    }

    /// After a response: has the rest of the request read. Tells whether the connection is at the
    /// beginning of another request.
    async fn settle(&self) -> bool {
        loop {
            let received = self.shared.lock().received();
            let intake = poll_fn(|cx| self.shared.lock().poll_intake(cx));
            let lent = self.shared.lock().intake == Intake::Lent;
            let intake = match lent {
                true => self.runtime.timeout(UNREAD_TIMEOUT, intake).await,
                false => Ok(intake.await),
            };
            match intake {
                Ok(Intake::Ended) => return true,
                Ok(Intake::Dropped) => {
                    let discard = self.discard_body();
                    return matches!(self.runtime.timeout(UNREAD_TIMEOUT, discard).await, Ok(true));
                }
                Ok(Intake::Lent | Intake::Failed(_)) => return false,
                // Whoever reads the body may go on as long as something comes.
                Err(_) if self.shared.lock().received() == received => return false,
                Err(_) => {}
            }
        }
    }

    async fn discard_body(&self) -> bool {
        let mut left = UNREAD_BYTES_MAX;
        poll_fn(|cx| {
            loop {
                let mut state = self.shared.lock();
                match state.poll_body(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        let read = frame.data_ref().map_or(0, |data| data.len() as u64);
                        match left.checked_sub(read) {
                            Some(rest) => left = rest,
                            None => return Poll::Ready(false),
                        }
                    }
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
                if state.intake == Intake::Ended {
                    return Poll::Ready(true);
                }
            }
        })
        .await
    }

    /// Ends a connection whose client broke a message: with an answer, where it may get one.
    async fn fail(&self, fault: Fault) -> Error {
        if let Fault::Refused(refusal) = fault {
            Box::pin(self.refuse(refusal.status())).await;
        }
        fault.into()
    }

    /// Answers what is no request, and closes.
    async fn refuse(&self, status: StatusCode) {
        {
            let mut state = self.shared.lock();
            let Ok(transport) = state.transport() else {
                return;
            };
            let (mut parts, ()) = http::Response::new(()).into_parts();
            parts.status = status;
            let (method, version) = (&Method::GET, Version::HTTP_11);
            let close = ConnectionField::Close;
            let out = transport.out();
            response_head(&parts, method, version, Framing::Length(0), close, out);
            state.head_sent = true;
            // What comes now is not read as anything.
            state.intake = Intake::Failed(Fault::Refused(Refusal::RequestLine));
        }
        self.close().await;
    }

    /// Closes. Where the client may still be sending, reads and forgets that for a while.
    async fn close(&self) {
        let closing = async {
            self.flush().await?;
            poll_fn(|cx| self.shared.lock().transport()?.poll_shutdown(cx).map_err(Fault::from))
                .await?;
            let mut left = UNREAD_BYTES_MAX;
            loop {
                {
                    let mut state = self.shared.lock();
                    let done = state.intake == Intake::Ended;
                    let transport = state.transport()?;
                    let unread = transport.input.len() as u64;
                    if transport.read_closed || (done && unread == 0) || unread > left {
                        return Ok::<_, Fault>(());
                    }
                    left -= unread;
                    transport.input.clear();
                    state.intake = Intake::Failed(Fault::Closed);
                }
                self.fill().await?;
            }
        };
        // Whether it could be done or not, the connection is over.
        let _ = self.runtime.timeout(LINGER_TIMEOUT, closing).await;
    }

    async fn flush(&self) -> Result<(), Fault> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            state.transport()?.poll_flush(cx).map_err(Fault::from)
        })
        .await
    }
}

/// Queues one frame of a response's body.
fn queue_frame(
    state: &mut State,
    encoder: &mut BodyEncoder,
    frame: Frame<Bytes>,
    last: bool,
) -> Result<(), Error> {
    let transport = state.transport()?;
    match frame.into_data() {
        Ok(data) => {
            let after = encoder.data(data.len(), last, transport.out())?;
            transport.push(data, after);
        }
        Err(frame) => {
            let trailers = frame.into_trailers().ok();
            encoder.end(trailers.as_ref(), transport.out())?;
        }
    }
    Ok(())
}

/// While a response waits for its body or for the client to read: a broken stream ends it. A
/// request that broke does not: its response may still tell why.
fn pending_unless_gone(state: &mut State, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
    match state.poll_client(cx) {
        Poll::Ready(fault @ Fault::Io(_)) => Poll::Ready(Err(fault.into())),
        Poll::Ready(_) | Poll::Pending => {
            // A failed request body keeps `poll_client` from writing.
            match state.transport()?.poll_flush(cx)? {
                Poll::Ready(()) | Poll::Pending => Poll::Pending,
            }
        }
    }
}

/// Whether a response with this status is the last of HTTP on the connection.
fn leaves_http(asked: &Asked, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS
        || (asked.method == Method::CONNECT && status.is_success())
}

impl From<Fault> for NoHead {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
