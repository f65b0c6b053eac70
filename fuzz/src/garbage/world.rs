//! A small mesh on the simulation's engine: a controller, a meshed server, a meshed client, a server
//! without a proxy, and a host from which strangers send.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_core::api::client::{ControlAddress, ControlClient};
use mesh_core::control::{self, ControlConfig, token::AUDIENCE};
use mesh_core::model::identity::{DnsName, Identity, ServerTls};
use mesh_core::model::protocol::HttpVersion;
use mesh_core::proxy::{self, Process, config::Config};
use mesh_core::resource::yaml;
use mesh_core::runtime::net::{ListenOptions, TcpOptions};
use mesh_core::runtime::{BoxFuture, BoxIo, Connection, Runtime};
use mesh_core::traffic::detect::HttpFound;
use mesh_core::wire::drain::{self, DrainSignal, DrainWatch};
use mesh_core::wire::http::server::{self, ServerOptions};
use mesh_core::wire::http::{Body, Request, Response, Service};
use mesh_core::wire::sniff::{Sniffed, sniff_http};
use mesh_core::wire::tls::{self, Credentials, csr::csr_der};
use mesh_core::wire::transport_header;
use runtime_sim::cluster::ApiServer;
use runtime_sim::engine::{Engine, HostId};
use runtime_sim::topology::{HostSpec, Redirect, Role};
use runtime_sim::trace::Trace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::{Damaged, Ending, From, Inside, Stream};
use crate::mutate::{Draw, mutate};
use crate::seeds;

type Ip = [u8; 4];

/// The controller.
pub const CONTROLLER_IP: Ip = [10, 1, 255, 1];
/// The meshed client.
pub const CLIENT_IP: Ip = [10, 1, 0, 1];
/// The meshed server.
pub const MESHED_IP: Ip = [10, 1, 0, 2];
/// The server without a proxy.
pub const PLAIN_IP: Ip = [10, 1, 0, 3];
const STRANGER_IP: Ip = [10, 1, 0, 9];
/// The service that the meshed server serves.
pub const WEB: Ip = [10, 96, 0, 1];

/// An application's port: HTTP, by this crate's own server.
pub const HTTP: u16 = 8080;
/// An application's port: bytes are sent back.
pub const BYTES: u16 = 9000;
/// An application's port: the server speaks first.
pub const GREETING: u16 = 7000;
/// An application's port: answers are garbage.
pub const RUDE: u16 = 7500;
/// An application's port: answers are those of [`World::answer_with`].
pub const SCRIPTED: u16 = 7600;
/// A port where nobody listens.
pub const CLOSED: u16 = 6000;
/// An application's port that is opaque by default; the server speaks first.
pub const UNMARKED: u16 = 3306;

/// How long a silent client stays.
const PATIENCE: Duration = Duration::from_secs(40);
/// A client that has ended its side sees the other end within this: discovery, detection and
/// connecting may take ten seconds each, one after the other.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How long a batch may take.
const BATCH_WITHIN: Duration = Duration::from_secs(400);
/// Longer than anything idle is kept: ten minutes, of metrics.
const SETTLED_AFTER: Duration = Duration::from_secs(1_800);

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: garbage}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: garbage}
spec:
  addresses: [10.1.0.2]
  service: web
  serviceAccount: web
  ports: [{port: 8080}, {port: 9000}, {port: 7000}, {port: 7500}, {port: 6000}, {port: 3306}]
  proxy: {}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: client-1, namespace: garbage}
spec: {addresses: [10.1.0.1], serviceAccount: client, proxy: {}}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: stranger-1, namespace: garbage}
spec: {addresses: [10.1.0.9], serviceAccount: stranger, proxy: {}}
";

/// A socket address.
pub fn at(ip: Ip, port: u16) -> SocketAddr {
    SocketAddr::from((ip, port))
}

