//! HTTP/1 connections of one endpoint that are not in use. The one used last is used next, so that
//! those not needed grow old and are closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::runtime::{BoxIo, Runtime};
use crate::time::Timestamp;
use crate::wire::http::h1::{Connection, Recycle};

/// Idle connections, bounded in number and age. Cloning shares them.
#[derive(Clone)]
pub struct Http1Pool(Arc<Inner>);

struct Inner {
    runtime: Runtime,
    idle_timeout: Duration,
    idle_max: usize,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The oldest first.
    connections: Vec<(Timestamp, Connection)>,
    sweeping: bool,
}

impl Http1Pool {
    /// An empty pool.
    pub fn new(runtime: &Runtime, idle_timeout: Duration, idle_max: usize) -> Self {
        let runtime = runtime.clone();
        Self(Arc::new(Inner { runtime, idle_timeout, idle_max, idle: Mutex::default() }))
    }

    /// The connection that was used last, where one is alive.
    pub fn take(&self) -> Option<Connection> {
        loop {
            let (_, mut connection) = self.0.idle().connections.pop()?;
            if connection.is_alive() {
                return Some(connection);
            }
        }
    }

    /// A connection over an open stream, not yet used.
    pub fn connection(&self, io: BoxIo) -> Connection {
        Connection::new(&self.0.runtime, io)
    }

    /// Takes a connection in.
    pub fn put(&self, connection: Connection) {
        let now = self.0.runtime.now();
        let mut idle = self.0.idle();
        if idle.connections.len() >= self.0.idle_max {
            return;
        }
        idle.connections.push((now, connection));
        if !idle.sweeping {
            idle.sweeping = true;
            let sweep = sweep(self.0.runtime.clone(), self.0.idle_timeout, Arc::downgrade(&self.0));
            self.0.runtime.spawn("sweep-http1-pool", sweep);
        }
    }
}

impl Recycle for Http1Pool {
    fn recycle(&self, connection: Connection) {
        self.put(connection);
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that are too old or that the peer closed, until there are none.
async fn sweep(runtime: Runtime, idle_timeout: Duration, pool: Weak<Inner>) {
    loop {
        runtime.sleep(idle_timeout.max(Duration::from_millis(100))).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = runtime.now();
        let mut idle = pool.idle();
        idle.connections.retain_mut(|(since, connection)| {
            now.since(*since) < idle_timeout && connection.is_alive()
        });
        if idle.connections.is_empty() {
            idle.connections = Vec::new();
            idle.sweeping = false;
            return;
        }
    }
}
