//! The way in: from a client to the application.
//!
//! Per connection: find the port's policy, terminate mesh TLS, find out what is spoken, and serve
//! that. `http` and `opaque` have the rest of the way, `direct` the port of transport headers.

mod direct;
mod http;
mod opaque;

pub use http::{Applications, Limits};

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::model::identity::Identity;
use crate::model::protocol::HttpVersion;
use crate::model::server_policy::ServerProtocol;
use crate::proxy::config;
use crate::proxy::detect::{self, Detected, Dialed, Secured, Spoken};
use crate::proxy::discover::inbound::{PolicyWatch, Ports};
use crate::proxy::metered::meter;
use crate::proxy::own_listeners::OwnListeners;
use crate::proxy::spans::Tracer;
use crate::proxy::tap::Taps;
use crate::runtime::{BoxIo, Connection, Runtime};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::labels::{
    AuthorizationLabels, InboundTransport, NoServerTls, ServerLabels, ServerTlsLabel,
};
use crate::telemetry::metrics::Detection;
use crate::telemetry::{InboundError, Telemetry};
use crate::traffic::authorize::{Client, ClientTls};
use crate::traffic::detect::TlsFound;
use crate::wire::http::DrainWatch;
use crate::wire::opaque::Bulk;
use crate::wire::tls::{Credentials, server as tls_server};

/// Everything the way in needs, shared by its connections.
pub struct Inbound {
    /// The outside.
    pub runtime: Runtime,
    /// As configured.
    pub config: config::Inbound,
    /// Discovered ports.
    pub ports: Ports,
    /// Who we are.
    pub credentials: Credentials,
    /// What is counted.
    pub telemetry: Arc<Telemetry>,
    /// What begins spans, where any are told of.
    pub tracer: Option<Arc<Tracer>>,
    /// For opaque connections that carry much.
    pub bulk: Bulk,
    /// Requests in flight.
    pub in_flight: AtomicUsize,
    /// Who looks at requests.
    pub taps: Arc<Taps>,
    /// How much of the limits on requests is used.
    pub limits: Limits,
    /// Connections to the application.
    pub applications: Applications,
    /// Where it listens itself.
    pub own_listeners: Arc<OwnListeners>,
    /// Where the access log goes.
    pub access_log: Option<AccessLog>,
}

/// A connection whose port and client are known.
struct Session {
    io: BoxIo,
    /// Where the client wanted to go; the application is there.
    target: SocketAddr,
    peer: SocketAddr,
    tls: ServerTlsLabel,
    policy: PolicyWatch,
}

/// Serves one connection of a client. What comes before HTTP, and what is not HTTP, is on the heap
/// for as long as it lasts: an idle connection of HTTP keeps what serves HTTP alone.
pub async fn serve_connection(
    inbound: Arc<Inbound>,
    connection: Connection,
    forward: Option<SocketAddr>,
    drain: DrainWatch,
) {
    let until_http = serve_until_http(&inbound, connection, forward, drain.clone());
    if let Some((session, version)) = Box::pin(until_http).await {
        http::serve(&inbound, session, version, drain).await;
    }
}

/// What of a connection turned out to be HTTP. None: it was something else, and is over.
type FoundHttp = Option<(Session, HttpVersion)>;

async fn serve_until_http(
    inbound: &Arc<Inbound>,
    connection: Connection,
    forward: Option<SocketAddr>,
    drain: DrainWatch,
) -> FoundHttp {
    let Connection { io, peer, local, original_dst } = connection;
    let target = forward.or(original_dst).unwrap_or(local);
    if forward.is_none() && target.port() == inbound.config.direct_port {
        return Box::pin(direct::serve(inbound, io, peer, target, drain)).await;
    }
    if forward.is_none() && !inbound.is_own(target.ip()) {
        tracing::info!(client = %peer, %target, "not an address of this workload; closed");
        inbound.telemetry.inbound.tcp_error(target, InboundError::Unexpected);
        return None;
    }
    let policy = inbound.ports.find(target.port());
    let opaque = matches!(policy.current().protocol, ServerProtocol::Opaque)
        || inbound.config.opaque_ports.contains(&target.port());
    if opaque {
        let tls = ServerTlsLabel::NoIdentity(NoServerTls::PortSkipped);
        let session = inbound.session(io, target, peer, tls, policy);
        Box::pin(opaque::serve(inbound, session, drain)).await;
        return None;
    }
    inbound.terminate(io, target, peer, policy, drain).await
}

