//! Serves connections: gRPC over HTTP/2, in plaintext to this host alone and by mutual TLS to
//! everybody else.
//!
//! Law: a client over TLS that shows no certificate can get one (`Certify`), and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::api::server::{Certifier, Discovery, grpc_service, identity_service};
use crate::model::protocol::{HttpVersion, KeepAlive};
use crate::runtime::{Connection, Listener, Runtime};
use crate::wire::drain::DrainWatch;
use crate::wire::http::server::{Http2ServerOptions, ServerOptions, serve};
use crate::wire::http::{self, Service};
use crate::wire::tls::credentials::Credentials;
use crate::wire::tls::server::accept;

use super::identity::IdentityIssuer;
use super::metrics::ControlMetrics;
use super::publish::Publisher;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a connection could not be accepted, as when files have run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What every connection is served with. Cloning shares it.
#[derive(Clone)]
pub(super) struct Server {
    runtime: Runtime,
    credentials: Credentials,
    /// For proxies that have an identity.
    everything: Arc<dyn Service>,
    /// For those that come to get one.
    identity: Arc<dyn Service>,
    options: Arc<ServerOptions>,
    connections_max: usize,
    metrics: Arc<ControlMetrics>,
}

impl Server {
    pub(super) fn new(
        runtime: &Runtime,
        credentials: Credentials,
        publisher: Publisher,
        issuer: IdentityIssuer,
        connections_max: usize,
        metrics: Arc<ControlMetrics>,
    ) -> Self {
        let discovery: Arc<dyn Discovery> = Arc::new(publisher);
        let certifier: Arc<dyn Certifier> = Arc::new(issuer);
        let keep_alive = KeepAlive {
            interval: Some(Duration::from_secs(30)),
            timeout: Some(Duration::from_secs(10)),
            while_idle: true,
        };
        Self {
            runtime: runtime.clone(),
            credentials,
            everything: grpc_service(discovery, Some(certifier.clone())),
            identity: identity_service(certifier),
            options: Arc::new(ServerOptions {
                http2: Http2ServerOptions {
                    keep_alive: Some(keep_alive),
                    ..Http2ServerOptions::default()
                },
                ..ServerOptions::default()
            }),
            connections_max,
            metrics,
        }
    }

    /// Serves every connection of a listener until the drain begins.
    pub(super) async fn accept_loop(self, listener: Box<dyn Listener>, drain: DrainWatch) {
        while let Some(connection) = next_connection(&self.runtime, &*listener, &drain).await {
            if self.metrics.connections.value() >= self.connections_max as u64 {
                mark!("control-connections-at-bound");
                tracing::warn!(peer = %connection.peer, "refused: too many connections");
                continue;
            }
            let (server, drain) = (self.clone(), drain.clone());
            self.runtime.spawn("control connection", async move {
                let peer = connection.peer;
                if let Err(error) = server.serve_connection(connection, drain).await {
                    tracing::debug!(%peer, %error, "control connection ended");
                }
            });
        }
    }

    async fn serve_connection(
        &self,
        connection: Connection,
        drain: DrainWatch,
    ) -> Result<(), http::Error> {
        let _open = self.metrics.connections.guard();
        let (io, service) = if is_this_host(connection.peer) {
            (connection.io, self.everything.clone())
        } else {
            let handshake = accept(connection.io, &self.credentials, &[]);
            let session = match self.runtime.timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(session)) => session,
                failed => {
                    mark!("control-handshake-failed");
                    self.metrics.handshake_errors.increment();
                    let error = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "timed out".to_string(),
                    };
                    tracing::debug!(peer = %connection.peer, error, "TLS handshake failed");
                    return Ok(());
                }
            };
            let service = match &session.client {
                Some(_) => &self.everything,
                None => &self.identity,
            };
            (session.io, service.clone())
        };
        let version = HttpVersion::Http2;
        serve(&self.runtime, io, version, &self.options, service, drain).await
    }
}

/// The next connection; `None` once the drain has begun.
pub(super) async fn next_connection(
    runtime: &Runtime,
    listener: &dyn Listener,
    drain: &DrainWatch,
) -> Option<Connection> {
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.draining() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => return Some(connection),
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                runtime.sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Linkerd's proxies speak plaintext to loopback addresses, and TLS to all others.
fn is_this_host(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}
