//! The doors on turmoil, an independent simulated network: what both engines agree on is less
//! likely to be a fault of either.
//!
//! Held to what turmoil models well: at most [`HOSTS_MAX`] hosts, ticks of one millisecond, no random
//! loss, partitions both ways hold packets and do not lose them, every connect bounded by the
//! kernel's SYN timeout, ephemeral ports enough for refused connects (which leak them). Not modelled:
//! bandwidth, pauses, loss of power (it is a crash behind a partition), one process's clock.
//!
//! Law: as in every runtime, what a host does happens in its tasks. They are started from a
//! queue of the host's own main program, because turmoil knows the host by who is running.

mod doors;
mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use mesh_core::runtime::{BoxFuture, Runtime};
use mesh_core::time::{Timestamp, WallTime};

use crate::cluster::ApiServer;
use crate::files::MemoryFiles;
use crate::link::{ImpairmentId, Place};
use crate::lock;
use crate::outfit::Outfit;
use crate::random::Random;
use crate::topology::{ClockSpec, Crash, DnsAnswer, HostSpec, Role, Topology};
use crate::trace::{Panicked, Tap, Trace};

use doors::Doors;

/// Hosts of one world: the cost of an idle tick grows with the cube of their number.
pub const HOSTS_MAX: usize = 25;

const TICK: Duration = Duration::from_millis(1);
/// Pending connections of a listener, and segments that a receiver holds. turmoil panics at the
/// former's bound, so it is far above what accept loops leave waiting.
const TCP_CAPACITY: usize = 1_024;

/// A world of hosts on turmoil.
pub struct Turmoil {
    sim: turmoil::Sim<'static>,
    shared: Arc<Shared>,
    hosts: Vec<Arc<Host>>,
    api: ApiServer,
    seed: u64,
    /// Which pairs each partition holds back, and losses of power by host.
    partitions: BTreeMap<ImpairmentId, Vec<(usize, usize)>>,
    dark: BTreeSet<usize>,
    next_partition: u64,
}

/// What every door reaches.
struct Shared {
    topology: Mutex<Topology>,
    draw: Mutex<Random>,
    trace: Trace,
    tap: Mutex<Option<Tap>>,
    panics: Mutex<Vec<Panicked>>,
    next_connection: AtomicU64,
    /// Where each connection was going before a rule, told by the end that connects, by its
    /// host, its address and the address it connected to.
    announced: Mutex<BTreeMap<(IpAddr, SocketAddr, SocketAddr), Option<SocketAddr>>>,
    announcement: Notify,
    /// Time outside of hosts' tasks.
    elapsed_nanos: AtomicU64,
    start: WallTime,
}

struct Host {
    name: Arc<str>,
    ip: IpAddr,
    outfit: Outfit,
    node: Option<String>,
    zone: Option<String>,
    clock: Mutex<ClockSpec>,
    work: Mutex<Work>,
    arrived: Notify,
}

#[derive(Default)]
struct Work {
    /// Tasks to start.
    queue: VecDeque<(u64, &'static str, BoxFuture<'static, ()>)>,
    processes: BTreeMap<u64, Process>,
    next_process: u64,
}

struct Process {
    name: String,
    tasks: Vec<AbortHandle>,
}

