//! A running demo: its processes, and what was seen of them.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mesh_core::control::token::AUDIENCE;
use mesh_core::runtime::Entropy;
use runtime_real::entropy::SystemEntropy;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::figures::{self, Counts, Edge, Histogram, Scraped, Tally, Told};
use super::mesh::{self, Instance, Layout, NAMESPACE, Network, SERVICES};
use super::process::{Process, describe};
use super::programs::Programs;
use super::scrape;
use super::table::{EdgeRow, ProxyRow, View};
use super::{DemoError, DemoOptions};
use crate::{token, viz};

/// How long everything may take to get ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How often readiness is asked for.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Over how many looks rates and latencies are taken.
const WINDOW_LOOKS: usize = 5;

/// How many events are shown.
const EVENTS_MAX: usize = 6;

/// The demo, started or not. Dropping it ends its processes and removes its directory.
pub(crate) struct Demo {
    programs: Programs,
    network: Network,
    layout: Layout,
    rate: f64,
    proxy_log: String,
    entropy: SystemEntropy,
    // Processes before the directory: fields are dropped in order, and processes have files there.
    controller: Option<Process>,
    instances: Vec<Running>,
    _temporary: Option<TempDir>,

    started: Instant,
    tally: Tally,
    looks: VecDeque<Look>,
    events: VecDeque<String>,
}

/// An instance and its processes.
struct Running {
    instance: Instance,
    application: Option<Process>,
    proxy: Option<Process>,
    /// What the application told last.
    told: watch::Receiver<String>,
    /// Of the proxy that runs, and of those before it.
    now: ProxyFigures,
    before: ProxyFigures,
}

/// What a proxy used.
#[derive(Clone, Copy, Debug, Default)]
struct ProxyFigures {
    rss_bytes: u64,
    cpu_seconds: f64,
    requests: u64,
}

/// What was seen at one time.
struct Look {
    at: Instant,
    totals: Told,
    proxies: Vec<ProxyFigures>,
}