impl Inbound {
    /// Looks for TLS: ours is terminated, others' is passed through.
    async fn terminate(
        self: &Arc<Self>,
        io: BoxIo,
        target: SocketAddr,
        peer: SocketAddr,
        policy: PolicyWatch,
        drain: DrainWatch,
    ) -> FoundHttp {
        let tls = ServerTlsLabel::NoIdentity(NoServerTls::NoTlsFromRemote);
        let timeout = self.config.detect_timeout;
        let allowed =
            self.config.race_server_first && opaque::authorized(peer, &tls, &policy).is_ok();
        let dial = || self.dial_for(target, allowed);
        let detected = match Box::pin(detect::tls(&self.runtime, io, timeout, dial)).await {
            Ok(detected) => detected,
            Err(_) => {
                self.telemetry.inbound.tcp_error(target, InboundError::Io);
                return None;
            }
        };
        let Detected { found, client: io, server } = detected;
        match found {
            Secured::Found(TlsFound::Sni(sni)) if sni == self.credentials.local().server_name => {
                let (io, client, _) = self.accept_tls(io, target, &[]).await?;
                let tls = ServerTlsLabel::True { client_id: client };
                let session = self.session(io, target, peer, tls, policy);
                return self.detect(session, None, drain).await;
            }
            Secured::Found(found @ (TlsFound::Sni(_) | TlsFound::NoSni)) => {
                let sni = match &found {
                    TlsFound::Sni(sni) => sni.as_str(),
                    _ => "",
                };
                let tls = ServerTlsLabel::Opaque { sni: sni.into() };
                let session = self.session(io, target, peer, tls, policy);
                Box::pin(opaque::serve(self, session, drain)).await;
            }
            Secured::Found(TlsFound::NotTls) => {
                let session = self.session(io, target, peer, tls, policy);
                return self.detect(session, server, drain).await;
            }
            Secured::ServerFirst => {
                let session = self.session(io, target, peer, tls, policy);
                Box::pin(opaque::carry_on(self, session, server, drain)).await;
            }
            Secured::Silent => {
                mark!("silent-client-closed");
                tracing::info!(client = %peer, %target, "silent; closed");
                self.telemetry.inbound.tcp_error(target, InboundError::TlsDetectionTimeout);
            }
        }
        None
    }

    /// Dials the application of a target, where that is allowed.
    async fn dial_for(&self, target: SocketAddr, allowed: bool) -> Option<Dialed<()>> {
        if !allowed {
            return None;
        }
        opaque::dial(self, target).await.ok().map(|server| (server, ()))
    }

