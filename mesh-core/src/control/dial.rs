//! How the control plane reaches a port that a proxy itself serves: over its own mutual TLS, where it
//! has an identity; else in plaintext through the sidecar beside it, which is told whom to expect.
//!
//! Law: nothing is sent to a proxy that is not the one expected. One that is gone without a word is found
//! out.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue};

use crate::model::identity::ServerTls;
use crate::model::protocol::KeepAlive;
use crate::runtime::Runtime;
use crate::runtime::net::TcpOptions;
use crate::wire::http::client::{Http2ClientOptions, Http2Connection, connect};
use crate::wire::http::{Error, Request, Response};
use crate::wire::tls::{self, Credentials, TlsError};

const L5D_REQUIRE_ID: HeaderName = HeaderName::from_static("l5d-require-id");

/// For TCP, TLS and HTTP/2.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who only reads learns nothing from TCP of a peer that is gone: it is asked, and has as long again to
/// answer.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// A proxy's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAddress {
    /// Where.
    pub at: SocketAddr,
    /// Who is there.
    pub server: ServerTls,
}

/// Why a proxy cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody is there.
    #[error("cannot connect to {at}: {error}")]
    Unreachable {
        /// Where.
        at: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Somebody else is there, or does not believe who we are.
    #[error("no TLS with {at}: {error}")]
    Tls {
        /// Where.
        at: SocketAddr,
        /// Why.
        error: TlsError,
    },
    /// It takes too long.
    #[error("no connection to {0} within {CONNECT_TIMEOUT:?}")]
    TimedOut(SocketAddr),
    /// The connection broke.
    #[error("the connection to {at} broke: {error}")]
    Broken {
        /// Where.
        at: SocketAddr,
        /// Why.
        error: Error,
    },
}

/// Reaches proxies.
#[derive(Clone)]
pub struct Dialer {
    runtime: Runtime,
    /// None where a sidecar speaks for the control plane.
    credentials: Option<Credentials>,
}

impl Dialer {
    /// With the control plane's own credentials, where it has any.
    pub fn new(runtime: &Runtime, credentials: Option<Credentials>) -> Self {
        Self { runtime: runtime.clone(), credentials }
    }

    /// Opens a connection of HTTP/2.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn open(&self, proxy: &ProxyAddress) -> Result<Dialed, DialError> {
        let at = proxy.at;
        let opened = self.runtime.timeout(CONNECT_TIMEOUT, self.open_unhurried(proxy)).await;
        let connection = opened.unwrap_or(Err(DialError::TimedOut(at)))?;
        // The sidecar expects whom it is told to, and takes the header off.
        let expected = self.credentials.is_none().then(|| {
            HeaderValue::from_str(proxy.server.identity.as_str())
                .expect("an identity has only visible characters")
        });
        Ok(Dialed { connection, expected, at })
    }

    async fn open_unhurried(&self, proxy: &ProxyAddress) -> Result<Http2Connection, DialError> {
        let at = proxy.at;
        let tcp = self.runtime.net.connect(at, TcpOptions::default()).await;
        let tcp = tcp.map_err(|error| DialError::Unreachable { at, error })?.io;
        let io = match &self.credentials {
            None => tcp,
            Some(credentials) => {
                let session = tls::client::connect(tcp, credentials, &proxy.server, None).await;
                session.map_err(|error| DialError::Tls { at, error })?.io
            }
        };
        let keep_alive = KeepAlive {
            interval: Some(PING_INTERVAL),
            timeout: Some(PING_INTERVAL),
            while_idle: false,
        };
        let options =
            Http2ClientOptions { keep_alive: Some(keep_alive), ..Http2ClientOptions::default() };
        let connection = connect(&self.runtime, io, &options).await;
        connection.map_err(|error| DialError::Broken { at, error })
    }
}

/// A connection to a proxy.
pub struct Dialed {
    connection: Http2Connection,
    /// Whom the sidecar beside us is to expect.
    expected: Option<HeaderValue>,
    at: SocketAddr,
}

impl Dialed {
    /// Sends a request. The connection lives as long as this, or as what is read from it.
    ///
    /// # Errors
    /// [`DialError::Broken`].
    pub async fn send(&self, mut request: Request) -> Result<Response, DialError> {
        if let Some(expected) = &self.expected {
            request.headers_mut().insert(L5D_REQUIRE_ID, expected.clone());
        }
        let broken = |error| DialError::Broken { at: self.at, error };
        self.connection.send(&mut request).await.map_err(|error| broken(error.into_error()))
    }
}
