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
    draw: Mutex<Random>,
}

#[derive(Default)]
struct Tasks {
    slots: BTreeMap<TaskId, Slot>,
    next: TaskId,
    /// Processes whose tasks are not polled, and those of them that are ready.
    stopped: BTreeMap<ProcessId, Vec<TaskId>>,
    panics: Vec<Panicked>,
    polls: u64,
}

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

impl Executor {
    pub(super) fn new(draw: Random) -> Self {
        Self { tasks: Mutex::default(), ready: Arc::default(), draw: Mutex::new(draw) }
    }

    pub(super) fn spawn(
        &self,
        process: ProcessId,
        account: Arc<Account>,
        name: &'static str,
        future: BoxFuture<'static, ()>,
    ) {
        let mut tasks = lock(&self.tasks);
        let id = tasks.next;
        tasks.next += 1;
        let waker =
            Arc::new(TaskWaker { id, queued: AtomicBool::new(true), ready: self.ready.clone() });
        let slot = Slot { process, account, name, future: Some(future), waker };
        tasks.slots.insert(id, slot);
        lock(&self.ready).woken.push(id);
    }

    /// Polls ready tasks until none is, telling each to `seen` before.
    ///
    /// # Panics
    /// Where tasks wake each other without end at one moment.
    pub(super) fn run_ready(&self, seen: impl Fn(TaskId)) {
        let mut polls = 0;
        while let Some(id) = self.draw_ready() {
            let Some((mut future, waker, account)) = self.take(id) else {
                continue;
            };
            seen(id);
            polls += 1;
            assert!(
                polls < POLLS_PER_MOMENT_MAX,
                "tasks wake each other without end; one of them is `{}`",
                lock(&self.tasks).slots.get(&id).map_or("", |slot| slot.name),
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

    fn draw_ready(&self) -> Option<TaskId> {
        let mut ready = lock(&self.ready);
        let Ready { ordered, woken } = &mut *ready;
        if !woken.is_empty() {
            // By number, not by who was woken first: tokio's watch channels wake their receivers in
            // an order that they draw from a generator of their own.
            ordered.append(woken);
            ordered.sort_unstable();
        }
        match ordered.len() {
            0 => None,
            1 => ordered.pop(),
            several => Some(ordered.remove(lock(&self.draw).below(several))),
        }
    }

    fn take(&self, id: TaskId) -> Option<(BoxFuture<'static, ()>, Arc<TaskWaker>, Arc<Account>)> {
        let mut tasks = lock(&self.tasks);
        let Tasks { slots, stopped, .. } = &mut *tasks;
        let slot = slots.get_mut(&id)?;
        if let Some(parked) = stopped.get_mut(&slot.process) {
            parked.push(id);
            return None;
        }
        Some((slot.future.take()?, slot.waker.clone(), slot.account.clone()))
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
    pub(super) fn end(&self, ended: impl Fn(ProcessId) -> bool) -> Vec<BoxFuture<'static, ()>> {
        let mut tasks = lock(&self.tasks);
        tasks.stopped.retain(|process, _| !ended(*process));
        let ended = tasks.slots.extract_if(.., |_, slot| ended(slot.process));
        ended.filter_map(|(_, slot)| slot.future).collect()
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
    pub(super) fn census(&self) -> BTreeMap<&'static str, usize> {
        let mut census = BTreeMap::new();
        for slot in lock(&self.tasks).slots.values() {
            *census.entry(slot.name).or_default() += 1;
        }
        census
    }

    /// Tasks that live, by process and what they are.
    pub(super) fn census_by_process(&self) -> BTreeMap<ProcessId, BTreeMap<&'static str, usize>> {
        let mut census: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for slot in lock(&self.tasks).slots.values() {
            *census.entry(slot.process).or_default().entry(slot.name).or_default() += 1;
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
