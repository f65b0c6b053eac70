//! Whose heap it is: an allocator that books each allocation on the simulated process whose task is
//! being polled, and each free on the process that allocated.
//!
//! A program that wants it installs [`Attributing`] as its global allocator; elsewhere nothing is
//! counted and [`Account::heap`] is none. Exact in who allocated and how much was asked for: sixteen
//! bytes before each allocation (more where it is aligned wider) name the account. What the engine
//! allocates while it does a process's bidding (segments under way, timers) is nobody's, as a
//! kernel's memory is not its program's.
//!
//! Law: the counting takes no lock and allocates nothing, and the accounts of processes that ended
//! are used again once all they allocated is freed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};

use crate::lock;
use crate::usage::Heap;

/// Accounts of one page of the book, and pages. Beyond them processes are not counted.
const PAGE_ACCOUNTS: usize = 1_024;
const PAGES_MAX: usize = 1_024;
/// Room before an allocation for its account's number.
const HEADER_BYTES: usize = 16;
/// The account of whoever is nobody's task.
const NOBODY: u32 = 0;

struct Balance {
    current: AtomicI64,
    peak: AtomicI64,
}

struct Page([Balance; PAGE_ACCOUNTS]);

static BOOK: [AtomicPtr<Page>; PAGES_MAX] = [const { AtomicPtr::new(ptr::null_mut()) }; PAGES_MAX];
static COUNTING: AtomicBool = AtomicBool::new(false);
static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { next: 1, closed: Vec::new() });

thread_local! {
    static CURRENT: Cell<u32> = const { Cell::new(NOBODY) };
}

struct Numbers {
    next: u32,
    /// Ended processes' accounts; free again once their balance is zero.
    closed: Vec<u32>,
}

/// A process's account.
#[derive(Debug)]
pub struct Account(u32);

impl Account {
    /// An account with a balance of zero.
    pub(crate) fn open() -> Arc<Self> {
        if !COUNTING.load(Ordering::Relaxed) {
            return Arc::new(Self(NOBODY));
        }
        let mut numbers = lock(&NUMBERS);
        let settled = numbers.closed.iter().position(|number| current(*number) == 0);
        let number = match settled {
            Some(at) => numbers.closed.swap_remove(at),
            None if (numbers.next as usize) < PAGES_MAX * PAGE_ACCOUNTS => {
                numbers.next += 1;
                add_page_of(numbers.next - 1);
                numbers.next - 1
            }
            None => NOBODY,
        };
        drop(numbers);
        if let Some(balance) = balance(number) {
            balance.peak.store(0, Ordering::Relaxed);
        }
        Arc::new(Self(number))
    }

    /// Books what is allocated on this thread from now on here, until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered {
        Entered(CURRENT.replace(self.0))
    }

    /// What the process holds; none where nothing counts.
    pub fn heap(&self) -> Option<Heap> {
        let balance = balance(self.0)?;
        let bytes = |number: &AtomicI64| number.load(Ordering::Relaxed).max(0) as u64;
        let current_bytes = bytes(&balance.current);
        Some(Heap { current_bytes, peak_bytes: bytes(&balance.peak).max(current_bytes) })
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.0 != NOBODY {
            lock(&NUMBERS).closed.push(self.0);
        }
    }
}

/// Allocations belong to somebody while this lives.
pub(crate) struct Entered(u32);

/// The engine works: what it allocates is nobody's, until the guard is dropped.
pub(crate) fn kernel() -> Entered {
    Entered(CURRENT.replace(NOBODY))
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

fn balance(number: u32) -> Option<&'static Balance> {
    if number == NOBODY {
        return None;
    }
    let page = BOOK.get(number as usize / PAGE_ACCOUNTS)?.load(Ordering::Acquire);
    // SAFETY: a page is null or was made by `add_page_of`, which never frees it.
    #[allow(unsafe_code)]
    let page = unsafe { page.as_ref() }?;
    page.0.get(number as usize % PAGE_ACCOUNTS)
}

