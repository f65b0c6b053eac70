//! Opening a connection to an endpoint: TCP, then mesh TLS where the endpoint is meshed, then the
//! transport header where its proxy takes one.
//!
//! Law: an endpoint with a TLS identity is never reached in plaintext.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use crate::model::endpoint::{Endpoint, ProtocolHint};
use crate::model::identity::{DnsName, ServerTls};
use crate::model::protocol::HttpVersion;
use crate::proxy::config;
use crate::proxy::own_listeners::OwnListeners;
use crate::runtime::{BoxIo, Runtime};
use crate::wire::tls::{Credentials, TlsError, client as tls_client};
use crate::wire::transport_header::{self, TransportHeader};

/// What a connection will carry, as its server's proxy is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Bytes.
    Opaque,
    /// HTTP.
    Http(HttpVersion),
}

/// Why there is no connection. Cloned for all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kernel says so.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// It took too long.
    #[error("connect timed out")]
    TimedOut,
    /// The endpoint is meshed and TLS with it failed.
    #[error("mesh TLS failed: {0}")]
    Tls(Arc<TlsError>),
    /// It would come back to this proxy.
    #[error("loop: this proxy itself listens at {0}")]
    Loop(SocketAddr),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<TlsError> for ConnectError {
    fn from(error: TlsError) -> Self {
        Self::Tls(Arc::new(error))
    }
}

/// Why a connection to an endpoint is in plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTls {
    /// The endpoint is this workload itself.
    Loopback,
    /// Discovery gives it no identity.
    NotProvidedByServiceDiscovery,
}

impl NoTls {
    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::NotProvidedByServiceDiscovery => "not_provided_by_service_discovery",
        }
    }
}

/// Opens connections on the way out. Cloning shares it.
#[derive(Clone)]
pub struct Connector {
    runtime: Runtime,
    credentials: Credentials,
    config: config::Connect,
    own_ips: Arc<[IpAddr]>,
    own_listeners: Arc<OwnListeners>,
}

impl Connector {
    /// A connector for a workload at `own_ips`, that does not connect to `own_listeners`.
    pub fn new(
        runtime: &Runtime,
        credentials: &Credentials,
        config: config::Connect,
        own_ips: &[IpAddr],
        own_listeners: &Arc<OwnListeners>,
    ) -> Self {
        Self {
            runtime: runtime.clone(),
            credentials: credentials.clone(),
            config,
            own_ips: own_ips.iter().map(IpAddr::to_canonical).collect(),
            own_listeners: own_listeners.clone(),
        }
    }

    /// Whom to expect at an endpoint, or why nobody.
    pub fn tls<'a>(&self, endpoint: &'a Endpoint) -> Result<&'a ServerTls, NoTls> {
        let ip = endpoint.address.ip().to_canonical();
        if self.own_ips.contains(&ip) {
            return Err(NoTls::Loopback);
        }
        endpoint.tls.as_ref().ok_or(NoTls::NotProvidedByServiceDiscovery)
    }

    /// Whether HTTP/1 requests to an endpoint travel over HTTP/2.
    pub fn carries_http1(&self, endpoint: &Endpoint) -> bool {
        endpoint.protocol_hint == ProtocolHint::Http2 && self.tls(endpoint).is_ok()
    }

    /// Opens a connection, within the configured time.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        session: Session,
    ) -> Result<BoxIo, ConnectError> {
        self.runtime
            .timeout(self.config.timeout, self.open(endpoint, session))
            .await
            .map_err(|_| ConnectError::TimedOut)?
    }

    async fn open(&self, endpoint: &Endpoint, session: Session) -> Result<BoxIo, ConnectError> {
        let tls = self.tls(endpoint).ok();
        let inbound_port = endpoint.inbound_port.filter(|_| tls.is_some());
        let mut address = endpoint.address;
        if let Some(port) = inbound_port {
            address.set_port(port.get());
        }
        refuse_loop(&self.own_listeners, address)?;
        let connection = self.runtime.net.connect(address, self.config.tcp).await?;
        let Some(server) = tls else {
            return Ok(connection.io);
        };
        let header = (inbound_port.is_some() || endpoint.authority_override.is_some())
            .then(|| header(endpoint, session));
        let alpn = header.as_ref().map(|_| transport_header::ALPN);
        let secured = tls_client::connect(connection.io, &self.credentials, server, alpn).await;
        if planted!("plaintext-fallback") && secured.is_err() {
            let plain = self.runtime.net.connect(endpoint.address, self.config.tcp).await?;
            return Ok(plain.io);
        }
        let mut client = secured?;
        if let Some(header) = header.filter(|_| client.alpn_agreed) {
            // Not flushed: the first bytes of the session go out in the same record's wake.
            client.io.write_all(&transport_header::encode(&header)).await?;
        }
        Ok(client.io)
    }
}

fn header(endpoint: &Endpoint, session: Session) -> TransportHeader {
    let over = endpoint.authority_override.as_ref();
    let port = over.map_or(endpoint.address.port(), |name| name.port());
    TransportHeader {
        port: NonZeroU16::new(port).unwrap_or(NonZeroU16::MIN),
        name: over.and_then(|name| DnsName::new(name.host()).ok()),
        protocol: match session {
            Session::Http(version) if endpoint.protocol_hint != ProtocolHint::Opaque => {
                Some(version)
            }
            _ => None,
        },
    }
}

/// Opens a plain connection to the application on the way in.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect_local(
    runtime: &Runtime,
    config: &config::Connect,
    own_listeners: &OwnListeners,
    address: SocketAddr,
) -> Result<BoxIo, ConnectError> {
    refuse_loop(own_listeners, address)?;
    let connection = runtime
        .timeout(config.timeout, runtime.net.connect(address, config.tcp))
        .await
        .map_err(|_| ConnectError::TimedOut)??;
    Ok(connection.io)
}

fn refuse_loop(own_listeners: &OwnListeners, address: SocketAddr) -> Result<(), ConnectError> {
    if !own_listeners.are_reached_at(address) {
        return Ok(());
    }
    tracing::warn!(%address, "loop: this proxy itself listens there; not connected");
    Err(ConnectError::Loop(address))
}
