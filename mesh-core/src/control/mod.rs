//! The control plane: an index of the cluster, and what it compiles of it for proxies.

pub mod ca;
pub mod config;
pub(crate) mod pem;
mod signature;
pub mod token;

pub use config::{ControlConfig, IdentityConfig, ListenConfig, MeshConfig};
