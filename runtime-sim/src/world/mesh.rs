//! The mesh's own programs in a world: the same code that ships, started as their binaries start
//! it, with what an installation would have given them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use mesh_core::control::{self, ControlConfig};
use mesh_core::runtime::Runtime;
use mesh_core::wire::http::DrainWatch;

use crate::files::MemoryFiles;

/// The controller's host.
pub(super) const CONTROLLER: &str = "controller";
/// Its address.
pub(super) const CONTROLLER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 255, 1));
const STATE_DIRECTORY: &str = "/var/lib/weft";

/// Starts a control plane.
pub(super) fn start_controller(runtime: &Runtime, drain: DrainWatch) {
    let mut config = ControlConfig::default();
    config.identity.state_directory = PathBuf::from(STATE_DIRECTORY);
    let inner = runtime.clone();
    runtime.spawn("controller", async move {
        if let Err(error) = control::run(inner, config, drain).await {
            // In a world nobody reads logs: what keeps the controller from starting must be seen.
            panic!("the controller cannot start: {error}");
        }
    });
}

/// The trust anchors that the controller made on its first start, once it has.
pub(super) fn trust_anchors(files: &MemoryFiles) -> Option<String> {
    let path = Path::new(STATE_DIRECTORY).join(control::state::ANCHORS);
    String::from_utf8(files.content(&path)?).ok()
}
