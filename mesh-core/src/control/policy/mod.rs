//! Compiles policies: pure functions of the index, the mesh's configuration and a question.

mod annotation;
pub mod authorization;
pub mod client;
mod client_route;
pub(super) mod egress;
pub(super) mod rate_limit;
mod route;
pub mod server;
mod server_route;

#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod server_authorization_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traffic_tests;
