//! The network's door: TCP streams with the facts a proxy needs about them, and names.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::BoxFuture;

/// A byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A byte stream behind a door. Forwards vectored writes.
pub type BoxIo = Box<dyn Io>;

/// An accepted or opened TCP connection.
pub struct Connection {
    /// The bytes. Dropping it closes the socket; unread bytes make that a reset, as in the kernel.
    pub io: BoxIo,
    /// The other end.
    pub peer: SocketAddr,
    /// This end.
    pub local: SocketAddr,
    /// Where the peer was going before a redirect rule (`SO_ORIGINAL_DST`) brought it here.
    /// `None` where no rule did, or the listener does not ask.
    pub original_dst: Option<SocketAddr>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("local", &self.local)
            .field("original_dst", &self.original_dst)
            .finish_non_exhaustive()
    }
}

/// Socket options of one side of the proxy. `TCP_NODELAY` is always on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Idle time before keepalive probes, and between them. `None`: no probes.
    pub keepalive: Option<Duration>,
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged. `None`: the kernel's own.
    pub user_timeout: Option<Duration>,
}

/// How to listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// Report [`Connection::original_dst`] of each accepted connection.
    pub transparent: bool,
    /// Pending connections the kernel holds. `None`: 1024.
    pub backlog: Option<u32>,
    /// Options of each accepted connection.
    pub tcp: TcpOptions,
}

/// Opens, accepts and resolves.
pub trait Net: Send + Sync {
    /// Opens a TCP connection. Has no timeout but the kernel's: the caller sets its own.
    ///
    /// # Errors
    /// As the kernel's `connect`: refused, unreachable, timed out.
    fn connect(
        &self,
        to: SocketAddr,
        options: TcpOptions,
    ) -> BoxFuture<'static, io::Result<Connection>>;

    /// Listens on `at`. Port 0 takes a free one.
    ///
    /// # Errors
    /// As the kernel's `bind`: in use, not available, permission denied.
    fn listen(
        &self,
        at: SocketAddr,
        options: ListenOptions,
    ) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// The addresses of a DNS name, in the resolver's order, not empty.
    ///
    /// # Errors
    /// `NotFound` where the name does not exist, others where no resolver answered.
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// A bound socket that accepts. Dropping it stops listening.
pub trait Listener: Send + Sync {
    /// The next connection.
    ///
    /// # Errors
    /// A connection that failed while it was accepted; the listener stays good.
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>>;

    /// Where this listens, with the port that port 0 became.
    fn local_addr(&self) -> SocketAddr;
}