impl Demo {
    /// Prepares everything and starts nothing.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(crate) fn new(options: &DemoOptions) -> Result<Self, DemoError> {
        let programs = Programs::find()?;
        let entropy = SystemEntropy::new();
        let network = Network::free(entropy.next_u64()).map_err(DemoError::io("the loopback"))?;
        let (temporary, directory) = match &options.directory {
            Some(directory) => (None, directory.clone()),
            None => {
                remove_stale_directories();
                let prefix = format!("{DIRECTORY_PREFIX}{}-", std::process::id());
                let made = tempfile::Builder::new().prefix(&prefix).tempdir();
                let made = made.map_err(DemoError::io("a temporary directory"))?;
                let path = made.path().to_owned();
                (Some(made), path)
            }
        };
        let layout = Layout { directory };
        let manifests = layout.manifests();
        fs::create_dir_all(&manifests).map_err(DemoError::io(manifests.display().to_string()))?;
        for (name, yaml) in mesh::manifests(network) {
            let path = manifests.join(name);
            fs::write(&path, yaml).map_err(DemoError::io(path.display().to_string()))?;
        }
        Ok(Self {
            programs,
            network,
            layout,
            rate: options.rate,
            proxy_log: options.proxy_log.clone(),
            entropy,
            controller: None,
            instances: Instance::all().map(Running::new).collect(),
            _temporary: temporary,
            started: Instant::now(),
            tally: Tally::default(),
            looks: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// Starts the controller, then proxies and services, and last what sends traffic.
    ///
    /// # Errors
    /// [`DemoError`], with the log of what did not get ready.
    pub(crate) async fn start(&mut self) -> Result<(), DemoError> {
        let deadline = Instant::now() + START_TIMEOUT;
        self.start_controller()?;
        let admin = self.network.controller(9996);
        let controller = self.controller.as_mut().expect("it was started");
        ready("the controller", controller, admin, deadline).await?;
        for service in &SERVICES {
            let path = self.layout.token(service.name);
            token::create(
                &self.layout.state(),
                NAMESPACE,
                service.name,
                AUDIENCE,
                Duration::from_secs(86_400),
            )
            .await
            .map_err(|error| DemoError::Token(error.to_string()))
            .and_then(|token| {
                fs::write(&path, token).map_err(DemoError::io(path.display().to_string()))
            })?;
        }
        for index in 0..self.instances.len() {
            self.start_proxy(index)?;
        }
        for running in &mut self.instances {
            let what = format!("the proxy of {}", running.instance.name());
            let admin = running.instance.admin(self.network);
            let proxy = running.proxy.as_mut().expect("it was started");
            ready(&what, proxy, admin, deadline).await?;
        }
        for index in 0..self.instances.len() {
            self.start_application(index)?;
            self.instances[index].listens(deadline).await?;
        }
        self.started = Instant::now();
        Ok(())
    }

    /// Where the controller answers browsers.
    pub(crate) fn console(&self) -> String {
        format!("http://{}/", self.network.controller(viz::PORT))
    }

    fn start_controller(&mut self) -> Result<(), DemoError> {
        let command = mesh::controller_command(&self.programs.weft, &self.layout, self.network);
        let log = self.layout.log("controller");
        let process = Process::start(command, &log).map_err(DemoError::io("the controller"))?;
        self.controller = Some(process);
        Ok(())
    }

    fn start_proxy(&mut self, index: usize) -> Result<(), DemoError> {
        let running = &mut self.instances[index];
        let name = running.instance.name();
        let command = mesh::proxy_command(
            &self.programs.proxy,
            &self.layout,
            running.instance,
            self.network,
            &self.proxy_log,
        );
        let log = self.layout.log(&format!("{name}-proxy"));
        let process =
            Process::start(command, &log).map_err(DemoError::io(format!("{name}'s proxy")))?;
        running.proxy = Some(process);
        Ok(())
    }

    fn start_application(&mut self, index: usize) -> Result<(), DemoError> {
        let running = &mut self.instances[index];
        let name = running.instance.name();
        let (weft, instance) = (&self.programs.weft, running.instance);
        let command = mesh::application_command(weft, instance, self.network, self.rate);
        let log = self.layout.log(&name);
        let (process, stdout) = Process::start_piped(command, &log).map_err(DemoError::io(name))?;
        let (tell, told) = watch::channel(String::new());
        running.told = told;
        tokio::spawn(listen_to(stdout, tell));
        running.application = Some(process);
        Ok(())
    }

    /// Ends everything: politely at first.
    pub(crate) async fn stop(&mut self) {
        // Traffic first, so that nothing fails that anyone could count.
        for running in self.instances.iter_mut().rev() {
            if let Some(mut application) = running.application.take() {
                application.kill().await;
            }
        }
        let mut rest: Vec<Process> =
            self.instances.iter_mut().filter_map(|r| r.proxy.take()).collect();
        rest.extend(self.controller.take());
        rest.iter().for_each(Process::terminate);
        for process in &mut rest {
            process.wait().await;
        }
    }

    /// Kills one replica, application and proxy, of a service that has another.
    pub(crate) async fn kill_replica(&mut self) {
        let is_up = |running: &Running| running.proxy.is_some() && running.application.is_some();
        let candidates: Vec<usize> = (0..self.instances.len())
            .filter(|index| {
                let service = self.instances[*index].instance.service;
                let same = |running: &&Running| running.instance.service == service;
                is_up(&self.instances[*index])
                    && self.instances.iter().filter(same).filter(|r| is_up(r)).count() > 1
            })
            .collect();
        let Some(drawn) = (self.entropy.next_u64() as usize).checked_rem(candidates.len()) else {
            self.tell("no service has two replicas left; r restarts them");
            return;
        };
        let running = &mut self.instances[candidates[drawn]];
        let name = running.instance.name();
        for process in [&mut running.application, &mut running.proxy] {
            if let Some(mut process) = process.take() {
                process.kill().await;
            }
        }
        self.ended(&name);
        self.tell(&format!("killed {name}: its application and its proxy"));
    }

    /// Kills the controller.
    pub(crate) async fn kill_controller(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            controller.kill().await;
            self.tell("killed the controller: proxies go on with what they know");
        }
    }

    /// Starts again whatever does not run.
    pub(crate) fn restart(&mut self) {
        let mut failures = Vec::new();
        if self.controller.is_none() {
            failures.extend(self.start_controller().err());
        }
        for index in 0..self.instances.len() {
            if self.instances[index].proxy.is_none() {
                failures.extend(self.start_proxy(index).err());
            }
            if self.instances[index].application.is_none() {
                failures.extend(self.start_application(index).err());
            }
        }
        match failures.first() {
            Some(error) => self.tell(&error.to_string()),
            None => self.tell("restarted all that did not run"),
        }
    }

    fn tell(&mut self, event: &str) {
        let at = self.started.elapsed().as_secs();
        self.events.push_back(format!("{at:>4} s  {event}"));
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    /// An instance's processes have ended: what they counted stays.
    fn ended(&mut self, name: &str) {
        self.tally.end(&format!("proxy {name}"));
        self.tally.end(&format!("application {name}"));
        for running in &mut self.instances {
            if running.instance.name() == name {
                running.before.cpu_seconds += running.now.cpu_seconds;
                running.before.requests += running.now.requests;
                running.now = ProxyFigures::default();
            }
        }
    }

    /// Takes the figures of everything that runs.
    pub(crate) async fn look(&mut self) {
        self.notice_ends();
        let network = self.network;
        let mut scrapes = JoinSet::new();
        for (index, running) in self.instances.iter().enumerate() {
            if running.proxy.is_some() {
                let admin = running.instance.admin(network);
                scrapes.spawn(async move { (index, scrape::get(admin, "/metrics").await) });
            }
        }
        let service_of = |name: &str| {
            let by_address = || Instance::all().find(|i| i.address(network).to_string() == name);
            let found = mesh::service(name).or_else(|| Some(by_address()?.service))?;
            Some(found.name.to_string())
        };
        while let Some(Ok((index, scraped))) = scrapes.join_next().await {
            let running = &mut self.instances[index];
            let instance = running.instance;
            let scraped = match scraped {
                Ok(text) => figures::read_metrics(&text, instance.service.name, &service_of),
                // It says nothing while it starts or ends; the last it said holds.
                Err(_) => continue,
            };
            running.now.requests = scraped.requests + connections(instance, &scraped);
            let edges = scraped.edges.into_iter().map(without_clients_figures).collect();
            self.tally.tell(&format!("proxy {}", instance.name()), edges);
        }
        for running in &mut self.instances {
            let name = running.instance.name();
            self.tally.tell(&format!("application {name}"), running.application_told());
            let pid = running.proxy.as_ref().and_then(Process::pid);
            if let Some(process) = pid.and_then(runtime_real::process::of_pid) {
                running.now.rss_bytes = process.resident_bytes;
                running.now.cpu_seconds = process.cpu.as_secs_f64();
            }
        }
        self.looks.push_back(Look {
            at: Instant::now(),
            totals: self.tally.totals(),
            proxies: self.instances.iter().map(Running::figures).collect(),
        });
        if self.looks.len() > WINDOW_LOOKS + 1 {
            self.looks.pop_front();
        }
    }

    /// Processes that ended without being asked to.
    fn notice_ends(&mut self) {
        let mut events = Vec::new();
        if let Some(status) = self.controller.as_mut().and_then(Process::ended) {
            self.controller = None;
            events.push((None, format!("the controller {}", describe(status))));
        }
        for running in &mut self.instances {
            let name = running.instance.name();
            for (what, process) in
                [("application", &mut running.application), ("proxy", &mut running.proxy)]
            {
                if let Some(status) = process.as_mut().and_then(Process::ended) {
                    *process = None;
                    let event = format!("{name}'s {what} {}", describe(status));
                    events.push((Some(name.clone()), event));
                }
            }
        }
        for (name, event) in events {
            if let Some(name) = name {
                self.ended(&name);
            }
            self.tell(&event);
        }
    }

    /// What to show.
    pub(crate) fn view(&self, with_keys: bool) -> View {
        let no_look = Look { at: self.started, totals: Told::new(), proxies: Vec::new() };
        let last = self.looks.back().unwrap_or(&no_look);
        let first = match self.looks.len() {
            0 | 1 => &no_look,
            _ => &self.looks[0],
        };
        let window = last.at.saturating_duration_since(first.at);
        let none = Counts::default();
        let edges = all_edges().map(|(edge, protocol)| {
            let total = last.totals.get(&edge).unwrap_or(&none);
            let recent = total - first.totals.get(&edge).unwrap_or(&none);
            EdgeRow { edge, protocol, recent, total: total.clone() }
        });
        let per_second = |change: f64| change / window.as_secs_f64().max(0.001);
        let proxies = self.instances.iter().enumerate().map(|(index, running)| {
            let now = running.figures();
            let then = first.proxies.get(index).copied().unwrap_or_default();
            ProxyRow {
                name: running.instance.name(),
                is_up: running.proxy.is_some(),
                rss_bytes: now.rss_bytes,
                cpu_seconds: now.cpu_seconds,
                cpu_share: per_second(now.cpu_seconds - then.cpu_seconds),
                requests: now.requests,
                request_rate: per_second(now.requests.saturating_sub(then.requests) as f64),
            }
        });
        View {
            elapsed: self.started.elapsed(),
            window,
            controller_is_up: self.controller.is_some(),
            console: self.console(),
            edges: edges.collect(),
            proxies: proxies.collect(),
            events: self.events.iter().cloned().collect(),
            with_keys,
        }
    }
}

impl Running {
    fn new(instance: Instance) -> Self {
        Self {
            instance,
            application: None,
            proxy: None,
            told: watch::channel(String::new()).1,
            now: ProxyFigures::default(),
            before: ProxyFigures::default(),
        }
    }

    /// Waits until the application says that it listens, so that its callers find it.
    async fn listens(&mut self, deadline: Instant) -> Result<(), DemoError> {
        let word = self.told.wait_for(|line| !line.is_empty());
        let why = match tokio::time::timeout_at(deadline.into(), word).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => "it ended".to_string(),
            Err(_) => "it does not listen".to_string(),
        };
        let log = self.application.as_ref().map(Process::log_tail).unwrap_or_default();
        Err(DemoError::NotReady { what: self.instance.name(), why, log })
    }

    /// Of all proxies this instance had.
    fn figures(&self) -> ProxyFigures {
        ProxyFigures {
            rss_bytes: self.now.rss_bytes,
            cpu_seconds: self.before.cpu_seconds + self.now.cpu_seconds,
            requests: self.before.requests + self.now.requests,
        }
    }

    /// What the application counted on edges that no proxy can count.
    fn application_told(&self) -> Told {
        let line = self.told.borrow().clone();
        let told: BTreeMap<String, Counts> = serde_json::from_str(&line).unwrap_or_default();
        let src = self.instance.service.name;
        told.into_iter()
            .filter(|(dst, _)| mesh::service(dst).is_some_and(|s| s.is_counted_by_client))
            .map(|(dst, counts)| {
                let src = src.to_string();
                (Edge { src, dst }, counts)
            })
            .collect()
    }
}

/// Connections that a proxy carried as bytes: where there are no requests, they stand for them.
fn connections(instance: Instance, scraped: &Scraped) -> u64 {
    let is_tcp = |service: &mesh::Service| service.protocol == "TCP";
    let accepted = if is_tcp(instance.service) { scraped.accepted } else { 0 };
    let edges = scraped.edges.iter();
    let opened = edges.filter(|(edge, _)| mesh::service(&edge.dst).is_some_and(is_tcp));
    accepted + opened.map(|(_, counts)| counts.secured + counts.plain).sum::<u64>()
}

/// Takes what a client counts itself out of what its proxy counts.
fn without_clients_figures((edge, mut counts): (Edge, Counts)) -> (Edge, Counts) {
    if mesh::service(&edge.dst).is_some_and(|service| service.is_counted_by_client) {
        counts.requests = 0;
        counts.successes = 0;
        counts.latency = Histogram::default();
    }
    (edge, counts)
}

/// Every edge of the demo with its protocol, callers nearest to the client first.
fn all_edges() -> impl Iterator<Item = (Edge, &'static str)> {
    SERVICES.iter().rev().flat_map(|service| {
        service.calls.iter().filter_map(|to| {
            let edge = Edge { src: service.name.to_string(), dst: to.to_string() };
            Some((edge, mesh::service(to)?.protocol))
        })
    })
}

/// Waits until a process says that it is ready.
async fn ready(
    what: &str,
    process: &mut Process,
    admin: std::net::SocketAddr,
    deadline: Instant,
) -> Result<(), DemoError> {
    loop {
        let error = match scrape::get(admin, "/ready").await {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        let why = match process.ended() {
            Some(status) => describe(status),
            None if Instant::now() > deadline => error,
            None => {
                tokio::time::sleep(ASK_EVERY).await;
                continue;
            }
        };
        return Err(DemoError::NotReady { what: what.to_string(), why, log: process.log_tail() });
    }
}

/// Keeps the last line that an application told, until it has ended.
async fn listen_to(stdout: ChildStdout, told: watch::Sender<String>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        told.send_replace(line);
    }
}

const DIRECTORY_PREFIX: &str = "weft-demo-";

/// Removes the directories of demos that were killed before they could do it.
fn remove_stale_directories() {
    let entries = fs::read_dir(std::env::temp_dir());
    for entry in entries.into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(DIRECTORY_PREFIX)?.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok());
        let is_running = |pid: &u32| PathBuf::from(format!("/proc/{pid}")).exists();
        if pid.is_some_and(|pid| !is_running(&pid)) {
            // Another user's: not ours to remove.
            let _: io::Result<()> = fs::remove_dir_all(entry.path());
        }
    }
}
