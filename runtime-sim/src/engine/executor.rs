//! Runs tasks on one thread. Of those that are ready, the seed draws the next, so that different
//! seeds explore different interleavings.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use mesh_core::runtime::BoxFuture;

use super::host::{HostId, ProcessId};
use crate::lock;
use crate::random::Random;
use crate::trace::Panicked;

/// Polls between two moments of virtual time after which the run is taken for an endless loop.
const POLLS_PER_MOMENT_MAX: u64 = 20_000_000;

type TaskId = u64;

/// The tasks of every host.
pub(super) struct Executor {
    tasks: Mutex<Tasks>,
    ready: Arc<Mutex<Vec<TaskId>>>,
    draw: Mutex<Random>,
}

#[derive(Default)]
struct Tasks {
    slots: BTreeMap<TaskId, Slot>,
    next: TaskId,
    /// Ready tasks of hosts that are paused.
    parked: BTreeMap<HostId, Vec<TaskId>>,
    panics: Vec<Panicked>,
    polls: u64,
}

struct Slot {
    host: HostId,
    process: ProcessId,
    name: &'static str,
    /// Absent while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Arc<TaskWaker>,
}

impl Executor {
    pub(super) fn new(draw: Random) -> Self {
        Self { tasks: Mutex::default(), ready: Arc::default(), draw: Mutex::new(draw) }
    }

    pub(super) fn spawn(
        &self,
        host: HostId,
        process: ProcessId,
        name: &'static str,
        future: BoxFuture<'static, ()>,
    ) {
        let mut tasks = lock(&self.tasks);
        let id = tasks.next;
        tasks.next += 1;
        let waker =
            Arc::new(TaskWaker { id, queued: AtomicBool::new(true), ready: self.ready.clone() });
        let slot = Slot { host, process, name, future: Some(future), waker };
        tasks.slots.insert(id, slot);
        lock(&self.ready).push(id);
    }

    /// Polls ready tasks until none is.
    ///
    /// # Panics
    /// Where tasks wake each other without end at one moment.
    pub(super) fn run_ready(&self, paused: impl Fn(HostId) -> bool) {
        let mut polls = 0;
        while let Some(id) = self.draw_ready() {
            let Some((mut future, waker)) = self.take(id, &paused) else {
                continue;
            };
            polls += 1;
            assert!(
                polls < POLLS_PER_MOMENT_MAX,
                "tasks wake each other without end; one of them is `{}`",
                lock(&self.tasks).slots.get(&id).map_or("", |slot| slot.name),
            );
            waker.queued.store(false, Ordering::Relaxed);
            let std_waker = Waker::from(waker);
            let mut context = Context::from_waker(&std_waker);
            let polled = catch_unwind(AssertUnwindSafe(|| {
                let polled = future.as_mut().poll(&mut context);
                if polled.is_ready() {
                    drop(future);
                    return None;
                }
                Some(future)
            }));
            self.put_back(id, polled);
        }
        lock(&self.tasks).polls += polls;
    }

    fn draw_ready(&self) -> Option<TaskId> {
        let mut ready = lock(&self.ready);
        if ready.is_empty() {
            return None;
        }
        // By number, not by who was woken first: tokio's watch channels wake their receivers in an
        // order that they draw from a generator of their own.
        ready.sort_unstable();
        let at = lock(&self.draw).below(ready.len());
        Some(ready.remove(at))
    }

    fn take(
        &self,
        id: TaskId,
        paused: impl Fn(HostId) -> bool,
    ) -> Option<(BoxFuture<'static, ()>, Arc<TaskWaker>)> {
        let mut tasks = lock(&self.tasks);
        let host = tasks.slots.get(&id)?.host;
        if paused(host) {
            tasks.parked.entry(host).or_default().push(id);
            return None;
        }
        let slot = tasks.slots.get_mut(&id)?;
        Some((slot.future.take()?, slot.waker.clone()))
    }

    fn put_back(
        &self,
        id: TaskId,
        polled: Result<Option<BoxFuture<'static, ()>>, Box<dyn Any + Send>>,
    ) {
        let mut tasks = lock(&self.tasks);
        match polled {
            // Ended from inside its own poll where the slot is gone: dropped below, unlocked.
            Ok(Some(future)) => match tasks.slots.get_mut(&id) {
                Some(slot) => slot.future = Some(future),
                None => {
                    drop(tasks);
                    drop(future);
                }
            },
            Ok(None) => {
                tasks.slots.remove(&id);
            }
            Err(panic) => {
                let task = tasks.slots.remove(&id).map_or("", |slot| slot.name);
                tasks.panics.push(Panicked::new(task, &*panic));
            }
        }
    }

    /// Ends the tasks of the processes. The caller drops the returned futures while it holds no
    /// lock: their destructors close connections.
    #[must_use = "dropping the futures ends the tasks"]
    pub(super) fn end(
        &self,
        ended: impl Fn(HostId, ProcessId) -> bool,
    ) -> Vec<BoxFuture<'static, ()>> {
        let mut tasks = lock(&self.tasks);
        let ids: Vec<_> = tasks
            .slots
            .iter()
            .filter(|(_, slot)| ended(slot.host, slot.process))
            .map(|(id, _)| *id)
            .collect();
        ids.iter().filter_map(|id| tasks.slots.remove(id)?.future).collect()
    }

    /// Lets a paused host's ready tasks run.
    pub(super) fn resume(&self, host: HostId) {
        let parked = lock(&self.tasks).parked.remove(&host);
        lock(&self.ready).extend(parked.unwrap_or_default());
    }

    pub(super) fn panics(&self) -> Vec<Panicked> {
        lock(&self.tasks).panics.clone()
    }

    /// Tasks that live, by what they are.
    pub(super) fn census(&self) -> BTreeMap<&'static str, usize> {
        let mut census = BTreeMap::new();
        for slot in lock(&self.tasks).slots.values() {
            *census.entry(slot.name).or_default() += 1;
        }
        census
    }

    pub(super) fn polls(&self) -> u64 {
        lock(&self.tasks).polls
    }
}

struct TaskWaker {
    id: TaskId,
    /// Already among the ready: waking again changes nothing.
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<TaskId>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push(self.id);
        }
    }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Executor").field(&self.census()).finish()
    }
}
