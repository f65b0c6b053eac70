//! The discrete-event engine: hosts, their tasks and the network between them, on one thread and in
//! virtual time that jumps from event to event.
//!
//! Law: everything a run does follows from its seed and from what is asked of [`Engine`]. Between
//! two events every ready task runs, in an order that the seed draws.
//!
//! Modules: `executor` polls tasks, `agenda` orders events, `network` routes, `tcp` delivers,
//! `host` holds what a machine has, `doors` and `stream` are what programs see of it all.

mod agenda;
mod doors;
mod executor;
mod host;
mod network;
mod stream;
mod tcp;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use mesh_core::runtime::Runtime;
use mesh_core::time::{Timestamp, WallTime};

use crate::cluster::ApiServer;
use crate::files::MemoryFiles;
use crate::lock;
use crate::outfit::Outfit;
use crate::random::Random;
use crate::topology::{ClockSkew, Crash, DnsAnswer, HostSpec, Role};
use crate::trace::{Panicked, START, Tap, Trace};

use doors::Doors;
use executor::Executor;
use network::State;

pub use host::{HostId, ProcessId};
pub use network::Link;

/// A simulated world of hosts.
pub struct Engine {
    shared: Arc<Shared>,
    outfits: Vec<Outfit>,
    api: ApiServer,
    seed: u64,
}

/// What every door reaches. `state` and the executor's locks are leaves: nothing is awaited and
/// no foreign destructor runs under them.
struct Shared {
    state: Mutex<State>,
    executor: Executor,
    start: WallTime,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Events that happened.
    pub events: u64,
    /// Times a task was polled.
    pub polls: u64,
}

impl Engine {
    /// An empty world.
    pub fn new(seed: u64, trace: Trace, api: ApiServer) -> Self {
        let state = State::new(Random::new(seed, "", "network"), trace);
        let shared = Shared {
            state: Mutex::new(state),
            executor: Executor::new(Random::new(seed, "", "schedule")),
            start: START,
        };
        Self { shared: Arc::new(shared), outfits: Vec::new(), api, seed }
    }

    /// Adds a host. Nothing runs on it yet.
    pub fn add_host(&mut self, spec: HostSpec) -> HostId {
        self.outfits.push(Outfit::new(self.seed, &spec.name));
        let mut state = lock(&self.shared.state);
        let id = state.hosts.len();
        state.topology.add_host(&spec);
        state.hosts_by_ip.insert(spec.ip, id);
        state.hosts.push(host::Host::new(spec));
        id
    }

    /// Starts a process and returns its doors. It lives until its host or it is crashed.
    pub fn start(&self, host: HostId, name: &str, role: Role) -> Runtime {
        let mut state = lock(&self.shared.state);
        state.next_process += 1;
        let process = state.next_process;
        state.hosts[host].processes.insert(process, name.to_owned());
        state.event(host, format_args!("start {name}"));
        let client = state.hosts[host].name.clone();
        drop(state);
        let doors = Arc::new(Doors { shared: self.shared.clone(), host, process, role });
        let outfit = &self.outfits[host];
        Runtime {
            clock: doors.clone(),
            net: doors.clone(),
            tasks: doors.clone(),
            entropy: outfit.entropy.clone(),
            crypto: outfit.crypto.clone(),
            files: Arc::new(outfit.files.clone()),
            cluster: self.api.door(&client, doors),
        }
    }

    /// The host's files.
    pub fn files(&self, host: HostId) -> &MemoryFiles {
        &self.outfits[host].files
    }

