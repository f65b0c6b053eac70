//! Spreads runs over threads. Each run has a thread of its own and its own randomness (the library
//! sees to that), so that how many there are at once changes none of them.
//!
//! Law: results come in the order of what was asked; not more are under way, or wait to be told, than
//! four for each job.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

/// Results that wait for an earlier one, for each job.
const AHEAD: usize = 4;

/// As many jobs as asked for, or as there are cores.
pub fn jobs(asked: Option<NonZeroUsize>) -> usize {
    asked.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

/// Does `work` on every item and tells `done` of the results, in order. Where `done` breaks, no more
/// is begun.
pub fn in_order<T: Send, R: Send>(
    jobs: usize,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> R + Sync,
    mut done: impl FnMut(R) -> ControlFlow<()>,
) {
    let items = Mutex::new(items.enumerate());
    let (stop, told) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, items, work) = (sender.clone(), &items, &work);
            let (stop, told) = (&stop, &told);
            scope.spawn(move || {
                loop {
                    let next = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((number, item)) = next else { return };
                    // The one that all wait for is under way in another thread.
                    while number > told.load(Ordering::Acquire) + AHEAD * jobs {
                        thread::park_timeout(std::time::Duration::from_millis(20));
                    }
                    if stop.load(Ordering::Acquire) || sender.send((number, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut next, mut early) = (0, BTreeMap::new());
        for (number, result) in receiver {
            early.insert(number, result);
            while let Some(result) = early.remove(&next) {
                next += 1;
                told.store(next, Ordering::Release);
                if !stop.load(Ordering::Acquire) && done(result).is_break() {
                    stop.store(true, Ordering::Release);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_break_ends_it() {
        let mut seen = Vec::new();
        in_order(
            3,
            0..100u64,
            |n| n * n,
            |square| {
                seen.push(square);
                if seen.len() == 40 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert_eq!(seen, (0..40).map(|n| n * n).collect::<Vec<_>>());
    }
}
