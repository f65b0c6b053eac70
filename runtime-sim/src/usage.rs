//! What a host's processes hold: the figures that leak and memory oracles judge.

use std::collections::BTreeMap;

/// What a host holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How often the host was given power: 1 at first.
    pub boots: u32,
    /// Its processes that live, in order of their start.
    pub processes: Vec<ProcessUsage>,
    /// Sockets that only the kernel still holds: sent and not yet acknowledged, or half closed.
    pub orphan_sockets: usize,
}

impl Usage {
    /// The process of a name that was started last.
    pub fn process(&self, name: &str) -> Option<&ProcessUsage> {
        self.processes.iter().rev().find(|process| process.name == name)
    }
}

/// What a process holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Its name.
    pub name: String,
    /// How often a process of this name was started on its host, this time counted.
    pub generation: u32,
    /// Tasks that live, by what they are.
    pub tasks: BTreeMap<&'static str, usize>,
    /// Connections, those that wait to be accepted among them.
    pub sockets: usize,
    /// Bound sockets that listen.
    pub listeners: usize,
    /// Sleeps that have not ended.
    pub timers: usize,
    /// Its heap; none where no program counts it.
    pub heap: Option<Heap>,
}

impl ProcessUsage {
    /// Tasks that live.
    pub fn tasks(&self) -> usize {
        self.tasks.values().sum()
    }
}

/// Bytes of heap, as they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// Allocated and not freed.
    pub current_bytes: u64,
    /// The most of it at any moment.
    pub peak_bytes: u64,
}
