//! The way out: from the application to an endpoint.
//!
//! Per connection: find the destination, wait for its policy, find out what is spoken, and serve
//! that. `http` and `opaque` have the rest of the way.

mod http;
mod http_proxy;
mod limits;
mod opaque;
mod retry;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::model::client_policy::{ClientProtocol, OpaqueRoutes};
use crate::model::protocol::HttpVersion;
use crate::model::target::Target;
use crate::proxy::backend::Backends;
use crate::proxy::config::{self, OutboundDestination};
use crate::proxy::detect::{self, Detected, Spoken};
use crate::proxy::discover::outbound::{Destination, Destinations, Known};
use crate::proxy::metered::meter;
use crate::proxy::spans::Tracer;
use crate::proxy::tap::Taps;
use crate::runtime::{BoxIo, Connection, Runtime};
use crate::telemetry::labels::{OutboundProtocol, OutboundTransport, ParentLabels, ProtocolLabels};
use crate::telemetry::metrics::Detection;
use crate::telemetry::{OutboundError, Telemetry};
use crate::wire::http::DrainWatch;
use crate::wire::opaque::Bulk;

/// Everything the way out needs, shared by its connections.
pub struct Outbound {
    /// The outside.
    pub runtime: Runtime,
    /// As configured.
    pub config: config::Outbound,
    /// Discovered destinations.
    pub destinations: Destinations,
    /// Their backends.
    pub backends: Backends,
    /// What is counted.
    pub telemetry: Arc<Telemetry>,
    /// What begins spans, where any are told of.
    pub tracer: Option<Arc<Tracer>>,
    /// For opaque connections that carry much.
    pub bulk: Bulk,
    /// Who looks at requests.
    pub taps: Arc<Taps>,
    /// Requests in flight.
    pub in_flight: AtomicUsize,
}

/// How long a new connection waits for the control plane's first word on its destination.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one connection of the application. What comes before HTTP, and what is not HTTP, is on
/// the heap for as long as it lasts: an idle connection of HTTP keeps what serves HTTP alone.
pub async fn serve_connection(
    outbound: Arc<Outbound>,
    connection: Connection,
    how: OutboundDestination,
    drain: DrainWatch,
) {
    let until_http = Box::pin(serve_until_http(&outbound, connection, how, drain.clone()));
    if let Some((accepted, version)) = until_http.await {
        http::serve(&outbound, accepted, version, drain).await;
    }
}

/// Serves a connection up to where it turns out to be HTTP. None: it was something else, and is
/// over.
async fn serve_until_http(
    outbound: &Arc<Outbound>,
    connection: Connection,
    how: OutboundDestination,
    drain: DrainWatch,
) -> Option<(Accepted, HttpVersion)> {
    let target = match (how, connection.original_dst) {
        (OutboundDestination::Original, Some(address)) if address != connection.local => {
            Target::Address(address)
        }
        (OutboundDestination::Original, _) => {
            // Dialing the proxy itself would loop.
            tracing::info!(client = %connection.peer, "no original destination; closed");
            outbound.telemetry.outbound.tcp_error(OutboundError::Unexpected);
            return None;
        }
        (OutboundDestination::Fixed(name), _) => target_of(name),
        (OutboundDestination::HttpProxy, _) => {
            Box::pin(http_proxy::serve(outbound.clone(), connection, drain)).await;
            return None;
        }
    };
    let Ok(destination) = outbound.destinations.find(&target) else {
        tracing::warn!(%target, "too many destinations; closed");
        outbound.telemetry.outbound.tcp_error(OutboundError::LoadShed);
        return None;
    };
    let Some(known) = outbound.wait_known(&destination).await else {
        tracing::warn!(%target, "nothing known of the destination in time; closed");
        outbound.telemetry.outbound.tcp_error(OutboundError::FailFast);
        return None;
    };
    let mut labels = OutboundTransport { target_addr: connection.local };
    if let Target::Address(address) = &target {
        labels.target_addr = *address;
    }
    let io = meter(connection.io, &outbound.telemetry.outbound.transport(&labels));
    let accepted = Accepted { io, peer: connection.peer, target, destination };
    outbound.serve_until_http(accepted, &known, drain).await
}

