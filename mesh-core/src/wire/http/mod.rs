//! HTTP/1 and HTTP/2, servers and clients, with one body type and one error type.
//!
//! The codecs know nothing of routes or policies: a [`Service`] answers each request, a client
//! connection carries each request out.

pub mod body;
pub mod client;
pub mod error;
pub mod h1;
mod h2;
pub mod hop_by_hop;
mod loan;
mod runtime;
pub mod server;
#[cfg(test)]
mod tests;
pub mod upgrade;

use crate::runtime::BoxFuture;

pub use super::drain::{self, DrainSignal, DrainWatch};
pub use body::Body;
pub use client::SendError;
pub use error::{Error, Reset};
pub use upgrade::Upgraded;

/// A request on its way.
pub type Request = ::http::Request<Body>;

/// A response on its way. One that carries a [`Reset`] in its extensions is not sent: its stream
/// is reset with that code instead (HTTP/1: the connection is closed).
pub type Response = ::http::Response<Body>;

/// What answers requests. Infallible: what goes wrong becomes a response, or a [`Reset`] in one.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Dropped midway where the client gives up.
    fn call(&self, request: Request) -> BoxFuture<'static, Response>;
}

impl<F> Service for F
where
    F: Fn(Request) -> BoxFuture<'static, Response> + Send + Sync + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        self(request)
    }
}
