//! The demo's applications, as servers: they know nothing of a mesh and use nothing of it.
//!
//! `web` speaks HTTP/1 and calls `api`; `api` speaks gRPC and calls `cache`; `chat` speaks WebSocket;
//! `cache` speaks a line protocol in which the server greets first.

use std::io;
use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::traffic::{CacheClient, GrpcClient};

/// The longest head of a request or line of a protocol.
const LINE_BYTES_MAX: u64 = 8 * 1024;

/// What a WebSocket server appends to the client's key (RFC 6455, 1.3).
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `web`: `GET /` asks `api` and says who answered.
pub(crate) async fn web(name: String, listener: TcpListener, api: GrpcClient) -> io::Result<()> {
    let api = Arc::new(api);
    serve(listener, move |stream| {
        let (name, api) = (name.clone(), api.clone());
        async move {
            let mut stream = BufReader::new(stream);
            while read_head(&mut stream).await?.is_some() {
                let (status, body) = match api.call(b"greeting").await {
                    Ok(answer) => ("200 OK", format!("{name} got {answer}\n")),
                    Err(error) => ("503 Service Unavailable", format!("{name}: {error}\n")),
                };
                let response = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(response.as_bytes()).await?;
            }
            Ok(())
        }
    })
    .await
}

/// `chat`: a WebSocket that sends each message back with its own name.
pub(crate) async fn chat(name: String, listener: TcpListener) -> io::Result<()> {
    serve(listener, move |stream| {
        let name = name.clone();
        async move {
            let mut stream = BufReader::new(stream);
            let Some(head) = read_head(&mut stream).await? else {
                return Ok(());
            };
            let key = head.iter().find_map(|line| {
                let (header, value) = line.split_once(':')?;
                header.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_string())
            });
            let Some(key) = key else {
                let refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                return stream.write_all(refusal).await;
            };
            let switch = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {}\r\n\r\n",
                websocket_accept(&key)
            );
            stream.write_all(switch.as_bytes()).await?;
            loop {
                let message = read_frame(&mut stream).await?;
                let answer = format!("{name}: {}", String::from_utf8_lossy(&message));
                stream.write_all(&frame(answer.as_bytes(), None)).await?;
            }
        }
    })
    .await
}

/// `cache`: greets with its name, then answers each line.
pub(crate) async fn cache(name: String, listener: TcpListener) -> io::Result<()> {
    serve(listener, move |stream| {
        let name = name.clone();
        async move {
            let mut stream = BufReader::new(stream);
            let greeting = format!("+{name} ready\r\n");
            stream.write_all(greeting.as_bytes()).await?;
            while let Some(line) = read_line(&mut stream).await? {
                let answer = format!("+{name} has {line}\r\n");
                stream.write_all(answer.as_bytes()).await?;
            }
            Ok(())
        }
    })
    .await
}

/// `api`: one unary gRPC method, which asks `cache`.
pub(crate) async fn api(name: String, listener: TcpListener, cache: CacheClient) -> io::Result<()> {
    let cache = Arc::new(cache);
    serve(listener, move |stream| {
        let (name, cache) = (name.clone(), cache.clone());
        async move {
            let mut connection = h2::server::handshake(stream).await.map_err(io::Error::other)?;
            while let Some(accepted) = connection.accept().await {
                let (request, respond) = accepted.map_err(io::Error::other)?;
                let (name, cache) = (name.clone(), cache.clone());
                tokio::spawn(async move {
                    // A caller that has gone away needs no answer.
                    let _ = answer(&name, &cache, request, respond).await;
                });
            }
            Ok(())
        }
    })
    .await
}

async fn answer(
    name: &str,
    cache: &CacheClient,
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        message.extend_from_slice(&chunk);
    }
    let asked = message.get(5..).map(String::from_utf8_lossy);
    let (status, reply) = match cache.call(&asked.unwrap_or_default()).await {
        Ok(value) => ("0", format!("{name}, {value}")),
        Err(_) => ("14", String::new()), // UNAVAILABLE
    };
    let head = http::Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .expect("a valid head");
    let mut stream = respond.send_response(head, false)?;
    if status == "0" {
        stream.send_data(grpc_message(reply.as_bytes()), false)?;
    }
    let status = http::HeaderValue::from_static(status);
    stream.send_trailers(
        [(http::HeaderName::from_static("grpc-status"), status)].into_iter().collect(),
    )
}

/// A message with gRPC's prefix: not compressed, and how long.
pub(crate) fn grpc_message(message: &[u8]) -> Bytes {
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed.into()
}

/// Accepts for ever; each connection by itself.
async fn serve<F>(listener: TcpListener, connection: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let served = connection(stream);
        tokio::spawn(async move {
            // A client that has gone away ends its own connection only.
            let _ = served.await;
        });
    }
}

/// The lines of a message's head. `None` at the end of the stream.
pub(crate) async fn read_head(
    stream: &mut BufReader<TcpStream>,
) -> io::Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    while let Some(line) = read_line(stream).await? {
        if line.is_empty() {
            return Ok(Some(lines));
        }
        lines.push(line);
    }
    Ok(None)
}

/// A line without its end. `None` at the end of the stream.
pub(crate) async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    let bytes = stream.take(LINE_BYTES_MAX).read_line(&mut line).await?;
    let ended = line.ends_with('\n');
    match (bytes, ended) {
        (0, _) => Ok(None),
        (_, true) => Ok(Some(line.trim_end().to_string())),
        (_, false) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

pub(crate) fn websocket_accept(key: &str) -> String {
    let keyed = format!("{key}{WEBSOCKET_GUID}");
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, keyed.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// A text frame of at most 125 bytes; masked, as a client must, where a mask is given.
pub(crate) fn frame(text: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let text = &text[..text.len().min(125)];
    let mut frame = vec![0x81, text.len() as u8];
    match mask {
        None => frame.extend_from_slice(text),
        Some(mask) => {
            frame[1] |= 0x80;
            frame.extend_from_slice(&mask);
            frame.extend(text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

/// The text of a short frame, unmasked. Anything but a short text frame ends the connection.
pub(crate) async fn read_frame(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let head = [stream.read_u8().await?, stream.read_u8().await?];
    let bytes = usize::from(head[1] & 0x7f);
    if head[0] != 0x81 || bytes > 125 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut mask = [0; 4];
    if head[1] & 0x80 != 0 {
        stream.read_exact(&mut mask).await?;
    }
    let mut text = vec![0; bytes];
    stream.read_exact(&mut text).await?;
    for (byte, mask) in text.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_websocket_handshake_is_the_rfcs() {
        let accept = websocket_accept("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_masked_frame_is_the_rfcs_hello() {
        assert_eq!(
            frame(b"Hello", Some([0x37, 0xfa, 0x21, 0x3d])),
            [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
        );
    }
}
