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
    /// None where this control plane has no authority to give it any.
    credentials: Option<Credentials>,
    /// For proxies that have an identity.
    everything: Arc<dyn Service>,
    /// For those that come to get one, where this control plane gives them.
    identity: Option<Arc<dyn Service>>,
    options: Arc<ServerOptions>,
    connections_max: usize,
    metrics: Arc<ControlMetrics>,
}

impl Server {
    /// What serves these; none where there is nothing to serve.
    pub(super) fn new(
        runtime: &Runtime,
        credentials: Option<Credentials>,
        publisher: Option<Publisher>,
        issuer: Option<IdentityIssuer>,
        connections_max: usize,
        metrics: Arc<ControlMetrics>,
    ) -> Option<Self> {
        let discovery = publisher.map(|publisher| Arc::new(publisher) as Arc<dyn Discovery>);
        let certifier = issuer.map(|issuer| Arc::new(issuer) as Arc<dyn Certifier>);
        let everything = match (discovery, certifier.clone()) {
            (Some(discovery), certifier) => grpc_service(discovery, certifier),
            (None, Some(certifier)) => identity_service(certifier),
            (None, None) => return None,
        };
        let keep_alive = KeepAlive {
            interval: Some(Duration::from_secs(30)),
            timeout: Some(Duration::from_secs(10)),
            while_idle: true,
        };
        Some(Self {
            runtime: runtime.clone(),
            credentials,
            everything,
            identity: certifier.map(identity_service),
            options: Arc::new(ServerOptions {
                http2: Http2ServerOptions {
                    keep_alive: Some(keep_alive),
                    ..Http2ServerOptions::default()
                },
                ..ServerOptions::default()
            }),
            connections_max,
            metrics,
        })
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
        let (io, service) = if is_this_host(connection.peer, connection.local) {
            (connection.io, self.everything.clone())
        } else {
            let Some(credentials) = &self.credentials else {
                mark!("control-connection-without-credentials");
                tracing::debug!(peer = %connection.peer, "refused: there is a proxy to speak TLS");
                return Ok(());
            };
            let handshake = accept(connection.io, credentials, &[]);
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
                Some(_) => Some(&self.everything),
                None => self.identity.as_ref(),
            };
            let Some(service) = service else { return Ok(()) };
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

/// Linkerd's proxies speak plaintext to loopback addresses, and TLS to all others. One beside this
/// process, in the same pod, has terminated that TLS and comes from the pod's own address.
fn is_this_host(peer: SocketAddr, local: SocketAddr) -> bool {
    let peer = peer.ip().to_canonical();
    peer.is_loopback() || peer == local.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_taken_from_this_host_alone() {
        let is_this_host =
            |peer: &str, local: &str| is_this_host(peer.parse().unwrap(), local.parse().unwrap());
        assert!(is_this_host("127.0.0.1:5", "127.0.0.1:8086"));
        assert!(is_this_host("[::ffff:127.0.0.1]:5", "[::1]:8086"));
        assert!(is_this_host("10.0.0.7:5", "10.0.0.7:8086"), "the pod's own proxy");
        assert!(!is_this_host("10.0.0.8:5", "10.0.0.7:8086"));
    }
}
