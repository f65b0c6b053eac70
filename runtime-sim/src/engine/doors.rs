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
use super::network::{Risk, State};
use super::stream::{Socket, Stream};
use super::tcp::{ConnectionId, End, Phase, Segment};
use crate::heap::{self, Account};
use crate::lock;
use crate::topology::{DnsAnswer, Resolver, Role, Route};

/// Pending connections where a listener asks for no other number.
const BACKLOG: u32 = 1_024;
/// Unanswered ARP requests, a second each.
const UNREACHABLE_AFTER: Nanos = 3_000_000_000;
/// A question to a resolver, or its answer, on the wire.
const DNS_BYTES: usize = 120;

#[derive(Clone)]
pub(super) struct Doors {
    pub(super) shared: Arc<Shared>,
    pub(super) host: HostId,
    pub(super) process: ProcessId,
    pub(super) role: Role,
    pub(super) account: Arc<Account>,
}

impl Clock for Doors {
    fn now(&self) -> Timestamp {
        let state = lock(&self.shared.state);
        let now = state.agenda.now();
        Timestamp::from_nanos(state.hosts[self.host].clock.monotonic(now))
    }

    fn wall(&self) -> WallTime {
        let state = lock(&self.shared.state);
        let now = state.agenda.now();
        state.hosts[self.host].clock.wall(self.shared.start, now)
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxSleep {
        Box::pin(Sleep {
            shared: self.shared.clone(),
            host: self.host,
            process: self.process,
            deadline: deadline.as_nanos(),
            planned: None,
        })
    }
}

struct Sleep {
    shared: Arc<Shared>,
    host: HostId,
    process: ProcessId,
    /// By the host's own clock.
    deadline: Nanos,
    planned: Option<Planned>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut state = lock(&shared.state);
        let now = state.agenda.now();
        let host = &mut state.hosts[self.host];
        if host.clock.monotonic(now) >= self.deadline {
            return Poll::Ready(());
        }
        let at = host.clock.moment(self.deadline).max(now + 1);
        if self.planned.is_none()
            && let Some(process) = host.processes.get_mut(&self.process)
        {
            process.timers += 1;
        }
        let waiting = self.planned.and_then(|key| state.agenda.planned(key));
        match waiting {
            Some(Event::Wake(waker)) => waker.clone_from(context.waker()),
            _ => {
                let _kernel = heap::kernel();
                let wake = Event::Wake(context.waker().clone());
                self.planned = Some(state.agenda.plan(at, wake));
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.planned {
            let mut state = lock(&self.shared.state);
            let processes = &mut state.hosts[self.host].processes;
            if let Some(process) = processes.get_mut(&self.process) {
                process.timers -= 1;
            }
            // The event is dropped unlocked: a waker's destructor may end a task.
            let event = state.agenda.cancel(key);
            drop(state);
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
            let _kernel = heap::kernel();
            let account = self.account.clone();
            self.shared.executor.spawn(self.process, account, name, task);
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
            doors.ask(&name).await
        })
    }
}

impl Doors {
    fn sleep(&self, duration: Duration) -> BoxSleep {
        self.sleep_until(self.now() + duration)
    }

    /// Asks the resolver until it answers or there have been questions enough.
    async fn ask(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut asked = 0;
        loop {
            let (resolver, round_trip) = self.question();
            asked += 1;
            let answer = match round_trip {
                Some(takes) if takes < resolver.timeout => {
                    self.sleep(takes).await;
                    resolver.broken.map_or_else(|| self.answer(name), DnsAnswer::from)
                }
                _ => DnsAnswer::Silence,
            };
            if answer == DnsAnswer::Silence {
                let asked_for = round_trip.filter(|takes| *takes < resolver.timeout);
                self.sleep(resolver.timeout - asked_for.unwrap_or_default()).await;
            }
            match answer {
                DnsAnswer::Addresses(addresses) if !addresses.is_empty() => return Ok(addresses),
                DnsAnswer::Addresses(_) | DnsAnswer::NotFound => {
                    return Err(ErrorKind::NotFound.into());
                }
                DnsAnswer::Failure => return Err(io::Error::other("the resolver failed")),
                DnsAnswer::Silence if asked >= resolver.attempts => {
                    return Err(ErrorKind::TimedOut.into());
                }
                DnsAnswer::Silence => {}
            }
        }
    }

    /// How long a question and its answer take; none where one is lost.
    fn question(&self) -> (Resolver, Option<Duration>) {
        let mut state = lock(&self.shared.state);
        let resolver = *state.resolvers.get(&self.host).unwrap_or(&state.resolver);
        let takes = state.ask(self.host, &resolver).map(Duration::from_nanos);
        (resolver, takes)
    }

    /// What the resolver says now.
    fn answer(&self, name: &str) -> DnsAnswer {
        let state = lock(&self.shared.state);
        let asker = state.hosts[self.host].ip;
        state.topology.answer(asker, name)
    }

    fn dial(&self, to: SocketAddr, options: TcpOptions) -> io::Result<(ConnectionId, SocketAddr)> {
        let mut state = lock(&self.shared.state);
        let _kernel = heap::kernel();
        let State { topology, hosts, .. } = &mut *state;
        let here = &mut hosts[self.host];
        let route = topology.route(here.ip, self.role, to, |bound| here.routes.below(bound));
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
            process: Some(self.process).filter(|_| held),
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
        let Some(connection) = state.connections.get_mut(connection) else {
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
        let _kernel = heap::kernel();
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
            process: self.process,
            backlog: options.backlog.unwrap_or(BACKLOG) as usize,
            pending: Default::default(),
            accepting: None,
            options: options.tcp,
        };
        host.listeners.insert(at, listening);
        Ok(Box::new(Socket {
            shared: self.shared.clone(),
            host: self.host,
            process: self.process,
            id,
            at,
            transparent: options.transparent,
        }))
    }
}

impl State {
    /// How long a question of a host to its resolver and the answer take; none where either is lost.
    fn ask(&mut self, host: HostId, resolver: &Resolver) -> Option<Nanos> {
        let lost = self.hosts[host].dns.unit() < resolver.loss;
        let mut takes = u64::try_from(resolver.latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(server) = resolver.host {
            for (a, b) in [(host, server), (server, host)] {
                if self.is_blocked(a, b) {
                    return None;
                }
                let loss = self.ways.between(a, b).spec.loss;
                if self.hosts[host].dns.unit() < loss {
                    return None;
                }
                takes += self.transit(a, b, DNS_BYTES, Risk::None)?;
            }
        }
        Some(takes).filter(|_| !lost)
    }
}
