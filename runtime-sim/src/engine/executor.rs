//! Runs tasks on one thread. Of those that are ready, the seed draws the next, so that different
//! seeds explore different interleavings.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use mesh_core::runtime::BoxFuture;

use super::host::ProcessId;
use super::table::Table;
use crate::heap::{self, Account};
use crate::lock;
use crate::random::Random;
use crate::trace::Panicked;

/// Polls between two moments of virtual time after which the run is taken for an endless loop.
const POLLS_PER_MOMENT_MAX: u64 = 20_000_000;

type TaskId = u64;

/// The tasks of every host.
pub(super) struct Executor {
    tasks: Mutex<Tasks>,
    ready: Arc<Mutex<Ready>>,
}

struct Tasks {
    slots: Table<Slot>,
    /// Tasks that live, by process and what they are.
    census: BTreeMap<ProcessId, Census>,
    /// Processes whose tasks are not polled, and those of them that are ready.
    stopped: BTreeMap<ProcessId, Vec<TaskId>>,
    panics: Vec<Panicked>,
    polls: u64,
    draw: Random,
}

/// How many tasks live, by what they are.
pub(super) type Census = BTreeMap<&'static str, usize>;

/// Tasks to poll.
#[derive(Default)]
struct Ready {
    /// In order of their numbers.
    ordered: Vec<TaskId>,
    /// In the order in which they were woken, which is nobody's business.
    woken: Vec<TaskId>,
}

struct Slot {
    process: ProcessId,
    account: Arc<Account>,
    name: &'static str,
    /// Absent while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Arc<TaskWaker>,
}

/// A task that is being polled.
struct Polled {
    id: TaskId,
    future: BoxFuture<'static, ()>,
    waker: Arc<TaskWaker>,
    account: Arc<Account>,
}

impl Executor {
    pub(super) fn new(draw: Random) -> Self {
        let tasks = Tasks {
            slots: Table::default(),
            census: BTreeMap::new(),
            stopped: BTreeMap::new(),
            panics: Vec::new(),
            polls: 0,
            draw,
        };
        Self { tasks: Mutex::new(tasks), ready: Arc::default() }
    }

    pub(super) fn spawn(
        &self,
        process: ProcessId,
        account: Arc<Account>,
        name: &'static str,
        future: BoxFuture<'static, ()>,
    ) {
        let mut tasks = lock(&self.tasks);
        let (id, queued) = (tasks.slots.next(), AtomicBool::new(true));
        let waker = Arc::new(TaskWaker { id, queued, ready: self.ready.clone() });
        tasks.slots.push(Slot { process, account, name, future: Some(future), waker });
        *tasks.census.entry(process).or_default().entry(name).or_default() += 1;
        lock(&self.ready).woken.push(id);
    }

    /// Polls ready tasks until none is, telling each to `seen` before.
    ///
    /// # Panics
    /// Where tasks wake each other without end at one moment.
    pub(super) fn run_ready(&self, seen: impl Fn(TaskId)) {
        let mut polls = 0;
        while let Some(Polled { id, mut future, waker, account }) = self.next() {
            seen(id);
            polls += 1;
            assert!(
                polls < POLLS_PER_MOMENT_MAX,
                "tasks wake each other without end; one of them is `{}`",
                lock(&self.tasks).slots.get(id).map_or("", |slot| slot.name),
            );
            waker.queued.store(false, Ordering::Relaxed);
            let std_waker = Waker::from(waker);
            let mut context = Context::from_waker(&std_waker);
            let entered = account.enter();
            let polled = catch_unwind(AssertUnwindSafe(|| {
                let polled = future.as_mut().poll(&mut context);
                if polled.is_ready() {
                    drop(future);
                    return None;
                }
                Some(future)
            }));
            drop(entered);
            self.put_back(id, polled);
        }
        lock(&self.tasks).polls += polls;
    }

    /// The next task to poll: one of the ready, as the seed draws.
    fn next(&self) -> Option<Polled> {
        let mut tasks = lock(&self.tasks);
        let Tasks { slots, stopped, draw, .. } = &mut *tasks;
        loop {
            let id = lock(&self.ready).take(draw)?;
            let Some(slot) = slots.get_mut(id) else {
                continue;
            };
            if let Some(parked) = stopped.get_mut(&slot.process) {
                parked.push(id);
                continue;
            }
            if let Some(future) = slot.future.take() {
                let (waker, account) = (slot.waker.clone(), slot.account.clone());
                return Some(Polled { id, future, waker, account });
            }
        }
    }

