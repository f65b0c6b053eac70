//! The control plane: an index of the cluster, and what it compiles of it for proxies.

pub mod ca;
pub mod config;
pub mod csr;
pub mod identity;
mod pem;
mod signature;
pub mod state;
pub mod token;

pub use config::{ControlConfig, IdentityConfig, ListenConfig, MeshConfig};
