//! The doors of a process on a simulated host: clock, net, tasks.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mesh_core::runtime::clock::BoxSleep;
use mesh_core::runtime::net::{ListenOptions, TcpOptions};
use mesh_core::runtime::{BoxFuture, Clock, Connection, Listener, Net, Tasks};
use mesh_core::time::{Timestamp, WallTime};

use super::Shared;
use super::agenda::{Event, Nanos, Planned};
use super::host::{HostId, Listening, ProcessId};
use super::network::State;
use super::stream::{Socket, Stream};
use super::tcp::{ConnectionId, End, Phase, Segment};
use crate::lock;
use crate::topology::{DnsAnswer, Role, Route};

/// Pending connections where a listener asks for no other number.
const BACKLOG: u32 = 1_024;
/// Unanswered ARP requests, a second each.
const UNREACHABLE_AFTER: Nanos = 3_000_000_000;
/// One question to a resolver, answered.
const DNS_LATENCY: Duration = Duration::from_millis(1);
/// Two questions to a resolver that does not answer (`resolv.conf`'s defaults).
const DNS_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Doors {
    pub(super) shared: Arc<Shared>,
    pub(super) host: HostId,
    pub(super) process: ProcessId,
    pub(super) role: Role,
}

impl Clock for Doors {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(lock(&self.shared.state).agenda.now())
    }

    fn wall(&self) -> WallTime {
        let state = lock(&self.shared.state);
        let skew = state.hosts[self.host].clock_skew;
        let since_start = Duration::from_nanos(state.agenda.now());
        self.shared.start + since_start + skew.ahead - skew.behind
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxSleep {
        Box::pin(Sleep {
            shared: self.shared.clone(),
            deadline: deadline.as_nanos(),
            planned: None,
        })
    }
}

struct Sleep {
    shared: Arc<Shared>,
    deadline: Nanos,
    planned: Option<Planned>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut state = lock(&shared.state);
        if state.agenda.now() >= self.deadline {
            return Poll::Ready(());
        }
        let waiting = self.planned.and_then(|key| state.agenda.planned(key));
        match waiting {
            Some(Event::Wake(waker)) => waker.clone_from(context.waker()),
            _ => {
                let wake = Event::Wake(context.waker().clone());
                self.planned = Some(state.agenda.plan(self.deadline, wake));
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.planned {
            // The event is dropped unlocked: a waker's destructor may end a task.
            let event = lock(&self.shared.state).agenda.cancel(key);
            drop(event);
        }
    }
}

impl Tasks for Doors {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        let state = lock(&self.shared.state);
        let host = &state.hosts[self.host];
        let alive = host.processes.contains_key(&self.process);
        drop(state);
        // What a dying process's destructors start is dropped.
        if alive {
            let executor = &self.shared.executor;
            executor.spawn(self.host, self.process, name, task);
        }
    }
}

impl Net for Doors {
    fn connect(
        &self,
        to: SocketAddr,
        options: TcpOptions,
    ) -> BoxFuture<'static, io::Result<Connection>> {
        let doors = self.clone();
        Box::pin(async move {
            let (connection, local) = doors.dial(to, options)?;
            let io = Stream { shared: doors.shared.clone(), connection, end: 0 };
            poll_fn(|context| doors.poll_connected(connection, context)).await?;
            Ok(Connection { io: Box::new(io), peer: to, local, original_dst: None })
        })
    }

    fn listen(
        &self,
        at: SocketAddr,
        options: ListenOptions,
    ) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let doors = self.clone();
        Box::pin(async move { doors.bind(at, options) })
    }

    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.trim_end_matches('.').to_owned();
        let doors = self.clone();
        Box::pin(async move {
            if let Ok(ip) = name.parse() {
                return Ok(vec![ip]);
            }
            doors.sleep(DNS_LATENCY).await;
            let answer = lock(&doors.shared.state).topology.answer(&name);
            match answer {
                DnsAnswer::Addresses(addresses) => Ok(addresses),
                DnsAnswer::NotFound => Err(ErrorKind::NotFound.into()),
                DnsAnswer::Silence => {
                    doors.sleep(DNS_TIMEOUT).await;
                    Err(ErrorKind::TimedOut.into())
                }
            }
        })
    }
}

impl Doors {
    fn sleep(&self, duration: Duration) -> BoxSleep {
        self.sleep_until(self.now() + duration)
    }

    fn dial(&self, to: SocketAddr, options: TcpOptions) -> io::Result<(ConnectionId, SocketAddr)> {
        let mut state = lock(&self.shared.state);
        let here = state.hosts[self.host].ip;
        let State { topology, random, .. } = &mut *state;
        let route = topology.route(here, self.role, to, |bound| random.below(bound));
        let (to_host, target, original_dst) = match route {
            Route::To { host, target, original_dst } => {
                (Some(state.hosts_by_ip[&host]), target, original_dst)
            }
            Route::Nowhere => (None, to, None),
            Route::Refused => return Err(ErrorKind::ConnectionRefused.into()),
        };
        let here = &mut state.hosts[self.host];
        // Redirected to loopback, the source address has been chosen already, as on Linux.
        let local_ip = if to.ip().is_loopback() { to.ip() } else { here.ip };
        let local = SocketAddr::new(local_ip, here.free_port());
        let end = |host: HostId, boot, address, held| End {
            host,
            boot,
            address,
            held,
            options,
            failed: None,
        };
        let peer_host = to_host.unwrap_or(self.host);
        let near = end(self.host, here.boot, local, true);
        let far = end(peer_host, state.hosts[peer_host].boot, target, false);
        let connection = state.dial([near, far], target, original_dst);
        match to_host {
            Some(_) => state.send(connection, 0, Segment::Syn),
            None => {
                let at = state.agenda.now() + UNREACHABLE_AFTER;
                state.agenda.plan(at, Event::Unreachable { connection });
            }
        }
        Ok((connection, local))
    }

    fn poll_connected(
        &self,
        connection: ConnectionId,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.shared.state);
        let Some(connection) = state.connections.get_mut(&connection) else {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        };
        match connection.phase {
            Phase::Open => Poll::Ready(Ok(())),
            Phase::Failed(kind) => Poll::Ready(Err(kind.into())),
            Phase::Connecting => {
                connection.connecting = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn bind(&self, at: SocketAddr, options: ListenOptions) -> io::Result<Box<dyn Listener>> {
        let mut state = lock(&self.shared.state);
        state.next_listener += 1;
        let id = state.next_listener;
        let host = &mut state.hosts[self.host];
        if !at.ip().is_unspecified() && !host.has(at.ip()) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let at = match at.port() {
            0 => SocketAddr::new(at.ip(), host.free_port()),
            _ => at,
        };
        if host.is_bound(at) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let listening = Listening {
            id,
            backlog: options.backlog.unwrap_or(BACKLOG) as usize,
            pending: Default::default(),
            accepting: None,
            options: options.tcp,
        };
        host.listeners.insert(at, listening);
        Ok(Box::new(Socket {
            shared: self.shared.clone(),
            host: self.host,
            id,
            at,
            transparent: options.transparent,
        }))
    }
}
