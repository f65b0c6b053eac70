//! `weft controller`: the control plane as a process.

use crate::{ControllerArgs, Failure};

pub(crate) async fn run(_args: ControllerArgs) -> Result<(), Failure> {
    Err(Failure::failed("not in this build"))
}
