//! The admin server: metrics, probes, log levels, environment, shutdown.
//!
//! Law: what changes the proxy or shows its configuration is answered to this host alone.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use http::{Method, StatusCode};
use http_body::Frame;
use tokio::sync::Notify;

use crate::model::protocol::HttpVersion;
use crate::proxy::config;
use crate::runtime::{BoxFuture, BoxIo, Connection, Runtime};
use crate::telemetry::Telemetry;
use crate::telemetry::format::{self, Format};
use crate::traffic::detect::{HttpFound, TlsFound};
use crate::wire::http::server::{self, ServerOptions};
use crate::wire::http::{Body, DrainWatch, Error, Request, Response, Service};
use crate::wire::sniff::{Sniffed, sniff_http, sniff_tls};
use crate::wire::tls::{Credentials, server as tls_server};

/// Time for the first bytes of a connection, and for a TLS handshake.
const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest log level accepted, in bytes.
const LEVEL_BYTES_MAX: usize = 4 * 1024;

/// The process's log, as far as the admin server turns it.
pub trait LogLevels: Send + Sync {
    /// Levels in force, such as `warn,weft=info`.
    fn current(&self) -> String;

    /// Puts levels in force.
    ///
    /// # Errors
    /// What is wrong with them, and what would be right.
    fn set(&self, levels: &str) -> Result<(), String>;
}

/// What the admin server shows and does.
pub struct Admin {
    /// The outside.
    pub runtime: Runtime,
    /// As configured.
    pub config: config::Admin,
    /// What `/metrics` shows.
    pub telemetry: Arc<Telemetry>,
    /// `/ready` is 200 once these are complete.
    pub credentials: Credentials,
    /// What `/proxy-log-level` shows and sets.
    pub log: Option<Arc<dyn LogLevels>>,
    /// What `/env.json` shows.
    pub environment: BTreeMap<String, String>,
    /// Told by `/shutdown`.
    pub shutdown: Arc<Notify>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Serves one connection: HTTP/1 or HTTP/2, in plaintext or over mesh TLS.
pub async fn serve_connection(admin: Arc<Admin>, connection: Connection, drain: DrainWatch) {
    let peer = connection.peer;
    let Some((io, version)) = admin.open(connection.io).await else {
        return;
    };
    let service = Arc::new(Client { admin: admin.clone(), peer });
    let options = ServerOptions::default();
    let served = server::serve(&admin.runtime, io, version, &options, service, drain).await;
    if let Err(error) = served {
        tracing::debug!(%error, client = %peer, "admin connection ended");
    }
}

struct Client {
    admin: Arc<Admin>,
    peer: SocketAddr,
}

impl Service for Client {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        let (admin, peer) = (self.admin.clone(), self.peer.ip());
        Box::pin(async move { admin.answer(request, peer).await })
    }
}

impl Admin {
    async fn open(&self, io: BoxIo) -> Option<(BoxIo, HttpVersion)> {
        let clock = &*self.runtime.clock;
        let (tls, mut io) = sniff_tls(clock, io, DETECT_TIMEOUT).await.ok()?;
        match tls {
            Sniffed::Found(TlsFound::Sni(name)) if name == self.credentials.local().server_name => {
                let accept = tls_server::accept(io, &self.credentials, &[]);
                io = self.runtime.timeout(DETECT_TIMEOUT, accept).await.ok()?.ok()?.io;
            }
            Sniffed::Found(TlsFound::NotTls) => {}
            _ => return None,
        }
        match sniff_http(clock, io, DETECT_TIMEOUT).await.ok()? {
            (Sniffed::Found(HttpFound::Http2), io) => Some((io, HttpVersion::Http2)),
            (Sniffed::Found(HttpFound::Http1), io) => Some((io, HttpVersion::Http1)),
            _ => None,
        }
    }

    async fn answer(&self, request: Request, peer: IpAddr) -> Response {
        let get = matches!(*request.method(), Method::GET | Method::HEAD);
        let here = peer.to_canonical().is_loopback();
        match request.uri().path() {
            "/metrics" if get => self.metrics(request.headers()),
            "/live" if get => text(StatusCode::OK, "live\n"),
            "/ready" if get && self.credentials.is_ready() => text(StatusCode::OK, "ready\n"),
            "/ready" if get => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            "/metrics" | "/live" | "/ready" => not_allowed("GET"),
            "/proxy-log-level" | "/env.json" | "/shutdown" if !here => {
                text(StatusCode::FORBIDDEN, "only from this host\n")
            }
            "/proxy-log-level" => self.log_level(request).await,
            "/env.json" if get => self.env(),
            "/env.json" => not_allowed("GET"),
            "/shutdown" if !self.config.shutdown_endpoint => text(
                StatusCode::NOT_FOUND,
                "off; set LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED=true\n",
            ),
            "/shutdown" if request.method() == Method::POST => {
                self.shutdown.notify_one();
                text(StatusCode::OK, "shutdown\n")
            }
            "/shutdown" => not_allowed("POST"),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Response {
        let asked = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let format = asked(ACCEPT).map_or(Format::Text, Format::negotiate);
        let pieces = self.telemetry.scrape_as(self.runtime.now(), format);
        let gzip = asked(ACCEPT_ENCODING).is_some_and(format::accepts_gzip);
        let mut response = match gzip {
            true => Response::new(Body::wrap(Pieces(pieces.gzip()))),
            false => Response::new(Body::wrap(Pieces(pieces))),
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    async fn log_level(&self, request: Request) -> Response {
        let Some(log) = &self.log else {
            return text(StatusCode::NOT_FOUND, "the log cannot be turned\n");
        };
        match *request.method() {
            Method::GET => text(StatusCode::OK, log.current() + "\n"),
            Method::PUT => {
                let Ok(body) = request.into_body().read_to_end(LEVEL_BYTES_MAX).await else {
                    return text(StatusCode::BAD_REQUEST, "give levels, such as warn,weft=info\n");
                };
                match log.set(String::from_utf8_lossy(&body).trim()) {
                    Ok(()) => text(StatusCode::NO_CONTENT, ""),
                    Err(why) => text(StatusCode::BAD_REQUEST, why + "\n"),
                }
            }
            _ => not_allowed("GET, PUT"),
        }
    }

    fn env(&self) -> Response {
        // A map of strings always has a JSON form.
        let json = serde_json::to_string(&self.environment).unwrap_or_default();
        let mut response = text(StatusCode::OK, json);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// The pieces of an exposition, made as they are sent.
struct Pieces<I>(I);

impl<I: Iterator<Item = Bytes> + Unpin> http_body::Body for Pieces<I> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece))))
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

fn not_allowed(allow: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}
