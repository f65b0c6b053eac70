//! The weft command line: what is asked for, and what the answer's exit code is.
//!
//! Law: results go to stdout, everything else to stderr.

mod browser;
mod check;
mod cluster;
mod completion;
mod controller;
mod dashboard;
mod demo;
mod diagnostics;
mod duration;
mod explain;
mod fetch;
mod forward;
mod identity;
pub mod init;
mod inject;
mod install;
mod mesh;
mod plugin;
mod pods;
mod requests;
mod statistics;
mod tap;
mod token;
mod version;
mod viz;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use mesh_core::control::prometheus::PrometheusUrl;

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed; stderr says why
  2   the command line is wrong
  64  the configuration is wrong";

/// A service mesh for Kubernetes and plain hosts, compatible with Linkerd.
#[derive(Debug, Parser)]
#[command(name = "weft", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    cluster: cluster::ClusterArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the versions of this program, of the control plane and of sidecars.
    Version(version::VersionArgs),
    /// Run the control plane of a Kubernetes cluster, or of a directory of manifests.
    ///
    /// Follows the objects of the cluster, or every *.yaml, *.yml and *.json file under the
    /// directory. Serves destinations, policies and certificates to proxies, and /metrics, /ready
    /// and /live. Proxies are spoken to over mutual TLS; plaintext is taken from this host alone.
    #[command(after_help = EXIT_CODES)]
    Controller(Box<ControllerArgs>),
    /// Print the manifests that install the control plane.
    ///
    /// weft install --crds | kubectl apply -f - and then weft install | kubectl apply -f -
    #[command(after_help = EXIT_CODES)]
    Install(Box<install::InstallArgs>),
    /// Print the manifests that make the control plane one of this version.
    ///
    /// Values and keys are the cluster's, as far as flags do not say otherwise.
    #[command(after_help = EXIT_CODES)]
    Upgrade(Box<install::upgrade::UpgradeArgs>),
    /// Print what is to be deleted for the control plane to go.
    ///
    /// weft uninstall | kubectl delete -f -
    #[command(after_help = EXIT_CODES)]
    Uninstall(install::remove::UninstallArgs),
    /// Print what earlier versions made and this one does not.
    ///
    /// weft prune | kubectl delete -f -
    #[command(after_help = EXIT_CODES)]
    Prune(install::remove::PruneArgs),
    /// Check whether the control plane can be installed, or works.
    ///
    /// √ holds, ‼ should be seen to, × does not work. Exits with 1 where anything does not work.
    #[command(after_help = EXIT_CODES)]
    Check(check::CheckArgs),
    /// Print the certificates that pods' sidecars show.
    #[command(after_help = EXIT_CODES)]
    Identity(identity::IdentityArgs),
    /// Open the console: the mesh in a browser.
    ///
    /// Of a cluster it is brought to a port of this host, through the API server, until Ctrl-C; a
    /// controller of this host answers at its own. The address is printed in any case.
    #[command(after_help = EXIT_CODES)]
    Dashboard(dashboard::DashboardArgs),
    /// Print what the control plane tells proxies, and what both count.
    #[command(subcommand)]
    Diagnostics(diagnostics::DiagnosticsCommand),
    #[command(flatten)]
    Statistics(statistics::StatisticsCommand),
    /// Print the authorizations that there are for a workload's ports.
    ///
    /// weft authz -n shop deploy/web. What they let through and refuse: weft viz authz
    #[command(after_help = statistics::EXIT_CODES)]
    Authz(statistics::AuthzArgs),
    /// The commands of Linkerd's extension viz.
    #[command(subcommand)]
    Viz(VizCommand),
    /// Explain what would become of a request, and why.
    ///
    /// From the policy that the control plane has compiled: discovery, protocol, route, backends,
    /// identity, and which rule allows it or why none does. weft explain deploy/web svc/cart:80
    /// --path /api. A reference alone, as denials carry it, explains that denial.
    #[command(after_help = explain::EXIT_CODES)]
    Explain(Box<explain::ExplainArgs>),
    /// Show requests as they pass through the proxies of a resource.
    ///
    /// weft tap deploy/web -n shop --to svc/api --path /v1
    #[command(after_help = EXIT_CODES)]
    Tap(Box<tap::TapArgs>),
    /// Print a script with which a shell completes this command line.
    ///
    /// source <(weft completion bash)
    Completion(completion::CompletionArgs),
    /// Tokens, with which workloads prove who they are.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Let pods have a sidecar: manifests in, manifests out.
    ///
    /// Annotates every kind of workload, and namespaces, so that the cluster's injector gives their
    /// pods a sidecar. Manifests go to stdout, a report to stderr:
    /// kubectl get deploy -o yaml | weft inject - | kubectl apply -f -
    #[command(after_help = EXIT_CODES)]
    Inject(Box<inject::InjectArgs>),
    /// Take sidecars out of manifests again, and what asks for them.
    #[command(after_help = EXIT_CODES)]
    Uninject(inject::UninjectArgs),
    /// Show a working mesh: a controller, services, a proxy for each, and traffic.
    ///
    /// Needs no root and no other software, and leaves nothing behind. On a terminal, keys kill
    /// and restart parts of it. A proxy's requests are HTTP requests, and TCP connections where it
    /// carries another protocol.
    #[command(after_help = EXIT_CODES)]
    Demo(DemoArgs),
    /// One application of the demo.
    #[command(hide = true)]
    DemoApplication(ApplicationArgs),
    /// `weft NAME` runs weft-NAME or linkerd-NAME, wherever the path has one.
    #[command(external_subcommand)]
    Plugin(Vec<OsString>),
}

