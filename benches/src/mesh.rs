//! A meshed path in one process, over loopback: a client, its proxy, the server's proxy, the
//! server, and the control plane, each on a thread of its own. Nothing is redirected and nothing
//! needs privileges: every "host" is a loopback address.
//!
//! Not the proxy's process: `processes` runs that.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mesh_core::control::token::{self, ServiceAccountName};
use mesh_core::control::{
    ControlConfig, Controller, IdentityConfig, ListenConfig, VizConfig, state,
};
use mesh_core::proxy::config::Config;
use mesh_core::proxy::{self, Process};
use mesh_core::runtime::{BoxFuture, Runtime, Tasks};
use mesh_core::wire::drain;
use runtime_real::directory::DirectoryCluster;
use runtime_real::no_cluster::NoCluster;

use crate::allocations::{Role, take_role};

pub mod in_memory;

/// What a server answers, after its headers.
pub const BODY: &[u8] = b"hello from the benchmark server, a small body.................\n";

/// The hosts of a mesh, in a part of the loopback network that depends on the process.
#[derive(Clone, Copy, Debug)]
pub struct Hosts(u8, u8);

impl Hosts {
    /// Those of this process. `nth`: meshes of one process have hosts of their own.
    pub fn new(nth: u8) -> Self {
        let process = std::process::id();
        Self(64 + (process % 42) as u8 * 3 + nth % 3, (process / 42 % 256) as u8)
    }

    fn at(self, host: u8, port: u16) -> SocketAddr {
        (Ipv4Addr::new(127, self.0, self.1, host), port).into()
    }

    /// Where the client calls the service, through its proxy.
    pub fn call(self) -> SocketAddr {
        self.at(11, 9001)
    }

    /// Where the server's proxy listens.
    pub fn inbound(self) -> SocketAddr {
        self.at(21, 4143)
    }

    /// Where the server listens.
    pub fn server(self) -> SocketAddr {
        self.at(21, 8080)
    }

    /// Where the client asks for any name, as of an HTTP proxy. Listened on where an environment
    /// says so.
    pub fn http_proxy(self) -> SocketAddr {
        self.at(11, 9002)
    }

    /// A proxy's admin server.
    pub fn admin(self, role: Role) -> SocketAddr {
        self.at(host(role), 4191)
    }

    /// Where the control plane is.
    pub fn controller(self) -> ListenConfig {
        ListenConfig {
            destination: self.at(1, 8086),
            policy: self.at(1, 8090),
            identity: self.at(1, 8080),
            admin: self.at(1, 9996),
        }
    }
}

fn host(role: Role) -> u8 {
    match role {
        Role::Outbound => 11,
        Role::Inbound => 21,
    }
}

fn account(role: Role) -> &'static str {
    match role {
        Role::Outbound => "client",
        Role::Inbound => "server",
    }
}

