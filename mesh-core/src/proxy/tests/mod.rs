//! The whole data plane, tested through its listeners: real TLS, HTTP and gRPC on a network in
//! memory, in paused time.

mod balance;
mod control;
mod edges;
mod files;
mod http;
mod lifetime;
mod net;
mod opaque;
mod policies;
mod policy;
mod resilience;
mod spans;
mod tap;
mod world;
