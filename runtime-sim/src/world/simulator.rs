//! What a world asks of an engine, so that it runs on either.

use std::net::SocketAddr;

use mesh_core::runtime::Runtime;
use mesh_core::time::Timestamp;

use crate::engine::{Engine, Link};
use crate::files::MemoryFiles;
use crate::on_turmoil::Turmoil;
use crate::topology::{Crash, DnsAnswer, HostSpec, Role};
use crate::trace::{Panicked, Tap};

/// A simulated network of hosts.
pub trait Simulator {
    /// Adds a host and returns its number.
    fn add_host(&mut self, spec: HostSpec) -> usize;
    /// Starts a process on a host.
    fn start(&self, host: usize, name: &str, role: Role) -> Runtime;
    /// The host's files.
    fn files(&self, host: usize) -> &MemoryFiles;
    /// Virtual time.
    fn now(&self) -> Timestamp;
    /// Runs until a moment, or until `go_on` says no.
    fn run_while(&mut self, until: Timestamp, go_on: &mut dyn FnMut() -> bool) -> bool;
    /// Ends a host's processes, all or those of a name.
    fn crash(&mut self, host: usize, process: Option<&str>, crash: Crash);
    /// Gives a host its power back.
    fn power_on(&mut self, host: usize);
    /// Cuts or mends the way from one host to another.
    fn set_cut(&mut self, from: usize, to: usize, cut: bool);
    /// Stops or continues a host's processes. False where the engine cannot.
    fn set_paused(&mut self, host: usize, paused: bool) -> bool;
    /// Names an address.
    fn set_name(&self, name: &str, answer: DnsAnswer);
    /// A service's address and its endpoints, as kube-proxy has them.
    fn set_virtual_address(&self, at: SocketAddr, endpoints: Vec<SocketAddr>);
    /// Shows every delivery of bytes.
    fn set_tap(&self, tap: Tap);
    /// Tasks that panicked.
    fn panics(&self) -> Vec<Panicked>;
}

impl Simulator for Engine {
    fn add_host(&mut self, spec: HostSpec) -> usize {
        self.add_host(spec)
    }

    fn start(&self, host: usize, name: &str, role: Role) -> Runtime {
        self.start(host, name, role)
    }

    fn files(&self, host: usize) -> &MemoryFiles {
        self.files(host)
    }

    fn now(&self) -> Timestamp {
        self.now()
    }

    fn run_while(&mut self, until: Timestamp, go_on: &mut dyn FnMut() -> bool) -> bool {
        Engine::run_while(self, until, go_on)
    }

    fn crash(&mut self, host: usize, process: Option<&str>, crash: Crash) {
        Engine::crash(self, host, process, crash);
    }

    fn power_on(&mut self, host: usize) {
        Engine::power_on(self, host);
    }

    fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        let link = self.link(from, to);
        self.set_link(from, to, Link { up: !cut, ..link });
    }

    fn set_paused(&mut self, host: usize, paused: bool) -> bool {
        Engine::set_paused(self, host, paused);
        true
    }

    fn set_name(&self, name: &str, answer: DnsAnswer) {
        self.set_name(name, answer);
    }

    fn set_virtual_address(&self, at: SocketAddr, endpoints: Vec<SocketAddr>) {
        self.set_virtual_address(at, endpoints);
    }

    fn set_tap(&self, tap: Tap) {
        self.set_tap(tap);
    }

    fn panics(&self) -> Vec<Panicked> {
        self.panics()
    }
}

impl Simulator for Turmoil {
    fn add_host(&mut self, spec: HostSpec) -> usize {
        self.add_host(spec)
    }

    fn start(&self, host: usize, name: &str, role: Role) -> Runtime {
        self.start(host, name, role)
    }

    fn files(&self, host: usize) -> &MemoryFiles {
        self.files(host)
    }

    fn now(&self) -> Timestamp {
        self.now()
    }

    fn run_while(&mut self, until: Timestamp, go_on: &mut dyn FnMut() -> bool) -> bool {
        Turmoil::run_while(self, until, go_on)
    }

    fn crash(&mut self, host: usize, process: Option<&str>, crash: Crash) {
        Turmoil::crash(self, host, process, crash);
    }

    fn power_on(&mut self, host: usize) {
        Turmoil::power_on(self, host);
    }

    /// turmoil holds both directions or none.
    fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        self.set_partition(from, to, cut);
    }

    fn set_paused(&mut self, _host: usize, _paused: bool) -> bool {
        false
    }

    fn set_name(&self, name: &str, answer: DnsAnswer) {
        self.set_name(name, answer);
    }

    fn set_virtual_address(&self, at: SocketAddr, endpoints: Vec<SocketAddr>) {
        self.set_virtual_address(at, endpoints);
    }

    fn set_tap(&self, tap: Tap) {
        self.set_tap(tap);
    }

    fn panics(&self) -> Vec<Panicked> {
        self.panics()
    }
}
