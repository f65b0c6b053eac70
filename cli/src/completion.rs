//! `weft completion`: scripts with which shells complete the command line.

use std::io::Write as _;

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use crate::Failure;

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
    std::io::stdout().write_all(&script).map_err(Failure::failed)
}