fn current(number: u32) -> i64 {
    balance(number).map_or(0, |balance| balance.current.load(Ordering::Relaxed))
}

/// Called under the lock of `NUMBERS`.
fn add_page_of(number: u32) {
    let place = &BOOK[number as usize / PAGE_ACCOUNTS];
    if place.load(Ordering::Acquire).is_null() {
        // SAFETY: zeroed atomics are valid, and the layout is not empty. A null page is nobody's.
        #[allow(unsafe_code)]
        let page = unsafe { System.alloc_zeroed(Layout::new::<Page>()) };
        place.store(page.cast(), Ordering::Release);
    }
}

fn book(number: u32, bytes: i64) {
    if let Some(balance) = balance(number) {
        let now = balance.current.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if now > balance.peak.load(Ordering::Relaxed) {
            balance.peak.store(now, Ordering::Relaxed);
        }
    }
}

/// A global allocator that books what another one gives.
#[derive(Debug)]
pub struct Attributing<A>(pub A);

/// The layout with room for the account's number, and that room.
fn with_header(layout: Layout) -> Option<(Layout, usize)> {
    let align = layout.align().max(HEADER_BYTES);
    let size = layout.size().checked_add(align)?;
    Some((Layout::from_size_align(size, align).ok()?, align))
}

// SAFETY: what is handed out lies `header` bytes into an allocation of the inner allocator that is
// larger by as much and aligned at least as wide; the same computation from the same layout finds
// its beginning again. The account's number lies in the four bytes before what is handed out.
#[allow(unsafe_code)]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Attributing<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((outer, header)) = with_header(layout) else {
            return ptr::null_mut();
        };
        // SAFETY: `outer` is not empty.
        let whole = unsafe { self.0.alloc(outer) };
        // SAFETY: as above.
        unsafe { label(whole, header, layout.size()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((outer, header)) = with_header(layout) else {
            return ptr::null_mut();
        };
        // SAFETY: `outer` is not empty.
        let whole = unsafe { self.0.alloc_zeroed(outer) };
        // SAFETY: as above.
        unsafe { label(whole, header, layout.size()) }
    }

    unsafe fn dealloc(&self, given: *mut u8, layout: Layout) {
        let Some((outer, header)) = with_header(layout) else {
            return;
        };
        // SAFETY: `given` came from `alloc` with this layout.
        unsafe {
            let number = given.sub(4).cast::<u32>().read();
            book(number, -(layout.size() as i64));
            self.0.dealloc(given.sub(header), outer);
        }
    }

    unsafe fn realloc(&self, given: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some((outer, header)) = with_header(layout) else {
            return ptr::null_mut();
        };
        let Some(size) = new_size.checked_add(header) else {
            return ptr::null_mut();
        };
        // SAFETY: `given` came from `alloc` with this layout; the new size is not zero, and the
        // label moves with the bytes.
        unsafe {
            let number = given.sub(4).cast::<u32>().read();
            let whole = self.0.realloc(given.sub(header), outer, size);
            if whole.is_null() {
                return whole;
            }
            book(number, new_size as i64 - layout.size() as i64);
            whole.add(header)
        }
    }
}

/// Writes whose an allocation is, and books it.
///
/// # Safety
/// `whole` is null or has `header` bytes, at least 16, before what is handed out.
#[allow(unsafe_code)]
unsafe fn label(whole: *mut u8, header: usize, bytes: usize) -> *mut u8 {
    if whole.is_null() {
        return whole;
    }
    if !COUNTING.load(Ordering::Relaxed) {
        COUNTING.store(true, Ordering::Relaxed);
    }
    let number = CURRENT.try_with(Cell::get).unwrap_or(NOBODY);
    book(number, bytes as i64);
    // SAFETY: the caller's promise.
    unsafe {
        let given = whole.add(header);
        given.sub(4).cast::<u32>().write(number);
        given
    }
}
