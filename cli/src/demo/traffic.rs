//! The demo's applications, as clients: what calls the services, and counts how that went.
//!
//! Counts are told to the demo on stdout, a line of JSON twice a second: the latest of all.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::figures::Counts;
use super::services::{frame, grpc_message, read_frame, read_head, read_line};

/// How long a client waits for an answer: longer than a busy machine stands still.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a client rests after a failure.
const REST: Duration = Duration::from_millis(100);

/// How many exchanges a cache connection is used for: connections come and go.
const EXCHANGES_PER_CONNECTION: u32 = 50;

/// Cache connections kept while unused.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Workers that call `web`, and WebSockets to `chat`.
const WEB_WORKERS: u32 = 8;
const CHAT_WORKERS: u32 = 4;

/// What the clients of this process counted, by the service they called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted(Arc<Mutex<BTreeMap<&'static str, Counts>>>);

impl Counted {
    /// Counts an exchange, and says on stderr why one failed.
    fn record(&self, to: &'static str, started: Instant, result: Result<(), &io::Error>) {
        if let Err(error) = result {
            eprintln!("{to}, after {} ms: {error}", started.elapsed().as_millis());
        }
        let mut all = self.0.lock().expect("no panic while counting");
        let counts = all.entry(to).or_default();
        counts.requests += 1;
        counts.successes += u64::from(result.is_ok());
        counts.latency.record(started.elapsed().as_secs_f64() * 1000.0);
    }

    /// Tells the counts on stdout, at once and then for ever, or until nobody reads them.
    pub(crate) async fn tell(self) -> io::Result<()> {
        loop {
            let line = {
                let all = self.0.lock().expect("no panic while counting");
                serde_json::to_string(&*all)?
            };
            writeln!(io::stdout(), "{line}")?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Calls `web` and `chat` for ever: `rate` requests a second to `web`, over as many connections as
/// there are workers, and a fifth as many messages to `chat`.
pub(crate) async fn load(web: SocketAddr, chat: SocketAddr, rate: f64, counted: Counted) {
    let every = |workers: u32, rate: f64| Duration::from_secs_f64(f64::from(workers) / rate);
    for _ in 0..WEB_WORKERS {
        let (counted, every) = (counted.clone(), every(WEB_WORKERS, rate));
        tokio::spawn(async move {
            loop {
                if call_web(web, every, &counted).await.is_err() {
                    tokio::time::sleep(REST).await;
                }
            }
        });
    }
    for _ in 0..CHAT_WORKERS {
        let (counted, every) = (counted.clone(), every(CHAT_WORKERS, rate / 5.0));
        tokio::spawn(async move {
            loop {
                if talk(chat, every, &counted).await.is_err() {
                    tokio::time::sleep(REST).await;
                }
            }
        });
    }
    std::future::pending().await
}

/// Requests over one HTTP/1 connection, until it fails or the server wants no more.
async fn call_web(to: SocketAddr, every: Duration, counted: &Counted) -> io::Result<()> {
    let mut stream = connect(to).await?;
    let mut pace = tokio::time::interval(every);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let started = Instant::now();
        let answered = patiently(async {
            let request = b"GET / HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\n\r\n";
            stream.write_all(request).await?;
            let answer = read_response(&mut stream).await?;
            match answer.status {
                200 => Ok(answer.is_last),
                status => Err(io::Error::other(format!("status {status}"))),
            }
        })
        .await;
        counted.record("web", started, answered.as_ref().map(drop));
        if answered? {
            return Ok(());
        }
    }
}

/// What a client needs to know of a response.
struct Answer {
    status: u16,
    /// The server closes the connection after it.
    is_last: bool,
}

/// Reads a response with its body.
async fn read_response(stream: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let head = read_head(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let status = head.first().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|s| s.parse().ok()).ok_or_else(invalid)?;
    let header = |name: &str| {
        let line = head.iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value)
        });
        line.map(str::trim)
    };
    let length = header("content-length").and_then(|value| value.parse().ok());
    let mut body = vec![0; length.filter(|bytes| *bytes <= 64 * 1024).ok_or_else(invalid)?];
    stream.read_exact(&mut body).await?;
    let is_last = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(Answer { status, is_last })
}

/// Messages over one WebSocket, until it fails.
async fn talk(to: SocketAddr, every: Duration, counted: &Counted) -> io::Result<()> {
    let mut stream = connect(to).await?;
    let opened = patiently(async {
        // Any 16 bytes in base64 are a key.
        let request = "GET /chat HTTP/1.1\r\nhost: chat.demo.svc.cluster.local\r\n\
                       connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: d2VmdC1kZW1vLWNoYXQtMQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let head = read_head(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match head.first() {
            Some(line) if line.starts_with("HTTP/1.1 101") => Ok(()),
            line => Err(io::Error::other(format!("no WebSocket: {line:?}"))),
        }
    });
    let started = Instant::now();
    if let Err(error) = opened.await {
        counted.record("chat", started, Err(&error));
        return Err(error);
    }
    let mut pace = tokio::time::interval(every);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let started = Instant::now();
        let answered = patiently(async {
            stream.write_all(&frame(b"hello", Some([7, 1, 5, 3]))).await?;
            match read_frame(&mut stream).await? {
                text if text.ends_with(b": hello") => Ok(()),
                text => Err(io::Error::other(format!("answered {text:?}"))),
            }
        })
        .await;
        counted.record("chat", started, answered.as_ref().copied());
        answered?;
    }
}

