//! The control plane's growth: memory and latency of updates with a thousand services, ten thousand
//! pods and two thousand proxies over real sockets; a restart and the full resync after it. The proxies
//! are streams of their API's client, each with a connection of its own, without TLS (loopback).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesh_core::api::client::{ApiError, ApiStream, ControlAddress, ControlClient};
use mesh_core::model::identity::{DnsName, Identity, ServerTls};
use mesh_core::model::target::{NameAddr, Target};
use mesh_core::runtime::Runtime;
use mesh_core::wire::tls::Credentials;
use runtime_real::no_cluster::NoCluster;
use tokio::sync::{mpsc, watch};

use super::Table;
use crate::mesh::Hosts;
use crate::processes::ControlPlane;

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Services.
    pub services: usize,
    /// Pods of each.
    pub pods_each: usize,
    /// Proxies that are connected.
    pub proxies: usize,
}

/// Services that a proxy calls, of which the first is everybody's.
const CALLED: usize = 5;

/// Streams of each proxy: its own port's policy, and of each service it calls the policy and endpoints.
const STREAMS: usize = 1 + 2 * CALLED;

/// What an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// All of a size, step by step.
///
/// # Errors
/// As the system's, or where an answer does not come within a minute.
pub fn control(size: Size) -> io::Result<Table> {
    let mut table = Table::new(
        "controller: services, pods, connected proxies of eleven streams each; ms until the last heard. \
         \"Change\" is one pod out of readiness in a service that all follow, from the file's writing on \
         (looked for twice a second); \"spread\" from the first that heard to the last",
        &[
            "services",
            "pods",
            "proxies",
            "ready ms",
            "RSS MB empty",
            "RSS MB",
            "answer all ms",
            "change ms",
            "spread ms",
            "CPU ms/change",
            "resync ms",
            "RSS MB then",
            "updates seen",
        ],
    );
    let directory = tempfile::tempdir()?;
    let hosts = Hosts::new(0);
    write_mesh(directory.path(), size)?;
    let plane = ControlPlane::start(hosts, directory.path())?;
    let (ready, empty) = (millis(plane.ready_after), megabytes(&plane)?);

    let tokio = runtime_real::current_thread()?;
    let (heard, mut hearing) = mpsc::channel(100_000);
    let ends = Ends::default();
    let (stop, stopped) = watch::channel(false);
    let began = Instant::now();
    tokio.block_on(async {
        let runtime = runtime_real::runtime(Arc::new(NoCluster));
        for nth in 0..size.proxies {
            connect(&runtime, hosts, size, nth, &heard, &stopped, &ends);
        }
        all_heard(&mut hearing, size.proxies * STREAMS, &ends).await
    })?;
    let answered = began.elapsed();
    let full = megabytes(&plane)?;

    let mut changes = Vec::new();
    for ready in [false, true, false, true] {
        drain(&tokio, &mut hearing);
        let (cpu, began) = (plane.process.cpu()?, Instant::now());
        write_services(directory.path(), 0, size, ready)?;
        let [first, last] = tokio.block_on(all_heard(&mut hearing, size.proxies, &ends))?;
        let spent = plane.process.cpu()? - cpu;
        changes.push([millis(last - began), millis(last - first), millis(spent)]);
    }
    let middle = |at: usize| median(changes.iter().map(|change| change[at]).collect());

    drain(&tokio, &mut hearing);
    drop(plane);
    let began = Instant::now();
    let plane = ControlPlane::start(hosts, directory.path())?;
    tokio.block_on(all_heard(&mut hearing, size.proxies * STREAMS, &ends))?;
    let resynced = began.elapsed();
    let after = megabytes(&plane)?;
    stop.send_replace(true);
    table.rows.push(vec![
        size.services as f64,
        (size.services * size.pods_each) as f64,
        size.proxies as f64,
        ready,
        empty,
        full,
        millis(answered),
        middle(0),
        middle(1),
        middle(2),
        millis(resynced),
        after,
        changes.len() as f64,
    ]);
    Ok(table)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn megabytes(plane: &ControlPlane) -> io::Result<f64> {
    Ok(plane.process.rss_kb()? as f64 / 1024.0)
}

/// Waits for so many streams to hear something; when the first and the last did.
async fn all_heard(
    hearing: &mut mpsc::Receiver<usize>,
    streams: usize,
    ends: &Ends,
) -> io::Result<[Instant; 2]> {
    let mut first = None;
    for nth in 0..streams {
        let next = tokio::time::timeout(PATIENCE, hearing.recv()).await;
        if !matches!(next, Ok(Some(_))) {
            let ends = ends.lock().map(|ends| ends.clone()).unwrap_or_default();
            return Err(io::Error::other(format!(
                "{nth} of {streams} streams heard anything; so many ended: {ends:?}"
            )));
        }
        first.get_or_insert_with(Instant::now);
    }
    Ok([first.unwrap_or_else(Instant::now), Instant::now()])
}

/// Forgets what was heard, until nothing has been for half a second.
fn drain(tokio: &tokio::runtime::Runtime, hearing: &mut mpsc::Receiver<usize>) {
    let quiet = Duration::from_millis(500);
    tokio.block_on(async {
        while let Ok(Some(_)) = tokio::time::timeout(quiet, hearing.recv()).await {}
    });
}

/// Why streams ended, and how many did.
type Ends = Arc<Mutex<BTreeMap<String, usize>>>;

/// A proxy's streams, each asked for again when it ends.
fn connect(
    runtime: &Runtime,
    hosts: Hosts,
    size: Size,
    nth: usize,
    heard: &mpsc::Sender<usize>,
    stopped: &watch::Receiver<bool>,
    ends: &Ends,
) {
    let at = |address: std::net::SocketAddr| {
        let address = ControlAddress { authority: NameAddr::from(address), tls: None };
        let name = "client.bench.serviceaccount.identity.linkerd.cluster.local";
        let name = DnsName::new(name).expect("a name written here");
        let local = ServerTls { identity: Identity::Dns(name.clone()), server_name: name };
        ControlClient::new(runtime, address, Credentials::new(runtime, local))
    };
    let controller = hosts.controller();
    // One connection each: a proxy has two, of which the policies' carries more.
    let client = at(controller.policy);
    let service = nth % size.services;
    let workload =
        format!(r#"{{"ns":"bench","pod":"w{service}-{}"}}"#, nth / size.services % size.pods_each);
    let follow = |question: Question| {
        let (runtime, client, workload) = (runtime.clone(), client.clone(), workload.clone());
        let (heard, mut stopped, ends) = (heard.clone(), stopped.clone(), ends.clone());
        runtime.clone().spawn("stream", async move {
            let following = async {
                loop {
                    let end = question.follow(&client, &workload, || heard.send(nth)).await;
                    let end = end.map_or("the server's end".to_string(), |error| error.to_string());
                    if let Ok(mut ends) = ends.lock() {
                        *ends.entry(end).or_default() += 1;
                    }
                    runtime.sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = following => {}
            }
        });
    };
    follow(Question::Own);
    for called in 0..CALLED {
        // Everybody's first is the one that changes.
        let service = if called == 0 { 0 } else { (nth * 7 + called * 131) % size.services };
        let name = format!("s{service}.bench.svc.cluster.local:8080");
        let name: NameAddr = name.parse().expect("a name written here");
        follow(Question::Policy(Target::Name(name.clone())));
        follow(Question::Endpoints(name.to_string()));
    }
}

enum Question {
    Own,
    Policy(Target),
    Endpoints(String),
}

impl Question {
    /// Follows the answers until the stream ends. Why it did, where that was not the server's wish.
    async fn follow<Told: Future>(
        &self,
        client: &ControlClient,
        workload: &str,
        tell: impl Fn() -> Told,
    ) -> Option<ApiError> {
        match self {
            Self::Own => hear(client.watch_server_policy(workload, 8080).await, tell).await,
            Self::Policy(to) => hear(client.watch_client_policy(workload, to).await, tell).await,
            Self::Endpoints(path) => hear(client.watch_endpoints(path, "").await, tell).await,
        }
    }
}

async fn hear<T, Told: Future>(
    asked: Result<ApiStream<T>, ApiError>,
    tell: impl Fn() -> Told,
) -> Option<ApiError> {
    let mut answers = match asked {
        Ok(answers) => answers,
        Err(error) => return Some(error),
    };
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(_) => tell().await,
            Err(error) => return Some(error),
        };
    }
    None
}

/// Services of a file.
const PER_FILE: usize = 50;

fn write_mesh(directory: &Path, size: Size) -> io::Result<()> {
    std::fs::create_dir_all(directory.join("manifests"))?;
    std::fs::write(
        directory.join("manifests/accounts.yaml"),
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: bench}\n---\napiVersion: v1\nkind: ServiceAccount\n\
         metadata: {name: default, namespace: bench}\n",
    )?;
    (0..size.services.div_ceil(PER_FILE))
        .try_for_each(|file| write_services(directory, file, size, true))
}