#[derive(Debug, Subcommand)]
enum VizCommand {
    #[command(flatten)]
    Statistics(statistics::StatisticsCommand),
    /// Print what authorizations let through and refused.
    #[command(after_help = statistics::EXIT_CODES)]
    Authz(statistics::AuthzArgs),
    /// Show requests as they pass through the proxies of a resource.
    #[command(after_help = EXIT_CODES)]
    Tap(Box<tap::TapArgs>),
    /// Check whether the control plane works: weft check, which looks at what shows the mesh as well.
    #[command(after_help = EXIT_CODES)]
    Check(check::CheckArgs),
    /// Open the console: the mesh in a browser.
    #[command(after_help = EXIT_CODES)]
    Dashboard(dashboard::DashboardArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ControllerArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Kubeconfig [default: the pod's service account; else $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    context: Option<String>,
    /// What to serve: destination, identity, injector, viz [default: destination,identity,viz]
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    serve: Vec<Role>,
    /// Directory of the control plane's keys and certificates; made on first start
    #[arg(long, value_name = "DIR", default_value = "weft-state")]
    state_dir: PathBuf,
    /// Directory of the issuer, in place of --state-dir: crt.pem and key.pem, or tls.crt and
    /// tls.key. Read again when they change
    #[arg(long, value_name = "DIR", conflicts_with = "state_dir", requires = "trust_roots")]
    issuer_dir: Option<PathBuf>,
    /// File of the trust anchors, that the issuer is below and sidecars begin with. Read again when
    /// it changes
    #[arg(long, value_name = "FILE")]
    trust_roots: Option<PathBuf>,
    /// Address to serve on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    listen: IpAddr,
    /// Port of the Destination API
    #[arg(long, value_name = "PORT", default_value_t = 8086)]
    destination_port: u16,
    /// Port of the policy APIs
    #[arg(long, value_name = "PORT", default_value_t = 8090)]
    policy_port: u16,
    /// Port of the Identity API
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    identity_port: u16,
    /// Port of /metrics, /ready and /live
    #[arg(long, value_name = "PORT", default_value_t = 9996)]
    admin_port: u16,
    /// Port of the webhooks, which an API server asks over TLS: with --kubernetes, where
    /// destinations or sidecars are served
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    webhook_port: u16,
    /// Where the console and the public API are, for people of this host
    #[arg(long, value_name = "IP:PORT", default_value_t = viz::ADDRESS)]
    viz_listen: SocketAddr,
    /// File of a token: who has it may ask the console from other hosts
    #[arg(long, value_name = "FILE")]
    viz_token_file: Option<PathBuf>,
    /// A Prometheus that has the proxies' metrics, such as http://prometheus:9090, for statistics
    /// [default: the controller scrapes the proxies itself and keeps ten minutes]
    #[arg(long, value_name = "URL")]
    prometheus_url: Option<PrometheusUrl>,
    /// File of the installation's values, by which pods get their sidecars. Read again when it
    /// changes
    #[arg(long, value_name = "FILE", default_value = "/var/run/linkerd/config/values")]
    values: PathBuf,
    /// The control plane's namespace: a part of every identity
    #[arg(long, value_name = "NAME", default_value = "linkerd")]
    control_namespace: String,
    /// Suffix of identities
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    trust_domain: String,
    /// Suffix of service names
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Networks that `cluster-*` policies call the cluster [default: all private ones]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    cluster_networks: Vec<String>,
    /// Who may use ports that no Server selects: all-unauthenticated, all-authenticated,
    /// cluster-unauthenticated, cluster-authenticated, deny or audit
    #[arg(long, value_name = "POLICY", default_value = "all-unauthenticated")]
    default_inbound_policy: String,
    /// Tell proxies the IPv6 addresses of pods that have both families
    #[arg(long)]
    prefer_ipv6: bool,
    /// Life of workloads' certificates
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    certificate_lifetime: Duration,
    #[command(flatten)]
    mesh: mesh::MeshArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Where objects come from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// Directory of manifests
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// The Kubernetes cluster that this runs in, or that a kubeconfig names
    #[arg(long)]
    kubernetes: bool,
}

/// A part of a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Destinations and policies, statuses, and the lease to write them
    Destination,
    /// Certificates for workloads
    Identity,
    /// Sidecars for pods
    Injector,
    /// The console and the public API, for people
    Viz,
}

#[derive(Debug, Args)]
struct LogArgs {
    /// Log levels, such as `warn,weft=debug`
    #[arg(long, value_name = "LEVELS", default_value = runtime_real::logging::LEVELS_DEFAULT)]
    log: String,
    /// Form of log lines: plain or json
    #[arg(long, value_name = "FORMAT", default_value = "plain")]
    log_format: String,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// End after this time, such as 20s or 5m
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    run_for: Option<Duration>,
    /// Show a table, or print one JSON object at the end
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Requests a second
    #[arg(long, value_name = "NUMBER", default_value_t = 50.0, value_parser = rate)]
    rate: f64,
    /// Put manifests, keys and logs here and keep them [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Log levels of the proxies
    #[arg(long, value_name = "LEVELS", default_value = runtime_real::logging::LEVELS_DEFAULT)]
    proxy_log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Args)]
