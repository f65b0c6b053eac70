//! HTTP/1.0 and HTTP/1.1, ours from the bytes up. hyper's is not used: it is less strict than a
//! proxy between two implementations must be, and keeps 16 kB for each idle connection.

pub mod client;
pub mod codec;
mod error;
mod intake;
mod response;
pub mod server;
#[cfg(test)]
mod tests;
mod transport;
mod upload;

pub use client::{CONTINUE_TIMEOUT, Connection, Recycle};
pub use intake::{INFORMATIONAL_MAX, Informational};
