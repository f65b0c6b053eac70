//! The proxy as a process: environment in, exit code out.
//!
//! Exit codes: 0 drained, 1 failed (the log says why), 64 the configuration is wrong (stderr names
//! every fault).

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use mesh_core::proxy::admin::LogLevels;
use mesh_core::proxy::config::Config;
use mesh_core::proxy::{self, Process};
use mesh_core::telemetry::BuildInfo;
use mesh_core::wire::drain::{self, DrainSignal};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::logging::{self, Format, LEVELS_DEFAULT, Levels, Output};
use crate::no_cluster::NoCluster;
use crate::{cores, memory, process};

/// As in sysexits.h: linkerd2-proxy's code for a wrong configuration.
const EX_USAGE: u8 = 64;

/// Runs the proxy that the environment describes until it is told to end.
pub fn proxy_main() -> ExitCode {
    memory::set_up_allocator();
    let (config, workers, levels) = match configure() {
        Ok(configured) => configured,
        Err(errors) => {
            eprintln!("{}", errors.join("\n").trim_end());
            return ExitCode::from(EX_USAGE);
        }
    };
    let tokio = match workers {
        1 => crate::current_thread(),
        _ => crate::multi_thread(workers),
    };
    let ran = match tokio {
        Ok(tokio) => tokio.block_on(run(config, levels)),
        Err(error) => Err(error.to_string()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the environment and sets the log up, or tells every fault.
fn configure() -> Result<(Config, usize, Levels), Vec<String>> {
    let variable = |name: &str| env::var(name).ok();
    let mut errors = Vec::new();
    let config = Config::from_env(&variable).map_err(|faults| errors.push(faults.to_string())).ok();
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = cores::workers(&variable, available)
        .map_err(|faults| errors.extend(faults.iter().map(ToString::to_string)))
        .ok();
    let set = |name: &str, default: &str| {
        let value = variable(name).filter(|value| !value.trim().is_empty());
        value.unwrap_or_else(|| default.to_string())
    };
    let format = Format::new(&set("LINKERD2_PROXY_LOG_FORMAT", "plain"));
    let format = format
        .map_err(|error| errors.push(format!("LINKERD2_PROXY_LOG_FORMAT: {error}")))
        .unwrap_or_default();
    let levels = set("LINKERD2_PROXY_LOG", LEVELS_DEFAULT);
    let levels = logging::set_up(&levels, format, Output::Stdout)
        .map_err(|error| errors.push(format!("LINKERD2_PROXY_LOG: {error}")))
        .ok();
    match (config, workers, levels) {
        (Some(config), Some(workers), Some(levels)) if errors.is_empty() => {
            Ok((config, workers, levels))
        }
        _ => Err(errors),
    }
}

async fn run(config: Config, levels: Levels) -> Result<(), String> {
    let signals = Signals::new().map_err(|error| format!("signals: {error}"))?;
    let runtime = crate::runtime(Arc::new(NoCluster));
    let shutdown = Arc::new(Notify::new());
    let process = Process {
        stats: Some(Arc::new(process::OwnProcess)),
        log: Some(Arc::new(levels)),
        // As linkerd2-proxy: the log is on stdout, so that this can be told from it.
        access_log: Some(Arc::new(|line| eprintln!("{line}"))),
        environment: environment(),
        build: build(),
        shutdown: shutdown.clone(),
        ..Process::default()
    };
    let (begin, draining) = drain::channel();
    tokio::spawn(end_when_told(signals, shutdown, begin));
    tokio::spawn(memory::keep_giving_back());
    proxy::run(runtime, config, process, draining).await.map_err(|error| error.to_string())
}

/// The first signal, or `/shutdown`, begins a drain; a signal after that ends the process.
async fn end_when_told(mut signals: Signals, shutdown: Arc<Notify>, begin: DrainSignal) {
    tokio::select! {
        biased;
        () = signals.next() => {}
        () = shutdown.notified() => {}
    }
    begin.start();
    signals.next().await;
    tracing::warn!("second signal: ending at once");
    std::process::exit(1);
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl LogLevels for Levels {
    fn current(&self) -> String {
        Levels::current(self)
    }

    fn set(&self, levels: &str) -> Result<(), String> {
        Levels::set(self, levels).map_err(|error| error.to_string())
    }
}

/// The variables that are the proxy's. Others of the process may be secrets.
fn environment() -> BTreeMap<String, String> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("LINKERD2_PROXY_") || name.starts_with("WEFT_"))
        .collect()
}

fn build() -> BuildInfo {
    let profile = match cfg!(debug_assertions) {
        true => "debug",
        false => "release",
    };
    BuildInfo {
        version: env!("CARGO_PKG_VERSION").to_string(),
        git_sha: option_env!("WEFT_GIT_SHA").unwrap_or_default().to_string(),
        profile: profile.to_string(),
        vendor: "weft".to_string(),
        date: option_env!("WEFT_BUILD_DATE").unwrap_or_default().to_string(),
    }
}