struct ApplicationArgs {
    service: String,
    #[arg(long)]
    name: String,
    #[arg(long)]
    listen: Option<SocketAddr>,
    #[arg(long)]
    call: Vec<SocketAddr>,
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
}

/// How a command failed: its exit code and what to say.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Something did not work.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self { code: 1, message }
    }

    /// Something did not work, and what it was is told already.
    pub(crate) fn silent(code: u8) -> Self {
        Self { code, message: String::new() }
    }

    /// What was asked for cannot be.
    pub(crate) fn misconfigured(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self { code: 64, message }
    }
}

/// Prints a result. A reader that went away, such as `head`, ends the program and is told nothing.
pub(crate) fn say(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_ref()).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(1),
        _ => Failure::failed(error),
    })
}

/// Does what the process's arguments say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command, &cli.cluster) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                eprintln!("weft: {message}");
            }
            ExitCode::from(code)
        }
    }
}

/// What `--verbose` shows of commands that have no log of their own.
const VERBOSE: &str = "warn,weft=debug";

fn run(command: Command, cluster: &cluster::ClusterArgs) -> Result<(), Failure> {
    use runtime_real::logging::{Format, Output as LogOutput, set_up};
    if cluster.verbose && !matches!(command, Command::Controller(_) | Command::Demo(_)) {
        set_up(VERBOSE, Format::Plain, LogOutput::Stderr).map_err(Failure::failed)?;
    }
    let runtime = runtime_real::current_thread().map_err(Failure::failed)?;
    runtime.block_on(async {
        match command {
            Command::Version(args) => version::run(args, cluster).await,
            Command::Controller(args) => controller::run(*args).await,
            Command::Install(args) => install::run(*args, cluster).await,
            Command::Upgrade(args) => install::upgrade::run(*args, cluster).await,
            Command::Uninstall(args) => install::remove::uninstall(args, cluster).await,
            Command::Prune(args) => install::remove::prune(args, cluster).await,
            Command::Check(args) | Command::Viz(VizCommand::Check(args)) => {
                check::run(args, cluster).await
            }
            Command::Identity(args) => identity::run(args, cluster).await,
            Command::Dashboard(args) | Command::Viz(VizCommand::Dashboard(args)) => {
                dashboard::run(args, cluster).await
            }
            Command::Diagnostics(command) => diagnostics::run(command, cluster).await,
            Command::Statistics(command) => statistics::run(command, cluster).await,
            Command::Authz(args) => statistics::policies(args, cluster).await,
            Command::Viz(VizCommand::Statistics(command)) => {
                statistics::run(command, cluster).await
            }
            Command::Viz(VizCommand::Authz(args)) => statistics::authz(args, cluster).await,
            Command::Explain(args) => explain::run(*args, cluster).await,
            Command::Tap(args) | Command::Viz(VizCommand::Tap(args)) => {
                tap::run(*args, cluster).await
            }
            Command::Completion(args) => completion::run(&args, &mut Cli::command()),
            Command::Token(command) => token::run(command).await,
            Command::Inject(args) => inject::inject(*args).await,
            Command::Uninject(args) => inject::uninject(args).await,
            Command::Demo(args) => run_demo(args).await,
            Command::DemoApplication(args) => run_application(args).await,
            Command::Plugin(arguments) => plugin::run(&arguments),
        }
    })
}