/// The `file`th file of services. The first pod of the first of them is as `ready` says.
fn write_services(directory: &Path, file: usize, size: Size, ready: bool) -> io::Result<()> {
    let mut text = String::new();
    for service in file * PER_FILE..((file + 1) * PER_FILE).min(size.services) {
        let (high, low) = (service / 250, service % 250);
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{service}, namespace: bench}}\nspec: \
             {{clusterIP: 10.96.{high}.{low}, ports: [{{name: http, port: 8080}}]}}\n"
        );
        for pod in 0..size.pods_each {
            let ready = ready || service != 0 || pod != 0;
            let _ = write!(
                text,
                "---\napiVersion: workload.weft.sh/v1alpha1\nkind: Workload\nmetadata: {{name: w{service}-{pod}, \
                 namespace: bench}}\nspec: {{addresses: [10.{high}.{low}.{pod}], service: s{service}, \
                 serviceAccount: default, ready: {ready}, proxy: {{inboundPort: 4143, adminPort: 4191}}, ports: \
                 [{{name: http, port: 8080}}]}}\n"
            );
        }
    }
    let aside = directory.join("aside.yaml");
    std::fs::write(&aside, text)?;
    std::fs::rename(aside, directory.join(format!("manifests/services-{file}.yaml")))
}
