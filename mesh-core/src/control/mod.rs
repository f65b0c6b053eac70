//! The control plane: an index of the cluster, and what it compiles of it for proxies.

pub mod ca;
pub mod config;
pub mod csr;
pub mod destination;
pub mod identity;
pub mod index;
pub mod metrics;
mod names;
mod pem;
pub mod policy;
mod protocol;
pub mod publish;
mod select;
mod signature;
pub mod state;
mod streams;
pub mod token;

pub use config::{ControlConfig, IdentityConfig, ListenConfig, MeshConfig};