/// A proxy's environment.
pub fn environment(role: Role, hosts: Hosts, directory: &Path) -> BTreeMap<String, String> {
    let ListenConfig { destination, policy, identity, .. } = hosts.controller();
    let name = account(role);
    let workload = format!(r#"{{"ns":"bench","pod":"{name}"}}"#);
    let local = format!("{name}.bench.serviceaccount.identity.linkerd.cluster.local");
    let token = directory.join(format!("{name}.token"));
    let anchors = directory.join("state/ca.crt");
    let call = format!("{}=server.bench.svc.cluster.local:8080", hosts.call());
    let inbound = SocketAddr::new(hosts.admin(role).ip(), 4143);
    let mut variables = BTreeMap::new();
    let mut set = |variable: &str, value: String| variables.insert(variable.to_string(), value);
    set("LINKERD2_PROXY_LOG", "warn".to_string());
    set("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", inbound.to_string());
    set("LINKERD2_PROXY_INBOUND_IPS", inbound.ip().to_string());
    set("LINKERD2_PROXY_INBOUND_PORTS", "8080".to_string());
    set("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "none".to_string());
    if role == Role::Outbound {
        set("WEFT_OUTBOUND_LISTENERS", call);
    }
    let admin = hosts.admin(role);
    set("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", admin.to_string());
    // What a proxy costs that may be tapped and is not: the usual one.
    let tapper = "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local";
    set("LINKERD2_PROXY_TAP_SVC_NAME", tapper.to_string());
    set("LINKERD2_PROXY_CONTROL_LISTEN_ADDR", SocketAddr::new(admin.ip(), 4190).to_string());
    set("LINKERD2_PROXY_DESTINATION_SVC_ADDR", destination.to_string());
    set("LINKERD2_PROXY_POLICY_SVC_ADDR", policy.to_string());
    set("LINKERD2_PROXY_IDENTITY_SVC_ADDR", identity.to_string());
    set("LINKERD2_PROXY_DESTINATION_CONTEXT", workload.clone());
    set("LINKERD2_PROXY_POLICY_WORKLOAD", workload);
    set("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", local);
    set("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", token.display().to_string());
    set("WEFT_IDENTITY_TRUST_ANCHORS_FILE", anchors.display().to_string());
    set("LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD", "1s".to_string());
    variables
}

/// What the control plane serves: one service of one meshed workload, and a client.
pub fn manifests(hosts: Hosts) -> String {
    let workload = |role: Role, rest: &str| {
        let (name, address) = (account(role), hosts.admin(role).ip());
        format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n  namespace: bench\n\
             ---\napiVersion: workload.weft.sh/v1alpha1\nkind: Workload\nmetadata:\n  name: {name}\n  \
             namespace: bench\nspec:\n  addresses: [{address}]\n  serviceAccount: {name}\n{rest}  \
             proxy:\n    inboundPort: 4143\n    adminPort: 4191\n"
        )
    };
    let ports = "  service: server\n  ports:\n  - name: app\n    port: 8080\n";
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: bench\n---\napiVersion: v1\nkind: \
         Service\nmetadata:\n  name: server\n  namespace: bench\nspec:\n  ports:\n  - name: app\n    \
         port: 8080\n{}{}",
        workload(Role::Outbound, ""),
        workload(Role::Inbound, ports),
    )
}

/// A control plane on a thread of its own, for proxies of any kind. Writes their tokens.
///
/// # Errors
/// As the system's.
pub fn start_control(hosts: Hosts, directory: &Path) -> io::Result<()> {
    let directory = directory.to_path_buf();
    std::fs::create_dir_all(directory.join("manifests"))?;
    std::fs::write(directory.join("manifests/all.yaml"), manifests(hosts))?;
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let tokio = runtime_real::current_thread().expect("an epoll instance");
        tokio.block_on(async move {
            let cluster = DirectoryCluster::open(directory.join("manifests"))
                .await
                .expect("the directory was made above");
            let runtime = runtime_real::runtime(Arc::new(cluster));
            let controller = bind_control(&runtime, hosts, &directory, None).await;
            let (_signal, never) = drain::channel();
            let _ = ready.send(());
            controller.serve(never).await;
        });
    });
    is_ready.recv().map_err(io::Error::other)
}

/// A control plane with its ports, and tokens for both proxies written to `directory`.
async fn bind_control(
    runtime: &Runtime,
    hosts: Hosts,
    directory: &Path,
    viz: Option<VizConfig>,
) -> Controller {
    let state = directory.join("state");
    let config = ControlConfig {
        listen: hosts.controller(),
        viz,
        identity: IdentityConfig { state_directory: state.clone(), ..IdentityConfig::default() },
        ..ControlConfig::default()
    };
    let controller = Controller::bind(runtime.clone(), config)
        .await
        .expect("free ports and a new state directory");
    let key = state::token_key(runtime, &state).await.expect("a key");
    for role in [Role::Outbound, Role::Inbound] {
        let name = format!("system:serviceaccount:bench:{}", account(role));
        let whose = ServiceAccountName::from_username(&name).expect("a name written here");
        let hour = Duration::from_secs(3600);
        let made = token::create(&*key, &whose, runtime.clock.wall(), hour);
        let file = directory.join(format!("{}.token", account(role)));
        std::fs::write(file, made.expect("the key signs")).expect("can be written");
    }
    controller
}

