//! Connections and their bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Kind;
use super::cell::{Counter, Gauge};
use super::chain::Chain;
use super::registry::{Family, Lines, MetricSet};

/// `tcp_*` of one kind of connection.
#[derive(Debug, Default)]
pub struct TransportMetrics {
    opened: Counter,
    open: Gauge,
    read_bytes: Arc<AtomicU64>,
    write_bytes: Arc<AtomicU64>,
    closed: Chain<&'static str, Counter>,
}

impl TransportMetrics {
    /// A connection was opened; it counts as open until the guard goes.
    pub fn opened(self: &Arc<Self>) -> OpenConnection {
        self.opened.increment();
        self.open.increment();
        OpenConnection { metrics: self.clone(), errno: "" }
    }

    /// Where bytes read from the peer are counted: for `wire::counted`.
    pub fn read_bytes(&self) -> Arc<AtomicU64> {
        self.read_bytes.clone()
    }

    /// Where bytes written to the peer are counted: for `wire::counted`.
    pub fn write_bytes(&self) -> Arc<AtomicU64> {
        self.write_bytes.clone()
    }

    /// Connections open now.
    pub fn open_connections(&self) -> i64 {
        self.open.value()
    }
}

/// An open connection. Dropping it counts an orderly close unless [`failed`](Self::failed) was
/// told something else.
#[derive(Debug)]
#[must_use = "dropping it counts the connection as closed"]
pub struct OpenConnection {
    metrics: Arc<TransportMetrics>,
    errno: &'static str,
}

impl OpenConnection {
    /// The connection broke: `tcp_close_total` will say how. The first tells.
    pub fn failed(&mut self, error: &io::Error) {
        if self.errno.is_empty() {
            self.errno = errno(error);
        }
    }

    /// The metrics it counts in.
    pub fn metrics(&self) -> &Arc<TransportMetrics> {
        &self.metrics
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if !planted!("open-connections-leaked") {
            self.metrics.open.decrement();
        }
        let closed = &self.metrics.closed;
        closed.entry(&self.errno, &"other", Counter::default).increment();
    }
}

impl MetricSet for TransportMetrics {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        match family {
            0 => lines.counter("", self.opened.value()),
            1 => lines.gauge("", self.open.value()),
            2 if planted!("bytes-counted-twice") => {
                lines.counter("", 2 * self.read_bytes.load(Relaxed));
            }
            2 => lines.counter("", self.read_bytes.load(Relaxed)),
            3 => lines.counter("", self.write_bytes.load(Relaxed)),
            _ => {
                for (errno, counter) in self.closed.iter() {
                    lines.counter(&format!("errno=\"{errno}\""), counter.value());
                }
            }
        }
    }
}

pub(crate) static TRANSPORT: [Family; 5] = [
    Family::legacy(Kind::Counter, "tcp_open_total", "Total count of opened connections"),
    Family::legacy(Kind::Gauge, "tcp_open_connections", "Number of currently-open connections"),
    Family::legacy(Kind::Counter, "tcp_read_bytes_total", "Total count of bytes read from peers"),
    Family::legacy(Kind::Counter, "tcp_write_bytes_total", "Total count of bytes written to peers"),
    Family::legacy(Kind::Counter, "tcp_close_total", "Total count of closed connections"),
];

/// The name of the system's error number (Linux), such as `ECONNRESET`; empty where the error did
/// not come from the system.
pub fn errno(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.raw_os_error() {
        Some(1) => "EPERM",
        Some(4) => "EINTR",
        Some(5) => "EIO",
        Some(9) => "EBADF",
        Some(11) => "EAGAIN",
        Some(12) => "ENOMEM",
        Some(13) => "EACCES",
        Some(22) => "EINVAL",
        Some(23) => "ENFILE",
        Some(24) => "EMFILE",
        Some(32) => "EPIPE",
        Some(71) => "EPROTO",
        Some(90) => "EMSGSIZE",
        Some(98) => "EADDRINUSE",
        Some(99) => "EADDRNOTAVAIL",
        Some(100) => "ENETDOWN",
        Some(101) => "ENETUNREACH",
        Some(103) => "ECONNABORTED",
        Some(104) => "ECONNRESET",
        Some(105) => "ENOBUFS",
        Some(107) => "ENOTCONN",
        Some(108) => "ESHUTDOWN",
        Some(110) => "ETIMEDOUT",
        Some(111) => "ECONNREFUSED",
        Some(112) => "EHOSTDOWN",
        Some(113) => "EHOSTUNREACH",
        Some(_) => "other",
        // Simulated networks have kinds and no numbers.
        None => match error.kind() {
            Kind::ConnectionRefused => "ECONNREFUSED",
            Kind::ConnectionReset => "ECONNRESET",
            Kind::ConnectionAborted => "ECONNABORTED",
            Kind::BrokenPipe => "EPIPE",
            Kind::TimedOut => "ETIMEDOUT",
            Kind::NotConnected => "ENOTCONN",
            Kind::HostUnreachable => "EHOSTUNREACH",
            Kind::NetworkUnreachable => "ENETUNREACH",
            _ => "",
        },
    }
}
