//! Memory that is no longer needed goes back to the kernel: what the allocator keeps for later, and
//! pages of the program's own code that were read in and may never run again (start-up,
//! configuration, a burst of an unusual protocol).
//!
//! Law: only pages that hold exactly what the file holds are let go of; the kernel brings them back
//! when they are touched.

use std::fs;
use std::time::Duration;

/// How often. Costs well under a millisecond, and the faults of what is still in use.
const EVERY: Duration = Duration::from_secs(5);

/// What start-up needed is given back sooner: after this long, and again after twice as long, until
/// that is as often as [`EVERY`].
const FIRST: Duration = Duration::from_millis(125);

/// One arena: a proxy has one busy thread, and each further arena holds on to pages of its own. And
/// no fast bins: what lies in them is gathered each time that something larger is asked for, as the
/// future of every request is.
/// Called before any thread is started.
pub fn set_up_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets two numbers of the allocator's; no other thread runs yet.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

/// Gives memory back, soon and again and again.
pub async fn keep_giving_back() {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        give_back();
        pause = (2 * pause).min(EVERY);
    }
}

/// Gives memory back.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator's own function; it locks what it touches.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(smaps) = fs::read_to_string("/proc/self/smaps") else {
        return; // Not Linux, or no /proc: nothing is lost but memory.
    };
    for (start, bytes) in unchanged_file_pages(&smaps) {
        // SAFETY: the mapping is of a file and private, cannot be written, and no page of it
        // differs from the file: what is dropped is what the next access reads in again.
        #[allow(unsafe_code)]
        unsafe {
            libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_DONTNEED);
        }
    }
}

/// Mappings of files that cannot be written and of which no page was changed, that is, became this
/// process's own: where, and how long.
fn unchanged_file_pages(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(range) = range(first) {
            let (access, path) = (words.next(), words.nth(3));
            let readable = matches!(access, Some("r-xp" | "r--p"));
            let of_file = path.is_some_and(|path| path.starts_with('/'));
            current = (readable && of_file).then_some(range);
        } else if first == "Anonymous:" && words.next() == Some("0") {
            found.extend(current.take());
        }
    }
    found
}

/// `START-END` in hexadecimal digits.
fn range(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mappings_that_are_as_their_file_is_are_let_go_of() {
        let mapping = |range: &str, access: &str, path: &str, own: u32| {
            format!(
                "{range} {access} 00000000 08:01 12 {path}\nSize: 8 kB\nPrivate_Dirty: 4 kB\n\
                 Anonymous: {own} kB\n"
            )
        };
        let smaps = [
            mapping("1000-3000", "r-xp", "/bin/weft-proxy", 0),
            mapping("3000-5000", "r--p", "/bin/weft-proxy", 8), // Relocated.
            mapping("5000-7000", "rw-p", "/bin/weft-proxy", 0),
            mapping("7000-9000", "r--p", "", 0),
            mapping("9000-b000", "r-xp", "[vdso]", 0),
            mapping("b000-d000", "r--s", "/dev/zero", 0),
        ];
        assert_eq!(unchanged_file_pages(&smaps.concat()), [(0x1000, 0x2000)]);
    }

    #[test]
    fn a_program_runs_on_after_it_gave_memory_back() {
        let kept: Vec<u64> = (0..1_000).collect();
        give_back();
        give_back();
        assert_eq!(kept.iter().sum::<u64>(), 499_500);
    }
}
