//! A proxy's growth: with connections, destinations, endpoints; after a burst; when it is overloaded.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Table;
use crate::allocations::Role;
use crate::mesh::{Client, Hosts, Server, ask_admin, manifests};
use crate::processes::{self, ControlPlane, Proxies};

/// Requests over which CPU is taken.
const COUNTED: u64 = 3_000;

/// Until figures of memory are read: a proxy looks for what it can give back every second.
const SETTLED: Duration = Duration::from_secs(2);

/// A control plane, two proxies and a server, as processes but for the server.
struct Mesh {
    hosts: Hosts,
    directory: tempfile::TempDir,
    proxies: Proxies,
    server: Arc<Server>,
    /// Of the server on every address, which unmeshed workloads share.
    port: u16,
    _control: ControlPlane,
}

impl Mesh {
    fn start(more: &[(&str, String)]) -> io::Result<Self> {
        let (hosts, directory) = (Hosts::new(0), tempfile::tempdir()?);
        std::fs::create_dir_all(directory.path().join("manifests"))?;
        std::fs::write(directory.path().join("manifests/all.yaml"), manifests(hosts))?;
        let control = ControlPlane::start(hosts, directory.path())?;
        let server = Server::start(hosts)?;
        let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = everywhere.local_addr()?.port();
        Server::accept_from(everywhere);
        let program = processes::beside("weft-proxy")?;
        let mut more = more.to_vec();
        more.push(("WEFT_OUTBOUND_HTTP_PROXY_LISTEN_ADDRS", hosts.http_proxy().to_string()));
        let proxies = Proxies::start_with(&program, hosts, directory.path(), &more)?;
        Ok(Self { hosts, directory, proxies, server, port, _control: control })
    }

    /// Replaces what `more.yaml` says, and waits until it is in force.
    fn apply(&self, manifest: &str) -> io::Result<()> {
        let path = self.directory.path().join("manifests/more.yaml");
        let aside = self.directory.path().join("more.aside");
        std::fs::write(&aside, manifest)?;
        std::fs::rename(aside, path)?;
        // The directory is looked at twice a second.
        sleep(Duration::from_secs(2));
        Ok(())
    }

