//! An allocator that counts: how often and how much each role's threads allocate, and what of it
//! is still held.
//!
//! Law: counting allocates nothing, but while sites are recorded.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// Whose allocations are counted together. A thread has one role, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The proxy beside the client.
    Outbound = 0,
    /// The proxy beside the server.
    Inbound = 1,
}

/// Counts since the process started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Allocations, those that grow included.
    pub allocations: u64,
    /// Bytes allocated.
    pub bytes: u64,
    /// Bytes held now.
    pub held_bytes: i64,
}

struct Cells {
    allocations: AtomicU64,
    bytes: AtomicU64,
    held_bytes: AtomicI64,
}

static CELLS: [Cells; 2] = [const {
    Cells {
        allocations: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        held_bytes: AtomicI64::new(0),
    }
}; 2];

/// The role whose allocations' sites are recorded, if one's are.
static RECORDING: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

static SITES: Mutex<Vec<(usize, Backtrace)>> = Mutex::new(Vec::new());

thread_local! {
    static ROLE: Cell<Option<Role>> = const { Cell::new(None) };
}

/// From now on what this thread allocates is counted as `role`'s.
pub fn take_role(role: Role) {
    ROLE.set(Some(role));
}

/// What a role's threads have allocated so far.
pub fn counts(role: Role) -> Counts {
    let cells = &CELLS[role as usize];
    Counts {
        allocations: cells.allocations.load(Relaxed),
        bytes: cells.bytes.load(Relaxed),
        held_bytes: cells.held_bytes.load(Relaxed),
    }
}

/// Starts to record where a role allocates.
pub fn record_sites(role: Role) {
    RECORDING[role as usize].store(true, Relaxed);
}

/// Stops recording; the stacks of allocations, with their number and bytes, most frequent first.
pub fn recorded_sites() -> Vec<(String, u64, u64)> {
    RECORDING.iter().for_each(|flag| flag.store(false, Relaxed));
    let sites = std::mem::take(&mut *SITES.lock().expect("nobody panics while holding it"));
    let mut by_stack: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (bytes, stack) in sites {
        let sum = by_stack.entry(frames(&stack.to_string())).or_default();
        sum.0 += 1;
        sum.1 += bytes as u64;
    }
    let mut sorted: Vec<_> = by_stack.into_iter().map(|(s, (n, b))| (s, n, b)).collect();
    sorted.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
    sorted
}

/// The frames that say something: no allocator, no standard library.
fn frames(stack: &str) -> String {
    const NOISE: [&str; 6] = ["benches::", "std::", "core::", "<core::", "alloc::", "<alloc::"];
    let names = stack.lines().filter_map(|line| {
        let (number, name) = line.trim().split_once(": ")?;
        number.parse::<u32>().is_ok().then_some(name)
    });
    let telling = names.filter(|name| {
        !NOISE.iter().any(|noise| name.starts_with(noise)) && !name.starts_with("__rust")
    });
    telling.take(9).collect::<Vec<_>>().join("\n      < ")
}

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

impl Counting {
    fn grew(bytes: usize) {
        let Ok(Some(role)) = ROLE.try_with(Cell::get) else {
            return;
        };
        let cells = &CELLS[role as usize];
        cells.allocations.fetch_add(1, Relaxed);
        cells.bytes.fetch_add(bytes as u64, Relaxed);
        cells.held_bytes.fetch_add(bytes as i64, Relaxed);
        if RECORDING[role as usize].load(Relaxed) {
            // What recording allocates is nobody's.
            ROLE.set(None);
            let stack = Backtrace::force_capture();
            if let Ok(mut sites) = SITES.lock() {
                sites.push((bytes, stack));
            }
            ROLE.set(Some(role));
        }
    }

    fn shrank(bytes: usize) {
        if let Ok(Some(role)) = ROLE.try_with(Cell::get) {
            CELLS[role as usize].held_bytes.fetch_sub(bytes as i64, Relaxed);
        }
    }
}

// SAFETY: every method hands its arguments to the system's allocator and returns what that returns.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grew(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::grew(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::shrank(layout.size());
        Self::grew(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::shrank(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}
