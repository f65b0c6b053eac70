//! Takes the system's monotonic clock away from simulated runs: h2 reads it to forget streams that were
//! reset a second ago, and how long a run takes must not decide what it does.
//!
//! `std` calls `clock_gettime` by a symbol that can be replaced, which is done here: on a thread where the
//! clock is stopped it stands still, elsewhere it is the system call. Law: nothing of a simulated world
//! goes by this clock; worlds have virtual time.

use std::cell::Cell;

thread_local! {
    static STOPPED: Cell<bool> = const { Cell::new(false) };
}

/// The clock of this thread stands still as long as this lives.
#[derive(Debug)]
pub struct Stopped(());

/// Stops the clock of this thread.
pub fn stop() -> Stopped {
    STOPPED.set(true);
    Stopped(())
}

impl Drop for Stopped {
    fn drop(&mut self) {
        STOPPED.set(false);
    }
}

/// What a stopped clock shows: a day, so that nothing that is subtracted from it goes below zero.
const STANDS_AT_SECONDS: i64 = 86_400;

/// The C library's function, which this definition replaces in programs that link it.
#[unsafe(no_mangle)]
#[allow(unsafe_code)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> i32 {
    let stopped = STOPPED.try_with(Cell::get).unwrap_or(false);
    if stopped && clock == libc::CLOCK_MONOTONIC {
        // SAFETY: the caller gives a place for a time, as the function's contract says.
        unsafe { time.write(libc::timespec { tv_sec: STANDS_AT_SECONDS, tv_nsec: 0 }) };
        return 0;
    }
    // SAFETY: the caller's arguments, passed on to the system call of the same contract.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as i32 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use std::time::Instant;

    #[test]
    fn a_stopped_clock_stands_still_and_goes_on_afterwards() {
        let before = Instant::now();
        let stopped = super::stop();
        assert_eq!(Instant::now(), Instant::now());
        drop(stopped);
        assert!(Instant::now() >= before);
    }
}
