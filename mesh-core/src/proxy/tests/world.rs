//! A small mesh in memory: hosts with proxies and applications on one network, and a control plane
//! that the test drives. Time is tokio's, paused; credentials and handshakes are real.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::control::Control;
use super::files::MemoryFiles;
use super::net::Wires;
use super::policies::{all_to, balance, meshed};
use crate::api::server::grpc_service;
use crate::model::protocol::HttpVersion;
use crate::proxy::config::Config;
use crate::proxy::{Process, ProxyError, run};
use crate::runtime::net::ListenOptions;
use crate::runtime::{BoxFuture, BoxIo, Runtime, TaskGuard};
use crate::time::Timestamp;
use crate::traffic::detect::HttpFound;
use crate::wire::drain::{self, DrainSignal, DrainWatch};
use crate::wire::http::client::{Http2ClientOptions, Http2Connection, connect};
use crate::wire::http::h1::Connection as Http1Connection;
use crate::wire::http::server::{ServerOptions, serve};
use crate::wire::http::{Body, Request, Response, Service, Upgraded};
use crate::wire::sniff::{Sniffed, sniff_http};
use crate::wire::tls::testing::runtime as runtime_with_tls;

pub(super) const CLIENT: &str = "client.test.serviceaccount.identity.linkerd.cluster.local";
pub(super) const SERVER: &str = "server.test.serviceaccount.identity.linkerd.cluster.local";
const CONTROL: &str = "127.0.0.1:8086";
/// Longer than any test, in virtual time.
const PATIENCE: Duration = Duration::from_secs(1800);
const TOKEN: &str = "/token";

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The mesh.
pub(super) struct World {
    pub(super) runtime: Runtime,
    pub(super) wires: Wires,
    pub(super) files: MemoryFiles,
    pub(super) control: Arc<Control>,
    serving: Mutex<Option<TaskGuard>>,
    kept: Mutex<Vec<TaskGuard>>,
}

impl World {
    /// A network with a control plane.
    pub(super) async fn new() -> Self {
        let wires = Wires::default();
        let files = MemoryFiles::default();
        files.put(TOKEN, "token\n");
        let mut runtime = runtime_with_tls();
        runtime.net = Arc::new(wires.net.clone());
        runtime.files = Arc::new(files.clone());
        let world = Self {
            control: Control::new(&runtime),
            runtime,
            wires,
            files,
            serving: Mutex::default(),
            kept: Mutex::default(),
        };
        world.control_comes().await;
        world.runtime.spawn("test watchdog", async {
            tokio::time::sleep(PATIENCE).await;
            eprintln!("a test waited for what does not come");
            std::process::abort();
        });
        world
    }

    /// Starts the control plane's server.
    pub(super) async fn control_comes(&self) {
        let service = grpc_service(self.control.clone(), Some(self.control.clone()));
        let serving = self.serve(CONTROL, service, Arc::default()).await;
        *self.serving.lock().unwrap() = Some(serving);
    }

    /// Ends the control plane's server and its connections.
    pub(super) async fn control_goes(&self) {
        self.serving.lock().unwrap().take();
        // Its tasks learn of it when they run next.
        self.runtime.sleep(Duration::from_millis(1)).await;
    }

    /// Starts a proxy on a host. `more` overrides its environment.
    pub(super) async fn proxy(&self, host: &str, name: &str, more: &[(&str, &str)]) -> Proxy {
        self.proxy_with(host, name, more, Process::default()).await
    }

