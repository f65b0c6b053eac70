//! What a world does to its hosts and links: crashes, losses of power, pauses, hung processes,
//! impairments, resets, clocks and resolvers.

use std::collections::BTreeMap;

use super::Engine;
use super::host::{HostId, Process, ProcessId};
use super::network::Affected;
use crate::link::{Impairment, ImpairmentId, LinkSpec, Place};
use crate::lock;
use crate::topology::{ClockSpec, Crash, Resolver};

impl Engine {
    /// Ends the processes of a host, all or those of a name. Their sockets are closed, unless the
    /// host lost its power: then it falls silent.
    pub fn crash(&self, host: HostId, process: Option<&str>, crash: Crash) {
        let mut state = lock(&self.shared.state);
        let what = process.unwrap_or("every process");
        state.event(host, format_args!("crash {crash:?} of {what}"));
        let here = &mut state.hosts[host];
        let ended: BTreeMap<_, _> = match (process, crash) {
            (Some(name), Crash::Process) => {
                let named = |_: &ProcessId, process: &mut Process| process.name == name;
                here.processes.extract_if(.., named).collect()
            }
            _ => std::mem::take(&mut here.processes),
        };
        if crash == Crash::Power {
            state.forget_sent_by(host);
            state.change_ways(Affected::Of(host), |state| {
                let here = &mut state.hosts[host];
                here.on = false;
                here.paused = false;
                here.boot += 1;
                here.listeners.clear();
            });
        }
        drop(state);
        let executor = &self.shared.executor;
        let futures = executor.end(|process| ended.contains_key(&process));
        drop(futures);
    }

    /// Gives a host its power back. Nothing runs on it until it is started.
    pub fn power_on(&self, host: HostId) {
        let mut state = lock(&self.shared.state);
        if !state.hosts[host].on {
            state.event(host, format_args!("power on"));
            state.change_ways(Affected::Of(host), |state| state.hosts[host].on = true);
        }
    }

    /// Stops and continues a host, its kernel included: peers' segments are lost meanwhile, and
    /// sent again on their schedule.
    pub fn set_paused(&self, host: HostId, paused: bool) {
        let mut state = lock(&self.shared.state);
        state.event(host, format_args!("paused: {paused}"));
        state.change_ways(Affected::Of(host), |state| state.hosts[host].paused = paused);
        drop(state);
        self.stop_or_go_on(host);
    }

    /// Stops and continues the processes of a host, all or those of a name. They live, and their
    /// kernel answers for them.
    pub fn set_hung(&self, host: HostId, process: Option<&str>, hung: bool) {
        let mut state = lock(&self.shared.state);
        let what = process.unwrap_or("every process");
        state.event(host, format_args!("hung: {hung}, {what}"));
        for here in state.hosts[host].processes.values_mut() {
            if process.is_none_or(|name| name == here.name) {
                here.hung = hung;
            }
        }
        drop(state);
        self.stop_or_go_on(host);
    }

    /// Brings the executor's idea of a host's processes up to date.
    fn stop_or_go_on(&self, host: HostId) {
        let state = lock(&self.shared.state);
        let here = &state.hosts[host];
        let stopped = here.processes.iter().map(|(id, p)| (*id, here.paused || p.hung));
        let stopped: Vec<_> = stopped.collect();
        drop(state);
        for (process, stop) in stopped {
            self.shared.executor.set_stopped(process, stop);
        }
    }

    /// What one direction between two hosts is like now, impairments included.
    pub fn link(&self, from: HostId, to: HostId) -> LinkSpec {
        lock(&self.shared.state).ways.resolve(from, to)
    }

    /// Says what a direction is like, from now on.
    pub fn set_link(&self, from: impl Into<Place>, to: impl Into<Place>, link: LinkSpec) {
        let (from, to) = (from.into(), to.into());
        let mut state = lock(&self.shared.state);
        state.world_event(format_args!("link {from:?} to {to:?}: {link:?}"));
        let course = (state.ways.spot(from), state.ways.spot(to));
        state.change_ways(Affected::On(course), |state| state.ways.set(course, link));
    }

    /// Takes back what was said of a direction.
    pub fn unset_link(&self, from: impl Into<Place>, to: impl Into<Place>) {
        let (from, to) = (from.into(), to.into());
        let mut state = lock(&self.shared.state);
        state.world_event(format_args!("link {from:?} to {to:?} as usual"));
        let course = (state.ways.spot(from), state.ways.spot(to));
        state.change_ways(Affected::On(course), |state| state.ways.unset(course));
    }

    /// What every direction is like that is not set apart.
    pub fn set_default_link(&self, link: LinkSpec) {
        let mut state = lock(&self.shared.state);
        state.change_ways(Affected::All, |state| state.ways.set_usual(link));
    }

    /// Makes a direction worse until [`Engine::mend`].
    pub fn impair(
        &self,
        from: impl Into<Place>,
        to: impl Into<Place>,
        how: Impairment,
    ) -> ImpairmentId {
        let (from, to) = (from.into(), to.into());
        let mut state = lock(&self.shared.state);
        state.world_event(format_args!("impaired {from:?} to {to:?}: {how:?}"));
        let course = (state.ways.spot(from), state.ways.spot(to));
        state.change_ways(Affected::On(course), |state| state.ways.impair(course, how))
    }

    /// Ends an impairment.
    pub fn mend(&self, impairment: ImpairmentId) {
        let mut state = lock(&self.shared.state);
        state.world_event(format_args!("mended {}", impairment.0));
        let affected = state.ways.course(impairment).map_or(Affected::None, Affected::On);
        state.change_ways(affected, |state| state.ways.mend(impairment));
    }

    /// Resets the live connections between two places. Returns how many.
    pub fn reset(&self, a: impl Into<Place>, b: impl Into<Place>) -> usize {
        let mut state = lock(&self.shared.state);
        let course = (state.ways.spot(a.into()), state.ways.spot(b.into()));
        state.reset(course)
    }

    /// Changes what is wrong with a host's clocks. A sleep that is under way ends at the later of
    /// what the old and the new rate make of it.
    pub fn set_clock(&self, host: HostId, clock: ClockSpec) {
        let mut state = lock(&self.shared.state);
        state.event(host, format_args!("clock: {clock:?}"));
        let now = state.agenda.now();
        state.hosts[host].clock.set(now, clock);
    }

    /// Changes the resolver of a host, or of every host that has none of its own.
    pub fn set_resolver(&self, host: Option<HostId>, resolver: Resolver) {
        let mut state = lock(&self.shared.state);
        state.world_event(format_args!("resolver of {host:?}: {resolver:?}"));
        match host {
            Some(host) => {
                state.resolvers.insert(host, resolver);
            }
            None => state.resolver = resolver,
        }
    }
}