/// The mesh.
pub struct World {
    script: Script,
    engine: Engine,
    client: Runtime,
    stranger: Runtime,
    /// The stranger's, who is a member of the mesh too.
    credentials: Credentials,
    /// Dropped, it would end nothing: kept so that nothing can be said to have been drained.
    _drain: DrainSignal,
}

/// Segments that the application at [`SCRIPTED`] answers with.
type Script = Arc<Mutex<Vec<Vec<u8>>>>;

/// What went wrong, in order.
type Faults = Arc<Mutex<Vec<String>>>;

impl Default for World {
    fn default() -> Self {
        let api = ApiServer::default();
        for object in yaml::read("mesh.yaml", MESH).expect("it is good").objects {
            api.apply(object);
        }
        let mut engine = Engine::new(1, Trace::of_hash_alone(), api.clone());
        let mut host = |name: &str, ip: Ip, is_meshed: bool| {
            let mut spec = HostSpec::new(name, IpAddr::from(ip));
            spec.redirect = is_meshed.then(Redirect::default);
            engine.add_host(spec)
        };
        let controller = host("controller", CONTROLLER_IP, false);
        let client = host("client", CLIENT_IP, true);
        let meshed = host("meshed", MESHED_IP, true);
        let plain = host("plain", PLAIN_IP, false);
        let stranger = host("stranger", STRANGER_IP, false);
        engine.set_virtual_address(at(WEB, 80), vec![at(MESHED_IP, HTTP)]);

        let (drain, watch) = drain::channel();
        let anchors = start_controller(&engine, controller, &watch);
        let start_proxy = |host, name, ip| {
            start_proxy(&engine, &api, host, (name, ip), &anchors, &watch);
        };
        start_proxy(client, "client", CLIENT_IP);
        start_proxy(meshed, "web", MESHED_IP);
        let script = Script::default();
        for host in [meshed, plain] {
            let runtime = engine.start(host, "application", Role::App);
            start_applications(&runtime, &script, &watch);
        }
        let stranger = engine.start(stranger, "stranger", Role::App);
        let credentials = certified(&engine, &api, &stranger, &anchors);
        let world = Self {
            client: engine.start(client, "garbage", Role::App),
            engine,
            stranger,
            credentials,
            script,
            _drain: drain,
        };
        world.settle();
        world
    }
}

impl World {
    /// What the applications at [`SCRIPTED`] answer from now on.
    pub fn answer_with(&self, segments: &[&[u8]]) {
        let segments = segments.iter().map(|segment| segment.to_vec()).collect();
        *self.script.lock().expect("no holder panics") = segments;
    }

