//! Opens addresses in the browser of whoever sits before this host, where somebody does.

use std::process::{Command, Stdio};

/// Opens an address. Without a screen nothing happens, nor where nothing is there to open it with:
/// whoever calls has printed the address.
pub(crate) fn open(url: &str) {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let program = match cfg!(target_os = "macos") {
        true => "open",
        false if has("DISPLAY") || has("WAYLAND_DISPLAY") => "xdg-open",
        false => return,
    };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Ok(mut child) = command.spawn() {
        // It hands the address on and ends; nobody waits for it.
        std::thread::spawn(move || drop(child.wait()));
    }
}
