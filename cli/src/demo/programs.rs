//! Finds the programs that the demo runs: this one, and `weft-proxy` beside it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::DemoError;

const PROXY: &str = "weft-proxy";

/// The programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) weft: PathBuf,
    pub(crate) proxy: PathBuf,
}

impl Programs {
    /// Finds them. Run by cargo, this one was built a moment ago: the proxy is built now, from the
    /// same sources and in the same profile.
    ///
    /// # Errors
    /// [`DemoError::NoProxy`], [`DemoError::Build`], or `Io` where not even this program is found.
    pub(crate) fn find() -> Result<Self, DemoError> {
        let weft = env::current_exe().map_err(DemoError::io("this program"))?;
        let directory = weft.parent().unwrap_or(Path::new("/")).to_owned();
        let proxy = directory.join(PROXY);
        if let (Some(cargo), Some(package)) =
            (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"))
        {
            build(cargo, package.into(), &directory)?;
        }
        match proxy.is_file() {
            true => Ok(Self { weft, proxy }),
            false => Err(DemoError::NoProxy { directory }),
        }
    }
}

fn build(cargo: OsString, package: PathBuf, directory: &Path) -> Result<(), DemoError> {
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    eprintln!("weft demo: building {PROXY} ...");
    let status = Command::new(cargo)
        // As `cargo run --bin weft` chose features: of the whole workspace. Others would build
        // everything once more.
        .args(["build", "--workspace", "--bin", PROXY])
        .args(["--profile", profile])
        .current_dir(package)
        .stdin(Stdio::null())
        // stdout is for results.
        .stdout(std::io::stderr())
        .status()
        .map_err(DemoError::io("cargo"))?;
    match status.success() {
        true => Ok(()),
        false => Err(DemoError::Build),
    }
}
