//! The doors of a process on a turmoil host: clock, net, tasks.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use mesh_core::runtime::clock::BoxSleep;
use mesh_core::runtime::net::{ListenOptions, TcpOptions};
use mesh_core::runtime::{BoxFuture, Clock, Connection, Listener, Net, Tasks};
use mesh_core::time::{Timestamp, WallTime};

use super::stream::Stream;
use super::{Host, Shared};
use crate::lock;
use crate::topology::{DnsAnswer, Role, Route};

const SYN_TIMEOUT: Duration = Duration::from_secs(127);
const UNREACHABLE_AFTER: Duration = Duration::from_secs(3);
const DNS_LATENCY: Duration = Duration::from_millis(1);
const DNS_TIMEOUT: Duration = Duration::from_secs(10);
/// An accepted connection whose other end never says where it was going was abandoned.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(5);
/// Accepted connections that wait for the program.
const ACCEPTED_MAX: usize = 1_024;

#[derive(Clone)]
pub(super) struct Doors {
    pub(super) shared: Arc<Shared>,
    pub(super) host: Arc<Host>,
    pub(super) process: u64,
    pub(super) role: Role,
}

pub(super) fn now(shared: &Shared) -> Timestamp {
    match turmoil::sim_elapsed() {
        Some(elapsed) => Timestamp::ZERO + elapsed,
        None => Timestamp::from_nanos(shared.elapsed_nanos.load(Ordering::Relaxed)),
    }
}

impl Clock for Doors {
    fn now(&self) -> Timestamp {
        now(&self.shared)
    }

    fn wall(&self) -> WallTime {
        let skew = *lock(&self.host.clock);
        self.shared.start + self.now().since(Timestamp::ZERO) + skew.ahead - skew.behind
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxSleep {
        let shared = self.shared.clone();
        Box::pin(async move {
            loop {
                let left = deadline.since(now(&shared));
                if left.is_zero() {
                    return;
                }
                // tokio's timers end on whole milliseconds, and not beyond some years.
                tokio::time::sleep(left.min(Duration::from_secs(86_400 * 365))).await;
            }
        })
    }
}

impl Tasks for Doors {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        let mut work = lock(&self.host.work);
        if work.processes.contains_key(&self.process) {
            work.queue.push_back((self.process, name, task));
            drop(work);
            self.host.arrived.notify_one();
        }
    }
}

impl Net for Doors {
    fn connect(
        &self,
        to: SocketAddr,
        _options: TcpOptions,
    ) -> BoxFuture<'static, io::Result<Connection>> {
        let doors = self.clone();
        Box::pin(async move { doors.dial(to).await })
    }

    fn listen(
        &self,
        at: SocketAddr,
        options: ListenOptions,
    ) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let doors = self.clone();
        Box::pin(async move { doors.bind(at, options.transparent).await })
    }

    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.trim_end_matches('.').to_owned();
        let (shared, asker) = (self.shared.clone(), self.host.ip);
        Box::pin(async move {
            if let Ok(ip) = name.parse() {
                return Ok(vec![ip]);
            }
            tokio::time::sleep(DNS_LATENCY).await;
            let answer = lock(&shared.topology).answer(asker, &name);
            match answer {
                DnsAnswer::Addresses(addresses) => Ok(addresses),
                DnsAnswer::NotFound => Err(ErrorKind::NotFound.into()),
                DnsAnswer::Failure => Err(io::Error::other("the resolver failed")),
                DnsAnswer::Silence => {
                    tokio::time::sleep(DNS_TIMEOUT).await;
                    Err(ErrorKind::TimedOut.into())
                }
            }
        })
    }
}