    /// CPU in us of each proxy per request of `requests`.
    fn cost(
        &self,
        requests: u64,
        mut exchange: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<[f64; 2]> {
        let before = self.proxies.cpu()?;
        (0..requests).try_for_each(&mut exchange)?;
        let after = self.proxies.cpu()?;
        let per_request =
            |at: usize| (after[at] - before[at]).as_secs_f64() / requests as f64 * 1e6;
        Ok([per_request(0), per_request(1)])
    }

    fn rss_mb(&self) -> io::Result<[f64; 2]> {
        Ok(self.proxies.rss_kb()?.map(|kb| kb as f64 / 1024.0))
    }

    /// Lines and bytes of the outbound proxy's metrics.
    fn metrics(&self) -> io::Result<[f64; 2]> {
        let text = ask_admin(self.hosts.admin(Role::Outbound), "/metrics")?;
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        Ok([series as f64, text.len() as f64 / 1024.0])
    }
}

/// With connections that clients keep open.
///
/// # Errors
/// As the system's, or where a request fails.
pub fn connections(counts: &[usize]) -> io::Result<Table> {
    let mut table = Table::new(
        "open client connections (idle CPU in % of a core; requests one after another, over all)",
        &[
            "connections",
            "RSS MB out",
            "RSS MB in",
            "idle % out",
            "idle % in",
            "us/req out",
            "us/req in",
        ],
    );
    let mesh = Mesh::start(&[])?;
    let mut clients = Vec::new();
    for count in counts {
        while clients.len() < *count {
            let mut client = Client::connect(mesh.hosts.call())?;
            client.exchange()?;
            clients.push(client);
        }
        sleep(SETTLED);
        let [out, inbound] = mesh.rss_mb()?;
        let before = mesh.proxies.cpu()?;
        sleep(Duration::from_secs(2));
        let after = mesh.proxies.cpu()?;
        let idle = |at: usize| (after[at] - before[at]).as_secs_f64() * 50.0;
        let [us_out, us_in] = mesh.cost(COUNTED, |nth| {
            let client = nth as usize % clients.len();
            clients[client].exchange()
        })?;
        table.rows.push(vec![*count as f64, out, inbound, idle(0), idle(1), us_out, us_in]);
    }
    Ok(table)
}

/// With destinations, each a service of its own with one endpoint and label sets of its own.
///
/// # Errors
/// As the system's, or where a request fails.
pub fn destinations(counts: &[usize]) -> io::Result<Table> {
    let mut table = Table::new(
        "destinations, one endpoint each (requests in turn to all)",
        &[
            "destinations",
            "RSS MB out",
            "us/req first",
            "us/req then",
            "series",
            "metrics kB",
            "scrape ms",
        ],
    );
    let mesh = Mesh::start(&[])?;
    let most = counts.iter().max().copied().unwrap_or(0);
    let mut manifest = String::new();
    for service in 0..most {
        append_service(&mut manifest, &format!("s{service}"), mesh.port);
        append_workload(&mut manifest, service, &format!("s{service}"), mesh.port);
    }
    mesh.apply(&manifest)?;
    let mut client = Client::connect(mesh.hosts.http_proxy())?;
    let mut exchange = |service: usize| {
        let host = format!("s{service}.bench.svc.cluster.local:{}", mesh.port);
        client.send_to(&host, &format!("http://{host}/"))?;
        client.receive()
    };
    let mut known = 0;
    for count in counts {
        let fresh = (*count - known) as u64;
        let [first, _] = mesh.cost(fresh.max(1), |nth| exchange(known + nth as usize))?;
        known = *count;
        let [then, _] = mesh.cost(COUNTED, |nth| exchange(nth as usize % count))?;
        sleep(SETTLED);
        let [out, _] = mesh.rss_mb()?;
        let began = Instant::now();
        let [series, kb] = mesh.metrics()?;
        let scrape_ms = began.elapsed().as_secs_f64() * 1e3;
        table.rows.push(vec![*count as f64, out, first, then, series, kb, scrape_ms]);
    }
    Ok(table)
}

/// With endpoints of one service.
///
/// # Errors
/// As the system's, or where a request fails.
pub fn endpoints(counts: &[usize]) -> io::Result<Table> {
    let mut table = Table::new(
        "endpoints of one service (requests one after another; a connection to an endpoint is made when it is first picked)",
        &["endpoints", "RSS MB out", "us/req out", "update ms CPU", "series", "metrics kB"],
    );
    let mesh = Mesh::start(&[])?;
    let mut client = Client::connect(mesh.hosts.http_proxy())?;
    for count in counts {
        let mut manifest = String::new();
        append_service(&mut manifest, "many", mesh.port);
        for nth in 0..*count {
            append_workload(&mut manifest, nth, "many", mesh.port);
        }
        let before = mesh.proxies.cpu()?[0];
        mesh.apply(&manifest)?;
        let update_ms = (mesh.proxies.cpu()?[0] - before).as_secs_f64() * 1e3;
        let host = format!("many.bench.svc.cluster.local:{}", mesh.port);
        let mut exchange = |_| {
            client.send_to(&host, &format!("http://{host}/"))?;
            client.receive()
        };
        (0..2 * *count as u64).try_for_each(&mut exchange)?;
        let [us, _] = mesh.cost(COUNTED, &mut exchange)?;
        sleep(SETTLED);
        let [out, _] = mesh.rss_mb()?;
        let [series, kb] = mesh.metrics()?;
        table.rows.push(vec![*count as f64, out, us, update_ms, series, kb]);
    }
    Ok(table)
}

/// What memory may be above what it was before a burst, and how long after its end.
const RETURNED: f64 = 1.2;
const RETURNS_WITHIN: Duration = Duration::from_secs(30);

/// What a burst of requests in flight leaves behind: seconds until memory is near what it
/// was. Each time right after the same few requests, so that pages of the programs' text, which go
/// and come back, are there alike.
///
/// # Errors
/// As the system's, or where a request fails; where memory does not return within half a minute.
pub fn burst(requests: usize) -> io::Result<Table> {
    let mut table = Table::new(
        "a burst of requests in flight at once, each on a connection of its own; MB",
        &[
            "requests",
            "before out",
            "before in",
            "peak out",
            "peak in",
            "after out",
            "after in",
            "s to return",
        ],
    );
    let mesh = Mesh::start(&[])?;
    let mut client = Client::connect(mesh.hosts.call())?;
    let mut at_work = || {
        (0..COUNTED / 10).try_for_each(|_| client.exchange())?;
        mesh.rss_mb()
    };
    at_work()?;
    sleep(SETTLED);
    let before = at_work()?;
    let mut clients = hold(&mesh, requests)?;
    let peak = mesh.rss_mb()?;
    mesh.server.release();
    clients.iter_mut().try_for_each(Client::receive)?;
    drop(clients);
    let ended = Instant::now();
    let returned = |now: [f64; 2]| (0..2).all(|at| now[at] <= before[at] * RETURNED);
    let mut now = at_work()?;
    while !returned(now) && ended.elapsed() < RETURNS_WITHIN {
        sleep(Duration::from_millis(500));
        now = at_work()?;
    }
    let seconds = ended.elapsed().as_secs_f64();
    let row = [before, peak, now].concat();
    table.rows.push([&[requests as f64], &row[..], &[seconds]].concat());
    match returned(now) {
        true => Ok(table),
        false => Err(io::Error::other(format!("memory does not return{}", table.text()))),
    }
}

/// Requests that the server holds, as many as asked for.
fn hold(mesh: &Mesh, requests: usize) -> io::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for held in 1..=requests {
        let mut client = Client::connect(mesh.hosts.call())?;
        client.send("/hold")?;
        clients.push(client);
        // Not all at once: the proxy opens a connection for each, and the backlog is short.
        if held % 16 == 0 {
            mesh.server.wait_held(held)?;
        }
    }
    mesh.server.wait_held(requests)?;
    Ok(clients)
}

