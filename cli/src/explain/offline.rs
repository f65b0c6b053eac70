//! Explains by the manifests of a directory, as a controller of that directory would.

use std::collections::BTreeSet;
use std::path::Path;

use mesh_core::control::explain::{Explanation, explain as explain_request, explain_denial};
use mesh_core::control::index::{Index, View};
use mesh_core::control::{IdentityConfig, MeshConfig};
use mesh_core::resource::Kind;
use mesh_core::runtime::Cluster as _;
use mesh_core::runtime::cluster::WatchEvent;
use runtime_real::directory::DirectoryCluster;
use std::future::poll_fn;

use super::{OfflineArgs, Wanted, failure};
use crate::Failure;
use crate::cluster::ClusterArgs;

pub(super) async fn explain(
    directory: &Path,
    wanted: &Wanted,
    args: &OfflineArgs,
    cluster: &ClusterArgs,
) -> Result<Explanation, Failure> {
    let mesh = mesh(args, cluster)?;
    let index = read(directory).await?;
    let view = View::new(&index, &mesh);
    match wanted {
        Wanted::Request(question) => explain_request(&view, question),
        Wanted::Denial(id) => explain_denial(&view, *id),
    }
    .map_err(failure)
}

fn mesh(args: &OfflineArgs, cluster: &ClusterArgs) -> Result<MeshConfig, Failure> {
    let policy = args.default_inbound_policy.parse();
    let mut mesh = MeshConfig {
        control_namespace: cluster.linkerd_namespace.clone(),
        trust_domain: args.trust_domain.clone(),
        cluster_domain: args.cluster_domain.clone(),
        default_inbound_policy: policy.map_err(|error| {
            Failure::misconfigured(format!("--default-inbound-policy: {error}"))
        })?,
        ..MeshConfig::default()
    };
    args.mesh.apply(&mut mesh, &mut IdentityConfig::default())?;
    Ok(mesh)
}

/// Every object of the directory. A file that cannot be read ends it: what it holds might matter.
async fn read(directory: &Path) -> Result<Index, Failure> {
    let opened = DirectoryCluster::open(directory.to_path_buf()).await;
    let cluster = opened.map_err(|error| {
        let remedy = "give a directory that can be read";
        Failure::misconfigured(format!("--manifests {}: {error}; {remedy}", directory.display()))
    })?;
    let (mut index, mut changed) = (Index::default(), BTreeSet::new());
    for kind in Kind::ALL {
        let mut events = cluster.watch(*kind);
        while let Some(event) = poll_fn(|context| events.as_mut().poll_next(context)).await {
            let event = event.map_err(Failure::misconfigured)?;
            let is_last = matches!(event, WatchEvent::InitDone);
            index.apply(*kind, event, &mut changed);
            if is_last {
                break;
            }
        }
    }
    Ok(index)
}
