//! `io.linkerd.proxy.tap.Tap/Observe`, on the control port.
//!
//! Law: over mesh TLS alone, and for one client, by its identity.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use http_body::Frame;

use super::Taps;
use super::queue::Queue;
use crate::api::Message as _;
use crate::api::tap::OBSERVE;
use crate::model::identity::Identity;
use crate::model::protocol::HttpVersion;
use crate::model::tap::Observe;
use crate::runtime::clock::BoxSleep;
use crate::runtime::{BoxFuture, BoxIo, Connection, Runtime};
use crate::traffic::detect::TlsFound;
use crate::wire::grpc;
use crate::wire::http::server::{self, ServerOptions};
use crate::wire::http::{Body, DrainWatch, Error, Request, Response, Service};
use crate::wire::sniff::{Sniffed, sniff_tls};
use crate::wire::tls::{Credentials, server as tls_server};

/// Time for the first bytes of a connection, and for a TLS handshake.
const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest question taken. A match of the greatest size fits.
const QUESTION_BYTES_MAX: usize = 128 * 1024;

/// How long it takes at most until a client learns what it lost.
const LOSS_TOLD_EVERY: Duration = Duration::from_secs(1);

/// What the server of taps is made of.
pub struct Server {
    /// The outside.
    pub runtime: Runtime,
    /// Who we are.
    pub credentials: Credentials,
    /// Who may tap.
    pub client: Identity,
    /// What there is.
    pub taps: Arc<Taps>,
}

/// Serves one connection.
pub async fn serve_connection(server: Arc<Server>, connection: Connection, drain: DrainWatch) {
    let peer = connection.peer;
    let Some((io, client)) = server.open(connection.io).await else {
        tracing::info!(client = %peer, "not over mesh TLS; a tap's connection is closed");
        return;
    };
    let permitted = client.as_ref() == Some(&server.client)
        || planted!("tap-client-unchecked") && client.is_some();
    if !permitted {
        mark!("tap-denied");
        let client = client.as_ref().map_or("nobody", Identity::as_str);
        tracing::info!(%peer, client, permitted = %server.client, "tap denied");
    }
    let options = ServerOptions::default();
    let runtime = server.runtime.clone();
    let service = Arc::new(Client { server, permitted });
    let served = server::serve(&runtime, io, HttpVersion::Http2, &options, service, drain).await;
    if let Err(error) = served {
        tracing::debug!(%error, client = %peer, "a tap's connection ended");
    }
}

impl Server {
    async fn open(&self, io: BoxIo) -> Option<(BoxIo, Option<Identity>)> {
        let (tls, io) = sniff_tls(&*self.runtime.clock, io, DETECT_TIMEOUT).await.ok()?;
        match tls {
            Sniffed::Found(TlsFound::Sni(name)) if name == self.credentials.local().server_name => {
                let accept = tls_server::accept(io, &self.credentials, &[]);
                let session = self.runtime.timeout(DETECT_TIMEOUT, accept).await.ok()?.ok()?;
                Some((session.io, session.client))
            }
            _ => None,
        }
    }
}

struct Client {
    server: Arc<Server>,
    permitted: bool,
}

impl Service for Client {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        if !self.permitted {
            let message = format!("only {} may tap here", self.server.client);
            return Box::pin(async move { grpc::refuse(grpc::PERMISSION_DENIED, &message) });
        }
        let server = self.server.clone();
        Box::pin(async move { server.answer(request).await })
    }
}

impl Server {
    async fn answer(&self, request: Request) -> Response {
        if request.method() != Method::POST || request.uri().path() != OBSERVE {
            return grpc::refuse(grpc::UNIMPLEMENTED, "no such service here");
        }
        let question = grpc::Messages::new(request.into_body(), QUESTION_BYTES_MAX).next().await;
        let observe = match question {
            Ok(Some(question)) => Observe::from_bytes(&question).map_err(|e| e.to_string()),
            Ok(None) => Err("there is no question".to_string()),
            Err(error) => Err(error.to_string()),
        };
        let observe = match observe {
            Ok(observe) => observe,
            Err(why) => return grpc::refuse(grpc::INVALID_ARGUMENT, &why),
        };
        let per_second = observe.per_second;
        let queue = match self.taps.open(observe) {
            Ok(queue) => queue,
            Err(error @ super::TapError::TooMany) => {
                return grpc::refuse(grpc::RESOURCE_EXHAUSTED, &error.to_string());
            }
            Err(error) => return grpc::refuse(grpc::INVALID_ARGUMENT, &error.to_string()),
        };
        let told = (per_second > 0).then(|| self.loss_timer());
        let answer = Answer {
            queue,
            taps: self.taps.clone(),
            runtime: self.runtime.clone(),
            told,
            over: false,
        };
        let mut response = Response::new(Body::wrap(answer));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, grpc::APPLICATION_GRPC);
        // By this a client knows that what is ours is understood.
        headers.insert("weft-tap", http::HeaderValue::from_static("1"));
        response
    }

    fn loss_timer(&self) -> BoxSleep {
        loss_timer(&self.runtime)
    }
}

fn loss_timer(runtime: &Runtime) -> BoxSleep {
    runtime.clock.sleep_until(runtime.now() + LOSS_TOLD_EVERY)
}

/// The events of one tap, then its trailers. Dropped, the tap is closed.
struct Answer {
    queue: Arc<Queue>,
    taps: Arc<Taps>,
    runtime: Runtime,
    /// When the client is told next what it lost; none where it does not understand that.
    told: Option<BoxSleep>,
    /// The trailers were sent.
    over: bool,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        match self.queue.poll_next(cx) {
            Poll::Ready(Some(frame)) => return Poll::Ready(Some(Ok(Frame::data(frame)))),
            Poll::Ready(None) => {
                self.over = true;
                return Poll::Ready(Some(Ok(Frame::trailers(grpc::trailers_ok()))));
            }
            Poll::Pending => {}
        }
        while self.told.as_mut().is_some_and(|told| told.as_mut().poll(cx).is_ready()) {
            self.told = Some(loss_timer(&self.runtime));
            if let Some(frame) = self.queue.lost() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
        }
        Poll::Pending
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.taps.close(&self.queue);
    }
}