    pub(super) async fn proxy_with(
        &self,
        host: &str,
        name: &str,
        more: &[(&str, &str)],
        process: Process,
    ) -> Proxy {
        let host = ip(host);
        let mut environment = self.environment(host, name);
        for (variable, value) in more {
            environment.insert(variable.to_string(), value.to_string());
        }
        let config = Config::from_env(&|variable| environment.get(variable).cloned()).unwrap();
        let mut runtime = self.runtime.clone();
        runtime.net = self.wires.host(host);
        let inbound = SocketAddr::new(host, 4143);
        if config.inbound.is_some() {
            self.wires.redirect(host, inbound);
        }
        let (signal, watch) = drain::channel();
        let (ended, end) = oneshot::channel();
        self.runtime.spawn("proxy", async move {
            let _ = ended.send(run(runtime, config, process, watch).await);
        });
        // The listeners are open by the time that the control plane is asked.
        self.runtime.sleep(Duration::from_millis(1)).await;
        Proxy { host, outbound: SocketAddr::new(host, 4140), drain: signal, end }
    }

    fn environment(&self, host: IpAddr, name: &str) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let mut set = |variable: &str, value: String| {
            environment.insert(format!("LINKERD2_PROXY_{variable}"), value);
        };
        for service in ["DESTINATION", "POLICY", "IDENTITY"] {
            set(&format!("{service}_SVC_ADDR"), CONTROL.to_string());
        }
        set("POLICY_WORKLOAD", r#"{"ns":"test","pod":"pod-1"}"#.into());
        set("IDENTITY_TOKEN_FILE", TOKEN.into());
        set("IDENTITY_LOCAL_NAME", name.into());
        let anchors = self.control.authority.lock().unwrap().pem().to_string();
        set("IDENTITY_TRUST_ANCHORS", anchors);
        set("OUTBOUND_LISTEN_ADDR", format!("{host}:4140"));
        set("INBOUND_LISTEN_ADDR", format!("{host}:4143"));
        set("ADMIN_LISTEN_ADDR", format!("{host}:4191"));
        set("INBOUND_IPS", host.to_string());
        environment
    }

