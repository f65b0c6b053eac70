//! `weft completion`: scripts with which shells complete the command line.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use crate::{Failure, say};

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionArgs, command: &mut Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, command, "weft", &mut script);
    say(&script)
}
