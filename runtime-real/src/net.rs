//! The network's door: TCP sockets of the kernel, names through the system's resolver.
//!
//! Addresses are reported in their plain form: an IPv4 peer of a dual-stack listener is an IPv4
//! address, never one mapped into IPv6.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mesh_core::runtime::BoxFuture;
use mesh_core::runtime::net::{Connection, ListenOptions, Listener, Net, TcpOptions};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Pending connections the kernel holds where nothing else is asked for.
const BACKLOG_DEFAULT: u32 = 1024;

/// How long accepting rests when the process or the kernel is out of descriptors or memory: those
/// errors come back at once until something is closed.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// The kernel's TCP.
#[derive(Clone, Copy, Debug)]
pub struct TcpNet;

impl Net for TcpNet {
    fn connect(
        &self,
        to: SocketAddr,
        options: TcpOptions,
    ) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(async move {
            let socket = socket_for(to)?;
            set_options(SockRef::from(&socket), options)?;
            let stream = socket.connect(to).await?;
            connection(stream, None)
        })
    }

    fn listen(
        &self,
        at: SocketAddr,
        options: ListenOptions,
    ) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let socket = socket_for(at)?;
            socket.set_reuseaddr(true)?;
            if at.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
                // Both families, whatever the host's default is.
                SockRef::from(&socket).set_only_v6(false)?;
            }
            socket.bind(at)?;
            let listener = socket.listen(options.backlog.unwrap_or(BACKLOG_DEFAULT))?;
            let local = listener.local_addr()?;
            let listener: Box<dyn Listener> = Box::new(Accepting { listener, local, options });
            Ok(listener)
        })
    }

    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.to_string();
        Box::pin(async move {
            if let Ok(address) = name.parse() {
                return Ok(vec![address]);
            }
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let mut addresses = Vec::new();
            for address in found.map_err(|e| lookup_error(&name, e))? {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
            match addresses.is_empty() {
                true => {
                    Err(io::Error::new(io::ErrorKind::NotFound, format!("{name}: no addresses")))
                }
                false => Ok(addresses),
            }
        })
    }
}

/// A listening socket and the options of what it accepts.
struct Accepting {
    listener: TcpListener,
    local: SocketAddr,
    options: ListenOptions,
}

impl Listener for Accepting {
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if is_exhausted(&error) {
                        tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    }
                    return Err(error);
                }
            };
            set_options(SockRef::from(&stream), self.options.tcp)?;
            let original_dst = match self.options.transparent {
                true => original_dst(&stream)?,
                false => None,
            };
            connection(stream, original_dst)
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

fn socket_for(address: SocketAddr) -> io::Result<TcpSocket> {
    match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
}

fn set_options(socket: SockRef<'_>, options: TcpOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if let Some(idle) = options.keepalive {
        // The kernel counts in whole seconds, and refuses zero.
        let idle = idle.max(Duration::from_secs(1));
        let probes = TcpKeepalive::new().with_time(idle).with_interval(idle);
        socket.set_tcp_keepalive(&probes)?;
    }
    if let Some(timeout) = options.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Ok(())
}

fn connection(stream: TcpStream, original_dst: Option<SocketAddr>) -> io::Result<Connection> {
    Ok(Connection {
        peer: plain(stream.peer_addr()?),
        local: plain(stream.local_addr()?),
        original_dst,
        io: Box::new(stream),
    })
}

/// Where the connection was going before a redirect rule, if one applied.
///
/// Without connection tracking the kernel knows nothing (`ENOENT`, `ENOPROTOOPT`); with it but
/// without a rule it repeats the local address. Neither was redirected.
fn original_dst(stream: &TcpStream) -> io::Result<Option<SocketAddr>> {
    let local = plain(stream.local_addr()?);
    let socket = SockRef::from(stream);
    let asked = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    match asked {
        Ok(address) => Ok(address.as_socket().map(plain).filter(|dst| *dst != local)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOPROTOOPT | libc::EOPNOTSUPP) => Ok(None),
            _ => Err(error),
        },
    }
}

fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), address.port()),
        IpAddr::V6(_) => address,
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// The C library says "no such name" in words only.
fn lookup_error(name: &str, error: io::Error) -> io::Error {
    let text = error.to_string();
    let unknown = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
    ];
    let kind = match unknown.iter().any(|words| text.contains(words)) {
        true => io::ErrorKind::NotFound,
        false => error.kind(),
    };
    io::Error::new(kind, format!("{name}: {text}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        crate::current_thread().unwrap().block_on(test);
    }

    fn options() -> ListenOptions {
        ListenOptions {
            transparent: true,
            backlog: None,
            tcp: TcpOptions {
                keepalive: Some(Duration::from_secs(10)),
                user_timeout: Some(Duration::from_secs(30)),
            },
        }
    }

    #[test]
    fn a_connection_that_no_rule_redirected_has_no_original_destination() {
        run(async {
            let listener = TcpNet.listen("127.0.0.1:0".parse().unwrap(), options()).await.unwrap();
            let mut client = TcpNet.connect(listener.local_addr(), options().tcp).await.unwrap();
            let mut server = listener.accept().await.unwrap();
            assert_eq!(server.original_dst, None);
            assert_eq!(server.peer, client.local);
            assert_eq!(server.local, client.peer);

            client.io.write_all(b"hello").await.unwrap();
            let mut read = [0; 5];
            server.io.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"hello");
        });
    }

    #[test]
    fn an_ipv4_peer_of_a_dual_stack_listener_is_an_ipv4_address() {
        run(async {
            let Ok(listener) = TcpNet.listen("[::]:0".parse().unwrap(), options()).await else {
                return; // A host without IPv6 has no dual-stack listeners.
            };
            let to = SocketAddr::new("127.0.0.1".parse().unwrap(), listener.local_addr().port());
            let client = TcpNet.connect(to, TcpOptions::default()).await.unwrap();
            let server = listener.accept().await.unwrap();
            assert_eq!((server.peer, server.local), (client.local, to));
            assert_eq!(server.original_dst, None);
        });
    }

    #[test]
    fn options_reach_the_kernel() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let socket = SockRef::from(&stream);
            set_options(SockRef::from(&stream), options().tcp).unwrap();
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(10));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
        });
    }

    #[test]
    fn a_refused_connection_says_so() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let closed = listener.local_addr().unwrap();
            drop(listener);
            let error = TcpNet.connect(closed, TcpOptions::default()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }

    #[test]
    fn localhost_and_addresses_resolve() {
        run(async {
            let localhost = TcpNet.resolve("localhost").await.unwrap();
            assert!(localhost.iter().all(IpAddr::is_loopback) && !localhost.is_empty());
            let address: IpAddr = "2001:db8::1".parse().unwrap();
            assert_eq!(TcpNet.resolve("2001:db8::1").await.unwrap(), [address]);
        });
    }

    #[test]
    fn exhaustion_is_told_from_a_connection_that_failed() {
        assert!(is_exhausted(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(!is_exhausted(&io::Error::from_raw_os_error(libc::ECONNABORTED)));
    }
}