    /// Sends streams at once, and waits until every client is done.
    ///
    /// # Panics
    /// Where a task panics, a client hangs, or an honest one is not served.
    pub fn send(&self, batch: Vec<Stream>) {
        let faults = Faults::default();
        let pending = Arc::new(());
        for stream in batch {
            let runtime = match stream.from {
                From::Meshed => self.client.clone(),
                From::Elsewhere => self.stranger.clone(),
            };
            let (faults, credentials) = (faults.clone(), self.credentials.clone());
            let pending = pending.clone();
            runtime.clone().spawn("garbage", async move {
                if let Err(fault) = send(&runtime, &credentials, &stream).await {
                    let mut faults = faults.lock().expect("no holder panics");
                    faults.push(format!("{fault}: {}", describe(&stream)));
                }
                drop(pending);
            });
        }
        let until = self.engine.now() + BATCH_WITHIN;
        let all_done = self.engine.run_while(until, || Arc::strong_count(&pending) > 1);
        assert_eq!(self.engine.panics(), [], "a task panicked");
        assert!(all_done, "a client hangs; {:?}", self.engine.census());
        let faults = faults.lock().expect("no holder panics");
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// Lets every timeout pass.
    ///
    /// # Panics
    /// Where a task panics.
    pub fn settle(&self) {
        self.wait(SETTLED_AFTER);
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// Where a task panics.
    pub fn wait(&self, time: Duration) {
        self.engine.run_until(self.engine.now() + time);
        assert_eq!(self.engine.panics(), [], "a task panicked");
    }

    /// Connections and tasks that live.
    pub fn census(&self) -> BTreeMap<&'static str, usize> {
        let mut census = self.engine.census();
        census.insert("(connections)", self.engine.connections());
        census
    }

    /// Simulated seconds since the start.
    pub fn now_secs(&self) -> u64 {
        self.engine.now().as_nanos() / 1_000_000_000
    }
}

fn describe(stream: &Stream) -> String {
    let Stream { from, to, inside, segments, ending } = stream;
    let segments =
        segments.iter().map(|(pause, bytes)| format!("{pause:?} b\"{}\"", bytes.escape_ascii()));
    let segments: Vec<_> = segments.collect();
    format!("{from:?} to {to} in {inside:?}, {ending:?} after {}", segments.join(" "))
}

/// Runs one client.
async fn send(
    runtime: &Runtime,
    credentials: &Credentials,
    stream: &Stream,
) -> Result<(), &'static str> {
    const OPEN_WITHIN: Duration = Duration::from_secs(20);
    let opening = runtime.timeout(OPEN_WITHIN, open(runtime, credentials, stream));
    let io = match opening.await {
        Ok(Some(io)) => io,
        Ok(None) if matches!(stream.ending, Ending::Answer(_)) => return Err("not opened"),
        // Refused, or its TLS was.
        Ok(None) => return Ok(()),
        Err(_) => return Err("opening hangs"),
    };
    let (mut near, mut far) = tokio::io::split(io);
    let write = async {
        for (pause, segment) in &stream.segments {
            runtime.sleep(*pause).await;
            if far.write_all(segment).await.is_err() || far.flush().await.is_err() {
                return;
            }
        }
        match stream.ending {
            Ending::HalfClose => drop(far.shutdown().await),
            Ending::Silence => runtime.sleep(PATIENCE).await,
            Ending::Drop | Ending::Answer(_) => {}
        }
    };
    let mut first = [0; 12];
    let read = async {
        let began_with = near.read_exact(&mut first).await;
        if let Ending::Answer(answer) = stream.ending {
            return began_with.is_ok() && first == answer;
        }
        let mut buffer = [0; 512];
        while began_with.is_ok() && matches!(near.read(&mut buffer).await, Ok(1..)) {}
        true
    };
    match stream.ending {
        Ending::Drop => {
            let _ = runtime.timeout(PATIENCE, write).await;
        }
        Ending::Silence => {
            let _ = runtime.timeout(PATIENCE * 2, async { tokio::join!(write, read) }).await;
        }
        Ending::HalfClose | Ending::Answer(_) => {
            let both = async { tokio::join!(write, read) };
            match runtime.timeout(END_WITHIN + PATIENCE, both).await {
                Ok(((), true)) => {}
                Ok(_) => return Err("not answered"),
                Err(_) => return Err("no end of the other side"),
            }
        }
    }
    Ok(())
}

/// `None`: refused.
async fn open(runtime: &Runtime, credentials: &Credentials, stream: &Stream) -> Option<BoxIo> {
    let connecting = runtime.net.connect(stream.to, TcpOptions::default());
    let Connection { io, .. } = connecting.await.ok()?;
    let server = server_tls("web");
    let connect = |io, alpn| tls::client::connect(io, credentials, &server, alpn);
    let secured = match stream.inside {
        Inside::Tcp => return Some(io),
        Inside::Tls { transport_header } => {
            let alpn = transport_header.then_some(transport_header::ALPN);
            connect(io, alpn).await
        }
        Inside::DamagedTls { at } => {
            let io = Box::new(Damaged { io, at });
            connect(io, Some(transport_header::ALPN)).await
        }
    };
    secured.ok().map(|secured| secured.io)
}

fn server_tls(account: &str) -> ServerTls {
    server_tls_of(&format!("{account}.garbage.serviceaccount.identity.linkerd.cluster.local"))
}