/// A connection whose destination is known.
struct Accepted {
    io: BoxIo,
    /// The application's end.
    peer: SocketAddr,
    target: Target,
    destination: Arc<Destination>,
}

impl Outbound {
    async fn wait_known(&self, destination: &Destination) -> Option<Known> {
        if let Some(known) = destination.known() {
            return Some(known);
        }
        let known = self.runtime.timeout(DISCOVERY_TIMEOUT, destination.wait_known());
        Box::pin(known).await.ok().flatten()
    }

    /// Serves a connection by what its policy says of it, up to where that is HTTP.
    async fn serve_until_http(
        self: &Arc<Self>,
        accepted: Accepted,
        known: &Known,
        drain: DrainWatch,
    ) -> Option<(Accepted, HttpVersion)> {
        let parent = &known.policy.parent;
        match &known.policy.protocol {
            ClientProtocol::Opaque(routes) => {
                self.count_protocol(OutboundProtocol::Opaque, known);
                let serve = opaque::serve(self, accepted, parent, &routes.routes, drain);
                Box::pin(serve).await;
                None
            }
            ClientProtocol::Http1(_) => Some((accepted, HttpVersion::Http1)),
            ClientProtocol::Http2(_) | ClientProtocol::Grpc(_) => {
                Some((accepted, HttpVersion::Http2))
            }
            ClientProtocol::Tls(routes) => {
                self.count_protocol(OutboundProtocol::Tls, known);
                let serve = opaque::serve_tls(self, accepted, parent, &routes.routes, drain);
                Box::pin(serve).await;
                None
            }
            ClientProtocol::Detect { timeout, opaque, .. } => {
                self.detect(accepted, known, *timeout, opaque, drain).await
            }
        }
    }

    /// Finds out what the application speaks. Where it is silent, the server is dialed meanwhile:
    /// one that speaks first shows that this is not HTTP.
    async fn detect(
        self: &Arc<Self>,
        accepted: Accepted,
        known: &Known,
        timeout: Duration,
        opaque: &OpaqueRoutes,
        drain: DrainWatch,
    ) -> Option<(Accepted, HttpVersion)> {
        let metrics = self.telemetry.outbound.detect(&ParentLabels(known.policy.parent.clone()));
        let began = self.runtime.now();
        let Accepted { io, peer, target, destination } = accepted;
        let route = opaque.routes.first();
        let dial = async || {
            if !self.config.race_server_first {
                return None;
            }
            opaque::dial(self, &known.policy.parent, route?).await.ok()
        };
        let detected = Box::pin(detect::http(&self.runtime, io, timeout, None, dial)).await;
        let took = self.runtime.now().since(began);
        let Ok(detected) = detected else {
            metrics.detected(Detection::Error, took);
            return None;
        };
        let Detected { found, client: io, server } = detected;
        let accepted = Accepted { io, peer, target, destination };
        let detection = match found {
            Spoken::Http(HttpVersion::Http1) => Detection::Http1,
            Spoken::Http(HttpVersion::Http2) => Detection::Http2,
            Spoken::NotHttp => Detection::NotHttp,
            Spoken::Silent => Detection::ReadTimeout,
        };
        metrics.detected(detection, took);
        if let Spoken::Http(version) = found {
            return Some((accepted, version));
        }
        self.count_protocol(OutboundProtocol::Opaque, known);
        let parent = &known.policy.parent;
        match server {
            Some(server) => {
                Box::pin(opaque::join(self, accepted, parent, route, server, drain)).await;
            }
            None => {
                Box::pin(opaque::serve(self, accepted, parent, &opaque.routes, drain)).await;
            }
        }
        None
    }

    fn count_protocol(&self, protocol: OutboundProtocol, known: &Known) {
        let parent = known.policy.parent.clone();
        self.telemetry
            .outbound
            .protocol_connections(&ProtocolLabels { protocol, parent })
            .increment();
    }
}

fn target_of(name: crate::model::target::NameAddr) -> Target {
    match name.as_address() {
        Some(address) => Target::Address(address),
        None => Target::Name(name),
    }
}
