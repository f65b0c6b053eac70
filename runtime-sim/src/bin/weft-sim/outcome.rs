//! What a command comes to, and the exit codes. `args` tells people of them.

use std::fmt::Display;
use std::path::Path;

/// An expectation did not hold, or a task panicked.
pub const FAILED: u8 = 1;
/// Wrong arguments.
pub const USAGE: u8 = 64;
/// A scenario is wrong, or cannot be played on this engine.
pub const BAD_SCENARIO: u8 = 65;
/// A file cannot be read.
pub const NO_INPUT: u8 = 66;
/// A file or the output cannot be written.
pub const NO_OUTPUT: u8 = 74;

/// What a command that could be carried out found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Passed,
    /// Something is not as expected.
    Failed,
}

/// Why a command could not be carried out.
#[derive(Debug)]
pub struct Trouble {
    /// The exit code.
    pub code: u8,
    /// What, for people.
    pub message: String,
}

impl Outcome {
    /// By whether all is well.
    pub fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }
}

impl Trouble {
    /// A scenario that cannot be played.
    pub fn bad_scenario(message: impl Into<String>) -> Self {
        Self { code: BAD_SCENARIO, message: message.into() }
    }

    /// A file that cannot be read.
    pub fn unreadable(path: &Path, error: impl Display) -> Self {
        let message = format!("cannot read {}: {error}", path.display());
        Self { code: NO_INPUT, message }
    }

    /// A file that cannot be written.
    pub fn unwritable(path: &Path, error: impl Display) -> Self {
        let message = format!("cannot write {}: {error}", path.display());
        Self { code: NO_OUTPUT, message }
    }
}

impl From<std::io::Error> for Trouble {
    /// Of writing to stdout.
    fn from(error: std::io::Error) -> Self {
        Self { code: NO_OUTPUT, message: format!("cannot write to stdout: {error}") }
    }
}
