//! Carries out what `rules` decides: finds the program that sets rules, and runs it.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::options::{Mode, Options};
use super::rules::{Family, Rule, rules};
use super::{InitError, iptables, nft, say};

const CLOSE_WAIT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
const NET_ADMIN: u32 = 12;

/// What sets rules.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tool {
    Nft(PathBuf),
    /// `iptables`, `iptables-nft` or `iptables-legacy`, and what shows its rules where that has no
    /// name of the usual form.
    Iptables(PathBuf, Option<String>),
}

/// Sets the rules, or takes them away, or shows what would be done.
pub(super) fn run(options: &Options) -> Result<(), InitError> {
    let capture = options.capture()?;
    if !options.simulate && !may_change_the_network() {
        return Err(InitError::NotAllowed);
    }
    if options.undo {
        return undo(options);
    }
    if capture.uid.is_none() && capture.gid.is_none() {
        let fault =
            "neither --proxy-uid nor --proxy-gid: the proxy's own traffic is sent to it again";
        say(options.logs_json(), "warn", fault);
    }
    let families: Vec<_> =
        families(options).into_iter().map(|family| (family, rules(&capture, family))).collect();
    let (names, tools) = tools(options);
    let tools = match (tools.is_empty(), options.simulate) {
        (true, true) => vec![Tool::Nft("nft".into())],
        (true, false) => return Err(InitError::NoTool(names)),
        (false, _) => tools,
    };
    let mut first = None;
    let mut used = None;
    for tool in tools {
        match tool.set(&families, options) {
            Ok(()) => {
                used = Some(tool);
                break;
            }
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    let Some(used) = used else {
        return Err(first.expect("a tool that was tried and did not set them said why"));
    };
    set_close_wait(options)?;
    if !options.is_quiet() && !options.simulate {
        let which = if families.len() == 2 { "IPv4 and IPv6" } else { "IPv4" };
        let message = format!(
            "TCP over {which} goes to the proxy: in by {}, out by {}; set by {}",
            capture.inbound_port,
            capture.outbound_port,
            used.path().display()
        );
        say(options.logs_json(), "info", &message);
    }
    Ok(())
}

/// A kernel without IPv6 has nothing to redirect there.
fn families(options: &Options) -> Vec<Family> {
    match options.ipv6 && Path::new("/proc/net/if_inet6").exists() {
        true => vec![Family::V4, Family::V6],
        false => vec![Family::V4],
    }
}

/// Takes away what of ours is there, whatever set it.
fn undo(options: &Options) -> Result<(), InitError> {
    let all = ["nft", "iptables-nft", "iptables-legacy", "iptables"];
    let tools: Vec<_> = all.iter().filter_map(|name| tool(name, None)).collect();
    if tools.is_empty() {
        return Err(InitError::NoTool(all.join(", ")));
    }
    let mut first = None;
    let mut worked = false;
    for tool in tools {
        match tool.unset(options) {
            Ok(()) => worked = true,
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    match first {
        // One whose part of the kernel is missing has set nothing.
        Some(error) if !worked => Err(error),
        _ => Ok(()),
    }
}

/// What may set the rules, the best first, and the names that were looked for.
fn tools(options: &Options) -> (String, Vec<Tool>) {
    if let Some(program) = &options.firewall_bin_path {
        let tool = tool(program, options.firewall_save_bin_path.clone());
        return (program.clone(), tool.into_iter().collect());
    }
    let names: &[&str] = match options.firewall_mode {
        Some(Mode::Nft) => &["nft", "iptables-nft"],
        Some(Mode::Legacy) => &["iptables-legacy"],
        Some(Mode::Plain) => &["iptables"],
        None => &["nft", "iptables-nft", "iptables", "iptables-legacy"],
    };
    (names.join(", "), names.iter().filter_map(|name| tool(name, None)).collect())
}

fn tool(program: &str, save: Option<String>) -> Option<Tool> {
    let path = find(program)?;
    match path.file_name()?.to_str()? {
        "nft" => Some(Tool::Nft(path)),
        _ => Some(Tool::Iptables(path, save)),
    }
}

/// A program by its path or name, also where a user's PATH does not lead.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let places = std::env::split_paths(&path).chain(usual);
    places.map(|place| place.join(program)).find(|path| path.is_file())
}

impl Tool {
    fn path(&self) -> &Path {
        match self {
            Self::Nft(path) | Self::Iptables(path, _) => path,
        }
    }

    fn set(&self, families: &[(Family, Vec<Rule>)], options: &Options) -> Result<(), InitError> {
        match self {
            Self::Nft(nft) => carry_out(nft, &["-f", "-"], &nft::script(families), options),
            Self::Iptables(..) => {
                for (at, (family, rules)) in families.iter().enumerate() {
                    let set = self.saved(*family, options).and_then(|saved| {
                        self.restore(*family, &iptables::script(rules, &saved), options)
                    });
                    if let Err(error) = set {
                        // Both or neither: half a capture is a leak that nobody sees.
                        for (family, _) in &families[..at] {
                            let _ = self.unset_family(*family, options);
                        }
                        return Err(error);
                    }
                }
                Ok(())
            }
        }
    }

    fn unset(&self, options: &Options) -> Result<(), InitError> {
        match self {
            Self::Nft(nft) => {
                let script: String = families(options).into_iter().map(nft::removal).collect();
                carry_out(nft, &["-f", "-"], &script, options)
            }
            Self::Iptables(..) => families(options)
                .into_iter()
                .try_for_each(|family| self.unset_family(family, options)),
        }
    }

    fn unset_family(&self, family: Family, options: &Options) -> Result<(), InitError> {
        match iptables::removal(&self.saved(family, options)?) {
            Some(script) => self.restore(family, &script, options),
            None => Ok(()),
        }
    }

    /// `iptables-nft` → `ip6tables-nft-restore`.
    fn relative(&self, family: Family, suffix: &str) -> PathBuf {
        let name = self.path().file_name().unwrap_or_default().to_string_lossy();
        let name = match family {
            Family::V4 => name.into_owned(),
            Family::V6 => name.replacen("iptables", "ip6tables", 1),
        };
        self.path().with_file_name(name + suffix)
    }

    /// The table as it is. A simulation goes on where it cannot be read.
    fn saved(&self, family: Family, options: &Options) -> Result<String, InitError> {
        let Self::Iptables(_, save) = self else { return Ok(String::new()) };
        let program = match (save, family) {
            (Some(save), Family::V4) => PathBuf::from(save),
            (Some(save), Family::V6) => PathBuf::from(save.replacen("iptables", "ip6tables", 1)),
            (None, family) => self.relative(family, "-save"),
        };
        match execute(&program, &["-t", "nat"], "", options) {
            Err(_) if options.simulate => Ok(String::new()),
            saved => saved,
        }
    }

    fn restore(&self, family: Family, script: &str, options: &Options) -> Result<(), InitError> {
        let mut arguments = vec!["--noflush"];
        if options.use_wait_flag {
            arguments.push("--wait");
        }
        carry_out(&self.relative(family, "-restore"), &arguments, script, options)
    }
}

/// Runs a program that changes rules, or shows what would be run.
fn carry_out(
    program: &Path,
    arguments: &[&str],
    script: &str,
    options: &Options,
) -> Result<(), InitError> {
    if options.simulate {
        println!("# {} {}\n{script}", program.display(), arguments.join(" "));
        return Ok(());
    }
    execute(program, arguments, script, options).map(drop)
}

/// Runs a program, in the namespace that was named; gives what it says.
fn execute(
    program: &Path,
    arguments: &[&str],
    stdin: &str,
    options: &Options,
) -> Result<String, InitError> {
    let mut command = match &options.netns {
        None => Command::new(program),
        Some(path) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={path}")).arg("--").arg(program);
            command
        }
    };
    let failed = |fault: String| {
        let command = format!("{} {}", program.display(), arguments.join(" "));
        InitError::Tool { command, fault }
    };
    let unstarted = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => failed("it is not installed".to_string()),
        _ => failed(error.to_string()),
    };
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(unstarted)?;
    let mut pipe = child.stdin.take().expect("piped above");
    // What it does not read it does not want; its own message says why.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().map_err(unstarted)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(remedied(String::from_utf8_lossy(&output.stderr).trim())))
}

/// What the tool says, and what to do where it is one of the usual things.
fn remedied(said: &str) -> String {
    let remedy = if said.contains("Operation not permitted") || said.contains("Permission denied") {
        "; the capability NET_ADMIN is missing: run as root, with `capabilities.add: [NET_ADMIN, \
         NET_RAW]`"
    } else if said.contains("xtables lock") {
        "; another program changes rules: --use-wait-flag waits for it"
    } else if said.contains("not supported")
        || said.contains("does not exist")
        || said.contains("initialize")
    {
        "; the kernel lacks this kind of tables: choose another --firewall-mode (nft, legacy, plain)"
    } else {
        ""
    };
    format!("{said}{remedy}")
}

fn set_close_wait(options: &Options) -> Result<(), InitError> {
    let seconds = options.timeout_close_wait_secs;
    if seconds == 0 {
        return Ok(());
    }
    if options.simulate {
        println!("# echo {seconds} > {CLOSE_WAIT}");
        return Ok(());
    }
    let failed = |error: String| InitError::Kernel { path: CLOSE_WAIT.to_string(), error };
    match options.netns {
        None => std::fs::write(CLOSE_WAIT, seconds.to_string())
            .map_err(|error| failed(error.to_string())),
        Some(_) => {
            let setting = format!("net.netfilter.nf_conntrack_tcp_timeout_close_wait={seconds}");
            let sysctl = find("sysctl").unwrap_or_else(|| "sysctl".into());
            execute(&sysctl, &["-qw", &setting], "", options)
                .map(drop)
                .map_err(|error| failed(error.to_string()))
        }
    }
}

/// Whether this process may change rules. A kernel that does not tell is asked by trying.
fn may_change_the_network() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_none_or(|capabilities| capabilities & (1 << NET_ADMIN) != 0)
}
