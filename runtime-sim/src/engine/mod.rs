//! The discrete-event engine: hosts, their tasks and the network between them, on one thread and in
//! virtual time that jumps from event to event.
//!
//! Law: everything a run does follows from its seed and from what is asked of [`Engine`]. Between
//! two events every ready task runs, in an order that the seed draws.
//!
//! Modules: `executor` polls tasks, `agenda` orders events, `ways` knows what lies between two hosts
//! and `network` what that costs, `tcp` sends, `delivery` receives, `patience` gives up, `host` and
//! `clock` are what a machine has, `faults` breaks things, `doors` and `stream` are what programs
//! see of it all. `table` holds what is numbered.

mod agenda;
mod clock;
mod delivery;
mod doors;
mod executor;
mod faults;
mod host;
mod network;
mod patience;
mod stream;
mod table;
mod tcp;
mod ways;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use mesh_core::runtime::Runtime;
use mesh_core::time::{Timestamp, WallTime};

use crate::cluster::ApiServer;
use crate::files::MemoryFiles;
use crate::lock;
use crate::log;
use crate::outfit::Outfit;
use crate::random::Random;
use crate::topology::{DnsAnswer, HostSpec, Role};
use crate::trace::{Capture, Panicked, Tap, Trace};
use crate::usage::{ProcessUsage, Usage};

use doors::Doors;
use executor::Executor;
use network::State;

pub use host::{HostId, ProcessId};

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
        let state = State::new(trace);
        let shared = Shared {
            state: Mutex::new(state),
            executor: Executor::new(Random::new(seed, "", "schedule")),
            start: api.start(),
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
        state.ways.add_host(spec.node.clone(), spec.zone.clone());
        let now = state.agenda.now();
        state.hosts.push(host::Host::new(self.seed, now, spec));
        id
    }

    /// Starts a process and returns its doors. It lives until its host or it is crashed.
    pub fn start(&self, host: HostId, name: &str, role: Role) -> Runtime {
        let mut state = lock(&self.shared.state);
        state.next_process += 1;
        let process = state.next_process;
        let here = &mut state.hosts[host];
        let paused = here.paused;
        let started = here.start(process, name);
        let (account, generation) = (started.account.clone(), started.generation);
        state.event(host, format_args!("start {name}, generation {generation}"));
        let client = state.hosts[host].name.clone();
        drop(state);
        if paused {
            self.shared.executor.set_stopped(process, true);
        }
        let doors = Arc::new(Doors { shared: self.shared.clone(), host, process, role, account });
        let outfit = &self.outfits[host];
        let clock = self.shared.clone();
        let now = move || lock(&clock.state).now();
        let tasks = log::of_host(&client, now, doors.clone());
        Runtime {
            clock: doors.clone(),
            net: doors.clone(),
            tasks,
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
            let state = lock(&shared.state);
            let (now, trace) = (state.now(), state.trace.clone());
            drop(state);
            shared.executor.run_ready(|task| trace.step(now, "poll", task));
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

    /// Names an address. Hosts' own names resolve without.
    pub fn set_name(&self, name: &str, answer: DnsAnswer) {
        lock(&self.shared.state).topology.set_name(name, answer);
    }

    /// Tells one host otherwise than the others, or no longer.
    pub fn set_name_for(&self, host: HostId, name: &str, answer: Option<DnsAnswer>) {
        let mut state = lock(&self.shared.state);
        let ip = state.hosts[host].ip;
        state.topology.set_name_for(ip, name, answer);
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

    /// Shows every packet to `capture`, which must not touch this engine.
    pub fn set_capture(&self, capture: Capture) {
        lock(&self.shared.state).capture = Some(capture);
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

    /// What every host's processes hold, by host.
    pub fn usages(&self) -> Vec<Usage> {
        let state = lock(&self.shared.state);
        let sockets = state.sockets(None);
        let hosts = state.hosts.iter().enumerate();
        hosts.map(|(id, host)| host.usage(id, &sockets, &self.shared.executor)).collect()
    }

    /// What a host's processes hold.
    pub fn usage(&self, host: HostId) -> Usage {
        let state = lock(&self.shared.state);
        state.hosts[host].usage(host, &state.sockets(Some(host)), &self.shared.executor)
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
        self.trace.event(self.now(), &self.hosts[host].name, what);
    }

    /// Something that is no host's alone.
    fn world_event(&self, what: std::fmt::Arguments<'_>) {
        self.trace.event(self.now(), "world", what);
    }

    /// The sockets of a host, or of every one.
    fn sockets(&self, of: Option<HostId>) -> Sockets {
        let mut sockets = Sockets::default();
        let ends = self.connections.values().flat_map(|connection| &connection.ends);
        for end in ends.filter(|end| of.is_none_or(|host| end.host == host)) {
            match end.process.filter(|_| end.held) {
                Some(process) => *sockets.held.entry(process).or_default() += 1,
                None if end.process.is_some() => *sockets.orphans.entry(end.host).or_default() += 1,
                None => {}
            }
        }
        sockets
    }
}

/// Whose sockets there are.
#[derive(Default)]
struct Sockets {
    held: BTreeMap<ProcessId, usize>,
    /// Those that only a kernel still holds.
    orphans: BTreeMap<HostId, usize>,
}

impl host::Host {
    fn usage(&self, id: HostId, sockets: &Sockets, executor: &Executor) -> Usage {
        let process = |(id, process): (&ProcessId, &host::Process)| ProcessUsage {
            name: process.name.clone(),
            generation: process.generation,
            tasks: executor.census_of(*id),
            sockets: sockets.held.get(id).copied().unwrap_or_default(),
            listeners: self.listeners.values().filter(|l| l.process == *id).count(),
            timers: process.timers,
            heap: process.account.heap(),
        };
        Usage {
            boots: self.boot + 1,
            processes: self.processes.iter().map(process).collect(),
            orphan_sockets: sockets.orphans.get(&id).copied().unwrap_or_default(),
        }
    }
}

impl Drop for Engine {
    /// Tasks hold the engine's insides and are held by them: the knot is cut here.
    fn drop(&mut self) {
        drop(self.shared.executor.end(|_| true));
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("now", &self.now()).finish_non_exhaustive()
    }
}
