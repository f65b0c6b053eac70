//! A control plane that says what it is told to, and the network it is on.

use crate::api::client::{ControlAddress, ControlClient};
use crate::api::identity::Certificate;
use crate::api::server::{Certifier, Discovery, Refusal, grpc_service};
use crate::api::workload::{ContextToken, Workload};
use crate::model::client_policy::{ClientPolicy, ClientProtocol, OpaqueRoutes};
use crate::model::endpoint::{Endpoint, EndpointUpdate};
use crate::model::labels::Labels;
use crate::model::metadata::Metadata;
use crate::model::profile::Profile;
use crate::model::protocol::HttpVersion;
use crate::model::server_policy::{ServerPolicy, ServerProtocol};
use crate::model::target::{NameAddr, Target};
use crate::runtime::net::ListenOptions;
use crate::runtime::testing::net::MemoryNet;
use crate::runtime::{BoxFuture, BoxStream, Runtime, TaskGuard};
use crate::time::WallTime;
use crate::wire::drain::DrainWatch;
use crate::wire::http::Service;
use crate::wire::http::server::{ServerOptions, serve};
use crate::wire::tls::testing::{Authority, runtime as runtime_with_tls, server_tls};
use crate::wire::tls::{self, Credentials};
use futures_core::Stream;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

pub(super) const WORKLOAD: &str = r#"{"ns":"emojivoto","pod":"web-1"}"#;
pub(super) const CONTEXT: &str = r#"{"ns":"emojivoto","nodeName":"n1","pod":"web-1"}"#;
pub(super) const HERE: &str = "127.0.0.1:8086";

/// Answers to one kind of question, in the order they will be given.
pub(super) struct Answers<T>(Mutex<VecDeque<Result<BoxStream<T>, Refusal>>>);

impl<T: Send + 'static> Answers<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// The next question is answered with what is sent here.
    pub(super) fn tell(&self) -> mpsc::Sender<T> {
        let (sender, received) = mpsc::channel(16);
        self.push(Ok(Box::pin(Received(received))));
        sender
    }

    pub(super) fn push(&self, answer: Result<BoxStream<T>, Refusal>) {
        self.0.lock().unwrap().push_back(answer);
    }

    fn pop(&self) -> Result<BoxStream<T>, Refusal> {
        let told = self.0.lock().unwrap().pop_front();
        told.unwrap_or_else(|| Err(Refusal::Internal("nothing told".into())))
    }
}

pub(super) struct Received<T>(mpsc::Receiver<T>);

impl<T> Stream for Received<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

/// A control plane that says what it is told to, and remembers what it was asked.
pub(super) struct Fake {
    pub(super) client_policies: Answers<ClientPolicy>,
    pub(super) server_policies: Answers<ServerPolicy>,
    pub(super) profiles: Answers<Profile>,
    pub(super) endpoints: Answers<EndpointUpdate>,
    pub(super) asked: Mutex<Vec<String>>,
}

impl Fake {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            client_policies: Answers::new(),
            server_policies: Answers::new(),
            profiles: Answers::new(),
            endpoints: Answers::new(),
            asked: Mutex::default(),
        })
    }

    fn asked(&self, question: String) {
        self.asked.lock().unwrap().push(question);
    }
}

impl Discovery for Fake {
    fn client_policy(
        &self,
        workload: &Workload,
        target: &Target,
    ) -> Result<BoxStream<ClientPolicy>, Refusal> {
        self.asked(format!("{} to {target}", workload.name()));
        self.client_policies.pop()
    }

    fn server_policy(
        &self,
        workload: &Workload,
        port: NonZeroU16,
    ) -> Result<BoxStream<ServerPolicy>, Refusal> {
        self.asked(format!("{} at {port}", workload.name()));
        self.server_policies.pop()
    }

    fn profile(
        &self,
        path: &NameAddr,
        context: &ContextToken,
    ) -> Result<BoxStream<Profile>, Refusal> {
        self.asked(format!("profile {path} from {}", context.node));
        self.profiles.pop()
    }

    fn endpoints(
        &self,
        path: &NameAddr,
        context: &ContextToken,
    ) -> Result<BoxStream<EndpointUpdate>, Refusal> {
        self.asked(format!("endpoints {path} from {}", context.node));
        self.endpoints.pop()
    }
}