impl Doors {
    async fn dial(&self, to: SocketAddr) -> io::Result<Connection> {
        let route = {
            let topology = lock(&self.shared.topology);
            let mut draw = lock(&self.shared.draw);
            topology.route(self.host.ip, self.role, to, |bound| draw.below(bound))
        };
        let (target, original_dst) = match route {
            Route::To { host, target, original_dst } => {
                (self.own_loopback(host, target), original_dst)
            }
            Route::Refused => return Err(ErrorKind::ConnectionRefused.into()),
            Route::Nowhere => {
                tokio::time::sleep(UNREACHABLE_AFTER).await;
                return Err(ErrorKind::HostUnreachable.into());
            }
        };
        let connecting = turmoil::net::TcpStream::connect(target);
        let stream = tokio::time::timeout(SYN_TIMEOUT, connecting)
            .await
            .map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
        let local = stream.local_addr()?;
        let key = (self.host.ip, local, target);
        lock(&self.shared.announced).insert(key, original_dst);
        self.shared.announcement.notify_waiters();
        Ok(Connection {
            io: Box::new(self.wrap(stream, target.ip())),
            peer: to,
            local,
            original_dst: None,
        })
    }

    /// turmoil does not deliver to a host what it sends to its own address.
    fn own_loopback(&self, host: IpAddr, target: SocketAddr) -> SocketAddr {
        match host == self.host.ip && target.ip() == host {
            true if host.is_ipv4() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), target.port()),
            true => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), target.port()),
            false => target,
        }
    }

    fn wrap(&self, stream: turmoil::net::TcpStream, peer: IpAddr) -> Stream {
        let peer = if peer.is_loopback() { self.host.ip } else { peer };
        Stream {
            inner: stream,
            shared: self.shared.clone(),
            host: self.host.name.clone(),
            number: self.shared.next_connection.fetch_add(1, Ordering::Relaxed),
            hosts: (peer, self.host.ip),
        }
    }

    async fn bind(&self, at: SocketAddr, transparent: bool) -> io::Result<Box<dyn Listener>> {
        // turmoil binds unspecified and loopback addresses only.
        let bound = match at.ip() {
            ip if ip == self.host.ip && ip.is_ipv4() => Ipv4Addr::UNSPECIFIED.into(),
            ip if ip == self.host.ip => Ipv6Addr::UNSPECIFIED.into(),
            ip => ip,
        };
        let listener = turmoil::net::TcpListener::bind(SocketAddr::new(bound, at.port())).await?;
        let local = SocketAddr::new(at.ip(), listener.local_addr()?.port());
        let (accepted, accepting) = mpsc::channel(ACCEPTED_MAX);
        let doors = self.clone();
        // The accept loop takes SYNs off turmoil's queue, at whose bound it panics.
        self.spawn(
            "turmoil accept",
            Box::pin(async move {
                loop {
                    let (stream, peer) = tokio::select! {
                        biased;
                        () = accepted.closed() => return,
                        Ok(next) = listener.accept() => next,
                    };
                    let (doors, accepted) = (doors.clone(), accepted.clone());
                    doors.clone().spawn(
                        "turmoil accepted",
                        Box::pin(async move {
                            if let Some(connection) =
                                doors.accepted(stream, peer, transparent).await
                            {
                                let _ = accepted.send(connection).await;
                            }
                        }),
                    );
                }
            }),
        );
        Ok(Box::new(Socket { accepting: tokio::sync::Mutex::new(accepting), local }))
    }

    /// Waits for the other end to tell where it was going.
    async fn accepted(
        &self,
        stream: turmoil::net::TcpStream,
        peer: SocketAddr,
        transparent: bool,
    ) -> Option<Connection> {
        let local = stream.local_addr().ok()?;
        let loopback = peer.ip().is_loopback();
        let from = if loopback { self.host.ip } else { peer.ip() };
        let key = (from, peer, local);
        let told = async {
            loop {
                let news = self.shared.announcement.notified();
                if let Some(original_dst) = lock(&self.shared.announced).remove(&key) {
                    return original_dst;
                }
                news.await;
            }
        };
        let original_dst = tokio::time::timeout(ANNOUNCED_WITHIN, told).await.ok()?;
        Some(Connection {
            io: Box::new(self.wrap(stream, peer.ip())),
            peer,
            local,
            original_dst: original_dst.filter(|_| transparent),
        })
    }
}

struct Socket {
    accepting: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
    local: SocketAddr,
}

impl Listener for Socket {
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async {
            let mut accepting = self.accepting.lock().await;
            let connection = accepting.recv().await;
            connection.ok_or_else(|| ErrorKind::NotConnected.into())
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}
