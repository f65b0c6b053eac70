//! A server of WebSockets: answers the upgrade, echoes texts, answers pings, and goes on until its
//! client closes. A pod that is told to finish leaves them open: they end with its process.

use std::io;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncWriteExt, DuplexStream};

use mesh_core::wire::http::{Body, Request, Response, Upgraded};

use super::Server;
use super::behaviour::Ending;
use super::http::reset;
use super::speech::websocket::{self, Opcode};
use super::speech::{self, NUMBER};

/// Bytes that may wait between the connection and the program.
const BUFFER_BYTES: usize = 16 * 1024;

/// Answers an upgrade.
pub(super) async fn answer(server: Server, request: Request) -> Response {
    let fate = server.behaviour.next();
    server.runtime.sleep(fate.latency).await;
    let mut response = Response::new(Body::empty());
    match fate.ending {
        Ending::Status(200) => {}
        Ending::Status(status) => {
            *response.status_mut() =
                StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
            return response;
        }
        Ending::Reset => return reset(),
        Ending::Silence => return std::future::pending().await,
    }
    let number = speech::number(request.headers(), NUMBER);
    let key = request.headers().get("sec-websocket-key").and_then(|key| key.to_str().ok());
    let accept = HeaderValue::try_from(websocket::accept(key.unwrap_or_default()));
    let (near, far) = tokio::io::duplex(BUFFER_BYTES);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", accept.expect("base64 is ASCII"));
    response.extensions_mut().insert(Upgraded::new(Box::new(far)));
    let runtime = server.runtime.clone();
    runtime.spawn("websocket", async move {
        tokio::select! {
            biased;
            () = server.killed() => {}
            // A broken connection is its client's to report.
            _ = serve(&server, near, number) => {}
        }
    });
    response
}

async fn serve(server: &Server, mut io: DuplexStream, number: Option<u64>) -> io::Result<()> {
    if server.behaviour.conduct().stops_reading {
        return std::future::pending().await;
    }
    let mut sequence = server.sequence(number);
    while let Some(frame) = websocket::read(&mut io).await? {
        match frame.opcode {
            Opcode::Text => {
                sequence.take(server.runtime.now(), speech::said(&frame.payload));
                server.record.conversed(number, 1, 0);
                let fate = server.behaviour.next();
                server.runtime.sleep(fate.latency).await;
                websocket::write(&mut io, Opcode::Text, &frame.payload, None).await?;
                server.record.conversed(number, 0, 1);
            }
            Opcode::Ping => websocket::write(&mut io, Opcode::Pong, &frame.payload, None).await?,
            Opcode::Pong => {}
            Opcode::Close => {
                websocket::write(&mut io, Opcode::Close, &frame.payload, None).await?;
                break;
            }
        }
    }
    io.shutdown().await
}
