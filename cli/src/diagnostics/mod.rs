//! `weft diagnostics`: what the control plane tells proxies, and what both count, as they say it.

mod discovery;
mod form;
mod metrics;

use clap::{Args, Subcommand, ValueEnum};

use crate::Failure;
use crate::cluster::ClusterArgs;
use crate::install::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum DiagnosticsCommand {
    /// The endpoints that proxies are given of services: web.shop.svc.cluster.local:80
    Endpoints(EndpointsArgs),
    /// The policy of a pod's port, or of traffic to a service's
    ///
    /// weft diagnostics policy -n shop po/web-1 8080, or svc/web 80
    Policy(PolicyArgs),
    /// The profile of an address or a name, with its port
    Profile(ProfileArgs),
    /// What sidecars count: `weft diagnostics proxy-metrics -n shop deploy/web`
    ProxyMetrics(ProxyMetricsArgs),
    /// What the control plane counts
    ControllerMetrics,
}

#[derive(Debug, Args)]
pub(crate) struct EndpointsArgs {
    /// Names with ports
    #[arg(value_name = "AUTHORITY", required = true)]
    authorities: Vec<String>,
    /// Ask this pod of the control plane
    #[arg(long, value_name = "POD")]
    destination_pod: Option<String>,
    /// Ask as this proxy: {"ns":"shop","nodeName":"node1","pod":"web-1"}
    #[arg(long, value_name = "CONTEXT", default_value = "")]
    token: String,
    /// A table, or JSON
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// po/NAME, deploy/NAME and the like, or svc/NAME
    #[arg(value_name = "RESOURCE")]
    resource: String,
    /// Its port
    #[arg(value_name = "PORT")]
    port: u16,
    /// Its namespace
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Ask this pod of the control plane
    #[arg(long, value_name = "POD")]
    destination_pod: Option<String>,
    /// YAML, or JSON
    #[arg(long, short, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    /// 10.0.0.1:80, or web.shop.svc.cluster.local:80
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// Ask this pod of the control plane
    #[arg(long, value_name = "POD")]
    destination_pod: Option<String>,
    /// Ask as this proxy: {"ns":"shop","nodeName":"node1","pod":"web-1"}
    #[arg(long, value_name = "CONTEXT", default_value = "")]
    token: String,
    /// YAML, or JSON
    #[arg(long, short, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyMetricsArgs {
    /// po/NAME, deploy/NAME and the like
    #[arg(value_name = "RESOURCE")]
    resource: String,
    /// Its namespace
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,
}

/// Asks, and prints the answer.
pub(crate) async fn run(command: DiagnosticsCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        DiagnosticsCommand::Endpoints(args) => discovery::endpoints(args, cluster).await,
        DiagnosticsCommand::Policy(args) => discovery::policy(args, cluster).await,
        DiagnosticsCommand::Profile(args) => discovery::profile(args, cluster).await,
        DiagnosticsCommand::ProxyMetrics(args) => metrics::proxies(args, cluster).await,
        DiagnosticsCommand::ControllerMetrics => metrics::controllers(cluster).await,
    }
}
