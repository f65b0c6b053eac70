//! Compiles policies: pure functions of the index, the mesh's configuration and a question.

pub mod authorization;
pub mod client;
mod client_route;
mod route;
pub mod server;
mod server_route;

#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod tests;
