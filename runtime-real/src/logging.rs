//! The process's log: lines or JSON on a stream, with levels that can be changed while it runs.
//!
//! Levels are given as Linkerd's are: `warn,linkerd=info`. The targets `linkerd`, `linkerd2_proxy`
//! and `weft` all mean this code, so that a chart's setting keeps its meaning.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Instant;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

/// The levels where nothing else is asked for.
pub const LEVELS_DEFAULT: &str = "warn,linkerd=info,weft=info";

/// The crates that `linkerd` and `weft` mean.
const OURS: [&str; 5] = ["mesh_core", "runtime_real", "weft", "weft_proxy", "cli"];

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `[     0.001234s]  INFO ThreadId(01) target: message key=value`
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// As Linkerd's proxy does.
    Stdout,
    /// Where stdout carries results.
    Stderr,
}

/// Why logging could not be set up, or its levels not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The levels are not understood.
    #[error("log levels {levels:?}: {fault}; write levels such as `warn,linkerd=debug`")]
    Levels {
        /// As given.
        levels: String,
        /// What is wrong with them.
        fault: String,
    },
    /// The format is not known.
    #[error("log format {0:?} is neither `plain` nor `json`")]
    Format(String),
    /// The process has a log already.
    #[error("logging is set up already")]
    SetUp,
}

impl Format {
    /// Reads `plain` or `json`.
    ///
    /// # Errors
    /// [`LogError::Format`] for anything else.
    pub fn new(text: &str) -> Result<Self, LogError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "plain" | "" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(text.to_string())),
        }
    }
}

/// Changes the levels of the running process. Cloning shares it.
#[derive(Clone)]
pub struct Levels {
    reload: reload::Handle<Targets, Registry>,
    /// As last given, for those who ask.
    text: Arc<std::sync::Mutex<String>>,
}

impl Levels {
    /// The levels as last given.
    pub fn current(&self) -> String {
        let text = self.text.lock();
        text.map_or_else(|poisoned| poisoned.into_inner().clone(), |text| text.clone())
    }

    /// Changes them.
    ///
    /// # Errors
    /// [`LogError::Levels`] where they are not understood; then nothing changes.
    pub fn set(&self, levels: &str) -> Result<(), LogError> {
        let targets = parse(levels)?;
        self.reload
            .reload(targets)
            .map_err(|e| LogError::Levels { levels: levels.to_string(), fault: e.to_string() })?;
        let mut text = self.text.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *text = levels.to_string();
        Ok(())
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Levels").field(&self.current()).finish()
    }
}

/// Sets up the process's log, and reports panics in it with the name of the task they ended.
///
/// # Errors
/// [`LogError`]: the levels are not understood, or there is a log already.
pub fn set_up(levels: &str, format: Format, output: Output) -> Result<Levels, LogError> {
    let (filter, reload) = reload::Layer::new(parse(levels)?);
    let clock = Uptime(Instant::now());
    let writer = BoxedWriter(output);
    let lines = match format {
        Format::Plain => tracing_subscriber::fmt::layer()
            .with_timer(clock)
            .with_thread_ids(true)
            .with_ansi(writer.is_terminal())
            .with_writer(writer)
            .boxed(),
        Format::Json => tracing_subscriber::fmt::layer()
            .json()
            .with_timer(clock)
            .with_thread_ids(true)
            .with_writer(writer)
            .boxed(),
    };
    let subscriber = Registry::default().with(filter).with(lines);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::SetUp)?;
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        let task = crate::tasks::running().unwrap_or("none");
        tracing::error!(task, at, "panic: {message}");
    }));
    Ok(Levels { reload, text: Arc::new(std::sync::Mutex::new(levels.to_string())) })
}

/// Reads levels, and lets those of Linkerd's proxy hold for ours.
fn parse(levels: &str) -> Result<Targets, LogError> {
    let fault = |fault: String| LogError::Levels { levels: levels.to_string(), fault };
    if levels.contains('[') {
        return Err(fault("spans and fields cannot be filtered".into()));
    }
    let trimmed: String = levels.split_whitespace().collect();
    let given: Targets = trimmed.trim_matches(',').parse().map_err(|e| fault(format!("{e}")))?;
    let mut targets =
        Targets::new().with_default(given.default_level().unwrap_or(LevelFilter::OFF));
    for (target, level) in given {
        if matches!(target.as_str(), "linkerd" | "linkerd2_proxy" | "weft") {
            targets = targets.with_targets(OURS.map(|ours| (ours, level)));
        }
        targets = targets.with_target(target, level);
    }
    Ok(targets)
}

/// Time since the process started, as Linkerd prints it: `[     0.001234s]`.
#[derive(Clone, Copy)]
struct Uptime(Instant);

impl FormatTime for Uptime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let elapsed = self.0.elapsed();
        write!(w, "[{:>6}.{:06}s]", elapsed.as_secs(), elapsed.subsec_micros())
    }
}

/// Stdout or stderr, each line locked by itself.
#[derive(Clone, Copy)]
struct BoxedWriter(Output);

impl BoxedWriter {
    fn is_terminal(self) -> bool {
        match self.0 {
            Output::Stdout => std::io::stdout().is_terminal(),
            Output::Stderr => std::io::stderr().is_terminal(),
        }
    }
}

impl<'a> MakeWriter<'a> for BoxedWriter {
    type Writer = Box<dyn std::io::Write>;

    fn make_writer(&'a self) -> Self::Writer {
        match self.0 {
            Output::Stdout => Box::new(std::io::stdout()),
            Output::Stderr => Box::new(std::io::stderr()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_for_linkerd_hold_for_this_code() {
        let targets = parse("warn, linkerd=debug").unwrap();
        assert!(targets.would_enable("mesh_core::proxy::outbound", &Level::DEBUG));
        assert!(targets.would_enable("runtime_real::net", &Level::DEBUG));
        assert!(!targets.would_enable("h2::codec", &Level::INFO));
        assert!(targets.would_enable("h2::codec", &Level::WARN));

        let targets = parse(LEVELS_DEFAULT).unwrap();
        assert!(targets.would_enable("mesh_core::control", &Level::INFO));
        assert!(!targets.would_enable("mesh_core::control", &Level::DEBUG));
    }

    #[test]
    fn levels_that_are_none_say_why() {
        insta::assert_snapshot!(
            parse("warn,linkerd=loud").unwrap_err(),
            @r#"log levels "warn,linkerd=loud": error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5; write levels such as `warn,linkerd=debug`"#
        );
        insta::assert_snapshot!(
            parse("[{peer}]=debug").unwrap_err(),
            @r#"log levels "[{peer}]=debug": spans and fields cannot be filtered; write levels such as `warn,linkerd=debug`"#
        );
    }
}