fn server_tls_of(name: &str) -> ServerTls {
    let server_name = DnsName::new(name).expect("a name");
    ServerTls { identity: Identity::Dns(server_name.clone()), server_name }
}

/// Starts a control plane and returns its anchors of trust.
fn start_controller(engine: &Engine, host: HostId, drain: &DrainWatch) -> String {
    let runtime = engine.start(host, "controller", Role::Proxy);
    let mut config = ControlConfig::default();
    config.identity.state_directory = "/state".into();
    let binding = control::Controller::bind(runtime.clone(), config);
    let within = engine.now() + Duration::from_secs(5);
    let controller = engine.block_on(&runtime, within, binding);
    let controller = controller.expect("the controller can start");
    let anchors = controller.trust_anchors_pem().expect("it issues certificates");
    runtime.spawn("controller", controller.serve(drain.clone()));
    anchors
}

fn start_proxy(
    engine: &Engine,
    api: &ApiServer,
    host: HostId,
    (account, ip): (&str, Ip),
    anchors: &str,
    drain: &DrainWatch,
) {
    let token = api.issue_token("garbage", account, AUDIENCE);
    engine.files(host).put("/token", token.as_bytes());
    let mut environment = BTreeMap::new();
    let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
    for (service, port) in [("DESTINATION", 8086), ("POLICY", 8090), ("IDENTITY", 8080)] {
        let variable = format!("LINKERD2_PROXY_{service}_SVC");
        let address = at(CONTROLLER_IP, port);
        set(&format!("{variable}_ADDR"), address.to_string());
        let name = format!(
            "linkerd-{}.linkerd.serviceaccount.identity.linkerd.cluster.local",
            service.to_ascii_lowercase()
        );
        set(&format!("{variable}_NAME"), name);
    }
    let local = server_tls(account).server_name.to_string();
    set("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", local);
    set("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", anchors.to_owned());
    set("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", "/token".to_owned());
    let workload = format!("{{\"ns\":\"garbage\",\"pod\":\"{account}-1\"}}");
    set("LINKERD2_PROXY_DESTINATION_CONTEXT", workload.clone());
    set("LINKERD2_PROXY_POLICY_WORKLOAD", workload);
    set("LINKERD2_PROXY_INBOUND_IPS", IpAddr::from(ip).to_string());
    set("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", "0.0.0.0:4191".to_owned());
    let explicit = "127.0.0.1:4141".to_owned();
    set("WEFT_OUTBOUND_HTTP_PROXY_LISTEN_ADDRS", explicit);
    let config = Config::from_env(&|name| environment.get(name).cloned());
    let config = config.expect("the configuration is good");

    let runtime = engine.start(host, "proxy", Role::Proxy);
    let running = proxy::run(runtime.clone(), config, Process::default(), drain.clone());
    runtime.spawn("proxy", async move {
        running.await.expect("the proxy can start");
    });
}

/// Makes the stranger a member of the mesh.
fn certified(engine: &Engine, api: &ApiServer, stranger: &Runtime, anchors: &str) -> Credentials {
    let local = server_tls("stranger");
    let credentials = Credentials::new(stranger, local.clone());
    credentials.set_roots(anchors.as_bytes()).expect("they are good");
    let name = "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local";
    let address = ControlAddress {
        authority: at(CONTROLLER_IP, 8080).into(),
        tls: Some(server_tls_of(name)),
    };
    let client = ControlClient::new(stranger, address, credentials.clone());
    let token = api.issue_token("garbage", "stranger", AUDIENCE);
    let key = stranger.crypto.generate_key().expect("a key");
    let csr = csr_der(&key, &local.identity).expect("a request");
    let certify = async move {
        let token = token.into_bytes();
        client.certify(local.identity.as_str(), token, csr).await
    };
    let within = engine.now() + Duration::from_secs(30);
    let issued = engine.block_on(stranger, within, certify);
    let issued = issued.expect("the controller certifies");
    credentials
        .set_certificate(issued.leaf_der, issued.intermediates_der, key)
        .expect("it is good");
    credentials
}

