//! Protocols, and the parameters of HTTP/2 connections.

use std::time::Duration;

/// An HTTP version on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge; gRPC too.
    Http2,
}

/// Parameters of an HTTP/2 client connection that the control plane may set
/// (`destination.Http2ClientParams`). `None` keeps the proxy's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Http2Params {
    /// Flow control.
    pub flow_control: Option<FlowControl>,
    /// Keepalive pings.
    pub keep_alive: Option<KeepAlive>,
    /// Inner limits.
    pub internals: Option<Http2Internals>,
}

/// HTTP/2 flow control. Windows in bytes; 0 keeps the proxy's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowControl {
    /// Of the connection.
    pub initial_connection_window_bytes: u32,
    /// Of each stream.
    pub initial_stream_window_bytes: u32,
    /// Grow windows with the measured bandwidth-delay product.
    pub adaptive: bool,
}

/// HTTP/2 keepalive pings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeepAlive {
    /// Time between pings.
    pub interval: Option<Duration>,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// Ping even while no stream is open.
    pub while_idle: bool,
}

/// Inner limits of an HTTP/2 connection; 0 keeps the proxy's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Http2Internals {
    /// Locally reset streams remembered.
    pub max_concurrent_reset_streams: u32,
    /// Frame size in bytes.
    pub max_frame_bytes: u32,
    /// Bytes buffered per stream for writing.
    pub max_send_buffer_bytes: u32,
}
