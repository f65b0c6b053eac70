//! Spreads runs over threads. Each run has a thread of its own and its own randomness (the library
//! sees to that), so that how many there are at once changes none of them.
//!
//! Law: results come in the order of what was asked; not more are under way, or wait to be told, than
//! four for each job.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

/// Results that wait for an earlier one, for each job.
const AHEAD: usize = 4;

/// As many jobs as asked for, or as there are cores.
pub fn jobs(asked: Option<NonZeroUsize>) -> usize {
    asked.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

/// Does `work` on every item and tells `done` of the results, in order. Where `done` breaks or `work`
/// panics, no more is begun.
///
/// # Panics
/// As `work` or `done` did.
pub fn in_order<T: Send, R: Send>(
    jobs: usize,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> R + Sync,
    mut done: impl FnMut(R) -> ControlFlow<()>,
) {
    let items = Mutex::new(items.enumerate());
    let told = Told::default();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, items, work, told) = (sender.clone(), &items, &work, &told);
            scope.spawn(move || {
                let _end = EndOnPanic(told);
                loop {
                    let next = locked(items).next();
                    let Some((number, item)) = next else { return };
                    // The one that all wait for is under way in another thread.
                    if !told.may_begin(number, AHEAD * jobs)
                        || sender.send((number, work(item))).is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let _end = EndOnPanic(&told);
        let (mut next, mut early) = (0, BTreeMap::new());
        for (number, result) in receiver {
            early.insert(number, result);
            while let Some(result) = early.remove(&next) {
                next += 1;
                if done(result).is_break() {
                    told.end();
                    return;
                }
                told.reached(next);
            }
        }
    });
}

/// How many results were told, and whether no more are wanted. Who waits for results to be told is
/// woken by the end as well: a result that is not to come cannot be waited for.
#[derive(Default)]
struct Told {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    results: usize,
    is_over: bool,
}

impl Told {
    /// Waits until `number` is at most `ahead` of what was told. False where no more are wanted.
    fn may_begin(&self, number: usize, ahead: usize) -> bool {
        let is_far = |state: &mut State| !state.is_over && number > state.results + ahead;
        let state = self.changed.wait_while(locked(&self.state), is_far);
        !state.unwrap_or_else(PoisonError::into_inner).is_over
    }

    fn reached(&self, results: usize) {
        locked(&self.state).results = results;
        self.changed.notify_all();
    }

    fn end(&self) {
        locked(&self.state).is_over = true;
        self.changed.notify_all();
    }
}

/// Ends the telling where its thread panics.
struct EndOnPanic<'a>(&'a Told);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_break_ends_it() {
        // Often: threads that have taken an item when the break comes are what could wait for ever.
        for _ in 0..500 {
            let mut seen = Vec::new();
            in_order(
                3,
                0..100u64,
                |n| n * n,
                |square| {
                    seen.push(square);
                    if seen.len() == 40 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                },
            );
            assert_eq!(seen, (0..40).map(|n| n * n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_panic_ends_it() {
        for _ in 0..20 {
            let work =
                || in_order(3, 0..100, |n| assert_ne!(n, 20), |()| ControlFlow::Continue(()));
            assert!(std::panic::catch_unwind(work).is_err());
            let told = |n| {
                assert_ne!(n, 20);
                ControlFlow::Continue(())
            };
            assert!(std::panic::catch_unwind(|| in_order(3, 0..100, |n| n, told)).is_err());
        }
    }
}
