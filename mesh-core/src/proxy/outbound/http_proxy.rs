//! Explicit proxying: the client names the destination in each request (absolute-form), or in a
//! CONNECT for a connection of bytes. For workloads whose traffic cannot be redirected.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, Method, StatusCode, Version, header};

use super::http::{self as outbound_http, Http};
use super::{Accepted, Outbound, target_of};
use crate::model::protocol::HttpVersion;
use crate::model::target::NameAddr;
use crate::proxy::metered::meter;
use crate::proxy::orig_proto;
use crate::proxy::refusal::{Asked, Refusal};
use crate::runtime::{BoxFuture, BoxIo, Connection};
use crate::telemetry::labels::OutboundTransport;
use crate::traffic::detect::HttpFound;
use crate::wire::drain::{self, DrainSignal};
use crate::wire::http::{Body, DrainWatch, Request, Response, Service, Upgraded, server};
use crate::wire::sniff::{Sniffed, sniff_http};

/// Destinations that one connection keeps at hand; beyond, the table is begun anew.
const DESTINATIONS_MAX: usize = 64;

/// Bytes in a tunnel's pipe between the client and the way out.
const TUNNEL_BYTES: usize = 16 * 1024;

/// Serves one connection of a client that knows that this is a proxy.
pub(super) async fn serve(outbound: Arc<Outbound>, connection: Connection, drain: DrainWatch) {
    let labels = OutboundTransport { target_addr: connection.local };
    let io = meter(connection.io, &outbound.telemetry.outbound.transport(&labels));
    let timeout = outbound.config.detect_timeout;
    let version = match sniff_http(&*outbound.runtime.clock, io, timeout).await {
        Ok((Sniffed::Found(HttpFound::Http2), io)) => (HttpVersion::Http2, io),
        // Whatever else it is, HTTP/1 says what is wrong with it.
        Ok((Sniffed::Found(_), io)) => (HttpVersion::Http1, io),
        _ => return,
    };
    let (version, io) = version;
    let (closing, close) = drain::channel();
    let service = Arc::new(Proxy(Arc::new(Inner {
        outbound: outbound.clone(),
        peer: connection.peer,
        drain: drain.clone(),
        closing: closing.clone(),
        known: Mutex::default(),
    })));
    let options = &outbound.config.server;
    let served = pin!(server::serve(&outbound.runtime, io, version, options, service, close));
    if let Err(error) = outbound_http::until_drained(served, &drain, &closing).await {
        tracing::debug!(%error, "connection to the explicit proxy ended");
    }
}

#[derive(Clone)]
struct Proxy(Arc<Inner>);

struct Inner {
    outbound: Arc<Outbound>,
    peer: SocketAddr,
    drain: DrainWatch,
    /// Closes the client's connection once what is in flight is answered.
    closing: DrainSignal,
    known: Mutex<BTreeMap<NameAddr, Http>>,
}

impl Service for Proxy {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        let this = self.clone();
        Box::pin(async move {
            let asked = Asked::of(&request);
            match this.answer(request).await {
                Ok(response) => response,
                Err(refusal) => {
                    let outbound = &this.0.outbound;
                    outbound.telemetry.outbound.http_error(refusal.outbound_error());
                    refusal.response(&asked, outbound.config.informational_headers, false)
                }
            }
        })
    }
}

impl Proxy {
    async fn answer(&self, mut request: Request) -> Result<Response, Refusal> {
        let connect = request.method() == Method::CONNECT;
        let wanted = || {
            Refusal::BadRequest(
                "this is an HTTP proxy: name the destination, as in GET http://web.ns:80/".into(),
            )
        };
        if request.uri().authority().is_none() {
            return Err(wanted());
        }
        let authority = orig_proto::authority_of(&request, String::new).ok_or_else(wanted)?;
        let name = NameAddr::with_default_port(authority.as_str(), 80).map_err(|_| wanted())?;
        if connect {
            return self.tunnel(request.version(), name).await;
        }
        let http = self.destination(&name).await?;
        // The application sees what it would have without a proxy in between.
        if request.version() != Version::HTTP_2 {
            // Whatever Host says, the target's host is meant (RFC 9112, section 3.2.2).
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            if let Ok(host) = HeaderValue::from_str(host) {
                request.headers_mut().insert(header::HOST, host);
            }
            orig_proto::set_origin_form(&mut request);
        }
        Ok(http.handle(&mut request).await)
    }

    async fn destination(&self, name: &NameAddr) -> Result<Http, Refusal> {
        let known = self.known().get(name).cloned();
        if let Some(http) = known {
            return Ok(http);
        }
        let outbound = &self.0.outbound;
        let target = target_of(name.clone());
        let destination = outbound.destinations.find(&target).map_err(|_| Refusal::LoadShed)?;
        let limit = outbound.config.failfast_timeout;
        let found = outbound.runtime.timeout(limit, destination.wait_known()).await;
        found.ok().flatten().ok_or(Refusal::FailFast)?;
        let closing = self.0.closing.clone();
        let http = Http::new(outbound, self.0.peer, target, destination, closing);
        let mut known = self.known();
        if known.len() >= DESTINATIONS_MAX {
            known.clear();
        }
        known.insert(name.clone(), http.clone());
        Ok(http)
    }

    /// Answers CONNECT: what comes over the tunnel is served as a connection to that destination.
    async fn tunnel(&self, version: Version, name: NameAddr) -> Result<Response, Refusal> {
        let outbound = self.0.outbound.clone();
        let target = target_of(name);
        let destination = outbound.destinations.find(&target).map_err(|_| Refusal::LoadShed)?;
        let limit = outbound.config.failfast_timeout;
        let found = outbound.runtime.timeout(limit, destination.wait_known()).await;
        let known = found.ok().flatten().ok_or(Refusal::FailFast)?;
        let (near, far) = tokio::io::duplex(TUNNEL_BYTES);
        let (peer, drain) = (self.0.peer, self.0.drain.clone());
        self.0.outbound.runtime.spawn("explicit-tunnel", async move {
            let io: BoxIo = Box::new(far);
            let accepted = Accepted { io, peer, target, destination };
            let serve = outbound.serve_until_http(accepted, &known, drain.clone());
            if let Some((accepted, version)) = Box::pin(serve).await {
                outbound_http::serve(&outbound, accepted, version, drain).await;
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::OK;
        *response.version_mut() = version;
        response.extensions_mut().insert(Upgraded::new(Box::new(near)));
        Ok(response)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<NameAddr, Http>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