/// Sizes of the futures of tasks, by the tasks' names.
pub type TaskSizes = Arc<Mutex<BTreeMap<&'static str, usize>>>;

/// Both proxies, each on a thread whose allocations are counted as its role's. They wait for
/// their configuration.
pub struct ProxyThreads {
    configure: [mpsc::Sender<BTreeMap<String, String>>; 2],
    /// Of every task a proxy has started.
    pub task_sizes: TaskSizes,
}

impl ProxyThreads {
    /// Two threads. They are made before any other, so that tools can tell them by number.
    pub fn new() -> Self {
        let task_sizes = TaskSizes::default();
        let configure = [Role::Outbound, Role::Inbound].map(|role| {
            let (configure, configured) = mpsc::channel();
            let sizes = task_sizes.clone();
            thread::spawn(move || {
                if let Ok(variables) = configured.recv() {
                    run_proxy(role, &variables, sizes);
                }
            });
            configure
        });
        Self { configure, task_sizes }
    }

    /// Starts the proxies of a mesh and waits until both answer.
    ///
    /// # Errors
    /// Where they do not within ten seconds.
    pub fn start(&self, hosts: Hosts, directory: &Path) -> io::Result<()> {
        for role in [Role::Outbound, Role::Inbound] {
            let variables = environment(role, hosts, directory);
            self.configure[role as usize].send(variables).map_err(io::Error::other)?;
            wait_ready(hosts.admin(role))?;
        }
        Ok(())
    }
}

impl Default for ProxyThreads {
    fn default() -> Self {
        Self::new()
    }
}

fn run_proxy(role: Role, variables: &BTreeMap<String, String>, sizes: TaskSizes) {
    take_role(role);
    let config = Config::from_env(&|name: &str| variables.get(name).cloned());
    let config = config.expect("the environment written above is right");
    let tokio = runtime_real::current_thread().expect("an epoll instance");
    tokio.block_on(async move {
        let mut runtime = runtime_real::runtime(Arc::new(NoCluster));
        runtime.tasks = Arc::new(Measured { tasks: runtime.tasks.clone(), sizes });
        let (_signal, never) = drain::channel();
        proxy::run(runtime, config, Process::default(), never).await.expect("its ports are free");
    });
}

/// Tasks whose sizes are noted.
struct Measured {
    tasks: Arc<dyn Tasks>,
    sizes: TaskSizes,
}

impl Tasks for Measured {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        let bytes = size_of_val(&*task);
        if let Ok(mut sizes) = self.sizes.lock() {
            let largest = sizes.entry(name).or_default();
            *largest = bytes.max(*largest);
        }
        self.tasks.spawn(name, task);
    }
}

/// How long a proxy or control plane may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Waits until an admin server says that its process is ready.
///
/// # Errors
/// Where it does not within half a minute.
pub fn wait_ready(admin: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    while began.elapsed() < READY_WITHIN {
        if is_ready(admin).unwrap_or(false) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("what is at {admin} is not ready")))
}

fn is_ready(admin: SocketAddr) -> io::Result<bool> {
    Ok(ask_admin(admin, "/ready")?.contains(" 200 "))
}

