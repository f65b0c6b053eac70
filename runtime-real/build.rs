//! Has the linker lay the functions that requests pass side by side in the proxy that is shipped.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=hot.ld");
    let of = |name: &str| env::var(name).unwrap_or_default();
    if of("CARGO_CFG_TARGET_OS") == "linux" && of("PROFILE") == "release" {
        let script = format!("{}/hot.ld", of("CARGO_MANIFEST_DIR"));
        println!("cargo::rustc-link-arg-bin=weft-proxy=-Wl,-T,{script}");
    }
}
