//! `weft version`: of this program, of the control plane, of sidecars.

use std::collections::BTreeMap;

use clap::Args;
use mesh_core::manifest::Values;
use mesh_core::manifest::install::{CONFIG, CONFIG_KEY};
use runtime_real::kube::ApiClient;

use crate::cluster::{ClusterArgs, object};
use crate::{Failure, say};

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Numbers alone
    #[arg(long)]
    short: bool,
    /// This program's alone; asks no cluster
    #[arg(long)]
    client: bool,
    /// Also sidecars'
    #[arg(long)]
    proxy: bool,
    /// Sidecars of this namespace alone
    #[arg(long, short, value_name = "NAME", requires = "proxy")]
    namespace: Option<String>,
}

/// Prints them. A cluster that cannot be asked is no failure.
pub(crate) async fn run(args: VersionArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    line("Client version", own, args.short)?;
    if args.client {
        return Ok(());
    }
    let client = cluster.client().await;
    let server = match &client {
        Ok(client) => server(client, &cluster.linkerd_namespace).await,
        Err(failure) => Err(failure.message.clone()),
    };
    if let Err(reason) = &server {
        eprintln!("weft: the cluster's version is not known: {reason}");
    }
    line("Server version", server.as_deref().unwrap_or("unavailable"), args.short)?;
    if let (true, Ok(client)) = (args.proxy, &client) {
        let proxies = proxies(client, &args, &cluster.linkerd_namespace).await?;
        say("Proxy versions:\n")?;
        for (version, pods) in proxies {
            say(format!("\t{version} ({pods} pods)\n"))?;
        }
    }
    Ok(())
}

fn line(what: &str, version: &str, short: bool) -> Result<(), Failure> {
    match short {
        true => say(format!("{version}\n")),
        false => say(format!("{what}: {version}\n")),
    }
}

async fn server(client: &ApiClient, namespace: &str) -> Result<String, String> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{CONFIG}");
    let config = object(client, &path).await.map_err(|error| error.reason)?;
    let config = config.ok_or_else(|| format!("there is no control plane in {namespace}"))?;
    let text = config["data"][CONFIG_KEY].as_str().unwrap_or_default();
    let values = Values::read(text).map_err(|error| error.to_string())?;
    Ok(values.linkerd_version)
}

/// How many pods have a sidecar of which version.
async fn proxies(
    client: &ApiClient,
    args: &VersionArgs,
    control: &str,
) -> Result<BTreeMap<String, usize>, Failure> {
    let scope = args.namespace.as_ref().map(|namespace| format!("/namespaces/{namespace}"));
    let path = format!(
        "/api/v1{}/pods?labelSelector=linkerd.io/control-plane-ns%3D{control}",
        scope.unwrap_or_default()
    );
    let pods = object(client, &path).await.map_err(|error| Failure::failed(error.reason))?;
    let pods = pods.unwrap_or_default();
    let mut versions = BTreeMap::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let version = pod["metadata"]["annotations"]["linkerd.io/proxy-version"].as_str();
        *versions.entry(version.unwrap_or("unknown").to_string()).or_default() += 1;
    }
    Ok(versions)
}
