//! `weft demo`: a whole mesh on one host, without root and without other software. Starts a
//! controller, services and a proxy for each of their instances as processes of their own, sends
//! traffic through them, and shows what the proxies count.
//!
//! Law: whatever ends it (a key, a signal, a panic, even SIGKILL), no process stays behind; whatever
//! can still run something takes its files away too.

mod applications;
mod figures;
pub(crate) mod keys;
mod mesh;
mod process;
mod programs;
mod running;
mod scrape;
mod services;
mod table;
mod traffic;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use crate::browser;
pub(crate) use applications::{ApplicationOptions, run as run_application};
use keys::{Key, Terminal};
use running::Demo;

/// How often the figures are taken and shown.
const TICK: Duration = Duration::from_secs(1);

/// What to run, for how long, and how to show it.
#[derive(Clone, Debug)]
pub(crate) struct DemoOptions {
    /// Ends by itself after this long; none: when told to.
    pub(crate) run_for: Option<Duration>,
    /// Print one JSON object at the end, nothing before.
    pub(crate) as_json: bool,
    /// Requests a second.
    pub(crate) rate: f64,
    /// Files go here and stay; none: into a directory that is removed.
    pub(crate) directory: Option<PathBuf>,
    /// The proxies' log levels.
    pub(crate) proxy_log: String,
}

/// Why the demo could not run. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error(
        "no weft-proxy in {}: build it with `cargo build --release --bin weft-proxy`, \
         or put it beside weft", directory.display()
    )]
    NoProxy { directory: PathBuf },
    #[error("weft-proxy could not be built; cargo says why above")]
    Build,
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
    #[error("{what} did not get ready: {why}; its log ends with\n  {log}")]
    NotReady { what: String, why: String, log: String },
    #[error("no token could be made: {0}")]
    Token(String),
}

impl DemoError {
    /// Says what an I/O error was about.
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

/// Runs the demo to its end.
///
/// # Errors
/// [`DemoError`]: it could not be started.
pub(crate) async fn run(options: DemoOptions) -> Result<(), DemoError> {
    let mut signals = Signals::new().map_err(DemoError::io("signals"))?;
    let mut demo = Demo::new(&options)?;
    eprintln!("weft demo: starting a controller, 9 applications and 9 proxies ...");
    let started = tokio::select! {
        biased;
        () = signals.next() => None,
        started = demo.start() => Some(started),
    };
    match started {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            demo.stop().await;
            return Err(error);
        }
        None => {
            demo.stop().await;
            return Ok(());
        }
    }
    let terminal = match options.as_json {
        true => None,
        false => Terminal::take(),
    };
    if terminal.is_some() {
        browser::open(&demo.console());
    } else {
        eprintln!("weft demo: the console is at {}", demo.console());
    }
    show(&mut demo, &options, &mut signals, terminal.as_ref()).await;
    demo.look().await;
    let view = demo.view(false);
    // The screen is given back before the last figures are printed.
    drop(terminal);
    demo.stop().await;
    let result = match options.as_json {
        true => serde_json::to_string(&table::report(&view)).expect("plain data serializes") + "\n",
        false => table::render(&view, io::stdout().is_terminal()),
    };
    io::stdout().write_all(result.as_bytes()).map_err(DemoError::io("stdout"))
}

/// Looks, shows and does what keys ask for, until the end.
async fn show(
    demo: &mut Demo,
    options: &DemoOptions,
    signals: &mut Signals,
    terminal: Option<&Terminal>,
) {
    let end = options.run_for.map(|run_for| Instant::now() + run_for);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let key = tokio::select! {
            biased;
            () = signals.next() => return,
            () = until(end) => return,
            key = next_key(terminal) => Some(key),
            _ = tick.tick() => None,
        };
        match key {
            None => demo.look().await,
            Some(Key::Quit) => return,
            Some(Key::KillReplica) => demo.kill_replica().await,
            Some(Key::KillController) => demo.kill_controller().await,
            Some(Key::Restart) => demo.restart(),
        }
        if let Some(terminal) = terminal {
            terminal.show(&table::render(&demo.view(true), true));
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn next_key(terminal: Option<&Terminal>) -> Key {
    match terminal {
        Some(terminal) => terminal.key().await,
        None => std::future::pending().await,
    }
}

/// What ends the demo from outside: Ctrl-C, kill, a terminal that closes.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
