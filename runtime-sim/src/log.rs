//! What the programs of a run log, each line with its host and virtual time: a view of a run for
//! people. Nothing here is part of a run's identity, and a run is the same with it and without.
//!
//! Law: a log is of one thread, as a run is; at most [`LINES_MAX`] lines are kept, the last ones.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use mesh_core::runtime::{BoxFuture, Tasks};
use mesh_core::time::Timestamp;

/// Lines kept.
pub const LINES_MAX: usize = 200_000;

/// A line of a program's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, in virtual time.
    pub at: Timestamp,
    /// The host that wrote it.
    pub host: Arc<str>,
    /// How grave it is.
    pub level: Level,
    /// The part of the code that wrote it: `mesh_core::…`, `h2::…`.
    pub target: &'static str,
    /// What is the same whenever this line of code logs.
    pub message: String,
    /// What is not: ` name=value`, any number of times.
    pub fields: String,
}

impl fmt::Display for Line {
    /// The message and its fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        f.write_str(&self.fields)
    }
}

#[derive(Default)]
struct Log {
    lines: VecDeque<Line>,
    /// Whose task is being polled, and when.
    here: Option<(Arc<str>, Timestamp)>,
}

thread_local! {
    /// The log of this thread's run, where one is kept.
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Two, for ever, although one is used: while there is only one, `tracing` asks a thread that first
/// meets a line of code for its own subscriber alone, and where that thread keeps no log, the line
/// is silent for all threads from then on.
static LINES: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| [Dispatch::new(Lines), Dispatch::new(Lines)]);

/// Runs `run` and keeps what it logs at debug and above.
pub fn kept<T>(run: impl FnOnce() -> T) -> (T, Vec<Line>) {
    LOG.set(Some(Log::default()));
    let lines = &LINES[0];
    // Lines of code that another thread met while the two were made.
    tracing::callsite::rebuild_interest_cache();
    let result = tracing::dispatcher::with_default(lines, run);
    let log = LOG.take().unwrap_or_default();
    (result, log.lines.into())
}

/// The tasks of a host's process, such that what they log is known to be this host's. The same
/// tasks where no log is kept.
pub(crate) fn of_host(
    host: &str,
    now: impl Fn() -> Timestamp + Send + Sync + 'static,
    tasks: Arc<dyn Tasks>,
) -> Arc<dyn Tasks> {
    if LOG.with_borrow(Option::is_none) {
        return tasks;
    }
    Arc::new(Tagged { host: host.into(), now: Arc::new(now), tasks })
}

type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

struct Tagged {
    host: Arc<str>,
    now: Now,
    tasks: Arc<dyn Tasks>,
}

impl Tasks for Tagged {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        let (host, now) = (self.host.clone(), self.now.clone());
        self.tasks.spawn(name, Box::pin(TaggedTask { host, now, task }));
    }
}

struct TaggedTask {
    host: Arc<str>,
    now: Now,
    task: BoxFuture<'static, ()>,
}

impl Future for TaggedTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let here = Some((self.host.clone(), (self.now)()));
        set_here(here);
        let polled = self.task.as_mut().poll(context);
        set_here(None);
        polled
    }
}

fn set_here(here: Option<(Arc<str>, Timestamp)>) {
    LOG.with_borrow_mut(|log| {
        if let Some(log) = log {
            log.here = here;
        }
    });
}

/// Takes events of tasks that are polled.
struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.is_event()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        // Formatting a field may run code that logs: the text is made before the log is borrowed.
        let mut text = Text::default();
        event.record(&mut text);
        LOG.with_borrow_mut(|log| {
            let Some(log) = log else { return };
            let Some((host, at)) = log.here.clone() else { return };
            if log.lines.len() == LINES_MAX {
                log.lines.pop_front();
            }
            let Text { message, fields } = text;
            let (level, target) = (*event.metadata().level(), event.metadata().target());
            log.lines.push_back(Line { at, host, level, target, message, fields });
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event's message and fields as text.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_task_logs_is_its_hosts_at_its_time_and_what_nobody_logs_is_not_kept() {
        let run = || {
            let now: Now = Arc::new(|| Timestamp::from_millis(5));
            let task =
                Box::pin(async { tracing::debug!(port = 80, why = "late", "not connected") });
            let mut task = TaggedTask { host: "web-0".into(), now, task };
            let waker = std::task::Waker::noop();
            assert!(Pin::new(&mut task).poll(&mut Context::from_waker(waker)).is_ready());
            tracing::warn!("of no host");
        };
        let ((), lines) = kept(run);
        let text: Vec<_> = lines
            .iter()
            .map(|line| format!("{} {} {} {line}", line.at, line.host, line.level))
            .collect();
        assert_eq!(text, ["0.005000000s web-0 DEBUG not connected port=80 why=late"]);
    }
}