async fn run_demo(args: DemoArgs) -> Result<(), Failure> {
    let options = demo::DemoOptions {
        run_for: args.run_for,
        as_json: args.output == Output::Json,
        rate: args.rate,
        directory: args.directory,
        proxy_log: args.proxy_log,
    };
    demo::run(options).await.map_err(Failure::failed)
}

async fn run_application(args: ApplicationArgs) -> Result<(), Failure> {
    let options = demo::ApplicationOptions {
        service: args.service,
        name: args.name,
        listen: args.listen,
        calls: args.call,
        rate: args.rate,
    };
    demo::run_application(options).await.map_err(Failure::failed)
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=100_000.0).contains(&rate) => Ok(rate),
        _ => Err("give a number from 0.1 to 100000".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_every_command() {
        insta::assert_snapshot!(Cli::command().render_help(), @r#"
        A service mesh for Kubernetes and plain hosts, compatible with Linkerd

        Usage: weft [OPTIONS] <COMMAND>

        Commands:
          version        Print the versions of this program, of the control plane and of sidecars
          controller     Run the control plane of a Kubernetes cluster, or of a directory of manifests
          install        Print the manifests that install the control plane
          upgrade        Print the manifests that make the control plane one of this version
          uninstall      Print what is to be deleted for the control plane to go
          prune          Print what earlier versions made and this one does not
          check          Check whether the control plane can be installed, or works
          identity       Print the certificates that pods' sidecars show
          dashboard      Open the console: the mesh in a browser
          diagnostics    Print what the control plane tells proxies, and what both count
          stat           Print golden metrics of resources: success, requests, latency, connections
          stat-inbound   Print golden metrics of the routes of servers' ports
          stat-outbound  Print golden metrics of clients' routes, and of the backends that they lead to
          routes         Print golden metrics of routes: of a service, of a workload, or of a workload to a
                         service
          edges          Print who speaks to whom, as whom, and whether it is secured
          top            Show what passes right now: who asks whom for what, how often, how fast and how
                         well
          list           Print the pods that have a proxy, and whether it is heard
          authz          Print the authorizations that there are for a workload's ports
          viz            The commands of Linkerd's extension viz
          explain        Explain what would become of a request, and why
          tap            Show requests as they pass through the proxies of a resource
          completion     Print a script with which a shell completes this command line
          token          Tokens, with which workloads prove who they are
          inject         Let pods have a sidecar: manifests in, manifests out
          uninject       Take sidecars out of manifests again, and what asks for them
          demo           Show a working mesh: a controller, services, a proxy for each, and traffic

        Options:
          -h, --help     Print help
          -V, --version  Print version

        Cluster:
          -L, --linkerd-namespace <NAME>  The control plane's namespace [default: linkerd]
              --kubeconfig <FILE>         A kubeconfig [default: $KUBECONFIG, else ~/.kube/config]
              --context <NAME>            A context of the kubeconfig [default: its current one]
              --as <USER>                 Ask the API server as this user
              --as-group <GROUP>          Ask the API server as a member of this group
              --api-addr <HOST:PORT>      Ask the control plane at this address, not through the API server
              --verbose                   Tell on stderr what is asked of whom, and what is answered

        Exit codes:
          0   done
          1   failed; stderr says why
          2   the command line is wrong
          64  the configuration is wrong
        "#);
    }

    #[test]
    fn linkerds_commands_of_viz_are_taken_with_and_without_viz() {
        for line in [
            "stat deploy -n shop -o wide",
            "stat-inbound deploy/web -t 5m",
            "stat-outbound deploy/web -A",
            "tap deploy/web -n shop --max-rps 10",
            "top deploy/web --hide-sources --routes",
            "edges po -A -o json",
            "routes deploy/web --to svc/api -o wide",
            "authz deploy/web -n shop",
            "list -A",
            "check --proxy --wait 1s -o json",
            "dashboard --port 50750 --show url",
        ] {
            let words = || line.split(' ');
            let read = |words: Vec<&str>| match Cli::try_parse_from(words) {
                Ok(cli) => format!("{:?}", cli.command),
                Err(error) => panic!("{line}: {error}"),
            };
            let bare = read(["weft"].into_iter().chain(words()).collect());
            let viz = read(["weft", "viz"].into_iter().chain(words()).collect());
            assert_eq!(viz, format!("Viz({bare})"));
        }
        let none = Cli::try_parse_from(["weft", "viz", "nothing"]).unwrap_err();
        assert_eq!(none.kind(), clap::error::ErrorKind::InvalidSubcommand);
    }

    #[test]
    fn wrong_numbers_are_refused() {
        for wrong in ["0", "-1", "NaN", "inf", "many"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rate("2.5"), Ok(2.5));
    }
}
