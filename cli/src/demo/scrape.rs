//! Asks a process of the demo over HTTP/1.0: its metrics, whether it is ready.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The body of a 200 answer.
///
/// # Errors
/// As the kernel's; `Other` with the status line for any other answer.
pub(crate) async fn get(from: SocketAddr, path: &str) -> io::Result<String> {
    let asked = tokio::time::timeout(PATIENCE, ask(from, path)).await;
    let answer = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status_line = head.lines().next().unwrap_or_default();
    match status_line.split(' ').nth(1) {
        Some("200") => Ok(body.to_string()),
        _ => Err(io::Error::other(format!("{path}: {status_line}"))),
    }
}

async fn ask(from: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(from).await?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {from}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    String::from_utf8(answer).map_err(|_| io::ErrorKind::InvalidData.into())
}