/// An admin server's answer, head and all.
///
/// # Errors
/// As the kernel's.
pub fn ask_admin(admin: SocketAddr, path: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect(admin)?;
    connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The server behind the mesh: a thread for each connection, answers of one kind. Requests for
/// `/hold` wait for [`Server::release`].
#[derive(Default)]
pub struct Server {
    held: AtomicUsize,
    released: Mutex<bool>,
    release: Condvar,
}

impl Server {
    /// Serves in the background.
    ///
    /// # Errors
    /// Where its address is taken.
    pub fn start(hosts: Hosts) -> io::Result<Arc<Self>> {
        Ok(Self::accept_from(TcpListener::bind(hosts.server())?))
    }

    /// Serves what this listener accepts, in the background.
    pub fn accept_from(listener: TcpListener) -> Arc<Self> {
        let server = Arc::new(Self::default());
        let accepting = server.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let server = accepting.clone();
                let thread = thread::Builder::new().stack_size(64 * 1024);
                let _ = thread.spawn(move || server.serve(connection));
            }
        });
        server
    }

    /// Waits until this many requests are held.
    ///
    /// # Errors
    /// Where they are not within ten seconds.
    pub fn wait_held(&self, requests: usize) -> io::Result<()> {
        for _ in 0..5_000 {
            if self.held.load(Ordering::SeqCst) >= requests {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "requests did not reach the server"))
    }

    /// Answers all that are held, and holds no more.
    pub fn release(&self) {
        *self.released.lock().expect("nobody panics while holding it") = true;
        self.release.notify_all();
    }

    fn serve(&self, mut connection: TcpStream) -> Option<()> {
        connection.set_nodelay(true).ok()?;
        let answer = answer();
        let mut read = [0; 4096];
        loop {
            let bytes = connection.read(&mut read).ok().filter(|bytes| *bytes > 0)?;
            if read[..bytes].starts_with(b"GET /hold") {
                self.held.fetch_add(1, Ordering::SeqCst);
                let released = self.released.lock().ok()?;
                let wait = self.release.wait_while(released, |released| !*released);
                drop(wait.ok()?);
            }
            connection.write_all(&answer).ok()?;
        }
    }
}

/// A server's whole answer.
fn answer() -> Vec<u8> {
    let head = b"HTTP/1.1 200 OK\r\nserver: bench\r\ndate: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
        content-type: text/plain\r\ncontent-length: 63\r\nconnection: keep-alive\r\n\r\n";
    [head, BODY].concat()
}

/// A connection of a client of HTTP/1.
pub struct Client(TcpStream);

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// As the kernel's.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let connection = TcpStream::connect(to)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self(connection))
    }

    /// Sends a request.
    ///
    /// # Errors
    /// As the kernel's.
    pub fn send(&mut self, path: &str) -> io::Result<()> {
        self.send_to("server.bench.svc.cluster.local", path)
    }

    /// Sends a request to a host. `target` is a path, or a whole URI for an HTTP proxy.
    ///
    /// # Errors
    /// As the kernel's.
    pub fn send_to(&mut self, host: &str, target: &str) -> io::Result<()> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        self.0.write_all(request.as_bytes())
    }

    /// Reads a response's first bytes, in which its status is.
    ///
    /// # Errors
    /// As the kernel's, or where it is none of HTTP.
    pub fn receive_status(&mut self) -> io::Result<u16> {
        let mut read = [0; 4096];
        let bytes = self.0.read(&mut read)?;
        let status = std::str::from_utf8(read[..bytes].get(9..12).unwrap_or_default());
        status.ok().and_then(|status| status.parse().ok()).ok_or_else(|| {
            io::Error::other(format!("no status: {}", String::from_utf8_lossy(&read[..bytes])))
        })
    }

    /// Reads a whole response.
    ///
    /// # Errors
    /// Where it is not the one that [`Server`] gives.
    pub fn receive(&mut self) -> io::Result<()> {
        let mut read = [0; 4096];
        let mut bytes = 0;
        while !read[..bytes].ends_with(BODY) {
            match self.0.read(&mut read[bytes..])? {
                0 => break,
                more => bytes += more,
            }
        }
        match read[..bytes].starts_with(b"HTTP/1.1 200 ") && read[..bytes].ends_with(BODY) {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "not the server's answer: {}",
                String::from_utf8_lossy(&read[..bytes])
            ))),
        }
    }

    /// One exchange.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn exchange(&mut self) -> io::Result<()> {
        self.send("/")?;
        self.receive()
    }
}
