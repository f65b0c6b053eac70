//! Linkerd's published gRPC API (linkerd2-proxy-api): protobuf to [`crate::model`] and back, encode
//! beside decode, and the clients and servers that carry it over this crate's own HTTP/2.
//!
//! Not here: what the messages mean. `control` compiles them, `proxy` obeys them.
//!
//! Law: tonic, prost and the generated types stay inside this module, and for every message
//! `decode(encode(x)) == x`. Decoding never panics, whatever a peer sends.

mod authorization;
mod channel;
pub mod client;
mod client_policy;
pub mod codec;
mod endpoint;
mod grpc_route;
mod http_route;
mod http_types;
pub mod identity;
mod metadata;
mod net;
mod observe;
pub mod otlp;
mod profile;
#[cfg(test)]
mod properties;
pub mod request;
pub mod server;
mod server_policy;
pub mod tap;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod workload;

pub use codec::{DecodeError, Message};
