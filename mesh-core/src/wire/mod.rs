//! Protocols over byte streams. hyper and rustls are driven here and nowhere else.

pub mod http;
pub mod tls;
