//! One application of the demo as a process: `weft demo-application NAME`.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::services;
use super::traffic::{self, CacheClient, Counted, GrpcClient};

/// What an application is told.
#[derive(Clone, Debug)]
pub(crate) struct ApplicationOptions {
    /// Which one: a service's name.
    pub(crate) service: String,
    /// The instance's name.
    pub(crate) name: String,
    /// Where it serves; none for a client.
    pub(crate) listen: Option<SocketAddr>,
    /// Where it reaches the services it calls, in the order of the demo's table.
    pub(crate) calls: Vec<SocketAddr>,
    /// Requests a second, for a client.
    pub(crate) rate: f64,
}

/// Runs the application until it is ended from outside.
///
/// # Errors
/// As the kernel's: the address is in use, descriptors have run out.
pub(crate) async fn run(options: ApplicationOptions) -> io::Result<()> {
    let ApplicationOptions { service, name, listen, calls, rate } = options;
    let counted = Counted::default();
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{service}: wrong options"));
    let call = |nth: usize| calls.get(nth).copied().ok_or_else(wrong);
    if service == "load" {
        tokio::spawn(counted.clone().tell());
        traffic::load(call(0)?, call(1)?, rate, counted).await;
        return Ok(());
    }
    let listener = TcpListener::bind(listen.ok_or_else(wrong)?).await?;
    // Its first word says that it listens.
    tokio::spawn(counted.clone().tell());
    match service.as_str() {
        "web" => services::web(name, listener, GrpcClient::new(call(0)?, counted)).await,
        "api" => services::api(name, listener, CacheClient::new(call(0)?, counted)).await,
        "cache" => services::cache(name, listener).await,
        "chat" => services::chat(name, listener).await,
        _ => Err(wrong()),
    }
}
