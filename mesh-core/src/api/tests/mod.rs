//! Clients and servers over a network in memory: HTTP/2, TLS and gRPC as they travel.

mod connection;
mod questions;
mod world;
