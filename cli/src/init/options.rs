//! The command line of `weft-init`: linkerd2-proxy-init's, with `--undo` and the small commands.

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use super::ports::Ports;
use super::{Capture, EXIT_CODES, InitError};
use crate::duration;

/// Has the kernel send a pod's TCP traffic to its sidecar.
///
/// Takes the flags of linkerd2-proxy-init. May be run again: it leaves what one run leaves.
#[derive(Debug, Parser)]
#[command(name = "weft-init", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true, args_override_self = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) options: Options,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check that what a pod opens is redirected, as a CNI plugin does it
    Validate(Validate),
    /// Wait until the proxy is ready
    Await(Await),
    /// Do nothing for so many seconds
    Sleep {
        /// How long
        seconds: u64,
    },
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Port of the proxy for what comes in
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = 4143)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    incoming_proxy_port: u16,
    /// Port of the proxy for what goes out
    #[arg(short = 'o', long, value_name = "PORT", default_value_t = 4140)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    outgoing_proxy_port: u16,
    /// The proxy's user, whose own traffic is not redirected; -1: nobody
    #[arg(short = 'u', long, value_name = "UID", default_value_t = -1)]
    #[arg(allow_negative_numbers = true)]
    proxy_uid: i64,
    /// The proxy's group, whose own traffic is not redirected; -1: none
    #[arg(short = 'g', long, value_name = "GID", default_value_t = -1)]
    #[arg(allow_negative_numbers = true)]
    proxy_gid: i64,
    /// Redirect what comes in at these ports only [default: at all]
    #[arg(short = 'r', long, value_name = "PORTS", value_delimiter = ',')]
    ports_to_redirect: Vec<String>,
    /// Ports of the pod, and ranges, that are reached without the proxy
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    inbound_ports_to_ignore: Vec<String>,
    /// Ports of others, and ranges, that are reached without the proxy
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    outbound_ports_to_ignore: Vec<String>,
    /// Networks that reach the pod without the proxy
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    subnets_to_ignore: Vec<String>,
    /// Redirect IPv6 too
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true")]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(super) ipv6: bool,
    /// Forget half-closed connections after so long, by the kernel's
    /// nf_conntrack_tcp_timeout_close_wait; 0: its default
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(super) timeout_close_wait_secs: u32,
    /// What sets the rules: nft (nftables, or iptables on it), legacy or plain iptables
    /// [default: what is there and works, in this order]
    #[arg(long, visible_alias = "iptables-mode", value_name = "MODE")]
    pub(super) firewall_mode: Option<Mode>,
    /// The program that sets the rules: nft, iptables-nft, iptables-legacy or iptables, or its path
    #[arg(long, value_name = "PROGRAM", conflicts_with = "firewall_mode")]
    pub(super) firewall_bin_path: Option<String>,
    /// The program that shows what rules there are [default: by --firewall-bin-path]
    #[arg(long, value_name = "PROGRAM", requires = "firewall_bin_path")]
    pub(super) firewall_save_bin_path: Option<String>,
    /// Wait for others who change rules
    #[arg(short = 'w', long, value_name = "BOOL", default_value_t = false)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub(super) use_wait_flag: bool,
    /// Network namespace to set them in: a path
    #[arg(long, value_name = "PATH")]
    pub(super) netns: Option<String>,
    /// Print what would be done, and do nothing
    #[arg(long, value_name = "BOOL", default_value_t = false)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub(super) simulate: bool,
    /// Take the rules away again, whatever set them
    #[arg(long)]
    pub(super) undo: bool,
    /// Form of log lines
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "plain")]
    log_format: LogFormat,
    /// How much is told: from `warn` on, faults only
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    Nft,
    Legacy,
    Plain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Plain,
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Validate {
    /// An address that nobody has: who connects to it must be redirected
    #[arg(long, value_name = "ADDR", default_value = "1.1.1.1:20001")]
    pub(super) connect_addr: SocketAddr,
    /// Where redirected connections come
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:4140")]
    pub(super) listen_addr: SocketAddr,
    /// How long to try
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub(super) timeout: Duration,
    /// Accepted, and without effect
    #[arg(long, value_name = "FORMAT", hide = true)]
    log_format: Option<String>,
    /// Accepted, and without effect
    #[arg(long, value_name = "LEVEL", hide = true)]
    log_level: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Await {
    /// Port of the proxy's /ready
    #[arg(long, value_name = "PORT", default_value_t = 4191)]
    pub(super) port: u16,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration::parse)]
    pub(super) timeout: Duration,
}

impl Options {
    pub(super) fn logs_json(&self) -> bool {
        self.log_format == LogFormat::Json
    }

    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.log_level.as_str(), "warn" | "warning" | "error" | "fatal" | "panic")
    }

    /// What is to be captured.
    pub(super) fn capture(&self) -> Result<Capture, InitError> {
        let id = |flag, id: i64| match id {
            ..=0 => Ok(None),
            id => match u32::try_from(id) {
                Ok(id) => Ok(Some(id)),
                Err(_) => Err(bad(flag, id.to_string(), "id of a user or group")),
            },
        };
        let ports = |flag, parts: &[String]| {
            Ports::read(parts).map_err(|part| bad(flag, part, "port or range such as 80-90"))
        };
        let mut networks = Vec::new();
        for subnet in self.subnets_to_ignore.iter().map(|subnet| subnet.trim()) {
            if !subnet.is_empty() {
                let network = subnet.parse::<IpNet>().map_err(|_| {
                    bad("subnets-to-ignore", subnet.into(), "network such as 10.0.0.0/8")
                })?;
                networks.push(network.trunc());
            }
        }
        Ok(Capture {
            inbound_port: self.incoming_proxy_port,
            outbound_port: self.outgoing_proxy_port,
            uid: id("proxy-uid", self.proxy_uid)?,
            gid: id("proxy-gid", self.proxy_gid)?,
            redirect: ports("ports-to-redirect", &self.ports_to_redirect)?,
            ignore_inbound: ports("inbound-ports-to-ignore", &self.inbound_ports_to_ignore)?,
            ignore_outbound: ports("outbound-ports-to-ignore", &self.outbound_ports_to_ignore)?,
            ignore_networks: IpNet::aggregate(&networks),
        })
    }
}

fn bad(flag: &'static str, value: String, wanted: &'static str) -> InitError {
    InitError::Flag { flag, value, wanted }
}