    /// Serves HTTP of either version at an address.
    pub(super) async fn app<F>(
        &self,
        address: &str,
        answer: impl Fn(Request) -> F + Send + Sync + 'static,
    ) -> App
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let requests = Arc::<Mutex<Vec<Seen>>>::default();
        let service = Arc::new(Answer {
            answer: Box::new(move |request| Box::pin(answer(request))),
            requests: requests.clone(),
        });
        let connections = Arc::<AtomicUsize>::default();
        let serving = self.serve(address, service, connections.clone()).await;
        App { requests, connections, _serving: serving }
    }

    async fn serve(
        &self,
        address: &str,
        service: Arc<dyn Service>,
        accepted: Arc<AtomicUsize>,
    ) -> TaskGuard {
        let runtime = self.runtime.clone();
        self.listen(address, move |io| {
            accepted.fetch_add(1, Ordering::Relaxed);
            let (runtime, service) = (runtime.clone(), service.clone());
            async move {
                let hour = Duration::from_secs(3600);
                let Ok((found, io)) = sniff_http(&*runtime.clock, io, hour).await else {
                    return;
                };
                let version = match found {
                    Sniffed::Found(HttpFound::Http2) => HttpVersion::Http2,
                    _ => HttpVersion::Http1,
                };
                let options = ServerOptions::default();
                let never = DrainWatch::never();
                let _ = serve(&runtime, io, version, &options, service, never).await;
            }
        })
        .await
    }

    /// Serves bytes at an address until the guard goes, connections and all.
    pub(super) async fn listen<F>(
        &self,
        address: &str,
        serve: impl Fn(BoxIo) -> F + Send + 'static,
    ) -> TaskGuard
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listening = self.runtime.net.listen(at(address), ListenOptions::default());
        let listener = listening.await.unwrap();
        let runtime = self.runtime.clone();
        self.runtime.spawn_guarded("test server", async move {
            let mut connections = Vec::new();
            loop {
                let accepted = listener.accept().await.unwrap();
                let served = serve(accepted.io);
                connections.push(runtime.spawn_guarded("test connection", served));
            }
        })
    }

    /// Keeps a server for as long as the world.
    pub(super) fn keep(&self, guard: TaskGuard) {
        self.kept.lock().unwrap().push(guard);
    }

    /// Opens a connection as the application of a proxy's host would, that was going to `target`.
    pub(super) fn dial(&self, proxy: &Proxy, target: &str) -> BoxIo {
        let opened = self.wires.net.dial(proxy.host, proxy.outbound, Some(at(target)));
        opened.unwrap().io
    }

    /// Opens a connection from `host` straight to a listener.
    pub(super) fn dial_listener(&self, host: &str, listener: &str) -> BoxIo {
        self.wires.net.dial(ip(host), at(listener), None).unwrap().io
    }

    /// Opens a connection from a host without a proxy, subject to redirects.
    pub(super) async fn dial_from(&self, host: &str, to: &str) -> BoxIo {
        let net = self.wires.host(ip(host));
        net.connect(at(to), Default::default()).await.unwrap().io
    }

    /// Sends one HTTP/1 request over a connection of its own.
    pub(super) async fn http1(&self, proxy: &Proxy, target: &str, request: Request) -> Response {
        self.http1_over(self.dial(proxy, target), request).await
    }

    pub(super) async fn http1_over(&self, io: BoxIo, mut request: Request) -> Response {
        let connection = Http1Connection::new(&self.runtime, io);
        connection.send(&mut request, None).await.unwrap()
    }

    /// Opens an HTTP/2 connection to where an application was going.
    pub(super) async fn http2(&self, proxy: &Proxy, target: &str) -> Http2Connection {
        self.http2_over(self.dial(proxy, target)).await
    }

    pub(super) async fn http2_over(&self, io: BoxIo) -> Http2Connection {
        let options = Http2ClientOptions::default();
        connect(&self.runtime, io, &options).await.unwrap()
    }

    /// What a proxy's admin server answers to a GET from its own host.
    pub(super) async fn admin(&self, proxy: &Proxy, path: &str) -> (u16, String) {
        self.admin_from(proxy, "127.0.0.1", path).await
    }

    pub(super) async fn admin_from(&self, proxy: &Proxy, host: &str, path: &str) -> (u16, String) {
        let response = self.http1_over(self.dial_admin(proxy, host), get(path)).await;
        let status = response.status().as_u16();
        (status, text(response).await)
    }

    pub(super) fn dial_admin(&self, proxy: &Proxy, host: &str) -> BoxIo {
        let admin = SocketAddr::new(proxy.host, 4191);
        self.wires.net.dial(ip(host), admin, None).unwrap().io
    }

    /// The value of the metric whose name and labels include all of `parts`; their sum where
    /// there are more.
    pub(super) async fn metric(&self, proxy: &Proxy, parts: &[&str]) -> f64 {
        let (status, text) = self.admin(proxy, "/metrics").await;
        assert_eq!(status, 200);
        let of_the_metrics = |line: &str| line.starts_with('#') || line.starts_with("weft_metrics");
        let lines = text.lines().filter(|line| !of_the_metrics(line));
        lines
            .filter(|line| parts.iter().all(|part| line.contains(part)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    pub(super) async fn sleep(&self, millis: u64) {
        self.runtime.sleep(Duration::from_millis(millis)).await;
    }

    pub(super) fn now(&self) -> Timestamp {
        self.runtime.now()
    }
}

/// A running proxy.
pub(super) struct Proxy {
    pub(super) host: IpAddr,
    pub(super) outbound: SocketAddr,
    pub(super) drain: DrainSignal,
    pub(super) end: oneshot::Receiver<Result<(), ProxyError>>,
}

/// A running application.
pub(super) struct App {
    requests: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    _serving: TaskGuard,
}

/// A request's head as an application saw it.
pub(super) type Seen = http::Request<()>;

impl App {
    pub(super) fn requests(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }

    /// The only request that came.
    pub(super) fn only_request(&self) -> Seen {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().unwrap()
    }

    /// How many connections were opened to it.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

struct Answer {
    answer: Box<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>,
    requests: Arc<Mutex<Vec<Seen>>>,
}

impl Service for Answer {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        let mut seen = http::Request::new(());
        *seen.method_mut() = request.method().clone();
        *seen.uri_mut() = request.uri().clone();
        *seen.version_mut() = request.version();
        *seen.headers_mut() = request.headers().clone();
        self.requests.lock().unwrap().push(seen);
        (self.answer)(request)
    }
}

/// Runs all at once, and gives what each does, in order.
pub(super) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(done) => *output = Some(done),
                Poll::Pending => pending = true,
            }
        }
        match pending {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

/// Answers `text` to everything.
pub(super) async fn ok(text: &'static str) -> Response {
    Response::new(Body::full(text))
}

/// A GET of a path at the host `web`.
pub(super) fn get(path: &str) -> Request {
    let request = http::Request::get(path).header("host", "web");
    request.body(Body::empty()).unwrap()
}

/// A GET of an HTTP/2 URI.
pub(super) fn get2(uri: &str) -> Request {
    let request = http::Request::get(uri).version(http::Version::HTTP_2);
    request.body(Body::empty()).unwrap()
}

/// A unary gRPC request without a message.
pub(super) fn grpc(uri: &str) -> Request {
    let request = http::Request::post(uri)
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    request.body(Body::empty()).unwrap()
}

/// The whole of a response's body.
pub(super) async fn text(response: Response) -> String {
    let bytes = response.into_body().read_to_end(1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A response that leaves HTTP for an echo.
pub(super) fn echo_tunnel(runtime: &Runtime, status: u16) -> Response {
    let (near, far) = tokio::io::duplex(1024);
    runtime.spawn("test echo", echo(Box::new(far)));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status.try_into().unwrap();
    let upgraded = Upgraded::new(Box::new(near));
    response.extensions_mut().insert(upgraded);
    response
}

/// Sends back what comes, until the peer's end.
pub(super) async fn echo(io: BoxIo) {
    let (mut read, mut write) = tokio::io::split(io);
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

/// Reads `count` bytes, as text.
pub(super) async fn read(io: &mut BoxIo, count: usize) -> String {
    let mut buffer = vec![0; count];
    io.read_exact(&mut buffer).await.unwrap();
    String::from_utf8(buffer).unwrap()
}

/// Reads to the end of a message's head, as text.
pub(super) async fn read_head(io: &mut BoxIo) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The usual two: a client at 10.0.0.1 and a server at 10.0.0.2, both with proxies, and the service
/// 10.96.0.1:80 with the server's port 8080 behind it.
pub(super) struct Pair {
    pub(super) world: World,
    pub(super) client: Proxy,
    pub(super) server: Proxy,
}

pub(super) const SERVICE: &str = "10.96.0.1:80";
pub(super) const PATH: &str = "web.test.svc.cluster.local:80";
pub(super) const APP: &str = "10.0.0.2:8080";

impl Pair {
    pub(super) async fn new() -> Self {
        Self::with(&[], &[]).await
    }

    /// `client` and `server` are variables of their proxies.
    pub(super) async fn with(client: &[(&str, &str)], server: &[(&str, &str)]) -> Self {
        Self::on(World::new().await, client, server).await
    }

    pub(super) async fn on(world: World, client: &[(&str, &str)], server: &[(&str, &str)]) -> Self {
        let client = world.proxy("10.0.0.1", CLIENT, client).await;
        let server = world.proxy("10.0.0.2", SERVER, server).await;
        Self::of(world, client, server)
    }

    /// Of two proxies at the usual places.
    pub(super) fn of(world: World, client: Proxy, server: Proxy) -> Self {
        let control = &world.control;
        control.set_client_policy(SERVICE, all_to(balance(PATH)));
        control.set_endpoints(PATH, vec![meshed(APP, SERVER)]);
        Self { world, client, server }
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.world.http1(&self.client, SERVICE, get(path)).await
    }
}