fn start_applications(runtime: &Runtime, script: &Script, drain: &DrainWatch) {
    for port in [HTTP, BYTES, GREETING, RUDE, SCRIPTED, UNMARKED] {
        let (runtime, script, drain) = (runtime.clone(), script.clone(), drain.clone());
        runtime.clone().spawn("application", async move {
            let listening = runtime.net.listen(at([0; 4], port), ListenOptions::default());
            let listener = listening.await.expect("the port is free");
            for nth in 0.. {
                let Ok(Connection { io, .. }) = listener.accept().await else {
                    return;
                };
                let task = "application-connection";
                match port {
                    HTTP => runtime.spawn(task, serve_http(runtime.clone(), io, drain.clone())),
                    RUDE => runtime.spawn(task, serve_rudely(runtime.clone(), io, nth)),
                    SCRIPTED => {
                        let script = script.lock().expect("no holder panics").clone();
                        runtime.spawn(task, serve_script(runtime.clone(), io, script));
                    }
                    _ => runtime.spawn(task, serve_bytes(io, port != BYTES)),
                }
            }
        });
    }
}

async fn serve_http(runtime: Runtime, io: BoxIo, drain: DrainWatch) {
    let timeout = Duration::from_secs(10);
    let Ok((sniffed, io)) = sniff_http(&*runtime.clock, io, timeout).await else {
        return;
    };
    let version = match sniffed {
        Sniffed::Found(HttpFound::Http2) => HttpVersion::Http2,
        _ => HttpVersion::Http1,
    };
    let options = ServerOptions::default();
    let _ = server::serve(&runtime, io, version, &options, Arc::new(Echo), drain).await;
}

async fn serve_bytes(mut io: BoxIo, greets: bool) {
    if greets && io.write_all(b"220 ready\r\n").await.is_err() {
        return;
    }
    let mut buffer = vec![0; 1024];
    while let Ok(count @ 1..) = io.read(&mut buffer).await {
        if io.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = io.shutdown().await;
}

/// How long an application that answers garbage waits for more.
const APPLICATION_PATIENCE: Duration = Duration::from_secs(2);

/// Answers what it reads with damaged responses and frames, eight times at most.
async fn serve_rudely(runtime: Runtime, mut io: BoxIo, nth: u64) {
    let mut draw = Draw::new(nth);
    let answers = [seeds::responses(), seeds::http2_answers()].concat();
    let mut buffer = vec![0; 1024];
    for _ in 0..8 {
        let read = runtime.timeout(APPLICATION_PATIENCE, io.read(&mut buffer));
        let Ok(Ok(1..)) = read.await else { break };
        let mut answer = draw.of(&answers).clone();
        mutate(&mut answer, &mut draw);
        if io.write_all(&answer).await.is_err() || draw.once_in(4) {
            return;
        }
    }
    let _ = io.shutdown().await;
}

/// Waits for the first bytes and answers with the script.
async fn serve_script(runtime: Runtime, mut io: BoxIo, script: Vec<Vec<u8>>) {
    let mut buffer = vec![0; 1024];
    let read = runtime.timeout(APPLICATION_PATIENCE, io.read(&mut buffer));
    let Ok(Ok(1..)) = read.await else { return };
    for segment in script {
        runtime.sleep(Duration::from_millis(1)).await;
        if io.write_all(&segment).await.is_err() || io.flush().await.is_err() {
            return;
        }
    }
    let _ = io.shutdown().await;
    // What comes meanwhile is read, lest the end be a reset.
    let drained = async { while let Ok(1..) = io.read(&mut buffer).await {} };
    let _ = runtime.timeout(APPLICATION_PATIENCE, drained).await;
}

/// Sends bodies back as they come.
struct Echo;

impl Service for Echo {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            match parts.method {
                http::Method::GET | http::Method::HEAD => Response::new(Body::full("hello")),
                _ => Response::new(body),
            }
        })
    }
}
