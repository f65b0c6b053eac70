//! An API server: the simulator's, with a front of HTTP as Kubernetes speaks it. Lists in pages,
//! watches with bookmarks, 410 and conflicts come from the simulator's store; what that does not keep
//! (leases, Secrets, events, webhook configurations) is kept here. Writes are admitted by webhooks.
//!
//! It is not a proxy for Kubernetes' validation: it checks what its clients got wrong before.

mod admission;
mod kept;
mod named;
mod objects;
mod patch;
mod place;
mod reply;
mod tls;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use mesh_core::resource::{Kind, Object, ObjectRef};
use mesh_core::runtime::Cluster;
use runtime_sim::cluster::{ApiFault, ApiServer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use kept::Kept;
use place::Place;
use reply::{Reply, status};

/// Whom the simulator's server takes all requests of this front for.
pub const CLIENT: &str = "front";
/// What clients have to show.
const TOKEN: &str = "let-me-in";

/// A running API server. Dropping it closes its port and every connection.
pub struct Front {
    pub server: ApiServer,
    address: SocketAddr,
    directory: PathBuf,
    /// The directory, where it is to go with the server.
    _own: Option<tempfile::TempDir>,
    shared: Arc<Shared>,
    stop: watch::Sender<u64>,
    listening: tokio::task::JoinHandle<()>,
}

pub struct Shared {
    server: ApiServer,
    door: Arc<dyn Cluster>,
    kept: Kept,
    tls: tls::ServerTls,
    /// Requests as they came: `GET /api/v1/pods?limit=500`.
    requests: Mutex<Vec<String>>,
    /// Kinds that are not installed, and versions that are not served.
    absent: Mutex<BTreeSet<String>>,
    /// JSON that is laid over objects: what no typed object can say.
    overlays: Mutex<BTreeMap<ObjectRef, Value>>,
    /// Pages are no longer than this, whatever is asked for.
    page_max: Mutex<usize>,
    /// Lists whose further pages can be asked for.
    pages: Mutex<objects::Pages>,
    /// What was numbered so far: reviews, and names that were made up.
    numbered: AtomicU64,
}

impl Front {
    /// Starts one on a free port of the loopback address.
    pub async fn start() -> Self {
        let own = tempfile::tempdir().expect("a directory");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let front = Self::listen(listen, own.path(), ApiServer::default()).await;
        let mut front = front.expect("a port");
        front._own = Some(own);
        front
    }

    /// Serves a server at an address, with its certificate's authority in a directory.
    pub async fn listen(
        listen: SocketAddr,
        directory: &Path,
        server: ApiServer,
    ) -> std::io::Result<Self> {
        let clock = Arc::new(runtime_real::clock::SystemClock::new());
        let shared = Arc::new(Shared {
            door: server.door(CLIENT, clock),
            server: server.clone(),
            kept: Kept::default(),
            tls: tls::ServerTls::make(directory),
            requests: Mutex::default(),
            absent: Mutex::default(),
            overlays: Mutex::default(),
            page_max: Mutex::new(usize::MAX),
            pages: Mutex::default(),
            numbered: AtomicU64::default(),
        });
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(0);
        let listening = tokio::spawn(accept_loop(listener, shared.clone(), stopped));
        let directory = directory.to_owned();
        Ok(Self { server, address, directory, _own: None, shared, stop, listening })
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_with(TOKEN)
    }

    /// The same with another token.
    pub fn kubeconfig_with(&self, token: &str) -> PathBuf {
        let path = self.directory.join(format!("kubeconfig-{token}"));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: front\n\
             clusters:\n- name: front\n  cluster:\n    server: https://{}\n    \
             tls-server-name: localhost\n    certificate-authority: {}\n\
             users:\n- name: weft\n  user: {{token: {token}}}\n\
             contexts:\n- name: front\n  context: {{cluster: front, user: weft}}\n",
            self.address,
            self.directory.join("ca.crt").display(),
        );
        std::fs::write(&path, text).expect("to write");
        path
    }

    /// Resets every connection, once.
    pub fn cut(&self) {
        self.stop.send_modify(|times| *times += 1);
    }

    /// Closes the port and every connection, and opens the port again when the guard is called.
    pub async fn down(&mut self) {
        self.listening.abort();
        self.cut();
        // The port is free once the task is gone.
        let _ = (&mut self.listening).await;
    }

    pub async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the same port");
        let stopped = self.stop.subscribe();
        self.listening = tokio::spawn(accept_loop(listener, self.shared.clone(), stopped));
    }

    /// Makes an object of which no watch ever tells: it is forgotten before they are back.
    pub fn lose_history(&self, object: &Object) {
        self.server.set_fault(None, ApiFault::WatchOutage);
        self.server.apply(object.clone());
        self.server.relist(None);
        self.server.clear_fault(None, ApiFault::WatchOutage);
    }

    /// From now on the server has none of this: `httproutes.gateway.networking.k8s.io`, or a version
    /// of it: `policy.linkerd.io/v1beta3/servers`.
    pub fn remove(&self, what: &str) {
        self.shared.absent.lock().unwrap().insert(what.to_owned());
    }

    pub fn restore(&self, what: &str) {
        self.shared.absent.lock().unwrap().remove(what);
    }

    /// Lays JSON over an object as it is served; nothing takes it off again.
    pub fn overlay(&self, name: ObjectRef, json: Option<Value>) {
        let mut overlays = self.shared.overlays.lock().unwrap();
        match json {
            Some(json) => drop(overlays.insert(name, json)),
            None => drop(overlays.remove(&name)),
        }
    }

    pub fn set_page_max(&self, objects: usize) {
        *self.shared.page_max.lock().unwrap() = objects;
    }

    /// Forgets lists whose pages are still to come.
    pub fn expire_pages(&self) {
        self.shared.pages.lock().unwrap().clear();
    }

    /// What came so far that begins so.
    pub fn requests(&self, beginning: &str) -> Vec<String> {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|request| request.starts_with(beginning)).cloned().collect()
    }

    /// An object of a sort that the simulator does not keep, by its path.
    pub fn kept(&self, path: &str) -> Option<Value> {
        self.shared.kept.find(path)
    }

    /// Every one below a path.
    pub fn kept_below(&self, path: &str) -> Vec<Value> {
        self.shared.kept.below(path)
    }

    pub fn keep(&self, path: &str, object: Value) {
        self.shared.kept.put(path, object);
    }

    /// Calls `done` until it says so, and panics after a while.
    pub async fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let changes = self.server.changes();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
            let _ = tokio::time::timeout(Duration::from_millis(10), changes.notified()).await;
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn accept_loop(listener: TcpListener, shared: Arc<Shared>, stop: watch::Receiver<u64>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (shared, mut stop) = (shared.clone(), stop.clone());
        stop.mark_unchanged();
        tokio::spawn(async move {
            let serving = async {
                let Ok(tls) = shared.tls.acceptor.accept(tcp).await else { return };
                let of_request = shared.clone();
                let service = service_fn(move |request| {
                    let shared = of_request.clone();
                    async move { Ok::<_, std::convert::Infallible>(answer(shared, request).await) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(tls), service).await;
            };
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                () = serving => {}
            }
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Reply> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    shared.requests.lock().unwrap().push(format!("{} {target}", head.method));
    let shown = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    if shown != Some(&format!("Bearer {TOKEN}")) {
        return status(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let form = head.headers.get("content-type").and_then(|value| value.to_str().ok());
    let form = form.unwrap_or_default().to_owned();
    let asked = Asked { method: head.method, path: head.uri.path().to_owned(), target, form, body };
    if let Some(place) = shared.place(&asked.path) {
        return match (place.object_ref(), place.part.as_deref()) {
            (None, _) => objects::collection(shared, &place, &asked).await,
            (Some(name), None) => named::answer(&shared, &name, &asked).await,
            (Some(name), Some("status")) => objects::write_status(&shared, &name, &asked).await,
            (Some(name), Some("token")) if name.kind == Kind::ServiceAccount => {
                named::issue(&shared, &name, &asked)
            }
            _ => status(StatusCode::NOT_FOUND, "the server could not find the requested resource"),
        };
    }
    if asked.path.ends_with("/tokenreviews") {
        return kept::review(&shared, &asked).await;
    }
    shared.kept.answer(&asked)
}

/// A request.
pub struct Asked {
    method: Method,
    path: String,
    /// With its query.
    target: String,
    /// Its content type.
    form: String,
    body: hyper::body::Bytes,
}

impl Asked {
    fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.replace("%3A", ":"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Shared {
    /// What a path names of the kinds that the simulator keeps, where that is served.
    fn place(&self, path: &str) -> Option<Place> {
        let absent = self.absent.lock().unwrap();
        Place::of(path, |kind, version| {
            let plural = kind.plural();
            !absent.contains(&format!("{plural}.{}", kind.group()))
                && !absent.contains(&format!("{version}/{plural}"))
        })
    }

    /// The labels of a namespace, as far as it is there.
    fn namespace_labels(&self, name: &str) -> Value {
        let (namespace, name) = (String::new(), name.to_owned());
        let found = self.server.find(&ObjectRef { kind: Kind::Namespace, namespace, name });
        let labels = found.and_then(|namespace| namespace.meta().labels.clone());
        json!(labels.unwrap_or_default())
    }

    /// A number that nothing else has.
    fn number(&self) -> u64 {
        self.numbered.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives an object a name that has only the beginning of one.
    fn name(&self, object: &mut Value) {
        let meta = &mut object["metadata"];
        if meta["name"].is_null()
            && let Some(beginning) = meta["generateName"].as_str()
        {
            meta["name"] = json!(format!("{beginning}{:05}", self.number()));
        }
    }
}

impl Front {
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}