impl Certifier for Fake {
    fn certify(
        &self,
        identity: String,
        token: Vec<u8>,
        csr_der: Vec<u8>,
    ) -> BoxFuture<'static, Result<Certificate, Refusal>> {
        Box::pin(async move {
            if token != b"token" {
                return Err(Refusal::Denied(format!("{identity}: wrong token")));
            }
            Ok(Certificate {
                leaf_der: csr_der,
                intermediates_der: vec![b"issuer".to_vec()],
                valid_until: WallTime::from_unix_secs(1_800_000_000),
            })
        })
    }
}

/// A runtime on a network in memory, and credentials that nobody checks on loopback.
pub(super) struct World {
    pub(super) runtime: Runtime,
    pub(super) net: MemoryNet,
    pub(super) authority: Authority,
}

impl World {
    pub(super) fn new() -> Self {
        let net = MemoryNet::default();
        let mut runtime = runtime_with_tls();
        runtime.net = Arc::new(net.clone());
        Self { runtime, net, authority: Authority::new("root") }
    }

    pub(super) fn client(&self, authority: &str) -> ControlClient {
        self.tls_client(authority, None)
    }

    pub(super) fn tls_client(&self, authority: &str, server: Option<&str>) -> ControlClient {
        let address =
            ControlAddress { authority: authority.parse().unwrap(), tls: server.map(server_tls) };
        let credentials = self.authority.credentials(&self.runtime, "web.test");
        ControlClient::new(&self.runtime, address, credentials)
    }

    /// Serves until the guard is dropped, connections and all.
    pub(super) async fn serve(
        &self,
        at: &str,
        service: Arc<dyn Service>,
        credentials: Option<Credentials>,
    ) -> TaskGuard {
        self.serve_until(at, service, credentials, DrainWatch::never()).await
    }

    pub(super) async fn serve_until(
        &self,
        at: &str,
        service: Arc<dyn Service>,
        credentials: Option<Credentials>,
        drain: DrainWatch,
    ) -> TaskGuard {
        let runtime = self.runtime.clone();
        let at: SocketAddr = at.parse().unwrap();
        let listening = runtime.net.listen(at, ListenOptions::default());
        let listener = listening.await.unwrap();
        self.runtime.spawn_guarded("test server", async move {
            let mut connections = Vec::new();
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = drain.draining() => break,
                    accepted = listener.accept() => accepted.unwrap(),
                };
                let (runtime, service) = (runtime.clone(), service.clone());
                let (credentials, drain) = (credentials.clone(), drain.clone());
                let name = "test connection";
                connections.push(runtime.clone().spawn_guarded(name, async move {
                    let io = match credentials {
                        None => accepted.io,
                        Some(credentials) => {
                            match tls::server::accept(accepted.io, &credentials, &[]).await {
                                Ok(session) => session.io,
                                Err(_) => return,
                            }
                        }
                    };
                    let options = ServerOptions::default();
                    let version = HttpVersion::Http2;
                    let _ = serve(&runtime, io, version, &options, service, drain).await;
                }));
            }
            drop(listener);
            std::future::pending::<()>().await;
        })
    }

    pub(super) async fn serve_fake(&self, fake: &Arc<Fake>) -> TaskGuard {
        self.serve(HERE, grpc_service(fake.clone(), Some(fake.clone())), None).await
    }
}

pub(super) fn client_policy(name: &str) -> ClientPolicy {
    ClientPolicy {
        parent: Metadata::new_default(name),
        protocol: ClientProtocol::Opaque(OpaqueRoutes::default()),
    }
}

pub(super) fn server_policy(name: &str) -> ServerPolicy {
    ServerPolicy {
        server: Metadata::new_default(name),
        protocol: ServerProtocol::Opaque,
        authorizations: Vec::new(),
        labels: Labels::default(),
    }
}

pub(super) fn profile(name: &str) -> Profile {
    Profile { fully_qualified_name: Some(name.to_string()), ..Profile::default() }
}

pub(super) fn add(ports: impl IntoIterator<Item = u16>) -> EndpointUpdate {
    let endpoint = |port| Endpoint::new(([10, 0, 0, 1], port).into());
    EndpointUpdate::Add {
        endpoints: ports.into_iter().map(endpoint).collect(),
        labels: Labels::default(),
    }
}