/// Three times as many requests as may be in flight: the rest are refused at once, and the proxy
/// serves again once there is room.
///
/// # Errors
/// As the system's; where what is admitted, refused or served after is not what it must be.
pub fn overload() -> io::Result<Table> {
    const BOUND: usize = 100;
    let mut table = Table::new(
        "overload: requests beyond LINKERD2_PROXY_OUTBOUND_MAX_IN_FLIGHT",
        &["bound", "offered", "refused 503", "us CPU/refusal", "RSS MB out", "served then"],
    );
    let bound = BOUND.to_string();
    let mesh = Mesh::start(&[("LINKERD2_PROXY_OUTBOUND_MAX_IN_FLIGHT", bound)])?;
    let mut admitted = hold(&mesh, BOUND)?;
    let mut beyond = Client::connect(mesh.hosts.call())?;
    let mut refused = 0;
    let [us, _] = mesh.cost(2 * BOUND as u64, |_| {
        beyond.send("/")?;
        refused += usize::from(beyond.receive_status()? == 503);
        Ok(())
    })?;
    let [rss, _] = mesh.rss_mb()?;
    mesh.server.release();
    admitted.iter_mut().try_for_each(Client::receive)?;
    let served = admitted.iter_mut().map(Client::exchange).filter(Result::is_ok).count();
    let row = [BOUND, 3 * BOUND, refused].map(|count| count as f64);
    table.rows.push([&row[..], &[us, rss, served as f64]].concat());
    match (refused, served) {
        (refused, served) if refused == 2 * BOUND && served == BOUND => Ok(table),
        _ => Err(io::Error::other(format!(
            "overload is not shed or not recovered from{}",
            table.text()
        ))),
    }
}

fn append_service(manifest: &mut String, name: &str, port: u16) {
    let _ = write!(
        manifest,
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: bench}}\nspec: {{ports: \
         [{{name: http, port: {port}}}]}}\n"
    );
}

/// The `nth` workload, unmeshed, at an address of its own where the server is.
fn append_workload(manifest: &mut String, nth: usize, service: &str, port: u16) {
    let address = SocketAddr::from(([127, 200, (nth / 250) as u8, (nth % 250) as u8 + 1], port));
    let _ = write!(
        manifest,
        "---\napiVersion: workload.weft.sh/v1alpha1\nkind: Workload\nmetadata: {{name: w{nth}, namespace: \
         bench}}\nspec: {{addresses: [{}], service: {service}, serviceAccount: default, ports: [{{name: \
         http, port: {port}}}]}}\n",
        address.ip()
    );
}