impl Turmoil {
    /// An empty world.
    pub fn new(seed: u64, trace: Trace, api: ApiServer) -> Self {
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(86_400 * 365))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(2))
            .ephemeral_ports(20_000..=60_999)
            .tcp_capacity(TCP_CAPACITY)
            .enable_random_order()
            .build();
        let shared = Shared {
            topology: Mutex::default(),
            draw: Mutex::new(Random::new(seed, "", "network")),
            trace,
            tap: Mutex::default(),
            panics: Mutex::default(),
            next_connection: AtomicU64::new(0),
            announced: Mutex::default(),
            announcement: Notify::new(),
            elapsed_nanos: AtomicU64::new(0),
            start: api.start(),
        };
        Self {
            sim,
            shared: Arc::new(shared),
            hosts: Vec::new(),
            api,
            seed,
            partitions: BTreeMap::new(),
            dark: BTreeSet::new(),
            next_partition: 0,
        }
    }

    /// Adds a host and returns its number. Nothing runs on it yet.
    ///
    /// # Panics
    /// At more than [`HOSTS_MAX`] hosts.
    pub fn add_host(&mut self, spec: HostSpec) -> usize {
        assert!(self.hosts.len() < HOSTS_MAX, "turmoil takes {HOSTS_MAX} hosts");
        lock(&self.shared.topology).add_host(&spec);
        let host = Arc::new(Host {
            name: spec.name.as_str().into(),
            ip: spec.ip,
            outfit: Outfit::new(self.seed, &spec.name),
            node: spec.node.clone(),
            zone: spec.zone.clone(),
            clock: Mutex::new(spec.clock),
            work: Mutex::default(),
            arrived: Notify::new(),
        });
        let (main, shared) = (host.clone(), self.shared.clone());
        self.sim.host(spec.ip, move || {
            let (host, shared) = (main.clone(), shared.clone());
            async move {
                loop {
                    host.start_tasks(&shared);
                    host.arrived.notified().await;
                }
            }
        });
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    /// Starts a process and returns its doors.
    pub fn start(&self, host: usize, name: &str, role: Role) -> Runtime {
        let here = &self.hosts[host];
        let mut work = lock(&here.work);
        work.next_process += 1;
        let process = work.next_process;
        let started = Process { name: name.to_owned(), tasks: Vec::new() };
        work.processes.insert(process, started);
        drop(work);
        self.note(host, format_args!("start {name}"));
        let doors =
            Arc::new(Doors { shared: self.shared.clone(), host: here.clone(), process, role });
        Runtime {
            clock: doors.clone(),
            net: doors.clone(),
            tasks: doors.clone(),
            entropy: here.outfit.entropy.clone(),
            crypto: here.outfit.crypto.clone(),
            files: Arc::new(here.outfit.files.clone()),
            cluster: self.api.door(&here.name, doors),
        }
    }

    /// The host's files.
    pub fn files(&self, host: usize) -> &MemoryFiles {
        &self.hosts[host].outfit.files
    }

    /// Virtual time.
    pub fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.sim.elapsed()
    }

    /// Runs until a moment.
    ///
    /// # Panics
    /// Where turmoil fails, which is a fault of the adapter.
    pub fn run_until(&mut self, until: Timestamp) {
        self.run_while(until, || true);
    }

    /// Runs until a moment, or until `go_on` says no between two ticks. Tells whether it did.
    ///
    /// # Panics
    /// Where turmoil fails, which is a fault of the adapter.
    pub fn run_while(&mut self, until: Timestamp, mut go_on: impl FnMut() -> bool) -> bool {
        while self.now() < until {
            if !go_on() {
                return true;
            }
            self.sim.step().expect("hosts' main programs do not fail");
            let elapsed = self.sim.elapsed().as_nanos() as u64;
            self.shared.elapsed_nanos.store(elapsed, Ordering::Relaxed);
        }
        false
    }

    /// Runs a future as a task of a process, and the world until it ends.
    ///
    /// # Panics
    /// Where it panicked, or has not ended at `until`.
    pub fn block_on<T: Send + 'static>(
        &mut self,
        runtime: &Runtime,
        until: Timestamp,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let result = Arc::new(Mutex::new(None));
        let shared = self.shared.clone();
        let before = lock(&shared.panics).len();
        let panicked = || {
            let panics = lock(&shared.panics);
            let ours = panics.iter().skip(before).find(|panic| panic.task == "block_on");
            ours.cloned()
        };
        runtime.spawn("block_on", {
            let result = result.clone();
            async move {
                let output = future.await;
                *lock(&result) = Some(output);
            }
        });
        self.run_while(until, || panicked().is_none() && lock(&result).is_none());
        if let Some(Panicked { message, .. }) = panicked() {
            panic!("{message}");
        }
        let result = lock(&result).take();
        result.expect("the future ended in time")
    }

    /// Ends the processes of a host, all or those of a name. A loss of power also cuts it off.
    pub fn crash(&mut self, host: usize, process: Option<&str>, crash: Crash) {
        let what = process.unwrap_or("every process");
        self.note(host, format_args!("crash {crash:?} of {what}"));
        if crash == Crash::Power {
            self.dark.insert(host);
            self.hold_or_release(|a, b| a == host || b == host);
        }
        let mut work = lock(&self.hosts[host].work);
        let chosen = |known: &str| crash == Crash::Power || process.is_none_or(|p| p == known);
        let ended: BTreeMap<_, _> =
            work.processes.extract_if(.., |_, process| chosen(&process.name)).collect();
        let (dropped, kept) = work
            .queue
            .drain(..)
            .partition::<VecDeque<_>, _>(|(process, ..)| ended.contains_key(process));
        work.queue = kept;
        drop(work);
        drop(dropped);
        for task in ended.into_values().flat_map(|process| process.tasks) {
            task.abort();
        }
    }

    /// Ends the cut that a loss of power made. Nothing runs on the host until it is started.
    pub fn power_on(&mut self, host: usize) {
        self.note(host, format_args!("power on"));
        self.dark.remove(&host);
        self.hold_or_release(|a, b| a == host || b == host);
    }

    /// Holds what two places send each other, until it is mended.
    pub fn partition(&mut self, a: Place, b: Place) -> ImpairmentId {
        let hosts = 0..self.hosts.len();
        let pairs = hosts.clone().flat_map(|x| hosts.clone().map(move |y| (x, y)));
        let apart = |(x, y): &(usize, usize)| x != y && self.is_in(&a, *x) && self.is_in(&b, *y);
        let pairs: Vec<_> = pairs.filter(apart).map(|(x, y)| (x.min(y), x.max(y))).collect();
        self.next_partition += 1;
        let id = ImpairmentId(self.next_partition);
        for (x, y) in &pairs {
            self.note(*x, format_args!("partition from host {y}"));
        }
        self.partitions.insert(id, pairs.clone());
        self.hold_or_release(|x, y| pairs.contains(&(x, y)));
        id
    }

    /// Ends a partition: what was held is delivered.
    pub fn mend(&mut self, partition: ImpairmentId) {
        let pairs = self.partitions.remove(&partition).unwrap_or_default();
        for (x, y) in &pairs {
            self.note(*x, format_args!("partition from host {y} ends"));
        }
        self.hold_or_release(|x, y| pairs.contains(&(x, y)));
    }

    /// Brings turmoil's idea of the concerned pairs, the lower number first, up to date.
    fn hold_or_release(&mut self, concerned: impl Fn(usize, usize) -> bool) {
        for a in 0..self.hosts.len() {
            for b in (a + 1..self.hosts.len()).filter(|b| concerned(a, *b)) {
                let parted = self.partitions.values().any(|pairs| pairs.contains(&(a, b)));
                let dark = self.dark.contains(&a) || self.dark.contains(&b);
                let (a, b) = (self.hosts[a].ip, self.hosts[b].ip);
                match parted || dark {
                    true => self.sim.hold(a, b),
                    false => self.sim.release(a, b),
                }
            }
        }
    }

    fn is_in(&self, place: &Place, host: usize) -> bool {
        match place {
            Place::Anywhere => true,
            Place::Zone(zone) => self.hosts[host].zone.as_ref() == Some(zone),
            Place::Node(node) => self.hosts[host].node.as_ref() == Some(node),
            Place::Host(one) => *one == host,
        }
    }

    /// Changes a host's wall clock.
    pub fn set_clock(&self, host: usize, clock: ClockSpec) {
        *lock(&self.hosts[host].clock) = clock;
    }

    /// Names an address. Hosts' own names resolve without.
    pub fn set_name(&self, name: &str, answer: DnsAnswer) {
        lock(&self.shared.topology).set_name(name, answer);
    }

    /// Tells one host otherwise than the others, or no longer.
    pub fn set_name_for(&self, host: usize, name: &str, answer: Option<DnsAnswer>) {
        lock(&self.shared.topology).set_name_for(self.hosts[host].ip, name, answer);
    }

    /// A service's address: connections to it go to one of the endpoints, as kube-proxy does it.
    pub fn set_virtual_address(&self, at: SocketAddr, endpoints: Vec<SocketAddr>) {
        lock(&self.shared.topology).set_virtual_address(at, endpoints);
    }

    /// Shows every delivery of bytes to `tap`.
    pub fn set_tap(&self, tap: Tap) {
        *lock(&self.shared.tap) = Some(tap);
    }

    /// Writes an event of the world's into the trace.
    pub fn note(&self, host: usize, what: std::fmt::Arguments<'_>) {
        let name = &self.hosts[host].name;
        self.shared.trace.event(self.now(), name, what);
    }

    /// Tasks that panicked.
    pub fn panics(&self) -> Vec<Panicked> {
        lock(&self.shared.panics).clone()
    }
}

