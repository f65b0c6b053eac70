//! `weft inject` and `weft uninject`: manifests in, manifests out. Reads files and directories, and
//! leaves the rest to `mesh_core::manifest`.
//!
//! Law: manifests go to stdout and the report to stderr, so that one can be piped to kubectl; where
//! anything of the input cannot be used, nothing goes to stdout.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use mesh_core::manifest::annotations::{CONFIG_PREFIX, WAIT_BEFORE_EXIT};
use mesh_core::manifest::documents::{self, DocumentError, Documents, Options};
use mesh_core::manifest::report;

use crate::{Failure, fetch};

/// The largest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Args)]
pub(crate) struct InjectArgs {
    /// Files, directories of *.yaml, *.yml and *.json files, addresses (https://…), or `-` for stdin
    #[arg(value_name = "FILE", required = true)]
    inputs: Vec<PathBuf>,
    /// Let the sidecar take destinations from the l5d-dst-override header
    #[arg(long)]
    ingress: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// Also tell what was looked at and is in order
    #[arg(long)]
    verbose: bool,
}

/// What annotations say, as flags. Each is `config.linkerd.io/NAME` on the pods.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration of the sidecar")]
struct ConfigArgs {
    /// Ports of the pod that are not redirected to the sidecar
    #[arg(long, value_name = "PORTS")]
    skip_inbound_ports: Option<String>,
    /// Ports of peers that are not redirected to the sidecar
    #[arg(long, value_name = "PORTS")]
    skip_outbound_ports: Option<String>,
    /// Networks of clients that are not redirected to the sidecar
    #[arg(long, value_name = "CIDRS")]
    skip_subnets: Option<String>,
    /// Ports whose traffic is carried as bytes
    #[arg(long, value_name = "PORTS")]
    opaque_ports: Option<String>,
    /// Ports on which clients must have an identity
    #[arg(long, value_name = "PORTS")]
    require_identity_on_inbound_ports: Option<String>,
    /// Who may use ports that no Server selects
    #[arg(long, value_name = "POLICY")]
    default_inbound_policy: Option<String>,
    /// The sidecar's image
    #[arg(long, value_name = "IMAGE")]
    proxy_image: Option<String>,
    /// The tag of the sidecar's image
    #[arg(long, value_name = "TAG")]
    proxy_version: Option<String>,
    /// When images are pulled: Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<String>,
    /// Processor time the sidecar asks for
    #[arg(long, value_name = "QUANTITY")]
    proxy_cpu_request: Option<String>,
    /// Processor time the sidecar may use
    #[arg(long, value_name = "QUANTITY")]
    proxy_cpu_limit: Option<String>,
    /// Memory the sidecar asks for
    #[arg(long, value_name = "QUANTITY")]
    proxy_memory_request: Option<String>,
    /// Memory the sidecar may use
    #[arg(long, value_name = "QUANTITY")]
    proxy_memory_limit: Option<String>,
    /// The user the sidecar runs as
    #[arg(long, value_name = "UID")]
    proxy_uid: Option<String>,
    /// The sidecar's log levels
    #[arg(long, value_name = "LEVELS")]
    proxy_log_level: Option<String>,
    /// Form of the sidecar's log lines: plain or json
    #[arg(long, value_name = "FORMAT")]
    proxy_log_format: Option<String>,
    /// Form of the sidecar's access log: apache or json
    #[arg(long, value_name = "FORMAT")]
    access_log: Option<String>,
    /// Run the sidecar as a native one: true or false
    #[arg(long, value_name = "BOOL")]
    native_sidecar: Option<String>,
    /// How long a drain may take
    #[arg(long, value_name = "TIME")]
    shutdown_grace_period: Option<String>,
    /// How long the kernel remembers closed connections
    #[arg(long, value_name = "TIME")]
    close_wait_timeout: Option<String>,
    /// Seconds that the sidecar goes on after it was told to end
    #[arg(long, value_name = "SECONDS")]
    wait_before_exit_seconds: Option<String>,
    /// Run a container with tools beside the sidecar
    #[arg(long)]
    enable_debug_sidecar: bool,
}

