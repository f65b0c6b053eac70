//! The `weft-proxy` program: the data plane, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime_real::proxy_main()
}
