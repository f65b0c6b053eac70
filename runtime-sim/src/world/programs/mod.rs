//! The programs that simulated containers run. A container's image names its program
//! (`simulated/http`…), its environment says how it behaves ([`behaviour`]). They are plain
//! programs that know nothing of the mesh.

mod behaviour;
mod grpc;
mod http;
mod lines;
mod websocket;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh_core::runtime::net::ListenOptions;
use mesh_core::runtime::{Connection, Runtime};
use mesh_core::wire::http::DrainWatch;
use mesh_core::wire::tls;

use super::record::{Execution, Record, Sequence};
use super::speech;

pub(super) use behaviour::{Behaviour, Conduct};
pub(super) use http::send_body;
pub(super) use speech::MARKER;

/// What a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// HTTP/1.1 and HTTP/2 with prior knowledge, gRPC and WebSockets on them.
    Http,
    /// Answers a line with a line.
    Tcp,
    /// Greets, then answers a line with a line.
    ServerFirstTcp,
    /// Answers a line with a line, in TLS of its own.
    Tls,
    /// Nothing: workloads send from it.
    Client,
}

impl Program {
    /// The images there are.
    pub(super) const IMAGES: &str = "simulated/http, simulated/tcp, simulated/server-first-tcp, \
                                     simulated/tls or simulated/client";

    /// The program of an image.
    pub(super) fn of_image(image: &str) -> Option<Self> {
        match image.strip_prefix("simulated/")? {
            "http" => Some(Self::Http),
            "tcp" => Some(Self::Tcp),
            "server-first-tcp" => Some(Self::ServerFirstTcp),
            "tls" => Some(Self::Tls),
            "client" => Some(Self::Client),
            _ => None,
        }
    }
}

/// A server of a pod.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) runtime: Runtime,
    pub(super) pod: Arc<str>,
    pub(super) record: Record,
    pub(super) behaviour: Behaviour,
    pub(super) drain: DrainWatch,
}

impl Server {
    /// Listens on a port, once it is ready, and serves until its process ends, or has drained. A
    /// program that is a client is ready and does nothing.
    pub(super) fn start(self, program: Program, port: u16) {
        let runtime = self.runtime.clone();
        runtime.spawn("app listener", async move {
            let conduct = self.behaviour.conduct();
            if !conduct.ready_after.is_zero() {
                self.runtime.sleep(conduct.ready_after).await;
            }
            let _ready = Ready::now(&self.behaviour);
            match program {
                Program::Client => self.drain.draining().await,
                _ => self.listen(program, port).await,
            }
        });
    }

    async fn listen(&self, program: Program, port: u16) {
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let Ok(listener) = self.runtime.net.listen(at, ListenOptions::default()).await else {
            return;
        };
        let credentials = match program {
            Program::Tls => {
                match speech::tls::credentials(&self.runtime, "application.simulated") {
                    Ok(credentials) => Some(credentials),
                    Err(fault) => panic!("the application's certificate: {fault}"),
                }
            }
            _ => None,
        };
        loop {
            tokio::select! {
                biased;
                () = self.drain.draining() => return,
                accepted = listener.accept() => {
                    let Ok(mut connection) = accepted else { continue };
                    connection.io = self.record.traffic(&self.pod).accepted.count(connection.io);
                    let (server, credentials) = (self.clone(), credentials.clone());
                    self.runtime.spawn("app connection", async move {
                        server.serve(program, connection, credentials).await;
                    });
                }
            }
        }
    }

    async fn serve(
        self,
        program: Program,
        connection: Connection,
        credentials: Option<tls::Credentials>,
    ) {
        let killed = self.clone();
        let served = async {
            match (program, credentials) {
                (Program::Http, _) => http::serve(self, connection).await,
                (Program::Tls, Some(credentials)) => {
                    let session = tls::server::accept(connection.io, &credentials, &[]).await;
                    let session = session.map_err(std::io::Error::other)?;
                    lines::serve(&self, session.io, false).await
                }
                (Program::ServerFirstTcp, _) => lines::serve(&self, connection.io, true).await,
                _ => lines::serve(&self, connection.io, false).await,
            }
        };
        tokio::select! {
            biased;
            () = killed.killed() => {}
            // A broken connection is its client's to report.
            _ = served => {}
        }
    }

    /// Completes when it is told to finish, where it then ends at once.
    async fn killed(&self) {
        self.drain.draining().await;
        if self.behaviour.conduct().graceful {
            std::future::pending::<()>().await;
        }
    }

    /// The messages of a request, as they come.
    fn sequence(&self, number: Option<u64>) -> Sequence {
        Sequence::new(&self.record, number, &self.pod)
    }

    /// A request has come.
    fn executed(&self, number: Option<u64>, client: Option<&str>) {
        let (at, pod) = (self.runtime.now(), self.pod.clone());
        self.record.execute(Execution { at, pod, number, client: client.map(Arc::from) });
    }
}

/// A program is ready as long as this lives.
struct Ready(Behaviour);

impl Ready {
    fn now(behaviour: &Behaviour) -> Self {
        behaviour.set_ready(true);
        Self(behaviour.clone())
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.0.set_ready(false);
    }
}
