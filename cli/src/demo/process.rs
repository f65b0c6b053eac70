//! The demo's processes: none outlives the demo, however that ends.
//!
//! Law: a child dies when its handle is dropped, and the kernel kills it when the demo itself is
//! killed.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, ChildStdout, Command};

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its output in a file. Call it from the demo's main thread: the kernel
    /// ties the child's life to the thread that made it.
    pub(crate) fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        let output = fs::File::create(log)?;
        command.stdout(output.try_clone()?).stderr(output);
        Self::spawn(command, log)
    }

    /// As [`Process::start`], with stdout to be read and only stderr in the file.
    pub(crate) fn start_piped(mut command: Command, log: &Path) -> io::Result<(Self, ChildStdout)> {
        command.stdout(Stdio::piped()).stderr(fs::File::create(log)?);
        let mut process = Self::spawn(command, log)?;
        let stdout = process.child.stdout.take().expect("stdout is piped");
        Ok((process, stdout))
    }

    fn spawn(mut command: Command, log: &Path) -> io::Result<Self> {
        let program = command.as_std().get_program().to_owned();
        // A group of its own: Ctrl-C on the terminal is for the demo, which ends the others.
        command.stdin(Stdio::null()).kill_on_drop(true).process_group(0);
        let demo = std::process::id();
        // The standard library cannot ask for a parent-death signal.
        #[allow(unsafe_code)]
        // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, getppid.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The demo may have died before the signal was asked for.
                match libc::getppid() as u32 == demo {
                    true => Ok(()),
                    false => Err(io::ErrorKind::BrokenPipe.into()),
                }
            });
        }
        let child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", program.display()))
        })?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its number; `None` once it has ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        // Fails only where it has ended already.
        let _ = self.child.kill().await;
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            // The standard library only kills.
            #[allow(unsafe_code)]
            // SAFETY: sends a signal to a child that has not been waited for: the number is its.
            unsafe {
                libc::kill(pid, libc::SIGTERM);
            }
        }
    }

    /// Waits until it has ended, and kills it where that takes too long.
    pub(crate) async fn wait(&mut self) {
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n  ")
    }
}

/// How a process ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        _ => "ended".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        runtime_real::current_thread().unwrap().block_on(test)
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn a_process_that_does_not_heed_the_request_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        run(async {
            let mut process = Process::start(shell("echo said; exit 3"), &log).unwrap();
            let status = process.child.wait().await.unwrap();
            assert_eq!(describe(status), "exited with 3");
            assert_eq!(process.log_tail(), "said");

            let mut process = Process::start(shell("exec sleep 100"), &log).unwrap();
            process.terminate();
            process.wait().await;
            assert_eq!(describe(process.ended().unwrap()), "was ended by signal 15");
        });
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Command::new("/no/such/program");
        let error =
            run(async { Process::start(missing, &directory.path().join("log")).unwrap_err() });
        assert!(error.to_string().starts_with("/no/such/program: "), "{error}");
    }
}