    fn put_back(
        &self,
        id: TaskId,
        polled: Result<Option<BoxFuture<'static, ()>>, Box<dyn Any + Send>>,
    ) {
        let mut tasks = lock(&self.tasks);
        match polled {
            // Ended from inside its own poll where the slot is gone: dropped below, unlocked.
            Ok(Some(future)) => match tasks.slots.get_mut(id) {
                Some(slot) => slot.future = Some(future),
                None => {
                    drop(tasks);
                    drop(future);
                }
            },
            Ok(None) => {
                tasks.remove(id);
            }
            Err(panic) => {
                let task = tasks.remove(id).map_or("", |slot| slot.name);
                tasks.panics.push(Panicked::new(task, &*panic));
            }
        }
    }

    /// Ends the tasks of the processes. The caller drops the returned futures while it holds no
    /// lock: their destructors close connections.
    #[must_use = "dropping the futures ends the tasks"]
    pub(super) fn end(&self, ended: impl Fn(ProcessId) -> bool) -> Vec<BoxFuture<'static, ()>> {
        let mut tasks = lock(&self.tasks);
        tasks.stopped.retain(|process, _| !ended(*process));
        let of_them = tasks.slots.iter().filter(|(_, slot)| ended(slot.process));
        let of_them: Vec<_> = of_them.map(|(id, _)| id).collect();
        let slots = of_them.into_iter().filter_map(|id| tasks.remove(id));
        slots.filter_map(|slot| slot.future).collect()
    }

    /// Stops polling a process's tasks, or goes on with it.
    pub(super) fn set_stopped(&self, process: ProcessId, stop: bool) {
        let mut tasks = lock(&self.tasks);
        if stop {
            tasks.stopped.entry(process).or_default();
        } else if let Some(parked) = tasks.stopped.remove(&process) {
            lock(&self.ready).woken.extend(parked);
        }
    }

    pub(super) fn panics(&self) -> Vec<Panicked> {
        lock(&self.tasks).panics.clone()
    }

    /// Tasks that live, by what they are.
    pub(super) fn census(&self) -> Census {
        let mut whole = Census::new();
        for (name, count) in lock(&self.tasks).census.values().flatten() {
            *whole.entry(name).or_default() += count;
        }
        whole
    }

    /// A process's tasks that live, by what they are.
    pub(super) fn census_of(&self, process: ProcessId) -> Census {
        lock(&self.tasks).census.get(&process).cloned().unwrap_or_default()
    }

    pub(super) fn polls(&self) -> u64 {
        lock(&self.tasks).polls
    }
}

impl Tasks {
    fn remove(&mut self, id: TaskId) -> Option<Slot> {
        let slot = self.slots.remove(id)?;
        if let Some(census) = self.census.get_mut(&slot.process) {
            if let Some(count) = census.get_mut(slot.name).filter(|count| **count > 1) {
                *count -= 1;
            } else {
                census.remove(slot.name);
            }
            if census.is_empty() {
                self.census.remove(&slot.process);
            }
        }
        Some(slot)
    }
}

impl Ready {
    /// One of them, by number, not by who was woken first: tokio's watch channels wake their
    /// receivers in an order that they draw from a generator of their own.
    fn take(&mut self, draw: &mut Random) -> Option<TaskId> {
        let Self { ordered, woken } = self;
        match &woken[..] {
            [] => {}
            [one] => {
                let at = ordered.partition_point(|known| known < one);
                ordered.insert(at, *one);
                woken.clear();
            }
            _ => {
                ordered.append(woken);
                ordered.sort_unstable();
            }
        }
        match ordered.len() {
            0 => None,
            1 => ordered.pop(),
            several => Some(ordered.remove(draw.below(several))),
        }
    }
}

struct TaskWaker {
    id: TaskId,
    /// Already among the ready: waking again changes nothing.
    queued: AtomicBool,
    ready: Arc<Mutex<Ready>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let _kernel = heap::kernel();
            lock(&self.ready).woken.push(self.id);
        }
    }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Executor").field(&self.census()).finish()
    }
}
