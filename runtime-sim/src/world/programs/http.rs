//! A server of HTTP: reads a request, works, and answers with what the request asks for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body::Frame;
use tokio::io::AsyncReadExt;

use mesh_core::model::protocol::HttpVersion;
use mesh_core::runtime::{BoxFuture, Connection, Runtime};
use mesh_core::wire::http::server::{self, ServerOptions};
use mesh_core::wire::http::{Body, Request, Reset, Response, Service};
use mesh_core::wire::rewind::rewind;

use super::behaviour::{Ending, Fate};
use super::speech::body::{PIECE_BYTES, channel, filled, read};
use super::speech::{
    self, BODY_BYTES, NUMBER, RESPONSE_BYTES, RESPONSE_FRAMING, grpc as framing, number,
};
use super::{Server, grpc, websocket};

/// Parts in which a slow body is sent.
const SLOW_PARTS: usize = 8;

/// Serves a connection of either version.
pub(super) async fn serve(server: Server, mut connection: Connection) -> io::Result<()> {
    // "PRI " is HTTP/2's preface, and no HTTP/1 method.
    let mut first = [0; 4];
    connection.io.read_exact(&mut first).await?;
    let version = match &first {
        b"PRI " => HttpVersion::Http2,
        _ => HttpVersion::Http1,
    };
    let io = rewind(first.to_vec(), connection.io);
    let (runtime, drain) = (server.runtime.clone(), server.drain.clone());
    let service = Arc::new(Http { server, requests: AtomicU32::new(0) });
    server::serve(&runtime, io, version, &ServerOptions::default(), service, drain)
        .await
        .map_err(io::Error::other)
}

/// What answers the requests of one connection.
struct Http {
    server: Server,
    requests: AtomicU32,
}

impl Service for Http {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        let server = self.server.clone();
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move {
            let client = request.headers().get("l5d-client-id");
            let client = client.and_then(|id| id.to_str().ok());
            server.executed(number(request.headers(), NUMBER), client);
            let kind = request.headers().get(http::header::CONTENT_TYPE);
            if kind
                .is_some_and(|kind| kind.as_bytes().starts_with(framing::CONTENT_TYPE.as_bytes()))
            {
                return grpc::answer(server, request).await;
            }
            if request.headers().contains_key("sec-websocket-key") {
                return websocket::answer(server, request).await;
            }
            answer(server, request, requests).await
        })
    }
}

async fn answer(server: Server, request: Request, requests: u32) -> Response {
    let seat = server.behaviour.seat().await;
    let fate = server.behaviour.next();
    let asked = Asked::of(&request);
    let text = speech::answer(number(request.headers(), NUMBER));
    let version = request.version();
    let body = request.into_body();
    if fate.stops_reading {
        // The body is held, and not read.
        let _body = body;
        return std::future::pending().await;
    }
    let whole = match fate.answers_early {
        true => true,
        false => is_whole(body, asked.body_bytes).await,
    };
    server.runtime.sleep(fate.latency).await;
    let status = match fate.ending {
        Ending::Status(_) if !whole => 400,
        Ending::Status(status) => status,
        Ending::Reset => return reset(),
        Ending::Silence => return std::future::pending().await,
    };
    let text = format!("{} {text}", server.pod);
    let body = match status {
        200 => asked.body(&server.runtime, &text, &fate),
        _ => Body::from(text),
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::IM_A_TEAPOT);
    let last = fate.close_after.is_some_and(|most| requests >= most);
    if last && version != http::Version::HTTP_2 {
        let close = http::HeaderValue::from_static("close");
        response.headers_mut().insert(http::header::CONNECTION, close);
    }
    drop(seat);
    response
}

/// What makes the server break the connection (HTTP/2: the stream) off instead of answering.
pub(super) fn reset() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Reset::new(Reset::INTERNAL_ERROR));
    response
}

async fn is_whole(body: Body, bytes: Option<u64>) -> bool {
    match read(body, 0).await {
        Ok(received) => bytes.is_none_or(|bytes| bytes == received.bytes),
        Err(_) => false,
    }
}

/// What a request asks for.
struct Asked {
    body_bytes: Option<u64>,
    response_bytes: u64,
    chunked: bool,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let headers = request.headers();
        Self {
            body_bytes: number(headers, BODY_BYTES),
            response_bytes: number(headers, RESPONSE_BYTES).unwrap_or(0),
            chunked: headers.contains_key(RESPONSE_FRAMING),
        }
    }

    fn body(&self, runtime: &Runtime, text: &str, fate: &Fate) -> Body {
        let all = filled(text, self.response_bytes);
        if !self.chunked && fate.body_pause.is_zero() && all.len() <= PIECE_BYTES {
            return Body::full(all);
        }
        let piece = match fate.body_pause.is_zero() {
            true => PIECE_BYTES,
            false => all.len().div_ceil(SLOW_PARTS).min(PIECE_BYTES),
        };
        let length = (!self.chunked).then_some(all.len() as u64);
        send_body(runtime, all, piece, fate.body_pause, length)
    }
}

/// A body that is sent piece by piece, with a pause before each.
pub(in crate::world) fn send_body(
    runtime: &Runtime,
    mut all: bytes::Bytes,
    piece: usize,
    pause: Duration,
    length: Option<u64>,
) -> Body {
    let (frames, body) = channel(length);
    let inner = runtime.clone();
    runtime.spawn("body", async move {
        while !all.is_empty() {
            if !pause.is_zero() {
                inner.sleep(pause).await;
            }
            let next = all.split_to(piece.min(all.len()));
            if frames.send(Ok(Frame::data(next))).await.is_err() {
                return;
            }
        }
    });
    body
}
