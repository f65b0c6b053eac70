//! Manifests in, manifests out: the sidecar's injection into pods, and its undoing. Reads no files
//! and asks no cluster.
//!
//! Law: what is not the mesh's stays as it was; undoing an injection gives back what was injected.

pub mod annotations;
pub mod documents;
pub mod inject;
pub mod install;
pub mod patch;
pub mod report;
pub mod settings;
mod sidecar;
#[cfg(test)]
mod tests;
pub mod uninject;
pub mod values;

pub use documents::{Documents, Outcome};
pub use settings::Settings;
pub use values::Values;
