//! The `weft-init` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::init::main()
}
