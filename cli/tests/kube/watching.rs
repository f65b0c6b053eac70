//! A client of a front, and what its watches told.

use std::future::poll_fn;
use std::path::Path;
use std::time::Duration;

use mesh_core::resource::{Kind, Object, yaml};
use mesh_core::runtime::cluster::{ClusterError, WatchEvent};
use mesh_core::runtime::{BoxStream, Cluster};
use runtime_real::kube::{ApiClient, KubeCluster, KubeOptions, Patience};

/// Short waits, so that tests are.
pub const QUICK: Patience = Patience {
    retry_min: Duration::from_millis(10),
    retry_max: Duration::from_millis(50),
    absent: Duration::from_millis(20),
    watch: Duration::from_secs(30),
    silence: Duration::from_secs(20),
    older: Duration::from_secs(20),
};

pub async fn cluster(kubeconfig: &Path, patience: Patience) -> KubeCluster {
    let kubeconfig = Some(kubeconfig.to_owned());
    let client = ApiClient::open(&KubeOptions { kubeconfig, ..KubeOptions::default() }).await;
    KubeCluster::new(client.expect("a kubeconfig"), "linkerd").with_patience(patience)
}

/// Objects of a manifest.
pub fn objects(manifest: &str) -> Vec<Object> {
    yaml::read("test", manifest).unwrap_or_else(|problems| panic!("{}", problems[0])).objects
}

pub fn object(manifest: &str) -> Object {
    objects(manifest).remove(0)
}

pub struct Watching(BoxStream<Result<WatchEvent, ClusterError>>);

impl Watching {
    pub fn of(cluster: &KubeCluster, kind: Kind) -> Self {
        Self(cluster.watch(kind))
    }

    /// The next item, as text.
    pub async fn next(&mut self) -> String {
        let next = poll_fn(|context| self.0.as_mut().poll_next(context));
        let next = tokio::time::timeout(Duration::from_secs(20), next).await;
        match next.expect("an event in time").expect("watches do not end") {
            Ok(WatchEvent::Init) => "init".to_owned(),
            Ok(WatchEvent::InitApply(object)) => format!("has {}", object.object_ref().name),
            Ok(WatchEvent::InitDone) => "done".to_owned(),
            Ok(WatchEvent::Apply(object)) => format!("apply {}", object.object_ref().name),
            Ok(WatchEvent::Delete(name)) => format!("delete {}", name.name),
            Err(error) => error.to_string(),
        }
    }

    pub async fn take(&mut self, count: usize) -> Vec<String> {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.next().await);
        }
        items
    }

    /// The next item that is not an error of the connection.
    pub async fn next_event(&mut self) -> String {
        loop {
            let item = self.next().await;
            if !item.starts_with("cluster unavailable") {
                return item;
            }
        }
    }

    /// Whether nothing is there to be told.
    pub async fn is_silent(&mut self) -> bool {
        let next = poll_fn(|context| self.0.as_mut().poll_next(context));
        tokio::time::timeout(Duration::from_millis(100), next).await.is_err()
    }
}
