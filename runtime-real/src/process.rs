//! Figures of a process, as Linux's `/proc` tells them.

use std::fs;
use std::time::Duration;

use mesh_core::telemetry::process::{ProcessSample, ProcessStats};

/// The figures of this process, for its `/metrics`.
#[derive(Clone, Copy, Debug)]
pub struct OwnProcess;

impl ProcessStats for OwnProcess {
    fn sample(&self) -> Option<ProcessSample> {
        of("self")
    }
}

/// The figures of a process. `None` where it has ended. Descriptors are counted as none where it
/// is another user's.
pub fn of_pid(pid: u32) -> Option<ProcessSample> {
    of(&pid.to_string())
}

fn of(process: &str) -> Option<ProcessSample> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).ok();
    let mut sample = parse_stat(&read("stat")?, clock_ticks(), page_bytes())?;
    let open_fds = fs::read_dir(format!("/proc/{process}/fd"));
    sample.open_fds = open_fds.map_or(0, |fds| fds.count() as u64);
    sample.max_fds = read("limits").and_then(|limits| parse_max_fds(&limits)).unwrap_or_default();
    Some(sample)
}

/// Reads `/proc/PID/stat`: all but descriptors.
fn parse_stat(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Option<ProcessSample> {
    // The command's name stands in parentheses and may hold anything, parentheses too.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // Field 3 of proc(5) is the first here.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    Some(ProcessSample {
        cpu: Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second),
        threads: field(20)?,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)?.saturating_mul(page_bytes),
        open_fds: 0,
        max_fds: 0,
    })
}

fn parse_max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn clock_ticks() -> u64 {
    // The standard library has no safe call for it.
    #[allow(unsafe_code)]
    // SAFETY: sysconf takes and returns numbers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100).max(1)
}

fn page_bytes() -> u64 {
    // The standard library has no safe call for it.
    #[allow(unsafe_code)]
    // SAFETY: sysconf takes and returns numbers.
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
            parse_stat(stat, 100, 4096),
            Some(ProcessSample {
                cpu: Duration::from_secs(3),
                threads: 3,
                virtual_bytes: 8_192_000,
                resident_bytes: 2000 * 4096,
                open_fds: 0,
                max_fds: 0,
            })
        );
        assert_eq!(parse_stat("42 (short) S 1", 100, 4096), None);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let own = OwnProcess.sample().unwrap();
        assert!(own.resident_bytes > 0 && own.open_fds > 0 && own.max_fds >= own.open_fds);
        assert_eq!(of_pid(u32::MAX), None);
    }
}
