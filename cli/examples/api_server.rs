//! The simulator's API server as a process, for tests whose control plane is one too:
//! `api_server LISTEN DIRECTORY`. Speaks HTTP as Kubernetes does, asks webhooks, and is shipped to
//! nobody.
//!
//! Objects come from `DIRECTORY/manifests` before it listens, and then by its own API (POST, PUT,
//! server-side apply, DELETE). It keeps nothing over its end; one that is started again goes on with
//! higher versions. `DIRECTORY/kubeconfig` leads to it.

// What these tests do not use, others do.
#[allow(dead_code)]
#[path = "../tests/kube/front/mod.rs"]
mod front;
#[allow(dead_code)]
#[path = "../tests/kube/keys.rs"]
mod keys;

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use mesh_core::resource::yaml;
use runtime_sim::cluster::ApiServer;

use front::Front;

/// An API server for tests.
#[derive(Parser)]
struct Arguments {
    /// Where to listen: 127.0.0.1:6443
    listen: SocketAddr,
    /// Where its files are: manifests (read), kubeconfig and ca.crt (written)
    directory: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { listen, directory } = Arguments::parse();
    // Writes are slower than milliseconds: no server before this one came as far.
    let version = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let server = ApiServer::resuming_after(version.try_into()?);
    load(&server, &directory.join("manifests"))?;
    let front = Front::listen(listen, &directory, server).await?;
    std::fs::copy(front.kubeconfig(), directory.join("kubeconfig"))?;
    std::future::pending::<()>().await;
    Ok(())
}

fn load(server: &ApiServer, manifests: &Path) -> Result<(), Box<dyn Error>> {
    if !manifests.exists() {
        return Ok(());
    }
    for file in std::fs::read_dir(manifests)? {
        let path = file?.path();
        let text = std::fs::read_to_string(&path)?;
        let manifest = yaml::read(&path.display().to_string(), &text);
        for object in manifest.map_err(|problems| problems[0].to_string())?.objects {
            server.apply(object);
        }
    }
    Ok(())
}