    /// Terminates mesh TLS in time. None where that failed, which is counted.
    async fn accept_tls(
        &self,
        io: BoxIo,
        target: SocketAddr,
        alpn: &[&'static [u8]],
    ) -> Option<(BoxIo, Option<Identity>, Option<Vec<u8>>)> {
        // On the heap for as long as the handshake takes.
        let accept = Box::pin(tls_server::accept(io, &self.credentials, alpn));
        match self.runtime.timeout(self.config.detect_timeout, accept).await {
            Ok(Ok(session)) => return Some((session.io, session.client, session.alpn)),
            Ok(Err(error)) => {
                mark!("tls-handshake-failed");
                tracing::info!(%target, %error, "TLS handshake failed");
            }
            Err(_) => {
                mark!("tls-handshake-timed-out");
                tracing::info!(%target, "TLS handshake timed out");
            }
        }
        self.telemetry.inbound.tcp_error(target, InboundError::Io);
        None
    }

    /// Finds out what the client speaks, as far as the policy does not say.
    async fn detect(
        self: &Arc<Self>,
        session: Session,
        server: Option<Dialed<()>>,
        drain: DrainWatch,
    ) -> FoundHttp {
        let meshed = matches!(session.tls, ServerTlsLabel::True { .. });
        let policy = session.policy.current();
        match &policy.protocol {
            ServerProtocol::Opaque | ServerProtocol::Tls => {
                Box::pin(opaque::carry_on(self, session, server, drain)).await;
                None
            }
            ServerProtocol::Http2(_) | ServerProtocol::Grpc(_) => {
                Some((session, HttpVersion::Http2))
            }
            ServerProtocol::Http1(_) if !meshed => Some((session, HttpVersion::Http1)),
            // A meshed client may carry HTTP/1 over HTTP/2. Silence is taken for HTTP/1.
            ServerProtocol::Http1(_) => {
                let timeout = self.config.detect_timeout;
                self.sniff(session, timeout, Some(HttpVersion::Http1), None, drain).await
            }
            ServerProtocol::Detect { timeout, .. } => {
                self.sniff(session, *timeout, None, server, drain).await
            }
        }
    }

    /// Reads the first bytes; `silent` is what a client that sends none is taken to speak.
    async fn sniff(
        self: &Arc<Self>,
        session: Session,
        timeout: std::time::Duration,
        silent: Option<HttpVersion>,
        server: Option<Dialed<()>>,
        drain: DrainWatch,
    ) -> FoundHttp {
        let metrics = self.telemetry.inbound.detect(&session.server_labels());
        let began = self.runtime.now();
        let Session { io, target, peer, tls, policy } = session;
        // The server is dialed while the client is silent, but only for clients that may use the
        // port as it is: for others a connection would be an answer.
        let race = self.config.race_server_first;
        let allowed = race && silent.is_none() && opaque::authorized(peer, &tls, &policy).is_ok();
        let dial = || self.dial_for(target, allowed);
        let detected = Box::pin(detect::http(&self.runtime, io, timeout, server, dial)).await;
        let took = self.runtime.now().since(began);
        let Detected { found, client: io, server } = match detected {
            Ok(detected) => detected,
            Err(_) => {
                metrics.detected(Detection::Error, took);
                return None;
            }
        };
        let (detection, version) = match found {
            Spoken::Http(HttpVersion::Http1) => (Detection::Http1, Some(HttpVersion::Http1)),
            Spoken::Http(HttpVersion::Http2) => (Detection::Http2, Some(HttpVersion::Http2)),
            Spoken::NotHttp => (Detection::NotHttp, None),
            Spoken::Silent => (Detection::ReadTimeout, silent),
        };
        metrics.detected(detection, took);
        let session = Session { io, target, peer, tls, policy };
        let Some(version) = version else {
            Box::pin(opaque::carry_on(self, session, server, drain)).await;
            return None;
        };
        Some((session, version))
    }

    fn session(
        &self,
        io: BoxIo,
        target: SocketAddr,
        peer: SocketAddr,
        tls: ServerTlsLabel,
        policy: PolicyWatch,
    ) -> Session {
        let server = ServerLabels { server: policy.current().server.clone(), port: target.port() };
        let labels = InboundTransport { target_addr: target, tls: tls.clone(), server };
        let io = meter(io, &self.telemetry.inbound.transport(&labels));
        Session { io, target, peer, tls, policy }
    }

    /// Where the application of a target listens.
    fn application(&self, target: SocketAddr) -> SocketAddr {
        match self.config.forward_ip {
            Some(ip) => SocketAddr::new(ip, target.port()),
            None => target,
        }
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        let own = &self.config.own_ips;
        own.is_empty() || own.iter().any(|own| own.to_canonical() == ip.to_canonical())
    }
}

impl Session {
    fn server_labels(&self) -> ServerLabels {
        ServerLabels { server: self.policy.current().server.clone(), port: self.target.port() }
    }

    fn authorization_labels(&self) -> AuthorizationLabels {
        AuthorizationLabels {
            target_addr: self.target,
            server: self.server_labels(),
            route: None,
            authorization: None,
            tls: self.tls.clone(),
        }
    }
}

/// A client as authorizations see it.
fn client(peer: SocketAddr, tls: &ServerTlsLabel) -> Client<'_> {
    let tls = match tls {
        ServerTlsLabel::True { client_id: Some(identity) } => ClientTls::Identity(identity),
        ServerTlsLabel::True { client_id: None } => ClientTls::NoIdentity,
        ServerTlsLabel::Opaque { .. } | ServerTlsLabel::NoIdentity(_) => ClientTls::None,
    };
    Client { ip: peer.ip(), tls }
}
