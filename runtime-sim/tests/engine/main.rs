//! What the engine's network does that the contract cannot ask of every runtime: a client and a server,
//! and what happens between them. One file for each subject.

mod connections;
mod determinism;
mod links;
mod names_and_clocks;
mod partitions;
mod processes;

use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_core::runtime::net::{ListenOptions, TcpOptions};
use mesh_core::runtime::{Connection, Runtime};
use mesh_core::time::Timestamp;
use runtime_sim::cluster::ApiServer;
use runtime_sim::engine::Engine;
use runtime_sim::link::{Impairment, LinkSpec, Place};
use runtime_sim::topology::{
    BrokenResolver, ClockSpec, Crash, DnsAnswer, HostSpec, Resolver, Role,
};
use runtime_sim::trace::{Packet, Trace, first_divergence};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const AT: SocketAddr = SocketAddr::new(SERVER, 80);

struct Pair {
    engine: Engine,
    trace: Trace,
    client: Runtime,
}

impl Pair {
    /// A client, host 0, and a server, host 1, which echoes on port 80.
    fn new(seed: u64) -> Self {
        let trace = Trace::new(true);
        let mut engine = Engine::new(seed, trace.clone(), ApiServer::default());
        let client = engine.add_host(HostSpec::new("client", [10, 0, 0, 1].into()));
        engine.add_host(HostSpec::new("server", SERVER));
        let client = engine.start(client, "client", Role::App);
        let pair = Self { engine, trace, client };
        pair.start_server();
        // The server listens before anything else happens.
        pair.engine.run_until(Timestamp::ZERO);
        pair
    }

    fn start_server(&self) {
        let server = self.engine.start(1, "server", Role::App);
        serve_echo(&server, AT);
    }

    fn set_up(&self, from: usize, to: usize, up: bool) {
        let link = self.engine.link(from, to);
        self.engine.set_link(from, to, LinkSpec { up, ..link });
    }

    fn after(&self, duration: Duration) -> Timestamp {
        self.engine.now() + duration
    }

    fn do_within<T>(&self, limit: Duration, work: impl AsyncFnOnce(Runtime) -> T) -> T {
        // Polled here and not on a task: `work` may borrow the test's state.
        let mut output = None;
        let mut future = Box::pin(work(self.client.clone()));
        let until = self.after(limit);
        self.engine.run_while(until, || {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(value) => {
                    output = Some(value);
                    false
                }
                std::task::Poll::Pending => true,
            }
        });
        output.expect("done in time")
    }
}

/// Sends back what comes.
fn serve_echo(server: &Runtime, at: SocketAddr) {
    let runtime = server.clone();
    server.spawn("listener", async move {
        let listening = runtime.net.listen(at, ListenOptions::default());
        let listener = listening.await.expect("to listen");
        while let Ok(mut accepted) = listener.accept().await {
            runtime.spawn("echo", async move {
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = accepted.io.read(&mut buffer).await {
                    let _ = accepted.io.write_all(&buffer[..count]).await;
                }
            });
        }
    });
}

async fn connect(client: &Runtime) -> std::io::Result<Connection> {
    client.net.connect(AT, TcpOptions::default()).await
}

async fn echo(connection: &mut Connection) -> std::io::Result<u8> {
    connection.io.write_u8(7).await?;
    connection.io.read_u8().await
}

const MINUTE: Duration = Duration::from_secs(60);