impl Host {
    /// Starts what is queued. Called where turmoil knows that this host runs.
    fn start_tasks(&self, shared: &Arc<Shared>) {
        let mut work = lock(&self.work);
        let Work { queue, processes, .. } = &mut *work;
        for (process, name, future) in queue.drain(..) {
            let Some(process) = processes.get_mut(&process) else {
                continue;
            };
            let guarded = Guarded { name, future: Some(future), shared: shared.clone() };
            process.tasks.retain(|task| !task.is_finished());
            process.tasks.push(tokio::spawn(guarded).abort_handle());
        }
    }
}

/// A task whose panic is recorded.
struct Guarded {
    name: &'static str,
    future: Option<BoxFuture<'static, ()>>,
    shared: Arc<Shared>,
}

impl Future for Guarded {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(mut future) = self.future.take() else {
            return Poll::Ready(());
        };
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let pending = future.as_mut().poll(context).is_pending();
            pending.then_some(future)
        }));
        match polled {
            Ok(Some(future)) => {
                self.future = Some(future);
                Poll::Pending
            }
            Ok(None) => Poll::Ready(()),
            Err(panic) => {
                let panicked = Panicked::new(self.name, &*panic);
                lock(&self.shared.panics).push(panicked);
                Poll::Ready(())
            }
        }
    }
}

impl std::fmt::Debug for Turmoil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turmoil").field("now", &self.now()).finish_non_exhaustive()
    }
}
