//! Takes the system's randomness away from simulated runs, and counts who asks for it.
//!
//! `std`'s hash maps, which our dependencies use (generated protobuf types among them), order their
//! entries by keys that each thread draws once from `getrandom`. `std` calls it by a weak symbol so
//! that it can be replaced, which is done here: on the thread of a simulated run it answers from the
//! run's seed, elsewhere it is the system call. aws-lc draws by system call and is not reached;
//! `crypto` replaces what of it would.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::thread;

thread_local! {
    /// The seed of the run on this thread.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    /// Draws from the system that this thread's run has made.
    static DRAWS: Cell<u64> = const { Cell::new(0) };
}

/// Runs `run` on a thread of its own whose system randomness is a function of the seed. Returns its
/// result and how often it asked for system randomness: a tripwire, because each asker is somebody
/// who does not use the doors.
pub fn seeded<T: Send>(seed: u64, run: impl FnOnce() -> T + Send) -> (T, u64) {
    let joined = thread::scope(|scope| {
        let run = move || {
            SEED.set(Some(seed));
            let result = run();
            (result, DRAWS.get())
        };
        let thread = thread::Builder::new().name("simulation".to_owned());
        let thread = thread.stack_size(16 * 1024 * 1024).spawn_scoped(scope, run);
        thread.expect("the system gives a thread").join()
    });
    joined.unwrap_or_else(|panic| resume_unwind(panic))
}

/// The C library's function, which this definition replaces in programs that link it.
#[unsafe(no_mangle)]
#[allow(unsafe_code)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    let seed = SEED.try_with(Cell::get).ok().flatten();
    let Some(seed) = seed else {
        // SAFETY: the caller's arguments, passed on to the system call of the same contract.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize };
    };
    let draw = DRAWS.get();
    DRAWS.set(draw + 1);
    for at in 0..length {
        let mixed = (seed ^ draw.rotate_left(32) ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // SAFETY: `at` is below `length`, and the caller gives a buffer of `length` bytes.
        unsafe { buffer.add(at).write((mixed >> 56) as u8) };
    }
    length as isize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of a hash map's entries, by std's own keys.
    fn order() -> Vec<u32> {
        #[allow(clippy::disallowed_types)]
        let map: std::collections::HashMap<u32, ()> = (0..50).map(|n| (n, ())).collect();
        map.into_keys().collect()
    }

    #[test]
    fn hash_maps_are_ordered_by_the_seed() {
        let of = |seed| seeded(seed, order);
        assert_eq!(of(1), of(1));
        assert_eq!(of(1).1, 1, "draws");
        assert_ne!(of(1).0, of(2).0);
    }

    #[test]
    fn elsewhere_the_system_answers() {
        let random = || thread::spawn(order).join().expect("no panic");
        assert!((0..5).any(|_| random() != random()));
    }
}