    /// Virtual time.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(lock(&self.shared.state).agenda.now())
    }

    /// Runs until a moment.
    pub fn run_until(&self, until: Timestamp) {
        self.run_while(until, || true);
    }

    /// Runs until a moment, or until `go_on` says no between two events. Tells whether it did.
    pub fn run_while(&self, until: Timestamp, mut go_on: impl FnMut() -> bool) -> bool {
        loop {
            let shared = &self.shared;
            shared.executor.run_ready(|host| lock(&shared.state).hosts[host].paused);
            if !go_on() {
                return true;
            }
            let mut state = lock(&self.shared.state);
            match state.agenda.next(until.as_nanos()) {
                Some(event) => state.fire(event),
                None => {
                    state.agenda.idle_until(until.as_nanos());
                    return false;
                }
            }
        }
    }

    /// Runs a future as a task of a process, and the world until it ends.
    ///
    /// # Panics
    /// Where it panicked, or has not ended at `until`.
    pub fn block_on<T: Send + 'static>(
        &self,
        runtime: &Runtime,
        until: Timestamp,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let result = Arc::new(Mutex::new(None));
        let panics = self.panics().len();
        runtime.spawn("block_on", {
            let result = result.clone();
            async move {
                let output = future.await;
                *lock(&result) = Some(output);
            }
        });
        let mut panicked = None;
        self.run_while(until, || {
            panicked = self.panics().into_iter().skip(panics).find(|p| p.task == "block_on");
            panicked.is_none() && lock(&result).is_none()
        });
        if let Some(Panicked { message, .. }) = panicked {
            panic!("{message}");
        }
        let result = lock(&result).take();
        result.expect("the future ended in time")
    }

    /// Ends the processes of a host, all or those of a name.
    pub fn crash(&self, host: HostId, process: Option<&str>, crash: Crash) {
        let mut state = lock(&self.shared.state);
        let what = process.unwrap_or("every process");
        state.event(host, format_args!("crash {crash:?} of {what}"));
        let here = &mut state.hosts[host];
        let ended: BTreeMap<_, _> = match (process, crash) {
            (Some(name), Crash::Process) => {
                let keep = |_: &ProcessId, known: &mut String| known.as_str() == name;
                here.processes.extract_if(.., keep).collect()
            }
            _ => std::mem::take(&mut here.processes),
        };
        if crash == Crash::Power {
            here.on = false;
            here.paused = false;
            here.boot += 1;
            here.listeners.clear();
            state.forget_sent_by(host);
            state.way_changed(|a, b| a == host || b == host, false);
        }
        drop(state);
        let executor = &self.shared.executor;
        let futures = executor.end(|_, process| ended.contains_key(&process));
        drop(futures);
    }

    /// Gives a host its power back. Nothing runs on it until it is started.
    pub fn power_on(&self, host: HostId) {
        let mut state = lock(&self.shared.state);
        if !state.hosts[host].on {
            state.hosts[host].on = true;
            state.event(host, format_args!("power on"));
            state.way_changed(|a, b| a == host || b == host, true);
        }
    }

    /// Stops and continues every process of a host; its kernel goes on.
    pub fn set_paused(&self, host: HostId, paused: bool) {
        let mut state = lock(&self.shared.state);
        state.hosts[host].paused = paused;
        state.event(host, format_args!("paused: {paused}"));
        drop(state);
        if !paused {
            self.shared.executor.resume(host);
        }
    }

    /// What one direction between two hosts is like.
    pub fn link(&self, from: HostId, to: HostId) -> Link {
        lock(&self.shared.state).link(from, to)
    }

    /// Changes one direction between two hosts.
    pub fn set_link(&self, from: HostId, to: HostId, link: Link) {
        let mut state = lock(&self.shared.state);
        state.event(from, format_args!("link to host {to}: {link:?}"));
        state.set_link(from, to, link);
    }

    /// What every direction is like that is not set apart.
    pub fn set_default_link(&self, link: Link) {
        lock(&self.shared.state).default_link = link;
    }

    /// Changes a host's wall clock.
    pub fn set_clock_skew(&self, host: HostId, skew: ClockSkew) {
        lock(&self.shared.state).hosts[host].clock_skew = skew;
    }

    /// Names an address. Hosts' own names resolve without.
    pub fn set_name(&self, name: &str, answer: DnsAnswer) {
        lock(&self.shared.state).topology.set_name(name, answer);
    }

    /// A service's address: connections to it go to one of the endpoints, as kube-proxy does it.
    pub fn set_virtual_address(&self, at: SocketAddr, endpoints: Vec<SocketAddr>) {
        let mut state = lock(&self.shared.state);
        state.topology.set_virtual_address(at, endpoints);
    }

    /// Shows every delivery of bytes to `tap`, which must not touch this engine.
    pub fn set_tap(&self, tap: Tap) {
        lock(&self.shared.state).tap = Some(tap);
    }

    /// Writes an event of the world's into the trace.
    pub fn note(&self, host: HostId, what: std::fmt::Arguments<'_>) {
        lock(&self.shared.state).event(host, what);
    }

    /// The host's address.
    pub fn ip(&self, host: HostId) -> IpAddr {
        lock(&self.shared.state).hosts[host].ip
    }

    /// Tasks that panicked.
    pub fn panics(&self) -> Vec<Panicked> {
        self.shared.executor.panics()
    }

    /// Tasks that live, by what they are.
    pub fn census(&self) -> BTreeMap<&'static str, usize> {
        self.shared.executor.census()
    }

    /// Connections that an end or a segment still knows.
    pub fn connections(&self) -> usize {
        lock(&self.shared.state).connections.len()
    }

    /// What the run cost so far.
    pub fn effort(&self) -> Effort {
        Effort {
            events: lock(&self.shared.state).agenda.fired(),
            polls: self.shared.executor.polls(),
        }
    }
}

impl State {
    fn event(&self, host: HostId, what: std::fmt::Arguments<'_>) {
        let now = Timestamp::from_nanos(self.agenda.now());
        self.trace.event(now, &self.hosts[host].name, what);
    }
}

impl Drop for Engine {
    /// Tasks hold the engine's insides and are held by them: the knot is cut here.
    fn drop(&mut self) {
        drop(self.shared.executor.end(|_, _| true));
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("now", &self.now()).finish_non_exhaustive()
    }
}