/// Calls `cache` over connections that are opened when needed and given up after some use.
#[derive(Debug)]
pub(crate) struct CacheClient {
    to: SocketAddr,
    idle: Mutex<Vec<CacheConnection>>,
    counted: Counted,
}

#[derive(Debug)]
struct CacheConnection {
    stream: BufReader<TcpStream>,
    exchanges: u32,
}

impl CacheClient {
    pub(crate) fn new(to: SocketAddr, counted: Counted) -> Self {
        Self { to, idle: Mutex::default(), counted }
    }

    /// What the cache has under a name.
    pub(crate) async fn call(&self, name: &str) -> io::Result<String> {
        let started = Instant::now();
        let answered = patiently(self.exchange(name)).await;
        self.counted.record("cache", started, answered.as_ref().map(drop));
        answered
    }

    async fn exchange(&self, name: &str) -> io::Result<String> {
        let idle = self.idle.lock().expect("no panic in here").pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                let mut stream = connect(self.to).await?;
                // The server speaks first.
                read_line(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                CacheConnection { stream, exchanges: 0 }
            }
        };
        let request = format!("GET {name}\r\n");
        connection.stream.write_all(request.as_bytes()).await?;
        let line = read_line(&mut connection.stream).await?;
        let answer = line.ok_or(io::ErrorKind::UnexpectedEof)?;
        connection.exchanges += 1;
        let mut idle = self.idle.lock().expect("no panic in here");
        if connection.exchanges < EXCHANGES_PER_CONNECTION && idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
        Ok(answer)
    }
}

/// Calls `api` over one HTTP/2 connection, opened when needed.
#[derive(Debug)]
pub(crate) struct GrpcClient {
    to: SocketAddr,
    connection: tokio::sync::Mutex<Option<h2::client::SendRequest<Bytes>>>,
    counted: Counted,
}

impl GrpcClient {
    pub(crate) fn new(to: SocketAddr, counted: Counted) -> Self {
        Self { to, connection: tokio::sync::Mutex::default(), counted }
    }

    /// The answer to a message.
    pub(crate) async fn call(&self, message: &[u8]) -> io::Result<String> {
        let started = Instant::now();
        let answered = patiently(async {
            let sender = self.sender().await?;
            exchange_grpc(sender, message).await.map_err(io::Error::other)?
        })
        .await;
        self.counted.record("api", started, answered.as_ref().map(drop));
        answered
    }

    async fn sender(&self) -> io::Result<h2::client::SendRequest<Bytes>> {
        let mut shared = self.connection.lock().await;
        if let Some(sender) = shared.take()
            && let Ok(sender) = sender.ready().await
        {
            *shared = Some(sender.clone());
            return Ok(sender);
        }
        let stream = TcpStream::connect(self.to).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // The next call finds out that the connection has ended.
            let _ = connection.await;
        });
        *shared = Some(sender.clone());
        Ok(sender)
    }
}

async fn exchange_grpc(
    sender: h2::client::SendRequest<Bytes>,
    message: &[u8],
) -> Result<io::Result<String>, h2::Error> {
    let head = http::Request::post("http://api.demo.svc.cluster.local/demo.Api/Greet")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a valid head");
    let mut sender = sender.ready().await?;
    let (response, mut stream) = sender.send_request(head, false)?;
    stream.send_data(grpc_message(message), true)?;
    let response = response.await?;
    let in_head = response.headers().get("grpc-status").cloned();
    let mut body = response.into_body();
    let mut reply = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        reply.extend_from_slice(&chunk);
    }
    let in_trailers = body.trailers().await?;
    let in_trailers = in_trailers.and_then(|trailers| trailers.get("grpc-status").cloned());
    let status = in_trailers.or(in_head);
    Ok(match (status, reply.get(5..)) {
        (Some(status), Some(reply)) if status == "0" => {
            Ok(String::from_utf8_lossy(reply).into_owned())
        }
        (status, _) => Err(io::Error::other(format!("grpc-status {status:?}"))),
    })
}

async fn connect(to: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::services;
    use super::*;

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// All services, wired to each other without a mesh.
    #[test]
    fn the_applications_work_without_a_mesh() {
        let runtime = runtime_real::current_thread().unwrap();
        runtime.block_on(async {
            let ((web, web_at), (api, api_at)) = (listen().await, listen().await);
            let ((cache, cache_at), (chat, chat_at)) = (listen().await, listen().await);
            let counted = Counted::default();
            let to_cache = CacheClient::new(cache_at, counted.clone());
            let to_api = GrpcClient::new(api_at, counted.clone());
            tokio::spawn(services::cache("cache-1".into(), cache));
            tokio::spawn(services::chat("chat-1".into(), chat));
            tokio::spawn(services::api("api-1".into(), api, to_cache));
            tokio::spawn(services::web("web-1".into(), web, to_api));
            tokio::spawn(load(web_at, chat_at, 500.0, counted.clone()));

            let enough = |counts: Option<&Counts>| counts.is_some_and(|c| c.requests >= 20);
            loop {
                tokio::task::yield_now().await;
                let all = counted.0.lock().unwrap();
                if ["web", "api", "cache", "chat"].iter().all(|to| enough(all.get(to))) {
                    assert!(all.values().all(|c| c.success_rate() == Some(1.0)), "{all:?}");
                    return;
                }
            }
        });
    }
}
