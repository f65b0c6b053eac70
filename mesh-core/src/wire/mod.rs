//! Protocols over byte streams. hyper and rustls are driven here and nowhere else.

pub mod counted;
pub mod drain;
pub mod grpc;
pub mod http;
pub mod opaque;
mod pass_writes;
pub mod rewind;
pub mod sniff;
pub mod tls;
pub mod transport_header;
