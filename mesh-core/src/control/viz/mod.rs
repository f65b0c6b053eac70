//! What people look at: one listener of plain HTTP/1.1, and who may ask it. What is answered is
//! [`public_api`]'s and [`console`]'s.
//!
//! Law: a page of another site learns nothing and does nothing here. It is asked for by a name of
//! this host or with the token that its owner set, and from no other origin.

mod access;
pub mod events;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use ::http::{HeaderName, HeaderValue};
use tokio::sync::Semaphore;

use crate::model::protocol::HttpVersion;
use crate::runtime::{BoxFuture, Listener, Runtime};
use crate::wire::drain::DrainWatch;
use crate::wire::http::server::{ServerOptions, serve};
use crate::wire::http::{Request, Response, Service};
use crate::wire::tls::credentials::Credentials;

use super::config::MeshConfig;
use super::identity::IdentityIssuer;
use super::metrics::ControlMetrics;
use super::prometheus::PrometheusUrl;
use super::public_api::statistics::Statistics;
use super::publish::Publisher;
use super::scrape::ScrapeConfig;
use super::serve::next_connection;
use super::tap::Taps;
use super::{console, public_api};

use access::Access;

/// Connections at once. Beyond, they wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// What every answer says to a browser, unless it says otherwise itself: nothing is loaded from
/// elsewhere, nothing is inline, nobody frames it, and no copy of it stays.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// Where people are answered, where nothing else is said.
const PORT: u16 = 8084;

/// What is shown, to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VizConfig {
    /// Where it is served (8084).
    pub listen: SocketAddr,
    /// Who knows this may ask, from wherever and by whatever name. None: only who asks for a name of
    /// the loopback.
    pub token: Option<String>,
    /// Who counts what the mesh does; none: the controller itself scrapes the proxies.
    pub prometheus: Option<PrometheusUrl>,
    /// How it scrapes them.
    pub scrape: ScrapeConfig,
}

impl VizConfig {
    /// For people of this host, at an address, with figures of its own.
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, token: None, prometheus: None, scrape: ScrapeConfig::default() }
    }
}

/// The console and the public API. Cloning shares them.
#[derive(Clone)]
pub(super) struct Viz(Arc<Shared>);

struct Shared {
    parts: Parts,
    listen: SocketAddr,
    access: Access,
    options: ServerOptions,
    connections: Arc<Semaphore>,
}

/// What answers are made of.
pub(super) struct Parts {
    pub(super) runtime: Runtime,
    /// The mesh's names and defaults.
    pub(super) mesh: MeshConfig,
    /// The index, for [`Publisher::read`].
    pub(super) publisher: Publisher,
    /// The control plane's own, with which it speaks to proxies; none where a sidecar does that for
    /// it.
    pub(super) credentials: Option<Credentials>,
    /// Where this process issues certificates.
    pub(super) issuer: Option<IdentityIssuer>,
    /// What the mesh does.
    pub(super) statistics: Statistics,
    pub(super) metrics: Arc<ControlMetrics>,
    /// Those that are open.
    pub(super) taps: Taps,
    /// Streams end when this begins.
    pub(super) drain: DrainWatch,
}

impl Viz {
    pub(super) fn new(config: &VizConfig, parts: Parts) -> Self {
        Self(Arc::new(Shared {
            parts,
            listen: config.listen,
            access: Access::new(config.token.clone()),
            options: ServerOptions {
                idle_timeout: Some(Duration::from_secs(60)),
                ..ServerOptions::default()
            },
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }))
    }

    /// Where this host's programs find it, where they have to be told: it listens at an address of
    /// its own, and not at the usual one.
    pub(super) fn own_address(&self) -> Option<SocketAddr> {
        let usual = SocketAddr::from(([127, 0, 0, 1], PORT));
        let listen = self.0.listen;
        (!listen.ip().is_unspecified() && listen != usual).then_some(listen)
    }

    /// What answers are made of.
    pub(super) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Serves every connection of a listener until the drain begins.
    pub(super) async fn serve(self, listener: Box<dyn Listener>) {
        let Parts { runtime, drain, .. } = self.parts();
        loop {
            let open = tokio::select! {
                biased;
                () = drain.draining() => return,
                open = self.0.connections.clone().acquire_owned() => open,
            };
            let Some(connection) = next_connection(runtime, &*listener, drain).await else {
                return;
            };
            let viz = self.clone();
            runtime.spawn("viz connection", async move {
                let _open = open;
                let Parts { runtime, drain, .. } = viz.parts();
                let (service, version) = (Arc::new(viz.clone()), HttpVersion::Http1);
                let options = &viz.0.options;
                let served =
                    serve(runtime, connection.io, version, options, service, drain.clone()).await;
                if let Err(error) = served {
                    tracing::debug!(peer = %connection.peer, %error, "viz connection ended");
                }
            });
        }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request) -> Response {
        self.parts().metrics.viz_requests.increment();
        let mut response = match self.0.access.judge(&request) {
            Err(refused) => {
                self.parts().metrics.viz_refused.increment();
                refused
            }
            Ok(()) if public_api::is_asked(request.uri().path()) => {
                public_api::answer(self, request).await
            }
            Ok(()) => console::answer(self, request).await,
        };
        for (name, value) in HEADERS {
            let value = HeaderValue::from_static(value);
            response.headers_mut().entry(name).or_insert(value);
        }
        response
    }
}

impl Service for Viz {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        let viz = self.clone();
        Box::pin(async move { viz.answer(request).await })
    }
}
