//! Compiles policies: pure functions of the index, the mesh's configuration and a question.

pub mod authorization;
pub mod client;
pub mod server;

#[cfg(test)]
mod tests;
