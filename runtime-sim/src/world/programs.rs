//! The programs that simulated containers run: servers of HTTP/1, HTTP/2, and of lines over TCP.
//! A container's image names its program: `simulated/http`, `simulated/tcp`,
//! `simulated/server-first-tcp`, `simulated/client`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use mesh_core::model::protocol::HttpVersion;
use mesh_core::runtime::net::ListenOptions;
use mesh_core::runtime::{BoxFuture, Connection, Runtime};
use mesh_core::wire::http::server::{self, ServerOptions};
use mesh_core::wire::http::{Body, DrainWatch, Request, Response, Service};
use mesh_core::wire::rewind::rewind;

use crate::lock;
use crate::random::Random;

use super::record::{Execution, Record};

/// The header that carries a request's number.
pub(super) const NUMBER_HEADER: &str = "x-request-number";
/// What every request carries, to be looked for between hosts.
pub(super) const MARKER: &str = "weft-plaintext-marker";
/// Bytes of a request's or response's body.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a line.
const LINE_BYTES_MAX: u64 = 1_024;

/// What a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// HTTP/1.1 and HTTP/2 with prior knowledge.
    Http,
    /// Answers a line with a line.
    Tcp,
    /// Greets, then answers a line with a line.
    ServerFirstTcp,
    /// Nothing: workloads send from it.
    Client,
}

impl Program {
    /// The program of an image.
    pub(super) fn of_image(image: &str) -> Option<Self> {
        match image.strip_prefix("simulated/")? {
            "http" => Some(Self::Http),
            "tcp" => Some(Self::Tcp),
            "server-first-tcp" => Some(Self::ServerFirstTcp),
            "client" => Some(Self::Client),
            _ => None,
        }
    }
}

/// How a pod behaves now. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Behaviour(Arc<Mutex<Conduct>>);

#[derive(Debug)]
struct Conduct {
    latency: Duration,
    slow: Duration,
    errors: Option<(u16, f64)>,
    draw: Random,
}

impl Behaviour {
    pub(super) fn new(latency: Duration, draw: Random) -> Self {
        Self(Arc::new(Mutex::new(Conduct { latency, slow: Duration::ZERO, errors: None, draw })))
    }

    pub(super) fn set_slow(&self, by: Duration) {
        lock(&self.0).slow = by;
    }

    pub(super) fn set_errors(&self, errors: Option<(u16, f64)>) {
        lock(&self.0).errors = errors;
    }

    /// What becomes of the next request: its status, and after how long. Errors come at once.
    fn next(&self) -> (u16, Duration) {
        let mut conduct = lock(&self.0);
        if let Some((status, rate)) = conduct.errors
            && conduct.draw.unit() < rate
        {
            return (status, Duration::ZERO);
        }
        (200, conduct.latency + conduct.slow)
    }
}

/// A server of a pod.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) runtime: Runtime,
    pub(super) pod: Arc<str>,
    pub(super) record: Record,
    pub(super) behaviour: Behaviour,
    pub(super) drain: DrainWatch,
}

impl Server {
    /// Listens on a port and serves until its process ends, or has drained.
    pub(super) fn start(self, program: Program, port: u16) {
        let runtime = self.runtime.clone();
        runtime.spawn("app listener", async move {
            let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let listening = self.runtime.net.listen(at, ListenOptions::default());
            let Ok(listener) = listening.await else {
                return;
            };
            loop {
                tokio::select! {
                    biased;
                    () = self.drain.draining() => return,
                    accepted = listener.accept() => {
                        let Ok(connection) = accepted else { continue };
                        let server = self.clone();
                        self.runtime.spawn("app connection", async move {
                            server.serve(program, connection).await;
                        });
                    }
                }
            }
        });
    }

    async fn serve(self, program: Program, connection: Connection) {
        let served = match program {
            Program::Http => self.serve_http(connection).await,
            Program::Tcp => self.serve_lines(connection, false).await,
            Program::ServerFirstTcp => self.serve_lines(connection, true).await,
            Program::Client => Ok(()),
        };
        // A broken connection is its client's to report.
        let _ = served;
    }

    fn executed(&self, number: Option<u64>, client: Option<&str>) {
        let (at, pod) = (self.runtime.now(), self.pod.clone());
        self.record.execute(Execution { at, pod, number, client: client.map(Arc::from) });
    }

    async fn serve_http(self, mut connection: Connection) -> Result<(), std::io::Error> {
        // "PRI " is HTTP/2's preface, and no HTTP/1 method.
        let mut first = [0; 4];
        connection.io.read_exact(&mut first).await?;
        let version = match &first {
            b"PRI " => HttpVersion::Http2,
            _ => HttpVersion::Http1,
        };
        let io = rewind(first.to_vec(), connection.io);
        let (runtime, drain) = (self.runtime.clone(), self.drain.clone());
        let options = ServerOptions::default();
        server::serve(&runtime, io, version, &options, Arc::new(self), drain)
            .await
            .map_err(std::io::Error::other)
    }

    async fn serve_lines(self, connection: Connection, greets: bool) -> std::io::Result<()> {
        let (read, mut write) = tokio::io::split(connection.io);
        if greets {
            write.write_all(format!("hello {MARKER}\n").as_bytes()).await?;
        }
        let mut lines = BufReader::new(read.take(LINE_BYTES_MAX));
        let mut line = String::new();
        while lines.read_line(&mut line).await? > 0 {
            let number = line.split_whitespace().nth(1).and_then(|n| n.parse().ok());
            self.executed(number, None);
            let (status, latency) = self.behaviour.next();
            self.runtime.sleep(latency).await;
            if status != 200 {
                break;
            }
            write.write_all(format!("{} {line}", self.pod).as_bytes()).await?;
            line.clear();
            lines.get_mut().set_limit(LINE_BYTES_MAX);
        }
        write.shutdown().await
    }
}

impl Service for Server {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        let server = self.clone();
        Box::pin(async move {
            let number = request.headers().get(NUMBER_HEADER);
            let number = number.and_then(|value| value.to_str().ok()?.parse().ok());
            let client = request.headers().get("l5d-client-id");
            server.executed(number, client.and_then(|id| id.to_str().ok()));
            let body = request.into_body().read_to_end(BODY_BYTES_MAX).await;
            let (mut status, latency) = server.behaviour.next();
            server.runtime.sleep(latency).await;
            if body.is_err() {
                status = 400;
            }
            let mut response = Response::new(Body::from(format!("{} {MARKER}", server.pod)));
            *response.status_mut() =
                http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::IM_A_TEAPOT);
            response
        })
    }
}
