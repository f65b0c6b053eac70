//! What is known about the process: given by the runtime, printed here.

use std::sync::Arc;
use std::time::Duration;

use super::labels::{LabelWriter, Named};
use super::metrics::{Family, Kind, Lines, MetricSet, Report};
use crate::time::{Timestamp, WallTime};

/// Tells what the operating system says about this process.
pub trait ProcessStats: Send + Sync + 'static {
    /// What it says now; `None` where it says nothing.
    fn sample(&self) -> Option<ProcessSample>;
}

/// What the operating system says about a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessSample {
    /// Processor time used, user and system.
    pub cpu: Duration,
    /// Memory in RAM, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// File descriptors in use.
    pub open_fds: u64,
    /// File descriptors allowed.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
}

/// What was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version.
    pub version: String,
    /// Commit.
    pub git_sha: String,
    /// Cargo's profile.
    pub profile: String,
    /// Who built it.
    pub vendor: String,
    /// When, as RFC 3339.
    pub date: String,
}

/// What TLS is made of (`rustls_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// Cipher suites, separated by commas, preferred first.
    pub suites: String,
    /// Key exchange groups, separated by commas, preferred first.
    pub kx_groups: String,
    /// Source of randomness.
    pub rand: String,
    /// Provider of keys.
    pub key_provider: String,
    /// Whether all of it is FIPS-approved.
    pub fips: bool,
}

/// The process as metrics.
pub struct Process {
    started: WallTime,
    stats: Option<Arc<dyn ProcessStats>>,
    build: Arc<str>,
    tls: Arc<str>,
}

impl Process {
    pub(super) fn new(
        started: WallTime,
        stats: Option<Arc<dyn ProcessStats>>,
        build: &BuildInfo,
        tls: &TlsInfo,
    ) -> Self {
        let build = Named([
            ("version", build.version.as_str()),
            ("git_sha", &build.git_sha),
            ("profile", &build.profile),
            ("date", &build.date),
            ("vendor", &build.vendor),
        ]);
        let tls = Named([
            ("tls_suites", tls.suites.as_str()),
            ("tls_kx_groups", &tls.kx_groups),
            ("tls_rand", &tls.rand),
            ("tls_key_provider", &tls.key_provider),
            ("tls_fips", if tls.fips { "true" } else { "false" }),
        ]);
        Self {
            started,
            stats,
            build: LabelWriter::print(&build).into(),
            tls: LabelWriter::print(&tls).into(),
        }
    }

    /// What the operating system says now.
    pub fn sample(&self) -> Option<ProcessSample> {
        self.stats.as_ref()?.sample()
    }

    pub(super) fn reports(&self, now: Timestamp) -> Vec<Arc<dyn Report>> {
        let one = |name, families, labels: &Arc<str>, set: Arc<dyn MetricSet>| -> Arc<dyn Report> {
            Arc::new(Reading { name, families, sets: vec![(labels.clone(), set)] })
        };
        let none: Arc<str> = "".into();
        let times = Times { started: self.started, uptime: now.since(Timestamp::ZERO) };
        let mut reports = vec![one("process", &PROCESS_TIMES, &none, Arc::new(times))];
        if let Some(sample) = self.sample() {
            reports.push(one("process", &PROCESS, &none, Arc::new(sample)));
        }
        reports.push(one("build", &BUILD_INFO, &self.build, Arc::new(One)));
        reports.push(one("tls", &RUSTLS_INFO, &self.tls, Arc::new(One)));
        reports
    }
}

/// Metrics that were read rather than counted.
pub(super) struct Reading {
    pub(super) name: &'static str,
    pub(super) families: &'static [Family],
    pub(super) sets: Vec<(Arc<str>, Arc<dyn MetricSet>)>,
}

impl Report for Reading {
    fn name(&self) -> &'static str {
        self.name
    }

    fn families(&self) -> &'static [Family] {
        self.families
    }

    fn sweep(&self, _: Timestamp, _: Duration) {}

    fn snapshot(&self) -> Vec<(Arc<str>, Arc<dyn MetricSet>)> {
        self.sets.clone()
    }

    fn usage(&self) -> (usize, u64) {
        (self.sets.len(), 0)
    }
}

/// An info metric's value.
struct One;

impl MetricSet for One {
    fn write(&self, _: usize, lines: &mut Lines<'_>) {
        lines.gauge("", 1);
    }
}

struct Times {
    started: WallTime,
    uptime: Duration,
}

impl MetricSet for Times {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        match family {
            0 => lines.gauge("", self.started.as_unix_secs()),
            _ => lines.seconds(u64::try_from(self.uptime.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

impl MetricSet for ProcessSample {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        match family {
            0 => lines.seconds(u64::try_from(self.cpu.as_nanos()).unwrap_or(u64::MAX)),
            1 => lines.gauge("", self.virtual_bytes),
            2 => lines.gauge("", self.resident_bytes),
            3 => lines.gauge("", self.open_fds),
            4 => lines.gauge("", self.max_fds),
            _ => lines.gauge("", self.threads),
        }
    }
}

static PROCESS_TIMES: [Family; 2] = [
    Family::legacy(
        Kind::Gauge,
        "process_start_time_seconds",
        "Time that the process started (in seconds since the UNIX epoch)",
    ),
    Family::legacy(
        Kind::Counter,
        "process_uptime_seconds_total",
        "Total time since the process started (in seconds)",
    ),
];
static PROCESS: [Family; 6] = [
    Family::legacy(
        Kind::Counter,
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
    ),
    Family::legacy(Kind::Gauge, "process_virtual_memory_bytes", "Virtual memory size in bytes."),
    Family::legacy(Kind::Gauge, "process_resident_memory_bytes", "Resident memory size in bytes."),
    Family::legacy(Kind::Gauge, "process_open_fds", "Number of open file descriptors."),
    Family::legacy(Kind::Gauge, "process_max_fds", "Maximum number of open file descriptors."),
    Family::legacy(Kind::Gauge, "process_threads", "Number of OS threads in the process."),
];
static BUILD_INFO: [Family; 1] =
    [Family::legacy(Kind::Gauge, "proxy_build_info", "Proxy build info")];
static RUSTLS_INFO: [Family; 1] = [Family::open(Kind::Gauge, "rustls_info", "Proxy TLS info")];
