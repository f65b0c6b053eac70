//! Linkerd's published gRPC API (linkerd2-proxy-api): protobuf to [`crate::model`] and back, encode
//! beside decode, and the clients and servers that carry it over this crate's own HTTP/2.
//!
//! Not here: what the messages mean. `control` compiles them, `proxy` obeys them.
//!
//! Law: tonic, prost and the generated types stay inside this module, and for every message
//! `decode(encode(x)) == x`. Decoding never panics, whatever a peer sends.

pub mod client;
pub mod codec;
pub mod identity;
pub mod server;
pub mod workload;

pub use codec::DecodeError;