impl ConfigArgs {
    fn annotations(self) -> BTreeMap<String, String> {
        let debug = self.enable_debug_sidecar.then(|| "true".to_string());
        let named = [
            ("access-log", self.access_log),
            ("close-wait-timeout", self.close_wait_timeout),
            ("default-inbound-policy", self.default_inbound_policy),
            ("enable-debug-sidecar", debug),
            ("image-pull-policy", self.image_pull_policy),
            ("opaque-ports", self.opaque_ports),
            ("proxy-cpu-limit", self.proxy_cpu_limit),
            ("proxy-cpu-request", self.proxy_cpu_request),
            ("proxy-enable-native-sidecar", self.native_sidecar),
            ("proxy-image", self.proxy_image),
            ("proxy-log-format", self.proxy_log_format),
            ("proxy-log-level", self.proxy_log_level),
            ("proxy-memory-limit", self.proxy_memory_limit),
            ("proxy-memory-request", self.proxy_memory_request),
            ("proxy-require-identity-inbound-ports", self.require_identity_on_inbound_ports),
            ("proxy-uid", self.proxy_uid),
            ("proxy-version", self.proxy_version),
            ("shutdown-grace-period", self.shutdown_grace_period),
            ("skip-inbound-ports", self.skip_inbound_ports),
            ("skip-outbound-ports", self.skip_outbound_ports),
            ("skip-subnets", self.skip_subnets),
        ];
        let said = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let stable = said.map(|(name, value)| (format!("{CONFIG_PREFIX}{name}"), value));
        let wait = self.wait_before_exit_seconds.map(|secs| (WAIT_BEFORE_EXIT.to_string(), secs));
        stable.chain(wait).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct UninjectArgs {
    /// Files, directories of *.yaml, *.yml and *.json files, addresses (https://…), or `-` for stdin
    #[arg(value_name = "FILE", required = true)]
    inputs: Vec<PathBuf>,
}

/// Injects what the arguments name.
pub(crate) async fn inject(args: InjectArgs) -> Result<(), Failure> {
    let annotations = args.config.annotations();
    let options = Options { manual: None, ingress: args.ingress, annotations };
    let done = each(&args.inputs, |file, text| documents::inject(file, text, &options)).await?;
    tell(&done.text, &report::of_injection(&done.objects, args.verbose))
}

/// Undoes the injection of what the arguments name.
pub(crate) async fn uninject(args: UninjectArgs) -> Result<(), Failure> {
    let done = each(&args.inputs, documents::uninject).await?;
    tell(&done.text, &report::of_undoing(&done.objects))
}

async fn each(
    inputs: &[PathBuf],
    work: impl Fn(&str, &str) -> Result<Documents, DocumentError>,
) -> Result<Documents, Failure> {
    let mut all = Documents::default();
    for input in inputs {
        for path in files(input).map_err(|e| Failure::failed(said(input, &e)))? {
            let text = read(&path).await.map_err(|e| Failure::failed(said(&path, &e)))?;
            let name = path.display().to_string();
            let done = work(if name == "-" { "stdin" } else { &name }, &text);
            let done = done.map_err(Failure::misconfigured)?;
            if !all.text.is_empty() && !done.text.is_empty() && !done.text.starts_with("---") {
                all.text.push_str("---\n");
            }
            all.text.push_str(&done.text);
            all.objects.extend(done.objects);
        }
    }
    Ok(all)
}

/// The manifests that an argument names, in the order of their names.
fn files(input: &Path) -> io::Result<Vec<PathBuf>> {
    if !input.is_dir() {
        return Ok(vec![input.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(input)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_file() && matches!(extension, Some("yaml" | "yml" | "json")) {
            found.push(path);
        }
    }
    found.sort();
    match found.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "no *.yaml, *.yml or *.json in it")),
        false => Ok(found),
    }
}

async fn read(path: &Path) -> io::Result<String> {
    let name = path.to_string_lossy();
    if name.starts_with("http://") || name.starts_with("https://") {
        let bytes_max = usize::try_from(MANIFEST_BYTES_MAX).unwrap_or(usize::MAX);
        return fetch::text(&name, bytes_max).await.map_err(io::Error::other);
    }
    let mut source: Box<dyn Read> = match &*name {
        "-" => Box::new(io::stdin()),
        _ => Box::new(fs::File::open(path)?),
    };
    let mut text = String::new();
    let bytes = source.by_ref().take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text)?;
    match bytes as u64 > MANIFEST_BYTES_MAX {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "is larger than 64 MiB")),
        false => Ok(text),
    }
}

fn said(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn tell(manifests: &str, report: &str) -> Result<(), Failure> {
    io::stdout().write_all(manifests.as_bytes()).map_err(Failure::failed)?;
    eprintln!("\n{report}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        config: ConfigArgs,
    }

    #[test]
    fn what_is_in_trial_has_its_name_in_trial() {
        let flags = ["weft", "--wait-before-exit-seconds", "5", "--proxy-uid", "7"];
        let annotations = Flags::parse_from(flags).config.annotations();
        let names: Vec<_> = annotations.keys().map(String::as_str).collect();
        let wait = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds";
        assert_eq!(names, [wait, "config.linkerd.io/proxy-uid"]);
        assert_eq!(mesh_core::manifest::annotations::unknown(&annotations), Vec::<String>::new());
    }
}
