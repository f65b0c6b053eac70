//! Workloads: who sends what when, and what came of it. Clients are plain programs that know
//! nothing of the mesh.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::uri::Authority;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Mutex as AsyncMutex;

use mesh_core::runtime::net::TcpOptions;
use mesh_core::runtime::{BoxIo, Runtime};
use mesh_core::time::Timestamp;
use mesh_core::wire::http::client::{self, Http2ClientOptions, Http2Connection};
use mesh_core::wire::http::{Body, Request, Response, SendError, h1};

use super::programs::{BODY_BYTES_MAX, MARKER, NUMBER_HEADER};
use super::record::{Answer, Failure, FailureClass, Record};
use super::scenario::{Arrivals, Protocol, Workload};
use crate::lock;

/// A workload under way. Cloning shares its connections.
#[derive(Clone)]
pub(super) struct Load {
    runtime: Runtime,
    record: Record,
    name: Arc<str>,
    sender: Arc<str>,
    to: Arc<str>,
    protocol: Protocol,
    timeout: Duration,
    http1: Arc<Mutex<Vec<h1::Connection>>>,
    http2: Arc<AsyncMutex<Option<Http2Connection>>>,
}

impl Load {
    /// A workload as a pod sends it. What is not carried out is an error, in words.
    pub(super) fn new(
        runtime: Runtime,
        record: Record,
        sender: Arc<str>,
        workload: &Workload,
    ) -> Result<Self, String> {
        if !matches!(
            workload.protocol,
            Protocol::Http1 | Protocol::H2 | Protocol::Tcp | Protocol::ServerFirstTcp
        ) || !matches!(workload.arrivals, Arrivals::Constant { .. } | Arrivals::Closed { .. })
            || workload.misbehave.is_some()
        {
            return Err(format!("workload {}: this is not carried out yet", workload.name));
        }
        Ok(Self {
            sender,
            runtime,
            record,
            name: workload.name.as_str().into(),
            to: workload.to.as_str().into(),
            protocol: workload.protocol,
            timeout: workload.timeout.0,
            http1: Arc::default(),
            http2: Arc::default(),
        })
    }

    /// Sends until `stop`.
    pub(super) fn start(self, workload: &Workload, stop: Timestamp) {
        let start = Timestamp::ZERO + workload.start.0;
        let requests = workload.requests.unwrap_or(u64::MAX);
        let runtime = self.runtime.clone();
        match workload.arrivals {
            Arrivals::Constant { rate } => runtime.spawn("workload", async move {
                let interval = Duration::from_secs_f64(1.0 / rate.max(1e-6));
                let mut at = start;
                for _ in 0..requests {
                    if at >= stop {
                        return;
                    }
                    self.runtime.clock.sleep_until(at).await;
                    let load = self.clone();
                    self.runtime.spawn("request", async move { load.request().await });
                    at = at + interval;
                }
            }),
            Arrivals::Closed { concurrency, think } => {
                let left = Arc::new(Mutex::new(requests));
                for _ in 0..concurrency {
                    let (load, left) = (self.clone(), left.clone());
                    runtime.spawn("caller", async move {
                        load.runtime.clock.sleep_until(start).await;
                        while load.runtime.now() < stop && take_one(&left) {
                            load.request().await;
                            load.runtime.sleep(think.0.max(Duration::from_millis(1))).await;
                        }
                    });
                }
            }
            _ => {}
        }
    }

    async fn request(&self) {
        let number = self.record.begin(&self.name, &self.sender, self.runtime.now());
        let result = match self.runtime.timeout(self.timeout, self.exchange(number)).await {
            Ok(result) => result,
            Err(_) => Err("timed out".to_owned()),
        };
        let answer = result.map(Answer::status);
        let failed = |what| Failure { class: FailureClass::BrokenOff, what };
        self.record.end(number, self.runtime.now(), answer.map_err(failed));
    }

    async fn exchange(&self, number: u64) -> Result<u16, String> {
        match self.protocol {
            Protocol::Http1 => self.http1(number).await,
            Protocol::H2 => self.http2(number).await,
            Protocol::Tcp => self.lines(number, false).await,
            _ => self.lines(number, true).await,
        }
    }

