//! What a world asks of an engine, so that it runs on either.
//!
//! Law: what an engine cannot do is an [`Unsupported`], never silence.

use std::net::SocketAddr;

use mesh_core::runtime::Runtime;
use mesh_core::time::Timestamp;

use crate::engine::Engine;
use crate::files::MemoryFiles;
use crate::link::{Impairment, ImpairmentId, LinkSpec, Place, Unsupported};
use crate::on_turmoil::Turmoil;
use crate::topology::{ClockSpec, Crash, DnsAnswer, HostSpec, Resolver, Role};
use crate::trace::{Capture, Panicked, Tap};
use crate::usage::Usage;

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

    /// What one direction between two hosts is like now, impairments included.
    ///
    /// # Errors
    /// Where the engine has no such links.
    fn link(&self, from: usize, to: usize) -> Result<LinkSpec, Unsupported>;
    /// Says what a direction is like, from now on.
    ///
    /// # Errors
    /// Where the engine has no such links.
    fn set_link(&mut self, from: Place, to: Place, link: LinkSpec) -> Result<(), Unsupported>;
    /// Takes back what was said of a direction: what is less specific holds again.
    fn unset_link(&mut self, from: Place, to: Place);
    /// Makes a direction worse until [`Simulator::mend`]. Impairments add up.
    ///
    /// # Errors
    /// Where the engine cannot do this one.
    fn impair(
        &mut self,
        from: Place,
        to: Place,
        how: Impairment,
    ) -> Result<ImpairmentId, Unsupported>;
    /// Ends an impairment.
    fn mend(&mut self, impairment: ImpairmentId);
    /// Cuts two places from each other, or the second from what the first sends.
    ///
    /// # Errors
    /// Where the engine cannot cut one way.
    fn partition(
        &mut self,
        a: Place,
        b: Place,
        one_way: bool,
    ) -> Result<Vec<ImpairmentId>, Unsupported> {
        let there = self.impair(a.clone(), b.clone(), Impairment::cut())?;
        match one_way {
            true => Ok(vec![there]),
            false => Ok(vec![there, self.impair(b, a, Impairment::cut())?]),
        }
    }
    /// Resets the live connections between two places. Returns how many.
    ///
    /// # Errors
    /// Where the engine cannot.
    fn reset(&mut self, a: Place, b: Place) -> Result<usize, Unsupported>;

    /// Stops or continues a host, its kernel included: nothing is answered meanwhile, and peers send
    /// again what they sent.
    ///
    /// # Errors
    /// Where the engine cannot.
    fn set_paused(&mut self, host: usize, paused: bool) -> Result<(), Unsupported>;
    /// Stops or continues a host's processes, all or those of a name; the kernel goes on.
    ///
    /// # Errors
    /// Where the engine cannot.
    fn set_hung(
        &mut self,
        host: usize,
        process: Option<&str>,
        hung: bool,
    ) -> Result<(), Unsupported>;
    /// Changes what is wrong with a host's clocks.
    ///
    /// # Errors
    /// Where the engine cannot do this one.
    fn set_clock(&mut self, host: usize, clock: ClockSpec) -> Result<(), Unsupported>;

    /// Names an address, from now on.
    fn set_name(&self, name: &str, answer: DnsAnswer);
    /// Tells one host otherwise than the others, or no longer.
    fn set_name_for(&self, host: usize, name: &str, answer: Option<DnsAnswer>);
    /// Changes the resolver of a host, or of every host that has none of its own.
    ///
    /// # Errors
    /// Where the engine cannot do this one.
    fn set_resolver(&mut self, host: Option<usize>, resolver: Resolver) -> Result<(), Unsupported>;
    /// A service's address and its endpoints, as kube-proxy has them.
    fn set_virtual_address(&self, at: SocketAddr, endpoints: Vec<SocketAddr>);

    /// Shows every delivery of bytes.
    fn set_tap(&self, tap: Tap);
    /// Shows every packet, as a capture on the sender's side would.
    ///
    /// # Errors
    /// Where the engine has no packets to show.
    fn set_capture(&self, capture: Capture) -> Result<(), Unsupported>;
    /// What a host's processes hold.
    ///
    /// # Errors
    /// Where the engine does not count.
    fn usage(&self, host: usize) -> Result<Usage, Unsupported>;
    /// What every host's processes hold, by host: cheaper than asking for each.
    ///
    /// # Errors
    /// Where the engine does not count.
    fn usages(&self) -> Result<Vec<Usage>, Unsupported>;
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

    fn link(&self, from: usize, to: usize) -> Result<LinkSpec, Unsupported> {
        Ok(Engine::link(self, from, to))
    }

    fn set_link(&mut self, from: Place, to: Place, link: LinkSpec) -> Result<(), Unsupported> {
        Engine::set_link(self, from, to, link);
        Ok(())
    }

    fn unset_link(&mut self, from: Place, to: Place) {
        Engine::unset_link(self, from, to);
    }

    fn impair(
        &mut self,
        from: Place,
        to: Place,
        how: Impairment,
    ) -> Result<ImpairmentId, Unsupported> {
        Ok(Engine::impair(self, from, to, how))
    }

    fn mend(&mut self, impairment: ImpairmentId) {
        Engine::mend(self, impairment);
    }

    fn reset(&mut self, a: Place, b: Place) -> Result<usize, Unsupported> {
        Ok(Engine::reset(self, a, b))
    }

    fn set_paused(&mut self, host: usize, paused: bool) -> Result<(), Unsupported> {
        Engine::set_paused(self, host, paused);
        Ok(())
    }

    fn set_hung(
        &mut self,
        host: usize,
        process: Option<&str>,
        hung: bool,
    ) -> Result<(), Unsupported> {
        Engine::set_hung(self, host, process, hung);
        Ok(())
    }

    fn set_clock(&mut self, host: usize, clock: ClockSpec) -> Result<(), Unsupported> {
        Engine::set_clock(self, host, clock);
        Ok(())
    }

    fn set_name(&self, name: &str, answer: DnsAnswer) {
        self.set_name(name, answer);
    }

    fn set_name_for(&self, host: usize, name: &str, answer: Option<DnsAnswer>) {
        self.set_name_for(host, name, answer);
    }

    fn set_resolver(&mut self, host: Option<usize>, resolver: Resolver) -> Result<(), Unsupported> {
        Engine::set_resolver(self, host, resolver);
        Ok(())
    }

    fn set_virtual_address(&self, at: SocketAddr, endpoints: Vec<SocketAddr>) {
        self.set_virtual_address(at, endpoints);
    }

    fn set_tap(&self, tap: Tap) {
        self.set_tap(tap);
    }

    fn set_capture(&self, capture: Capture) -> Result<(), Unsupported> {
        Engine::set_capture(self, capture);
        Ok(())
    }

    fn usage(&self, host: usize) -> Result<Usage, Unsupported> {
        Ok(Engine::usage(self, host))
    }

    fn usages(&self) -> Result<Vec<Usage>, Unsupported> {
        Ok(Engine::usages(self))
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

    fn link(&self, _from: usize, _to: usize) -> Result<LinkSpec, Unsupported> {
        Err(cannot("links of their own"))
    }

    fn set_link(&mut self, _from: Place, _to: Place, _: LinkSpec) -> Result<(), Unsupported> {
        Err(cannot("links of their own"))
    }

    fn unset_link(&mut self, _from: Place, _to: Place) {}

    fn impair(
        &mut self,
        _from: Place,
        _to: Place,
        _how: Impairment,
    ) -> Result<ImpairmentId, Unsupported> {
        Err(cannot("impairments but partitions both ways"))
    }

    fn mend(&mut self, impairment: ImpairmentId) {
        self.mend(impairment);
    }

    fn partition(
        &mut self,
        a: Place,
        b: Place,
        one_way: bool,
    ) -> Result<Vec<ImpairmentId>, Unsupported> {
        match one_way {
            true => Err(cannot("one-way partitions")),
            false => Ok(vec![Turmoil::partition(self, a, b)]),
        }
    }

    fn reset(&mut self, _a: Place, _b: Place) -> Result<usize, Unsupported> {
        Err(cannot("resets of live connections"))
    }

    fn set_paused(&mut self, _host: usize, _paused: bool) -> Result<(), Unsupported> {
        Err(cannot("pauses"))
    }

    fn set_hung(
        &mut self,
        _host: usize,
        _process: Option<&str>,
        _hung: bool,
    ) -> Result<(), Unsupported> {
        Err(cannot("hung processes"))
    }

    fn set_clock(&mut self, host: usize, clock: ClockSpec) -> Result<(), Unsupported> {
        match (clock.wall_drift_ppm, clock.monotonic_drift_ppm) {
            (0, 0) => {
                Turmoil::set_clock(self, host, clock);
                Ok(())
            }
            _ => Err(cannot("clocks that drift")),
        }
    }

    fn set_name(&self, name: &str, answer: DnsAnswer) {
        self.set_name(name, answer);
    }

    fn set_name_for(&self, host: usize, name: &str, answer: Option<DnsAnswer>) {
        self.set_name_for(host, name, answer);
    }

    fn set_resolver(&mut self, _: Option<usize>, _: Resolver) -> Result<(), Unsupported> {
        Err(cannot("resolvers that fail"))
    }

    fn set_virtual_address(&self, at: SocketAddr, endpoints: Vec<SocketAddr>) {
        self.set_virtual_address(at, endpoints);
    }

    fn set_tap(&self, tap: Tap) {
        self.set_tap(tap);
    }

    fn set_capture(&self, _capture: Capture) -> Result<(), Unsupported> {
        Err(cannot("packets to capture"))
    }

    fn usage(&self, _host: usize) -> Result<Usage, Unsupported> {
        Err(cannot("counts of what processes hold"))
    }

    fn usages(&self) -> Result<Vec<Usage>, Unsupported> {
        Err(cannot("counts of what processes hold"))
    }

    fn panics(&self) -> Vec<Panicked> {
        self.panics()
    }
}

fn cannot(what: &'static str) -> Unsupported {
    Unsupported { engine: "turmoil", what }
}
