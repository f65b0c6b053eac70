//! The program `weft-init`: has the kernel send a pod's TCP traffic to its sidecar. Takes what
//! linkerd2-proxy-init takes, and has the small things that a sidecar's container runs: `validate`,
//! `await`, `sleep`. Knows no cluster and no proxy.
//!
//! Law: run twice, it leaves what one run leaves; where it fails, the traffic goes as it went before.

mod apply;
mod iptables;
mod nft;
mod options;
mod ports;
mod rules;
#[cfg(test)]
mod tests;
mod wait;

use std::process::ExitCode;

use clap::Parser;
use ipnet::IpNet;

use options::{Cli, Command};

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed; stderr says why and what to do
  2   the command line is wrong";

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("--{flag}: `{value}` is no {wanted}")]
    Flag { flag: &'static str, value: String, wanted: &'static str },
    #[error(
        "no right to change the network: the capability NET_ADMIN is missing; run as root with \
         `securityContext.capabilities.add: [NET_ADMIN, NET_RAW]`, or use a CNI plugin"
    )]
    NotAllowed,
    #[error(
        "none of {0} is installed; use an image that has nftables or iptables, or name the program \
         with --firewall-bin-path"
    )]
    NoTool(String),
    #[error("{command}: {fault}")]
    Tool { command: String, fault: String },
    #[error(
        "cannot set {path}: {error}; that takes a privileged container, or leave out \
         --timeout-close-wait-secs"
    )]
    Kernel { path: String, error: String },
    #[error("{0}")]
    Wait(String),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.options.logs_json();
    let done = match cli.command {
        None => apply::run(&cli.options),
        Some(Command::Validate(validate)) => wait::validate(&validate),
        Some(Command::Await(ready)) => wait::until_ready(&ready),
        Some(Command::Sleep { seconds }) => {
            std::thread::sleep(std::time::Duration::from_secs(seconds));
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(json, "error", &error.to_string());
            match error {
                InitError::Flag { .. } => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// A line for whoever reads the container's log.
fn say(json: bool, level: &str, message: &str) {
    match json {
        true => eprintln!("{}", serde_json::json!({"level": level, "msg": message})),
        false => eprintln!("weft-init: {message}"),
    }
}

/// What is to be captured, and what not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Capture {
    /// Where the proxy takes what comes in.
    inbound_port: u16,
    /// Where the proxy takes what goes out.
    outbound_port: u16,
    /// The proxy's user, whose traffic goes its way.
    uid: Option<u32>,
    /// The proxy's group, likewise.
    gid: Option<u32>,
    /// The ports at which incoming traffic is captured; none named: all.
    redirect: ports::Ports,
    /// The pod's ports that are reached without the proxy.
    ignore_inbound: ports::Ports,
    /// Others' ports that are reached without the proxy.
    ignore_outbound: ports::Ports,
    /// Who reaches the pod without the proxy. What goes out to them is captured all the same.
    ignore_networks: Vec<IpNet>,
}