    async fn connect(&self) -> Result<BoxIo, String> {
        let fail = |error: std::io::Error| format!("connect: {error}");
        let authority: Authority = self.to.parse().map_err(|error| format!("{error}"))?;
        let addresses = self.runtime.net.resolve(authority.host()).await.map_err(fail)?;
        let port = authority.port_u16().unwrap_or(80);
        let at = SocketAddr::new(addresses[0], port);
        let connecting = self.runtime.net.connect(at, TcpOptions::default());
        Ok(connecting.await.map_err(fail)?.io)
    }

    fn message(&self, number: u64, version: http::Version) -> Request {
        let uri = match version {
            http::Version::HTTP_2 => format!("http://{}/work", self.to),
            _ => "/work".to_owned(),
        };
        let mut request = http::Request::post(uri).version(version).header(NUMBER_HEADER, number);
        if version != http::Version::HTTP_2 {
            request = request.header(http::header::HOST, &*self.to);
        }
        let body = Body::from(format!("{MARKER} {number}"));
        request.body(body).expect("the parts are valid: a scenario's `to` was parsed")
    }

    async fn http1(&self, number: u64) -> Result<u16, String> {
        let mut request = self.message(number, http::Version::HTTP_11);
        loop {
            let pooled = self.idle();
            let fresh = pooled.is_none();
            let connection = match pooled {
                Some(connection) => connection,
                None => h1::Connection::new(&self.runtime, self.connect().await?),
            };
            let pool = self.http1.clone();
            let recycle = Arc::new(move |connection| lock(&pool).push(connection));
            match connection.send(request, Some(recycle)).await {
                Ok(response) => return finish(response).await,
                // The pooled connection had been closed: nothing was sent.
                Err(SendError::Unsent { request: back, .. }) if !fresh => request = back,
                Err(error) => return Err(error.into_error().to_string()),
            }
        }
    }

    fn idle(&self) -> Option<h1::Connection> {
        let mut pool = lock(&self.http1);
        std::iter::from_fn(|| pool.pop()).find_map(|mut idle| idle.is_alive().then_some(idle))
    }

    async fn http2(&self, number: u64) -> Result<u16, String> {
        let connection = {
            let mut shared = self.http2.lock().await;
            match &*shared {
                Some(connection) if !connection.is_closed() => connection.clone(),
                _ => {
                    let io = self.connect().await?;
                    let options = Http2ClientOptions::default();
                    let connection = client::connect(&self.runtime, io, &options)
                        .await
                        .map_err(|error| error.to_string())?;
                    shared.insert(connection).clone()
                }
            }
        };
        let request = self.message(number, http::Version::HTTP_2);
        let sent = connection.send(request).await;
        finish(sent.map_err(|error| error.into_error().to_string())?).await
    }

    async fn lines(&self, number: u64, greeted: bool) -> Result<u16, String> {
        let fail = |error: std::io::Error| error.to_string();
        let (read, mut write) = tokio::io::split(self.connect().await?);
        let mut lines = BufReader::new(read);
        let mut line = String::new();
        if greeted {
            lines.read_line(&mut line).await.map_err(fail)?;
            if !line.starts_with("hello ") {
                return Err(format!("greeted with {line:?}"));
            }
            line.clear();
        }
        let request = format!("{MARKER} {number}\n");
        write.write_all(request.as_bytes()).await.map_err(fail)?;
        write.flush().await.map_err(fail)?;
        lines.read_line(&mut line).await.map_err(fail)?;
        if !line.ends_with(&request) {
            return Err(format!("answered with {line:?}"));
        }
        write.shutdown().await.map_err(fail)?;
        line.clear();
        match lines.read_line(&mut line).await.map_err(fail)? {
            0 => Ok(0),
            _ => Err(format!("more came: {line:?}")),
        }
    }
}

fn take_one(left: &Mutex<u64>) -> bool {
    let mut left = lock(left);
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

/// Reads the whole answer: one that breaks off is a failure.
async fn finish(response: Response) -> Result<u16, String> {
    let status = response.status().as_u16();
    let body = response.into_body().read_to_end(BODY_BYTES_MAX).await;
    let body = body.map_err(|error| format!("body: {error}"))?;
    let whole = body.ends_with(MARKER.as_bytes()) || status >= 400;
    match whole {
        true => Ok(status),
        false => Err(format!("the answer breaks off after {} bytes", body.len())),
    }
}
