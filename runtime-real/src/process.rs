//! Figures of a process, as Linux's `/proc` tells them.

use std::fs;

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// User and system time since it started, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Virtual memory.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors; zero where they cannot be counted (another user's process).
    pub open_fds: u64,
    /// The soft limit of those.
    pub max_fds: u64,
    /// When it started, in seconds since 1970.
    pub start_time_seconds: f64,
}

/// The figures of this process. `None` where there is no `/proc`.
pub fn own() -> Option<Figures> {
    of("self")
}

/// The figures of a process. `None` where it has ended.
pub fn of_pid(pid: u32) -> Option<Figures> {
    of(&pid.to_string())
}

fn of(process: &str) -> Option<Figures> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).ok();
    let open_fds = fs::read_dir(format!("/proc/{process}/fd")).map_or(0, |fds| fds.count() as u64);
    let limits = read("limits").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut figures = parse_stat(&read("stat")?, clock_ticks(), page_bytes())?;
    figures.open_fds = open_fds;
    figures.max_fds = parse_max_fds(&limits).unwrap_or_default();
    figures.start_time_seconds += parse_boot_time(&boot).unwrap_or_default();
    Some(figures)
}

/// Reads `/proc/PID/stat`. The start time is yet in seconds since the host started.
fn parse_stat(stat: &str, ticks_per_second: f64, page_bytes: u64) -> Option<Figures> {
    // The command's name stands in parentheses and may hold anything, parentheses too.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // Field 3 of proc(5) is the first here.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Figures {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks_per_second,
        threads: field(20)?,
        start_time_seconds: field(22)? as f64 / ticks_per_second,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page_bytes,
        open_fds: 0,
        max_fds: 0,
    })
}

fn parse_max_fds(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn parse_boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|l| l.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn clock_ticks() -> f64 {
    // SAFETY: sysconf takes and returns numbers.
    #[allow(unsafe_code)] // The standard library has no safe call for it.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

fn page_bytes() -> u64 {
    // SAFETY: sysconf takes and returns numbers.
    #[allow(unsafe_code)] // The standard library has no safe call for it.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_name_with_spaces_and_parentheses() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 500 8192000 \
                    2000 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0";
        assert_eq!(
            parse_stat(stat, 100.0, 4096),
            Some(Figures {
                cpu_seconds: 3.0,
                threads: 3,
                start_time_seconds: 5.0,
                virtual_bytes: 8_192_000,
                resident_bytes: 2000 * 4096,
                open_fds: 0,
                max_fds: 0,
            })
        );
        assert_eq!(parse_stat("42 (short) S 1", 100.0, 4096), None);
    }

    #[test]
    fn this_process_has_memory_descriptors_and_a_past() {
        let own = own().unwrap();
        assert!(own.resident_bytes > 0 && own.open_fds > 0 && own.max_fds >= own.open_fds);
        assert!(own.start_time_seconds > 1.0e9);
        assert_eq!(of_pid(u32::MAX), None);
    }
}
